//! Spreads pods evenly over domains. Upstream: plugins/podtopologyspread.

use hashbrown::HashMap;
use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use machinery::labels::{Operator, Requirement, Selector};

use super::{node_affinity, taint_toleration};
use crate::framework::{Change, CycleState, MAX_SCORE, Plugin, PreFilter, Reject, Verdict, View};
use crate::listers::Listers;
use crate::model::{NodeRow, PodInfo, label_selector};

pub const NAME: &str = "PodTopologySpread";
const HOSTNAME: &str = "kubernetes.io/hostname";
const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
const UNLABELLED: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

type Hash = foldhash::fast::RandomState;
type Domains = HashMap<String, i64, Hash>;

#[derive(Clone)]
struct Constraint {
    max_skew: i64,
    key: String,
    selector: Selector,
    min_domains: usize,
    honor_affinity: bool,
    honor_taints: bool,
}

/// Hard constraints with the matching pods of each domain.
#[derive(Clone)]
pub struct Counts(Vec<(Constraint, Domains)>);

/// Soft constraints, likewise, with the weight of each constraint.
#[derive(Clone)]
pub struct Scoring {
    constraints: Vec<(Constraint, Domains, f64)>,
    /// Nodes without one of the keys are not ranked.
    require_all: bool,
}

pub struct PodTopologySpread {
    pub defaults: Vec<TopologySpreadConstraint>,
    /// The built-in defaults, which rank nodes without a zone too.
    pub system_defaults: bool,
}

impl Constraint {
    fn new(c: &TopologySpreadConstraint, pod: &PodInfo) -> Self {
        let labels = pod.pod.metadata.labels.as_ref();
        let mut selector = label_selector(c.label_selector.as_ref());
        let same = c.match_label_keys.iter().flatten().filter_map(|key| {
            let value = labels?.get(key)?;
            Requirement::new(key, Operator::In, vec![value.as_str().into()]).ok()
        });
        selector = selector.and(same);
        Self {
            max_skew: i64::from(c.max_skew),
            key: c.topology_key.clone(),
            selector,
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

    fn matches(&self, pod: &PodInfo) -> bool {
        self.selector.matches(&pod.pod.metadata.labels.as_ref())
    }

    fn count(&self, pod: &PodInfo, row: &NodeRow) -> i64 {
        if self.selector.is_empty() {
            return 0;
        }
        let same = row.pods.iter().filter(|p| p.namespace == pod.namespace && !p.terminating());
        same.filter(|p| self.matches(p)).count() as i64
    }
}

impl PodTopologySpread {
    fn constraints(&self, listers: &Listers, pod: &PodInfo, action: &str) -> Vec<Constraint> {
        let own = pod.spec().and_then(|s| s.topology_spread_constraints.as_deref()).unwrap_or_default();
        let of = |list: &[TopologySpreadConstraint]| -> Vec<Constraint> {
            list.iter().filter(|c| c.when_unsatisfiable == action).map(|c| Constraint::new(c, pod)).collect()
        };
        if !own.is_empty() {
            return of(own);
        }
        let mut constraints = of(&self.defaults);
        if constraints.is_empty() {
            return constraints;
        }
        let selector = default_selector(listers, pod);
        if selector.is_empty() {
            return Vec::new();
        }
        constraints.iter_mut().for_each(|c| c.selector = selector.clone());
        constraints
    }
}

/// Pods like this one: those of its services and of its owner. Upstream: plugins/helper/spread.go DefaultSelector.
fn default_selector(listers: &Listers, pod: &PodInfo) -> Selector {
    let meta = &pod.pod.metadata;
    let labels = meta.labels.as_ref();
    let mut equal = std::collections::BTreeMap::new();
    listers.services.for_each(|_, service| {
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|s| !s.is_empty());
        let same = service.metadata.namespace.as_deref() == Some(&*pod.namespace);
        if let Some(selector) = selector.filter(|_| same)
            && Selector::from_set(selector).matches(&labels)
        {
            equal.extend(selector.clone());
        }
    });
    let owner = meta.owner_references.iter().flatten().find(|o| o.controller == Some(true));
    let mut more: Vec<Requirement> = Vec::new();
    if let Some(owner) = owner {
        let (kind, name) = ((owner.api_version.as_str(), owner.kind.as_str()), owner.name.as_str());
        let selector = match kind {
            ("v1", "ReplicationController") => {
                let found = listers.controllers.get_by(&pod.namespace, name);
                equal.extend(found.and_then(|c| c.spec.clone()?.selector).unwrap_or_default());
                None
            }
            ("apps/v1", "ReplicaSet") => {
                let found = listers.replica_sets.get_by(&pod.namespace, name);
                found.map(|r| r.spec.selector.clone())
            }
            ("apps/v1", "StatefulSet") => {
                let found = listers.stateful_sets.get_by(&pod.namespace, name);
                found.map(|r| r.spec.selector.clone())
            }
            _ => None,
        };
        if let Some(selector) = selector {
            more.extend(label_selector(Some(&selector)).requirements().unwrap_or_default().to_vec());
        }
    }
    Selector::from_set(equal).and(more)
}

fn has_all<'a>(row: &NodeRow, mut constraints: impl Iterator<Item = &'a Constraint>) -> bool {
    constraints.all(|c| row.labels().contains_key(&c.key))
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter(&self, view: View<'_>, pod: &PodInfo, state: &mut CycleState) -> PreFilter {
        let constraints = self.constraints(view.listers, pod, "DoNotSchedule");
        if constraints.is_empty() {
            return PreFilter::Skip;
        }
        let mut counts: Vec<(Constraint, Domains)> =
            constraints.into_iter().map(|c| (c, Domains::default())).collect();
        for row in view.cache.rows() {
            if !has_all(row, counts.iter().map(|(c, _)| c)) {
                continue;
            }
            for (constraint, domains) in counts.iter_mut().filter(|(c, _)| c.includes(pod, row)) {
                let Some(value) = row.labels().get(&constraint.key) else { continue };
                *domains.entry_ref(value.as_str()).or_insert(0) += constraint.count(pod, row);
            }
        }
        state.spread = Some(Counts(counts));
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
        if other.namespace != pod.namespace || !has_all(row, counts.iter().map(|(c, _)| c)) {
            return;
        }
        for (constraint, domains) in counts.iter_mut() {
            if constraint.matches(other)
                && constraint.includes(pod, row)
                && let Some(value) = row.labels().get(&constraint.key)
            {
                *domains.entry_ref(value.as_str()).or_insert(0) += delta;
            }
        }
    }

    fn filter(&self, _view: View<'_>, state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        let Some(Counts(counts)) = &state.spread else { return Ok(()) };
        for (constraint, domains) in counts {
            let Some(value) = row.labels().get(&constraint.key) else {
                return Err(Reject::unresolvable(NAME, UNLABELLED));
            };
            let fewest = domains.values().min().copied().unwrap_or(i64::from(i32::MAX));
            let least = if domains.len() < constraint.min_domains { 0 } else { fewest };
            let own = i64::from(constraint.matches(pod));
            if domains.get(value).copied().unwrap_or(0) + own - least > constraint.max_skew {
                return Err(Reject::unschedulable(NAME, UNEVEN));
            }
        }
        Ok(())
    }

    fn pre_score(&self, view: View<'_>, state: &mut CycleState, pod: &PodInfo, nodes: &[&NodeRow]) -> bool {
        let constraints = self.constraints(view.listers, pod, "ScheduleAnyway");
        if constraints.is_empty() {
            return false;
        }
        let own =
            pod.spec().and_then(|s| s.topology_spread_constraints.as_ref()).is_some_and(|c| !c.is_empty());
        let require_all = own || !self.system_defaults;
        let ranked: Vec<&&NodeRow> =
            nodes.iter().filter(|n| !require_all || has_all(n, constraints.iter())).collect();
        let mut scoring: Vec<(Constraint, Domains, f64)> = Vec::new();
        for constraint in constraints.clone() {
            let mut domains = Domains::default();
            if constraint.key != HOSTNAME {
                for row in &ranked {
                    // A missing label is a domain of its own, as upstream.
                    let value = row.labels().get(&constraint.key).map_or("", String::as_str);
                    domains.entry_ref(value).or_insert(0);
                }
            }
            let size = if constraint.key == HOSTNAME { ranked.len() } else { domains.len() };
            scoring.push((constraint, domains, ((size + 2) as f64).ln()));
        }
        for row in view.cache.rows() {
            if require_all && !has_all(row, constraints.iter()) {
                continue;
            }
            for (constraint, domains, _) in scoring.iter_mut().filter(|(c, _, _)| c.key != HOSTNAME) {
                let value = row.labels().get(&constraint.key).map_or("", String::as_str);
                if let Some(sum) = domains.get_mut(value)
                    && constraint.includes(pod, row)
                {
                    *sum += constraint.count(pod, row);
                }
            }
        }
        state.spread_score = Some(Scoring { constraints: scoring, require_all });
        true
    }

    fn score(&self, _view: View<'_>, state: &CycleState, pod: &PodInfo, row: &NodeRow) -> i64 {
        let Some(scoring) = &state.spread_score else { return 0 };
        if scoring.ignores(row) {
            return 0;
        }
        let mut score = 0.0;
        for (constraint, domains, weight) in &scoring.constraints {
            let Some(value) = row.labels().get(&constraint.key) else { continue };
            let count = if constraint.key == HOSTNAME {
                constraint.count(pod, row)
            } else {
                domains.get(value).copied().unwrap_or(0)
            };
            score += count as f64 * weight + (constraint.max_skew - 1) as f64;
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

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo) -> bool {
        let near = |other: &PodInfo| other.namespace == pod.namespace;
        match change {
            Change::NodeAdded(_) | Change::NodeGone | Change::Itself => true,
            Change::NodeUpdated { old, new } => {
                old.metadata.labels != new.metadata.labels
                    || old.spec.as_ref().and_then(|s| s.taints.as_ref())
                        != new.spec.as_ref().and_then(|s| s.taints.as_ref())
            }
            Change::PodAssigned(other) | Change::PodChanged { new: other, .. } => near(other),
            Change::PodGone(other) => near(other),
            Change::Storage | Change::Namespace => false,
        }
    }
}

impl Scoring {
    fn ignores(&self, row: &NodeRow) -> bool {
        self.require_all && !has_all(row, self.constraints.iter().map(|(c, _, _)| c))
    }
}
