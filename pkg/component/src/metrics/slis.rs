//! `/metrics/slis`: results of health checks as a gauge and a counter.
//! Upstream: component-base/metrics/prometheus/slis.

use std::sync::OnceLock;

use super::{Counter, Family, Gauge, Opts, Registry, Stability};

/// The registry of `/metrics/slis`.
pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::default)
}

fn families() -> &'static (Family<Gauge>, Family<Counter>) {
    static FAMILIES: OnceLock<(Family<Gauge>, Family<Counter>)> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        let gauge =
            Opts::new("kubernetes_healthcheck", "This metric records the result of a single healthcheck.")
                .labels(&["name", "type"])
                .stability(Stability::Stable);
        let counter =
            Opts::new("kubernetes_healthchecks_total", "This metric records the results of all healthcheck.")
                .labels(&["name", "type", "status"])
                .stability(Stability::Stable);
        (Family::registered(gauge, &[], registry()), Family::registered(counter, &[], registry()))
    })
}

/// Records one check of an endpoint (`healthz`, `livez`, `readyz`).
pub fn observe(name: &str, endpoint: &str, healthy: bool) {
    let (gauge, counter) = families();
    gauge.with(&[name, endpoint]).set(f64::from(u8::from(healthy)));
    counter.with(&[name, endpoint, if healthy { "success" } else { "error" }]).inc();
}
