//! Volumes of a pod: names, and exactly one source each. Sources in [`super::volume_source`].

use k8s_openapi::api::core::v1::Volume;

use super::volume_source as source;
use super::{claim, projected};
use crate::validation::field::{Error, Path};
use crate::validation::{dns_label, dns_subdomain, items, text};

/// What a volume is checked against.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    /// The pod's name; empty for templates and generated names.
    pub pod: &'a str,
    /// Token paths that are not local were there before.
    pub any_token_path: bool,
    /// Image volumes without a reference were there before.
    pub empty_image: bool,
}

/// The errors, and the volumes without any.
pub(super) fn validate_volumes<'a>(
    volumes: &'a [Volume],
    owner: Owner<'_>,
    path: &Path,
) -> (Vec<&'a Volume>, Vec<Error>) {
    let mut errors = Vec::new();
    let mut sound: Vec<&Volume> = Vec::new();
    for (i, volume) in volumes.iter().enumerate() {
        let at = path.index(i);
        let name = at.child("name");
        let mut own = validate_source(volume, owner, &at);
        if volume.name.is_empty() {
            own.push(Error::required(&name, ""));
        } else {
            own.extend(dns_label(&volume.name, &name));
        }
        if sound.iter().any(|v| v.name == volume.name) {
            own.push(Error::duplicate(&name, &volume.name));
        }
        if own.is_empty() {
            sound.push(volume);
        }
        errors.extend(own);
        errors.extend(claims_ephemeral(volume, volumes, owner, &at));
    }
    (sound, errors)
}

/// A claim that the pod itself brings is not referred to.
fn claims_ephemeral(volume: &Volume, all: &[Volume], owner: Owner<'_>, path: &Path) -> Option<Error> {
    let claim = volume.persistent_volume_claim.as_ref()?;
    let made = |v: &Volume| v.ephemeral.is_some() && format!("{}-{}", owner.pod, v.name) == claim.claim_name;
    (!owner.pod.is_empty() && all.iter().any(made)).then(|| {
        let at = path.child("persistentVolumeClaim");
        let detail = "must not reference a PVC that gets created for an ephemeral volume";
        Error::invalid(&at.child("claimName"), &claim.claim_name, detail)
    })
}

/// The field that names a source in the error about a second one, and the errors of the source itself.
type Source = (&'static str, Vec<Error>);

fn validate_source(volume: &Volume, owner: Owner<'_>, path: &Path) -> Vec<Error> {
    let mut found: Vec<Source> = Vec::new();
    macro_rules! source {
        ($field:ident, $name:literal, $check:expr) => {
            source!($field, $name, $name, $check)
        };
        ($field:ident, $name:literal, $path:literal, $check:expr) => {
            if let Some(source) = &volume.$field {
                found.push(($name, $check(source, &path.child($path))));
            }
        };
    }
    source!(empty_dir, "emptyDir", source::empty_dir);
    source!(host_path, "hostPath", source::host_path);
    source!(git_repo, "gitRepo", source::git_repo);
    source!(gce_persistent_disk, "gcePersistentDisk", "persistentDisk", source::gce_disk);
    source!(aws_elastic_block_store, "awsElasticBlockStore", source::aws_disk);
    source!(secret, "secret", source::secret);
    source!(nfs, "nfs", source::nfs);
    source!(iscsi, "iscsi", source::iscsi);
    source!(glusterfs, "glusterfs", source::glusterfs);
    source!(flocker, "flocker", source::flocker);
    source!(persistent_volume_claim, "persistentVolumeClaim", source::claim);
    source!(rbd, "rbd", source::rbd);
    source!(cinder, "cinder", source::cinder);
    source!(cephfs, "cephFS", "cephfs", source::cephfs);
    source!(quobyte, "quobyte", source::quobyte);
    source!(downward_api, "downwarAPI", "downwardAPI", projected::downward_api);
    source!(fc, "fc", source::fc);
    source!(flex_volume, "flexVolume", source::flex);
    source!(config_map, "configMap", source::config_map);
    source!(azure_file, "azureFile", source::azure_file);
    source!(vsphere_volume, "vsphereVolume", source::vsphere);
    source!(photon_persistent_disk, "photonPersistentDisk", source::photon);
    source!(portworx_volume, "portworxVolume", source::portworx);
    source!(azure_disk, "azureDisk", source::azure_disk);
    source!(storageos, "storageos", source::storageos);
    source!(projected, "projected", |s, at: &Path| projected::validate(s, owner.any_token_path, at));
    source!(scale_io, "scaleIO", source::scale_io);
    source!(csi, "csi", source::csi);
    source!(ephemeral, "ephemeral", |s: &k8s_openapi::api::core::v1::EphemeralVolumeSource, at: &Path| {
        let template = at.child("volumeClaimTemplate");
        let mut errors = match &s.volume_claim_template {
            None => vec![Error::required(&template, "")],
            Some(t) => claim::validate_template(t, &template),
        };
        errors.extend(ephemeral_name(volume, owner, path));
        errors
    });
    source!(image, "image", |s, at: &Path| source::image(s, owner.empty_image, at));
    let mut errors = Vec::new();
    if found.is_empty() {
        errors.push(Error::required(path, "must specify a volume type"));
    }
    for (i, (name, own)) in found.into_iter().enumerate() {
        if i == 0 {
            errors.extend(own);
        } else {
            errors.push(Error::forbidden(&path.child(name), "may not specify more than 1 volume type"));
        }
    }
    errors.extend(long_iscsi(volume, path));
    errors
}

fn ephemeral_name(volume: &Volume, owner: Owner<'_>, path: &Path) -> Vec<Error> {
    if owner.pod.is_empty() || volume.name.is_empty() {
        return Vec::new();
    }
    let claim = format!("{}-{}", owner.pod, volume.name);
    let at = path.child("name");
    let refused = dns_subdomain(&claim, &at).into_iter();
    refused.map(|e| Error::invalid(&at, &volume.name, format!("PVC name {claim:?}: {}", e.detail))).collect()
}

fn long_iscsi(volume: &Volume, path: &Path) -> Option<Error> {
    let iscsi = volume.iscsi.as_ref().filter(|i| i.initiator_name.is_some())?;
    let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
    let length = volume.name.len() + 1 + iscsi.target_portal.len();
    (length > 64).then(|| Error::invalid(&path.child("name"), &volume.name, detail))
}

/// Pods, other than templates, project tokens of their service account only with one.
pub(super) fn validate_token_account(
    volumes: &[Volume],
    account: &Option<String>,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    if !text(account).is_empty() {
        return errors;
    }
    for (i, volume) in volumes.iter().enumerate() {
        let item = path.index(i);
        let projected = item.child("projected");
        let list = projected.child("sources");
        for (j, one) in volume.projected.iter().flat_map(|p| items(&p.sources)).enumerate() {
            if one.service_account_token.is_some() {
                let at = list.index(j);
                let detail = "must not be specified when serviceAccountName is not set";
                errors.push(Error::forbidden(&at.child("serviceAccountToken"), detail));
            }
        }
    }
    errors
}
