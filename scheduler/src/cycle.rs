//! One attempt to place a pod: `(view, pod) -> decision with reasons`. Pure; randomness is an argument.
//! Upstream: pkg/scheduler/schedule_one.go schedulePod.

use std::sync::Arc;

use rand::{Rng, RngExt};
use smallvec::SmallVec;

use crate::assumed::Assumed;
use crate::framework::{
    Code, CycleState, Diagnosis, Nominated, Placement, Plugin, Prepared, Profile, Reject, View, go_list,
};
use crate::listers::Listers;
use crate::model::{Cache, Groups, NodeRow, PodInfo};
use crate::plugins::dynamic_resources::{self, Allotment, Free, Freeable};
use crate::plugins::volume_binding::{self, Bindings};
use crate::preemption::{self, Preemption};

mod class;

pub use class::{Class, Classes};

/// What an attempt came to.
#[derive(Debug)]
pub enum Decision {
    Place {
        node: String,
        evaluated: usize,
        feasible: usize,
        bindings: Bindings,
        allotments: Vec<Allotment>,
        /// Claims that keep the pod of a group from some nodes.
        free: Freeable,
    },
    NoNodes,
    Unfit {
        diagnosis: Diagnosis,
        preemption: Preemption,
        /// Claims that keep the pod from nodes.
        free: Box<Freeable>,
    },
    /// A plugin could not answer.
    Failed {
        plugin: &'static str,
        message: String,
    },
}

/// What a scheduler remembers from cycle to cycle.
#[derive(Default)]
pub struct Memory {
    pub classes: Classes,
    /// Where the search of the next pod starts, so that every node has the same chance.
    next: usize,
    /// Places of the rows that fit, of the attempt under way.
    places: Vec<usize>,
}

/// All a cycle reads; the cache is prepared for it first.
pub struct Scene<'a> {
    pub cache: &'a mut Cache,
    pub listers: &'a Listers,
    pub nominated: &'a Nominated,
    pub groups: &'a Groups,
    pub assumed: &'a Assumed,
    pub placement: Option<&'a Placement>,
}

impl<'a> Scene<'a> {
    /// Makes known what plugins will ask, and lends the view.
    pub fn prepare(self, profile: &Profile, pod: &PodInfo) -> View<'a> {
        let Scene { cache, listers, nominated, groups, assumed, placement } = self;
        cache.arrange();
        cache.remember(pod);
        profile.prepare(cache, listers, pod);
        View { cache, listers, nominated, groups, assumed, placement }
    }

    /// Lends the view to what asks nothing about a pod.
    pub fn view(self) -> View<'a> {
        let Scene { cache, listers, nominated, groups, assumed, placement } = self;
        View { cache, listers, nominated, groups, assumed, placement }
    }
}

const FEWEST: usize = 100;
const FEWEST_PERCENT: usize = 5;

/// How many fitting nodes are enough. Upstream: numFeasibleNodesToFind.
fn enough(all: usize, percentage: i32) -> usize {
    if all < FEWEST {
        return all;
    }
    let percent = match usize::try_from(percentage) {
        Ok(0) | Err(_) => 50_usize.saturating_sub(all / 125).max(FEWEST_PERCENT),
        Ok(given) => given,
    };
    (all * percent / 100).max(FEWEST)
}

/// Tries to place a pod.
pub fn schedule(
    profile: &Profile,
    scene: Scene<'_>,
    pod: &PodInfo,
    memory: &mut Memory,
    rng: &mut impl Rng,
) -> Decision {
    let view = scene.prepare(profile, pod);
    let mut state = CycleState::default();
    let mut diagnosis = Diagnosis { all_nodes: view.nodes(), ..Diagnosis::default() };
    if diagnosis.all_nodes == 0 {
        return Decision::NoNodes;
    }
    let prepared = match profile.pre_filter(view, pod, &mut state) {
        Ok(prepared) => prepared,
        Err(refusal) if refusal.reject.code == Code::Error => return failed(PRE_FILTER, &refusal.reject),
        Err(refusal) => {
            diagnosis.refuse_all(refusal);
            let prepared = Prepared {
                active: (0..profile.points.filter.len()).collect(),
                nodes: None,
                limited_by: Default::default(),
            };
            return unfit(profile, view, pod, state, &prepared, diagnosis, None, false, rng);
        }
    };
    let found = match feasible(profile, view, pod, &state, &prepared, memory, &mut diagnosis) {
        Ok(found) => found,
        Err(reject) => return failed(FILTER, &reject),
    };
    let evaluated = found.len() + diagnosis.nodes.len();
    let place = |state: &CycleState, row: &NodeRow, feasible: usize| {
        if let Some(refused) = not_permitted(profile, pod, row) {
            return refused;
        }
        let Some(allotments) = allotments(state, row) else { return not_given(row) };
        Decision::Place {
            node: row.name.to_string(),
            evaluated,
            feasible,
            bindings: volume_binding::bindings(view, state, pod, row),
            allotments,
            free: for_group(profile, state, pod),
        }
    };
    match found.as_slice() {
        [] => {
            diagnosis.blame();
            let class = Some(memory.classes.of(profile, pod));
            unfit(profile, view, pod, state, &prepared, diagnosis, class, false, rng)
        }
        [one] => place(&state, one, 1),
        many => {
            let class = memory.classes.of(profile, pod);
            let class = pod.node.is_none().then_some((&*class, memory.places.as_slice()));
            let scores = profile.scores(view, &mut state, pod, many, class);
            place(&state, many[best_of(&scores, rng)], many.len())
        }
    }
}

/// What filters left, before extenders have their say.
pub struct Explored {
    pub nodes: Vec<String>,
    pub diagnosis: Diagnosis,
    /// Refusals of extenders, by node.
    pub refused: Vec<(String, Reject)>,
}

/// The first half of an attempt: nodes that fit. A decision where there is nothing to ask extenders about.
pub fn explore(
    profile: &Profile,
    scene: Scene<'_>,
    pod: &PodInfo,
    memory: &mut Memory,
) -> Result<Explored, Decision> {
    let view = scene.prepare(profile, pod);
    let mut state = CycleState::default();
    let mut diagnosis = Diagnosis { all_nodes: view.nodes(), ..Diagnosis::default() };
    if diagnosis.all_nodes == 0 {
        return Err(Decision::NoNodes);
    }
    let none = Prepared { active: Default::default(), nodes: None, limited_by: Default::default() };
    let prepared = match profile.pre_filter(view, pod, &mut state) {
        Ok(prepared) => prepared,
        Err(refusal) if refusal.reject.code == Code::Error => {
            return Err(failed(PRE_FILTER, &refusal.reject));
        }
        Err(refusal) => {
            diagnosis.refuse_all(refusal);
            none
        }
    };
    let mut nodes = Vec::new();
    if diagnosis.pre_filter.is_none() {
        let found = feasible(profile, view, pod, &state, &prepared, memory, &mut diagnosis);
        let found = found.map_err(|reject| failed(FILTER, &reject))?;
        nodes = found.iter().map(|r| r.name.to_string()).collect();
        diagnosis.blame();
    }
    Ok(Explored { nodes, diagnosis, refused: Vec::new() })
}

/// The second half: the best of the nodes that are left, if it still fits. With `ask`, extenders want to be asked
/// about preemption, too.
pub fn settle(
    profile: &Profile,
    scene: Scene<'_>,
    pod: &PodInfo,
    explored: Explored,
    extra: &std::collections::BTreeMap<String, i64>,
    ask: bool,
    rng: &mut impl Rng,
) -> Decision {
    let Explored { nodes, mut diagnosis, refused } = explored;
    let view = scene.prepare(profile, pod);
    let mut state = CycleState::default();
    let prepared = match profile.pre_filter(view, pod, &mut state) {
        Ok(prepared) => prepared,
        Err(_) => Prepared {
            active: (0..profile.points.filter.len()).collect(),
            nodes: None,
            limited_by: Default::default(),
        },
    };
    let evaluated = nodes.len() + diagnosis.nodes.len();
    let rows: Vec<&NodeRow> = nodes.iter().filter_map(|n| view.cache.row(n)).collect();
    let fits = |row: &&&NodeRow| profile.filter(view, &state, &prepared.active, pod, row).is_ok();
    let rows: Vec<&NodeRow> = rows.iter().filter(fits).copied().collect();
    if rows.is_empty() {
        for (node, reject) in refused {
            if let Some(row) = view.cache.row(&node) {
                diagnosis.refuse(row.at, Arc::new(reject));
            }
        }
        return unfit(profile, view, pod, state, &prepared, diagnosis, None, ask, rng);
    }
    let mut scoring = state.clone();
    let mut scores = profile.scores(view, &mut scoring, pod, &rows, None);
    for (row, score) in rows.iter().zip(&mut scores) {
        *score += extra.get(&*row.name).copied().unwrap_or(0);
    }
    let row = rows[best_of(&scores, rng)];
    if let Some(refused) = not_permitted(profile, pod, row) {
        return refused;
    }
    let bindings = volume_binding::bindings(view, &state, pod, row);
    let Some(allotments) = allotments(&state, row) else { return not_given(row) };
    let free = for_group(profile, &state, pod);
    Decision::Place {
        node: row.name.to_string(),
        evaluated,
        feasible: rows.len(),
        bindings,
        allotments,
        free,
    }
}

/// A pod that fits and is not bound all the same. Upstream: schedule_one.go prepareForBindingCycle.
fn not_permitted(profile: &Profile, pod: &PodInfo, row: &NodeRow) -> Option<Decision> {
    if let Err(reject) = profile.permit(pod) {
        let mut diagnosis = Diagnosis { all_nodes: 1, ..Diagnosis::default() };
        diagnosis.refuse(row.at, Arc::new(reject));
        diagnosis.blame();
        return Some(Decision::Unfit { diagnosis, preemption: Preemption::Off, free: Box::default() });
    }
    let message = || format!("pod {}({}) is in the cache, so can't be assumed", pod.uid, pod.key());
    pod.deferred().then(|| Decision::Failed { plugin: "", message: message() })
}

/// What could be freed for the pod, if its group asks for that.
fn for_group(profile: &Profile, state: &CycleState, pod: &PodInfo) -> Freeable {
    let devices = state.devices.as_ref().filter(|_| profile.points.group_frees);
    devices.map(|d| d.freeable(pod)).unwrap_or_default()
}

/// What the pod's claims get on a node that fits; none if they cannot have it after all.
fn allotments(state: &CycleState, row: &NodeRow) -> Option<Vec<Allotment>> {
    let Some(devices) = &state.devices else { return Some(Vec::new()) };
    devices.settle(row).then(|| devices.allotments(&row.name))
}

/// Does not happen: what nodes have is remembered only as long as it holds.
fn not_given(row: &NodeRow) -> Decision {
    let message = format!("node {}: devices that were there cannot be allocated", row.name);
    Decision::Failed { plugin: dynamic_resources::NAME, message }
}

/// How upstream speaks of a plugin that could not answer: RunPreFilterPlugins, RunFilterPlugins.
type Speech = fn(plugin: &str, reasons: &str) -> String;
const PRE_FILTER: Speech = |plugin, reasons| format!("running PreFilter plugin {plugin:?}: {reasons}");
pub const FILTER: Speech = |plugin, reasons| format!("running {plugin:?} filter plugin: {reasons}");

fn failed(speech: Speech, reject: &Reject) -> Decision {
    let message = speech(reject.plugin, &reject.reasons.join(", "));
    Decision::Failed { plugin: reject.plugin, message }
}

/// Where the highest score is; among equals any, each as likely.
pub fn best_of(scores: &[i64], rng: &mut impl Rng) -> usize {
    let (mut chosen, mut highest, mut equals) = (0, i64::MIN, 0_u32);
    for (at, score) in scores.iter().enumerate() {
        if *score > highest {
            (chosen, highest, equals) = (at, *score, 1);
        } else if *score == highest {
            equals += 1;
            if rng.random_range(0..equals) == 0 {
                chosen = at;
            }
        }
    }
    chosen
}

/// Rows that fit, as many as are enough; an error ends the attempt.
fn feasible<'a>(
    profile: &Profile,
    view: View<'a>,
    pod: &PodInfo,
    state: &CycleState,
    prepared: &Prepared,
    memory: &mut Memory,
    diagnosis: &mut Diagnosis,
) -> Result<Vec<&'a NodeRow>, Arc<Reject>> {
    // An earlier attempt made room there.
    if let Some(row) = pod.nominated.as_deref().and_then(|n| view.cache.row(n)).filter(|r| view.allows(r))
        && profile.filter(view, state, &prepared.active, pod, row).is_ok()
    {
        memory.places = vec![row.at];
        return Ok(vec![row]);
    }
    let all = view.cache.all_rows();
    let fewer: Vec<usize>;
    let rows: &[usize] = match &prepared.nodes {
        None if view.placement.is_none() => view.cache.order(),
        None => {
            fewer = view.cache.order().iter().copied().filter(|at| view.allows(&all[*at])).collect();
            &fewer
        }
        Some(names) => {
            diagnosis.absent =
                Some(format!("node(s) didn't satisfy plugin(s) {}", go_list(&prepared.limited_by)));
            let named = names.iter().filter_map(|n| view.cache.row(n));
            fewer = named.filter(|r| view.allows(r)).map(|r| r.at).collect();
            &fewer
        }
    };
    let wanted = if profile.points.score.is_empty() { 1 } else { enough(rows.len(), profile.percentage) };
    let filters = profile.local_filters();
    let mut kept = pod.node.is_none().then(|| memory.classes.of(profile, pod));
    let rest: SmallVec<[&Arc<dyn Plugin>; 8]> =
        prepared.active.iter().filter(|i| **i >= filters).map(|i| &profile.points.filter[*i]).collect();
    let mut found = Vec::with_capacity(wanted);
    let mut looked_at = 0;
    let start = memory.next;
    memory.places.clear();
    let (before, after) = rows.split_at(if rows.is_empty() { 0 } else { start % rows.len() });
    for &at in after.iter().chain(before) {
        let row = &all[at];
        looked_at += 1;
        let waited_for = !view.nominated.is_empty() && view.nominated.contains_key(&*row.name);
        let verdict = match &mut kept {
            Some(class) if waited_for && rest.is_empty() => class
                .verdict_with_waiting(profile, filters, view, pod, row)
                .and_then(|()| class.verdict(profile, filters, view, pod, row)),
            // Looked at afresh, for pods that wait for the node count; the class learns the scores all the same.
            Some(class) if waited_for => {
                let verdict = profile.filter(view, state, &prepared.active, pod, row).map_err(Arc::new);
                verdict.and_then(|()| class.verdict(profile, filters, view, pod, row))
            }
            Some(class) => {
                let known = class.fits(at, view.cache.generation(at));
                let own = if known { Ok(()) } else { class.verdict(profile, filters, view, pod, row) };
                own.and_then(|()| {
                    rest.iter().try_for_each(|p| p.filter(view, state, pod, row)).map_err(Arc::new)
                })
            }
            None => profile.filter(view, state, &prepared.active, pod, row).map_err(Arc::new),
        };
        match verdict {
            Ok(()) => {
                found.push(row);
                memory.places.push(at);
            }
            Err(reject) if reject.code == Code::Error => return Err(reject),
            Err(reject) => diagnosis.refuse(row.at, reject),
        }
        if found.len() >= wanted {
            break;
        }
    }
    memory.next = (start + looked_at) % diagnosis.all_nodes.max(1);
    if prepared.nodes.is_some() && found.is_empty() {
        diagnosis.plugins.extend(&prepared.limited_by);
    }
    Ok(found)
}

#[expect(clippy::too_many_arguments, reason = "all that a failed attempt left")]
fn unfit(
    profile: &Profile,
    view: View<'_>,
    pod: &PodInfo,
    state: CycleState,
    prepared: &Prepared,
    mut diagnosis: Diagnosis,
    class: Option<&mut Class>,
    ask: bool,
    rng: &mut impl Rng,
) -> Decision {
    // Before preemption tries nodes out, which leaves other devices behind in the state: upstream asks in this order too.
    let asked = state.devices.as_ref().filter(|_| profile.points.resources);
    let free = asked.map_or_else(|| for_group(profile, &state, pod), |d| d.freeable(pod));
    let outcome = if profile.resources_cannot_answer(&diagnosis) {
        Preemption::Failed("not found")
    } else if profile.points.preemption {
        preemption::preempt(profile, view, pod, &state, &prepared.active, &diagnosis, class, ask, rng)
    } else {
        Preemption::Off
    };
    diagnosis.post_filter = afterwards(free.first.as_ref().filter(|_| profile.points.resources), &outcome);
    Decision::Unfit { diagnosis, preemption: outcome, free: Box::new(free) }
}

/// What follows a failed attempt, in one text. Whatever is not a plain no is said alone. Upstream: RunPostFilterPlugins.
pub fn afterwards(free: Option<&Free>, outcome: &Preemption) -> String {
    let joins = matches!(outcome, Preemption::Useless(_) | Preemption::Ineligible(_) | Preemption::Off);
    let freed = free.filter(|_| joins).map(|f| f.message().to_string());
    let texts = freed.into_iter().chain([outcome.message()]).filter(|t| !t.is_empty());
    texts.collect::<Vec<_>>().join(", ")
}

/// In place of a plugin's name: nodes that were left out before filters ran.
pub const LEFT_OUT: &str = "PreFilter";

/// Verdict of every node and scores of those that fit, for explaining; nothing is cut short.
pub fn explain(profile: &Profile, view: View<'_>, pod: &PodInfo) -> Explanation {
    let mut state = CycleState::default();
    let mut explanation = Explanation::default();
    let prepared = match profile.pre_filter(view, pod, &mut state) {
        Ok(prepared) => prepared,
        Err(refusal) => {
            explanation.pre_filter = Some(refusal.reject);
            return explanation;
        }
    };
    let mut fitting = Vec::new();
    for row in view.cache.rows() {
        if prepared.nodes.as_ref().is_some_and(|n| !n.contains(&*row.name)) {
            let reason = format!("node(s) didn't satisfy plugin(s) {}", go_list(&prepared.limited_by));
            explanation.refused.push((row.name.to_string(), Reject::unresolvable(LEFT_OUT, reason)));
            continue;
        }
        match profile.filter(view, &state, &prepared.active, pod, row) {
            Ok(()) => fitting.push(row),
            Err(reject) => explanation.refused.push((row.name.to_string(), reject)),
        }
    }
    explanation.scores = fitting.iter().map(|r| (r.name.to_string(), Vec::new())).collect();
    let scores = &mut explanation.scores;
    profile.each_score(view, &mut state, pod, &fitting, None, |plugin, values| {
        scores.iter_mut().zip(values).for_each(|((_, list), value)| list.push((plugin, *value)));
    });
    explanation
}

/// What [`explain`] found.
#[derive(Debug, Default)]
pub struct Explanation {
    /// Refused before nodes were looked at.
    pub pre_filter: Option<Reject>,
    pub refused: Vec<(String, Reject)>,
    /// Weighted scores by node and plugin.
    pub scores: Vec<(String, Vec<(&'static str, i64)>)>,
}

#[cfg(test)]
pub mod generate;
#[cfg(test)]
pub mod generate_devices;
#[cfg(test)]
pub mod generate_gated;
#[cfg(test)]
mod generate_volumes;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
