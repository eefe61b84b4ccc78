//! Which pods would have to go, anywhere, for a group to be placed: all less important ones are taken away, the group is
//! tried, and whoever need not go comes back. Decides only; all is put back before it returns.
//! Upstream: framework/preemption/podgrouppreemption.go.

use std::sync::Arc;

use component::features::{Gate, enabled};
use futures::FutureExt;
use hashbrown::HashMap;

use super::attempt::{Placed, Status, put, take_back};
use super::node::Node;
use super::search::{Ground, Held, Search};
use crate::framework::{CycleState, Profile};
use crate::listers::Listers;
use crate::model::{Place, PodInfo, Tree, Uid};
use crate::plugins::dynamic_resources::Free;
use crate::plugins::group_claims::GroupFree;
use crate::preemption::{Budgets, Unit, terminating_by_preemption, units};
use crate::queue::Popped;
use crate::scheduler::State;

/// How the plugin speaks of itself.
const PREFIX: &str = "pod group preemption: ";

type Nominated = HashMap<Uid, String, foldhash::fast::RandomState>;

/// What came of it.
#[derive(Default)]
pub struct Answer {
    /// For which nodes pods wait from now on, if making room for the group has begun.
    nominated: Option<Nominated>,
    pub victims: Vec<Arc<PodInfo>>,
    /// Of how many units the victims are that belong to groups.
    pub groups_hit: usize,
    pub violations: usize,
    /// What is said of it.
    reasons: Vec<String>,
    /// Nothing else is said, and nothing else is done.
    pub alone: bool,
    /// The plugin that failed.
    failed: Option<&'static str>,
    /// Whether pods were looked for.
    pub counted: bool,
    /// Claims that stand in the way.
    pub frees: Vec<Free>,
}

impl Answer {
    fn no(why: &str) -> Self {
        Self { reasons: vec![format!("{PREFIX}{why}")], counted: true, ..Self::default() }
    }

    /// Nothing that is less important could go either. Upstream: UnschedulableAndUnresolvable.
    fn never(why: &str) -> Self {
        Self { alone: true, ..Self::no(why) }
    }

    pub fn failed(plugin: &'static str, why: String) -> Self {
        Self { failed: Some(plugin), alone: true, reasons: vec![why], ..Self::default() }
    }

    /// What follows next is asked, too.
    pub fn join(&mut self, next: Answer) {
        self.reasons.extend(next.reasons);
        self.counted |= next.counted;
    }

    /// Claims of pods are freed, and perhaps one of the group.
    pub fn free(&mut self, frees: &[Free], more: Option<GroupFree>) {
        self.frees.extend_from_slice(frees);
        let said =
            more.as_ref().map_or("deallocation and deletion of ResourceClaims completed", GroupFree::message);
        self.reasons.push(said.into());
        self.alone = matches!(more, Some(GroupFree::Unreserve(..)));
        self.frees.extend(more.map(GroupFree::write));
    }

    /// Whether the group waits for pods to go.
    pub fn waits(&self) -> bool {
        self.nominated.is_some()
    }

    /// Node that a pod waits for.
    pub fn nominated(&self, uid: &Uid) -> Option<&str> {
        self.nominated.as_ref()?.get(uid).map(String::as_str)
    }

    /// What metrics call it.
    pub fn result(&self) -> &'static str {
        match (self.failed, self.waits(), self.alone) {
            (Some(_), _, _) => "Error",
            (None, true, _) => "Success",
            (None, false, true) => "UnschedulableAndUnresolvable",
            (None, false, false) => "Unschedulable",
        }
    }

    /// The status of an attempt that failed, with this. Upstream adds it once for each group that shares the status.
    pub fn added_to(&self, status: &Status, times: usize) -> Status {
        let said = self.reasons.join(", ");
        match (status, self.failed) {
            (_, Some(plugin)) => {
                Status::Error(format!("error in {plugin:?} PodGroupPostFilter plugins: {said}"))
            }
            (Status::Refused(reasons), None) => {
                let mut reasons = reasons.clone();
                reasons.extend(std::iter::repeat_n(said, times));
                Status::Refused(reasons)
            }
            (other, None) => other.clone(),
        }
    }
}

/// A pod that is taken away, and where it was.
struct Removed(Arc<PodInfo>, Arc<str>, Place);

fn take_away(state: &mut State, unit: &Unit) -> Vec<Removed> {
    let one = |pod: &Arc<PodInfo>| {
        let (node, place) = state.cache.placed(&pod.uid)?;
        let pod = state.cache.remove(&pod.uid)?;
        Some(Removed(pod, node, place))
    };
    unit.pods.iter().filter_map(one).collect()
}

fn put_back(state: &mut State, removed: &[Removed]) {
    for Removed(pod, node, place) in removed {
        state.cache.place(pod.clone(), node, *place);
    }
}

/// Units of pods that could go, each with its pods that were taken away.
type Gone = (Vec<Unit>, Vec<Vec<Removed>>);

/// Looks for victims.
pub async fn preempt(
    ground: &mut impl Ground,
    search: &Search<'_>,
    tree: &Tree,
    waiting: &[Popped],
) -> Answer {
    let (victims, removed) = match ground.with(|state, _| clear(state, tree, waiting)) {
        Ok(gone) => gone,
        Err(answer) => return answer,
    };
    let trial = search.root(ground, tree, waiting).await;
    ground.with(|state, listers| judge(state, listers, search.profile, &trial, (victims, removed)))
}

/// The same where no extender is asked: it waits for nothing.
pub fn preempt_at_once(
    state: &mut State,
    listers: &Listers,
    search: &Search<'_>,
    tree: &Tree,
    waiting: &[Popped],
) -> Answer {
    let answer = preempt(&mut Held { state, listers }, search, tree, waiting).now_or_never();
    answer.expect("only extenders are waited for")
}

/// Takes all pods away that are less important than a group, unless nothing is to be done for it.
fn clear(state: &mut State, tree: &Tree, waiting: &[Popped]) -> Result<Gone, Answer> {
    let own = tree.object.priority();
    let pods = || waiting.iter().map(|popped| &popped.info);
    let never = match enabled(Gate::PodGroupPreemptionPolicy) {
        true => tree.object.never_preempts(),
        false => pods().any(|p| p.never_preempts),
    };
    if never {
        return Err(Answer::no("not eligible due to preemptionPolicy=Never."));
    }
    if pods().any(|pod| under_way(state, pod, own)) {
        let now = |p: &Arc<PodInfo>| (p.uid.clone(), p.nominated.as_deref().unwrap_or_default().to_string());
        let nominated = Some(pods().map(now).collect());
        return Err(Answer { nominated, ..Answer::never("ongoing preemption on nominated nodes") });
    }
    let victims: Vec<Unit> = units(&state.cache, &state.groups, state.cache.rows())
        .into_iter()
        .filter(|u| u.priority < own)
        .collect();
    if victims.is_empty() {
        return Err(Answer::never("No preemption victims found for incoming preemptor"));
    }
    let removed = victims.iter().map(|unit| take_away(state, unit)).collect();
    Ok((victims, removed))
}

/// What a trial without them says. All is put back.
fn judge(
    state: &mut State,
    listers: &Listers,
    profile: &Profile,
    trial: &Node,
    (victims, removed): Gone,
) -> Answer {
    let answer = match &trial.status {
        Status::Placed => {
            trial.take_back(state);
            let mut units: Vec<(Unit, Vec<Removed>)> = victims.into_iter().zip(removed).collect();
            units.sort_by_cached_key(|(unit, _)| unit.importance());
            return spare(state, listers, profile, trial, units);
        }
        Status::Error(why) => {
            Answer { counted: true, ..Answer::failed("DefaultPreemption", format!("{PREFIX}{why}")) }
        }
        refused => Answer::no(&refused.message()),
    };
    removed.iter().for_each(|pods| put_back(state, pods));
    answer
}

/// Whether pods are on their way out where a pod waits for room.
fn under_way(state: &State, pod: &PodInfo, own: i32) -> bool {
    let row = pod.nominated.as_deref().and_then(|n| state.cache.row(n));
    let going = |p: &Arc<PodInfo>| state.groups.priority(p) < own && terminating_by_preemption(p);
    row.is_some_and(|row| row.pods.iter().any(going))
}

/// Lets stay whom it can, those first that a disruption budget protects.
fn spare(
    state: &mut State,
    listers: &Listers,
    profile: &Profile,
    trial: &Node,
    units: Vec<(Unit, Vec<Removed>)>,
) -> Answer {
    let budgets = Budgets::new(listers);
    let broken = budgets.broken_by(units.iter().map(|(unit, _)| unit));
    let mut answer = Answer { alone: true, counted: true, ..Answer::default() };
    let mut going: Vec<Unit> = Vec::new();
    let mut gone: Vec<Vec<Removed>> = Vec::new();
    let mut all: Vec<(usize, (Unit, Vec<Removed>))> = broken.into_iter().zip(units).collect();
    all.sort_by_key(|(broken, _)| *broken == 0);
    for (broken, (unit, removed)) in all {
        put_back(state, &removed);
        if fits(state, listers, profile, trial) {
            continue;
        }
        gone.push(take_away(state, &unit));
        answer.violations += broken;
        going.push(unit);
    }
    gone.iter().for_each(|pods| put_back(state, pods));
    going.sort_by_cached_key(Unit::importance);
    answer.groups_hit = going.iter().filter(|u| u.rank > 1).count();
    answer.victims = going.into_iter().flat_map(|u| u.pods).collect();
    let found =
        format!("{PREFIX}found a placement for podgroup, preempting {} victims", answer.victims.len());
    answer.reasons.push(found);
    let nodes = trial.placed().into_iter();
    let nodes = nodes.map(|(popped, placed)| (popped.info.uid.clone(), placed.node.clone()));
    answer.nominated = Some(nodes.collect());
    answer
}

/// Whether every pod of the group still fits on the node that was found for it, one after the other.
fn fits(state: &mut State, listers: &Listers, profile: &Profile, trial: &Node) -> bool {
    let assignments = trial.placed();
    state.assumed.begin_sharing();
    let mut there = 0;
    let all = assignments.iter().all(|(popped, placed)| {
        let fits = one_fits(state, listers, profile, popped, placed);
        if fits {
            put(state, popped, placed);
            there += 1;
        }
        fits
    });
    take_back(state, &assignments[..there]);
    state.assumed.end_sharing();
    all
}

fn one_fits(
    state: &mut State,
    listers: &Listers,
    profile: &Profile,
    popped: &Popped,
    placed: &Placed,
) -> bool {
    let pod = &popped.info;
    let view = state.view(listers, profile, pod);
    let mut cycle = CycleState::default();
    let Ok(prepared) = profile.pre_filter(view, pod, &mut cycle) else { return false };
    let row = view.cache.row(&placed.node);
    row.is_some_and(|row| profile.filter(view, &cycle, &prepared.active, pod, row).is_ok())
}
