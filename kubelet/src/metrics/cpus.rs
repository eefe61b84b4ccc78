//! Processors of their own for containers. Upstream: pkg/kubelet/metrics/metrics.go, v1.37.

use std::sync::OnceLock;
use std::time::Duration;

use component::metrics::{Counter, Family, Gauge, Histogram, Opts, default_registry, exponential_buckets};

struct Families {
    requests: Family<Counter>,
    errors: Family<Counter>,
    shared: Family<Gauge>,
    exclusive: Family<Gauge>,
    per_node: Family<Gauge>,
    aligned: Family<Counter>,
    not_aligned: Family<Counter>,
    admissions: Family<Counter>,
    refusals: Family<Counter>,
    durations: Family<Histogram>,
}

fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family<Counter> {
    Family::registered(Opts::new(name, help).labels(labels), &[], default_registry())
}

fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family<Gauge> {
    Family::registered(Opts::new(name, help).labels(labels), &[], default_registry())
}

fn families() -> &'static Families {
    const ALIGNMENT: &[&str] = &["scope", "boundary"];
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    FAMILIES.get_or_init(|| Families {
        requests: counter(
            "kubelet_cpu_manager_pinning_requests_total",
            "The number of cpu core allocations which required pinning.",
            &[],
        ),
        errors: counter(
            "kubelet_cpu_manager_pinning_errors_total",
            "The number of cpu core allocations which required pinning failed.",
            &[],
        ),
        shared: gauge(
            "kubelet_cpu_manager_shared_pool_size_millicores",
            "The size of the shared CPU pool for non-guaranteed QoS pods, in millicores.",
            &[],
        ),
        exclusive: gauge(
            "kubelet_cpu_manager_exclusive_cpu_allocation_count",
            "The total number of CPUs exclusively allocated to containers running on this node",
            &[],
        ),
        per_node: gauge(
            "kubelet_cpu_manager_allocation_per_numa",
            "Number of CPUs allocated per NUMA node",
            &["numa_node"],
        ),
        aligned: counter(
            "kubelet_container_aligned_compute_resources_count",
            "Cumulative number of aligned compute resources allocated to containers by alignment type.",
            ALIGNMENT,
        ),
        not_aligned: counter(
            "kubelet_container_aligned_compute_resources_failure_count",
            "Cumulative number of failures to allocate aligned compute resources to containers by alignment type.",
            ALIGNMENT,
        ),
        admissions: counter(
            "kubelet_topology_manager_admission_requests_total",
            "The number of admission requests where resources have to be aligned.",
            &[],
        ),
        refusals: counter(
            "kubelet_topology_manager_admission_errors_total",
            "The number of admission request failures where resources could not be aligned.",
            &[],
        ),
        durations: Family::registered(
            Opts::new(
                "kubelet_topology_manager_admission_duration_ms",
                "Duration in milliseconds to serve a pod admission request.",
            ),
            &exponential_buckets(0.05, 2.0, 15),
            default_registry(),
        ),
    })
}

fn float(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

/// Registers everything, so that it is there before anything happens.
pub fn install() {
    families();
}

/// Processors that may still be given, that are given, and of those how many on each NUMA node.
pub fn pool(available: usize, exclusive: usize, per_node: &[(u32, usize)]) {
    let all = families();
    all.shared.one().set(float(available) * 1000.0);
    all.exclusive.one().set(float(exclusive));
    for (node, count) in per_node {
        all.per_node.with(&[&node.to_string()]).set(float(*count));
    }
}

/// So many containers asked for processors of their own.
pub fn pinned(count: usize, failed: bool) {
    for _ in 0..count {
        families().requests.one().inc();
    }
    if failed {
        families().errors.one().inc();
    }
}

/// What containers got is close together, or they were refused because it could not be. `scope` is `container` or `pod`.
pub fn aligned(scope: &str, boundary: &str, success: bool, count: usize) {
    let all = families();
    let family = if success { &all.aligned } else { &all.not_aligned };
    for _ in 0..if success { count } else { 1 } {
        family.with(&[scope, boundary]).inc();
    }
}

/// A pod was looked at.
pub fn admitted(took: Duration, refused: bool) {
    let all = families();
    all.admissions.one().inc();
    if refused {
        all.refusals.one().inc();
    }
    all.durations.one().observe(took.as_secs_f64() * 1000.0);
}
