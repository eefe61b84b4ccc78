//! Changes in the cluster that may make a pod fit.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim};
use k8s_openapi::api::scheduling::v1beta1::PodGroup;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};

use crate::model::{GroupKey, PodInfo, WireNode};

/// One change, as plugins judge it. `old` is absent where the object is new.
pub enum Change<'a> {
    NodeAdded(&'a WireNode),
    NodeUpdated {
        old: &'a WireNode,
        new: &'a WireNode,
    },
    /// A node went away.
    NodeGone,
    /// A pod was seen on a node (new, or just bound).
    PodAssigned(&'a PodInfo),
    /// A pod came that is still to be placed.
    PodWaiting(&'a PodInfo),
    PodGroup {
        key: &'a GroupKey,
        old: Option<&'a PodGroup>,
        new: &'a PodGroup,
    },
    /// A group of groups came (`new`) or changed.
    CompositePodGroup {
        key: &'a GroupKey,
        new: bool,
    },
    /// Labels or requests of a placed pod changed.
    PodChanged {
        old: &'a PodInfo,
        new: &'a PodInfo,
    },
    /// A placed pod went away.
    PodGone(&'a PodInfo),
    /// The waiting pod itself changed.
    Itself {
        old: &'a PodInfo,
        new: &'a PodInfo,
    },
    Claim {
        old: Option<&'a PersistentVolumeClaim>,
        new: &'a PersistentVolumeClaim,
    },
    Volume {
        old: Option<&'a PersistentVolume>,
        new: &'a PersistentVolume,
    },
    Class {
        old: Option<&'a StorageClass>,
        new: &'a StorageClass,
    },
    CsiNode {
        old: Option<&'a CSINode>,
        new: &'a CSINode,
    },
    CsiDriver {
        old: Option<&'a CSIDriver>,
        new: &'a CSIDriver,
    },
    Capacity {
        old: Option<&'a CSIStorageCapacity>,
        new: &'a CSIStorageCapacity,
    },
    /// A volume was detached from a node.
    AttachmentGone,
    /// Labels of a namespace changed.
    Namespace,
    ResourceClaim {
        old: Option<&'a ResourceClaim>,
        new: &'a ResourceClaim,
    },
    /// A claim went away.
    ResourceClaimGone(&'a ResourceClaim),
    DeviceClass {
        old: Option<&'a DeviceClass>,
        new: &'a DeviceClass,
    },
    /// Devices changed, or the taints that rules give them.
    Devices {
        added: bool,
    },
}

impl Change<'_> {
    /// The group that alone it may help; `None`: others, too.
    pub fn group(&self) -> Option<&GroupKey> {
        match self {
            Change::PodGroup { key, .. } | Change::CompositePodGroup { key, .. } => Some(key),
            Change::PodWaiting(pod) => pod.group.as_ref(),
            _ => None,
        }
    }

    /// Whether it can help only pods that belong to groups.
    pub const fn only_groups(&self) -> bool {
        matches!(self, Change::PodGroup { .. } | Change::CompositePodGroup { .. } | Change::PodWaiting(_))
    }

    /// Upstream's name of the event, as metrics and pages show it.
    pub const fn name(&self) -> &'static str {
        match self {
            Change::NodeAdded(_) => "NodeAdd",
            Change::NodeUpdated { .. } => "NodeUpdate",
            Change::NodeGone => "NodeDelete",
            Change::PodAssigned(_) => "AssignedPodAdd",
            Change::PodWaiting(_) => "UnscheduledPodAdd",
            Change::PodGroup { old: None, .. } => "PodGroupAdd",
            Change::PodGroup { .. } => "PodGroupUpdate",
            Change::CompositePodGroup { new: true, .. } => "CompositePodGroupAdd",
            Change::CompositePodGroup { .. } => "CompositePodGroupUpdate",
            Change::PodChanged { .. } => "AssignedPodUpdate",
            Change::PodGone(_) => "AssignedPodDelete",
            Change::Itself { .. } => "TargetPodUpdate",
            Change::Claim { old: None, .. } => "PersistentVolumeClaimAdd",
            Change::Claim { .. } => "PersistentVolumeClaimUpdate",
            Change::Volume { old: None, .. } => "PersistentVolumeAdd",
            Change::Volume { .. } => "PersistentVolumeUpdate",
            Change::Class { old: None, .. } => "StorageClassAdd",
            Change::Class { .. } => "StorageClassUpdate",
            Change::CsiNode { old: None, .. } => "CSINodeAdd",
            Change::CsiNode { .. } => "CSINodeUpdate",
            Change::CsiDriver { old: None, .. } => "CSIDriverAdd",
            Change::CsiDriver { .. } => "CSIDriverUpdate",
            Change::Capacity { old: None, .. } => "CSIStorageCapacityAdd",
            Change::Capacity { .. } => "CSIStorageCapacityUpdate",
            Change::AttachmentGone => "VolumeAttachmentDelete",
            Change::Namespace => "NamespaceUpdate",
            Change::ResourceClaim { old: None, .. } => "ResourceClaimAdd",
            Change::ResourceClaim { .. } => "ResourceClaimUpdate",
            Change::ResourceClaimGone(_) => "ResourceClaimDelete",
            Change::DeviceClass { old: None, .. } => "DeviceClassAdd",
            Change::DeviceClass { .. } => "DeviceClassUpdate",
            Change::Devices { added: true } => "ResourceSliceAdd",
            Change::Devices { .. } => "ResourceSliceUpdate",
        }
    }
}
