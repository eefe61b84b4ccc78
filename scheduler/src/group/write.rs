//! What is written about a group after an attempt: its condition, and victims that go.
//! Upstream: updatePodGroupCondition, framework/preemption/executor.go.

use std::sync::Arc;

use client::{Meta, Patch, PatchParams};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::scheduling::v1beta1::PodGroup;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::attempt::Status;
use super::preemption::Answer;
use crate::actions::{Evicted, Preemptor, evict};
use crate::model::GroupObject;
use crate::prebind_claims;
use crate::scheduler::{Eviction, Scheduler};

/// The condition that says whether a group has been placed.
const CONDITION: &str = "PodGroupInitiallyScheduled";

/// What there is to say about a group.
pub struct Report {
    /// Name of the profile.
    pub profile: String,
    /// The topmost group, and how it stands.
    pub root: GroupObject,
    pub status: Status,
    /// Its groups of pods.
    pub leaves: Vec<(Arc<PodGroup>, Status)>,
    pub after: Option<Answer>,
}

/// What upstream calls a group of either kind.
fn kind(root: &GroupObject) -> &'static str {
    match root {
        GroupObject::Pods(_) => "podgroup",
        GroupObject::Groups(_) => "compositepodgroup",
    }
}

impl Report {
    fn result(&self) -> &'static str {
        match &self.status {
            Status::Placed => "scheduled",
            Status::Refused(_) if self.after.as_ref().is_some_and(Answer::waits) => "waiting_on_preemption",
            Status::Refused(_) | Status::NotYet(_) => "unschedulable",
            Status::Error(_) => "error",
        }
    }

    fn count(&self, scheduler: &Scheduler, started: Instant) {
        let Some(metrics) = &scheduler.metrics.groups else { return };
        let labels = [self.result(), self.profile.as_str()];
        metrics.attempts.with(&labels).inc();
        metrics.attempt_duration.with(&labels).observe_duration(started.elapsed());
        let Some(answer) = &self.after else { return };
        if answer.counted {
            metrics.preemption_attempts.with(&[answer.result()]).inc();
        }
        if answer.victims.is_empty() {
            return;
        }
        metrics.preemption_victims.one().observe(answer.victims.len() as f64);
        if answer.groups_hit > 0 {
            metrics.disruptions.with(&[kind(&self.root)]).observe(answer.groups_hit as f64);
        }
        metrics.violations.with(&[kind(&self.root)]).add(answer.violations as u64);
    }
}

/// Writes it.
pub async fn carry_out(scheduler: &Scheduler, report: Report, started: Instant) {
    report.count(scheduler, started);
    let Report { profile, root, leaves, after, .. } = report;
    for (object, status) in leaves {
        tell(scheduler, &object, &status).await;
    }
    let Answer { victims, frees, .. } = after.unwrap_or_default();
    for free in &frees {
        Box::pin(prebind_claims::free(scheduler, free)).await;
    }
    let Some(running) = scheduler.profiles.iter().find(|r| r.profile.scheduler_name == profile) else {
        return;
    };
    if victims.is_empty() {
        return;
    }
    let about = about(&root);
    let by = Preemptor { running, kind: kind(&root), uid: &about.uid.clone().unwrap_or_default(), about };
    let eviction = Eviction { node: "cluster".into(), victims, displaced: Vec::new() };
    if evict(scheduler, &by, eviction, |_| {}).await == Evicted::Failed {
        // No deletion may wake it.
        scheduler.state.lock().queue.wake_group(&root.key());
        scheduler.poke();
    }
}

/// Writes the condition of a group of pods. Upstream writes none of groups of groups.
async fn tell(scheduler: &Scheduler, object: &PodGroup, status: &Status) {
    let Some(condition) = condition(object, status, jiff::Timestamp::now()) else { return };
    let api = scheduler.client.namespaced::<PodGroup>(object.namespace());
    let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
    let written = api.patch_status(object.name(), &patch, &PatchParams::default()).await;
    if let Err(error) = written
        && !error.is_not_found()
    {
        tracing::error!(group = object.key(), %error, "Failed to update PodGroup status");
    }
}

fn about(root: &GroupObject) -> ObjectReference {
    let (version, kind, meta) = match root {
        GroupObject::Pods(object) => ("scheduling.k8s.io/v1beta1", "PodGroup", &object.metadata),
        GroupObject::Groups(object) => ("scheduling.k8s.io/v1alpha3", "CompositePodGroup", &object.metadata),
    };
    ObjectReference {
        api_version: Some(version.into()),
        kind: Some(kind.into()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// The condition to write; `None` if the group says the same already, or was placed once.
fn condition(object: &PodGroup, status: &Status, now: jiff::Timestamp) -> Option<Value> {
    let (is, reason) = match status {
        Status::Placed => ("True", "Scheduled"),
        Status::Refused(_) | Status::NotYet(_) => ("False", "Unschedulable"),
        Status::Error(_) => ("False", "SchedulerError"),
    };
    let message = status.message();
    let generation = object.metadata.generation.unwrap_or(0);
    let conditions = object.status.as_ref().and_then(|s| s.conditions.as_ref());
    let known = conditions.into_iter().flatten().find(|c| c.type_ == CONDITION);
    let mut since = now;
    if let Some(known) = known {
        if known.status == "True" && is != "True" {
            return None;
        }
        if known.status == is {
            since = known.last_transition_time.0;
            let same = known.reason == reason && known.message == message;
            if same && known.observed_generation.unwrap_or(0) == generation {
                return None;
            }
        }
    }
    Some(json!({
        "type": CONDITION,
        "status": is,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(status: Value) -> PodGroup {
        serde_json::from_value(json!({
            "metadata": { "name": "g", "namespace": "n", "generation": 2 },
            "spec": { "schedulingPolicy": { "gang": { "minCount": 2 } } },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn what_was_placed_once_stays_so() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let refused = Status::Refused(vec!["no".into()]);
        let fresh = condition(&group(json!({})), &refused, now).unwrap();
        assert_eq!(fresh["reason"], "Unschedulable");
        assert_eq!(fresh["message"], "no");
        assert_eq!(condition(&group(json!({ "conditions": [fresh] })), &refused, now), None);
        let placed = condition(&group(json!({ "conditions": [fresh] })), &Status::Placed, now).unwrap();
        assert_eq!((&placed["status"], &placed["reason"]), (&"True".into(), &"Scheduled".into()));
        let after = group(json!({ "conditions": [placed] }));
        assert_eq!(condition(&after, &refused, now), None);
        assert_eq!(condition(&after, &Status::Placed, now), None);
    }
}
