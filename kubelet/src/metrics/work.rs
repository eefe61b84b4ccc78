//! How long the kubelet's own work takes and how much of it there is: what dashboards of a node show first.
//!
//! Upstream: pkg/kubelet/metrics/metrics.go, v1.37; where each is observed, see there.

use std::sync::OnceLock;
use std::time::Duration;

use component::metrics::{Counter, Family, Gauge, Histogram, Opts, default_registry};

use super::DEFAULT_BUCKETS;

const START_BUCKETS: [f64; 25] = [
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0,
    480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

struct Families {
    worker: Family<Histogram>,
    pod_start: Family<Histogram>,
    cgroup: Family<Histogram>,
    relist: Family<Histogram>,
    relist_interval: Family<Histogram>,
    last_seen: Family<Gauge>,
    streams: Family<Counter>,
    stream_errors: Family<Counter>,
    event_delays: Family<Histogram>,
    pods: Family<Counter>,
    pod_errors: Family<Counter>,
    containers: Family<Counter>,
    container_errors: Family<Counter>,
    desired: Family<Gauge>,
    active: Family<Gauge>,
}

fn histogram(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    buckets: &[f64],
) -> Family<Histogram> {
    Family::registered(Opts::new(name, help).labels(labels), buckets, default_registry())
}

fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family<Counter> {
    Family::registered(Opts::new(name, help).labels(labels), &[], default_registry())
}

fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family<Gauge> {
    Family::registered(Opts::new(name, help).labels(labels), &[], default_registry())
}

fn families() -> &'static Families {
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    FAMILIES.get_or_init(|| Families {
        worker: histogram(
            "kubelet_pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
            &["operation_type"],
            &DEFAULT_BUCKETS,
        ),
        pod_start: histogram(
            "kubelet_pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
            &[],
            &START_BUCKETS,
        ),
        cgroup: histogram(
            "kubelet_cgroup_manager_duration_seconds",
            "Duration in seconds for cgroup manager operations. Broken down by method.",
            &["operation_type"],
            &DEFAULT_BUCKETS,
        ),
        relist: histogram(
            "kubelet_pleg_relist_duration_seconds",
            "Duration in seconds for relisting pods in PLEG.",
            &[],
            &DEFAULT_BUCKETS,
        ),
        relist_interval: histogram(
            "kubelet_pleg_relist_interval_seconds",
            "Interval in seconds between relisting in PLEG.",
            &[],
            &DEFAULT_BUCKETS,
        ),
        last_seen: gauge("kubelet_pleg_last_seen_seconds", "Timestamp in seconds when PLEG was last seen active.", &[]),
        streams: counter(
            "kubelet_evented_pleg_connection_success_count",
            "The number of times a streaming client was obtained to receive CRI Events.",
            &[],
        ),
        stream_errors: counter(
            "kubelet_evented_pleg_connection_error_count",
            "The number of errors encountered during the establishment of streaming connection with the CRI runtime.",
            &[],
        ),
        event_delays: histogram(
            "kubelet_evented_pleg_connection_latency_seconds",
            "The latency of streaming connection with the CRI runtime, measured in seconds.",
            &[],
            &DEFAULT_BUCKETS,
        ),
        pods: counter("kubelet_started_pods_total", "Cumulative number of pods started", &[]),
        pod_errors: counter("kubelet_started_pods_errors_total", "Cumulative number of errors when starting pods", &[]),
        containers: counter(
            "kubelet_started_containers_total",
            "Cumulative number of containers started",
            &["container_type"],
        ),
        container_errors: counter(
            "kubelet_started_containers_errors_total",
            "Cumulative number of errors when starting containers",
            &["container_type", "code"],
        ),
        desired: gauge(
            "kubelet_desired_pods",
            "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.",
            &["static"],
        ),
        active: gauge(
            "kubelet_active_pods",
            "The number of pods the kubelet considers active and which are being considered when admitting new pods. static is true if the pod is not from the apiserver.",
            &["static"],
        ),
    })
}

/// Registers everything, so that it is there before anything happens.
pub fn install() {
    families();
}

/// A worker has dealt with its pod. `operation` is `create`, `update`, `sync`, `kill` or `terminated`.
pub fn worked(operation: &str, took: Duration) {
    families().worker.with(&[operation]).observe_duration(took);
}

/// A pod runs, so long after it was first seen.
pub fn pod_runs(after: Duration) {
    families().pod_start.one().observe_duration(after);
}

/// A cgroup was handled. `operation` is `create`, `update` or `destroy`.
pub fn cgroup(operation: &str, took: Duration) {
    families().cgroup.with(&[operation]).observe_duration(took);
}

/// Everything on the runtime was compared, at a time in seconds since 1970 and so long after the last comparison.
pub fn relisted(at: f64, since_last: Option<Duration>, took: Duration) {
    let all = families();
    all.last_seen.one().set(at);
    all.relist.one().observe_duration(took);
    if let Some(since) = since_last {
        all.relist_interval.one().observe_duration(since);
    }
}

/// The runtime's events could be asked for, or not.
pub fn stream_opened(opened: bool) {
    let all = families();
    if opened { all.streams.one().inc() } else { all.stream_errors.one().inc() }
}

/// An event of the runtime came so long after it happened.
pub fn event_came(after: Duration) {
    families().event_delays.one().observe_duration(after);
}

/// A sandbox is about to be made.
pub fn pod_starts() {
    families().pods.one().inc();
}

/// A sandbox could not be made.
pub fn pod_failed() {
    families().pod_errors.one().inc();
}

/// A container is about to be started. `kind` is `container`, `init_container` or `ephemeral_container`.
pub fn container_starts(kind: &str) {
    families().containers.with(&[kind]).inc();
}

/// A container could not be started, and the reason that its pod shows.
pub fn container_failed(kind: &str, reason: &str) {
    families().container_errors.with(&[kind, reason]).inc();
}

/// Pods that are wanted and pods that count, each without and with those from files and URLs.
pub fn pods(desired: (usize, usize), active: (usize, usize)) {
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let all = families();
    for (family, (regular, from_files)) in [(&all.desired, desired), (&all.active, active)] {
        family.with(&[""]).set(number(regular));
        family.with(&["true"]).set(number(from_files));
    }
}
