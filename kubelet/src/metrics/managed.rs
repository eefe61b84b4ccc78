//! What the managers of processors and memory gave, by where it came from; with the gate PodLevelResourceManagers only.
//! Upstream: pkg/kubelet/metrics/metrics.go, v1.37.

use std::sync::OnceLock;

use component::features::{self, Gate};
use component::metrics::{Counter, Family, Opts, default_registry};

struct Families {
    given: Family<Counter>,
    errors: Family<Counter>,
    containers: Family<Counter>,
}

fn families() -> Option<&'static Families> {
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    let counter = |name, help, labels| {
        Family::registered(Opts::new(name, help).labels(labels), &[], default_registry())
    };
    features::enabled(Gate::PodLevelResourceManagers).then(|| {
        FAMILIES.get_or_init(|| Families {
            given: counter(
                "kubelet_resource_manager_allocations_total",
                "Number of exclusive resource allocations performed by a resource manager.",
                &["resource_name", "source"],
            ),
            errors: counter(
                "kubelet_resource_manager_allocation_errors_total",
                "Number of errors encountered during exclusive resource allocation.",
                &["resource_name", "source"],
            ),
            containers: counter(
                "kubelet_resource_manager_container_assignments_total",
                "Number of containers with a specific type of resource assignment.",
                &["resource_name", "assignment_type"],
            ),
        })
    })
}

/// Registers everything, if it is to be there.
pub fn install() {
    families();
}

fn add(family: &Family<Counter>, labels: &[&str], count: usize) {
    for _ in 0..count {
        family.with(labels).inc();
    }
}

/// A container was given something of the node's, in so many parts if it is new, or was refused.
pub fn of_node(resource: &str, parts: usize, new: bool, success: bool) {
    let Some(all) = families() else { return };
    if !success {
        add(&all.errors, &[resource, "node"], 1);
    } else if new {
        add(&all.given, &[resource, "node"], parts);
        add(&all.containers, &[resource, "node_exclusive"], 1);
    }
}

/// A pod was given something of the node's as a whole: so many of its containers have parts for themselves, others share.
pub fn of_pod(resource: &str, exclusive: usize, sharing: usize, success: bool) {
    let Some(all) = families() else { return };
    if !success {
        add(&all.errors, &[resource, "pod"], 1);
        return;
    }
    add(&all.given, &[resource, "pod"], exclusive.saturating_add(sharing));
    add(&all.containers, &[resource, "pod_exclusive"], exclusive);
    add(&all.containers, &[resource, "pod_shared"], sharing);
}
