//! What follows from a decision: binding, events, conditions, evictions. The only writes of the scheduler.
//! Upstream: pkg/scheduler/schedule_one.go bindingCycle, handleSchedulingFailure; framework/preemption/executor.go.

use std::sync::Arc;

use client::{DeleteParams, Patch, PatchParams};
use component::features::{self, Gate};
use controller::{NORMAL, WARNING};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ObjectReference;
use machinery::proto::wire::push_field;
use serde_json::json;
use tokio::time::Instant;

use crate::extended;
use crate::framework::Change;
use crate::model::{PodInfo, SeenPod};
use crate::plugins::dynamic_resources::Allotment;
use crate::plugins::volume_binding::Bindings;
use crate::queue::Popped;
use crate::scheduler::{Eviction, Outcome, Running, Scheduler};
use crate::{prebind, prebind_claims};

/// Longest note of an event.
const NOTE: usize = 1024;

/// Does what a cycle decided. What few pods need is boxed: the task of a pod that is just bound stays small.
pub async fn carry_out(scheduler: &Scheduler, popped: Popped, outcome: Outcome, started: Instant) {
    match outcome {
        Outcome::Nothing => {}
        Outcome::Deleted => {
            let pod = &popped.info;
            let note = format!("skip schedule deleting pod: {}", pod.key());
            event(scheduler, pod, WARNING, "FailedScheduling", "Scheduling", &note);
        }
        Outcome::Bind { node, bindings, allotments } => {
            let prepares = !bindings.is_empty() || !allotments.is_empty();
            let announced = prepares && Box::pin(announce(scheduler, &popped.info, &node)).await;
            let bound = prepare_and_bind(scheduler, &popped, &node, bindings, &allotments, started).await;
            if let Err(message) = bound {
                let failure = Failure { node: &node, message, announced, started };
                Box::pin(unbound(scheduler, &popped.info, &allotments, failure)).await;
            }
        }
        Outcome::Refused { message, reason, nominate, eviction, free } => {
            count(
                scheduler,
                &popped.info,
                if reason == "Unschedulable" { "unschedulable" } else { "error" },
                started,
            );
            component::v!(
                2,
                pod = popped.info.key(),
                err = message,
                "Unable to schedule pod; no fit; waiting"
            );
            let shown = popped.info.nominated.clone().unwrap_or_default();
            // One that runs and is to grow is the kubelet's to speak of. Upstream: handleSchedulingFailure.
            if !popped.info.deferred() {
                refused(scheduler, &popped.info, &message, reason, nominate, &shown).await;
            }
            if let Some(free) = free {
                Box::pin(prebind_claims::free(scheduler, &free)).await;
            }
            if let Some(eviction) = eviction {
                Box::pin(evict_for_pod(scheduler, &popped.info, eviction)).await;
            }
        }
    }
}

fn count(scheduler: &Scheduler, pod: &PodInfo, result: &str, started: Instant) {
    let Some(running) = scheduler.running(pod) else { return };
    let labels = [running.profile.scheduler_name.as_str(), result];
    scheduler.metrics.attempts.with(&labels).inc();
    scheduler.metrics.attempt_duration.with(&labels).observe_duration(started.elapsed());
}

/// A reference to a pod.
fn about(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.name.to_string()),
        namespace: Some(pod.namespace.to_string()),
        uid: Some(pod.uid.to_string()),
        resource_version: Some(pod.rest.resource_version.clone()).filter(|v| !v.is_empty()),
        field_path: None,
    }
}

pub fn event(scheduler: &Scheduler, pod: &PodInfo, kind: &str, reason: &str, action: &str, note: &str) {
    if let Some(running) = scheduler.running(pod) {
        running.recorder.event(about(pod), None, kind, reason, action, truncated(note).as_ref());
    }
}

/// Upstream: truncateMessage.
fn truncated(note: &str) -> std::borrow::Cow<'_, str> {
    if note.len() <= NOTE {
        return note.into();
    }
    format!("{} ...", &note[..note.floor_char_boundary(NOTE - 4)]).into()
}

async fn prepare_and_bind(
    scheduler: &Scheduler,
    popped: &Popped,
    node: &str,
    bindings: Bindings,
    allotments: &[Allotment],
    started: Instant,
) -> Result<(), String> {
    let pod = &popped.info;
    if !bindings.is_empty() {
        let limit = scheduler.running(pod).map_or(std::time::Duration::ZERO, |r| r.profile.bind_timeout);
        let done = Box::pin(prebind::bind_volumes(scheduler, pod, node, &bindings, limit)).await;
        // Written and seen, or given up.
        scheduler.state.lock().assumed.forget(&bindings);
        done.map_err(|error| format!("running PreBind plugin \"VolumeBinding\": {error}"))?;
    }
    if !allotments.is_empty() {
        let done = Box::pin(prebind_claims::bind_claims(scheduler, pod, node, allotments)).await;
        done.map_err(|error| format!("running PreBind plugin \"DynamicResources\": {error}"))?;
    }
    bind(scheduler, pod, node).await?;
    bound(scheduler, popped, node, started);
    Ok(())
}

async fn bind(scheduler: &Scheduler, pod: &Arc<PodInfo>, node: &str) -> Result<(), String> {
    let binding = Bind { pod, node };
    match extended::binder(scheduler, pod) {
        Some(extender) => match Box::pin(extender.bind(pod, node)).await {
            Err(error) if extender.ignorable() => {
                tracing::info!(
                    err = error,
                    "Skipping extender in bind as it returned error and has ignorable flag set"
                );
                Box::pin(post(scheduler, pod, &binding)).await
            }
            other => other,
        },
        None => post(scheduler, pod, &binding).await,
    }
}

/// A `Binding`: which node a pod gets.
struct Bind<'a> {
    pod: &'a PodInfo,
    node: &'a str,
}

impl Bind<'_> {
    fn message(&self) -> Vec<u8> {
        let (mut metadata, mut target) = (Vec::with_capacity(128), Vec::with_capacity(64));
        push_field(&mut metadata, 1, self.pod.name.as_bytes());
        push_field(&mut metadata, 3, self.pod.namespace.as_bytes());
        push_field(&mut metadata, 5, self.pod.uid.as_bytes());
        push_field(&mut target, 1, b"Node");
        push_field(&mut target, 3, self.node.as_bytes());
        let mut message = Vec::with_capacity(metadata.len() + target.len() + 8);
        push_field(&mut message, 1, &metadata);
        push_field(&mut message, 2, &target);
        message
    }
}

impl serde::Serialize for Bind<'_> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let Self { pod, node } = *self;
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": &*pod.name, "namespace": &*pod.namespace, "uid": &*pod.uid },
            "target": { "kind": "Node", "name": node },
        });
        binding.serialize(s)
    }
}

/// Counts and tells what was done.
fn bound(scheduler: &Scheduler, popped: &Popped, node: &str, started: Instant) {
    let pod = &popped.info;
    scheduler.state.lock().queue.remove(&pod.uid);
    component::v!(2, pod = pod.key(), node, "Successfully bound pod to node");
    count(scheduler, pod, "scheduled", started);
    scheduler.metrics.pod_attempts.one().observe(f64::from(popped.attempts));
    if let Some(first) = popped.first_added {
        let label = if popped.attempts >= 15 { "15+".into() } else { popped.attempts.to_string() };
        scheduler.metrics.sli_duration.with(&[&label]).observe_duration(first.elapsed());
    }
    let note = format!("Successfully assigned {} to {node}", pod.key());
    event(scheduler, pod, NORMAL, "Scheduled", "Binding", &note);
}

async fn post(scheduler: &Scheduler, pod: &PodInfo, binding: &Bind<'_>) -> Result<(), String> {
    let api = scheduler.client.namespaced::<SeenPod>(&pod.namespace);
    let posted = async {
        let prepared = api.prepare_message(("v1", "Binding"), binding, Bind::message)?;
        api.post_prepared_unread(&pod.name, "binding", &prepared).await
    };
    posted.await.map_err(|error| format!("running Bind plugin \"DefaultBinder\": {error}"))
}

/// Tells others on which node a pod will be once volumes and devices are prepared, which may take long.
/// Upstream: schedule_one.go bindingCycle, gate NominatedNodeNameForExpectation.
async fn announce(scheduler: &Scheduler, pod: &PodInfo, node: &str) -> bool {
    if !features::enabled(Gate::NominatedNodeNameForExpectation) || pod.nominated.as_deref() == Some(node) {
        return false;
    }
    let written = patch_status(scheduler, pod, json!({ "nominatedNodeName": node })).await;
    if let Err(error) = &written {
        tracing::error!(pod = pod.key(), node, %error, "Failed to update the nominated node name in the binding cycle");
    }
    written.is_ok()
}

/// Why a pod was not bound.
struct Failure<'a> {
    node: &'a str,
    message: String,
    /// The pod says that it waits for the node.
    announced: bool,
    started: Instant,
}

/// The pod was not bound: what was allotted to it is given back.
async fn unbound(scheduler: &Scheduler, pod: &Arc<PodInfo>, allotments: &[Allotment], failure: Failure<'_>) {
    if !allotments.is_empty() {
        scheduler.state.lock().assumed.take_back(allotments);
        prebind_claims::unreserve(scheduler, pod, allotments).await;
    }
    give_up(scheduler, pod, failure).await;
}

/// Binding failed: the pod is not on the node after all, and is tried again.
async fn give_up(scheduler: &Scheduler, pod: &Arc<PodInfo>, failure: Failure<'_>) {
    let Failure { node, message, announced, started } = failure;
    tracing::error!(pod = pod.key(), node, err = message, "Error scheduling pod; retrying");
    let waiting = {
        let mut state = scheduler.state.lock();
        if state.cache.forget(&pod.uid) {
            scheduler.wake(&mut state, &Change::PodGone(pod));
            state.queue.failed(&pod.uid, Instant::now());
        } else {
            // Seen bound all the same, or deleted.
            state.queue.remove(&pod.uid);
        }
        state.queue.contains(&pod.uid)
    };
    scheduler.poke();
    count(scheduler, pod, "error", started);
    if waiting {
        let shown = if announced { node } else { pod.nominated.as_deref().unwrap_or_default() };
        refused(scheduler, pod, &message, "SchedulerError", Some(String::new()), shown).await;
    }
}

/// Event and condition of a pod that was not placed; `nominate` is written if it differs from what the pod shows.
async fn refused(
    scheduler: &Scheduler,
    pod: &Arc<PodInfo>,
    message: &str,
    reason: &str,
    nominate: Option<String>,
    shown: &str,
) {
    event(scheduler, pod, WARNING, "FailedScheduling", "Scheduling", message);
    let mut status = serde_json::Map::new();
    if let Some(condition) = condition(pod, "PodScheduled", "False", reason, message) {
        status.insert("conditions".into(), json!([condition]));
    }
    if let Some(node) = nominate.filter(|n| n != shown) {
        let value = if node.is_empty() { serde_json::Value::Null } else { node.into() };
        status.insert("nominatedNodeName".into(), value);
    }
    if !status.is_empty()
        && let Err(error) = patch_status(scheduler, pod, status.into()).await
        && !error.is_not_found()
    {
        tracing::error!(pod = pod.key(), %error, "Error updating pod");
    }
}

pub async fn patch_status(
    scheduler: &Scheduler,
    pod: &PodInfo,
    status: serde_json::Value,
) -> client::Result<()> {
    let api = scheduler.client.namespaced::<SeenPod>(&pod.namespace);
    let patch = Patch::Strategic(json!({ "status": status }));
    api.patch_unread(&pod.name, "status", &patch, &PatchParams::default()).await
}

/// A condition to write; `None` if the pod says the same already.
/// Upstream: pkg/api/v1/pod/util.go UpdatePodCondition.
fn condition(
    pod: &PodInfo,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
) -> Option<serde_json::Value> {
    let known = pod.rest.conditions.iter().find(|c| c.type_ == kind);
    let same = |k: &&k8s_openapi::api::core::v1::PodCondition| k.status == status;
    if known
        .filter(same)
        .is_some_and(|k| k.reason.as_deref() == Some(reason) && k.message.as_deref() == Some(message))
    {
        return None;
    }
    let since = known.filter(same).and_then(|k| k.last_transition_time.as_ref()).map(|t| t.0);
    let since = since.unwrap_or_else(jiff::Timestamp::now);
    let mut condition = json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastProbeTime": null,
        "lastTransitionTime": since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    if let Some(generation) = pod.rest.generation {
        condition["observedGeneration"] = generation.into();
    }
    Some(condition)
}

/// For whom room is made.
pub struct Preemptor<'a> {
    pub running: &'a Running,
    /// "pod" or "podgroup".
    pub kind: &'static str,
    pub uid: &'a str,
    pub about: ObjectReference,
}

/// Victims of one preemptor that are sent away at a time. Upstream: parallelize.DefaultParallelism.
const EVICTIONS: usize = 16;

/// Sends victims away: all but one at a time, then the last, whose end the pod waits for. If there is none to wait for,
/// the pod is tried again.
async fn evict_for_pod(scheduler: &Scheduler, pod: &Arc<PodInfo>, eviction: Eviction) {
    let Some(running) = scheduler.running(pod) else { return };
    let by = Preemptor { running, kind: "pod", uid: &pod.uid, about: about(pod) };
    let last = |victim: &PodInfo| scheduler.state.lock().queue.last_victim(&pod.uid, &victim.uid);
    let end = evict(scheduler, &by, eviction, last).await;
    scheduler.state.lock().queue.made_room(&pod.uid, end != Evicted::Going, Instant::now());
    if end != Evicted::Going {
        scheduler.poke();
    }
}

/// What came of sending victims away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// They go, the last one since now.
    Going,
    /// The last one was gone before: its end may have been seen already.
    Gone,
    /// Not all could be.
    Failed,
}

/// Sends victims away; `on_last` is told the last one before it is.
pub async fn evict(
    scheduler: &Scheduler,
    by: &Preemptor<'_>,
    eviction: Eviction,
    on_last: impl FnOnce(&PodInfo),
) -> Evicted {
    let Eviction { node, victims, displaced } = eviction;
    for other in &displaced {
        if let Err(error) = patch_status(scheduler, other, json!({ "nominatedNodeName": null })).await {
            tracing::error!(pod = other.key(), %error, "Cannot clear 'NominatedNodeName' field");
        }
    }
    let mut victims: Vec<_> = victims.into_iter().filter(|v| !v.terminating).collect();
    // They end already, and no call of ours is needed.
    let Some(last) = victims.pop() else { return Evicted::Going };
    let one = async |victim: Arc<PodInfo>| evict_one(scheduler, by, &victim, &node).await;
    let ends = stream::iter(victims).map(one).buffer_unordered(EVICTIONS);
    if ends.any(async |end| end == Evicted::Failed).await {
        return Evicted::Failed;
    }
    on_last(&last);
    evict_one(scheduler, by, &last, &node).await
}

async fn evict_one(scheduler: &Scheduler, by: &Preemptor<'_>, victim: &PodInfo, node: &str) -> Evicted {
    match condemn(scheduler, by, victim).await {
        Ok(()) => {
            let note = format!("Preempted by {} {} on node {node}", by.kind, by.uid);
            let recorder = &by.running.recorder;
            recorder.event(about(victim), Some(&by.about), NORMAL, "Preempted", "Preempting", &note);
            Evicted::Going
        }
        Err(error) if error.is_not_found() => Evicted::Gone,
        Err(error) => {
            tracing::error!(pod = victim.key(), preemptor = by.uid, %error, "Tried to preempted pod");
            Evicted::Failed
        }
    }
}

async fn condemn(scheduler: &Scheduler, by: &Preemptor<'_>, victim: &PodInfo) -> client::Result<()> {
    let name = &by.running.profile.scheduler_name;
    let message = format!("{name}: preempting to accommodate a higher priority {}", by.kind);
    if let Some(c) = condition(victim, "DisruptionTarget", "True", "PreemptionByScheduler", &message) {
        patch_status(scheduler, victim, json!({ "conditions": [c] })).await?;
    }
    let api = scheduler.client.namespaced::<SeenPod>(&victim.namespace);
    api.delete(&victim.name, &DeleteParams::with_uid(&victim.uid)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Interner, WirePod};

    #[test]
    fn a_binding_is_written_as_serde_writes_it() {
        use k8s_openapi::api::core::v1::Binding;
        let pod: WirePod =
            serde_json::from_value(json!({ "metadata": { "name": "p", "namespace": "n", "uid": "u" } }))
                .unwrap();
        let bind = Bind { pod: &PodInfo::new(&Interner::default(), &pod), node: "a" };
        let short = machinery::proto::seal("v1", "Binding", &bind.message());
        let short: Binding = api::decode(api::MediaType::Protobuf, &short).unwrap();
        let long: Binding = serde_json::from_value(serde_json::to_value(&bind).unwrap()).unwrap();
        assert_eq!(short, long);
    }
}
