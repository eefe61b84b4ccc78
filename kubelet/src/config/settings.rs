//! What this kubelet acts upon, read from the merged document.

use std::collections::BTreeMap;
use std::time::Duration;

use component::duration::GoDuration;
use serde::Deserialize;
use serde_json::Value;

use crate::pod::resources::whole;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The fields of the document that matter here; absent ones have their zero value, as upstream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    pub enable_server: bool,
    pub static_pod_path: String,
    pub pod_logs_dir: String,
    pub file_check_frequency: GoDuration,
    #[serde(rename = "staticPodURL")]
    pub static_pod_url: String,
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
    pub cgroup_root: String,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    pub cgroup_driver: String,
    #[serde(rename = "singleProcessOOMKill")]
    pub single_process_oom_kill: Option<bool>,
    pub runtime_request_timeout: GoDuration,
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
    pub pods_per_core: i64,
    pub fail_swap_on: bool,
    pub container_log_max_size: String,
    pub container_log_max_files: usize,
    pub container_log_monitor_interval: GoDuration,
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    pub enforce_node_allocatable: Vec<String>,
    pub allowed_unsafe_sysctls: Vec<String>,
    #[serde(rename = "providerID")]
    pub provider_id: String,
    pub crash_loop_back_off: CrashLoopBackOff,
    pub seccomp_default: bool,
    pub register_with_taints: Value,
    pub register_node: bool,
    pub container_runtime_endpoint: String,
    pub image_service_endpoint: String,
    #[serde(rename = "failCgroupV1")]
    pub fail_cgroup_v1: bool,
    pub server_tls_bootstrap: bool,
    pub rotate_certificates: bool,
    pub cpu_manager_policy: String,
    pub memory_manager_policy: String,
    pub topology_manager_policy: String,
    pub feature_gates: BTreeMap<String, bool>,
}

/// Who may talk to the kubelet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    pub x509: X509,
    pub webhook: Webhook,
    pub anonymous: Anonymous,
}

/// Client certificates.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct X509 {
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: String,
}

/// Tokens and rights that the API server judges.
#[derive(Clone, Debug, Default, Deserialize)]
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
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Anonymous {
    pub enabled: bool,
}

/// Who may do what.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Authorization {
    pub mode: String,
    pub webhook: Webhook,
}

/// Pauses between restarts.
#[derive(Clone, Debug, Default, Deserialize)]
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
        let settings: Self = serde_json::from_value(document.clone())
            .map_err(|e| vec![format!("invalid kubelet configuration: {e}")])?;
        let problems = settings.problems();
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    fn problems(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut refuse = |bad: bool, text: &str| {
            if bad {
                out.push(format!("invalid configuration: {text}"));
            }
        };
        refuse(
            self.image_gc_high_threshold_percent > 100,
            "imageGCHighThresholdPercent (--image-gc-high-threshold) must be between 0 and 100, inclusive",
        );
        refuse(
            self.image_gc_low_threshold_percent >= self.image_gc_high_threshold_percent,
            "imageGCLowThresholdPercent (--image-gc-low-threshold) must be less than imageGCHighThresholdPercent (--image-gc-high-threshold)",
        );
        refuse(self.max_pods < 0, "maxPods (--max-pods) must not be a negative number");
        refuse(self.node_lease_duration_seconds <= 0, "nodeLeaseDurationSeconds must be greater than 0");
        refuse(self.container_log_max_files < 2, "containerLogMaxFiles must be at least 2");
        refuse(
            self.resolved_cgroup_driver().is_none(),
            "cgroupDriver must be cgroupfs; the systemd driver is not supported by this kubelet yet",
        );
        refuse(
            !matches!(self.cpu_manager_policy.as_str(), "" | "none"),
            "cpuManagerPolicy other than none is not supported by this kubelet yet",
        );
        refuse(
            !matches!(self.memory_manager_policy.as_str(), "" | "None"),
            "memoryManagerPolicy other than None is not supported by this kubelet yet",
        );
        refuse(
            !matches!(self.topology_manager_policy.as_str(), "" | "none"),
            "topologyManagerPolicy other than none is not supported by this kubelet yet",
        );
        refuse(
            !matches!(self.authorization.mode.as_str(), "AlwaysAllow" | "Webhook"),
            "authorization.mode must be AlwaysAllow or Webhook",
        );
        refuse(
            self.server_tls_bootstrap,
            "serverTLSBootstrap is not supported by this kubelet yet; give tlsCertFile and tlsPrivateKeyFile",
        );
        out
    }

    fn resolved_cgroup_driver(&self) -> Option<&'static str> {
        matches!(self.cgroup_driver.as_str(), "" | "cgroupfs").then_some("cgroupfs")
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

    /// Thousandths of a reserved resource.
    pub fn reserved_milli(&self, name: &str) -> i64 {
        let one = |map: &BTreeMap<String, String>| {
            map.get(name).map_or(0, |text| crate::pod::resources::milli(&Quantity(text.clone())))
        };
        i64::try_from(one(&self.system_reserved) + one(&self.kube_reserved)).unwrap_or(i64::MAX)
    }

    /// Bytes (or inodes, or a share of `capacity`) of a hard eviction threshold.
    pub fn hard_threshold(&self, signal: &str, capacity: i64) -> i64 {
        let defaults = |signal: &str| match signal {
            "memory.available" => Some("100Mi"),
            "nodefs.available" => Some("10%"),
            "imagefs.available" => Some("15%"),
            "nodefs.inodesFree" | "imagefs.inodesFree" => Some("5%"),
            _ => None,
        };
        let text = match &self.eviction_hard {
            Some(map) if !map.is_empty() => map.get(signal).map(String::as_str),
            _ => defaults(signal),
        };
        let Some(text) = text else { return 0 };
        match text.strip_suffix('%').and_then(|p| p.parse::<f64>().ok()) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "a share of a capacity"
            )]
            Some(percent) => (capacity as f64 * percent / 100.0) as i64,
            None => whole(&Quantity(text.to_owned())),
        }
    }
}
