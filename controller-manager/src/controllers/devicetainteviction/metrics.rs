//! Metrics of evictions, by upstream's names. Upstream: pkg/controller/devicetainteviction/metrics/metrics.go.

use std::sync::LazyLock;
use std::time::Duration;

use component::metrics::{Counter, Family, Histogram, Opts};

struct Families {
    total: Family<Counter>,
    seconds: Family<Histogram>,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| Families {
    total: Family::counter(Opts::new(
        "device_taint_eviction_controller_pod_deletions_total",
        "Total number of Pods deleted by DeviceTaintEvictionController since its start.",
    )),
    seconds: Family::histogram(
        Opts::new(
            "device_taint_eviction_controller_pod_deletion_duration_seconds",
            "Latency, in seconds, between the time when a device taint effect has been activated and a Pod's deletion via DeviceTaintEvictionController.",
        ),
        &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 120.0, 180.0, 240.0],
    ),
});

/// Counts a pod that was deleted this long after it had to leave.
pub fn deleted(late: Duration) {
    FAMILIES.total.with(&[]).inc();
    FAMILIES.seconds.with(&[]).observe(late.as_secs_f64());
}
