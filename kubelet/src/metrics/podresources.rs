//! Questions about what containers were given. Upstream: pkg/kubelet/metrics/metrics.go, v1.37.

use std::sync::OnceLock;

use component::metrics::{Counter, Family, Opts, default_registry};

/// Questions of the newer version.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// About all pods.
    List,
    /// About the node.
    GetAllocatable,
    /// About one pod.
    Get,
}

struct Families {
    all: Family<Counter>,
    list: Family<Counter>,
    allocatable: Family<Counter>,
    get: Family<Counter>,
    get_errors: Family<Counter>,
    _never: [Family<Counter>; 2],
}

fn counter(name: &'static str, help: &'static str) -> Family<Counter> {
    Family::registered(Opts::new(name, help).labels(&["server_api_version"]), &[], default_registry())
}

fn families() -> &'static Families {
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    FAMILIES.get_or_init(|| Families {
        all: counter(
            "kubelet_pod_resources_endpoint_requests_total",
            "Cumulative number of requests to the PodResource endpoint. Broken down by server api version.",
        ),
        list: counter(
            "kubelet_pod_resources_endpoint_requests_list",
            "Number of requests to the PodResource List endpoint. Broken down by server api version.",
        ),
        allocatable: counter(
            "kubelet_pod_resources_endpoint_requests_get_allocatable",
            "Number of requests to the PodResource GetAllocatableResources endpoint. Broken down by server api version.",
        ),
        get: counter(
            "kubelet_pod_resources_endpoint_requests_get",
            "Number of requests to the PodResource Get endpoint. Broken down by server api version.",
        ),
        get_errors: counter(
            "kubelet_pod_resources_endpoint_errors_get",
            "Number of requests to the PodResource Get endpoint which returned error. Broken down by server api version.",
        ),
        // These questions have always an answer.
        _never: [
            counter(
                "kubelet_pod_resources_endpoint_errors_list",
                "Number of requests to the PodResource List endpoint which returned error. Broken down by server api version.",
            ),
            counter(
                "kubelet_pod_resources_endpoint_errors_get_allocatable",
                "Number of requests to the PodResource GetAllocatableResources endpoint which returned error. Broken down by server api version.",
            ),
        ],
    })
}

/// Registers.
pub fn install() {
    families();
}

/// A question came in a version; the older one has only one question, which is not counted by itself.
pub fn asked(version: &str, call: Option<Call>) {
    let all = families();
    all.all.with(&[version]).inc();
    match call {
        Some(Call::List) => all.list.with(&[version]).inc(),
        Some(Call::GetAllocatable) => all.allocatable.with(&[version]).inc(),
        Some(Call::Get) => all.get.with(&[version]).inc(),
        None => {}
    }
}

/// There is no such pod.
pub fn not_found(version: &str) {
    families().get_errors.with(&[version]).inc();
}
