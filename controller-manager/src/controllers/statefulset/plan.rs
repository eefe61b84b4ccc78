//! What a stateful set needs next. Pure: the plan says what to do in which order; the first failure ends it.
//!
//! With the policy OrderedReady a plan holds at most one creation or deletion, and nothing moves past a pod that is not
//! available. With Parallel every ordinal is treated by itself.
//! Upstream: pkg/controller/statefulset/stateful_set_control.go updateStatefulSet.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetCondition, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod as WholePod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::identity::{self, ordinal, replicas, revision};
use super::{claims, status};
use crate::controllers::shared::scaled;
use crate::kept::Pod;
use crate::pods;

/// A revision by name, with the template it holds.
pub struct Version {
    pub name: String,
    pub template: PodTemplateSpec,
}

/// Everything a decision depends on.
pub struct View<'a> {
    pub set: &'a StatefulSet,
    /// The set's own pods.
    pub pods: &'a [Arc<Pod>],
    pub current: &'a Version,
    pub update: &'a Version,
    pub collisions: i32,
    /// Claims by name.
    pub claim: &'a (dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>> + Sync),
    pub now: Timestamp,
}

/// One write, or a few that belong together.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Makes the pod and, before it, its claims.
    Create(Box<WholePod>),
    Delete(Arc<Pod>),
    /// Deletes a pod of an old revision: it leaves the count of current ones.
    Replace(Arc<Pod>),
    /// Makes missing claims of a pod.
    Claims(Arc<Pod>),
    /// Gives a pod its identity, volumes and claims back.
    Restore(Arc<Pod>),
    /// Gives a pod's claims the owners that the retention policy wants.
    Owners(Arc<Pod>),
}

/// Work on one pod, in order.
pub type Task = Vec<Step>;

/// What to do: the tasks of a phase one after another, or together.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub phases: Vec<Vec<Task>>,
    /// Tasks of a phase may run together.
    pub together: bool,
    /// The status when all went well, before `Replace` steps are counted.
    pub status: StatefulSetStatus,
}

/// A pod that is there, or the one to be made.
#[derive(Clone)]
enum Slot {
    There(Arc<Pod>),
    Missing(Box<WholePod>),
}

/// Whether a walk over pods goes on.
#[derive(PartialEq)]
enum Walk {
    On,
    Stop,
}

impl View<'_> {
    fn min_ready(&self) -> i32 {
        self.set.spec.min_ready_seconds.unwrap_or(0)
    }

    pub fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready(), self.now)
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        !self.is_available(pod) || pods::is_deleted(pod)
    }

    fn is_old(&self, pod: &Pod) -> bool {
        revision(pod) != self.update.name
    }

    fn strategy(&self) -> &str {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|s| s.type_.as_deref()).unwrap_or_default()
    }

    fn partition(&self) -> Option<i32> {
        let strategy = self.set.spec.update_strategy.as_ref();
        strategy.and_then(|s| s.rolling_update.as_ref()).map(|r| r.partition.unwrap_or(0))
    }

    fn is_parallel(&self) -> bool {
        self.set.spec.pod_management_policy.as_deref() == Some("Parallel")
    }

    /// A missing pod comes from the current revision below the partition, from the new one at and above it.
    /// Upstream: newVersionedStatefulSetPod.
    fn new_pod(&self, ordinal: i32) -> Box<WholePod> {
        let start = identity::start(self.set);
        let updated_current = self.set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0);
        let keeps = match self.partition() {
            Some(partition) => ordinal < start.saturating_add(partition),
            None => self.strategy() == "RollingUpdate" && ordinal < start.saturating_add(updated_current),
        };
        let version = if keeps { self.current } else { self.update };
        Box::new(identity::new_pod(self.set, &version.template, &version.name, ordinal))
    }

    fn claims_match(&self, pod: &Pod) -> bool {
        let names = identity::claim_names(self.set, pod);
        let found = names.iter().filter_map(|n| (self.claim)(n));
        found.into_iter().all(|claim| claims::is_up_to_date(&claim, self.set, pod))
    }
}

/// Decides.
///
/// # Errors
/// The strategy's numbers are malformed.
pub fn plan(view: &View<'_>) -> Result<Plan, String> {
    let mut plan = Plan { status: status::begin(view), together: view.is_parallel(), ..Plan::default() };
    status::count(&mut plan.status, view, view.pods);
    if view.set.metadata.deletion_timestamp.is_some() {
        return Ok(plan);
    }
    let (slots, condemned) = sort(view);
    let there: Vec<Arc<Pod>> = slots.iter().filter_map(Slot::pod).chain(condemned.iter().cloned()).collect();
    status::count(&mut plan.status, view, &there);
    if view.strategy() == "Recreate" && !plan.recreate(view, &there) {
        return Ok(plan);
    }
    if plan.process(view, &slots) == Walk::Stop {
        return Ok(plan);
    }
    let fixes = condemned.iter().filter(|p| !view.claims_match(p)).map(|p| vec![Step::Owners(p.clone())]);
    plan.push(fixes.collect());
    if plan.condemn(view, &slots, &condemned) == Walk::Stop {
        return Ok(plan);
    }
    if view.strategy() == "RollingUpdate" || view.strategy().is_empty() {
        let pods: Vec<Option<Arc<Pod>>> = slots.iter().map(Slot::pod).collect();
        plan.roll(view, &pods)?;
    }
    Ok(plan)
}

/// The wanted ordinals in order, and the other pods, highest ordinal first.
fn sort(view: &View<'_>) -> (Vec<Slot>, Vec<Arc<Pod>>) {
    let (start, count) = (identity::start(view.set), replicas(view.set));
    let wanted = |at: i32| view.pods.iter().rev().find(|p| ordinal(&***p) == Some(at));
    let slot =
        |at: i32| wanted(at).map_or_else(|| Slot::Missing(view.new_pod(at)), |p| Slot::There(p.clone()));
    let slots = (0..count).map(|n| slot(start.saturating_add(n))).collect();
    let mut others: Vec<Arc<Pod>> = view
        .pods
        .iter()
        .filter(|p| ordinal(&***p).is_some() && !identity::is_wanted(view.set, &***p))
        .cloned()
        .collect();
    others.sort_by_key(|p| std::cmp::Reverse(ordinal(&**p)));
    (slots, others)
}

impl Slot {
    fn pod(&self) -> Option<Arc<Pod>> {
        match self {
            Slot::There(pod) => Some(pod.clone()),
            Slot::Missing(_) => None,
        }
    }
}

impl Plan {
    fn push(&mut self, tasks: Vec<Task>) {
        let tasks: Vec<Task> = tasks.into_iter().filter(|t| !t.is_empty()).collect();
        if !tasks.is_empty() {
            self.phases.push(tasks);
        }
    }

    /// All pods of old revisions go before new ones come. True when none is left.
    fn recreate(&mut self, view: &View<'_>, there: &[Arc<Pod>]) -> bool {
        let old: Vec<&Arc<Pod>> = there.iter().filter(|p| is_created(p) && view.is_old(p)).collect();
        let live = old.iter().filter(|p| !pods::is_deleted(p));
        let tasks: Vec<Task> = live.map(|p| vec![Step::Delete((*p).clone())]).collect();
        self.push(tasks);
        if !old.is_empty() {
            self.tell_progress("Deleting old revision pods", view.now);
        } else if view.current.name != view.update.name {
            self.tell_progress("Waiting for new-revision pods to be created", view.now);
        }
        self.together |= !old.is_empty();
        old.is_empty()
    }

    fn tell_progress(&mut self, message: &str, now: Timestamp) {
        let told = StatefulSetCondition {
            type_: Some("Progressing".to_string()),
            status: Some("True".to_string()),
            reason: Some("RecreateInProgress".to_string()),
            message: Some(message.to_string()),
            last_transition_time: Some(Time(now)),
        };
        status::set_condition(&mut self.status, told);
    }

    /// Pods of wanted ordinals.
    fn process(&mut self, view: &View<'_>, slots: &[Slot]) -> Walk {
        let mut tasks = Vec::new();
        let mut walk = Walk::On;
        for slot in slots {
            let (task, next) = one(view, slot);
            tasks.push(task);
            if next == Walk::Stop && !self.together {
                walk = Walk::Stop;
                break;
            }
        }
        self.push(tasks);
        walk
    }

    /// Pods of other ordinals, from the highest down.
    fn condemn(&mut self, view: &View<'_>, slots: &[Slot], condemned: &[Arc<Pod>]) -> Walk {
        let unavailable = |p: &Arc<Pod>| view.is_unavailable(p);
        let first = slots
            .iter()
            .map(|s| s.pod().filter(|p| !unavailable(p)).map_or_else(|| s.name(), |_| None))
            .find(Option::is_some)
            .flatten()
            .or_else(|| condemned.iter().rev().find(|p| unavailable(p)).map(|p| p.name().to_string()));
        let mut tasks = Vec::new();
        let mut walk = Walk::On;
        for pod in condemned {
            if !pods::is_deleted(pod) {
                let blocked =
                    !(is_ready(pod) && view.is_available(pod)) && Some(pod.name()) != first.as_deref();
                if self.together || !blocked {
                    tasks.push(vec![Step::Delete(pod.clone())]);
                }
            }
            if !self.together {
                walk = Walk::Stop;
                break;
            }
        }
        self.push(tasks);
        walk
    }

    /// Replaces pods of old revisions, as many as may be unavailable.
    /// Upstream: updateStatefulSetAfterInvariantEstablished.
    fn roll(&mut self, view: &View<'_>, pods: &[Option<Arc<Pod>>]) -> Result<(), String> {
        let most = max_unavailable(view.set)?;
        let is_down = |p: &Option<Arc<Pod>>| p.as_ref().is_none_or(|p| view.is_unavailable(p));
        let down = pods.iter().filter(|p| is_down(p)).count();
        let is_old = |p: &Arc<Pod>| view.is_old(p) && !pods::is_deleted(p);
        let from = usize::try_from(view.partition().unwrap_or(0)).unwrap_or(0);
        let targets = || pods.iter().skip(from).rev().flatten().filter(|p| is_old(p));
        let replace = |p: &Arc<Pod>| vec![Step::Replace(p.clone())];
        let budget = most.saturating_sub(down);
        if !self.together {
            let tasks = targets().take(budget).map(replace).collect();
            self.push(tasks);
            return Ok(());
        }
        // A pod that has just been made from an old revision is not worth counting: it is not there yet.
        let stuck = pods.iter().flatten().any(|p| view.is_unavailable(p) && is_old(p));
        if down >= most && !stuck {
            return Ok(());
        }
        let useless = targets().filter(|p| !view.is_available(p)).map(replace);
        let useful = targets().filter(|p| view.is_available(p)).take(budget).map(replace);
        let tasks: Vec<Task> = useless.chain(useful).collect();
        // One after another: a failure must end the round before the budget is overdrawn.
        self.push(vec![tasks.into_iter().flatten().collect()]);
        Ok(())
    }
}

impl Slot {
    fn name(&self) -> Option<String> {
        match self {
            Slot::There(pod) => Some(pod.name().to_string()),
            Slot::Missing(pod) => pod.metadata.name.clone(),
        }
    }
}

/// One wanted ordinal. Upstream: processReplica.
fn one(view: &View<'_>, slot: &Slot) -> (Task, Walk) {
    let pod = match slot {
        Slot::There(pod) => pod,
        Slot::Missing(pod) => {
            let names = identity::claim_names(view.set, &**pod);
            let stale = names.iter().filter_map(|n| (view.claim)(n));
            let blocked = stale.into_iter().any(|c| claims::blocks_creation(&c, view.set, &**pod));
            let task = if blocked { Vec::new() } else { vec![Step::Create(pod.clone())] };
            return (task, Walk::Stop);
        }
    };
    if pods::is_terminal(pod) {
        let delete = (!pods::is_deleted(pod)).then(|| Step::Delete(pod.clone()));
        return (delete.into_iter().collect(), Walk::Stop);
    }
    let mut task = Vec::new();
    if pods::phase(pod) == "Pending" && claims_missing(view, pod) {
        task.push(Step::Claims(pod.clone()));
    }
    let waits = pods::is_deleted(pod) || !is_ready(pod) || !view.is_available(pod);
    if waits && !view.is_parallel() {
        return (task, Walk::Stop);
    }
    let sound = identity::identity_matches(view.set, &**pod)
        && identity::storage_matches(view.set, pod)
        && view.claims_match(pod);
    if !sound {
        task.push(Step::Restore(pod.clone()));
    }
    (task, Walk::On)
}

/// A claim is absent, is being deleted, or has the wrong owners.
fn claims_missing(view: &View<'_>, pod: &Pod) -> bool {
    let names = identity::claim_names(view.set, pod);
    names.iter().any(|name| {
        (view.claim)(name).is_none_or(|claim| {
            claim.metadata.deletion_timestamp.is_some() || !claims::is_up_to_date(&claim, view.set, pod)
        })
    })
}

/// The API server has the pod.
pub fn is_created(pod: &Pod) -> bool {
    !pods::phase(pod).is_empty()
}

/// Upstream: isRunningAndReady.
pub fn is_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

/// Pods that a roll-out may make unavailable, at least one. Upstream: getStatefulSetMaxUnavailable.
///
/// # Errors
/// The value is no percentage.
pub fn max_unavailable(set: &StatefulSet) -> Result<usize, String> {
    let strategy = set.spec.update_strategy.as_ref();
    let stated = strategy.and_then(|s| s.rolling_update.as_ref()).and_then(|r| r.max_unavailable.as_ref());
    let number = stated.map_or(Ok(1), |value| scaled(value, replicas(set), false))?;
    Ok(usize::try_from(number).unwrap_or(0).max(1))
}
