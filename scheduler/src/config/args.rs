//! Arguments of plugins. Upstream: staging kube-scheduler/config/v1/types_pluginargs.go.

use component::duration::GoDuration;
use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceSpec {
    pub name: String,
    pub weight: i64,
}

#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Shape {
    pub utilization: i32,
    pub score: i32,
}

/// Arguments of NodeResourcesFit.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct FitArgs {
    pub ignored_resources: Vec<String>,
    pub ignored_resource_groups: Vec<String>,
    pub scoring_strategy: Option<ScoringStrategy>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ScoringStrategy {
    #[serde(rename = "type")]
    pub kind: String,
    pub resources: Vec<ResourceSpec>,
    pub requested_to_capacity_ratio: Option<RatioParam>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RatioParam {
    pub shape: Vec<Shape>,
}

/// Arguments of NodeResourcesBalancedAllocation.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BalancedArgs {
    pub resources: Vec<ResourceSpec>,
}

/// Arguments of InterPodAffinity.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct InterPodArgs {
    pub hard_pod_affinity_weight: i64,
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodArgs {
    fn default() -> Self {
        Self { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

/// Arguments of NodeAffinity.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeAffinityArgs {
    pub added_affinity: Option<NodeAffinity>,
}

/// Arguments of PodTopologySpread.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SpreadArgs {
    pub default_constraints: Vec<TopologySpreadConstraint>,
    pub defaulting_type: String,
}

/// Arguments of DefaultPreemption.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct PreemptionArgs {
    pub min_candidate_nodes_percentage: i64,
    pub min_candidate_nodes_absolute: i64,
}

impl Default for PreemptionArgs {
    fn default() -> Self {
        Self { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

/// Arguments of VolumeBinding.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeBindingArgs {
    pub bind_timeout_seconds: i64,
    pub shape: Vec<Shape>,
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        let shape = vec![Shape { utilization: 0, score: 10 }, Shape { utilization: 100, score: 0 }];
        Self { bind_timeout_seconds: 600, shape }
    }
}

/// Arguments of DynamicResources.
#[derive(Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct DynamicResourcesArgs {
    /// How long devices are looked for on one node; no limit if zero.
    pub filter_timeout: GoDuration,
    /// How long drivers may take to make devices ready.
    pub binding_timeout: GoDuration,
}

impl Default for DynamicResourcesArgs {
    fn default() -> Self {
        let seconds = |s| GoDuration::from(std::time::Duration::from_secs(s));
        Self { filter_timeout: seconds(10), binding_timeout: seconds(600) }
    }
}
