//! The proxy's own metrics, by upstream's names and buckets. Upstream: pkg/proxy/metrics/metrics.go.

use std::sync::Arc;

use component::metrics::{
    Counter, Family, Gauge, Histogram, Kind, Metrics as Collected, Opts, Sample, default_registry,
    exponential_buckets,
};

use crate::iptables::nfacct::{self, Accounts};

/// Shared handles; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub sync_duration: Family<Histogram>,
    pub full_duration: Family<Histogram>,
    pub partial_duration: Family<Histogram>,
    pub last_sync: Family<Gauge>,
    pub sync_queued: Family<Gauge>,
    /// Of the mode's program.
    pub failures: Family<Counter>,
    /// iptables only, as the next two.
    pub partial_failures: Option<Family<Counter>>,
    pub rules: Option<Family<Gauge>>,
    pub rules_last: Option<Family<Gauge>>,
    /// nftables only.
    pub cleanup_failures: Option<Family<Counter>>,
    pub programming: Family<Histogram>,
    pub service_changes: Arc<Counter>,
    pub endpoint_changes: Arc<Counter>,
    pub flows_duration: Family<Histogram>,
    pub flows_deleted: Family<Counter>,
    pub no_local: Family<Gauge>,
    pub healthz: Family<Counter>,
    pub livez: Family<Counter>,
}

const FAMILY: &[&str] = &["ip_family"];

impl Metrics {
    /// Registers those of a mode.
    pub fn register(mode: &str) -> Self {
        let iptables = mode == "iptables";
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
            failures: if mode != "nftables" {
                counter("kubeproxy_sync_proxy_rules_iptables_restore_failures_total", "Failed loads", FAMILY)
            } else {
                counter("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", "Failed loads", FAMILY)
            },
            partial_failures: iptables.then(|| {
                counter(
                    "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total",
                    "Failed partial loads",
                    FAMILY,
                )
            }),
            rules: iptables.then(|| {
                gauge("kubeproxy_sync_proxy_rules_iptables_total", "Rules owned", &["table", "ip_family"])
            }),
            rules_last: iptables.then(|| {
                let help = "Rules written by the last load";
                gauge("kubeproxy_sync_proxy_rules_iptables_last", help, &["table", "ip_family"])
            }),
            cleanup_failures: (mode == "nftables").then(|| {
                let help = "Failed removals of stale chains";
                counter("kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total", help, FAMILY)
            }),
            programming: Family::histogram(
                Opts::new(
                    "kubeproxy_network_programming_duration_seconds",
                    "Seconds from the change of an endpoint to its rules",
                )
                .labels(FAMILY),
                &programming_buckets(),
            ),
            service_changes: counter(
                "kubeproxy_sync_proxy_rules_service_changes_total",
                "Changes of Services seen",
                &[],
            )
            .one(),
            endpoint_changes: counter(
                "kubeproxy_sync_proxy_rules_endpoint_changes_total",
                "Changes of endpoint slices seen",
                &[],
            )
            .one(),
            flows_duration: span(
                "kubeproxy_conntrack_reconciler_sync_duration_seconds",
                "Seconds one look at UDP flows took",
            ),
            flows_deleted: counter(
                "kubeproxy_conntrack_reconciler_deleted_entries_total",
                "Stale UDP flows deleted",
                FAMILY,
            ),
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

/// Adds what the kernel counts for rules, asked at each scrape.
pub fn register_accounts(accounts: Accounts) {
    let shown = [
        (
            accounts.invalid_dropped,
            nfacct::INVALID_DROPPED,
            "kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
            "[ALPHA] Packets dropped as conntrack holds them for invalid",
        ),
        (
            accounts.localhost_accepted,
            nfacct::LOCALHOST_ACCEPTED,
            "kubeproxy_iptables_localhost_nodeports_accepted_packets_total",
            "[ALPHA] Packets to node ports on loopback that were let through",
        ),
    ];
    for (_, counter, name, help) in shown.into_iter().filter(|(there, ..)| *there) {
        let collect = move |out: &mut Vec<Collected>| match nfacct::packets(counter) {
            // Packets of a lifetime are fewer than a double is exact for.
            Ok(count) => out.push(Collected {
                name: name.into(),
                help: help.into(),
                kind: Kind::Counter,
                samples: vec![Sample::number(&[], count as f64)],
            }),
            Err(error) => tracing::warn!(counter, %error, "Reading a counter of the kernel's failed"),
        };
        default_registry().register_collector(Arc::new(collect));
    }
}

/// A quarter of a second to five minutes, ever coarser.
fn programming_buckets() -> Vec<f64> {
    let steps = |from: u32, step: u32, count: u32| (0..count).map(move |i| f64::from(from + step * i));
    [0.25, 0.5].into_iter().chain(steps(1, 1, 59)).chain(steps(60, 5, 12)).chain(steps(120, 30, 7)).collect()
}
