//! What a Deployment's status says. Pure.
//! Upstream: pkg/controller/deployment/sync.go calculateStatus, progress.go syncRolloutStatus.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::size::{available, max_unavailable, replicas, total, wanted};

const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// A condition that begins now.
pub fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.to_string()),
        status: Some(status.to_string()),
        reason: Some(reason.to_string()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// A condition that says how the roll-out goes.
pub fn progressing(status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    condition(PROGRESSING, status, reason, message, now)
}

/// Finds a condition.
pub fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|c| c.type_.as_deref() == Some(kind))
}

/// The condition about progress.
pub fn find_progressing(status: &DeploymentStatus) -> Option<&DeploymentCondition> {
    find(status, PROGRESSING)
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_.as_deref() != Some(kind));
    }
}

/// Replaces a condition; one with the same status and reason stays as it is. Upstream: SetDeploymentCondition.
pub fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    let kind = new.type_.clone().unwrap_or_default();
    if let Some(old) = find(status, &kind) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    remove(status, &kind);
    status.conditions.get_or_insert_default().push(new);
}

/// Counts and the condition `Available`.
pub fn counts(
    deployment: &Deployment,
    old: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let all = || old.iter().copied().chain(new);
    let of_status = |field: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| {
        move |set: &ReplicaSet| set.status.as_ref().map_or(0, field)
    };
    let up = total(all(), available);
    let before = deployment.status.clone().unwrap_or_default();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(total(all(), of_status(|s| s.replicas))),
        updated_replicas: Some(total(new, of_status(|s| s.replicas))),
        ready_replicas: Some(total(all(), of_status(|s| s.ready_replicas.unwrap_or(0)))),
        available_replicas: Some(up),
        unavailable_replicas: Some((total(all(), replicas) - up).max(0)),
        terminating_replicas: terminating(all()),
        collision_count: before.collision_count,
        conditions: before.conditions,
    };
    let minimum = if up >= wanted(deployment) - max_unavailable(deployment) {
        condition(
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".into(),
            now,
        )
    } else {
        let message = "Deployment does not have minimum availability.".into();
        condition("Available", "False", "MinimumReplicasUnavailable", message, now)
    };
    set(&mut status, minimum);
    status
}

/// Known only when every set knows its part.
fn terminating<'a>(mut sets: impl Iterator<Item = &'a ReplicaSet>) -> Option<i32> {
    sets.try_fold(0, |sum, set| set.status.as_ref().and_then(|s| s.terminating_replicas).map(|n| sum + n))
}

/// Everything is new and available.
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let want = Some(wanted(deployment));
    [status.updated_replicas, status.replicas, status.available_replicas]
        .iter()
        .all(|n| n.or(Some(0)) == want)
        && status.observed_generation >= deployment.metadata.generation
}

fn advanced(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let old = deployment.status.clone().unwrap_or_default();
    let outdated = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    let more =
        |field: fn(&DeploymentStatus) -> Option<i32>| field(new).unwrap_or(0) > field(&old).unwrap_or(0);
    more(|s| s.updated_replicas)
        || outdated(new) < outdated(&old)
        || more(|s| s.ready_replicas)
        || more(|s| s.available_replicas)
}

/// The deadline for progress; none = there is none.
pub fn deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.progress_deadline_seconds.filter(|s| *s != i32::MAX)?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Adds how the roll-out goes, and whether pods cannot be made.
pub fn rollout(
    deployment: &Deployment,
    old: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = counts(deployment, old, new, now);
    match deadline(deployment) {
        None => remove(&mut status, PROGRESSING),
        Some(deadline) => progress(deployment, new, deadline, &mut status, now),
    }
    let failing = new.into_iter().chain(old.iter().copied()).find_map(|set| {
        let conditions = set.status.as_ref().and_then(|s| s.conditions.as_ref());
        conditions.into_iter().flatten().find(|c| c.type_.as_deref() == Some(REPLICA_FAILURE))
    });
    match failing {
        None => remove(&mut status, REPLICA_FAILURE),
        Some(failure) => {
            let (reason, message) =
                (failure.reason.clone().unwrap_or_default(), failure.message.clone().unwrap_or_default());
            let mut told = condition(
                REPLICA_FAILURE,
                failure.status.as_deref().unwrap_or("True"),
                &reason,
                message,
                now,
            );
            told.last_transition_time.clone_from(&failure.last_transition_time);
            told.last_update_time.clone_from(&failure.last_transition_time);
            set(&mut status, told);
        }
    }
    status
}

fn progress(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    deadline: Duration,
    status: &mut DeploymentStatus,
    now: Timestamp,
) {
    let current = find_progressing(status).cloned();
    let reason = current.as_ref().and_then(|c| c.reason.as_deref()).unwrap_or_default();
    if status.replicas == status.updated_replicas && reason == NEW_SET_AVAILABLE {
        return;
    }
    let subject = match new.and_then(|s| s.metadata.name.as_deref()) {
        Some(name) => format!("ReplicaSet \"{name}\""),
        None => format!("Deployment \"{}\"", deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set(status, progressing("True", NEW_SET_AVAILABLE, message, now));
    } else if advanced(deployment, status) {
        let mut told = progressing("True", "ReplicaSetUpdated", format!("{subject} is progressing."), now);
        if let Some(old) = current.filter(|c| c.status.as_deref() == Some("True")) {
            told.last_transition_time = old.last_transition_time;
        }
        // Set anew each time: its update time is what the deadline counts from.
        remove(status, PROGRESSING);
        set(status, told);
    } else if let Some(old) = &current {
        let since = old.last_update_time.as_ref().map_or(now, |t| t.0);
        let late = now.duration_since(since)
            > jiff::SignedDuration::try_from(deadline).unwrap_or(jiff::SignedDuration::MAX);
        if reason != NEW_SET_AVAILABLE && (reason == TIMED_OUT || late) {
            let message = format!("{subject} has timed out progressing.");
            set(status, progressing("False", TIMED_OUT, message, now));
        }
    }
}

/// When to look whether the deadline passed. Upstream: requeueStuckDeployment.
pub fn next_check(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let deadline = deadline(deployment)?;
    let current = find_progressing(status)?;
    if is_complete(deployment, status) || current.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    let since = current.last_update_time.as_ref()?.0;
    let passed = now.duration_since(since).unsigned_abs();
    Some(deadline.saturating_sub(passed) + Duration::from_secs(1))
}

/// Statuses say the same: an absent count is zero, absent conditions are none.
pub fn same(a: &DeploymentStatus, b: &DeploymentStatus) -> bool {
    let parts = |s: &DeploymentStatus| {
        let counts =
            [s.replicas, s.updated_replicas, s.ready_replicas, s.available_replicas, s.unavailable_replicas]
                .map(|n| n.unwrap_or(0));
        (
            counts,
            s.terminating_replicas,
            s.collision_count,
            s.observed_generation.unwrap_or(0),
            s.conditions.clone().unwrap_or_default(),
        )
    };
    parts(a) == parts(b)
}
