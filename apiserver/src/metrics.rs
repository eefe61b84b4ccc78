//! Request metrics under upstream's names. Upstream: `k8s.io/apiserver/pkg/endpoints/metrics/metrics.go`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use component::metrics::{Counter, Family, Gauge, Histogram, Opts, Stability, exponential_buckets};
use http_body::Body;
use registry::api::RequestInfo;

use crate::web::Response;

const DURATIONS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];

struct Metrics {
    total: Family<Counter>,
    duration: Family<Histogram>,
    sizes: Family<Histogram>,
    in_flight: Family<Gauge>,
    long_running: Family<Gauge>,
    watch_events: Family<Counter>,
    aborted: Family<Counter>,
}

fn metrics() -> &'static Metrics {
    static ALL: OnceLock<Metrics> = OnceLock::new();
    const STABLE: Stability = Stability::Stable;
    ALL.get_or_init(|| Metrics {
        total: Family::counter(
            Opts::new(
                "apiserver_request_total",
                "Requests by verb, resource, scope, component and response code.",
            )
            .labels(&[
                "code",
                "component",
                "dry_run",
                "group",
                "resource",
                "scope",
                "subresource",
                "verb",
                "version",
            ])
            .stability(STABLE),
        ),
        duration: Family::histogram(
            Opts::new(
                "apiserver_request_duration_seconds",
                "Response latency in seconds by verb and resource.",
            )
            .labels(&["component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"])
            .stability(STABLE),
            &DURATIONS,
        ),
        sizes: Family::histogram(
            Opts::new("apiserver_response_sizes", "Response size in bytes by verb and resource.")
                .labels(&["component", "group", "resource", "scope", "subresource", "verb", "version"])
                .stability(STABLE),
            &exponential_buckets(1000.0, 10.0, 7),
        ),
        in_flight: Family::gauge(
            Opts::new("apiserver_current_inflight_requests", "Requests being handled, by kind.")
                .labels(&["request_kind"])
                .stability(STABLE),
        ),
        long_running: Family::gauge(
            Opts::new(
                "apiserver_longrunning_requests",
                "Long-running requests being served, by verb and resource.",
            )
            .labels(&["component", "group", "resource", "scope", "subresource", "verb", "version"])
            .stability(STABLE),
        ),
        watch_events: Family::counter(
            Opts::new("apiserver_watch_events_total", "Events sent to watch clients.")
                .labels(&["group", "resource", "version"])
                .stability(Stability::Beta),
        ),
        aborted: Family::counter(
            Opts::new(
                "apiserver_request_terminations_total",
                "Requests refused or ended by the server itself.",
            )
            .labels(&[
                "code",
                "component",
                "group",
                "resource",
                "scope",
                "subresource",
                "verb",
                "version",
            ]),
        ),
    })
}

/// What a request counts as.
pub(crate) struct Labels {
    verb: String,
    scope: &'static str,
    dry_run: &'static str,
    info: Arc<RequestInfo>,
    path: String,
}

impl Labels {
    /// The labels of a request. Unknown paths count without their path, so that strangers cannot make series.
    pub(crate) fn of(info: &Arc<RequestInfo>, method: &http::Method, apply: bool, dry_run: bool) -> Self {
        let verb = match info.verb.as_str() {
            _ if !info.is_resource_request => method.as_str().to_owned(),
            _ if matches!(info.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy") => {
                "CONNECT".to_owned()
            }
            "patch" if apply => "APPLY".to_owned(),
            "create" => "POST".to_owned(),
            "update" => "PUT".to_owned(),
            other => other.to_ascii_uppercase(),
        };
        let scope = match () {
            () if !info.is_resource_request => "",
            () if !info.name.is_empty() || info.verb == "create" => "resource",
            () if !info.namespace.is_empty() => "namespace",
            () => "cluster",
        };
        let known = [
            "/healthz",
            "/livez",
            "/readyz",
            "/metrics",
            "/version",
            "/api",
            "/apis",
            "/openapi/v2",
            "/openapi/v3",
        ];
        let path = known.iter().find(|p| info.path == **p).map_or(String::new(), |p| (*p).to_owned());
        Self { verb, scope, dry_run: if dry_run { "All" } else { "" }, info: info.clone(), path }
    }

    /// The verb, `LIST` or `APPLY` among them.
    pub(crate) fn verb(&self) -> &str {
        &self.verb
    }

    fn subresource(&self) -> &str {
        if self.info.is_resource_request { &self.info.subresource } else { &self.path }
    }

    fn component(&self) -> &'static str {
        if self.info.is_resource_request { "apiserver" } else { "" }
    }

    /// Counts a finished request. Requests whose resource does not exist are not told apart.
    pub(crate) fn finished(&self, response: &Response, took: Duration, long_running: bool) {
        let all = metrics();
        let code = response.status();
        let i = &self.info;
        let unknown = code.as_u16() == 404 && i.is_resource_request && i.name.is_empty();
        let resource = if unknown { "" } else { i.resource.as_str() };
        let (group, version) =
            if unknown { ("", "") } else { (i.api_group.as_str(), i.api_version.as_str()) };
        let (sub, component) = (if unknown { "" } else { self.subresource() }, self.component());
        let code = code.as_str();
        let labels = [code, component, self.dry_run, group, resource, self.scope, sub, &self.verb, version];
        all.total.with(&labels).inc();
        if code == "429" || code == "504" {
            all.aborted.with(&[code, component, group, resource, self.scope, sub, &self.verb, version]).inc();
        }
        if long_running {
            return;
        }
        all.duration.with(&labels[1..]).observe_duration(took);
        if let Some(size) =
            response.body().size_hint().exact().filter(|_| matches!(self.verb.as_str(), "GET" | "LIST"))
        {
            let labels = [component, group, resource, self.scope, sub, &self.verb, version];
            all.sizes.with(&labels).observe(size as f64);
        }
    }

    /// Counts a long-running request while the returned value lives.
    pub(crate) fn running(&self) -> Running {
        let i = &self.info;
        let labels = [
            self.component(),
            &i.api_group,
            &i.resource,
            self.scope,
            &i.subresource,
            &self.verb,
            &i.api_version,
        ];
        let gauge = metrics().long_running.with(&labels);
        gauge.inc();
        Running(gauge)
    }
}

/// A long-running request that is being served.
pub(crate) struct Running(Arc<Gauge>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A request that takes a seat.
pub(crate) fn seat(read_only: bool) -> Running {
    let kind = if read_only { "readOnly" } else { "mutating" };
    let gauge = metrics().in_flight.with(&[kind]);
    gauge.inc();
    Running(gauge)
}

/// Counter of watch events of a resource.
pub(crate) fn watch_events(info: &RequestInfo) -> Arc<Counter> {
    metrics().watch_events.with(&[&info.api_group, &info.resource, &info.api_version])
}
