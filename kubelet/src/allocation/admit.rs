//! Whether a change of resources can be at all, before it is asked whether there is room.
//!
//! Upstream: podResizesAdmitHandler in pkg/kubelet/allocation/handlers.go, v1.37. That a node is too small for what is asked
//! is said by the API server; here it waits, as upstream.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::conditions::INFEASIBLE;
use super::resources::{containers, of_container, same_pod_level};
use crate::admission::Rejection;
use crate::pod::qos::{QosClass, qos_class};
use crate::pod::resources::{container_limits, container_requests, milli};
use crate::pod::view::PodView;

/// What the decision depends on besides the pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct Node {
    /// True if resources of a pod as a whole may change.
    pub pod_level: bool,
    /// True if containers have processors of their own.
    pub pinned_cpus: bool,
    /// True if containers have memory of their own.
    pub pinned_memory: bool,
    /// True if containers may have swap.
    pub swap: bool,
}

/// A refusal, and how it is counted.
pub type Refused = (Rejection, &'static str);

/// Whether the pod may have what it asks for in place of what it was promised.
///
/// # Errors
/// Why not; that never changes by itself.
pub fn resize(pod: &Pod, promised: &Pod, node: Node) -> Result<(), Refused> {
    let never = |message: &str, counted| {
        Err((Rejection { reason: INFEASIBLE.to_owned(), message: message.to_owned() }, counted))
    };
    if changes_swap(pod, promised, node) {
        return never("In-place resize of containers with swap is not supported.", "swap_limitation");
    }
    let level = |pod: &Pod| pod.spec().resources.clone();
    if !node.pod_level && !same_pod_level(level(pod).as_ref(), level(promised).as_ref()) {
        return never("InPlacePodLevelResourcesVerticalScaling is disabled", "plr_feature_gate_off");
    }
    let guaranteed = qos_class(pod) == QosClass::Guaranteed;
    if guaranteed && node.pinned_cpus && asks_for_other(pod, promised, "cpu") {
        return never(
            "Resize is infeasible for Guaranteed Pods alongside CPU Manager policy \"static\"",
            "guaranteed_pod_cpu_manager_static_policy",
        );
    }
    if guaranteed && node.pinned_memory && asks_for_other(pod, promised, "memory") {
        return never(
            "Resize is infeasible for Guaranteed Pods alongside Memory Manager policy \"Static\"",
            "guaranteed_pod_memory_manager_static_policy",
        );
    }
    Ok(())
}

fn requests(container: &Container, name: &str) -> i128 {
    let all = of_container(container);
    all.requests.as_ref().and_then(|list| list.get(name)).map(milli).unwrap_or_default()
}

/// Of guaranteed pods requests and limits are the same.
fn asks_for_other(pod: &Pod, promised: &Pod, name: &str) -> bool {
    containers(pod).any(|container| {
        let was = containers(promised).find(|was| was.name == container.name);
        was.map_or(0, |was| requests(was, name)) != requests(container, name)
    })
}

fn changes_swap(pod: &Pod, promised: &Pod, node: Node) -> bool {
    let restarts = |container: &Container| {
        let policy = container.resize_policy.iter().flatten().find(|policy| policy.resource_name == "memory");
        policy.is_some_and(|policy| policy.restart_policy == "RestartContainer")
    };
    node.swap
        && containers(pod).any(|container| {
            let Some(was) = containers(promised).find(|was| was.name == container.name) else { return false };
            requests(container, "memory") != requests(was, "memory")
                && !restarts(was)
                && (may_swap(pod, container) || may_swap(promised, was))
        })
}

/// Whether a container has a share of the machine's swap. Upstream: GetContainerSwapBehavior.
fn may_swap(pod: &Pod, container: &Container) -> bool {
    let (request, limit) =
        (container_requests(container).milli("memory"), container_limits(container).milli("memory"));
    !pod.is_critical() && qos_class(pod) == QosClass::Burstable && request != limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(old: Value, new: Value, node: Node, expected: Option<&str>) {
        let pod = |spec: Value| -> Pod { serde_json::from_value(json!({"spec": spec})).unwrap() };
        let refused = resize(&pod(new.clone()), &pod(old.clone()), node).err();
        assert_eq!(refused.map(|(_, counted)| counted), expected, "{old} {new}");
    }

    #[test]
    fn what_can_never_be() {
        let guaranteed = |cpu: &str, memory: &str| {
            let all = json!({"cpu": cpu, "memory": memory});
            json!({"containers": [{"name": "c", "resources": {"requests": all, "limits": all}}]})
        };
        let node = Node { pod_level: true, ..Node::default() };
        check(guaranteed("1", "1"), guaranteed("2", "2"), node, None);
        let cpus = Node { pinned_cpus: true, ..node };
        check(guaranteed("1", "1"), guaranteed("1000m", "2"), cpus, None);
        check(
            guaranteed("1", "1"),
            guaranteed("2", "1"),
            cpus,
            Some("guaranteed_pod_cpu_manager_static_policy"),
        );
        let memory = Node { pinned_memory: true, ..node };
        check(guaranteed("1", "1"), guaranteed("2", "1"), memory, None);
        let counted = Some("guaranteed_pod_memory_manager_static_policy");
        check(guaranteed("1", "1"), guaranteed("1", "2"), memory, counted);
        let burstable = |memory: &str, policy: &str| {
            json!({"containers": [{"name": "c", "resources": {"requests": {"memory": memory}},
                "resizePolicy": [{"resourceName": "memory", "restartPolicy": policy}]}]})
        };
        let swap = Node { swap: true, ..node };
        check(burstable("1", "NotRequired"), burstable("2", "NotRequired"), swap, Some("swap_limitation"));
        check(burstable("1", "NotRequired"), burstable("2", "NotRequired"), node, None);
        check(burstable("1", "RestartContainer"), burstable("2", "RestartContainer"), swap, None);
        check(guaranteed("1", "1"), guaranteed("1", "2"), swap, None);
        let level = json!({"containers": [], "resources": {"requests": {"cpu": "1"}}});
        check(json!({"containers": []}), level.clone(), node, None);
        check(json!({"containers": []}), level, Node::default(), Some("plr_feature_gate_off"));
    }
}
