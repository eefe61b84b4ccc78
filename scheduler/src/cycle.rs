//! One attempt to place a pod: `(view, pod) -> decision with reasons`. Pure; randomness is an argument.
//! Upstream: pkg/scheduler/schedule_one.go schedulePod.

use rand::{Rng, RngExt};

use crate::framework::{CycleState, Diagnosis, Prepared, Profile, Reject, View, go_list};
use crate::model::{NodeRow, PodInfo};
use crate::preemption::{self, Preemption};

/// What an attempt came to.
#[derive(Debug)]
pub enum Decision {
    Place { node: String, evaluated: usize, feasible: usize },
    NoNodes,
    Unfit { diagnosis: Diagnosis, preemption: Preemption },
}

/// Where the search of the next pod starts, so that every node has the same chance.
#[derive(Debug, Default)]
pub struct Rotation(usize);

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
    view: View<'_>,
    pod: &PodInfo,
    rotation: &mut Rotation,
    rng: &mut impl Rng,
) -> Decision {
    if view.cache.len() == 0 {
        return Decision::NoNodes;
    }
    let mut state = CycleState::default();
    let mut diagnosis = Diagnosis { all_nodes: view.cache.len(), ..Diagnosis::default() };
    let prepared = match profile.pre_filter(view, pod, &mut state) {
        Ok(prepared) => prepared,
        Err(reject) => {
            diagnosis.plugins.insert(reject.plugin);
            diagnosis.pre_filter = Some(reject);
            let prepared = Prepared {
                active: (0..profile.points.filter.len()).collect(),
                nodes: None,
                limited_by: Default::default(),
            };
            return unfit(profile, view, pod, state, &prepared, diagnosis, rng);
        }
    };
    let feasible = feasible(profile, view, pod, &state, &prepared, rotation, &mut diagnosis);
    let evaluated = feasible.len() + diagnosis.nodes.len();
    match feasible.as_slice() {
        [] => unfit(profile, view, pod, state, &prepared, diagnosis, rng),
        [one] => Decision::Place { node: one.name.to_string(), evaluated, feasible: 1 },
        many => {
            let scores = profile.scores(view, &mut state, pod, many);
            let node = best(many, &scores, rng).to_string();
            Decision::Place { node, evaluated, feasible: many.len() }
        }
    }
}

/// Highest score; among equals any, each as likely.
fn best<'a>(nodes: &[&'a NodeRow], scores: &[i64], rng: &mut impl Rng) -> &'a str {
    let (mut chosen, mut highest, mut equals) = ("", i64::MIN, 0_u32);
    for (node, score) in nodes.iter().zip(scores) {
        if *score > highest {
            (chosen, highest, equals) = (&node.name, *score, 1);
        } else if *score == highest {
            equals += 1;
            if rng.random_range(0..equals) == 0 {
                chosen = &node.name;
            }
        }
    }
    chosen
}

fn feasible<'a>(
    profile: &Profile,
    view: View<'a>,
    pod: &PodInfo,
    state: &CycleState,
    prepared: &Prepared,
    rotation: &mut Rotation,
    diagnosis: &mut Diagnosis,
) -> Vec<&'a NodeRow> {
    // An earlier attempt made room there.
    if let Some(row) = pod.nominated().and_then(|n| view.cache.row(n))
        && profile.filter(view, state, &prepared.active, pod, row).is_ok()
    {
        return vec![row];
    }
    let rows: Vec<&NodeRow> = match &prepared.nodes {
        None => view.cache.rows().collect(),
        Some(names) => {
            diagnosis.absent =
                Some(format!("node(s) didn't satisfy plugin(s) {}", go_list(&prepared.limited_by)));
            names.iter().filter_map(|n| view.cache.row(n)).collect()
        }
    };
    if rows.is_empty() {
        diagnosis.plugins.extend(&prepared.limited_by);
        return Vec::new();
    }
    let wanted = if profile.points.score.is_empty() { 1 } else { enough(rows.len(), profile.percentage) };
    let mut found = Vec::new();
    let mut looked_at = 0;
    for i in 0..rows.len() {
        let row = rows[(rotation.0 + i) % rows.len()];
        looked_at += 1;
        match profile.filter(view, state, &prepared.active, pod, row) {
            Ok(()) => found.push(row),
            Err(reject) => diagnosis.refuse(&row.name, reject),
        }
        if found.len() >= wanted {
            break;
        }
    }
    rotation.0 = (rotation.0 + looked_at) % view.cache.len().max(1);
    if prepared.nodes.is_some() && found.is_empty() {
        diagnosis.plugins.extend(&prepared.limited_by);
    }
    found
}

fn unfit(
    profile: &Profile,
    view: View<'_>,
    pod: &PodInfo,
    state: CycleState,
    prepared: &Prepared,
    mut diagnosis: Diagnosis,
    rng: &mut impl Rng,
) -> Decision {
    let outcome = if profile.points.preemption {
        preemption::preempt(profile, view, pod, &state, &prepared.active, &diagnosis, rng)
    } else {
        Preemption::Off
    };
    diagnosis.post_filter = outcome.message();
    Decision::Unfit { diagnosis, preemption: outcome }
}

/// Verdict of every node and scores of those that fit, for explaining; nothing is cut short.
pub fn explain(profile: &Profile, view: View<'_>, pod: &PodInfo) -> Explanation {
    let mut state = CycleState::default();
    let mut explanation = Explanation::default();
    let prepared = match profile.pre_filter(view, pod, &mut state) {
        Ok(prepared) => prepared,
        Err(reject) => {
            explanation.pre_filter = Some(reject);
            return explanation;
        }
    };
    let mut fitting = Vec::new();
    for row in view.cache.rows() {
        let left_out = prepared.nodes.as_ref().is_some_and(|n| !n.contains(&*row.name));
        match profile.filter(view, &state, &prepared.active, pod, row) {
            _ if left_out => {
                let by = prepared.limited_by.first().copied().unwrap_or_default();
                let reason = format!("node(s) didn't satisfy plugin(s) {}", go_list(&prepared.limited_by));
                explanation.refused.push((row.name.to_string(), Reject::unresolvable(by, reason)));
            }
            Ok(()) => fitting.push(row),
            Err(reject) => explanation.refused.push((row.name.to_string(), reject)),
        }
    }
    explanation.scores = fitting.iter().map(|r| (r.name.to_string(), Vec::new())).collect();
    let scores = &mut explanation.scores;
    profile.each_score(view, &mut state, pod, &fitting, |plugin, values| {
        scores.iter_mut().zip(values).for_each(|((_, list), value)| list.push((plugin, *value)));
    });
    explanation
}

/// What [`explain`] found.
#[derive(Debug, Default)]
pub struct Explanation {
    pub pre_filter: Option<Reject>,
    pub refused: Vec<(String, Reject)>,
    /// Weighted scores by node and plugin.
    pub scores: Vec<(String, Vec<(&'static str, i64)>)>,
}

#[cfg(test)]
mod tests;
