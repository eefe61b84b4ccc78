//! Pods near other pods, or away from them. Upstream: plugins/interpodaffinity.
//!
//! Nothing is counted here: the cache keeps, per topology key and term, how many pods each domain has. A cycle picks
//! the counts it needs; what is only tried out is kept beside them.

use smallvec::SmallVec;

use crate::framework::{Change, CycleState, MAX_SCORE, Plugin, PreFilter, Reject, Verdict, View};
use crate::listers::Listers;
use crate::model::{AffinityTerm, Cache, Counts as Domains, Groups, KeyId, NOWHERE, NodeRow, PodInfo, Role};

pub const NAME: &str = "InterPodAffinity";

/// Which pods a count is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// Placed pods whose anti-affinity speaks of this pod.
    Existing,
    /// Pods that this one must be near.
    Near,
    /// Pods that this one must be away from: the term's position.
    Away(usize),
}

#[derive(Clone)]
struct Count {
    about: About,
    matcher: u64,
    key: KeyId,
    domains: Domains,
}

/// Counts for filtering.
#[derive(Clone, Default)]
pub struct Counts {
    counts: Vec<Count>,
    /// Pods this one must be near, over all keys and domains.
    near: i64,
    /// Changes that are tried out: (count, domain, by how much).
    tried: SmallVec<[(usize, u32, i64); 4]>,
}

/// Weights for ranking: by key and domain.
#[derive(Clone, Default)]
pub struct Scoring(Vec<(KeyId, Domains, i64)>);

pub struct InterPodAffinity {
    pub hard_weight: i64,
    pub ignore_preferred_of_existing: bool,
}

fn domain(row: &NodeRow, key: KeyId) -> u32 {
    row.domains.get(key).copied().unwrap_or(NOWHERE)
}

impl Counts {
    fn get(&self, at: usize, domain: u32) -> i64 {
        let known = self.counts[at].domains.get(domain as usize).copied().map_or(0, i64::from);
        let tried = self.tried.iter().filter(|(i, d, _)| (*i, *d) == (at, domain));
        known + tried.map(|(_, _, delta)| delta).sum::<i64>()
    }

    fn of(&self, wanted: impl Fn(About) -> bool) -> impl Iterator<Item = (usize, &Count)> {
        self.counts.iter().enumerate().filter(move |(_, c)| wanted(c.about))
    }

    /// Notes a change of a count.
    fn change(&mut self, at: usize, row: &NodeRow, delta: i64) {
        let domain = domain(row, self.counts[at].key);
        if domain != NOWHERE {
            self.tried.push((at, domain, delta));
            if self.counts[at].about == About::Near {
                self.near += delta;
            }
        }
    }

    /// The count of a placed pod's term; one that is not there yet begins.
    fn existing(&mut self, term: &AffinityTerm, key: KeyId) -> usize {
        let same = |c: &Count| c.about == About::Existing && c.key == key && c.matcher == term.matcher.id;
        self.counts.iter().position(same).unwrap_or_else(|| {
            let (about, matcher) = (About::Existing, term.matcher.id);
            self.counts.push(Count { about, matcher, key, domains: Domains::default() });
            self.counts.len() - 1
        })
    }

    /// The first pod of a group may go anywhere: nobody matches, it would itself.
    fn near(&self, cache: &Cache, pod: &PodInfo, row: &NodeRow) -> bool {
        let mut found = true;
        for (at, count) in self.of(|about| about == About::Near) {
            let domain = domain(row, count.key);
            if domain == NOWHERE {
                return false;
            }
            found &= self.get(at, domain) > 0;
        }
        let itself = || pod.affinity_all.as_ref().is_none_or(|all| all.matches(pod, cache.namespaces()));
        found || (self.near == 0 && itself())
    }

    /// Whether no pod of these counts shares a domain with the row.
    fn clear(&self, wanted: impl Fn(About) -> bool, row: &NodeRow) -> bool {
        self.of(wanted).all(|(at, count)| {
            let domain = domain(row, count.key);
            domain == NOWHERE || self.get(at, domain) <= 0
        })
    }
}

/// The terms of a pod that cycles about it ask about, beside required affinity.
fn asked(pod: &PodInfo) -> impl Iterator<Item = &AffinityTerm> {
    let preferred = pod.preferred_affinity.iter().chain(&pod.preferred_anti_affinity);
    pod.anti_affinity.iter().chain(preferred.map(|w| &w.term))
}

impl InterPodAffinity {
    /// What a placed pod's term counts for a pod it means.
    fn weight(&self, role: Role) -> i64 {
        match role {
            Role::Prefer(weight) => i64::from(weight),
            Role::Near => self.hard_weight.max(0),
            Role::Anti => 0,
        }
    }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &[
            "AssignedPodAdd",
            "AssignedPodUpdate",
            "AssignedPodDelete",
            "NodeAdd",
            "NodeUpdate",
            "NamespaceUpdate",
            "TargetPodUpdate",
        ]
    }

    fn prepare(&self, cache: &mut Cache, _listers: &Listers, pod: &PodInfo) {
        cache.know_terms(asked(pod));
        for term in &pod.affinity {
            let key = cache.know_key(&term.topology_key);
            if let Some(all) = &pod.affinity_all {
                cache.count(all, Some(key));
            }
        }
    }

    fn pre_filter(&self, view: View<'_>, pod: &PodInfo, state: &mut CycleState) -> PreFilter {
        let cache = view.cache;
        let existing = cache.counters().meaning(pod, cache.namespaces());
        let mut counts: Vec<Count> = existing
            .filter(|t| t.role == Role::Anti && t.sum > 0)
            .map(|t| Count {
                about: About::Existing,
                matcher: t.matcher.id,
                key: t.key,
                domains: t.counts.clone(),
            })
            .collect();
        if counts.is_empty() && pod.affinity.is_empty() && pod.anti_affinity.is_empty() {
            return PreFilter::Skip;
        }
        let mut near = 0;
        if let Some(all) = &pod.affinity_all {
            for term in &pod.affinity {
                let Some(key) = cache.key(&term.topology_key) else { continue };
                let known = cache.counters().matcher(all).and_then(|c| c.domains(key));
                let (domains, sum) = known.map(|(d, s)| (d.clone(), s)).unwrap_or_default();
                near += i64::try_from(sum).unwrap_or(i64::MAX);
                counts.push(Count { about: About::Near, matcher: term.matcher.id, key, domains });
            }
        }
        for (i, term) in pod.anti_affinity.iter().enumerate() {
            let Some(key) = cache.key(&term.topology_key) else { continue };
            let known = cache.counters().matcher(&term.matcher).and_then(|c| c.domains(key));
            let domains = known.map(|(d, _)| d.clone()).unwrap_or_default();
            counts.push(Count { about: About::Away(i), matcher: term.matcher.id, key, domains });
        }
        state.affinity = Some(Counts { counts, near, tried: SmallVec::new() });
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
        let Some(counts) = &mut state.affinity else { return };
        let (cache, namespaces) = (view.cache, view.cache.namespaces());
        for term in other.anti_affinity.iter().filter(|t| t.matcher.matches(pod, namespaces)) {
            if let Some(key) = cache.key(&term.topology_key) {
                let at = counts.existing(term, key);
                counts.change(at, row, delta);
            }
        }
        let near = pod.affinity_all.as_ref().is_some_and(|all| all.matches(other, namespaces));
        for at in 0..counts.counts.len() {
            let meant = match counts.counts[at].about {
                About::Existing => false,
                About::Near => near,
                About::Away(i) => pod.anti_affinity[i].matcher.matches(other, namespaces),
            };
            if meant {
                counts.change(at, row, delta);
            }
        }
    }

    fn filter(&self, view: View<'_>, state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        let Some(counts) = &state.affinity else { return Ok(()) };
        if !counts.near(view.cache, pod, row) {
            return Err(Reject::unresolvable(NAME, "node(s) didn't match pod affinity rules"));
        }
        if !counts.clear(|about| matches!(about, About::Away(_)), row) {
            return Err(Reject::unschedulable(NAME, "node(s) didn't match pod anti-affinity rules"));
        }
        if !counts.clear(|about| about == About::Existing, row) {
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
        let counters = view.cache.counters();
        let mut parts = Vec::new();
        for (sign, list) in [(1, &pod.preferred_affinity), (-1, &pod.preferred_anti_affinity)] {
            for w in list {
                let Some(key) = view.cache.key(&w.term.topology_key) else { continue };
                let known = counters.matcher(&w.term.matcher).and_then(|c| c.domains(key));
                if let Some((domains, _)) = known.filter(|(_, sum)| *sum > 0) {
                    parts.push((key, domains.clone(), sign * i64::from(w.weight)));
                }
            }
        }
        for term in counters.meaning(pod, view.cache.namespaces()).filter(|t| t.sum > 0) {
            let weight = self.weight(term.role);
            if weight != 0 {
                parts.push((term.key, term.counts.clone(), weight));
            }
        }
        let any = !parts.is_empty();
        state.affinity_score = Some(Scoring(parts));
        any
    }

    fn score(&self, _view: View<'_>, state: &CycleState, _pod: &PodInfo, row: &NodeRow) -> i64 {
        let Some(Scoring(parts)) = &state.affinity_score else { return 0 };
        let one = |(key, domains, weight): &(KeyId, Domains, i64)| match domain(row, *key) {
            NOWHERE => 0,
            domain => weight * domains.get(domain as usize).copied().map_or(0, i64::from),
        };
        parts.iter().map(one).sum()
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

    /// Upstream: isSchedulableAfterPodChange, isSchedulableAfterNodeChange.
    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        let keys = |node: &crate::model::WireNode| {
            let labels = &node.metadata.labels;
            pod.affinity.iter().chain(&pod.anti_affinity).any(|t| labels.contains_key(&t.topology_key))
        };
        match change {
            Change::NodeAdded(node) => {
                (pod.affinity.is_empty() && pod.anti_affinity.is_empty()) || keys(node)
            }
            Change::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            Change::Namespace => true,
            Change::Itself { old, new } => old.labels.id != new.labels.id,
            Change::PodAssigned(_) => !pod.affinity.is_empty(),
            Change::PodChanged { old, new } => old.labels.id != new.labels.id,
            Change::PodGone(gone) => !pod.anti_affinity.is_empty() || !gone.anti_affinity.is_empty(),
            _ => false,
        }
    }
}
