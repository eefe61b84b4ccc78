//! The sources of volumes: one small check each, of pods' volumes and of persistent volumes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::api::core::v1;
use regex::Regex;

use super::container::validate_pull_policy;
use super::path::{descending, local, no_backsteps};
use super::resources::amount;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::name_is_label;
use crate::validation::{
    content, dns_label, dns_subdomain, items, refusals, required, supported, text, within,
};

pub(super) const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Required text fields of a source.
fn all_required(fields: &[(&str, &str)], path: &Path) -> Vec<Error> {
    fields.iter().filter_map(|(field, value)| required(value, &path.child(field))).collect()
}

pub(super) fn file_mode(mode: Option<i32>, path: &Path) -> Option<Error> {
    mode.filter(|m| !(0..=0o777).contains(m)).map(|m| Error::invalid(path, m, FILE_MODE))
}

pub(super) fn user(user: Option<i64>, path: &Path) -> Vec<Error> {
    let refused = user.map(content::id).unwrap_or_default();
    refused.into_iter().map(|m| Error::invalid(path, user.unwrap_or(0), m)).collect()
}

pub(super) fn empty_dir(source: &v1::EmptyDirVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if source.size_limit.as_ref().is_some_and(|s| amount(s).sign() < 0) {
        let detail = "SizeLimit field must be a valid resource quantity";
        errors.push(Error::forbidden(&path.child("sizeLimit"), detail));
    }
    if let Some(mode) = source.mode.filter(|m| !(0..=0o1777).contains(m)) {
        let detail = "must be a number between 0 and 01777 (octal), both inclusive";
        errors.push(Error::invalid(&path.child("mode"), mode, detail));
    }
    errors
}

pub(super) fn host_path(source: &v1::HostPathVolumeSource, path: &Path) -> Vec<Error> {
    if source.path.is_empty() {
        return vec![Error::required(&path.child("path"), "")];
    }
    let kinds =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let mut errors: Vec<Error> = no_backsteps(&source.path, &path.child("path")).into_iter().collect();
    errors.extend(source.type_.as_deref().and_then(|k| supported(k, &kinds, &path.child("type"))));
    errors
}

pub(super) fn git_repo(source: &v1::GitRepoVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("repository", &source.repository)], path);
    errors.extend(descending(text(&source.directory), &path.child("directory")));
    errors
}

pub(super) fn gce_disk(source: &v1::GCEPersistentDiskVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("pdName", &source.pd_name)], path);
    errors.extend(partition(source.partition, path));
    errors
}

pub(super) fn aws_disk(source: &v1::AWSElasticBlockStoreVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("volumeID", &source.volume_id)], path);
    errors.extend(partition(source.partition, path));
    errors
}

fn partition(number: Option<i32>, path: &Path) -> Option<Error> {
    // 0 is allowed, whatever the text says.
    let number = number.filter(|n| !(0..=255).contains(n))?;
    Some(Error::invalid(&path.child("partition"), number, content::range(1, 255)))
}

fn key_paths(list: &[v1::KeyToPath], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, item) in list.iter().enumerate() {
        errors.extend(key_path(item, &path.index(i)));
    }
    errors
}

pub(super) fn key_path(item: &v1::KeyToPath, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("key", &item.key), ("path", &item.path)], path);
    errors.extend(local(&item.path, &path.child("path")));
    errors.extend(file_mode(item.mode, &path.child("mode")));
    errors.extend(user(item.user, &path.child("user")));
    errors
}

pub(super) fn secret(source: &v1::SecretVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("secretName", text(&source.secret_name))], path);
    errors.extend(file_mode(source.default_mode, &path.child("defaultMode")));
    errors.extend(user(source.default_user, &path.child("defaultUser")));
    errors.extend(key_paths(items(&source.items), &path.child("items")));
    errors
}

pub(super) fn config_map(source: &v1::ConfigMapVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("name", &source.name)], path);
    errors.extend(file_mode(source.default_mode, &path.child("defaultMode")));
    errors.extend(user(source.default_user, &path.child("defaultUser")));
    errors.extend(key_paths(items(&source.items), &path.child("items")));
    errors
}

pub(super) fn nfs(source: &v1::NFSVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("server", &source.server), ("path", &source.path)], path);
    if !source.path.starts_with('/') {
        errors.push(Error::invalid(&path.child("path"), &source.path, "must be an absolute path"));
    }
    errors
}

static IQN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"iqn\.[0-9]{4}-[0-9]{2}\.([[:alnum:]\-.]+)(:[^,;*&$|\s]+)$").ok());
static EUI: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^eui.[[:alnum:]]{16}$").ok());
static NAA: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("^naa.[[:alnum:]]{32}$").ok());

/// Why an iSCSI name is refused: an unknown kind, or a form its kind does not have.
fn iscsi_name(name: &str, unknown: &'static str) -> Option<&'static str> {
    let form = match name.get(..3) {
        Some("iqn") => &IQN,
        Some("eui") => &EUI,
        Some("naa") => &NAA,
        _ => return Some(unknown),
    };
    (!form.as_ref().is_some_and(|r| r.is_match(name))).then_some("must be valid format")
}

struct Iscsi<'a> {
    portal: &'a str,
    iqn: &'a str,
    lun: i32,
    chap: bool,
    secret: bool,
    initiator: Option<&'a str>,
    unknown: &'static str,
}

fn iscsi_common(source: &Iscsi<'_>, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("targetPortal", source.portal), ("iqn", source.iqn)], path);
    if !source.iqn.is_empty() {
        let refused = iscsi_name(source.iqn, source.unknown);
        errors.extend(refused.map(|m| Error::invalid(&path.child("iqn"), source.iqn, m)));
    }
    errors.extend(within(i64::from(source.lun), 0, 255, &path.child("lun")));
    if source.chap && !source.secret {
        errors.push(Error::required(&path.child("secretRef"), ""));
    }
    if let Some(name) = source.initiator {
        let refused = iscsi_name(name, source.unknown);
        errors.extend(refused.map(|m| Error::invalid(&path.child("initiatorname"), name, m)));
    }
    errors
}

pub(super) fn iscsi(source: &v1::ISCSIVolumeSource, path: &Path) -> Vec<Error> {
    let common = Iscsi {
        portal: &source.target_portal,
        iqn: &source.iqn,
        lun: source.lun,
        chap: source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true),
        secret: source.secret_ref.is_some(),
        initiator: source.initiator_name.as_deref(),
        unknown: "must be valid format starting with iqn, eui, or naa",
    };
    iscsi_common(&common, path)
}

pub(super) fn iscsi_volume(
    source: &v1::ISCSIPersistentVolumeSource,
    volume: &str,
    path: &Path,
) -> Vec<Error> {
    let common = Iscsi {
        portal: &source.target_portal,
        iqn: &source.iqn,
        lun: source.lun,
        chap: source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true),
        secret: source.secret_ref.is_some(),
        initiator: source.initiator_name.as_deref(),
        unknown: "must be valid format",
    };
    let mut errors = iscsi_common(&common, path);
    if source.initiator_name.is_some() && volume.len() + 1 + source.target_portal.len() > 64 {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.push(Error::invalid(&path.child("targetportal"), &source.target_portal, detail));
    }
    if let Some(secret) = &source.secret_ref {
        errors.extend(all_required(&[("name", text(&secret.name))], &path.child("secretRef")));
    }
    errors
}

pub(super) fn fc(source: &v1::FCVolumeSource, path: &Path) -> Vec<Error> {
    let (targets, ids) = (items(&source.target_wwns), items(&source.wwids));
    let at = path.child("targetWWNs");
    let mut errors = Vec::new();
    if targets.is_empty() && ids.is_empty() {
        errors.push(Error::required(&at, "must specify either targetWWNs or wwids, but not both"));
    }
    if !targets.is_empty() && !ids.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(Error::invalid(&at, Bad::json(&targets), detail));
    }
    if !targets.is_empty() {
        let at = path.child("lun");
        match source.lun {
            None => errors.push(Error::required(&at, "lun is required if targetWWNs is specified")),
            Some(lun) => errors.extend(within(i64::from(lun), 0, 255, &at)),
        }
    }
    errors
}

pub(super) fn claim(source: &v1::PersistentVolumeClaimVolumeSource, path: &Path) -> Vec<Error> {
    all_required(&[("claimName", &source.claim_name)], path)
}

pub(super) fn glusterfs(source: &v1::GlusterfsVolumeSource, path: &Path) -> Vec<Error> {
    all_required(&[("endpoints", &source.endpoints), ("path", &source.path)], path)
}

pub(super) fn glusterfs_volume(source: &v1::GlusterfsPersistentVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("endpoints", &source.endpoints), ("path", &source.path)], path);
    if let Some(namespace) = source.endpoints_namespace.as_deref() {
        let at = path.child("endpointsNamespace");
        if namespace.is_empty() {
            let detail = "if the endpointnamespace is set, it must be a valid namespace name";
            errors.push(Error::invalid(&at, namespace, detail));
        } else {
            errors.extend(refusals(&at, namespace, name_is_label(namespace, false)));
        }
    }
    errors
}

pub(super) fn flocker(source: &v1::FlockerVolumeSource, path: &Path) -> Vec<Error> {
    let (name, uuid) = (text(&source.dataset_name), text(&source.dataset_uuid));
    let mut errors = Vec::new();
    if name.is_empty() && uuid.is_empty() {
        errors.push(Error::required(path, "one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(Error::invalid(path, "resource", detail));
    }
    if name.contains('/') {
        errors.push(Error::invalid(&path.child("datasetName"), name, "must not contain '/'"));
    }
    errors
}

pub(super) fn rbd(source: &v1::RBDVolumeSource, path: &Path) -> Vec<Error> {
    ceph_image(&source.monitors, &source.image, path)
}

pub(super) fn rbd_volume(source: &v1::RBDPersistentVolumeSource, path: &Path) -> Vec<Error> {
    ceph_image(&source.monitors, &source.image, path)
}

fn ceph_image(monitors: &[String], image: &str, path: &Path) -> Vec<Error> {
    let mut errors = ceph_monitors(monitors, path);
    errors.extend(all_required(&[("image", image)], path));
    errors
}

fn ceph_monitors(monitors: &[String], path: &Path) -> Vec<Error> {
    monitors.is_empty().then(|| Error::required(&path.child("monitors"), "")).into_iter().collect()
}

pub(super) fn cephfs(source: &v1::CephFSVolumeSource, path: &Path) -> Vec<Error> {
    ceph_monitors(&source.monitors, path)
}

pub(super) fn cephfs_volume(source: &v1::CephFSPersistentVolumeSource, path: &Path) -> Vec<Error> {
    ceph_monitors(&source.monitors, path)
}

pub(super) fn cinder(source: &v1::CinderVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("volumeID", &source.volume_id)], path);
    if let Some(secret) = &source.secret_ref {
        errors.extend(all_required(&[("name", &secret.name)], &path.child("secretRef")));
    }
    errors
}

fn both_names(secret: Option<&v1::SecretReference>, path: &Path) -> Vec<Error> {
    let Some(secret) = secret else { return Vec::new() };
    let fields = [("name", text(&secret.name)), ("namespace", text(&secret.namespace))];
    all_required(&fields, &path.child("secretRef"))
}

pub(super) fn cinder_volume(source: &v1::CinderPersistentVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("volumeID", &source.volume_id)], path);
    errors.extend(both_names(source.secret_ref.as_ref(), path));
    errors
}

pub(super) fn quobyte(source: &v1::QuobyteVolumeSource, path: &Path) -> Vec<Error> {
    let registry = path.child("registry");
    let pairs = "must be a host:port pair or multiple pairs separated by commas";
    let mut errors = Vec::new();
    if source.registry.is_empty() {
        errors.push(Error::required(&registry, pairs));
    } else if text(&source.tenant).len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(Error::required(&path.child("tenant"), detail));
    } else {
        let broken = source.registry.split(',').filter(|pair| !is_host_port(pair));
        errors.extend(broken.map(|_| Error::invalid(&registry, &source.registry, pairs)));
    }
    errors.extend(all_required(&[("volume", &source.volume)], path));
    errors
}

/// What Go's `net.SplitHostPort` takes.
fn is_host_port(pair: &str) -> bool {
    let Some((host, port)) = pair.rsplit_once(':') else { return false };
    let clean = |s: &str| !s.contains(['[', ']']);
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(clean) && clean(port),
        None => !host.contains(':') && clean(host) && clean(port),
    }
}

pub(super) fn flex(source: &v1::FlexVolumeSource, path: &Path) -> Vec<Error> {
    flex_common(&source.driver, source.options.as_ref(), path)
}

pub(super) fn flex_volume(source: &v1::FlexPersistentVolumeSource, path: &Path) -> Vec<Error> {
    flex_common(&source.driver, source.options.as_ref(), path)
}

fn flex_common(driver: &str, options: Option<&BTreeMap<String, String>>, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("driver", driver)], path);
    let at = path.child("options");
    for key in options.into_iter().flatten().map(|(k, _)| k) {
        let domain = key.split_once('/').map_or(key.as_str(), |(d, _)| d);
        let domain = format!(".{}", domain.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(Error::invalid(&at.key(key), key, detail));
        }
    }
    errors
}

pub(super) fn azure_file(source: &v1::AzureFileVolumeSource, path: &Path) -> Vec<Error> {
    all_required(&[("secretName", &source.secret_name), ("shareName", &source.share_name)], path)
}

pub(super) fn azure_file_volume(source: &v1::AzureFilePersistentVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors =
        all_required(&[("secretName", &source.secret_name), ("shareName", &source.share_name)], path);
    if source.secret_namespace.as_deref() == Some("") {
        errors.push(Error::required(&path.child("secretNamespace"), ""));
    }
    errors
}

pub(super) fn azure_disk(source: &v1::AzureDiskVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = all_required(&[("diskName", &source.disk_name), ("diskURI", &source.disk_uri)], path);
    if let Some(mode) = source.caching_mode.as_deref() {
        errors.extend(supported(mode, &["None", "ReadOnly", "ReadWrite"], &path.child("cachingMode")));
    }
    if let Some(kind) = source.kind.as_deref() {
        errors.extend(supported(kind, &["Dedicated", "Managed", "Shared"], &path.child("kind")));
        let (prefix, form) = if kind == "Managed" {
            (
                "/subscriptions/",
                "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
            )
        } else {
            ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
        };
        if !source.disk_uri.starts_with(prefix) {
            errors.push(Error::not_supported(&path.child("diskURI"), &source.disk_uri, &[form]));
        }
    }
    errors
}

pub(super) fn vsphere(source: &v1::VsphereVirtualDiskVolumeSource, path: &Path) -> Vec<Error> {
    all_required(&[("volumePath", &source.volume_path)], path)
}

pub(super) fn photon(source: &v1::PhotonPersistentDiskVolumeSource, path: &Path) -> Vec<Error> {
    all_required(&[("pdID", &source.pd_id)], path)
}

pub(super) fn portworx(source: &v1::PortworxVolumeSource, path: &Path) -> Vec<Error> {
    all_required(&[("volumeID", &source.volume_id)], path)
}

pub(super) fn scale_io(source: &v1::ScaleIOVolumeSource, path: &Path) -> Vec<Error> {
    let volume = text(&source.volume_name);
    all_required(&[("gateway", &source.gateway), ("system", &source.system), ("volumeName", volume)], path)
}

pub(super) fn scale_io_volume(source: &v1::ScaleIOPersistentVolumeSource, path: &Path) -> Vec<Error> {
    let volume = text(&source.volume_name);
    all_required(&[("gateway", &source.gateway), ("system", &source.system), ("volumeName", volume)], path)
}

pub(super) fn local_disk(source: &v1::LocalVolumeSource, path: &Path) -> Vec<Error> {
    match required(&source.path, &path.child("path")) {
        Some(error) => vec![error],
        None => no_backsteps(&source.path, &path.child("path")).into_iter().collect(),
    }
}

fn storageos_names(volume: &str, namespace: &str, path: &Path) -> Vec<Error> {
    let at = path.child("volumeName");
    let mut errors = match required(volume, &at) {
        Some(error) => vec![error],
        None => dns_label(volume, &at),
    };
    if !namespace.is_empty() {
        errors.extend(dns_label(namespace, &path.child("volumeNamespace")));
    }
    errors
}

pub(super) fn storageos(source: &v1::StorageOSVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = storageos_names(text(&source.volume_name), text(&source.volume_namespace), path);
    if let Some(secret) = &source.secret_ref {
        errors.extend(all_required(&[("name", &secret.name)], &path.child("secretRef")));
    }
    errors
}

pub(super) fn storageos_volume(source: &v1::StorageOSPersistentVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = storageos_names(text(&source.volume_name), text(&source.volume_namespace), path);
    if let Some(secret) = &source.secret_ref {
        let fields = [("name", text(&secret.name)), ("namespace", text(&secret.namespace))];
        errors.extend(all_required(&fields, &path.child("secretRef")));
    }
    errors
}

/// A CSI driver's name.
pub fn driver_name(name: &str, path: &Path) -> Vec<Error> {
    if name.is_empty() {
        return vec![Error::required(path, "")];
    }
    let mut errors = Vec::new();
    if name.len() > 63 {
        errors.push(Error::too_long(path, 63));
    }
    errors.extend(refusals(path, name, content::dns_subdomain(&name.to_lowercase())));
    errors
}

pub(super) fn csi(source: &v1::CSIVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = driver_name(&source.driver, &path.child("driver"));
    if let Some(secret) = &source.node_publish_secret_ref {
        if secret.name.is_empty() {
            errors.push(Error::required(&path.child("nodePublishSecretRef").child("name"), ""));
        } else {
            errors.extend(dns_subdomain(&secret.name, &path.child("name")));
        }
    }
    errors
}

pub(super) fn csi_volume(source: &v1::CSIPersistentVolumeSource, path: &Path) -> Vec<Error> {
    let mut errors = driver_name(&source.driver, &path.child("driver"));
    errors.extend(all_required(&[("volumeHandle", &source.volume_handle)], path));
    for (field, secret) in [
        ("controllerPublishSecretRef", &source.controller_publish_secret_ref),
        ("controllerExpandSecretRef", &source.controller_expand_secret_ref),
        ("nodePublishSecretRef", &source.node_publish_secret_ref),
        ("nodeExpandSecretRef", &source.node_expand_secret_ref),
    ] {
        let Some(secret) = secret else { continue };
        let at = path.child(field);
        let (name, namespace) = (text(&secret.name), text(&secret.namespace));
        match required(name, &at.child("name")) {
            Some(error) => errors.push(error),
            None => errors.extend(dns_subdomain(name, &at.child("name"))),
        }
        match required(namespace, &at.child("namespace")) {
            Some(error) => errors.push(error),
            None => errors.extend(dns_label(namespace, &at.child("namespace"))),
        }
    }
    errors
}

pub(super) fn image(source: &v1::ImageVolumeSource, empty_allowed: bool, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if !empty_allowed {
        errors.extend(required(text(&source.reference), &path.child("reference")));
    }
    errors.extend(validate_pull_policy(text(&source.pull_policy), &path.child("pullPolicy")));
    errors
}
