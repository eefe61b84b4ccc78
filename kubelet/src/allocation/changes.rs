//! What changed in the resources that a pod asks for, and whether pods gave something back.
//!
//! Upstream: recordResizeOperations and HandlePodReconcile in pkg/kubelet/kubelet.go, v1.37.

use k8s_openapi::api::core::v1::Pod;

use super::resources::{containers, same_pod_level};
use crate::pod::resources::{Amounts, container_limits, container_requests, current_requests, pod_requests};
use crate::pod::view::PodView;

/// One change of one container: the resource, `requests` or `limits`, and what was done.
pub type Change = (&'static str, &'static str, &'static str);

/// What was done to a resource; `None` if it is the same.
fn operation(old: &Amounts, new: &Amounts, name: &str) -> Option<&'static str> {
    let amount = |all: &Amounts| all.0.get(name).copied().unwrap_or_default();
    match (amount(old), amount(new)) {
        (old, new) if old == new => None,
        (_, 0) => Some("remove"),
        (0, _) => Some("add"),
        (old, new) => Some(if new < old { "decrease" } else { "increase" }),
    }
}

/// What changed in the containers.
pub fn of_containers(old: &Pod, new: &Pod) -> Vec<Change> {
    let mut out = Vec::new();
    for (was, is) in
        containers(old).filter_map(|was| Some((was, containers(new).find(|c| c.name == was.name)?)))
    {
        if was.resources == is.resources {
            continue;
        }
        let requests = (container_requests(was), container_requests(is));
        let limits = (container_limits(was), container_limits(is));
        for (resource, requirement, (was, is)) in [
            ("memory", "requests", &requests),
            ("memory", "limits", &limits),
            ("cpu", "requests", &requests),
            ("cpu", "limits", &limits),
        ] {
            out.extend(operation(was, is, resource).map(|done| (resource, requirement, done)));
        }
    }
    out
}

/// True if the pod as a whole asks for something else.
pub fn pod_level(old: &Pod, new: &Pod) -> bool {
    !same_pod_level(old.spec().resources.as_ref(), new.spec().resources.as_ref())
}

fn any(f: impl Fn(&str) -> bool) -> bool {
    ["cpu", "memory"].into_iter().any(f)
}

/// True if the pod asks for more than it was promised. Upstream: isResizeIncreasingRequests.
pub fn asks_for_more(promised: &Pod, pod: &Pod) -> bool {
    let (old, new) = (pod_requests(promised), pod_requests(pod));
    any(|name| new.milli(name) > old.milli(name))
}

/// True if, of two versions of a pod with what it was promised, the newer one's status shows that it has given something
/// back.
pub fn gave_back(old: &Pod, new: &Pod) -> bool {
    let (old, new) = (current_requests(old), current_requests(new));
    any(|name| new.milli(name) < old.milli(name))
}
