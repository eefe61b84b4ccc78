//! The statuses of a pod's containers.
//!
//! The runtime's answer is the base; the last status fills in what the runtime has forgotten.
//! Upstream: pkg/kubelet/kubelet_pods.go convertToAPIContainerStatuses, v1.37.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, LinuxContainerUser, Pod, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::generate::{Inputs, StartFailure};
use super::phase::RESTARTING_ALL;
use super::resources::of_running;
use crate::pod::restart::{self, should_start};
use crate::pod::view::{PodView, init_containers, is_sidecar};
use crate::runtime::actions::any_regular_created;
use crate::runtime::model::{self, ContainerState as Runtime};

/// Exit code reported when the real one is not known: as if killed.
const UNKNOWN_EXIT: i32 = 137;
const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";

/// Nanoseconds since 1970 as the API's time; zero is absent.
fn time(nanos: i64) -> Option<Time> {
    (nanos > 0).then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok().map(Time)).flatten()
}

fn terminated(reason: &str, message: &str, exit_code: i32) -> ContainerStateTerminated {
    ContainerStateTerminated {
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        exit_code,
        ..ContainerStateTerminated::default()
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
    let waiting = ContainerStateWaiting { reason: text(reason), message: text(message) };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn ended(state: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(state), ..ContainerState::default() }
}

/// Which list of the pod's containers is being described.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// `initContainers`.
    Init,
    /// `containers`.
    Regular,
    /// `ephemeralContainers`.
    Ephemeral,
}

/// The statuses of one list of containers: init containers in the order of the spec, others by name.
pub(super) fn statuses(
    inputs: &Inputs<'_>,
    containers: &[Container],
    previous: &[ContainerStatus],
    kind: Kind,
) -> Vec<ContainerStatus> {
    let pod = inputs.pod;
    let restarting = restart::should_restart_all(pod, inputs.runtime, inputs.old);
    let old: HashMap<&str, &ContainerStatus> = previous.iter().map(|s| (s.name.as_str(), s)).collect();
    let default_reason =
        if init_containers(pod.spec()).is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let mut out: Vec<ContainerStatus> = Vec::with_capacity(containers.len());
    for container in containers {
        let was = old.get(container.name.as_str()).copied();
        let mut status = from_old(container, was, default_reason, inputs.recursive_read_only);
        let mut found = inputs.runtime.containers.iter().filter(|c| c.name == container.name);
        match found.next() {
            Some(latest) => {
                let before = found.next();
                status = from_runtime(inputs, container, latest, was, restarting);
                if let Some(before) = before {
                    status.last_state = from_runtime(inputs, container, before, was, restarting).state;
                }
            }
            None => missing(pod, &mut status, was, restarting, default_reason),
        }
        if !(kind == Kind::Init && init_done(inputs, container, &mut status)) {
            start_failure(inputs, container, &mut status);
        }
        out.push(status);
    }
    if kind != Kind::Init {
        out.sort_by(|a, b| a.name.cmp(&b.name));
    }
    out
}

/// Before the runtime is asked: what the last status says, else waiting.
fn from_old(
    container: &Container,
    old: Option<&ContainerStatus>,
    reason: &str,
    rro: bool,
) -> ContainerStatus {
    if let Some(old) = old.filter(|s| s.state.as_ref().is_some_and(|state| state.terminated.is_some())) {
        return old.clone();
    }
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(waiting(reason, "")),
        restart_count: old.map_or(0, |s| s.restart_count),
        last_state: old.and_then(|s| s.last_state.clone()),
        volume_mounts: volume_mounts(container, rro),
        ..ContainerStatus::default()
    }
}

fn volume_mounts(container: &Container, rro: bool) -> Option<Vec<VolumeMountStatus>> {
    let mounts: Vec<VolumeMountStatus> = (container.volume_mounts.iter().flatten())
        .map(|mount| {
            let read_only = mount.read_only.unwrap_or(false);
            let recursive = match mount.recursive_read_only.as_deref() {
                Some("Enabled") => true,
                Some("IfPossible") => rro,
                _ => false,
            };
            let mode = if recursive { "Enabled" } else { "Disabled" };
            VolumeMountStatus {
                name: mount.name.clone(),
                mount_path: mount.mount_path.clone(),
                read_only: mount.read_only.filter(|r| *r),
                recursive_read_only: read_only.then(|| mode.to_owned()),
                ..VolumeMountStatus::default()
            }
        })
        .collect();
    (!mounts.is_empty()).then_some(mounts)
}

fn from_runtime(
    inputs: &Inputs<'_>,
    container: &Container,
    found: &model::ContainerStatus,
    old: Option<&ContainerStatus>,
    restarting: bool,
) -> ContainerStatus {
    let id = found.id.to_string();
    let old_terminated = old.and_then(|s| s.state.as_ref()).and_then(|s| s.terminated.clone());
    let old_last = old.and_then(|s| s.last_state.as_ref()).and_then(|s| s.terminated.clone());
    let mut status = ContainerStatus {
        name: found.name.clone(),
        restart_count: i32::try_from(found.restart_count).unwrap_or(i32::MAX),
        image: found.image.clone(),
        image_id: found.image_ref.clone(),
        container_id: Some(id.clone()),
        volume_mounts: old
            .and_then(|s| s.volume_mounts.clone())
            .or_else(|| volume_mounts(container, inputs.recursive_read_only)),
        ..ContainerStatus::default()
    };
    if let Some(old) = old {
        status.restart_count = status.restart_count.max(old.restart_count);
        let same = old.container_id.as_deref() == Some(id.as_str());
        let last = if same { old_last } else { old_terminated.clone().or(old_last) };
        status.last_state = last.map(ended);
    }
    let state = match found.state {
        Runtime::Running => {
            if let Some(old) = old.filter(|_| old_terminated.is_some())
                && u32::try_from(old.restart_count).unwrap_or_default() >= found.restart_count
            {
                status.restart_count = old.restart_count.saturating_add(1);
            }
            let running = ContainerStateRunning { started_at: time(found.started_at) };
            ContainerState { running: Some(running), ..ContainerState::default() }
        }
        Runtime::Created => waiting("", ""),
        Runtime::Exited => ended(exited(found, &id)),
        Runtime::Unknown if old.is_some_and(|s| s.state.as_ref().is_some_and(|s| s.running.is_some())) => {
            // It ran and cannot be found: "ran and failed" is not the same as "never ran".
            status.restart_count = old.map_or(0, |s| s.restart_count).saturating_add(1);
            let reason = if restarting { RESTARTING_ALL } else { STATUS_UNKNOWN };
            ended(terminated(
                reason,
                "The container could not be located when the pod was terminated",
                UNKNOWN_EXIT,
            ))
        }
        Runtime::Unknown => waiting("", ""),
    };
    status.state = Some(state);
    if found.state == Runtime::Running {
        status.started =
            old.filter(|s| s.container_id.as_deref() == Some(id.as_str())).and_then(|s| s.started);
    }
    let given = inputs.given.and_then(|given| given.containers.get(&container.name));
    status.resources = Some(of_running(container, found, given, old));
    status.allocated_resources = container.resources.as_ref().and_then(|r| r.requests.clone());
    status.user = found.user.as_ref().map(|user| ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: user.uid,
            gid: user.gid,
            supplemental_groups: (!user.groups.is_empty()).then(|| user.groups.clone()),
        }),
    });
    status
}

fn exited(found: &model::ContainerStatus, id: &str) -> ContainerStateTerminated {
    let text = |s: &str| (!s.is_empty()).then(|| s.to_owned());
    ContainerStateTerminated {
        exit_code: found.exit_code,
        reason: text(&found.reason),
        message: text(&found.message),
        started_at: time(found.started_at),
        finished_at: time(found.finished_at),
        container_id: Some(id.to_owned()),
        signal: None,
    }
}

/// The runtime does not know the container: if it ran before, it must have ended.
fn missing(
    pod: &Pod,
    status: &mut ContainerStatus,
    old: Option<&ContainerStatus>,
    restarting: bool,
    default_reason: &str,
) {
    let Some(old) = old else { return };
    let state = old.state.clone().unwrap_or_default();
    if restarting && state.waiting.is_none() {
        let message = "The container is removed because RestartAllContainers in place";
        status.state = Some(waiting(RESTARTING_ALL, message));
        status.last_state = Some(ended(terminated(RESTARTING_ALL, message, UNKNOWN_EXIT)));
        status.restart_count = old.restart_count.saturating_add(1);
        return;
    }
    if state.terminated.is_some() || state.running.is_none() {
        return;
    }
    let current = status.state.as_ref().and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
    let has_last = status.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
    if current != Some(default_reason) || has_last {
        return;
    }
    status.last_state = Some(ended(terminated(
        STATUS_UNKNOWN,
        "The container could not be located when the pod was deleted.  The container used to be Running",
        UNKNOWN_EXIT,
    )));
    if !pod.is_deleted() {
        status.restart_count = status.restart_count.saturating_add(1);
    }
}

/// True if an init container has done its work, as far as can be told.
fn init_done(inputs: &Inputs<'_>, container: &Container, status: &mut ContainerStatus) -> bool {
    match inputs.runtime.find(&container.name) {
        Some(found) => found.state == Runtime::Exited && found.exit_code == 0,
        None => {
            let waits = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
            if is_sidecar(container) || !waits || !any_regular_created(inputs.pod, inputs.runtime) {
                return false;
            }
            let message = "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally";
            status.state = Some(ended(terminated("Completed", message, 0)));
            true
        }
    }
}

/// A container whose last start failed, or whose restart is held back, waits for that reason.
fn start_failure(inputs: &Inputs<'_>, container: &Container, status: &mut ContainerStatus) {
    if !should_start(container, inputs.pod, inputs.runtime) {
        return;
    }
    let Some(StartFailure { reason, message }) = inputs.start_failures.get(&container.name) else { return };
    if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        status.last_state = status.state.take();
    }
    status.state = Some(waiting(reason, message));
}
