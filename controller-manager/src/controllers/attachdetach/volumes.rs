//! Which volumes the pods of a node need attached. Pure.
//! Upstream: attachdetach/util/util.go ProcessPodVolumes, CreateVolumeSpec; csi_plugin.go GetVolumeName, CanAttach.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Meta;
use controller::is_controlled_by;
use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};

use crate::controllers::persistentvolume::facts::{claim_phase, volume_name};
use crate::kept::Pod;

/// A volume of a CSI driver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachable {
    /// Name of the PersistentVolume.
    pub volume: String,
    pub driver: String,
    pub handle: String,
    /// Only one node may have it.
    pub exclusive: bool,
}

impl Attachable {
    /// Of a volume, if a CSI driver serves it.
    pub fn of(volume: &Volume) -> Option<Self> {
        let spec = volume.spec.as_ref()?;
        let csi = spec.csi.as_ref()?;
        let modes = spec.access_modes.as_deref().unwrap_or_default();
        let shared = modes.iter().any(|m| m == "ReadWriteMany" || m == "ReadOnlyMany");
        Some(Self {
            volume: volume.name().to_string(),
            driver: csi.driver.clone(),
            handle: csi.volume_handle.clone(),
            exclusive: !modes.is_empty() && !shared,
        })
    }

    /// As nodes name it.
    pub fn unique_name(&self) -> String {
        format!("kubernetes.io/csi/{}^{}", self.driver, self.handle)
    }
}

/// What is known of claims and volumes.
pub struct Lookup<'a> {
    pub claim: &'a dyn Fn(&str) -> Option<Arc<Claim>>,
    pub volume: &'a dyn Fn(&str) -> Option<Arc<Volume>>,
    /// The driver wants its volumes attached.
    pub attaches: &'a dyn Fn(&str) -> bool,
}

/// The volumes of a pod that must be attached; those whose claims are not bound yet come later.
pub fn of_pod(pod: &Pod, lookup: &Lookup<'_>) -> Vec<Attachable> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            let claim = match &volume.persistent_volume_claim {
                Some(source) => (lookup.claim)(&format!("{}/{}", pod.namespace(), source.claim_name))?,
                None => {
                    volume.ephemeral.as_ref()?;
                    let claim =
                        (lookup.claim)(&format!("{}/{}-{}", pod.namespace(), pod.name(), volume.name))?;
                    is_controlled_by(&claim.metadata, &pod.metadata).then_some(claim)?
                }
            };
            let bound = claim_phase(&claim) == "Bound" && !volume_name(&claim).is_empty();
            let found = bound.then(|| (lookup.volume)(volume_name(&claim))).flatten()?;
            Attachable::of(&found).filter(|a| (lookup.attaches)(&a.driver))
        })
        .collect()
}

/// The pods that want each volume, by its unique name.
pub fn of_pods(pods: &[Arc<Pod>], lookup: &Lookup<'_>) -> BTreeMap<String, (Attachable, Vec<Arc<Pod>>)> {
    let mut all: BTreeMap<String, (Attachable, Vec<Arc<Pod>>)> = BTreeMap::new();
    for pod in pods {
        for volume in of_pod(pod, lookup) {
            all.entry(volume.unique_name()).or_insert_with(|| (volume, Vec::new())).1.push(pod.clone());
        }
    }
    all
}
