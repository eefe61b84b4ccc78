//! Persistent volumes.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, VolumeNodeAffinity};

use super::claim::{basic, validate_access_modes, validate_mode};
use super::resources::amount;
use super::scheduling::{has_bad_values, validate_node_selector};
use super::volume_source as source;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{name_is_subdomain, validate_kube_object_meta};
use crate::validation::{dns_subdomain, immutable, items, supported, text, typed_eq};

/// A new volume.
pub fn validate_volume(volume: &PersistentVolume) -> Vec<Error> {
    validate(volume, false)
}

fn validate(volume: &PersistentVolume, any_values: bool) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&volume.metadata, false, name_is_subdomain, &Path::new("metadata"));
    let none = PersistentVolumeSpec::default();
    let spec = volume.spec.as_ref().unwrap_or(&none);
    errors.extend(validate_spec(spec, text(&volume.metadata.name), any_values, &Path::new("spec")));
    errors
}

/// A volume that is described where it is attached, and is no object of its own.
pub(crate) fn validate_inline_spec(spec: &PersistentVolumeSpec, path: &Path) -> Vec<Error> {
    let here = "in the context of inline volumes";
    let foreign = || format!("may not be specified {here}");
    let mut errors = Vec::new();
    let capacity = spec.capacity.as_ref().is_some_and(|c| !c.is_empty());
    for (set, name) in [(spec.claim_ref.is_some(), "claimRef"), (capacity, "capacity")] {
        if set {
            errors.push(Error::forbidden(&path.child(name), foreign()));
        }
    }
    if spec.csi.is_none() {
        errors.push(Error::required(&path.child("csi"), format!("has to be specified {here}")));
    }
    errors.extend(validate_modes(spec, path));
    let policy = text(&spec.persistent_volume_reclaim_policy);
    let reclaim = path.child("persistentVolumeReclaimPolicy");
    if !matches!(policy, "" | "Retain") {
        errors.push(Error::forbidden(&reclaim, format!("may only be Retain {here}")));
    }
    if spec.node_affinity.is_some() {
        errors.push(Error::forbidden(&path.child("nodeAffinity"), foreign()));
    }
    errors.extend(validate_source(spec, "", path));
    errors.extend(recycles_root(spec, policy, &reclaim));
    if !text(&spec.storage_class_name).is_empty() {
        errors.push(Error::forbidden(&path.child("storageClassName"), foreign()));
    }
    if spec.volume_mode.as_deref().is_some_and(|m| m != "Filesystem") {
        let detail = format!("may not specify volumeMode other than Filesystem {here}");
        errors.push(Error::forbidden(&path.child("volumeMode"), detail));
    }
    // Upstream looks at the attributes class of volumes only.
    errors
}

fn validate_modes(spec: &PersistentVolumeSpec, path: &Path) -> Vec<Error> {
    let (modes, at) = (items(&spec.access_modes), path.child("accessModes"));
    let missing = modes.is_empty().then(|| Error::required(&at, ""));
    missing.into_iter().chain(validate_access_modes(modes, &at)).collect()
}

fn recycles_root(spec: &PersistentVolumeSpec, policy: &str, path: &Path) -> Option<Error> {
    let root = spec.host_path.as_ref().is_some_and(|h| is_root(&h.path));
    (root && policy == "Recycle")
        .then(|| Error::forbidden(path, "may not be 'recycle' for a hostPath mount of '/'"))
}

fn validate_spec(spec: &PersistentVolumeSpec, name: &str, any_values: bool, path: &Path) -> Vec<Error> {
    let mut errors = validate_modes(spec, path);
    errors.extend(validate_capacity(spec, &path.child("capacity")));
    let policy = text(&spec.persistent_volume_reclaim_policy);
    let reclaim = path.child("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        errors.extend(supported(policy, &["Delete", "Recycle", "Retain"], &reclaim));
    }
    if let Some(affinity) = &spec.node_affinity {
        let at = path.child("nodeAffinity");
        match &affinity.required {
            None => {
                errors.push(Error::required(&at.child("required"), "must specify required node constraints"))
            }
            Some(selector) => {
                errors.extend(validate_node_selector(selector, any_values, &at.child("required")));
            }
        }
    }
    errors.extend(validate_source(spec, name, path));
    errors.extend(recycles_root(spec, policy, &reclaim));
    let class = text(&spec.storage_class_name);
    if !class.is_empty() {
        errors.extend(dns_subdomain(class, &path.child("storageClassName")));
    }
    errors.extend(validate_mode(spec.volume_mode.as_deref(), &path.child("volumeMode")));
    if let Some(class) = spec.volume_attributes_class_name.as_deref() {
        let at = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.push(Error::required(&at, "an empty string is disallowed"));
        } else {
            errors.extend(dns_subdomain(class, &at));
        }
        if spec.csi.is_none() {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.push(Error::required(&path.child("csi"), detail));
        }
    }
    errors
}

/// Whether the path is `/` once cleaned.
fn is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

fn validate_capacity(spec: &PersistentVolumeSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let none = std::collections::BTreeMap::new();
    let capacity = spec.capacity.as_ref().unwrap_or(&none);
    if capacity.is_empty() {
        errors.push(Error::required(path, ""));
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.push(Error::not_supported(path, Bad::json(&spec.capacity), &["storage"]));
    }
    for (name, size) in capacity {
        let (at, size) = (path.key(name), amount(size));
        errors.extend(basic(&size, &at));
        if size.sign() <= 0 {
            errors.push(Error::invalid(&at, size.canonical(), "must be greater than zero"));
        }
    }
    errors
}

fn validate_source(spec: &PersistentVolumeSpec, name: &str, path: &Path) -> Vec<Error> {
    let mut found: Vec<(&str, Vec<Error>)> = Vec::new();
    macro_rules! source {
        ($field:ident, $name:literal, $check:expr) => {
            source!($field, $name, $name, $check)
        };
        ($field:ident, $name:literal, $path:literal, $check:expr) => {
            if let Some(source) = &spec.$field {
                found.push(($name, $check(source, &path.child($path))));
            }
        };
    }
    source!(host_path, "hostPath", source::host_path);
    source!(gce_persistent_disk, "gcePersistentDisk", "persistentDisk", source::gce_disk);
    source!(aws_elastic_block_store, "awsElasticBlockStore", source::aws_disk);
    source!(glusterfs, "glusterfs", source::glusterfs_volume);
    source!(flocker, "flocker", source::flocker);
    source!(nfs, "nfs", source::nfs);
    source!(rbd, "rbd", source::rbd_volume);
    source!(quobyte, "quobyte", source::quobyte);
    source!(cephfs, "cephFS", "cephfs", source::cephfs_volume);
    source!(iscsi, "iscsi", |s, at: &Path| source::iscsi_volume(s, name, at));
    source!(cinder, "cinder", source::cinder_volume);
    source!(fc, "fc", source::fc);
    source!(flex_volume, "flexVolume", source::flex_volume);
    source!(azure_file, "azureFile", source::azure_file_volume);
    source!(vsphere_volume, "vsphereVolume", source::vsphere);
    source!(photon_persistent_disk, "photonPersistentDisk", source::photon);
    source!(portworx_volume, "portworxVolume", source::portworx);
    source!(azure_disk, "azureDisk", source::azure_disk);
    source!(scale_io, "scaleIO", source::scale_io_volume);
    source!(local, "local", |s, at: &Path| {
        let mut errors = source::local_disk(s, at);
        if spec.node_affinity.is_none() {
            let detail = "Local volume requires node affinity";
            errors.push(Error::required(&path.child("nodeAffinity"), detail));
        }
        errors
    });
    source!(storageos, "storageos", source::storageos_volume);
    source!(csi, "csi", source::csi_volume);
    if found.is_empty() {
        return vec![Error::required(path, "must specify a volume type")];
    }
    let mut errors = Vec::new();
    for (i, (name, own)) in found.into_iter().enumerate() {
        // Upstream lets a flex volume stand beside others.
        if i == 0 || name == "flexVolume" {
            errors.extend(own);
        } else {
            errors.push(Error::forbidden(&path.child(name), "may not specify more than 1 volume type"));
        }
    }
    errors
}

/// A changed volume: its source and mode stay.
pub fn validate_volume_update(new: &PersistentVolume, old: &PersistentVolume) -> Vec<Error> {
    let none = PersistentVolumeSpec::default();
    let (spec, before) = (new.spec.as_ref().unwrap_or(&none), old.spec.as_ref().unwrap_or(&none));
    let any_values =
        before.node_affinity.as_ref().and_then(|a| a.required.as_ref()).is_some_and(has_bad_values);
    let mut errors = validate(new, any_values);
    let mut now = source_of(spec);
    if let (Some(csi), Some(was)) = (&mut now.csi, &before.csi)
        && was.controller_expand_secret_ref.is_none()
    {
        csi.controller_expand_secret_ref = None;
    }
    let path = Path::new("spec");
    // All of it are pointers, which tell an empty struct from nothing.
    if now != source_of(before) {
        let detail = "spec.persistentvolumesource is immutable after creation\n";
        errors.push(Error::forbidden(&path.child("persistentvolumesource"), detail));
    }
    errors.extend(immutable(&spec.volume_mode, &before.volume_mode, &Path::new("volumeMode")));
    errors.extend(validate_affinity_update(spec.node_affinity.as_ref(), before.node_affinity.as_ref()));
    if before.volume_attributes_class_name.is_some() && spec.volume_attributes_class_name.is_none() {
        let detail = "update from non-nil value to nil is forbidden";
        errors.push(Error::forbidden(&path.child("volumeAttributesClassName"), detail));
    }
    errors
}

/// The source alone.
fn source_of(spec: &PersistentVolumeSpec) -> PersistentVolumeSpec {
    PersistentVolumeSpec {
        access_modes: None,
        capacity: None,
        claim_ref: None,
        mount_options: None,
        node_affinity: None,
        persistent_volume_reclaim_policy: None,
        storage_class_name: None,
        volume_attributes_class_name: None,
        volume_mode: None,
        ..spec.clone()
    }
}

/// An affinity once set stays, but old label names may become the present ones.
fn validate_affinity_update(
    new: Option<&VolumeNodeAffinity>,
    old: Option<&VolumeNodeAffinity>,
) -> Option<Error> {
    let old = old?;
    const RENAMED: [(&str, &str); 5] = [
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ];
    let mut before = old.clone();
    let terms = before.required.iter_mut().flat_map(|s| s.node_selector_terms.iter_mut());
    let now = new.and_then(|n| n.required.as_ref());
    for (i, term) in terms.enumerate() {
        for (j, requirement) in term.match_expressions.iter_mut().flatten().enumerate() {
            let same = now.and_then(|s| s.node_selector_terms.get(i)?.match_expressions.as_ref()?.get(j));
            if let Some(same) = same
                && RENAMED.contains(&(requirement.key.as_str(), same.key.as_str()))
            {
                requirement.key.clone_from(&same.key);
            }
        }
    }
    if new.is_some_and(|new| typed_eq("core/v1.VolumeNodeAffinity", new, &before)) {
        return None;
    }
    let detail = "field is immutable, except for updating from beta label to GA";
    Some(Error::invalid(&Path::new("nodeAffinity"), Bad::json(&new), detail))
}

/// A changed status.
pub fn validate_volume_status_update(new: &PersistentVolume) -> Option<Error> {
    text(&new.metadata.resource_version)
        .is_empty()
        .then(|| Error::required(&Path::new("resourceVersion"), ""))
}
