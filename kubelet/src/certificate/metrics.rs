//! Metrics of certificates. Upstream: pkg/kubelet/certificate/kubelet.go and cmd/kubelet/app/server.go, v1.37.

use std::sync::{Arc, OnceLock};

use component::metrics::{Counter, Family, Histogram, Kind, Metrics, Opts, Sample, default_registry};
use k8s_openapi::jiff::Timestamp;

use super::manager::Current;

/// Buckets from a minute to four years.
const AGES: [f64; 10] = [
    60.0,
    3_600.0,
    14_400.0,
    86_400.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
    124_416_000.0,
];

static CLIENT_ERRORS: OnceLock<Family<Counter>> = OnceLock::new();
static SERVER_ERRORS: OnceLock<Family<Counter>> = OnceLock::new();
static SERVER_AGES: OnceLock<Family<Histogram>> = OnceLock::new();

/// Failed renewals of the client certificate.
pub fn client_errors() -> Arc<Counter> {
    let make = || {
        let opts = Opts::new(
            "kubelet_certificate_manager_client_expiration_renew_errors",
            "Counter of certificate renewal errors.",
        );
        Family::registered(opts, &[], default_registry())
    };
    CLIENT_ERRORS.get_or_init(make).one()
}

/// Failed renewals of the serving certificate.
pub fn server_errors() -> Arc<Counter> {
    let make = || {
        let opts =
            Opts::new("kubelet_server_expiration_renew_errors", "Counter of certificate renewal errors.");
        Family::registered(opts, &[], default_registry())
    };
    SERVER_ERRORS.get_or_init(make).one()
}

/// How long serving certificates lived before they were replaced.
pub fn server_ages() -> Arc<Histogram> {
    let make = || {
        let opts = Opts::new(
            "kubelet_certificate_manager_server_rotation_seconds",
            "Histogram of the number of seconds the previous certificate lived before being rotated.",
        );
        Family::registered(opts, &AGES, default_registry())
    };
    SERVER_AGES.get_or_init(make).one()
}

/// Shows how long a certificate is still valid; without one, for ever.
pub fn show_time_left(name: &'static str, help: &'static str, current: Current) {
    let left = |pair: &super::pair::Pair| {
        #[expect(clippy::cast_precision_loss, reason = "a number of seconds")]
        let seconds = Timestamp::now().duration_until(pair.leaf.not_after).as_secs() as f64;
        seconds
    };
    default_registry().register_collector(Arc::new(move |out: &mut Vec<Metrics>| {
        let value = current.load().as_ref().map_or(f64::INFINITY, |pair| left(pair));
        out.push(Metrics {
            name: name.to_owned(),
            help: format!("[ALPHA] {help}"),
            kind: Kind::Gauge,
            samples: vec![Sample::number(&[], value)],
        });
    }));
}
