//! Which pods would have to go for a pod to fit. Decides only; who carries it out is `actions.rs`.
//! Upstream: plugins/defaultpreemption/default_preemption.go, framework/preemption/preemption.go.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use rand::{Rng, RngExt};

use crate::framework::{Active, Code, CycleState, Diagnosis, Profile, Reject, View};
use crate::model::{NodeRow, PodInfo, label_selector};

/// How many nodes are tried.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub percentage: i64,
    pub absolute: i64,
}

/// What preemption came to.
#[derive(Clone, Debug)]
pub enum Preemption {
    /// Not enabled.
    Off,
    /// Not now; a nomination stays as it is.
    Ineligible(&'static str),
    /// It would not help; a nomination is cleared.
    Useless(String),
    /// These pods go, the pod waits for the node.
    Evict { node: String, victims: Vec<Arc<PodInfo>> },
}

impl Preemption {
    /// Tail of the message about the failed attempt.
    pub fn message(&self) -> String {
        match self {
            Preemption::Off => String::new(),
            Preemption::Ineligible(why) => format!("preemption: {why}"),
            Preemption::Useless(why) => format!("preemption: {why}"),
            Preemption::Evict { node, victims } => format!(
                "preemption: found a potential placement for pod on node {node}, preempting {} victims",
                victims.len()
            ),
        }
    }
}

struct Candidate {
    node: String,
    /// The most important first.
    victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

/// Looks for the node on which making room costs least.
pub fn preempt(
    profile: &Profile,
    view: View<'_>,
    pod: &PodInfo,
    state: &CycleState,
    active: &Active,
    diagnosis: &Diagnosis,
    rng: &mut impl Rng,
) -> Preemption {
    if let Some(why) = ineligible(view, pod, diagnosis) {
        return Preemption::Ineligible(why);
    }
    let rows: Vec<&NodeRow> = view.cache.rows().filter(|r| diagnosis.could_help(&r.name)).collect();
    let mut verdicts = Diagnosis {
        all_nodes: view.cache.len(),
        absent: Some("Preemption is not helpful for scheduling".into()),
        ..Diagnosis::default()
    };
    let mut candidates = Vec::new();
    if !rows.is_empty() {
        let all = rows.len() as i64;
        let wanted = (all * profile.preemption.percentage / 100).max(profile.preemption.absolute).min(all);
        let offset = rng.random_range(0..rows.len());
        let mut clean = 0;
        for i in 0..rows.len() {
            let row = rows[(offset + i) % rows.len()];
            match victims_on(profile, view, pod, state.clone(), active, row.clone()) {
                Ok(candidate) => {
                    clean += usize::from(candidate.violations == 0);
                    candidates.push(candidate);
                    if clean > 0 && candidates.len() as i64 >= wanted {
                        break;
                    }
                }
                Err(reject) => verdicts.refuse(&row.name, reject),
            }
        }
    }
    match candidates.into_iter().min_by_key(cost) {
        Some(best) => Preemption::Evict { node: best.node, victims: best.victims },
        None => Preemption::Useless(verdicts.message()),
    }
}

fn terminating_by_preemption(pod: &PodInfo) -> bool {
    let conditions = pod.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    pod.terminating()
        && conditions.into_iter().flatten().any(|c| {
            c.type_ == "DisruptionTarget"
                && c.status == "True"
                && c.reason.as_deref() == Some("PreemptionByScheduler")
        })
}

fn ineligible(view: View<'_>, pod: &PodInfo, diagnosis: &Diagnosis) -> Option<&'static str> {
    if pod.spec().and_then(|s| s.preemption_policy.as_deref()) == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = pod.nominated()?;
    if diagnosis.nodes.get(nominated).is_some_and(|r| r.code == Code::Unresolvable) {
        return None;
    }
    let row = view.cache.row(nominated)?;
    let going = row.pods.iter().any(|p| p.priority < pod.priority && terminating_by_preemption(p));
    going.then_some("not eligible due to a terminating pod on the nominated node.")
}

fn started(pod: &PodInfo) -> Timestamp {
    pod.pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or(Timestamp::MAX, |t| t.0)
}

/// Smallest is best: budgets, then highest priority, sum of priorities, number, latest start of the highest.
fn cost(c: &Candidate) -> (usize, i32, i64, usize, Reverse<Timestamp>) {
    let highest = c.victims.first().map_or(i32::MIN, |v| v.priority);
    let sum = c.victims.iter().map(|v| i64::from(v.priority) + i64::from(i32::MAX) + 1).sum();
    let top = c.victims.iter().filter(|v| v.priority == highest);
    let earliest = top.map(|v| started(v)).min().unwrap_or(Timestamp::MAX);
    (c.violations, highest, sum, c.victims.len(), Reverse(earliest))
}

/// Removes all less important pods, then lets stay whom it can. `row` and `state` are copies.
fn victims_on(
    profile: &Profile,
    view: View<'_>,
    pod: &PodInfo,
    mut state: CycleState,
    active: &Active,
    mut row: NodeRow,
) -> Result<Candidate, Reject> {
    let mut candidates: Vec<Arc<PodInfo>> =
        row.pods.iter().filter(|p| p.priority < pod.priority).cloned().collect();
    if candidates.is_empty() {
        return Err(Reject::unresolvable(
            "DefaultPreemption",
            "No preemption victims found for incoming pod",
        ));
    }
    for victim in &candidates {
        row.remove(&victim.uid);
        profile.adjust(view, &mut state, active, pod, victim, &row, -1);
    }
    profile.filter(view, &state, active, pod, &row)?;
    candidates.sort_by_key(|p| (Reverse(p.priority), started(p)));
    let (violating, fine) = by_budget(view, &candidates);
    let mut victims = Vec::new();
    let mut violations = 0;
    for (victim, violates) in
        violating.into_iter().map(|v| (v, true)).chain(fine.into_iter().map(|v| (v, false)))
    {
        row.add(victim.clone());
        profile.adjust(view, &mut state, active, pod, &victim, &row, 1);
        if profile.filter(view, &state, active, pod, &row).is_err() {
            row.remove(&victim.uid);
            profile.adjust(view, &mut state, active, pod, &victim, &row, -1);
            violations += usize::from(violates);
            victims.push(victim);
        }
    }
    victims.sort_by_key(|p| (Reverse(p.priority), started(p)));
    if victims.is_empty() {
        // A verdict that removing and adding the same pods changes; upstream reports it as an error.
        let text = format!("expected at least one victim pod on node {:?}", row.name);
        return Err(Reject::unresolvable("DefaultPreemption", text));
    }
    Ok(Candidate { node: row.name.to_string(), victims, violations })
}

/// Pods whose going would break a disruption budget, and the others.
fn by_budget(view: View<'_>, pods: &[Arc<PodInfo>]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let budgets = view.listers.budgets.list();
    let mut left: BTreeMap<usize, i32> = BTreeMap::new();
    pods.iter().cloned().partition(|pod| {
        let mut breaks = false;
        for (i, budget) in budgets.iter().enumerate() {
            if budget.metadata.namespace.as_deref() != Some(&*pod.namespace) {
                continue;
            }
            let selector = label_selector(budget.spec.as_ref().and_then(|s| s.selector.as_ref()));
            let labels = pod.pod.metadata.labels.as_ref();
            let status = budget.status.as_ref();
            let counted =
                status.is_some_and(|s| s.disrupted_pods.as_ref().is_some_and(|d| d.contains_key(pod.name())));
            if labels.is_none_or(|l| l.is_empty())
                || selector.is_empty()
                || !selector.matches(&labels)
                || counted
            {
                continue;
            }
            let allowed =
                left.entry(i).or_insert_with(|| status.and_then(|s| s.disruptions_allowed).unwrap_or(0));
            *allowed -= 1;
            if *allowed < 0 {
                breaks = true;
                break;
            }
        }
        breaks
    })
}
