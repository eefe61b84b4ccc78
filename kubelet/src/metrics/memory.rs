//! Memory of their own for containers, and memory that is kept for pods. Upstream: pkg/kubelet/metrics/metrics.go, v1.37.

use std::sync::OnceLock;

use component::features::{self, Gate};
use component::metrics::{Counter, Family, Gauge, Opts, default_registry};

struct Families {
    requests: Family<Counter>,
    errors: Family<Counter>,
}

fn families() -> &'static Families {
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        let counter = |name, help| Family::registered(Opts::new(name, help), &[], default_registry());
        Families {
            requests: counter(
                "kubelet_memory_manager_pinning_requests_total",
                "The number of memory pages allocations which required pinning.",
            ),
            errors: counter(
                "kubelet_memory_manager_pinning_errors_total",
                "The number of memory pages allocations which required pinning that failed.",
            ),
        }
    })
}

/// Registers.
pub fn install() {
    let all = families();
    // Upstream's show zero from the start.
    all.requests.one();
    all.errors.one();
    if features::enabled(Gate::MemoryQoS) {
        kept(0, 0);
    }
}

fn gauges() -> &'static (Family<Gauge>, Family<Gauge>) {
    static GAUGES: OnceLock<(Family<Gauge>, Family<Gauge>)> = OnceLock::new();
    GAUGES.get_or_init(|| {
        let gauge = |name, help| Family::registered(Opts::new(name, help), &[], default_registry());
        (
            gauge(
                "kubelet_memory_qos_node_memory_min_bytes",
                "Total cgroup v2 memory.min in bytes for Guaranteed pods. This memory is hard-reserved and never reclaimed by the kernel.",
            ),
            gauge(
                "kubelet_memory_qos_node_memory_low_bytes",
                "Total cgroup v2 memory.low in bytes for Burstable pods. This memory is soft-reserved and may be reclaimed under extreme pressure.",
            ),
        )
    })
}

/// Bytes that the kernel keeps for guaranteed and, as long as it can, for burstable pods.
#[expect(clippy::cast_precision_loss, reason = "metrics are of that type")]
pub fn kept(guaranteed: i64, burstable: i64) {
    let (min, low) = gauges();
    min.one().set(guaranteed as f64);
    low.one().set(burstable as f64);
}

/// Notes that so many containers were to get memory of their own.
pub fn pinned(count: usize, failed: bool) {
    let all = families();
    for _ in 0..count {
        all.requests.one().inc();
    }
    if failed {
        all.errors.one().inc();
    }
}
