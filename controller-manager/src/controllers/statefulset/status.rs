//! The status that a stateful set's pods amount to. Pure.
//! Upstream: pkg/controller/statefulset/stateful_set_control.go updateStatus, stateful_set_utils.go completeUpdate.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetCondition, StatefulSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::identity::{replicas, revision};
use super::plan::{View, is_created, is_ready};
use crate::kept::Pod;
use crate::pods;

/// A status without counts.
pub fn begin(view: &View<'_>) -> StatefulSetStatus {
    let stored = view.set.status.as_ref();
    StatefulSetStatus {
        observed_generation: view.set.metadata.generation,
        current_revision: Some(view.current.name.clone()),
        update_revision: Some(view.update.name.clone()),
        collision_count: Some(view.collisions),
        conditions: stored.and_then(|s| s.conditions.clone()),
        ..StatefulSetStatus::default()
    }
}

/// Counts pods.
pub fn count(status: &mut StatefulSetStatus, view: &View<'_>, all: &[Arc<Pod>]) {
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(all.iter().filter(|p| test(p)).count()).unwrap_or(i32::MAX)
    };
    let of = |pod: &Pod, name: &str| is_created(pod) && !pods::is_deleted(pod) && revision(pod) == name;
    status.replicas = count(&is_created);
    status.ready_replicas = Some(count(&is_ready));
    status.available_replicas = Some(count(&|p| is_ready(p) && view.is_available(p)));
    status.current_replicas = Some(count(&|p| of(p, &view.current.name)));
    status.updated_replicas = Some(count(&|p| of(p, &view.update.name)));
}

/// When all pods are of the new revision and ready, it becomes the current one.
pub fn complete(set: &StatefulSet, status: &mut StatefulSetStatus, now: Timestamp) {
    let want = replicas(set);
    let done = [status.updated_replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0), status.replicas];
    if done.iter().any(|n| *n != want) {
        return;
    }
    status.current_replicas = status.updated_replicas;
    status.current_revision = status.update_revision.clone();
    let strategy = set.spec.update_strategy.as_ref();
    let recreates = strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate");
    if recreates && status.conditions.iter().flatten().any(|c| c.type_.as_deref() == Some("Progressing")) {
        let done = StatefulSetCondition {
            type_: Some("Progressing".to_string()),
            status: Some("False".to_string()),
            reason: Some("RecreateCompleted".to_string()),
            message: Some("All pods recreated successfully".to_string()),
            last_transition_time: Some(Time(now)),
        };
        set_condition(status, done);
    }
}

/// Sets a condition; the transition time moves only with the status. Upstream: setStatefulSetCondition.
pub fn set_condition(status: &mut StatefulSetStatus, mut new: StatefulSetCondition) {
    let all = status.conditions.get_or_insert_default();
    let Some(old) = all.iter_mut().find(|c| c.type_ == new.type_) else {
        all.push(new);
        return;
    };
    if old.status == new.status {
        new.last_transition_time = old.last_transition_time.clone();
    }
    *old = new;
}

/// The status says something that the stored one does not. Upstream: inconsistentStatus.
pub fn differs(old: &StatefulSetStatus, new: &StatefulSetStatus) -> bool {
    let parts = |s: &StatefulSetStatus| {
        let counts = [s.current_replicas, s.ready_replicas, s.updated_replicas, s.available_replicas];
        (
            s.replicas,
            counts.map(|n| n.unwrap_or(0)),
            s.current_revision.clone().unwrap_or_default(),
            s.update_revision.clone().unwrap_or_default(),
            s.conditions.clone().unwrap_or_default(),
        )
    };
    new.observed_generation.unwrap_or(0) > old.observed_generation.unwrap_or(0) || parts(old) != parts(new)
}
