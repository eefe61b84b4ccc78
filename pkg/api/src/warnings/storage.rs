//! Volumes and their classes. Upstream: `pkg/api/{persistentvolume,persistentvolumeclaim,storage}/util.go`.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec};
use k8s_openapi::api::storage::v1::{CSIDriver, CSIStorageCapacity, StorageClass};

use super::{fractional, node};
use crate::validation::field::Path;
use crate::validation::{items, semantic_eq, text};

const CLASS_ANNOTATION: (&str, &str) = (
    "volume.beta.kubernetes.io/storage-class",
    r#"deprecated since v1.8; use "storageClassName" attribute instead"#,
);
const OPTIONS_ANNOTATION: (&str, &str) = (
    "volume.beta.kubernetes.io/mount-options",
    r#"deprecated since v1.31; use "mountOptions" attribute instead"#,
);

/// About a volume.
pub fn persistent_volume(volume: &PersistentVolume) -> Vec<String> {
    let mut warnings = Vec::new();
    let annotations = volume.metadata.annotations.as_ref();
    for (key, message) in [CLASS_ANNOTATION, OPTIONS_ANNOTATION] {
        if annotations.is_some_and(|a| a.contains_key(key)) {
            warnings.push(format!("metadata.annotations[{key}]: {message}"));
        }
    }
    let Some(spec) = &volume.spec else { return warnings };
    if text(&spec.persistent_volume_reclaim_policy) == "Recycle" {
        warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    let terms = spec.node_affinity.as_ref().and_then(|a| a.required.as_ref()).map(|r| &r.node_selector_terms);
    let path = Path::new("spec.nodeAffinity.required.nodeSelectorTerms");
    for (i, term) in terms.into_iter().flatten().enumerate() {
        warnings.extend(node::selector_term(term, false, &path.index(i)));
    }
    for (used, plugin, message) in [
        (spec.cephfs.is_some(), "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        (
            spec.photon_persistent_disk.is_some(),
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (spec.scale_io.is_some(), "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        (spec.storageos.is_some(), "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
        (spec.glusterfs.is_some(), "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        (spec.rbd.is_some(), "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if used {
            warnings.push(format!("spec.{plugin}: {message}"));
        }
    }
    warnings
}

/// About a claim.
pub fn claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let mut warnings = Vec::new();
    let (key, message) = CLASS_ANNOTATION;
    if claim.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(key)) {
        warnings.push(format!("metadata.annotations[{key}]: {message}"));
    }
    if let Some(spec) = &claim.spec {
        warnings.extend(claim_spec(spec, &Path::new("spec")));
    }
    warnings
}

/// About what a claim asks for.
pub(super) fn claim_spec(spec: &PersistentVolumeClaimSpec, path: &Path) -> Vec<String> {
    let Some(resources) = &spec.resources else { return Vec::new() };
    let path = path.child("resources");
    let requests = fractional(&resources.requests, "storage", &path.child("requests"));
    requests.into_iter().chain(fractional(&resources.limits, "storage", &path.child("limits"))).collect()
}

/// About a storage class.
pub fn class(class: &StorageClass) -> Vec<String> {
    let mut warnings = Vec::new();
    let path = Path::new("allowedTopologies");
    for (i, topology) in items(&class.allowed_topologies).iter().enumerate() {
        for (j, expression) in items(&topology.match_label_expressions).iter().enumerate() {
            let told = node::deprecated_label(&expression.key);
            let (at, list) = (path.index(i), "matchLabelExpressions");
            warnings.extend(told.map(|m| format!("{}: {m}", at.child(list).index(j).child("key"))));
        }
    }
    warnings
}

/// About a storage capacity.
pub fn capacity(capacity: &CSIStorageCapacity) -> Vec<String> {
    let topology = capacity.node_topology.as_ref();
    topology.map(|t| node::selector(t, &Path::new("nodeTopology"))).unwrap_or_default()
}

/// About a driver; of a changed one, when the tokens it asks for changed.
pub fn csi_driver(driver: &CSIDriver, old: Option<&CSIDriver>) -> Vec<String> {
    let tokens = |d: &CSIDriver| d.spec.token_requests.clone().unwrap_or_default();
    let changed = old.is_none_or(|old| !semantic_eq(&tokens(old), &tokens(driver)));
    if !changed || tokens(driver).is_empty() || driver.spec.service_account_token_in_secrets.is_some() {
        return Vec::new();
    }
    vec![TOKENS_IN_SECRETS.to_owned()]
}

const TOKENS_IN_SECRETS: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
