//! Pods that are placed together or not at all: the attempt, the search for a placement, the search for victims, and
//! what is written afterwards.
//! Upstream: pkg/scheduler/schedule_one_podgroup.go. Start reading at [`decide`].

use std::sync::Arc;

use component::features::{Gate, enabled};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::framework::{GroupPostFilter, GroupView, Profile};
use crate::listers::Listers;
use crate::model::{GroupKey, GroupObject, PodInfo, Tree};
use crate::plugins::dynamic_resources;
use crate::plugins::group_claims::{self, GroupFree};
use crate::queue::{Ended, Popped, PoppedGroup, RefusedBy};
use crate::scheduler::{Outcome, Running, Scheduler, State};

mod attempt;
#[cfg(test)]
mod claim_tests;
mod node;
#[cfg(test)]
mod oracle;
mod preemption;
mod search;
#[cfg(test)]
mod tests;
mod write;

pub use attempt::Status;
pub use search::Ground;
pub use write::{Report, carry_out};

use attempt::{PodEnd, UNSCHEDULABLE};
use node::Node;
use preemption::Answer;
use search::{Apart, Asking, Search};

/// What comes of an attempt: what is to be written for each pod, and for the group.
pub struct Decided {
    pub pods: Vec<(Popped, Outcome)>,
    pub report: Option<Box<Report>>,
}

/// An attempt that has begun.
struct Begun<'a> {
    key: GroupKey,
    running: &'a Running,
    /// Pods are placed by it: what follows a failed attempt is the group's to do, not theirs.
    profile: Profile,
    tree: Tree,
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
    let (tree, pods) = (&begun.tree, &begun.pods);
    let node = match begun.asks {
        true => search.root(&mut Asking(scheduler), tree, pods).await,
        false => search.root_at_once(&mut scheduler.state.lock(), &scheduler.listers, tree, pods),
    };
    let ahead = match begun.asks && matches!(node.status, Status::Refused(_)) {
        true => {
            // Pods that would have to go can not be missing from what others see while extenders are asked.
            let state = scheduler.state.lock().apart();
            Some(preemption::preempt(&mut Apart { scheduler, state }, &search, tree, pods).await)
        }
        false => None,
    };
    finish(scheduler, begun, node, ahead, started)
}

/// A group as plugins see it.
fn seen(state: &State, object: &GroupObject) -> GroupView {
    GroupView {
        fewest: object.fewest(),
        topology: object.topology().map(str::to_string),
        scheduled: state.groups.scheduled(&object.key(), &state.cache),
    }
}

fn begin(scheduler: &Scheduler, popped: PoppedGroup, now: Instant) -> Result<Begun<'_>, Decided> {
    let PoppedGroup { key, tree, pods } = popped;
    let mut guard = scheduler.state.lock();
    let state = &mut *guard;
    let running = pods.first().and_then(|p| scheduler.running(&p.info));
    if let Some(problem) = invalid(running, state, &tree, &pods) {
        tracing::error!(group = &*key, err = problem, "Error scheduling pod group");
        let one = |popped: Popped| {
            let outcome = back(state, &popped.info, Back::failed(problem.clone()), now);
            (popped, outcome)
        };
        let pods = pods.into_iter().map(one).collect();
        state.queue.finish_group(&key, Ended::Failed, now);
        let status = Status::Error(problem);
        let leaves = tree.leaves().into_iter().map(|leaf| (leaf.clone(), status.clone())).collect();
        let report = running.map(|running| {
            let profile = running.profile.scheduler_name.clone();
            Box::new(Report { profile, root: tree.object.clone(), status, leaves, after: None })
        });
        return Err(Decided { pods, report });
    }
    let (pods, skipped) = sieve(state, pods);
    let Some(running) = running.filter(|_| !pods.is_empty()) else {
        state.queue.finish_group(&key, Ended::Placed, now);
        return Err(Decided { pods: skipped, report: None });
    };
    let asks = pods.iter().any(|p| scheduler.extenders.iter().any(|e| e.interested(&p.info)));
    let profile = running.profile.of_a_group();
    Ok(Begun { key, running, profile, tree, pods, skipped, asks })
}

/// `ahead`: what came of the search for victims, where extenders had to be asked.
fn finish(
    scheduler: &Scheduler,
    begun: Begun<'_>,
    node: Node,
    mut ahead: Option<Answer>,
    started: Instant,
) -> Decided {
    let Begun { key, running, profile, tree, pods, mut skipped, .. } = begun;
    let mut guard = scheduler.state.lock();
    let state = &mut *guard;
    if let Some(metrics) = &scheduler.metrics.groups {
        metrics.algorithm_duration.one().observe_duration(started.elapsed());
    }
    let search = Search { profile: &profile, metrics: scheduler.metrics.placements.as_ref() };
    let node = node.completed(&tree, &pods);
    let after = match &node.status {
        Status::Refused(_) => {
            let preempt = |state: &mut State| {
                let now = || preemption::preempt_at_once(state, &scheduler.listers, &search, &tree, &pods);
                ahead.take().unwrap_or_else(now)
            };
            Some(follow(state, &scheduler.listers, &profile, &node, preempt))
        }
        _ => None,
    };
    let ended = match &node.status {
        Status::Placed => Ended::Placed,
        Status::Refused(_) => Ended::Refused { victims: after.as_ref().is_some_and(Answer::waits) },
        Status::NotYet(_) | Status::Error(_) => Ended::Failed,
    };
    let shares = node.shares();
    let times = |node: &Node| shares.get(&node.origin).copied().unwrap_or(1);
    let status = told(&node.status, after.as_ref(), times(&node));
    let mut leaves = Vec::new();
    for leaf in node.into_leaves() {
        let (object, times) = (leaf.object.clone(), times(&leaf));
        let (tried, status) = settle(state, leaf, after.as_ref(), times, started);
        skipped.extend(tried);
        if let GroupObject::Pods(object) = object {
            leaves.push((object, status));
        }
    }
    state.queue.finish_group(&key, ended, started);
    let profile = running.profile.scheduler_name.clone();
    let report = Report { profile, root: tree.object, status, leaves, after };
    Decided { pods: skipped, report: Some(Box::new(report)) }
}

/// What follows when a group is not placed. Upstream: RunPodGroupPostFilterPlugins.
fn follow(
    state: &mut State,
    listers: &Listers,
    profile: &Profile,
    node: &Node,
    mut preempt: impl FnMut(&mut State) -> Answer,
) -> Answer {
    let mut all = Answer::default();
    for plugin in &profile.points.group_post_filter {
        match plugin {
            GroupPostFilter::Resources if !frees(profile, &node.object) => {}
            GroupPostFilter::Resources if node.claims.asked => match of_group(state, listers, node) {
                Ok(more) => {
                    all.free(&node.claims.frees, more);
                    if all.alone {
                        return all;
                    }
                }
                Err(why) => return Answer::failed(dynamic_resources::NAME, why),
            },
            // Upstream's plugin knows nothing of a group about whose pods it was not asked.
            GroupPostFilter::Resources => {
                return Answer::failed(dynamic_resources::NAME, "not found".into());
            }
            GroupPostFilter::Preemption => {
                let mut answer = preempt(state);
                if answer.alone {
                    answer.frees = all.frees;
                    return answer;
                }
                all.join(answer);
            }
        }
    }
    all
}

/// A claim of the group itself that is freed, where nothing could be done for one of its pods.
fn of_group(state: &State, listers: &Listers, node: &Node) -> Result<Option<GroupFree>, String> {
    let GroupObject::Pods(group) = &node.object else { return Ok(None) };
    if !node.claims.lacking || !enabled(Gate::DRAWorkloadResourceClaims) {
        return Ok(None);
    }
    match state.groups.scheduled(&node.object.key(), &state.cache).is_empty() {
        true => group_claims::to_free(listers, group, &node.claims.blocked),
        false => Ok(None),
    }
}

/// Whether claims are freed for a group. Upstream: dynamicresources.go PodGroupPostFilter.
fn frees(profile: &Profile, object: &GroupObject) -> bool {
    match object {
        GroupObject::Pods(group) => !profile.topology_aware || group.spec.scheduling_constraints.is_none(),
        GroupObject::Groups(_) => false,
    }
}

/// A status with what followed.
fn told(status: &Status, after: Option<&Answer>, times: usize) -> Status {
    after.map_or_else(|| status.clone(), |answer| answer.added_to(status, times))
}

/// Why a group can not be tried. Upstream: validatePodGroup.
fn invalid(running: Option<&Running>, state: &State, tree: &Tree, pods: &[Popped]) -> Option<String> {
    let first = &pods.first()?.info;
    let wanted = tree.object.priority();
    let by_group = enabled(Gate::PodGroupPreemptionPolicy);
    let never = match by_group {
        true => tree.object.never_preempts(),
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
    let placed = state.groups.scheduled(&tree.key(), &state.cache);
    let found = pods.iter().map(|p| &p.info).chain(&placed).find_map(|pod| problem(pod));
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
    leaf: Node,
    after: Option<&Answer>,
    times: usize,
    now: Instant,
) -> (Vec<(Popped, Outcome)>, Status) {
    let before = leaf.status;
    let status = told(&before, after, times);
    let waiting = after.is_some_and(Answer::waits);
    let mut settled = Vec::with_capacity(leaf.results.len());
    for (popped, end) in leaf.results {
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
