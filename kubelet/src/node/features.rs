//! What this node can do that pods may need: declared in its status, and asked before a pod is taken.
//!
//! Of upstream's list three are never declared, because they are not here: InPlacePodVerticalScalingMemoryBackedVolumes,
//! VolumeBindMountOptions and DRANodeAllocatableResources; all are off by default. Upstream: component-helpers/nodedeclaredfeatures, and
//! declaredFeaturesAdmitHandler in pkg/kubelet/lifecycle/handlers.go, v1.37.

use component::features::Gate;
use cri::v1::RuntimeFeatures;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::admission::Rejection;
use crate::pod::view::{PodView, init_containers};

/// Features in the order in which they are declared; each goes with the gate of its name.
const ALL: [(&str, Gate); 6] = [
    ("DRAOptionalNodeOperations", Gate::DRAOptionalNodeOperations),
    ("ExtendWebSocketsToKubelet", Gate::ExtendWebSocketsToKubelet),
    ("InPlacePodLevelResourcesVerticalScaling", Gate::InPlacePodLevelResourcesVerticalScaling),
    ("InPlacePodVerticalScalingInitContainers", Gate::InPlacePodVerticalScalingInitContainers),
    (RESTART_ALL, Gate::RestartAllContainersOnContainerExits),
    (USERS_ON_HOST_NETWORK, Gate::UserNamespacesHostNetworkSupport),
];
const RESTART_ALL: &str = "RestartAllContainersOnContainerExits";
const USERS_ON_HOST_NETWORK: &str = "UserNamespacesHostNetworkSupport";
const BIND_OPTIONS: &str = "VolumeBindMountOptions";

/// What the node declares, with these gates on this runtime (which may not say what it can).
pub fn declared(enabled: impl Fn(Gate) -> bool, runtime: Option<&RuntimeFeatures>) -> Vec<&'static str> {
    let can = |name: &str| {
        name != USERS_ON_HOST_NETWORK || runtime.is_some_and(|features| features.user_namespaces_host_network)
    };
    ALL.into_iter().filter(|(name, gate)| enabled(*gate) && can(name)).map(|(name, _)| name).collect()
}

/// What a pod needs, in upstream's order.
fn required(pod: &Pod) -> Vec<&'static str> {
    let spec = pod.spec();
    let containers = || spec.containers.iter().chain(init_containers(spec));
    let restarts = |c: &Container| {
        let mut rules = c.restart_policy_rules.iter().flatten();
        rules.any(|rule| rule.action == "RestartAllContainers")
    };
    let mut mounts = containers()
        .flat_map(|c| c.volume_mounts.iter().flatten())
        .chain(spec.ephemeral_containers.iter().flatten().flat_map(|c| c.volume_mounts.iter().flatten()));
    let needs = [
        (RESTART_ALL, containers().any(restarts)),
        (USERS_ON_HOST_NETWORK, pod.is_host_network() && spec.host_users == Some(false)),
        (BIND_OPTIONS, mounts.any(|m| m.bind_mount_options.as_ref().is_some_and(|all| !all.is_empty()))),
    ];
    needs.into_iter().filter(|(_, needs)| *needs).map(|(name, _)| name).collect()
}

/// Whether the node can do what the pod needs.
///
/// # Errors
/// What it cannot.
pub fn admit(pod: &Pod, declared: &[&str]) -> Result<(), Rejection> {
    let mut missing = required(pod);
    missing.retain(|name| !declared.contains(name));
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("Pod requires node features that are not available: {}", missing.join(", "));
    Err(Rejection { reason: "PodFeatureUnsupported".to_owned(), message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn gates_and_the_runtime_decide() {
        let on = |_| true;
        assert_eq!(declared(|_| false, None), Vec::<&str>::new());
        assert_eq!(declared(on, None).len(), 5);
        let able = RuntimeFeatures { user_namespaces_host_network: true, ..RuntimeFeatures::default() };
        let all = declared(on, Some(&able));
        assert_eq!(all.len(), 6);
        assert!(all.is_sorted());
    }

    #[test]
    fn pods_that_need_more_are_refused() {
        let check = |spec: Value, declared: &[&str]| {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            admit(&pod, declared).map_err(|rejection| rejection.message)
        };
        assert_eq!(check(json!({"containers": [{"name": "c"}]}), &[]), Ok(()));
        let restarts = || {
            let rule =
                json!({"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}});
            json!({"hostNetwork": true, "hostUsers": false,
                "containers": [{"name": "c"}], "initContainers": [{"name": "i", "restartPolicyRules": [rule]}]})
        };
        assert_eq!(
            check(restarts(), &[]).unwrap_err(),
            "Pod requires node features that are not available: RestartAllContainersOnContainerExits, \
             UserNamespacesHostNetworkSupport"
        );
        assert!(
            check(restarts(), &[USERS_ON_HOST_NETWORK])
                .unwrap_err()
                .ends_with(": RestartAllContainersOnContainerExits")
        );
        assert_eq!(check(restarts(), &[RESTART_ALL, USERS_ON_HOST_NETWORK]), Ok(()));
    }
}
