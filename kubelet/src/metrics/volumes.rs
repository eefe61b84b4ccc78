//! How long it takes to measure volumes. Upstream: pkg/kubelet/server/metrics/metrics.go, v1.37.

use std::sync::OnceLock;
use std::time::Duration;

use component::metrics::{Family, Histogram, Opts, default_registry};

use super::DEFAULT_BUCKETS;

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

/// Registers.
pub fn install() {
    durations();
}

/// Notes that measuring one volume took so long; `source` is `du` or `statfs`.
pub fn measured(source: &str, took: Duration) {
    durations().with(&[source]).observe_duration(took);
}
