//! Memory of their own for containers. Upstream: pkg/kubelet/metrics/metrics.go, v1.37.

use std::sync::OnceLock;

use component::metrics::{Counter, Family, Opts, default_registry};

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
}

/// Notes that a container was to get memory of its own.
pub fn pinned(failed: bool) {
    let all = families();
    all.requests.one().inc();
    if failed {
        all.errors.one().inc();
    }
}
