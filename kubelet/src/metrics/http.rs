//! Requests to the kubelet's server.
//!
//! A stream that was upgraded counts until its answer is there; upstream's counts until it ends. Upstream:
//! pkg/kubelet/server/metrics/metrics.go, ServeHTTP in pkg/kubelet/server/server.go, v1.37.

use std::sync::OnceLock;
use std::time::Instant;

use component::metrics::{Counter, Family, Gauge, Histogram, Opts, default_registry};
use http::Method;

use super::DEFAULT_BUCKETS;

const LABELS: &[&str] = &["method", "path", "server_type", "long_running"];
/// First parts of paths that are told apart; of metrics two parts.
const PATHS: [&str; 20] = [
    "flagz",
    "statusz",
    "healthz",
    "pods",
    "stats",
    "metrics",
    "metrics/cadvisor",
    "metrics/probes",
    "metrics/resource",
    "run",
    "exec",
    "attach",
    "portForward",
    "containerLogs",
    "configz",
    "runningpods",
    "checkpoint",
    "pprof",
    "logs",
    "debug",
];

struct Families {
    requests: Family<Counter>,
    durations: Family<Histogram>,
    inflight: Family<Gauge>,
}

fn families() -> &'static Families {
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        let opts = |name, help| Opts::new(name, help).labels(LABELS);
        let requests = opts(
            "kubelet_http_requests_total",
            "Number of the http requests received since the server started",
        );
        let durations =
            opts("kubelet_http_requests_duration_seconds", "Duration in seconds to serve http requests");
        let inflight = opts("kubelet_http_inflight_requests", "Number of the inflight http requests");
        Families {
            requests: Family::registered(requests, &[], default_registry()),
            durations: Family::registered(durations, &DEFAULT_BUCKETS, default_registry()),
            inflight: Family::registered(inflight, &[], default_registry()),
        }
    })
}

/// Registers.
pub fn install() {
    families();
}

/// A request that is being answered, until it is dropped.
pub struct Observed {
    labels: [&'static str; 4],
    begin: Instant,
}

impl Observed {
    /// Counts a request; `secure` is false on the port without authentication.
    pub fn begin(method: &Method, path: &str, secure: bool) -> Self {
        let path = path_label(path);
        let long = matches!(path, "exec" | "attach" | "debug");
        let server = if secure { "readwrite" } else { "readonly" };
        let labels = [method_label(method), path, server, if long { "true" } else { "false" }];
        families().requests.with(&labels).inc();
        families().inflight.with(&labels).inc();
        Self { labels, begin: Instant::now() }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        families().inflight.with(&self.labels).dec();
        families().durations.with(&self.labels).observe_duration(self.begin.elapsed());
    }
}

fn method_label(method: &Method) -> &'static str {
    let all = ["OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"];
    all.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

fn path_label(path: &str) -> &'static str {
    let path = path.strip_prefix('/').unwrap_or(path);
    let mut parts = path.splitn(3, '/');
    let first = parts.next().unwrap_or_default();
    let end = match parts.next() {
        Some(second) if first == "metrics" => first.len() + 1 + second.len(),
        _ => first.len(),
    };
    let root = path.get(..end).unwrap_or_default();
    PATHS.into_iter().find(|name| *name == root).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_few() {
        for (path, label) in [
            ("/pods", "pods"),
            ("/containerLogs/ns/pod/c", "containerLogs"),
            ("/metrics", "metrics"),
            ("/metrics/", "other"),
            ("/metrics/cadvisor", "metrics/cadvisor"),
            ("/metrics/unknown", "other"),
            ("/%2e", "other"),
            ("", "other"),
        ] {
            assert_eq!(path_label(path), label, "{path}");
        }
        assert_eq!([Method::GET, Method::PATCH].map(|m| method_label(&m)), ["GET", "other"]);
    }
}
