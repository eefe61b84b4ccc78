//! Whether an exited container is to run again: pod policy, container policy, and restart rules.
//!
//! Upstream: pkg/api/v1/pod/util.go (ContainerShouldRestart, FindMatchingContainerRestartRule) and
//! pkg/kubelet/container/helpers.go (ShouldContainerBeRestarted), v1.37.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus as ApiPodStatus};

use super::view::{PodView, init_containers};
use crate::runtime::model::{ContainerState, PodStatus};

/// The action of a restart rule that resets the whole pod in place.
const RESTART_ALL: &str = "RestartAllContainers";

/// True if the pod as a whole restarts failed containers.
pub fn restarts_on_failure(spec: &PodSpec) -> bool {
    spec.restart_policy.as_deref() != Some("Never")
}

/// The first restart rule of the container that matches the exit code.
fn matching_rule(container: &Container, exit_code: i32) -> Option<&str> {
    container.restart_policy_rules.iter().flatten().find_map(|rule| {
        let codes = rule.exit_codes.as_ref()?;
        let listed = codes.values.iter().flatten().any(|value| *value == exit_code);
        let matches = match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        matches.then_some(rule.action.as_str())
    })
}

/// True if a container that exited with this code is to be started again.
pub fn restarts_after(container: &Container, spec: &PodSpec, exit_code: i32) -> bool {
    if let Some(policy) = container.restart_policy.as_deref() {
        if matches!(matching_rule(container, exit_code), Some("Restart" | RESTART_ALL)) {
            return true;
        }
        match policy {
            "Always" => return true,
            "OnFailure" => return exit_code != 0,
            "Never" => return false,
            _ => {}
        }
    }
    match spec.restart_policy.as_deref() {
        Some("OnFailure") => exit_code != 0,
        Some("Never") => false,
        _ => true,
    }
}

/// True if at least one exit of the container could be followed by a restart.
pub fn is_restartable(container: &Container, spec: &PodSpec) -> bool {
    if container
        .restart_policy_rules
        .iter()
        .flatten()
        .any(|r| r.action == "Restart" || r.action == RESTART_ALL)
    {
        return true;
    }
    match container.restart_policy.as_deref() {
        Some("Never") => false,
        Some(_) => true,
        None => restarts_on_failure(spec),
    }
}

/// True if the container is not running and has to be started by the next sync.
pub fn should_start(container: &Container, pod: &Pod, status: &PodStatus) -> bool {
    if pod.is_deleted() {
        return false;
    }
    let Some(last) = status.find(&container.name) else { return true };
    match last.state {
        ContainerState::Running => false,
        ContainerState::Unknown | ContainerState::Created => true,
        ContainerState::Exited => restarts_after(container, pod.spec(), last.exit_code),
    }
}

/// True if some container could ask for all containers to be restarted.
pub fn could_restart_all(spec: &PodSpec) -> bool {
    init_containers(spec)
        .iter()
        .chain(&spec.containers)
        .any(|c| c.restart_policy_rules.iter().flatten().any(|rule| rule.action == RESTART_ALL))
}

/// True if a container's exit asked for all containers to be restarted and that is not done yet.
/// Upstream: pkg/kubelet/container/helpers.go ShouldAllContainersRestart.
pub fn should_restart_all(pod: &Pod, status: &PodStatus, api: &ApiPodStatus) -> bool {
    if api.conditions.iter().flatten().any(|c| c.type_ == "AllContainersRestarting" && c.status == "True") {
        return true;
    }
    let spec = pod.spec();
    init_containers(spec).iter().chain(&spec.containers).any(|container| {
        let Some(last) = status.find(&container.name) else { return false };
        last.state == ContainerState::Exited && matching_rule(container, last.exit_code) == Some(RESTART_ALL)
    })
}

/// True if the container's exit is what asked for all containers to be restarted.
pub fn asked_for_restart_all(container: &Container, exit_code: i32) -> bool {
    matching_rule(container, exit_code) == Some(RESTART_ALL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(pod_policy: &str, container: serde_json::Value, exit_code: i32, expected: bool) {
        let container: Container = serde_json::from_value(container).unwrap();
        let spec = PodSpec { restart_policy: Some(pod_policy.into()), ..Default::default() };
        assert_eq!(
            restarts_after(&container, &spec, exit_code),
            expected,
            "{pod_policy} {container:?} {exit_code}"
        );
    }

    #[test]
    fn policies() {
        let plain = json!({"name": "c"});
        check("Always", plain.clone(), 0, true);
        check("OnFailure", plain.clone(), 0, false);
        check("OnFailure", plain.clone(), 1, true);
        check("Never", plain, 1, false);
        let own = json!({"name": "c", "restartPolicy": "OnFailure"});
        check("Never", own.clone(), 1, true);
        check("Always", own, 0, false);
    }

    #[test]
    fn rules_come_before_policies() {
        let rule = json!({"name": "c", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]});
        check("Never", rule.clone(), 42, true);
        check("Never", rule, 43, false);
        let not_in = json!({"name": "c", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0]}}]});
        check("Never", not_in.clone(), 1, true);
        check("Never", not_in, 0, false);
    }
}
