//! How many placed pods a matcher means, by row and by domain, and how many pods have a term, by domain. Kept up to
//! date by every change, so that a cycle reads instead of counting.
//!
//! Counters of matchers are made when a cycle first asks and go away when none asks any more; those of terms exist
//! while a placed pod has the term.

use std::sync::Arc;

use hashbrown::HashMap;

use super::cache::Namespaces;
use super::matcher::Matcher;
use super::node::NodeRow;
use super::pod::{AffinityTerm, PodInfo};
use super::topology::{Domain, Domains, KeyId, NOWHERE, Topology};

type Hash = foldhash::fast::RandomState;

/// Counts over the domains of a key; states of cycles share them.
pub type Counts = Arc<Vec<u32>>;

/// Matchers counted at a time.
const MOST: usize = 256;
/// Remembered answers of one matcher.
const ANSWERS: usize = 4096;

fn bump(counts: &mut Counts, domain: Domain, delta: i64) {
    let counts = Arc::make_mut(counts);
    let at = domain as usize;
    if at >= counts.len() {
        counts.resize(at + 1, 0);
    }
    counts[at] = u32::try_from(i64::from(counts[at]) + delta).unwrap_or(0);
}

/// Answers of a matcher by (labels, namespace).
#[derive(Clone, Debug, Default)]
struct Memory(HashMap<(u64, Arc<str>), bool, Hash>);

impl Memory {
    fn ask(&mut self, matcher: &Matcher, pod: &PodInfo, namespaces: &Namespaces) -> bool {
        if matcher.alive && pod.terminating {
            return false;
        }
        let key = (pod.labels.id, pod.namespace.clone());
        if let Some(&known) = self.0.get(&key) {
            return known;
        }
        if self.0.len() >= ANSWERS {
            self.0.clear();
        }
        let answer = matcher.matches(pod, namespaces);
        self.0.insert(key, answer);
        answer
    }
}

/// Pods that a matcher means.
#[derive(Clone, Debug)]
pub struct MatchCounter {
    matcher: Arc<Matcher>,
    rows: Vec<u32>,
    /// By key: counts, and their sum.
    domains: Vec<(KeyId, Counts, u64)>,
    memory: Memory,
    used: u64,
}

impl MatchCounter {
    /// Pods on a row.
    pub fn row(&self, row: usize) -> u32 {
        self.rows.get(row).copied().unwrap_or(0)
    }

    /// Pods by domain of a key that was asked for, and their sum.
    pub fn domains(&self, key: KeyId) -> Option<(&Counts, u64)> {
        self.domains.iter().find(|(k, _, _)| *k == key).map(|(_, counts, sum)| (counts, *sum))
    }

    fn change(&mut self, domains: &Domains, delta: i64) {
        for (key, counts, sum) in &mut self.domains {
            let domain = domains.get(*key).copied().unwrap_or(NOWHERE);
            if domain != NOWHERE {
                bump(counts, domain, delta);
                *sum = sum.saturating_add_signed(delta);
            }
        }
    }

    fn add_key(&mut self, key: KeyId, rows: &[NodeRow], topology: &Topology) {
        let mut counts = vec![0; topology.size(key)];
        let mut sum = 0;
        for (row, count) in rows.iter().zip(&self.rows) {
            let domain = row.domains.get(key).copied().unwrap_or(NOWHERE);
            if domain != NOWHERE && *count > 0 {
                counts[domain as usize] += count;
                sum += u64::from(*count);
            }
        }
        self.domains.push((key, Arc::new(counts), sum));
    }
}

/// What a placed pod's term is to other pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Required anti-affinity.
    Anti,
    /// Required affinity.
    Near,
    /// Preferred, with its weight; negative for anti-affinity.
    Prefer(i32),
}

/// Pods that have a term.
#[derive(Clone, Debug)]
pub struct TermCounter {
    pub matcher: Arc<Matcher>,
    pub key: KeyId,
    pub role: Role,
    pub counts: Counts,
    /// Pods on nodes with the label.
    pub sum: u64,
    /// All pods that have it.
    holders: u64,
    memory: Memory,
}

type TermKey = (u64, KeyId, Role);

/// All counters.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    matches: HashMap<u64, MatchCounter, Hash>,
    terms: HashMap<TermKey, TermCounter, Hash>,
    tick: u64,
}

/// The terms of a pod with what they are to others.
fn terms(pod: &PodInfo) -> impl Iterator<Item = (&AffinityTerm, Role)> {
    let preferred = pod.preferred_affinity.iter().map(|w| (&w.term, Role::Prefer(w.weight)));
    let unwanted = pod.preferred_anti_affinity.iter().map(|w| (&w.term, Role::Prefer(-w.weight)));
    let anti = pod.anti_affinity.iter().map(|t| (t, Role::Anti));
    anti.chain(pod.affinity.iter().map(|t| (t, Role::Near))).chain(preferred).chain(unwanted)
}

impl Counters {
    pub fn matcher(&self, matcher: &Matcher) -> Option<&MatchCounter> {
        self.matches.get(&matcher.id)
    }

    /// Terms of placed pods that mean a pod.
    pub fn meaning<'a>(
        &'a self,
        pod: &'a PodInfo,
        namespaces: &'a Namespaces,
    ) -> impl Iterator<Item = &'a TermCounter> {
        self.terms.values().filter(move |t| {
            let known = t.memory.0.get(&(pod.labels.id, pod.namespace.clone())).copied();
            known.unwrap_or_else(|| t.matcher.matches(pod, namespaces))
        })
    }

    /// Remembers what terms say of a pod, before cycles about it.
    pub fn remember(&mut self, pod: &PodInfo, namespaces: &Namespaces) {
        for term in self.terms.values_mut() {
            term.memory.ask(&term.matcher, pod, namespaces);
        }
    }

    /// Counts what a matcher means, from now on, also by a key.
    pub fn count(
        &mut self,
        matcher: &Arc<Matcher>,
        key: Option<KeyId>,
        rows: &[NodeRow],
        topology: &Topology,
        namespaces: &Namespaces,
    ) {
        self.tick += 1;
        let tick = self.tick;
        if !self.matches.contains_key(&matcher.id) {
            self.make_room();
            let mut memory = Memory::default();
            let on = |row: &NodeRow, memory: &mut Memory| {
                row.pods.iter().filter(|p| memory.ask(matcher, p, namespaces)).count()
            };
            let rows = rows.iter().map(|r| u32::try_from(on(r, &mut memory)).unwrap_or(u32::MAX)).collect();
            let counter =
                MatchCounter { matcher: matcher.clone(), rows, domains: Vec::new(), memory, used: tick };
            self.matches.insert(matcher.id, counter);
        }
        let Some(counter) = self.matches.get_mut(&matcher.id) else { return };
        counter.used = tick;
        if let Some(key) = key
            && counter.domains(key).is_none()
        {
            counter.add_key(key, rows, topology);
        }
    }

    fn make_room(&mut self) {
        if self.matches.len() >= MOST
            && let Some(oldest) = self.matches.iter().min_by_key(|(_, c)| c.used).map(|(id, _)| *id)
        {
            self.matches.remove(&oldest);
        }
    }

    /// A pod comes to (`delta` 1) or leaves (-1) a row. `keys` knows the keys of its terms.
    pub fn pod(
        &mut self,
        pod: &PodInfo,
        at: usize,
        domains: &Domains,
        delta: i64,
        namespaces: &Namespaces,
        topology: &Topology,
    ) {
        for counter in self.matches.values_mut() {
            if counter.memory.ask(&counter.matcher, pod, namespaces) {
                let count = &mut counter.rows[at];
                *count = u32::try_from(i64::from(*count) + delta).unwrap_or(0);
                counter.change(domains, delta);
            }
        }
        if pod.has_affinity() {
            self.terms_of(pod, domains, delta, delta, topology);
        }
    }

    /// `holders`: by how much the number of pods that have the terms changes.
    fn terms_of(&mut self, pod: &PodInfo, domains: &Domains, delta: i64, holders: i64, topology: &Topology) {
        for (term, role) in terms(pod) {
            let Some(key) = topology.key(&term.topology_key) else { continue };
            let entry = self.terms.entry((term.matcher.id, key, role)).or_insert_with(|| TermCounter {
                matcher: term.matcher.clone(),
                key,
                role,
                counts: Arc::default(),
                sum: 0,
                holders: 0,
                memory: Memory::default(),
            });
            entry.holders = entry.holders.saturating_add_signed(holders);
            let domain = domains.get(key).copied().unwrap_or(NOWHERE);
            if domain != NOWHERE {
                bump(&mut entry.counts, domain, delta);
                entry.sum = entry.sum.saturating_add_signed(delta);
            }
            if entry.holders == 0 {
                self.terms.remove(&(term.matcher.id, key, role));
            }
        }
    }

    /// A row's domains changed: what it holds moves.
    pub fn moved(
        &mut self,
        at: usize,
        pods: &[Arc<PodInfo>],
        from: &Domains,
        to: &Domains,
        topology: &Topology,
    ) {
        for counter in self.matches.values_mut() {
            let count = i64::from(counter.rows[at]);
            if count > 0 {
                counter.change(from, -count);
                counter.change(to, count);
            }
        }
        for pod in pods.iter().filter(|p| p.has_affinity()) {
            self.terms_of(pod, from, -1, 0, topology);
            self.terms_of(pod, to, 1, 0, topology);
        }
    }

    pub fn row_added(&mut self) {
        self.matches.values_mut().for_each(|c| c.rows.push(0));
    }

    /// The row is replaced by the last one.
    pub fn row_removed(&mut self, at: usize) {
        for counter in self.matches.values_mut() {
            counter.rows.swap_remove(at);
        }
    }

    /// Labels of a namespace changed: what depends on them is counted anew when asked for.
    pub fn namespace_changed(&mut self) {
        self.matches.retain(|_, c| !c.matcher.by_namespace_labels());
        for term in self.terms.values_mut().filter(|t| t.matcher.by_namespace_labels()) {
            term.memory = Memory::default();
        }
    }
}
