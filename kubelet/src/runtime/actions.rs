//! The decision at the heart of the kubelet: given a pod and what runs of it, what is to be done next.
//!
//! [`plan`] is pure: the same pod, status and probe results give the same [`PodActions`]. It does not look at clocks or
//! back-off (starting a container is where back-off is applied) and does not change limits of running containers (that
//! is in-place resize). Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go computePodActions, v1.37.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::hash::container_hash;
use super::init_actions;
use super::model::{ContainerId, ContainerState, ContainerStatus, PodStatus};
use crate::pod::restart;
use crate::pod::view::{PodView, ephemeral_containers, init_containers};

/// Why a container is killed; decides which grace period applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// Its startup probe failed; the probe may shorten the grace period.
    StartupProbe,
    /// Its liveness probe failed; the probe may shorten the grace period.
    LivenessProbe,
    /// Its hook after start failed.
    FailedPostStartHook,
    /// All containers of the pod restart in place.
    RestartAllContainers,
    /// Any other reason.
    Other,
}

/// A container to be stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Kill {
    /// Which container on the runtime.
    pub id: ContainerId,
    /// Its name in the spec.
    pub name: String,
    /// What the event says.
    pub message: String,
    /// Decides the grace period.
    pub reason: KillReason,
}

/// A container to be removed from the runtime so that the pod restarts in place.
#[derive(Clone, Debug, PartialEq)]
pub struct Reset {
    /// Which container on the runtime.
    pub id: ContainerId,
    /// Its name in the spec.
    pub name: String,
    /// True if it has to be stopped first.
    pub kill: bool,
}

/// What to do next for a pod, in the order of the fields. Indexes point into the pod's spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodActions {
    /// Stop every container and the sandbox.
    pub kill_pod: bool,
    /// Then create a sandbox.
    pub create_sandbox: bool,
    /// The sandbox to use, or to replace; empty if there is none.
    pub sandbox_id: String,
    /// How many sandboxes the pod had before the one that is to be used.
    pub attempt: u32,
    /// Containers to stop (if the pod is not killed as a whole).
    pub kill: Vec<Kill>,
    /// Containers to remove, in this order.
    pub reset: Vec<Reset>,
    /// Ephemeral containers to start.
    pub start_ephemeral: Vec<usize>,
    /// Init containers to start, sidecars among them.
    pub start_init: Vec<usize>,
    /// Regular containers to start.
    pub start: Vec<usize>,
}

/// What a probe that can restart a container found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The container answered as it should.
    Success,
    /// The container failed often enough to be restarted.
    Failure,
    /// The probe has not decided yet.
    Unknown,
}

/// Results of the probes that can restart containers.
pub trait Probes {
    /// The liveness probe's result, if it has run.
    fn liveness(&self, id: &ContainerId) -> Option<ProbeResult>;
    /// The startup probe's result, if it has run.
    fn startup(&self, id: &ContainerId) -> Option<ProbeResult>;
}

/// What [`sandbox_changed`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxChange {
    /// True if a new sandbox is needed.
    pub changed: bool,
    /// Attempt number of the sandbox to use or to make.
    pub attempt: u32,
    /// Sandbox to use or to replace; empty if there is none to replace.
    pub id: String,
    /// Why a new one is needed, for the pod's condition.
    pub reason: &'static str,
}

/// Whether the pod's newest sandbox can be used.
/// Upstream: pkg/kubelet/kuberuntime/util/util.go PodSandboxChanged.
pub fn sandbox_changed(pod: &Pod, status: &PodStatus) -> SandboxChange {
    let Some(newest) = status.sandboxes.first() else {
        return SandboxChange {
            changed: true,
            attempt: 0,
            id: String::new(),
            reason: "no pod sandbox exists",
        };
    };
    let next = |id: &str, reason| SandboxChange {
        changed: true,
        attempt: newest.attempt.saturating_add(1),
        id: id.to_owned(),
        reason,
    };
    if status.sandboxes.iter().filter(|s| s.ready).count() > 1 {
        return next(&newest.id, "multiple pod sandboxes are ready and need to be reconciled");
    }
    if !newest.ready {
        return next(&newest.id, "pod sandbox is not ready");
    }
    if newest.host_network != pod.is_host_network() {
        return next("", "network namespace mode changed and sandbox needs to be recreated");
    }
    if !pod.is_host_network() && newest.ips.as_ref().is_some_and(Vec::is_empty) {
        return next(&newest.id, "pod sandbox has no IP address");
    }
    SandboxChange { changed: false, attempt: newest.attempt, id: newest.id.clone(), reason: "" }
}

/// Decides what to do next for a pod.
pub fn plan(pod: &Pod, status: &PodStatus, probes: &dyn Probes, restart_all: bool) -> PodActions {
    let sandbox = sandbox_changed(pod, status);
    let mut actions = PodActions {
        kill_pod: sandbox.changed,
        create_sandbox: sandbox.changed,
        sandbox_id: sandbox.id,
        attempt: sandbox.attempt,
        ..PodActions::default()
    };
    if restart_all {
        actions.reset = resets(pod, status);
        return actions;
    }
    if actions.create_sandbox {
        plan_new_sandbox(pod, status, &mut actions);
        return actions;
    }
    // Ephemeral containers may start before initialization is complete, and are never restarted.
    for (index, container) in ephemeral_containers(pod.spec()).iter().enumerate() {
        if status.find(&container.name).is_none() {
            actions.start_ephemeral.push(index);
        }
    }
    let initialized = init_actions::plan(pod, status, probes, &mut actions);
    if actions.kill_pod || !initialized {
        return actions;
    }
    plan_regular(pod, status, probes, &mut actions);
    actions
}

/// The pod needs a sandbox: everything starts from the beginning, or the pod is done and only has to be stopped.
fn plan_new_sandbox(pod: &Pod, status: &PodStatus, actions: &mut PodActions) {
    let spec = pod.spec();
    if !restart::restarts_on_failure(spec) && actions.attempt != 0 && !status.containers.is_empty() {
        actions.create_sandbox = false;
        return;
    }
    let to_start: Vec<usize> = (spec.containers.iter().enumerate())
        .filter(|(_, container)| {
            let policy = container.restart_policy.as_ref().or(spec.restart_policy.as_ref());
            let once = policy.is_some_and(|policy| policy == "OnFailure");
            !(once && succeeded(container, status))
        })
        .map(|(index, _)| index)
        .collect();
    if to_start.is_empty() && any_regular_created(pod, status) {
        actions.create_sandbox = false;
        return;
    }
    if init_containers(spec).is_empty() {
        actions.start = to_start;
    } else {
        actions.start_init = vec![0];
    }
}

fn plan_regular(pod: &Pod, status: &PodStatus, probes: &dyn Probes, actions: &mut PodActions) {
    let spec = pod.spec();
    let mut kept = 0;
    for (index, container) in spec.containers.iter().enumerate() {
        let running = status.find(&container.name).filter(|c| c.state == ContainerState::Running);
        let Some(current) = running else {
            plan_stopped(pod, status, index, container, actions);
            continue;
        };
        let restart_wanted = match container.restart_policy.as_deref() {
            Some(policy) => policy != "Never",
            None => restart::restarts_on_failure(spec),
        };
        let Some((mut message, reason, restart)) = why_kill(container, current, probes, restart_wanted)
        else {
            kept += 1;
            continue;
        };
        if restart {
            message.push_str(", will be restarted");
            actions.start.push(index);
        }
        actions.kill.push(Kill { id: current.id.clone(), name: current.name.clone(), message, reason });
    }
    if kept == 0 && actions.start.is_empty() {
        actions.kill_pod = true;
        // Sidecars must not keep a finished pod alive.
        actions.start_init.clear();
    }
}

/// A regular container that does not run: start it if policy says so.
fn plan_stopped(
    pod: &Pod,
    status: &PodStatus,
    index: usize,
    container: &Container,
    actions: &mut PodActions,
) {
    if !restart::should_start(container, pod, status) {
        return;
    }
    actions.start.push(index);
    if let Some(last) = status.find(&container.name).filter(|c| c.state == ContainerState::Unknown) {
        // It may still run; two instances must never run at once.
        actions.kill.push(Kill {
            id: last.id.clone(),
            name: last.name.clone(),
            message: format!(
                "Container is in {:?} state, try killing it before restart",
                last.state.to_string()
            ),
            reason: KillReason::Other,
        });
    }
}

/// Why a running container is to be killed, if it is; the flag says whether it starts again.
fn why_kill(
    container: &Container,
    current: &ContainerStatus,
    probes: &dyn Probes,
    restart_wanted: bool,
) -> Option<(String, KillReason, bool)> {
    let name = &container.name;
    if definition_changed(container, current) {
        return Some((format!("Container {name} definition changed"), KillReason::Other, true));
    }
    if probes.liveness(&current.id) == Some(ProbeResult::Failure) {
        let message = format!("Container {name} failed liveness probe");
        return Some((message, KillReason::LivenessProbe, restart_wanted));
    }
    if probes.startup(&current.id) == Some(ProbeResult::Failure) {
        let message = format!("Container {name} failed startup probe");
        return Some((message, KillReason::StartupProbe, restart_wanted));
    }
    None
}

/// True if the container was made from another spec.
pub(super) fn definition_changed(container: &Container, current: &ContainerStatus) -> bool {
    container_hash(container) != current.hash
}

fn succeeded(container: &Container, status: &PodStatus) -> bool {
    status.find(&container.name).is_some_and(|c| c.state == ContainerState::Exited && c.exit_code == 0)
}

/// True if a regular container ever got as far as being created, which means that initialization is done.
pub fn any_regular_created(pod: &Pod, status: &PodStatus) -> bool {
    (pod.spec().containers.iter().filter_map(|c| status.find(&c.name)))
        .any(|c| c.state != ContainerState::Unknown)
}

/// True if a regular container started in the pod's current sandbox.
pub fn any_regular_active(pod: &Pod, status: &PodStatus) -> bool {
    pod.spec().containers.iter().any(|c| status.find_active(&c.name).is_some())
}

/// Containers to remove for an in-place restart: those that did not ask for it first, init containers after regular
/// ones, so that an interrupted reset still knows why it began.
fn resets(pod: &Pod, status: &PodStatus) -> Vec<Reset> {
    let spec = pod.spec();
    let mut targets = Vec::new();
    let mut sources = Vec::new();
    for container in spec.containers.iter().chain(init_containers(spec)) {
        for found in status.containers.iter().filter(|c| c.name == container.name) {
            let exited = found.state == ContainerState::Exited;
            let reset = Reset { id: found.id.clone(), name: found.name.clone(), kill: !exited };
            if exited && restart::asked_for_restart_all(container, found.exit_code) {
                sources.push(reset);
            } else {
                targets.push(reset);
            }
        }
    }
    targets.append(&mut sources);
    targets
}

#[cfg(test)]
#[path = "actions_tests.rs"]
mod tests;
