//! The API client's metrics under client-go's names. Upstream: component-base/metrics/prometheus/restclient.

use std::time::Duration;

use super::{Counter, Family, Histogram, Opts};

struct RestClient {
    requests: Family<Counter>,
    latency: Family<Histogram>,
    rate_limited: Family<Histogram>,
    retries: Family<Counter>,
}

/// Registers `rest_client_*` and makes the client report to them. Call once, before the first client is made.
pub fn install() {
    let latency = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
    let requests = "Number of HTTP requests, partitioned by status code, method, and host.";
    let slow = "Request latency in seconds. Broken down by verb, and host.";
    let limited = "Client side rate limiter latency in seconds. Broken down by verb, and host.";
    let retries = "Number of request retries, partitioned by status code, verb, and host.";
    let opts = Opts::new;
    client::metrics::install(Box::new(RestClient {
        requests: Family::counter(
            opts("rest_client_requests_total", requests).labels(&["code", "method", "host"]),
        ),
        latency: Family::histogram(
            opts("rest_client_request_duration_seconds", slow).labels(&["verb", "host"]),
            &latency,
        ),
        rate_limited: Family::histogram(
            opts("rest_client_rate_limiter_duration_seconds", limited).labels(&["verb", "host"]),
            &latency,
        ),
        retries: Family::counter(
            opts("rest_client_request_retries_total", retries).labels(&["code", "verb", "host"]),
        ),
    }));
}

impl client::metrics::Metrics for RestClient {
    fn result(&self, code: &str, method: &str, host: &str) {
        self.requests.with(&[code, method, host]).inc();
    }

    fn latency(&self, verb: &str, host: &str, took: Duration) {
        self.latency.with(&[verb, host]).observe_duration(took);
    }

    fn rate_limited(&self, verb: &str, host: &str, waited: Duration) {
        self.rate_limited.with(&[verb, host]).observe_duration(waited);
    }

    fn retried(&self, host: &str, verb: &str, code: &str) {
        self.retries.with(&[code, verb, host]).inc();
    }
}
