//! Device plugins. Upstream: pkg/kubelet/metrics/metrics.go, v1.37.

use std::sync::OnceLock;
use std::time::Duration;

use component::metrics::{Counter, Family, Histogram, Opts, default_registry};

/// Upstream's default buckets.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

struct Families {
    registrations: Family<Counter>,
    allocations: Family<Histogram>,
}

fn families() -> &'static Families {
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    FAMILIES.get_or_init(|| Families {
        registrations: Family::registered(
            Opts::new(
                "kubelet_device_plugin_registration_total",
                "Cumulative number of device plugin registrations. Broken down by resource name.",
            )
            .labels(&["resource_name"]),
            &[],
            default_registry(),
        ),
        allocations: Family::registered(
            Opts::new(
                "kubelet_device_plugin_alloc_duration_seconds",
                "Duration in seconds to serve a device plugin Allocation request. Broken down by resource name.",
            )
            .labels(&["resource_name"]),
            &BUCKETS,
            default_registry(),
        ),
    })
}

/// Registers.
pub fn install() {
    families();
}

/// A plugin asked to be registered.
pub fn registered(resource: &str) {
    families().registrations.with(&[resource]).inc();
}

/// A plugin was asked for devices.
pub fn allocated(resource: &str, took: Duration) {
    families().allocations.with(&[resource]).observe(took.as_secs_f64());
}
