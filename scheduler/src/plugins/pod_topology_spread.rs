//! Spreads pods evenly over domains. Upstream: plugins/podtopologyspread.
//!
//! How many pods of a constraint a node has is kept by the cache, and how many a domain has. Where all nodes count, a cycle
//! reads the latter; where the pod decides which nodes count, it adds nodes up.

use std::sync::Arc;

use component::features::{self, Gate};
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use machinery::labels::{Operator, Requirement, Selector};
use smallvec::SmallVec;

use super::default_selector::default_selector;
use super::{node_affinity, taint_toleration};
use crate::framework::{Change, CycleState, MAX_SCORE, Plugin, PreFilter, Reject, Verdict, View};
use crate::listers::Listers;
use crate::model::{
    Cache, Groups, Interner, KeyId, MatchCounter, Matcher, NOWHERE, NodeRow, PodInfo, label_selector,
};

pub const NAME: &str = "PodTopologySpread";
const HOSTNAME: &str = "kubernetes.io/hostname";
const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
const UNLABELLED: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
/// No node of this domain counts.
const OUT: i64 = -1;

#[derive(Clone)]
struct Constraint {
    max_skew: i64,
    key: Arc<str>,
    matcher: Arc<Matcher>,
    /// A selector that chooses everything counts nothing. Upstream: countPodsMatchSelector.
    nothing: bool,
    min_domains: usize,
    honor_affinity: bool,
    honor_taints: bool,
}

/// A hard constraint with the matching pods of each domain.
#[derive(Clone)]
struct Hard {
    constraint: Constraint,
    key: KeyId,
    /// By domain; [`OUT`] for those that do not count.
    domains: Arc<Vec<i64>>,
    /// How many domains count.
    count: usize,
    /// Fewest pods of a domain, that domain, and fewest of the others.
    fewest: (i64, u32, i64),
    /// Changes that are tried out; all concern one row, so one domain.
    tried: Option<(u32, i64)>,
    itself: bool,
}

/// Hard constraints.
#[derive(Clone)]
pub struct Counts(SmallVec<[Hard; 2]>);

#[derive(Clone)]
struct Soft {
    constraint: Constraint,
    key: KeyId,
    hostname: bool,
    /// By domain, the last place is for nodes without the label.
    domains: Arc<Vec<i64>>,
    weight: f64,
}

/// Soft constraints.
#[derive(Clone)]
pub struct Scoring {
    constraints: Vec<Soft>,
    /// Nodes without one of the keys are not ranked.
    require_all: bool,
}

pub struct PodTopologySpread {
    pub defaults: Vec<TopologySpreadConstraint>,
    /// The built-in defaults, which rank nodes without a zone too.
    pub system_defaults: bool,
}

impl Constraint {
    fn new(interner: &Interner, c: &TopologySpreadConstraint, pod: &PodInfo, of: Option<&Selector>) -> Self {
        let mut selector = label_selector(c.label_selector.as_ref());
        let keys = c.match_label_keys.iter().flatten();
        let keys = keys.filter(|_| features::enabled(Gate::MatchLabelKeysInPodTopologySpread));
        let same = keys.filter_map(|key| {
            let value = pod.labels.map.get(key)?;
            Requirement::new(key, Operator::In, vec![value.as_str().into()]).ok()
        });
        selector = of.cloned().unwrap_or_else(|| selector.and(same));
        Self {
            max_skew: i64::from(c.max_skew),
            key: interner.name(&c.topology_key),
            nothing: selector.is_empty(),
            matcher: interner.in_namespace(&pod.namespace, selector),
            min_domains: usize::try_from(c.min_domains.unwrap_or(1)).unwrap_or(1),
            honor_affinity: c.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: c.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    /// Whether the node counts at all.
    fn includes(&self, pod: &PodInfo, row: &NodeRow) -> bool {
        (!self.honor_affinity || node_affinity::allowed(pod, row))
            && (!self.honor_taints || taint_toleration::tolerates_all(pod, row.taints()))
    }

    /// Whether every node counts that has the labels.
    fn includes_all(&self, pod: &PodInfo) -> bool {
        let anywhere = pod.node_labels.is_none() && pod.required.is_none();
        (!self.honor_affinity || anywhere) && !self.honor_taints
    }

    /// Whether the selector chooses a pod, be it about to go or not.
    fn chooses(&self, pod: &PodInfo) -> bool {
        self.matcher.parts.iter().all(|p| p.selector.matches(&pod.labels.map))
    }
}

/// Matching pods on each row, for one constraint.
struct Rows<'a> {
    counter: Option<&'a MatchCounter>,
}

impl<'a> Rows<'a> {
    fn of(cache: &'a Cache, constraint: &Constraint) -> Self {
        let counter = cache.counters().matcher(&constraint.matcher);
        Self { counter: counter.filter(|_| !constraint.nothing) }
    }

    fn get(&self, row: &NodeRow) -> i64 {
        self.counter.map_or(0, |c| i64::from(c.row(row.at)))
    }

    /// Matching pods of each domain; none if they are not kept.
    fn by_domain(&self, key: KeyId) -> Option<impl Fn(usize) -> i64 + 'a> {
        let counts = match self.counter {
            Some(counter) => Some(counter.domains(key)?.0),
            None => None,
        };
        Some(move |at: usize| counts.and_then(|c| c.get(at)).copied().map_or(0, i64::from))
    }
}

impl PodTopologySpread {
    fn constraints(&self, view: (&Interner, &Listers), pod: &PodInfo, action: &str) -> Vec<Constraint> {
        let (interner, listers) = view;
        let of = |list: &[TopologySpreadConstraint], selector: Option<&Selector>| -> Vec<Constraint> {
            let chosen = list.iter().filter(|c| c.when_unsatisfiable == action);
            chosen.map(|c| Constraint::new(interner, c, pod, selector)).collect()
        };
        if !pod.spread.is_empty() {
            return of(&pod.spread, None);
        }
        if !self.defaults.iter().any(|c| c.when_unsatisfiable == action) {
            return Vec::new();
        }
        let selector = default_selector(listers, pod);
        if selector.is_empty() { Vec::new() } else { of(&self.defaults, Some(&selector)) }
    }
}

fn domain(row: &NodeRow, key: KeyId) -> u32 {
    row.domains.get(key).copied().unwrap_or(NOWHERE)
}

fn has_all(row: &NodeRow, keys: &[KeyId]) -> bool {
    keys.iter().all(|k| domain(row, *k) != NOWHERE)
}

/// Matching pods by domain; [`OUT`] for domains without a node that counts.
fn sums(cache: &Cache, pod: &PodInfo, constraint: &Constraint, key: KeyId, keys: &[KeyId]) -> Vec<i64> {
    let rows = Rows::of(cache, constraint);
    let whole = constraint.includes_all(pod) && (keys.len() == 1 || keys.iter().all(|k| cache.all_have(*k)));
    if let Some(pods) = rows.by_domain(key).filter(|_| whole) {
        let nodes = cache.nodes_by_domain(key).enumerate();
        return nodes.map(|(at, nodes)| if nodes == 0 { OUT } else { pods(at) }).collect();
    }
    let mut domains = vec![OUT; cache.domains(key)];
    for row in cache.rows().filter(|r| has_all(r, keys) && constraint.includes(pod, r)) {
        let sum = &mut domains[domain(row, key) as usize];
        *sum = (*sum).max(0) + rows.get(row);
    }
    domains
}

impl Hard {
    fn new(cache: &Cache, pod: &PodInfo, constraint: Constraint, key: KeyId, keys: &[KeyId]) -> Self {
        let domains = sums(cache, pod, &constraint, key, keys);
        let (mut count, mut fewest) = (0, (i64::from(i32::MAX), NOWHERE, i64::from(i32::MAX)));
        for (number, pods) in (0_u32..).zip(&domains).filter(|(_, pods)| **pods != OUT) {
            count += 1;
            if *pods < fewest.0 {
                fewest = (*pods, number, fewest.0);
            } else {
                fewest.2 = fewest.2.min(*pods);
            }
        }
        let itself = constraint.chooses(pod);
        Self { constraint, key, domains: Arc::new(domains), count, fewest, tried: None, itself }
    }

    fn pods(&self, domain: u32) -> i64 {
        let known = self.domains.get(domain as usize).copied().unwrap_or(0).max(0);
        known + self.tried.filter(|(d, _)| *d == domain).map_or(0, |(_, delta)| delta)
    }

    /// Fewest pods of a domain.
    fn least(&self) -> i64 {
        let (fewest, at, others) = self.fewest;
        match self.tried {
            Some((domain, _)) if domain == at => others.min(self.pods(domain)),
            Some((domain, _)) => fewest.min(self.pods(domain)),
            None => fewest,
        }
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &[
            "AssignedPodAdd",
            "AssignedPodUpdate",
            "AssignedPodDelete",
            "NodeAdd",
            "NodeDelete",
            "NodeUpdate",
            "TargetPodUpdate",
        ]
    }

    fn prepare(&self, cache: &mut Cache, listers: &Listers, pod: &PodInfo) {
        for action in ["DoNotSchedule", "ScheduleAnyway"] {
            let interner = cache.interner().clone();
            for constraint in self.constraints((&interner, listers), pod, action) {
                let key = cache.know_key(&constraint.key);
                if !constraint.nothing {
                    cache.count(&constraint.matcher, Some(key));
                }
            }
        }
    }

    fn pre_filter(&self, view: View<'_>, pod: &PodInfo, state: &mut CycleState) -> PreFilter {
        let cache = view.cache;
        let constraints = self.constraints((cache.interner(), view.listers), pod, "DoNotSchedule");
        if constraints.is_empty() {
            return PreFilter::Skip;
        }
        let keys: Vec<KeyId> = constraints.iter().filter_map(|c| cache.key(&c.key)).collect();
        let hard = constraints.into_iter().zip(&keys).map(|(c, key)| Hard::new(cache, pod, c, *key, &keys));
        state.spread = Some(Counts(hard.collect()));
        PreFilter::All
    }

    fn adjust(
        &self,
        _view: View<'_>,
        state: &mut CycleState,
        pod: &PodInfo,
        other: &PodInfo,
        row: &NodeRow,
        delta: i64,
    ) {
        let Some(Counts(counts)) = &mut state.spread else { return };
        let keys: SmallVec<[KeyId; 4]> = counts.iter().map(|h| h.key).collect();
        if other.namespace != pod.namespace || !has_all(row, &keys) {
            return;
        }
        for hard in counts.iter_mut() {
            if hard.constraint.chooses(other) && hard.constraint.includes(pod, row) {
                let domain = domain(row, hard.key);
                let before = hard.tried.filter(|(d, _)| *d == domain).map_or(0, |(_, delta)| delta);
                hard.tried = Some((domain, before + delta));
            }
        }
    }

    fn filter(&self, _view: View<'_>, state: &CycleState, _pod: &PodInfo, row: &NodeRow) -> Verdict {
        let Some(Counts(counts)) = &state.spread else { return Ok(()) };
        for hard in counts {
            let domain = domain(row, hard.key);
            if domain == NOWHERE {
                return Err(Reject::unresolvable(NAME, UNLABELLED));
            }
            let least = if hard.count < hard.constraint.min_domains { 0 } else { hard.least() };
            if hard.pods(domain) + i64::from(hard.itself) - least > hard.constraint.max_skew {
                return Err(Reject::unschedulable(NAME, UNEVEN));
            }
        }
        Ok(())
    }

    fn pre_score(&self, view: View<'_>, state: &mut CycleState, pod: &PodInfo, nodes: &[&NodeRow]) -> bool {
        let cache = view.cache;
        let constraints = self.constraints((cache.interner(), view.listers), pod, "ScheduleAnyway");
        if constraints.is_empty() {
            return false;
        }
        let require_all = !pod.spread.is_empty() || !self.system_defaults;
        let keys: Vec<KeyId> = constraints.iter().filter_map(|c| cache.key(&c.key)).collect();
        let counts = |row: &NodeRow| !require_all || has_all(row, &keys);
        let ranked: Vec<&&NodeRow> = nodes.iter().filter(|n| counts(n)).collect();
        let soft = constraints.into_iter().zip(&keys).map(|(constraint, key)| {
            let hostname = &*constraint.key == HOSTNAME;
            let mut domains = Vec::new();
            let mut size = ranked.len();
            if !hostname {
                // A missing label is a domain of its own, as upstream.
                domains = vec![OUT; cache.domains(*key) + 1];
                let last = domains.len() - 1;
                let place = |row: &NodeRow| (domain(row, *key) as usize).min(last);
                ranked.iter().for_each(|row| domains[place(row)] = 0);
                size = domains.iter().filter(|d| **d != OUT).count();
                let rows = Rows::of(cache, &constraint);
                // Nodes without the label have a sum too, but where they do not count at all.
                let whole = constraint.includes_all(pod)
                    && (require_all && keys.len() == 1 || keys.iter().all(|k| cache.all_have(*k)));
                if let Some(pods) = rows.by_domain(*key).filter(|_| whole) {
                    let found = domains.iter_mut().enumerate().filter(|(_, sum)| **sum != OUT);
                    found.for_each(|(at, sum)| *sum = pods(at));
                } else {
                    for row in cache.rows().filter(|r| counts(r)) {
                        let place = place(row);
                        if domains[place] != OUT && constraint.includes(pod, row) {
                            domains[place] += rows.get(row);
                        }
                    }
                }
            }
            let weight = ((size + 2) as f64).ln();
            Soft { constraint, key: *key, hostname, domains: Arc::new(domains), weight }
        });
        state.spread_score = Some(Scoring { constraints: soft.collect(), require_all });
        true
    }

    fn score(&self, view: View<'_>, state: &CycleState, _pod: &PodInfo, row: &NodeRow) -> i64 {
        let Some(scoring) = &state.spread_score else { return 0 };
        if scoring.ignores(row) {
            return 0;
        }
        let mut score = 0.0;
        for soft in &scoring.constraints {
            let domain = domain(row, soft.key);
            if domain == NOWHERE {
                continue;
            }
            let count = if soft.hostname {
                Rows::of(view.cache, &soft.constraint).get(row)
            } else {
                soft.domains.get(domain as usize).copied().unwrap_or(0).max(0)
            };
            score += count as f64 * soft.weight + (soft.constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, state: &CycleState, nodes: &[&NodeRow], scores: &mut [i64]) {
        let Some(scoring) = &state.spread_score else { return };
        let ranked = || nodes.iter().map(|n| !scoring.ignores(n));
        let seen = || scores.iter().zip(ranked()).filter(|(_, r)| *r).map(|(s, _)| *s);
        let (least, most) = (seen().min().unwrap_or(0), seen().max().unwrap_or(0));
        for (score, counts) in scores.iter_mut().zip(ranked()) {
            *score = match (counts, most) {
                (false, _) => 0,
                (true, 0) => MAX_SCORE,
                (true, _) => MAX_SCORE * (most + least - *score) / most,
            };
        }
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        let near = |other: &PodInfo| other.namespace == pod.namespace;
        match change {
            Change::NodeAdded(_) | Change::NodeGone => true,
            Change::Itself { old, new } => old.labels.id != new.labels.id || old.wants.id != new.wants.id,
            Change::NodeUpdated { old, new } => {
                old.metadata.labels != new.metadata.labels || old.spec.taints != new.spec.taints
            }
            Change::PodAssigned(other) | Change::PodChanged { new: other, .. } => near(other),
            Change::PodGone(other) => near(other),
            _ => false,
        }
    }
}

impl Scoring {
    fn ignores(&self, row: &NodeRow) -> bool {
        self.require_all && self.constraints.iter().any(|c| domain(row, c.key) == NOWHERE)
    }
}
