//! The proxy's own metrics, by upstream's names and buckets. Upstream: pkg/proxy/metrics/metrics.go.

use component::metrics::{Counter, Family, Gauge, Histogram, Opts, exponential_buckets};

/// Shared handles; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub sync_duration: Family<Histogram>,
    pub full_duration: Family<Histogram>,
    pub partial_duration: Family<Histogram>,
    pub last_sync: Family<Gauge>,
    pub sync_queued: Family<Gauge>,
    pub restore_failures: Family<Counter>,
    pub partial_failures: Family<Counter>,
    pub rules: Family<Gauge>,
    pub no_local: Family<Gauge>,
    pub healthz: Family<Counter>,
    pub livez: Family<Counter>,
}

const FAMILY: &[&str] = &["ip_family"];

impl Metrics {
    /// Registers all of them.
    pub fn register() -> Self {
        let spans = exponential_buckets(0.001, 2.0, 15);
        let span = |name, help| Family::histogram(Opts::new(name, help).labels(FAMILY), &spans);
        let gauge = |name, help, labels| Family::gauge(Opts::new(name, help).labels(labels));
        let counter = |name, help, labels| Family::counter(Opts::new(name, help).labels(labels));
        Self {
            sync_duration: span(
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "Seconds one synchronisation took",
            ),
            full_duration: span(
                "kubeproxy_sync_full_proxy_rules_duration_seconds",
                "Seconds a full one took",
            ),
            partial_duration: span(
                "kubeproxy_sync_partial_proxy_rules_duration_seconds",
                "Seconds a partial one took",
            ),
            last_sync: gauge(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "Time of the last success",
                FAMILY,
            ),
            sync_queued: gauge(
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                "Time a change was last queued",
                FAMILY,
            ),
            restore_failures: counter(
                "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
                "Failed loads",
                FAMILY,
            ),
            partial_failures: counter(
                "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
                "Failed partial loads",
                FAMILY,
            ),
            rules: gauge("kubeproxy_sync_proxy_rules_iptables_total", "Rules owned", &["table", "ip_family"]),
            no_local: gauge(
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                "Service ports with a Local policy and no local endpoint",
                &["traffic_policy", "ip_family"],
            ),
            healthz: counter("kubeproxy_proxy_healthz_total", "Answers of /healthz", &["code"]),
            livez: counter("kubeproxy_proxy_livez_total", "Answers of /livez", &["code"]),
        }
    }
}
