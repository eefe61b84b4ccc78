//! The conditions of a pod that the kubelet owns. Upstream: pkg/kubelet/status/generate.go, v1.37.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition, PodStatus as ApiPodStatus};

use crate::pod::restart;
use crate::pod::view::{PodView, init_containers, is_sidecar};
use crate::runtime::actions::sandbox_changed;
use crate::runtime::model::PodStatus;

/// Conditions that only the kubelet sets.
pub(super) const OWNED: [&str; 8] = [
    "PodScheduled",
    "Ready",
    "Initialized",
    "ContainersReady",
    "PodResizePending",
    "PodResizeInProgress",
    "PodReadyToStartContainers",
    "AllContainersRestarting",
];

/// True, or false with a reason and a message.
type Verdict = Result<(), (&'static str, String)>;

fn condition(pod: &Pod, kind: &str, verdict: Verdict) -> PodCondition {
    let (status, reason, message) = match verdict {
        Ok(()) => ("True", None, None),
        Err((reason, message)) => {
            let text = |s: String| (!s.is_empty()).then_some(s);
            ("False", text(reason.to_owned()), text(message))
        }
    };
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason,
        message,
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}

/// All owned conditions, in upstream's order. `others` are the conditions that others set.
pub(super) fn all(
    pod: &Pod,
    runtime: &PodStatus,
    old: &ApiPodStatus,
    statuses: &[ContainerStatus],
    others: &[PodCondition],
    phase: &str,
) -> Vec<PodCondition> {
    let containers_ready = containers_ready(pod, statuses, phase);
    let ready = containers_ready.clone().and_then(|()| gates(pod, others));
    let mut out = vec![
        condition(pod, "PodReadyToStartContainers", sandbox_ready(pod, runtime)),
        initialized(pod, old, statuses, phase),
        condition(pod, "Ready", ready),
        condition(pod, "ContainersReady", containers_ready),
        condition(pod, "PodScheduled", Ok(())),
    ];
    if restart::could_restart_all(pod.spec()) {
        out.push(restarting_all(pod, runtime, old, phase));
    }
    out
}

/// The ready conditions of a pod that has ended.
pub(super) fn ended(pod: &Pod, phase: &str) -> [PodCondition; 2] {
    let verdict = || Err((if phase == "Failed" { "PodFailed" } else { "PodCompleted" }, String::new()));
    [condition(pod, "ContainersReady", verdict()), condition(pod, "Ready", verdict())]
}

fn sandbox_ready(pod: &Pod, runtime: &PodStatus) -> Verdict {
    let sandbox = sandbox_changed(pod, runtime);
    if sandbox.changed { Err(("PodSandboxNotReady", sandbox.reason.to_owned())) } else { Ok(()) }
}

/// Prints names as Go prints a list of strings.
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn messages(unknown: &[&str], other: &[&str], word: &str) -> String {
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", list(unknown)));
    }
    if !other.is_empty() {
        parts.push(format!("containers with {word} status: {}", list(other)));
    }
    parts.join(", ")
}

/// Names of containers without a status, and of those whose status fails `good`.
fn sort_out<'a>(
    containers: impl Iterator<Item = &'a Container>,
    statuses: &[ContainerStatus],
    good: impl Fn(&Container, &ContainerStatus) -> bool,
) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut unknown, mut bad) = (Vec::new(), Vec::new());
    for container in containers {
        match statuses.iter().find(|s| s.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !good(container, status) => bad.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    (unknown, bad)
}

fn containers_ready(pod: &Pod, statuses: &[ContainerStatus], phase: &str) -> Verdict {
    let spec = pod.spec();
    let containers = init_containers(spec).iter().filter(|c| is_sidecar(c)).chain(&spec.containers);
    let (unknown, unready) = sort_out(containers, statuses, |_, status| status.ready);
    if phase == "Succeeded" && unknown.is_empty() {
        return Err(("PodCompleted", String::new()));
    }
    if phase == "Failed" {
        return Err(("PodFailed", String::new()));
    }
    let message = messages(&unknown, &unready, "unready");
    if message.is_empty() { Ok(()) } else { Err(("ContainersNotReady", message)) }
}

fn gates(pod: &Pod, others: &[PodCondition]) -> Verdict {
    let unready: Vec<String> = (pod.spec().readiness_gates.iter().flatten())
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match others.iter().find(|c| c.type_ == *kind) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate {kind:?} does not exist."))
                }
                Some(c) if c.status != "True" => Some(format!(
                    "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                    c.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if unready.is_empty() { Ok(()) } else { Err(("ReadinessGatesNotReady", unready.join(", "))) }
}

fn initialized(pod: &Pod, old: &ApiPodStatus, statuses: &[ContainerStatus], phase: &str) -> PodCondition {
    let spec = pod.spec();
    let good = |container: &Container, status: &ContainerStatus| {
        if is_sidecar(container) { status.started == Some(true) } else { status.ready }
    };
    let (unknown, incomplete) = sort_out(init_containers(spec).iter(), statuses, good);
    if phase == "Succeeded" && unknown.is_empty() {
        let reason = Some("PodCompleted".to_owned());
        return PodCondition { reason, ..condition(pod, "Initialized", Ok(())) };
    }
    let started = |s: &ContainerStatus| {
        s.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    let regular_started =
        statuses.iter().any(|s| started(s) && spec.containers.iter().any(|c| c.name == s.name));
    let was = old.conditions.iter().flatten().any(|c| c.type_ == "Initialized" && c.status == "True");
    let message = messages(&unknown, &incomplete, "incomplete");
    let verdict = if regular_started || message.is_empty() || was {
        Ok(())
    } else {
        Err(("ContainersNotInitialized", message))
    };
    condition(pod, "Initialized", verdict)
}

fn restarting_all(pod: &Pod, runtime: &PodStatus, old: &ApiPodStatus, phase: &str) -> PodCondition {
    let kind = "AllContainersRestarting";
    let no = |reason| condition(pod, kind, Err((reason, String::new())));
    let spec = pod.spec();
    let mut out = match phase {
        "Succeeded" => no("PodCompleted"),
        "Failed" => no("PodFailed"),
        _ => {
            let mut all = init_containers(spec).iter().chain(&spec.containers);
            let cleaned_up = all.all(|c| runtime.find(&c.name).is_none());
            if restart::should_restart_all(pod, runtime, old) && !cleaned_up {
                PodCondition {
                    reason: Some("RestartAllContainersStarted".to_owned()),
                    message: Some("container exited with restart policy rule".to_owned()),
                    ..condition(pod, kind, Ok(()))
                }
            } else {
                no("")
            }
        }
    };
    out.observed_generation = None;
    out
}
