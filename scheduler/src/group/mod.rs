//! Pods that are placed together or not at all: the attempt, the search for a placement, the search for victims, and
//! what is written afterwards.
//! Upstream: pkg/scheduler/schedule_one_podgroup.go. Groups of groups (CompositePodGroup) are not here; their gate is
//! refused at start. Start reading at [`decide`].

use std::sync::Arc;

use client::Meta;
use component::features::{Gate, enabled};
use jiff::Timestamp;
use k8s_openapi::api::scheduling::v1beta1::PodGroup;
use tokio::time::Instant;

use crate::framework::{GroupView, Profile};
use crate::model::groups::{gang, priority};
use crate::model::{GroupKey, PodInfo};
use crate::queue::{Ended, Popped, PoppedGroup, RefusedBy};
use crate::scheduler::{Outcome, Running, Scheduler, State};

mod attempt;
mod preemption;
mod search;
#[cfg(test)]
mod tests;
mod write;

pub use attempt::{Attempt, Status};
pub use write::{Report, carry_out};

use attempt::{PodEnd, UNSCHEDULABLE};
use preemption::Answer;
use search::{Asking, Search};

/// What comes of an attempt: what is to be written for each pod, and for the group.
pub struct Decided {
    pub pods: Vec<(Popped, Outcome)>,
    pub report: Option<Report>,
}

/// An attempt that has begun.
struct Begun<'a> {
    key: GroupKey,
    running: &'a Running,
    /// Pods are placed by it: what follows a failed attempt is the group's to do, not theirs.
    profile: Profile,
    object: Arc<PodGroup>,
    pods: Vec<Popped>,
    skipped: Vec<(Popped, Outcome)>,
    /// Extenders have a say about some of the pods.
    asks: bool,
}

/// Tries to place a group. Nothing else is tried meanwhile; it waits for nothing but extenders.
pub async fn decide(scheduler: &Scheduler, popped: PoppedGroup, started: Instant) -> Decided {
    let begun = match begin(scheduler, popped, started) {
        Ok(begun) => begun,
        Err(decided) => return decided,
    };
    let search = Search { profile: &begun.profile, metrics: scheduler.metrics.placements.as_ref() };
    let (object, pods) = (begun.object.clone(), begun.pods.clone());
    let attempt = match begun.asks {
        true => search.root(&mut Asking(scheduler), object, pods).await,
        false => search.root_at_once(&mut scheduler.state.lock(), &scheduler.listers, object, pods),
    };
    finish(scheduler, begun, attempt, started)
}

/// A group as plugins see it.
fn seen(state: &State, object: &PodGroup) -> GroupView {
    let spec = &object.spec;
    let constraints = spec.scheduling_constraints.as_ref().and_then(|c| c.topology.as_ref());
    let placed = state.groups.get(&object.key()).into_iter().flat_map(|g| g.scheduled(&state.cache));
    GroupView {
        fewest: gang(spec).unwrap_or(1),
        topology: constraints.and_then(|c| c.first()).map(|c| c.key.clone()),
        scheduled: placed.cloned().collect(),
    }
}

fn begin(scheduler: &Scheduler, popped: PoppedGroup, now: Instant) -> Result<Begun<'_>, Decided> {
    let PoppedGroup { key, object, pods } = popped;
    let mut guard = scheduler.state.lock();
    let state = &mut *guard;
    let running = pods.first().and_then(|p| scheduler.running(&p.info));
    if let Some(problem) = invalid(running, state, &key, &object, &pods) {
        tracing::error!(group = &*key, err = problem, "Error scheduling pod group");
        let one = |popped: Popped| {
            let outcome = back(state, &popped.info, Back::failed(problem.clone()), now);
            (popped, outcome)
        };
        let pods = pods.into_iter().map(one).collect();
        state.queue.finish_group(&key, Ended::Failed, now);
        let status = Status::Error(problem);
        let report =
            running.map(|running| Report::new(&running.profile.scheduler_name, object, status, None));
        return Err(Decided { pods, report });
    }
    let (pods, skipped) = sieve(state, pods);
    let Some(running) = running.filter(|_| !pods.is_empty()) else {
        state.queue.finish_group(&key, Ended::Placed, now);
        return Err(Decided { pods: skipped, report: None });
    };
    let asks = pods.iter().any(|p| scheduler.extenders.iter().any(|e| e.interested(&p.info)));
    let profile = running.profile.of_a_group();
    Ok(Begun { key, running, profile, object, pods, skipped, asks })
}

fn finish(scheduler: &Scheduler, begun: Begun<'_>, attempt: Attempt, started: Instant) -> Decided {
    let Begun { key, running, profile, object, mut skipped, asks, .. } = begun;
    let mut guard = scheduler.state.lock();
    let state = &mut *guard;
    if let Some(metrics) = &scheduler.metrics.groups {
        metrics.algorithm_duration.one().observe_duration(started.elapsed());
    }
    let search = Search { profile: &profile, metrics: scheduler.metrics.placements.as_ref() };
    let after = match &attempt.status {
        Status::Refused(_) if !running.profile.points.group_preemption => Some(Answer::default()),
        Status::Refused(_) if asks => Some(Answer::not_with_extenders()),
        Status::Refused(_) => Some(preemption::preempt(state, &scheduler.listers, &search, &attempt)),
        _ => None,
    };
    let ended = match &attempt.status {
        Status::Placed => Ended::Placed,
        Status::Refused(_) => Ended::Refused { victims: after.as_ref().is_some_and(Answer::waits) },
        Status::NotYet(_) | Status::Error(_) => Ended::Failed,
    };
    let (tried, status) = settle(state, attempt, after.as_ref(), started);
    state.queue.finish_group(&key, ended, started);
    skipped.extend(tried);
    let report = Report::new(&running.profile.scheduler_name, object, status, after);
    Decided { pods: skipped, report: Some(report) }
}

/// Why a group can not be tried. Upstream: validatePodGroup.
fn invalid(
    running: Option<&Running>,
    state: &State,
    key: &str,
    object: &PodGroup,
    pods: &[Popped],
) -> Option<String> {
    let first = &pods.first()?.info;
    let wanted = priority(&object.spec);
    let by_group = enabled(Gate::PodGroupPreemptionPolicy);
    let never = match by_group {
        true => object.spec.preemption_policy.as_deref() == Some("Never"),
        false => first.never_preempts,
    };
    let policy = |never: bool| if never { "Never" } else { "PreemptLowerPriority" };
    let problem = |pod: &PodInfo| {
        if pod.scheduler_name != first.scheduler_name {
            return Some(format!(
                "all pods in a single pod group should have the same .spec.schedulerName set, got: {:?} and {:?}",
                pod.scheduler_name, first.scheduler_name
            ));
        }
        if pod.priority != wanted {
            let own = pod.priority;
            return Some(format!(
                "all pods in a single pod group should have the same priority as the pod group's priority, got {own} and {wanted}"
            ));
        }
        let (own, all) = (policy(pod.never_preempts), policy(never));
        let other = if by_group { " as the pod group's preemption policy" } else { "" };
        (own != all).then(|| {
            format!("all pods in a single pod group should have the same preemption policy{other}, got {own} and {all}")
        })
    };
    let placed = state.groups.get(key).into_iter().flat_map(|g| g.scheduled(&state.cache));
    let found = pods.iter().map(|p| &p.info).chain(placed).find_map(|pod| problem(pod));
    found.or_else(|| {
        let name = &first.scheduler_name;
        running.is_none().then(|| format!("profile not found for scheduler name {name:?}"))
    })
}

/// Pods that are to be placed, and what is done about the others. Upstream: skipPodGroupPodSchedule.
fn sieve(state: &mut State, pods: Vec<Popped>) -> (Vec<Popped>, Vec<(Popped, Outcome)>) {
    let (mut left, mut skipped) = (Vec::with_capacity(pods.len()), Vec::new());
    for popped in pods {
        let uid = popped.info.uid.clone();
        if popped.info.terminating {
            state.queue.remove(&uid);
            skipped.push((popped, Outcome::Deleted));
        } else if state.cache.node_of(&uid).is_some() {
            state.queue.remove(&uid);
        } else {
            left.push(popped);
        }
    }
    (left, skipped)
}

/// How a pod goes back to the queue.
struct Back {
    message: String,
    by: RefusedBy,
    failed: bool,
    /// The node it waits for; "": none any more.
    nominate: Option<String>,
}

impl Back {
    fn failed(message: String) -> Self {
        Self { failed: true, nominate: Some(String::new()), ..Self::refused(message) }
    }

    fn refused(message: String) -> Self {
        Self { message, by: RefusedBy::new(), failed: false, nominate: None }
    }
}

/// Memory's part of a pod that was not placed.
fn back(state: &mut State, pod: &Arc<PodInfo>, back: Back, now: Instant) -> Outcome {
    let Back { message, by, failed, nominate } = back;
    state.queue.note(&pod.uid, Timestamp::now(), &message);
    if failed {
        state.queue.failed(&pod.uid, now);
    } else {
        state.queue.refused(&pod.uid, by, now);
    }
    if let Some(node) = &nominate {
        state.nominate(pod, Some(node.as_str()).filter(|n| !n.is_empty()));
    }
    let reason = if failed { "SchedulerError" } else { "Unschedulable" };
    Outcome::Refused { message, reason, nominate, eviction: None, free: None }
}

/// What becomes of each pod, and of the group. Upstream: submitPodGroupAlgorithmResult, applyPodGroupPostFilterResult.
fn settle(
    state: &mut State,
    attempt: Attempt,
    after: Option<&Answer>,
    now: Instant,
) -> (Vec<(Popped, Outcome)>, Status) {
    let before = attempt.status;
    let status = after.map_or_else(|| before.clone(), |answer| answer.added_to(&before));
    let waiting = after.is_some_and(Answer::waits);
    let mut settled = Vec::with_capacity(attempt.results.len());
    for (popped, end) in attempt.results {
        let pod = &popped.info;
        let mut going = match (&status, end) {
            (Status::Placed, PodEnd::Placed(placed)) => {
                settled.push((popped, placed.bind()));
                continue;
            }
            (_, PodEnd::Failed(message)) => Back::failed(message),
            (Status::Error(message), _) => Back::failed(message.clone()),
            (_, PodEnd::Refused { message, by, nominate }) => Back { by, nominate, ..Back::refused(message) },
            (_, PodEnd::Untried) => Back::refused(before.message()),
            (_, PodEnd::Placed(_)) if waiting => Back::refused(status.message()),
            (_, PodEnd::Placed(_)) => Back {
                nominate: Some(String::new()),
                ..Back::refused(format!("{UNSCHEDULABLE}, {}", status.message()))
            },
        };
        if let Some(node) = after.and_then(|a| a.nominated(&pod.uid)) {
            going.nominate = Some(node.into());
        }
        let outcome = back(state, pod, going, now);
        settled.push((popped, outcome));
    }
    (settled, status)
}
