//! Objects that plugins look up by key, as the informers keep them.

use std::sync::Arc;

use client::Meta;
use informer::{NAMESPACE_INDEX, Store};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, ReplicationController, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::{DeviceClass, DeviceTaintRule, ResourceClaim};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};

use crate::devices::ResourceSlice;

/// Index of volumes by storage class.
pub const CLASS: &str = "class";
/// Index of claims for extended resources by the uid of their pod.
pub const OWNER: &str = "owner";
/// Index of attachments by node.
pub const NODE: &str = "node";

/// The stores.
#[derive(Clone, Default)]
pub struct Listers {
    pub services: Store<Service>,
    pub controllers: Store<ReplicationController>,
    pub replica_sets: Store<ReplicaSet>,
    pub stateful_sets: Store<StatefulSet>,
    pub claims: Store<PersistentVolumeClaim>,
    pub volumes: Store<PersistentVolume>,
    pub classes: Store<StorageClass>,
    pub csi_nodes: Store<CSINode>,
    pub csi_drivers: Store<CSIDriver>,
    pub capacities: Store<CSIStorageCapacity>,
    pub attachments: Store<VolumeAttachment>,
    pub budgets: Store<PodDisruptionBudget>,
    pub resource_claims: Store<ResourceClaim>,
    pub device_classes: Store<DeviceClass>,
    pub resource_slices: Store<ResourceSlice>,
    pub device_taint_rules: Store<DeviceTaintRule>,
}

impl Listers {
    /// With the indexes that plugins use.
    #[must_use]
    pub fn indexed(self) -> Self {
        self.services.add_index(NAMESPACE_INDEX, Arc::new(|s| vec![s.namespace().to_string()]));
        self.volumes.add_index(CLASS, Arc::new(|v| vec![volume_class(v).to_string()]));
        self.attachments.add_index(NODE, Arc::new(|a| vec![a.spec.node_name.clone()]));
        let owner = |c: &ResourceClaim| crate::plugins::extended_devices::owner(c).map(str::to_string);
        self.resource_claims.add_index(OWNER, Arc::new(move |c| owner(c).into_iter().collect()));
        self
    }
}

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

fn annotated<K: Meta>(object: &K) -> Option<&str> {
    object.meta().annotations.as_ref()?.get(BETA_CLASS).map(String::as_str)
}

/// Storage class of a volume, "" for none. Upstream: GetPersistentVolumeClass.
pub fn volume_class(volume: &PersistentVolume) -> &str {
    let own = volume.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    annotated(volume).or(own).unwrap_or_default()
}

/// Storage class of a claim, "" for none. Upstream: GetPersistentVolumeClaimClass.
pub fn claim_class(claim: &PersistentVolumeClaim) -> &str {
    let own = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    annotated(claim).or(own).unwrap_or_default()
}
