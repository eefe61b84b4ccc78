//! KubeSchedulerConfiguration `kubescheduler.config.k8s.io/v1`: fields, defaults, checks.
//! Upstream: staging kube-scheduler/config/v1, pkg/scheduler/apis/config/{v1,validation}.

use std::collections::BTreeMap;

use component::duration::GoDuration;
use component::features::Gates;
use component::flags::FlagSet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod args;
mod args_validation;
mod decode;
mod extender;
mod schema;
mod validation;
mod written;

pub use args::{
    BalancedArgs, DynamicResourcesArgs, FitArgs, InterPodArgs, NodeAffinityArgs, PreemptionArgs,
    ResourceSpec, Shape, SpreadArgs, VolumeBindingArgs,
};
pub use args_validation::fit_problems;
pub use extender::Extender;
pub use written::written;

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
    pub extenders: Vec<Extender>,
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

impl PluginRef {
    /// Its weight; a plugin that is on counts.
    pub fn weight_or_one(&self) -> i64 {
        if self.weight == 0 { 1 } else { self.weight }
    }
}

impl KubeSchedulerConfiguration {
    /// From `--config`, or from the flags it replaces.
    pub fn from_flags(flags: &FlagSet, gates: &Gates) -> Result<Self, Vec<String>> {
        let config = match flags.non_empty("config") {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| vec![unreadable(path, &e)])?;
                decode::config(path, &text).map_err(|problem| vec![problem])?
            }
            None => Self::from_deprecated(flags),
        };
        config.completed(gates)
    }

    /// With what goes without saying, and checked. Upstream: SetDefaults_KubeSchedulerConfiguration.
    fn completed(mut self, gates: &Gates) -> Result<Self, Vec<String>> {
        let (config, default) = (&mut self, Self::default());
        let text = |own: &mut String, usual: String| {
            if own.is_empty() {
                *own = usual;
            }
        };
        let span = |own: &mut GoDuration, usual: GoDuration| {
            if own.as_secs_f64() == 0.0 {
                *own = usual;
            }
        };
        let (leader, usual) = (&mut config.leader_election, default.leader_election);
        text(&mut leader.resource_lock, usual.resource_lock);
        text(&mut leader.resource_name, usual.resource_name);
        text(&mut leader.resource_namespace, usual.resource_namespace);
        span(&mut leader.lease_duration, usual.lease_duration);
        span(&mut leader.renew_deadline, usual.renew_deadline);
        span(&mut leader.retry_period, usual.retry_period);
        let (client, usual) = (&mut config.client_connection, default.client_connection);
        text(&mut client.content_type, usual.content_type);
        if client.qps == 0.0 {
            client.qps = usual.qps;
        }
        if client.burst == 0 {
            client.burst = usual.burst;
        }
        if config.profiles.is_empty() {
            config.profiles.push(KubeSchedulerProfile::default());
        }
        if let [only] = config.profiles.as_mut_slice()
            && only.scheduler_name.is_empty()
        {
            only.scheduler_name = "default-scheduler".into();
        }
        let problems = validation::problems(config, gates);
        if problems.is_empty() { Ok(self) } else { Err(problems) }
    }

    /// Profiles whose resource checks leave out what extenders manage alone. Upstream: buildExtenders.
    pub fn profiles_with_extenders(&self) -> Vec<KubeSchedulerProfile> {
        let managed = self.extenders.iter().flat_map(|e| &e.managed_resources);
        let ignored: Vec<&str> =
            managed.filter(|r| r.ignored_by_scheduler).map(|r| r.name.as_str()).collect();
        let mut profiles = self.profiles.clone();
        if ignored.is_empty() {
            return profiles;
        }
        for profile in &mut profiles {
            let list = &mut profile.plugin_config;
            let at = list.iter().position(|c| c.name == "NodeResourcesFit").unwrap_or_else(|| {
                list.push(PluginConfig { name: "NodeResourcesFit".into(), args: serde_json::json!({}) });
                list.len() - 1
            });
            list[at].args["ignoredResources"] = serde_json::json!(ignored);
        }
        profiles
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
}

/// As Go says it.
pub fn unreadable(path: &str, error: &std::io::Error) -> String {
    let text = error.to_string();
    let (why, _) = text.split_once(" (os error").unwrap_or((&text, ""));
    format!("open {path}: {}", why.to_lowercase())
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
