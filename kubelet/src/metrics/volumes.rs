//! How long it takes to make volumes and to measure them. Upstream: pkg/kubelet/server/metrics/metrics.go,
//! pkg/volume/util/metrics.go, v1.37.

use std::sync::OnceLock;
use std::time::Duration;

use component::metrics::{Family, Histogram, Opts, Stability, default_registry};

use super::DEFAULT_BUCKETS;

const OPERATION_BUCKETS: [f64; 13] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];

fn durations() -> &'static Family<Histogram> {
    static DURATIONS: OnceLock<Family<Histogram>> = OnceLock::new();
    DURATIONS.get_or_init(|| {
        let opts = Opts::new(
            "kubelet_volume_metric_collection_duration_seconds",
            "Duration in seconds to calculate volume stats",
        );
        Family::registered(opts.labels(&["metric_source"]), &DEFAULT_BUCKETS, default_registry())
    })
}

fn operations() -> &'static Family<Histogram> {
    static OPERATIONS: OnceLock<Family<Histogram>> = OnceLock::new();
    OPERATIONS.get_or_init(|| {
        let opts = Opts::new("storage_operation_duration_seconds", "Storage operation duration")
            .labels(&["volume_plugin", "operation_name", "status", "migrated"])
            .stability(Stability::Beta);
        Family::registered(opts, &OPERATION_BUCKETS, default_registry())
    })
}

/// Registers.
pub fn install() {
    durations();
    operations();
}

/// A volume was made or brought up to date, or could not be. Upstream: pkg/volume/util/metrics.go.
pub fn mounted_in(plugin: &str, succeeded: bool, took: Duration) {
    let status = if succeeded { "success" } else { "fail-unknown" };
    operations().with(&[plugin, "volume_mount", status, "false"]).observe_duration(took);
}

/// Notes that measuring one volume took so long; `source` is `du` or `statfs`.
pub fn measured(source: &str, took: Duration) {
    durations().with(&[source]).observe_duration(took);
}
