//! Pods near other pods, or away from them. Upstream: plugins/interpodaffinity.
//!
//! Counts are per (topology key, value): of placed pods whose anti-affinity speaks of this pod, and of placed pods
//! that this pod's own terms speak of. Nodes without pods that have terms are passed over unless the pod has some.

use hashbrown::HashMap;

use crate::framework::{Change, CycleState, MAX_SCORE, Plugin, PreFilter, Reject, Verdict, View};
use crate::model::{AffinityTerm, Cache, NodeRow, PodInfo, Weighted};

pub const NAME: &str = "InterPodAffinity";

type Hash = foldhash::fast::RandomState;
type Pairs = HashMap<String, HashMap<String, i64, Hash>, Hash>;

/// Counts for filtering.
#[derive(Clone, Default)]
pub struct Counts {
    existing_anti: Pairs,
    affinity: Pairs,
    anti: Pairs,
}

/// Sums of weights for ranking.
#[derive(Clone, Default)]
pub struct Scoring(Pairs);

pub struct InterPodAffinity {
    pub hard_weight: i64,
    pub ignore_preferred_of_existing: bool,
}

fn bump(pairs: &mut Pairs, row: &NodeRow, key: &str, delta: i64) {
    let Some(value) = row.labels().get(key) else { return };
    let values = pairs.entry_ref(key).or_default();
    let count = values.entry_ref(value.as_str()).or_insert(0);
    *count += delta;
    if *count == 0 {
        values.remove(value);
        if values.is_empty() {
            pairs.remove(key);
        }
    }
}

fn count(pairs: &Pairs, key: &str, value: &str) -> i64 {
    pairs.get(key).and_then(|v| v.get(value)).copied().unwrap_or(0)
}

fn matches_all(terms: &[AffinityTerm], pod: &PodInfo, cache: &Cache) -> bool {
    !terms.is_empty() && terms.iter().all(|t| t.matches(pod, cache))
}

impl Counts {
    fn update(&mut self, cache: &Cache, pod: &PodInfo, other: &PodInfo, row: &NodeRow, delta: i64) {
        for term in other.anti_affinity.iter().filter(|t| t.matches(pod, cache)) {
            bump(&mut self.existing_anti, row, &term.topology_key, delta);
        }
        if matches_all(&pod.affinity, other, cache) {
            for term in &pod.affinity {
                bump(&mut self.affinity, row, &term.topology_key, delta);
            }
        }
        for term in pod.anti_affinity.iter().filter(|t| t.matches(other, cache)) {
            bump(&mut self.anti, row, &term.topology_key, delta);
        }
    }

    /// The first pod of a group may go anywhere: nobody matches, it would itself.
    fn near(&self, cache: &Cache, pod: &PodInfo, row: &NodeRow) -> bool {
        let mut found = true;
        for term in &pod.affinity {
            let Some(value) = row.labels().get(&term.topology_key) else { return false };
            found &= count(&self.affinity, &term.topology_key, value) > 0;
        }
        found || (self.affinity.is_empty() && matches_all(&pod.affinity, pod, cache))
    }

    fn far(&self, pod: &PodInfo, row: &NodeRow) -> bool {
        pod.anti_affinity.iter().all(|t| {
            row.labels().get(&t.topology_key).is_none_or(|v| count(&self.anti, &t.topology_key, v) <= 0)
        })
    }

    fn tolerated(&self, row: &NodeRow) -> bool {
        self.existing_anti.iter().all(|(key, values)| {
            row.labels().get(key).is_none_or(|v| values.get(v).copied().unwrap_or(0) <= 0)
        })
    }
}

impl InterPodAffinity {
    fn weigh(&self, cache: &Cache, sums: &mut Pairs, pod: &PodInfo, other: &PodInfo, row: &NodeRow) {
        let mut add = |terms: &[Weighted], about: &PodInfo, sign: i64| {
            for w in terms.iter().filter(|w| w.term.matches(about, cache)) {
                // Entries stay at 0: that they exist decides about normalizing.
                let Some(value) = row.labels().get(&w.term.topology_key) else { continue };
                let values = sums.entry_ref(w.term.topology_key.as_str()).or_default();
                *values.entry_ref(value.as_str()).or_insert(0) += sign * i64::from(w.weight);
            }
        };
        add(&pod.preferred_affinity, other, 1);
        add(&pod.preferred_anti_affinity, other, -1);
        add(&other.preferred_affinity, pod, 1);
        add(&other.preferred_anti_affinity, pod, -1);
        if self.hard_weight > 0 {
            for term in other.affinity.iter().filter(|t| t.matches(pod, cache)) {
                let Some(value) = row.labels().get(&term.topology_key) else { continue };
                let values = sums.entry_ref(term.topology_key.as_str()).or_default();
                *values.entry_ref(value.as_str()).or_insert(0) += self.hard_weight;
            }
        }
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter(&self, view: View<'_>, pod: &PodInfo, state: &mut CycleState) -> PreFilter {
        let own = !pod.affinity.is_empty() || !pod.anti_affinity.is_empty();
        let mut counts = Counts::default();
        for row in view.cache.rows().filter(|r| own || r.with_affinity > 0) {
            for other in row.pods.iter().filter(|p| own || !p.anti_affinity.is_empty()) {
                counts.update(view.cache, pod, other, row, 1);
            }
        }
        if !own && counts.existing_anti.is_empty() && view.nominated.is_empty() {
            return PreFilter::Skip;
        }
        state.affinity = Some(counts);
        PreFilter::All
    }

    fn adjust(
        &self,
        view: View<'_>,
        state: &mut CycleState,
        pod: &PodInfo,
        other: &PodInfo,
        row: &NodeRow,
        delta: i64,
    ) {
        if let Some(counts) = &mut state.affinity {
            counts.update(view.cache, pod, other, row, delta);
        }
    }

    fn filter(&self, view: View<'_>, state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        let Some(counts) = &state.affinity else { return Ok(()) };
        if !counts.near(view.cache, pod, row) {
            return Err(Reject::unresolvable(NAME, "node(s) didn't match pod affinity rules"));
        }
        if !counts.far(pod, row) {
            return Err(Reject::unschedulable(NAME, "node(s) didn't match pod anti-affinity rules"));
        }
        if !counts.tolerated(row) {
            return Err(Reject::unschedulable(
                NAME,
                "node(s) didn't satisfy existing pods anti-affinity rules",
            ));
        }
        Ok(())
    }

    fn pre_score(&self, view: View<'_>, state: &mut CycleState, pod: &PodInfo, _nodes: &[&NodeRow]) -> bool {
        let own = !pod.preferred_affinity.is_empty() || !pod.preferred_anti_affinity.is_empty();
        if self.ignore_preferred_of_existing && !own {
            return false;
        }
        let mut sums = Pairs::default();
        for row in view.cache.rows().filter(|r| own || r.with_affinity > 0) {
            for other in row.pods.iter().filter(|p| own || p.has_affinity()) {
                self.weigh(view.cache, &mut sums, pod, other, row);
            }
        }
        let any = !sums.is_empty();
        state.affinity_score = Some(Scoring(sums));
        any
    }

    fn score(&self, _view: View<'_>, state: &CycleState, _pod: &PodInfo, row: &NodeRow) -> i64 {
        let Some(Scoring(sums)) = &state.affinity_score else { return 0 };
        let one = |(key, values): (&String, &HashMap<String, i64, Hash>)| {
            row.labels().get(key).and_then(|v| values.get(v)).copied().unwrap_or(0)
        };
        sums.iter().map(one).sum()
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeRow], scores: &mut [i64]) {
        let (Some(least), Some(most)) = (scores.iter().min().copied(), scores.iter().max().copied()) else {
            return;
        };
        for score in scores {
            let scaled = (*score - least) as f64 / (most - least) as f64;
            *score = if most > least { (MAX_SCORE as f64 * scaled) as i64 } else { 0 };
        }
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo) -> bool {
        match change {
            Change::NodeAdded(_) | Change::Namespace | Change::Itself => true,
            Change::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            Change::PodAssigned(_) => !pod.affinity.is_empty(),
            Change::PodChanged { .. } => true,
            Change::PodGone(gone) => !pod.anti_affinity.is_empty() || !gone.anti_affinity.is_empty(),
            Change::Storage | Change::NodeGone => false,
        }
    }
}
