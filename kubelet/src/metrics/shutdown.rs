//! Times of the last shutdown of the node. Upstream: pkg/kubelet/metrics/metrics.go, v1.37.

use std::sync::OnceLock;

use component::metrics::{Family, Gauge, Opts, default_registry};

fn families() -> &'static (Family<Gauge>, Family<Gauge>) {
    static FAMILIES: OnceLock<(Family<Gauge>, Family<Gauge>)> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        let gauge = |name, help| Family::registered(Opts::new(name, help), &[], default_registry());
        (
            gauge(
                "kubelet_graceful_shutdown_start_time_seconds",
                "Last graceful shutdown start time since unix epoch in seconds",
            ),
            gauge(
                "kubelet_graceful_shutdown_end_time_seconds",
                "Last graceful shutdown end time since unix epoch in seconds",
            ),
        )
    })
}

/// Registers everything, so that it is there before anything happens.
pub fn install() {
    times(0.0, 0.0);
}

/// When it began and ended, in seconds since 1970; zero if it has not.
pub fn times(start: f64, end: f64) {
    let (begin, done) = families();
    begin.one().set(start);
    done.one().set(end);
}
