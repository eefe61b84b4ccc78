//! Questions about the node's pods, by how they were answered. Upstream: pkg/kubelet/metrics/metrics.go, v1.37.

use std::sync::OnceLock;

use component::metrics::{Counter, Family, Opts, default_registry};
use tonic::Code;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// All pods.
    List,
    /// One pod.
    Get,
    /// What happens.
    Watch,
}

struct Families {
    all: Family<Counter>,
    list: Family<Counter>,
    get: Family<Counter>,
    watch: Family<Counter>,
    dropped: Family<Counter>,
}

fn families() -> &'static Families {
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    let counter = |name, help| {
        let options = Opts::new(name, help).labels(&["server_api_version", "status_code"]);
        Family::registered(options, &[], default_registry())
    };
    FAMILIES.get_or_init(|| Families {
        all: counter(
            "kubelet_pod_requests_total",
            "Cumulative number of requests to the PodsAPI endpoint. Broken down by server api version and status code.",
        ),
        list: counter(
            "kubelet_pod_requests_list_total",
            "Number of requests to the PodsAPI List endpoint. Broken down by server api version and status code.",
        ),
        get: counter(
            "kubelet_pod_requests_get_total",
            "Number of requests to the PodsAPI Get endpoint. Broken down by server api version and status code.",
        ),
        watch: counter(
            "kubelet_pod_requests_watch_total",
            "Number of requests to the PodsAPI Watch endpoint. Broken down by server api version and status code.",
        ),
        dropped: Family::registered(
            Opts::new("kubelet_pod_watch_events_dropped_total", "Cumulative number of pod watch events dropped."),
            &[],
            default_registry(),
        ),
    })
}

/// Registers.
pub fn install() {
    // Upstream's shows zero from the start.
    families().dropped.one();
}

/// An answer was given.
pub fn answered(call: Call, code: Code) {
    let name = match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    };
    let (all, labels) = (families(), ["v1alpha1", name.as_str()]);
    all.all.with(&labels).inc();
    let own = match call {
        Call::List => &all.list,
        Call::Get => &all.get,
        Call::Watch => &all.watch,
    };
    own.with(&labels).inc();
}

/// A watcher was dropped because it did not listen.
pub fn dropped() {
    families().dropped.one().inc();
}
