//! By which names volumes are known, whoever uses them. Pure.
//!
//! Only volumes that may be mounted with a label: those of CSI drivers, built-in ones that CSI drivers took over, iSCSI
//! and Fibre Channel. All others (host paths, NFS, ...) are labelled file by file, so their pods cannot differ.
//! Upstream: pkg/volume/{csi,iscsi,fc} GetVolumeName, csi-translation-lib/plugins.

use client::Meta;
use k8s_openapi::api::core::v1::{FCVolumeSource, PersistentVolume, Volume};

/// A volume as all its users know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    /// CSI driver; "" for those whose plugin always mounts with labels.
    pub driver: String,
}

const EBS: &str = "ebs.csi.aws.com";
const GCE: &str = "pd.csi.storage.gke.io";
const CINDER: &str = "cinder.csi.openstack.org";
const AZURE_DISK: &str = "disk.csi.azure.com";
const AZURE_FILE: &str = "file.csi.azure.com";
const VSPHERE: &str = "csi.vsphere.vmware.com";
const PORTWORX: &str = "pxd.portworx.com";

fn csi(driver: &str, handle: impl AsRef<str>) -> Identity {
    Identity { name: format!("kubernetes.io/csi/{driver}^{}", handle.as_ref()), driver: driver.to_owned() }
}

fn iscsi(portal: &str, iqn: &str, lun: i32) -> Identity {
    Identity { name: format!("kubernetes.io/iscsi/{portal}:{iqn}:{lun}"), driver: String::new() }
}

/// Written as Go prints lists.
fn fc(source: &FCVolumeSource) -> Option<Identity> {
    let list =
        |of: &Option<Vec<String>>| of.clone().filter(|l| !l.is_empty()).map(|l| format!("[{}]", l.join(" ")));
    let by_target = list(&source.target_wwns).zip(source.lun).map(|(wwns, lun)| format!("{wwns}:{lun}"));
    let name = by_target.or_else(|| list(&source.wwids))?;
    Some(Identity { name: format!("kubernetes.io/fc/{name}"), driver: String::new() })
}

/// `aws://zone/vol-1234` or just `vol-1234`.
fn ebs(id: &str) -> Option<Identity> {
    let Some(rest) = id.strip_prefix("aws://") else { return Some(csi(EBS, id)) };
    let (_, path) = rest.split_once('/')?;
    let path = path.split(['?', '#']).next()?.trim_matches('/');
    (path.starts_with("vol-") && !path.contains('/')).then(|| csi(EBS, path))
}

/// Of `locale-region-zone`.
fn region(zone: &str) -> Option<&str> {
    let (region, _) = zone.rsplit_once('-')?;
    (region.matches('-').count() == 1).then_some(region)
}

/// Disks are in a zone, or in all zones of a region that their label lists.
fn gce(zones: &str, disk: &str) -> Option<Identity> {
    let zones: Vec<&str> = zones.split("__").collect();
    let place = match zones[..] {
        [""] => "zones/UNSPECIFIED".to_owned(),
        [zone] => format!("zones/{zone}"),
        _ => {
            let first = region(zones.first()?)?;
            let same = zones.iter().all(|zone| region(zone) == Some(first));
            same.then(|| format!("regions/{first}"))?
        }
    };
    Some(csi(GCE, format!("projects/UNSPECIFIED/{place}/disks/{disk}")))
}

fn azure_disk(kind: Option<&String>, uri: &str) -> Option<Identity> {
    kind.is_none_or(|k| k.eq_ignore_ascii_case("Managed")).then(|| csi(AZURE_DISK, uri))
}

fn azure_file(group: &str, secret: &str, share: &str, name: &str, namespace: &str) -> Identity {
    let (prefix, suffix) = ("azure-storage-account-", "-secret");
    let inner = secret.find(prefix).map(|at| &secret[at + prefix.len()..]);
    let account = inner.and_then(|i| i.rfind(suffix).map(|end| &i[..end])).filter(|a| !a.is_empty());
    csi(AZURE_FILE, format!("{group}#{}#{share}#{name}#{namespace}", account.unwrap_or(secret)))
}

/// Of a PersistentVolume.
pub fn of_persistent(volume: &PersistentVolume) -> Option<Identity> {
    let spec = volume.spec.as_ref()?;
    if let Some(source) = &spec.csi {
        return Some(csi(&source.driver, &source.volume_handle));
    }
    if let Some(source) = &spec.iscsi {
        return Some(iscsi(&source.target_portal, &source.iqn, source.lun));
    }
    if let Some(source) = &spec.fc {
        return fc(source);
    }
    if let Some(source) = &spec.aws_elastic_block_store {
        return ebs(&source.volume_id);
    }
    if let Some(source) = &spec.gce_persistent_disk {
        let label =
            |name| volume.metadata.labels.as_ref().and_then(|l| l.get(name)).filter(|z| !z.is_empty());
        let zones =
            label("failure-domain.beta.kubernetes.io/zone").or_else(|| label("topology.kubernetes.io/zone"));
        return gce(zones.map_or("", String::as_str), &source.pd_name);
    }
    if let Some(source) = &spec.azure_disk {
        return azure_disk(source.kind.as_ref(), &source.disk_uri);
    }
    if let Some(source) = &spec.azure_file {
        let annotations = volume.metadata.annotations.as_ref();
        let group = annotations.and_then(|a| a.get("kubernetes.io/azure-file-resource-group"));
        let claimed = spec.claim_ref.as_ref().and_then(|c| c.namespace.clone());
        let namespace = source.secret_namespace.clone().or(claimed).filter(|n| !n.is_empty())?;
        let group = group.map_or("", String::as_str);
        return Some(azure_file(group, &source.secret_name, &source.share_name, volume.name(), &namespace));
    }
    let handle = |driver, handle: Option<&String>| handle.map(|h| csi(driver, h));
    handle(CINDER, spec.cinder.as_ref().map(|s| &s.volume_id))
        .or_else(|| handle(VSPHERE, spec.vsphere_volume.as_ref().map(|s| &s.volume_path)))
        .or_else(|| handle(PORTWORX, spec.portworx_volume.as_ref().map(|s| &s.volume_id)))
}

/// Of a volume that a pod in the namespace spells out. A CSI driver's is the pod's alone and has no such name.
pub fn of_inline(volume: &Volume, namespace: &str) -> Option<Identity> {
    if let Some(source) = &volume.iscsi {
        return Some(iscsi(&source.target_portal, &source.iqn, source.lun));
    }
    if let Some(source) = &volume.fc {
        return fc(source);
    }
    if let Some(source) = &volume.aws_elastic_block_store {
        return ebs(&source.volume_id);
    }
    if let Some(source) = &volume.gce_persistent_disk {
        return gce("", &source.pd_name);
    }
    if let Some(source) = &volume.azure_disk {
        return azure_disk(source.kind.as_ref(), &source.disk_uri);
    }
    if let Some(source) = &volume.azure_file {
        return Some(azure_file("", &source.secret_name, &source.share_name, &volume.name, namespace));
    }
    let handle = |driver, handle: Option<&String>| handle.map(|h| csi(driver, h));
    handle(CINDER, volume.cinder.as_ref().map(|s| &s.volume_id))
        .or_else(|| handle(VSPHERE, volume.vsphere_volume.as_ref().map(|s| &s.volume_path)))
        .or_else(|| handle(PORTWORX, volume.portworx_volume.as_ref().map(|s| &s.volume_id)))
}
