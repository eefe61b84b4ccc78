//! Where the client reports what it does. The daemon's metrics registry installs itself here.
//! Upstream: client-go/tools/metrics; series rest_client_requests_total, rest_client_request_duration_seconds,
//! rest_client_rate_limiter_duration_seconds, rest_client_request_retries_total.

use std::sync::OnceLock;
use std::time::Duration;

/// Receiver of observations.
pub trait Metrics: Send + Sync {
    /// rest_client_requests_total{code,method,host}.
    fn result(&self, code: &str, method: &str, host: &str);
    /// rest_client_request_duration_seconds{verb,host}.
    fn latency(&self, verb: &str, host: &str, took: Duration);
    /// rest_client_rate_limiter_duration_seconds{verb,host}.
    fn rate_limited(&self, verb: &str, host: &str, waited: Duration);
    /// rest_client_request_retries_total{code,verb,host}.
    fn retried(&self, host: &str, verb: &str, code: &str);
}

struct Nothing;

impl Metrics for Nothing {
    fn result(&self, _: &str, _: &str, _: &str) {}
    fn latency(&self, _: &str, _: &str, _: Duration) {}
    fn rate_limited(&self, _: &str, _: &str, _: Duration) {}
    fn retried(&self, _: &str, _: &str, _: &str) {}
}

static INSTALLED: OnceLock<Box<dyn Metrics>> = OnceLock::new();

/// Installs the receiver; the first one stays.
pub fn install(metrics: Box<dyn Metrics>) {
    let _ = INSTALLED.set(metrics);
}

pub(crate) fn get() -> &'static dyn Metrics {
    INSTALLED.get().map_or(&Nothing, |m| &**m)
}
