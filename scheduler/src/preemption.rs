//! Which pods would have to go for a pod to fit. Decides only; who carries it out is `actions.rs`.
//! Upstream: plugins/defaultpreemption/default_preemption.go, framework/preemption/preemption.go.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use machinery::labels::Selector;
use rand::{Rng, RngExt};

use crate::cycle::Class;
use crate::framework::{Active, Code, CycleState, Diagnosis, Profile, Reject, View};
use crate::listers::Listers;
use crate::model::{Cache, GroupKey, GroupObject, Groups, NodeRow, PodInfo, label_selector};

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
    /// A plugin that is asked before it could not answer; a nomination stays as it is.
    Failed(&'static str),
    /// Something is wrong on some node, and no other one would do; a nomination stays as it is.
    Broken(String),
    /// Not now; a nomination stays as it is.
    Ineligible(&'static str),
    /// It would not help; a nomination is cleared.
    Useless(String),
    /// Extenders have a say about these.
    Ask(Vec<Candidate>),
    /// These pods go, the pod waits for the node.
    Evict { node: String, victims: Vec<Arc<PodInfo>> },
}

impl Preemption {
    /// Tail of the message about the failed attempt.
    pub fn message(&self) -> String {
        match self {
            Preemption::Off | Preemption::Ask(_) => String::new(),
            Preemption::Failed(why) => (*why).to_string(),
            Preemption::Ineligible(why) => format!("preemption: {why}"),
            Preemption::Useless(why) | Preemption::Broken(why) => format!("preemption: {why}"),
            Preemption::Evict { node, victims } => format!(
                "preemption: found a potential placement for pod on node {node}, preempting {} victims",
                victims.len()
            ),
        }
    }
}

/// A node and the pods that would have to go.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub node: String,
    /// The most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// How many of them a disruption budget protects.
    pub violations: usize,
}

/// The candidate that costs least. Upstream: SelectCandidate.
pub fn choose<C: Borrow<Candidate>>(candidates: Vec<C>) -> Preemption {
    match candidates.iter().map(Borrow::<Candidate>::borrow).min_by_key(|c| cost(c)) {
        Some(best) => Preemption::Evict { node: best.node.clone(), victims: best.victims.clone() },
        None => Preemption::Ineligible("no candidate node for preemption"),
    }
}

/// Looks for the node on which making room costs least; with `ask`, for all that would do.
#[expect(clippy::too_many_arguments, reason = "a failed attempt, and how to go on")]
pub fn preempt(
    profile: &Profile,
    view: View<'_>,
    pod: &PodInfo,
    state: &CycleState,
    active: &Active,
    diagnosis: &Diagnosis,
    mut class: Option<&mut Class>,
    ask: bool,
    rng: &mut impl Rng,
) -> Preemption {
    if let Some(why) = ineligible(view, pod, diagnosis) {
        return Preemption::Ineligible(why);
    }
    let rows = helpful(view, diagnosis);
    let mut verdicts = Diagnosis {
        all_nodes: view.cache.len(),
        absent: Some("Preemption is not helpful for scheduling".into()),
        ..Diagnosis::default()
    };
    let (mut candidates, mut errors) = (Vec::new(), Vec::new());
    if !rows.is_empty() {
        let all = rows.len() as i64;
        let wanted = (all * profile.preemption.percentage / 100).max(profile.preemption.absolute).min(all);
        let offset = rng.random_range(0..rows.len());
        let mut clean = 0;
        let budgets = Budgets::new(view.listers);
        let trial = Trial { profile, view, pod, active, budgets: &budgets };
        class = class.filter(|_| trial.concerns_one_row());
        for i in 0..rows.len() {
            let row = rows[(offset + i) % rows.len()];
            let attempt = || victims_on(&trial, state.clone(), row.clone()).map(Arc::new).map_err(Arc::new);
            let outcome = match &mut class {
                Some(class) => class.trial(view, pod, row, attempt),
                None => attempt(),
            };
            match outcome {
                Ok(candidate) => {
                    clean += usize::from(candidate.violations == 0);
                    candidates.push(candidate);
                    if clean > 0 && candidates.len() as i64 >= wanted {
                        break;
                    }
                }
                Err(reject) => {
                    if reject.code == Code::Error {
                        errors.push(reject.reasons.join(", "));
                    }
                    verdicts.refuse(row.at, reject);
                }
            }
        }
    }
    match candidates.is_empty() {
        false if ask => Preemption::Ask(candidates.into_iter().map(Arc::unwrap_or_clone).collect()),
        false => choose(candidates),
        true if !errors.is_empty() => Preemption::Broken(aggregate(errors)),
        true => Preemption::Useless(verdicts.message()),
    }
}

/// Several errors as one text, each once. Upstream: apimachinery util/errors aggregate.Error.
fn aggregate(errors: Vec<String>) -> String {
    let mut seen = BTreeSet::new();
    let each: Vec<String> = errors.into_iter().filter(|e| seen.insert(e.clone())).collect();
    if each.len() == 1 { each.concat() } else { format!("[{}]", each.join(", ")) }
}

pub fn terminating_by_preemption(pod: &PodInfo) -> bool {
    pod.terminating
        && pod.rest.conditions.iter().any(|c| {
            c.type_ == "DisruptionTarget"
                && c.status == "True"
                && c.reason.as_deref() == Some("PreemptionByScheduler")
        })
}

/// Rows on which taking pods away could help.
fn helpful<'a>(view: View<'a>, diagnosis: &Diagnosis) -> Vec<&'a NodeRow> {
    match &diagnosis.pre_filter {
        Some(reject) if Diagnosis::could_help(reject) => view.cache.rows().collect(),
        Some(_) => Vec::new(),
        None => {
            let rows = view.cache.all_rows();
            let helped = diagnosis.nodes.iter().filter(|(_, r)| Diagnosis::could_help(r));
            helped.map(|(at, _)| &rows[*at]).collect()
        }
    }
}

fn ineligible(view: View<'_>, pod: &PodInfo, diagnosis: &Diagnosis) -> Option<&'static str> {
    if pod.never_preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let row = view.cache.row(pod.nominated.as_deref()?)?;
    if diagnosis.verdict(row.at).is_some_and(|r| r.code == Code::Unresolvable) {
        return None;
    }
    let going = |p: &Arc<PodInfo>| view.groups.priority(p) < pod.priority && terminating_by_preemption(p);
    let going = row.pods.iter().any(going);
    going.then_some("not eligible due to a terminating pod on the nominated node.")
}

fn started(pod: &PodInfo) -> Timestamp {
    pod.started.unwrap_or(Timestamp::MAX)
}

/// Smallest is best: budgets, then highest priority, sum of priorities, number, latest start of the highest.
fn cost(c: &Candidate) -> (usize, i32, i64, usize, Reverse<Timestamp>) {
    let highest = c.victims.first().map_or(i32::MIN, |v| v.priority);
    let sum = c.victims.iter().map(|v| i64::from(v.priority) + i64::from(i32::MAX) + 1).sum();
    let top = c.victims.iter().filter(|v| v.priority == highest);
    let earliest = top.map(|v| started(v)).min().unwrap_or(Timestamp::MAX);
    (c.violations, highest, sum, c.victims.len(), Reverse(earliest))
}

/// Pods that go together or not at all.
#[derive(Clone, Debug)]
pub struct Unit {
    pub pods: Vec<Arc<PodInfo>>,
    pub priority: i32,
    /// Of a group of groups (3), of a group, even if each of them goes alone (2), or of none (1).
    pub rank: u8,
}

impl Unit {
    /// Smallest for the most important. Upstream: framework/preemption/util.go MoreImportantVictim.
    pub fn importance(&self) -> (Reverse<i32>, Reverse<u8>, Reverse<usize>, Timestamp) {
        let earliest = self.pods.iter().map(|p| started(p)).min().unwrap_or(Timestamp::MAX);
        (Reverse(self.priority), Reverse(self.rank), Reverse(self.pods.len()), earliest)
    }
}

/// The units that have pods on some rows, each once. Upstream: getCrossNodesVictims.
pub fn units<'a>(cache: &Cache, groups: &Groups, rows: impl Iterator<Item = &'a NodeRow>) -> Vec<Unit> {
    let mut known: BTreeSet<GroupKey> = BTreeSet::new();
    let mut units = Vec::new();
    for pod in rows.flat_map(|row| &row.pods) {
        let grouped = groups.enabled() && pod.group.is_some();
        let mut unit =
            Unit { pods: vec![pod.clone()], priority: groups.priority(pod), rank: 1 + u8::from(grouped) };
        if let Some(object) = groups.goes_with(pod) {
            let key = object.key();
            if known.contains(&key) {
                continue;
            }
            let all = groups.scheduled(&key, cache);
            if !all.is_empty() {
                unit.pods = all;
                unit.rank = if matches!(object, GroupObject::Groups(_)) { 3 } else { 2 };
            }
            known.insert(key);
        }
        units.push(unit);
    }
    units
}

/// What is the same for every node.
struct Trial<'a> {
    profile: &'a Profile,
    view: View<'a>,
    pod: &'a PodInfo,
    active: &'a Active,
    budgets: &'a Budgets,
}

impl Trial<'_> {
    /// Whether what comes of it for a row depends on nothing but the row, the pods that wait for it and what pods want.
    fn concerns_one_row(&self) -> bool {
        self.budgets.0.is_empty()
            && self.pod.node.is_none()
            && !self.view.groups.enabled()
            && self.profile.all_local(self.active)
    }
}

/// Removes all less important pods, then lets stay whom it can. `row` and `state` are copies; pods that would go
/// together with one of the row are taken away from the state alone, where they are on other rows.
fn victims_on(trial: &Trial<'_>, mut state: CycleState, mut row: NodeRow) -> Result<Candidate, Reject> {
    let Trial { profile, view, pod, active, budgets } = *trial;
    let all = units(view.cache, view.groups, std::iter::once(&row));
    let mut candidates: Vec<Unit> = all.into_iter().filter(|u| u.priority < pod.priority).collect();
    if candidates.is_empty() {
        return Err(Reject::unresolvable(
            "DefaultPreemption",
            "No preemption victims found for incoming pod",
        ));
    }
    let change = |state: &mut CycleState, row: &mut NodeRow, unit: &Unit, delta: i64| {
        for victim in &unit.pods {
            let elsewhere = view.cache.node_of(&victim.uid).filter(|n| **n != row.name);
            let elsewhere = elsewhere.and_then(|n| view.cache.row(n));
            match elsewhere {
                None if delta < 0 => drop(row.remove(&victim.uid)),
                None => row.add(victim.clone()),
                Some(_) => {}
            }
            profile.adjust(view, state, active, pod, victim, elsewhere.unwrap_or(&*row), delta);
        }
    };
    candidates.iter().for_each(|unit| change(&mut state, &mut row, unit, -1));
    profile.filter(view, &state, active, pod, &row).map_err(in_full)?;
    candidates.sort_by_cached_key(Unit::importance);
    let broken = budgets.broken_by(candidates.iter());
    let mut candidates: Vec<(usize, Unit)> = broken.into_iter().zip(candidates).collect();
    candidates.sort_by_key(|(broken, _)| *broken == 0);
    let mut victims = Vec::new();
    let mut violations = 0;
    for (broken, unit) in candidates {
        change(&mut state, &mut row, &unit, 1);
        if profile.filter(view, &state, active, pod, &row).is_err() {
            change(&mut state, &mut row, &unit, -1);
            violations += broken;
            victims.push(unit);
        }
    }
    victims.sort_by_cached_key(Unit::importance);
    if victims.is_empty() {
        // A verdict that removing and adding the same pods changes.
        let text = format!("expected at least one victim pod on node {:?}", row.name);
        return Err(Reject::error("DefaultPreemption", text));
    }
    let victims = victims.into_iter().flat_map(|unit| unit.pods).collect();
    Ok(Candidate { node: row.name.to_string(), victims, violations })
}

/// An error as the framework words it.
fn in_full(reject: Reject) -> Reject {
    if reject.code != Code::Error {
        return reject;
    }
    Reject::error(reject.plugin, crate::cycle::FILTER(reject.plugin, &reject.reasons.join(", ")))
}

/// What is left of the disruption budgets.
pub struct Budgets(Vec<Budget>);

struct Budget {
    namespace: String,
    selector: Selector,
    allowed: i32,
    /// Pods that count already.
    counted: BTreeSet<String>,
}

impl Budgets {
    pub fn new(listers: &Listers) -> Self {
        let one = |b: &PodDisruptionBudget| {
            let status = b.status.as_ref();
            Budget {
                namespace: b.metadata.namespace.clone().unwrap_or_default(),
                selector: label_selector(b.spec.as_ref().and_then(|s| s.selector.as_ref())),
                allowed: status.and_then(|s| s.disruptions_allowed).unwrap_or(0),
                counted: status
                    .and_then(|s| s.disrupted_pods.as_ref())
                    .into_iter()
                    .flat_map(|pods| pods.keys().cloned())
                    .collect(),
            }
        };
        Self(listers.budgets.list().iter().map(|b| one(b)).collect())
    }

    /// How many pods of each unit break a budget by going, if all before them went.
    /// Upstream: FilterVictimsWithPDBViolation.
    pub fn broken_by<'a>(&self, units: impl Iterator<Item = &'a Unit>) -> Vec<usize> {
        let mut left: Vec<i32> = self.0.iter().map(|b| b.allowed).collect();
        units.map(|unit| unit.pods.iter().filter(|pod| self.breaks(pod, &mut left)).count()).collect()
    }

    fn breaks(&self, pod: &PodInfo, left: &mut [i32]) -> bool {
        let labels = &pod.labels.map;
        for (budget, left) in self.0.iter().zip(left) {
            let concerned = budget.namespace == *pod.namespace
                && !labels.is_empty()
                && !budget.selector.is_empty()
                && budget.selector.matches(labels)
                && !budget.counted.contains(&*pod.name);
            if concerned {
                *left -= 1;
                if *left < 0 {
                    return true;
                }
            }
        }
        false
    }
}
