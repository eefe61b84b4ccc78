//! Availability of APIServices under upstream's names. Upstream: `kube-aggregator/pkg/controllers/status/metrics`.

use std::sync::OnceLock;

use component::metrics::{Counter, Family, Gauge, Opts};

struct Metrics {
    unavailable: Family<Gauge>,
    total: Family<Counter>,
}

fn metrics() -> &'static Metrics {
    static ALL: OnceLock<Metrics> = OnceLock::new();
    ALL.get_or_init(|| Metrics {
        unavailable: Family::gauge(
            Opts::new(
                "aggregator_unavailable_apiservice",
                "Gauge of APIServices which are marked as unavailable broken down by APIService name.",
            )
            .labels(&["name"]),
        ),
        total: Family::counter(
            Opts::new(
                "aggregator_unavailable_apiservice_total",
                "Counter of APIServices which are marked as unavailable broken down by APIService name and reason.",
            )
            .labels(&["name", "reason"]),
        ),
    })
}

/// The state after a look.
pub(super) fn available(name: &str, available: bool) {
    metrics().unavailable.with(&[name]).set(if available { 0.0 } else { 1.0 });
}

/// A condition was written that is not true.
pub(super) fn became_unavailable(name: &str, reason: &str) {
    metrics().total.with(&[name, reason]).inc();
}
