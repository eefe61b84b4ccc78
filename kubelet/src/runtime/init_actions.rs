//! The part of the decision that concerns init containers and sidecars.
//!
//! They are looked at from the last to the first: finished ones may be gone from the runtime, so the latest known one
//! decides how far initialization got; those before it only matter if they are sidecars, which must keep running.
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go computeInitContainerActions, v1.37.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::actions::{self, Kill, KillReason, PodActions, ProbeResult, Probes};
use super::model::{ContainerState, ContainerStatus, PodStatus};
use crate::pod::restart;
use crate::pod::view::{PodView, init_containers, is_sidecar};

/// What looking at one init container led to.
enum Step {
    /// Go on with the one before it.
    Continue,
    /// As `Continue`, and the pod is initialized.
    Initialized,
    /// The pod has failed; nothing is to be started.
    Failed,
}

/// Adds what init containers need to `actions`; true if the pod is initialized.
pub(super) fn plan(pod: &Pod, status: &PodStatus, probes: &dyn Probes, actions: &mut PodActions) -> bool {
    let init = init_containers(pod.spec());
    if init.is_empty() {
        return true;
    }
    let mut initialized = actions::any_regular_active(pod, status);
    let mut later_seen = initialized;
    for (index, container) in init.iter().enumerate().rev() {
        let Some(current) = status.find_active(&container.name) else {
            // A sidecar that was there must come back even if the runtime forgot it.
            if later_seen && is_sidecar(container) {
                actions.start_init.push(index);
            }
            continue;
        };
        if later_seen && !is_sidecar(container) {
            continue;
        }
        let at = At { pod, status, container, current, index, last: index + 1 == init.len(), later_seen };
        match at.step(probes, actions) {
            Step::Continue => {}
            Step::Initialized => initialized = true,
            Step::Failed => {
                actions.kill_pod = true;
                actions.start_init.clear();
                return false;
            }
        }
        later_seen = true;
    }
    if !later_seen {
        actions.start_init.push(0);
    }
    actions.start_init.reverse();
    initialized
}

/// One init container and what is known about it.
struct At<'a> {
    pod: &'a Pod,
    status: &'a PodStatus,
    container: &'a Container,
    current: &'a ContainerStatus,
    index: usize,
    last: bool,
    later_seen: bool,
}

impl At<'_> {
    fn step(&self, probes: &dyn Probes, actions: &mut PodActions) -> Step {
        match self.current.state {
            // Its start failed half way; without another start it would stay so for ever.
            ContainerState::Created => self.start(actions),
            ContainerState::Running if is_sidecar(self.container) => self.running_sidecar(probes, actions),
            ContainerState::Running => Step::Continue,
            ContainerState::Exited if is_sidecar(self.container) => self.start(actions),
            ContainerState::Exited => self.exited(actions),
            ContainerState::Unknown => self.unknown(actions),
        }
    }

    fn start(&self, actions: &mut PodActions) -> Step {
        actions.start_init.push(self.index);
        Step::Continue
    }

    fn restart(&self, message: String, reason: KillReason, actions: &mut PodActions) {
        let (id, name) = (self.current.id.clone(), self.container.name.clone());
        actions.kill.push(Kill { id, name, message, reason });
        actions.start_init.push(self.index);
    }

    fn running_sidecar(&self, probes: &dyn Probes, actions: &mut PodActions) -> Step {
        let name = &self.container.name;
        if self.container.startup_probe.is_some() {
            match probes.startup(&self.current.id) {
                Some(ProbeResult::Success) => {}
                Some(ProbeResult::Failure) => {
                    let message = format!("Init container {name} failed startup probe");
                    self.restart(message, KillReason::StartupProbe, actions);
                    return Step::Continue;
                }
                _ => return Step::Continue,
            }
        }
        let outcome = if self.last {
            Step::Initialized
        } else {
            if !self.later_seen {
                actions.start_init.push(self.index + 1);
            }
            Step::Continue
        };
        if actions::definition_changed(self.container, self.current) {
            let message = format!("Init container {name} definition changed");
            self.restart(message, KillReason::Other, actions);
        } else if self.container.liveness_probe.is_some()
            && probes.liveness(&self.current.id) == Some(ProbeResult::Failure)
        {
            let message = format!("Init container {name} failed liveness probe");
            self.restart(message, KillReason::LivenessProbe, actions);
        }
        outcome
    }

    fn exited(&self, actions: &mut PodActions) -> Step {
        // Running out of memory is a failure whatever the exit code.
        if self.current.reason == "OOMKilled" || self.current.exit_code != 0 {
            if !restart::should_start(self.container, self.pod, self.status) {
                return Step::Failed;
            }
            return self.start(actions);
        }
        if self.last {
            return Step::Initialized;
        }
        actions.start_init.push(self.index + 1);
        Step::Continue
    }

    fn unknown(&self, actions: &mut PodActions) -> Step {
        if !is_sidecar(self.container) {
            let wanted = match self.container.restart_policy.as_deref() {
                Some(policy) => policy != "Never",
                None => restart::restarts_on_failure(self.pod.spec()),
            };
            if !wanted {
                return Step::Failed;
            }
        }
        let state = self.current.state.to_string();
        let message = format!("Init container is in {state:?} state, try killing it before restart");
        self.restart(message, KillReason::Other, actions);
        Step::Continue
    }
}
