//! The phase of a pod. Upstream: pkg/kubelet/kubelet_pods.go getPhase, v1.37.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodSpec};

use crate::pod::restart::restarts_after;
use crate::pod::view::{PodView, init_containers, is_sidecar};

/// Reason of a container that was removed because the whole pod restarts in place.
pub(super) const RESTARTING_ALL: &str = "RestartingAllContainers";

#[derive(Default)]
struct Count {
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

/// The phase that follows from the containers' statuses. `terminal`: nothing of the pod will ever run again.
/// `initialized`: a regular container has started in the current sandbox.
pub(super) fn phase(
    pod: &Pod,
    statuses: &[ContainerStatus],
    terminal: bool,
    initialized: bool,
) -> &'static str {
    let spec = pod.spec();
    let find = |name: &str| statuses.iter().find(|s| s.name == name);
    let mut pending_init = 0;
    for container in init_containers(spec).iter().filter(|c| !is_sidecar(c)) {
        match init_progress(container, spec, find(&container.name)) {
            Init::Pending => pending_init += 1,
            Init::FailedForGood => return "Failed",
            Init::Done => {}
        }
    }
    let mut count = Count::default();
    let mut pending_sidecars = 0;
    for container in init_containers(spec).iter().filter(|c| is_sidecar(c)) {
        let Some(status) = find(&container.name) else {
            count.unknown += 1;
            continue;
        };
        let state = status.state.clone().unwrap_or_default();
        if state.running.is_some() {
            pending_sidecars += usize::from(status.started != Some(true));
            count.running += 1;
        } else if state.waiting.is_some() {
            if last_exit(status).is_none() {
                pending_sidecars += 1;
                count.waiting += 1;
            }
        } else if state.terminated.is_none() {
            pending_sidecars += 1;
            count.unknown += 1;
        }
    }
    for container in &spec.containers {
        count_regular(container, spec, find(&container.name), &mut count);
    }
    let waiting = pending_init > 0 || (pending_sidecars > 0 && !initialized) || count.waiting > 0;
    decide(pod, &count, waiting, terminal)
}

fn decide(pod: &Pod, count: &Count, waiting: bool, terminal: bool) -> &'static str {
    let ended = || if count.stopped == count.succeeded { "Succeeded" } else { "Failed" };
    if waiting || count.unknown > 0 {
        return "Pending";
    }
    if count.running > 0 {
        return "Running";
    }
    if count.stopped == 0 {
        return "Pending";
    }
    if terminal && !pod.is_static() {
        return ended();
    }
    if count.stopped == count.stopped_for_good { ended() } else { "Running" }
}

enum Init {
    Pending,
    FailedForGood,
    Done,
}

fn init_progress(container: &Container, spec: &PodSpec, status: Option<&ContainerStatus>) -> Init {
    let Some(status) = status else { return Init::Pending };
    let state = status.state.clone().unwrap_or_default();
    let exit = match state {
        ContainerState { running: Some(_), .. } => return Init::Pending,
        ContainerState { terminated: Some(ended), .. } => Some((ended.exit_code, ended.reason)),
        ContainerState { waiting: Some(_), .. } => last_exit(status),
        _ => None,
    };
    match exit {
        None => Init::Pending,
        Some((0, _)) => Init::Done,
        Some((code, reason)) if can_restart(container, spec, code, reason.as_deref()) => Init::Done,
        Some(_) => Init::FailedForGood,
    }
}

fn can_restart(container: &Container, spec: &PodSpec, code: i32, reason: Option<&str>) -> bool {
    restarts_after(container, spec, code) || reason == Some(RESTARTING_ALL)
}

fn last_exit(status: &ContainerStatus) -> Option<(i32, Option<String>)> {
    let ended = status.last_state.as_ref()?.terminated.as_ref()?;
    Some((ended.exit_code, ended.reason.clone()))
}

fn count_regular(container: &Container, spec: &PodSpec, status: Option<&ContainerStatus>, count: &mut Count) {
    let Some(status) = status else {
        count.unknown += 1;
        return;
    };
    let state = status.state.clone().unwrap_or_default();
    if state.running.is_some() {
        count.running += 1;
    } else if let Some(ended) = state.terminated {
        count.stopped += 1;
        let again = can_restart(container, spec, ended.exit_code, ended.reason.as_deref());
        count.stopped_for_good += usize::from(!again);
        count.succeeded += usize::from(ended.exit_code == 0);
    } else if state.waiting.is_some() {
        match last_exit(status) {
            Some((code, reason)) => {
                count.stopped += 1;
                count.stopped_for_good += usize::from(!can_restart(container, spec, code, reason.as_deref()));
            }
            None => count.waiting += 1,
        }
    } else {
        count.unknown += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(policy: &str, containers: &[(&str, serde_json::Value)], terminal: bool, expected: &str) {
        let names: Vec<_> = containers.iter().map(|(n, _)| json!({"name": n})).collect();
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"restartPolicy": policy, "containers": names}})).unwrap();
        let statuses: Vec<ContainerStatus> = (containers.iter())
            .filter(|(_, state)| !state.is_null())
            .map(|(n, state)| {
                let mut v = state.clone();
                for (key, value) in [
                    ("name", json!(n)),
                    ("image", json!("")),
                    ("imageID", json!("")),
                    ("ready", json!(false)),
                    ("restartCount", json!(0)),
                ] {
                    v[key] = value;
                }
                serde_json::from_value(v).unwrap()
            })
            .collect();
        assert_eq!(phase(&pod, &statuses, terminal, true), expected, "{policy} {containers:?}");
    }

    #[test]
    fn phases() {
        let running = json!({"state": {"running": {}}});
        let done = json!({"state": {"terminated": {"exitCode": 0}}});
        let failed = json!({"state": {"terminated": {"exitCode": 1}}});
        let waiting = json!({"state": {"waiting": {}}});
        let crashing = json!({"state": {"waiting": {}}, "lastState": {"terminated": {"exitCode": 1}}});
        check("Always", &[("a", serde_json::Value::Null)], false, "Pending");
        check("Always", &[("a", running.clone()), ("b", waiting.clone())], false, "Pending");
        check("Always", &[("a", running.clone()), ("b", failed.clone())], false, "Running");
        check("Always", &[("a", failed.clone())], false, "Running");
        check("Always", &[("a", failed.clone())], true, "Failed");
        check("Always", &[("a", done.clone())], true, "Succeeded");
        check("Always", &[("a", crashing.clone())], false, "Running");
        check("Never", &[("a", done.clone()), ("b", failed.clone())], false, "Failed");
        check("Never", &[("a", done.clone()), ("b", running)], false, "Running");
        check("OnFailure", &[("a", done.clone())], false, "Succeeded");
        check("OnFailure", &[("a", done), ("b", failed)], false, "Running");
    }
}
