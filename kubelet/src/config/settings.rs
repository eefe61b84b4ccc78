//! What this kubelet acts upon, read from the merged document.

use std::collections::BTreeMap;
use std::time::Duration;

use component::duration::GoDuration;
use component::features::{Gate, Gates};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::eviction::threshold::{self, Signal, Source, Threshold};
use crate::image::gc::Policy as ImagePolicy;
use crate::memorymanager::reserved::MemoryReservation;
use crate::nodeshutdown::plan::Step;
use crate::pod::resources::whole;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The fields of the document that matter here; absent ones have their zero value, as upstream.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    pub enable_server: bool,
    pub static_pod_path: String,
    pub pod_logs_dir: String,
    pub file_check_frequency: GoDuration,
    pub http_check_frequency: GoDuration,
    #[serde(rename = "staticPodURL")]
    pub static_pod_url: String,
    #[serde(rename = "staticPodURLHeader")]
    pub static_pod_url_header: Value,
    pub address: String,
    pub port: u16,
    pub read_only_port: u16,
    pub tls_cert_file: String,
    pub tls_private_key_file: String,
    pub authentication: Authentication,
    pub authorization: Authorization,
    #[serde(rename = "eventRecordQPS")]
    pub event_record_qps: i64,
    pub enable_debugging_handlers: bool,
    pub healthz_port: u16,
    pub healthz_bind_address: String,
    pub oom_score_adj: i64,
    pub cluster_domain: String,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    pub streaming_connection_idle_timeout: GoDuration,
    pub node_status_update_frequency: GoDuration,
    pub node_status_report_frequency: GoDuration,
    pub node_lease_duration_seconds: i32,
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: GoDuration,
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: GoDuration,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u64,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u64,
    pub image_pull_credentials_verification_policy: String,
    pub preloaded_images_verification_allowlist: Vec<String>,
    pub kubelet_cgroups: String,
    pub system_cgroups: String,
    pub cgroup_root: String,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    pub cgroup_driver: String,
    #[serde(rename = "singleProcessOOMKill")]
    pub single_process_oom_kill: Option<bool>,
    pub cpu_manager_policy: String,
    pub cpu_manager_policy_options: BTreeMap<String, String>,
    pub cpu_manager_reconcile_period: GoDuration,
    pub memory_manager_policy: String,
    #[serde(deserialize_with = "super::load::reservations")]
    pub reserved_memory: Vec<MemoryReservation>,
    pub topology_manager_policy: String,
    pub topology_manager_scope: String,
    pub topology_manager_policy_options: BTreeMap<String, String>,
    pub runtime_request_timeout: GoDuration,
    pub volume_stats_agg_period: GoDuration,
    pub max_pods: i64,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    pub pod_pids_limit: i64,
    pub resolv_conf: String,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: GoDuration,
    pub node_status_max_images: i64,
    #[serde(rename = "kubeAPIQPS")]
    pub kube_api_qps: i64,
    #[serde(rename = "kubeAPIBurst")]
    pub kube_api_burst: u32,
    pub serialize_image_pulls: Option<bool>,
    pub max_parallel_image_pulls: Option<usize>,
    pub eviction_hard: Option<BTreeMap<String, String>>,
    pub eviction_soft: BTreeMap<String, String>,
    pub eviction_pressure_transition_period: GoDuration,
    pub kernel_memcg_notification: bool,
    pub pods_per_core: i64,
    pub enable_controller_attach_detach: bool,
    pub fail_swap_on: bool,
    pub container_log_max_size: String,
    pub container_log_max_files: usize,
    pub container_log_monitor_interval: GoDuration,
    pub config_map_and_secret_change_detection_strategy: String,
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    pub enforce_node_allocatable: Vec<String>,
    pub allowed_unsafe_sysctls: Vec<String>,
    pub default_pod_sysctls: BTreeMap<String, String>,
    #[serde(rename = "providerID")]
    pub provider_id: String,
    pub crash_loop_back_off: CrashLoopBackOff,
    pub seccomp_default: bool,
    pub local_storage_capacity_isolation: bool,
    pub register_with_taints: Value,
    pub register_node: bool,
    pub container_runtime_endpoint: String,
    pub image_service_endpoint: String,
    #[serde(rename = "failCgroupV1")]
    pub fail_cgroup_v1: bool,
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: bool,
    pub rotate_certificates: bool,
    pub tracing: Option<traces::Configuration>,
    pub feature_gates: BTreeMap<String, bool>,
    pub shutdown_grace_period: GoDuration,
    pub shutdown_grace_period_critical_pods: GoDuration,
    pub shutdown_grace_period_by_pod_priority: Vec<Step>,
    pub sync_frequency: GoDuration,
    pub tls_cipher_suites: Vec<String>,
    pub tls_curve_preferences: Vec<i64>,
    pub tls_min_version: String,
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: i64,
    pub registry_burst: i64,
    pub event_burst: i64,
    pub max_open_files: i64,
    pub content_type: String,
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    pub eviction_max_pod_grace_period: i64,
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    pub merge_default_eviction_settings: bool,
    pub protect_kernel_defaults: bool,
    #[serde(rename = "makeIPTablesUtilChains")]
    pub make_iptables_util_chains: bool,
    pub memory_swap: MemorySwap,
    #[serde(rename = "reservedSystemCPUs")]
    pub reserved_system_cpus: String,
    pub show_hidden_metrics_for_version: String,
    pub system_reserved_cgroup: String,
    pub kube_reserved_cgroup: String,
    pub logging: Value,
    pub user_namespaces: UserNamespaces,
    pub enable_system_log_handler: bool,
    pub enable_system_log_query: bool,
    pub enable_debug_flags_handler: bool,
    pub memory_throttling_factor: Option<f64>,
    pub memory_reservation_policy: String,
    pub qos_reserved: BTreeMap<String, String>,
    /// `--experimental-allocatable-ignore-eviction`: pods may have what hard thresholds keep free.
    #[serde(skip)]
    pub ignores_evictions: bool,
    /// The eviction thresholds, read from the fields above.
    #[serde(skip)]
    pub thresholds: Vec<Threshold>,
}

/// Ids of pods with user namespaces.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct UserNamespaces {
    #[serde(rename = "idsPerPod")]
    pub ids_per_pod: Option<i64>,
}

/// How much swap containers may use.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemorySwap {
    pub swap_behavior: String,
}

/// Who may talk to the kubelet.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    pub x509: X509,
    pub webhook: Webhook,
    pub anonymous: Anonymous,
}

/// Client certificates.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct X509 {
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: String,
}

/// Tokens and rights that the API server judges.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Webhook {
    pub enabled: bool,
    #[serde(rename = "cacheTTL")]
    pub cache_ttl: GoDuration,
    #[serde(rename = "cacheAuthorizedTTL")]
    pub cache_authorized_ttl: GoDuration,
    #[serde(rename = "cacheUnauthorizedTTL")]
    pub cache_unauthorized_ttl: GoDuration,
}

/// Requests without credentials.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Anonymous {
    pub enabled: bool,
}

/// Who may do what.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Authorization {
    pub mode: String,
    pub webhook: Webhook,
}

/// Pauses between restarts.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CrashLoopBackOff {
    pub max_container_restart_period: GoDuration,
}

impl Settings {
    /// Reads the merged document and checks what upstream checks.
    ///
    /// # Errors
    /// Every problem found.
    pub fn from_document(document: &Value) -> Result<Self, Vec<String>> {
        let mut settings: Self = serde_json::from_value(document.clone())
            .map_err(|e| vec![format!("invalid kubelet configuration: {e}")])?;
        let mut problems = super::validation::problems(&settings, document);
        problems.extend(super::support::problems(document));
        if let Err(error) = crate::cgroup::classes::reserved_percent(&settings.qos_reserved) {
            problems.push(format!("--qos-reserved value failed to parse: {error}"));
        }
        let source = Source {
            hard: settings.eviction_hard.as_ref(),
            soft: &settings.eviction_soft,
            grace: &settings.eviction_soft_grace_period,
            reclaim: &settings.eviction_minimum_reclaim,
            merge_defaults: settings.merge_default_eviction_settings,
        };
        match threshold::parse(&source) {
            Ok(thresholds) => settings.thresholds = thresholds,
            Err(error) => problems.push(error),
        }
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// Whether a gate is on; what is wrong with the gates themselves is told when they are installed.
    pub fn is_on(&self, gate: Gate) -> bool {
        let mut gates = Gates::default();
        let set = gates.set_map(&self.feature_gates);
        set.is_ok() && gates.enabled(gate)
    }

    /// Image pulls that may run at once; zero for no limit.
    pub fn parallel_pulls(&self) -> usize {
        let parallel = self.max_parallel_image_pulls.filter(|n| *n >= 2);
        if self.serialize_image_pulls.unwrap_or(parallel.is_none()) { 1 } else { parallel.unwrap_or(0) }
    }

    /// Bytes at which a container's log is rotated.
    pub fn log_max_size(&self) -> u64 {
        u64::try_from(whole(&Quantity(self.container_log_max_size.clone()))).unwrap_or(10 << 20)
    }

    /// Longest pause between restarts.
    pub fn longest_restart_pause(&self) -> Duration {
        match self.crash_loop_back_off.max_container_restart_period.to_std() {
            Duration::ZERO => Duration::from_secs(300),
            given => given,
        }
    }

    /// How often containers' processors are looked at.
    pub fn reconcile_period(&self) -> Duration {
        match self.cpu_manager_reconcile_period.to_std() {
            Duration::ZERO => Duration::from_secs(10),
            given => given,
        }
    }

    /// Thousandths of a reserved resource.
    pub fn reserved_milli(&self, name: &str) -> i64 {
        let one = |map: &BTreeMap<String, String>| {
            map.get(name).map_or(0, |text| crate::pod::resources::milli(&Quantity(text.clone())))
        };
        // A list of processors stands for both counts.
        match cpu_count(&self.reserved_system_cpus).filter(|count| name == "cpu" && *count > 0) {
            Some(count) => count.saturating_mul(1000),
            None => i64::try_from(one(&self.system_reserved) + one(&self.kube_reserved)).unwrap_or(i64::MAX),
        }
    }

    /// When unused images are removed.
    pub fn image_policy(&self) -> ImagePolicy {
        let percent = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        ImagePolicy {
            high: percent(self.image_gc_high_threshold_percent),
            low: percent(self.image_gc_low_threshold_percent),
            min_age: self.image_minimum_gc_age.to_std(),
            max_age: self.image_maximum_gc_age.to_std(),
        }
    }

    /// The eviction thresholds, those of all pods together among them if what they may have is limited.
    pub fn watched_thresholds(&self) -> Vec<Threshold> {
        let limited = self.enforce_node_allocatable.iter().any(|level| level == "pods");
        match limited && !self.ignores_evictions {
            true => threshold::with_allocatable(&self.thresholds),
            false => self.thresholds.clone(),
        }
    }

    /// Bytes (or inodes, or a share of `capacity`) that a hard eviction threshold keeps from pods; zero if none does.
    pub fn kept_free(&self, signal: Signal, capacity: i64) -> i64 {
        let mut all = self.thresholds.iter().filter(|_| !self.ignores_evictions);
        let found = all.find(|t| t.signal == signal && t.is_hard());
        found.map_or(0, |threshold| threshold.value.of(capacity))
    }
}

/// How many processors a list such as `0-3,8` names; `None` if it is none.
pub(super) fn cpu_count(list: &str) -> Option<i64> {
    let mut all = std::collections::BTreeSet::new();
    for part in list.split(',').filter(|_| !list.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
        if from > to {
            return None;
        }
        all.extend(from..=to);
    }
    i64::try_from(all.len()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn thresholds_keep_something_free() {
        let document = json!({"evictionHard": {"memory.available": "100Mi", "nodefs.available": "10%"}});
        let mut settings: Settings = serde_json::from_value(document).unwrap();
        let none = BTreeMap::new();
        let source = Source {
            hard: settings.eviction_hard.as_ref(),
            soft: &none,
            grace: &none,
            reclaim: &none,
            merge_defaults: false,
        };
        settings.thresholds = threshold::parse(&source).unwrap();
        let of =
            |settings: &Settings| [Signal::Memory, Signal::NodeSpace].map(|s| settings.kept_free(s, 1000));
        assert_eq!(of(&settings), [100 << 20, 100]);
        assert_eq!(settings.watched_thresholds().len(), 2);
        settings.enforce_node_allocatable = vec!["pods".to_owned()];
        assert_eq!(settings.watched_thresholds().len(), 3);
        settings.ignores_evictions = true;
        assert_eq!(of(&settings), [0, 0]);
        assert_eq!(settings.watched_thresholds().len(), 2);
    }

    #[test]
    fn counts_processors() {
        assert_eq!(["", "0", "0-3,8", "1,1-2"].map(cpu_count), [Some(0), Some(1), Some(5), Some(2)]);
        assert_eq!(["a", "3-1", "1,"].map(cpu_count), [None; 3]);
        let settings = Settings {
            reserved_system_cpus: "0-1".into(),
            system_reserved: BTreeMap::from([("cpu".to_owned(), "100m".to_owned())]),
            ..Settings::default()
        };
        assert_eq!(settings.reserved_milli("cpu"), 2000);
    }
}
