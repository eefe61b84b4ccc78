//! KubeSchedulerConfiguration `kubescheduler.config.k8s.io/v1`: fields, defaults, checks.
//! Upstream: staging kube-scheduler/config/v1, pkg/scheduler/apis/config/{v1,validation}.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use component::duration::GoDuration;
use component::flags::FlagSet;
use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const KIND: &str = "KubeSchedulerConfiguration";
const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";

/// The configuration.
#[derive(Deserialize, Serialize, Clone, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeSchedulerConfiguration {
    pub kind: String,
    pub api_version: String,
    pub parallelism: i32,
    pub leader_election: LeaderElection,
    pub client_connection: ClientConnection,
    pub enable_profiling: bool,
    pub enable_contention_profiling: bool,
    pub percentage_of_nodes_to_score: i32,
    pub pod_initial_backoff_seconds: i64,
    pub pod_max_backoff_seconds: i64,
    pub profiles: Vec<KubeSchedulerProfile>,
    pub extenders: Vec<Value>,
    pub delay_cache_until_active: bool,
}

impl Default for KubeSchedulerConfiguration {
    fn default() -> Self {
        Self {
            kind: KIND.into(),
            api_version: API_VERSION.into(),
            parallelism: 16,
            leader_election: LeaderElection::default(),
            client_connection: ClientConnection::default(),
            enable_profiling: true,
            enable_contention_profiling: true,
            percentage_of_nodes_to_score: 0,
            pod_initial_backoff_seconds: 1,
            pod_max_backoff_seconds: 10,
            profiles: Vec::new(),
            extenders: Vec::new(),
            delay_cache_until_active: false,
        }
    }
}

#[derive(Deserialize, Serialize, Clone, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderElection {
    pub leader_elect: bool,
    pub lease_duration: GoDuration,
    pub renew_deadline: GoDuration,
    pub retry_period: GoDuration,
    pub resource_lock: String,
    pub resource_name: String,
    pub resource_namespace: String,
}

impl Default for LeaderElection {
    fn default() -> Self {
        let seconds = |s| GoDuration::from(std::time::Duration::from_secs(s));
        Self {
            leader_elect: true,
            lease_duration: seconds(15),
            renew_deadline: seconds(10),
            retry_period: seconds(2),
            resource_lock: "leases".into(),
            resource_name: "kube-scheduler".into(),
            resource_namespace: "kube-system".into(),
        }
    }
}

#[derive(Deserialize, Serialize, Clone, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    pub kubeconfig: String,
    pub accept_content_types: String,
    pub content_type: String,
    pub qps: f32,
    pub burst: i32,
}

impl Default for ClientConnection {
    fn default() -> Self {
        Self {
            kubeconfig: String::new(),
            accept_content_types: String::new(),
            content_type: "application/vnd.kubernetes.protobuf".into(),
            qps: 50.0,
            burst: 100,
        }
    }
}

/// One scheduler within the process.
#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeSchedulerProfile {
    pub scheduler_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percentage_of_nodes_to_score: Option<i32>,
    /// By extension point.
    pub plugins: BTreeMap<String, PluginSet>,
    pub plugin_config: Vec<PluginConfig>,
}

#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginSet {
    pub enabled: Vec<PluginRef>,
    pub disabled: Vec<PluginRef>,
}

#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginRef {
    pub name: String,
    pub weight: i64,
}

#[derive(Deserialize, Serialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginConfig {
    pub name: String,
    pub args: Value,
}

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
    pub scoring_strategy: ScoringStrategy,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ScoringStrategy {
    #[serde(rename = "type")]
    pub kind: String,
    pub resources: Vec<ResourceSpec>,
    pub requested_to_capacity_ratio: RatioParam,
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

impl KubeSchedulerConfiguration {
    /// From `--config`, or from the flags it replaces.
    pub fn from_flags(flags: &FlagSet) -> Result<Self, Vec<String>> {
        let mut config = match flags.non_empty("config") {
            Some(path) => component::config::read::<Self>(Path::new(path), &[(API_VERSION, KIND)])
                .and_then(component::config::Decoded::strict)
                .map_err(|e| e.0.iter().map(ToString::to_string).collect::<Vec<_>>())?,
            None => Self::from_deprecated(flags),
        };
        if config.profiles.is_empty() {
            config.profiles.push(KubeSchedulerProfile::default());
        }
        if let [only] = config.profiles.as_mut_slice()
            && only.scheduler_name.is_empty()
        {
            only.scheduler_name = "default-scheduler".into();
        }
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the flag is a 32-bit float")]
    fn from_deprecated(flags: &FlagSet) -> Self {
        let mut config = Self::default();
        let client = &mut config.client_connection;
        client.kubeconfig = flags.string("kubeconfig").to_string();
        client.qps = flags.float("kube-api-qps") as f32;
        client.burst = i32::try_from(flags.int("kube-api-burst")).unwrap_or(i32::MAX);
        let leader = &mut config.leader_election;
        leader.leader_elect = flags.bool("leader-elect");
        leader.lease_duration = flags.duration("leader-elect-lease-duration").into();
        leader.renew_deadline = flags.duration("leader-elect-renew-deadline").into();
        leader.retry_period = flags.duration("leader-elect-retry-period").into();
        leader.resource_name = flags.string("leader-elect-resource-name").to_string();
        leader.resource_namespace = flags.string("leader-elect-resource-namespace").to_string();
        config
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.parallelism <= 0 {
            problems.push(format!(
                "parallelism: Invalid value: {}: should be an integer value greater than zero",
                self.parallelism
            ));
        }
        if !(0..=100).contains(&self.percentage_of_nodes_to_score) {
            problems.push(format!(
                "percentageOfNodesToScore: Invalid value: {}: not in valid range [0-100]",
                self.percentage_of_nodes_to_score
            ));
        }
        if self.pod_initial_backoff_seconds <= 0 {
            problems.push(format!(
                "podInitialBackoffSeconds: Invalid value: {}: must be greater than 0",
                self.pod_initial_backoff_seconds
            ));
        }
        if self.pod_max_backoff_seconds < self.pod_initial_backoff_seconds {
            problems.push(format!("podMaxBackoffSeconds: Invalid value: {}: must be greater than or equal to PodInitialBackoffSeconds", self.pod_max_backoff_seconds));
        }
        if !self.extenders.is_empty() {
            problems.push(
                "extenders: this scheduler does not call extenders yet; remove them from the configuration"
                    .into(),
            );
        }
        let mut names = BTreeSet::new();
        for (i, profile) in self.profiles.iter().enumerate() {
            if profile.scheduler_name.is_empty() {
                problems.push(format!("profiles[{i}].schedulerName: Required value"));
            }
            if !names.insert(&profile.scheduler_name) {
                problems.push(format!(
                    "profiles[{i}].schedulerName: Duplicate value: {:?}",
                    profile.scheduler_name
                ));
            }
        }
        problems
    }
}

impl KubeSchedulerProfile {
    /// Arguments of a plugin, or its defaults.
    pub fn args<T: Default + serde::de::DeserializeOwned>(&self, plugin: &str) -> Result<T, String> {
        let Some(found) = self.plugin_config.iter().find(|c| c.name == plugin) else {
            return Ok(T::default());
        };
        if found.args.is_null() {
            return Ok(T::default());
        }
        T::deserialize(&found.args).map_err(|e| format!("decoding args for plugin {plugin}: {e}"))
    }
}
