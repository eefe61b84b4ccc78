//! The kubelet's own metrics. Upstream: pkg/kubelet/metrics/metrics.go and pkg/kubelet/prober, v1.37.
//!
//! Not all of upstream's are here: those of parts that this kubelet lacks, and those about Go code, are missing.

pub mod admission;
pub mod cpus;
pub mod devices;
pub mod dra;
pub mod http;
pub mod images;
pub mod managed;
pub mod memory;
pub mod podresources;
pub mod pods;
pub mod podsapi;
pub mod resizes;
pub mod shutdown;
pub mod streams;
pub mod volumes;
pub mod work;

use std::sync::OnceLock;
use std::time::Duration;

use component::metrics::{
    Counter, Family, Gauge, Histogram, Opts, Registry, Stability, default_registry, exponential_buckets,
};
use cri::v1;

use crate::runtime::sketch::PodSketch;

struct Families {
    operations: Family<Counter>,
    durations: Family<Histogram>,
    errors: Family<Counter>,
    running_pods: Family<Gauge>,
    running_containers: Family<Gauge>,
    evictions: Family<Counter>,
    stats_age: Family<Histogram>,
    probes: Family<Counter>,
    probe_durations: Family<Histogram>,
}

const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The registry of `/metrics/probes`.
pub fn probe_registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::default)
}

fn families() -> &'static Families {
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        let main = default_registry();
        let by_type = |name, help| Opts::new(name, help).labels(&["operation_type"]);
        let durations = by_type(
            "kubelet_runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations. Broken down by operation type.",
        );
        let probes = Opts::new(
            "prober_probe_total",
            "Cumulative number of a liveness, readiness or startup probe for a container by result.",
        )
        .labels(&["probe_type", "result", "container", "pod", "namespace", "pod_uid"])
        .stability(Stability::Beta);
        let stats_age = Opts::new(
            "kubelet_eviction_stats_age_seconds",
            "Time between when stats are collected, and when pod is evicted based on those stats by eviction signal",
        )
        .labels(&["eviction_signal"]);
        let probe_durations =
            Opts::new("prober_probe_duration_seconds", "Duration in seconds for a probe response.")
                .labels(&["probe_type", "container", "pod", "namespace"]);
        Families {
            operations: Family::registered(
                by_type(
                    "kubelet_runtime_operations_total",
                    "Cumulative number of runtime operations by operation type.",
                ),
                &[],
                main,
            ),
            durations: Family::registered(durations, &exponential_buckets(0.005, 2.5, 14), main),
            errors: Family::registered(
                by_type(
                    "kubelet_runtime_operations_errors_total",
                    "Cumulative number of runtime operation errors by operation type.",
                ),
                &[],
                main,
            ),
            running_pods: Family::registered(
                Opts::new("kubelet_running_pods", "Number of pods that have a running pod sandbox"),
                &[],
                main,
            ),
            running_containers: Family::registered(
                Opts::new("kubelet_running_containers", "Number of containers currently running")
                    .labels(&["container_state"]),
                &[],
                main,
            ),
            evictions: Family::registered(
                Opts::new("kubelet_evictions", "Cumulative number of pod evictions by eviction signal")
                    .labels(&["eviction_signal"]),
                &[],
                main,
            ),
            stats_age: Family::registered(stats_age, &DEFAULT_BUCKETS, main),
            probes: Family::registered(probes, &[], probe_registry()),
            probe_durations: Family::registered(probe_durations, &DEFAULT_BUCKETS, probe_registry()),
        }
    })
}

/// Registers everything and starts counting calls to the runtime.
pub fn install(node: &str) {
    families();
    admission::install();
    cpus::install();
    devices::install();
    dra::install();
    http::install();
    images::install();
    managed::install();
    memory::install();
    podresources::install();
    pods::install();
    podsapi::install();
    resizes::install();
    shutdown::install();
    volumes::install();
    work::install();
    let name = Opts::new("kubelet_node_name", "The node's name. The count is always 1.").labels(&["node"]);
    Family::<Gauge>::registered(name, &[], default_registry()).with(&[node]).set(1.0);
    let provider = Opts::new(
        "kubelet_metrics_provider",
        "Metrics provider used by kubelet to collect container stats. Values can be 'cadvisor' and 'cri'",
    );
    // Figures of containers are read from control groups, as cAdvisor does.
    Family::<Gauge>::registered(provider.labels(&["provider"]), &[], default_registry())
        .with(&["cadvisor"])
        .set(1.0);
    cri::observe(|operation, took, failed| {
        let all = families();
        all.operations.with(&[operation]).inc();
        all.durations.with(&[operation]).observe_duration(took);
        if failed {
            all.errors.with(&[operation]).inc();
        }
    });
}

/// Shows the version of control groups.
pub fn cgroup_version(version: u8) {
    let opts = Opts::new("kubelet_cgroup_version", "cgroup version on the hosts.");
    Family::<Gauge>::registered(opts, &[], default_registry()).one().set(f64::from(version));
}

/// Warns that a later Kubernetes will not talk to this runtime.
pub fn runtime_loses_support(version: &str) {
    let opts = Opts::new(
        "kubelet_cri_losing_support",
        "the Kubernetes version that the currently running CRI implementation will lose support on if not upgraded.",
    )
    .labels(&["version"]);
    Family::<Gauge>::registered(opts, &[], default_registry()).with(&[version]).set(1.0);
}

/// Takes note of what runs on the runtime.
pub fn running<'a>(pods: impl Iterator<Item = &'a PodSketch>) {
    let state = |state: v1::ContainerState| i32::from(state);
    let mut counts = [
        ("created", state(v1::ContainerState::ContainerCreated), 0u32),
        ("exited", state(v1::ContainerState::ContainerExited), 0),
        ("running", state(v1::ContainerState::ContainerRunning), 0),
        ("unknown", state(v1::ContainerState::ContainerUnknown), 0),
    ];
    let mut ready = 0u32;
    for pod in pods {
        ready += u32::from(pod.sandboxes.iter().any(|sandbox| sandbox.ready));
        for container in &pod.containers {
            for (_, state, count) in &mut counts {
                *count += u32::from(*state == container.state);
            }
        }
    }
    let all = families();
    all.running_pods.one().set(f64::from(ready));
    for (name, _, count) in counts {
        all.running_containers.with(&[name]).set(f64::from(count));
    }
}

/// Counts an eviction for `signal`, such as `memory.available`.
pub fn evicted(signal: &str) {
    families().evictions.with(&[signal]).inc();
}

/// Takes note of how old the levels were by which pods are chosen for `signal`.
pub fn chosen_by_stats(signal: &str, age: Duration) {
    families().stats_age.with(&[signal]).observe_duration(age);
}

/// Whom a probe asks.
#[derive(Clone, Copy, Debug)]
pub struct Probed<'a> {
    /// `Liveness`, `Readiness` or `Startup`.
    pub kind: &'a str,
    /// The container.
    pub container: &'a str,
    /// The pod's name, namespace and id.
    pub pod: (&'a str, &'a str, &'a str),
}

/// Counts a probe. `result` is `successful`, `failed` or `unknown`.
pub fn probed(whom: Probed<'_>, result: &str, took: Duration) {
    let Probed { kind, container, pod: (name, namespace, uid) } = whom;
    families().probes.with(&[kind, result, container, name, namespace, uid]).inc();
    if result != "failed" {
        families().probe_durations.with(&[kind, container, name, namespace]).observe_duration(took);
    }
}

/// Forgets the probes of a container that is no longer asked.
pub fn forget_probes(whom: Probed<'_>) {
    let Probed { kind, container, pod: (name, namespace, uid) } = whom;
    for result in ["successful", "failed", "unknown"] {
        families().probes.remove(&[kind, result, container, name, namespace, uid]);
    }
    families().probe_durations.remove(&[kind, container, name, namespace]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_come_and_go() {
        let whom = Probed { kind: "Liveness", container: "c", pod: ("p", "n", "u") };
        probed(whom, "successful", Duration::from_millis(7));
        probed(whom, "failed", Duration::from_millis(7));
        let text = probe_registry().text();
        let line = |result: &str| {
            format!(
                "prober_probe_total{{container=\"c\",namespace=\"n\",pod=\"p\",pod_uid=\"u\",probe_type=\"Liveness\",result=\"{result}\"}} 1"
            )
        };
        assert!(text.contains(&line("successful")) && text.contains(&line("failed")), "{text}");
        assert!(text.contains("prober_probe_duration_seconds_count"));
        forget_probes(whom);
        assert!(!probe_registry().text().contains("pod_uid=\"u\""));
    }
}
