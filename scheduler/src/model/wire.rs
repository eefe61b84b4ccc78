//! Pods and nodes as they are read from the API server: only fields that somebody here reads. A pod is compiled to a
//! [`super::PodInfo`] when it arrives.

use std::collections::BTreeMap;

use client::{Kept, Named};
use informer::{Name, Shared};
use k8s_openapi::api::core::v1::{
    AWSElasticBlockStoreVolumeSource, Affinity, GCEPersistentDiskVolumeSource, ISCSIVolumeSource,
    ImageVolumeSource, NodeAllocatableResourceClaimStatus, NodePodPreemptionPolicy, PodCondition,
    PodResourceClaim, PodResourceClaimStatus, PodSchedulingGate, RBDVolumeSource, Taint, Toleration,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};

use super::node_labels::NodeLabels;

pub type Amounts = BTreeMap<String, Quantity>;

/// A pod, as it is compiled.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WirePod {
    pub metadata: ObjectMeta,
    pub spec: WireSpec,
    pub status: WireStatus,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WireSpec {
    pub node_name: String,
    pub scheduler_name: String,
    pub priority: i32,
    pub preemption_policy: String,
    pub node_selector: BTreeMap<String, String>,
    pub affinity: Option<Affinity>,
    pub tolerations: Vec<Toleration>,
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    pub volumes: Vec<WireVolume>,
    pub containers: Vec<WireContainer>,
    pub init_containers: Vec<WireContainer>,
    pub overhead: Amounts,
    pub resources: Option<WireResources>,
    pub scheduling_gates: Vec<PodSchedulingGate>,
    pub resource_claims: Vec<PodResourceClaim>,
    pub scheduling_group: Option<SchedulingGroup>,
    pub host_network: bool,
    pub host_users: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SchedulingGroup {
    pub pod_group_name: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WireResources {
    pub requests: Amounts,
    pub limits: Amounts,
    pub claims: Vec<ClaimUser>,
}

/// A claim of the pod that a container uses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClaimUser {
    pub name: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WireContainer {
    pub name: String,
    pub image: String,
    pub ports: Vec<WirePort>,
    pub resources: WireResources,
    pub restart_policy: String,
    pub restart_policy_rules: Vec<RestartRule>,
    pub volume_mounts: Vec<WireMount>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartRule {
    pub action: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WireMount {
    pub bind_mount_options: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WirePort {
    pub host_port: i32,
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    pub protocol: String,
}

/// A volume, as far as it decides where a pod may go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WireVolume {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<Present>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gce_persistent_disk: Option<GCEPersistentDiskVolumeSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_elastic_block_store: Option<AWSElasticBlockStoreVolumeSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iscsi: Option<ISCSIVolumeSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rbd: Option<RBDVolumeSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageVolumeSource>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSource {
    pub claim_name: String,
}

/// Something of which only the presence counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Present {}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WireStatus {
    pub phase: String,
    pub nominated_node_name: String,
    pub start_time: Option<Time>,
    pub conditions: Vec<PodCondition>,
    pub container_statuses: Vec<ContainerAmounts>,
    pub init_container_statuses: Vec<ContainerAmounts>,
    pub resource_claim_statuses: Vec<PodResourceClaimStatus>,
    pub node_allocatable_resource_claim_statuses: Vec<NodeAllocatableResourceClaimStatus>,
    /// Of the pod as a whole.
    pub allocated_resources: Option<Amounts>,
    pub resources: Option<ActualResources>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerAmounts {
    pub name: String,
    pub allocated_resources: Option<Amounts>,
    pub resources: Option<ActualResources>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ActualResources {
    pub requests: Option<Amounts>,
}

/// A node, as it is kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WireNode {
    pub metadata: NodeMeta,
    pub spec: WireNodeSpec,
    pub status: WireNodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeMeta {
    pub name: Box<str>,
    pub uid: Box<str>,
    pub resource_version: Box<str>,
    pub labels: NodeLabels,
}

impl Kept for WireNode {
    const TYPE: Option<(&'static str, &'static str)> = Some(("v1", "Node"));

    fn named(&self) -> Named<'_> {
        let NodeMeta { name, uid, resource_version, .. } = &self.metadata;
        Named { namespace: "", name, uid, version: resource_version }
    }

    /// Nodes of one sort offer the same.
    fn settle(&mut self, old: Option<&Self>) {
        self.status.allocatable.settle(old.map(|o| &o.status.allocatable));
    }
}

client::same_resource!(WireNode, k8s_openapi::api::core::v1::Node);

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WireNodeSpec {
    pub unschedulable: bool,
    pub taints: Vec<Taint>,
    pub pod_preemption_policy: Option<NodePodPreemptionPolicy>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WireNodeStatus {
    pub allocatable: Shared<Amounts>,
    pub images: Vec<WireImage>,
    pub declared_features: Vec<Name>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WireImage {
    pub names: Vec<Name>,
    pub size_bytes: i64,
}
