//! All nodes with their pods, and pods that are assumed: placed by us, not yet seen placed by the API server.
//! Upstream: pkg/scheduler/backend/cache/cache.go. An assumed pod stays until it is seen or forgotten; there is
//! no snapshot to refresh, a cycle reads the rows themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use informer::Name;
use k8s_openapi::api::resource::v1::DeviceClass;

use super::backing::Backing;
use super::counters::Counters;
use super::intern::Interner;
use super::matcher::Matcher;
use super::node::NodeRow;
use super::order;
use super::pod::{AffinityTerm, PodInfo, Uid};
use super::topology::{Domains, KeyId, NOWHERE, Topology};
use super::wire::WireNode;

type Hash = foldhash::fast::RandomState;

/// Labels of namespaces, by name.
pub type Namespaces = HashMap<String, BTreeMap<String, String>, Hash>;

/// How a pod came to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Assumed,
    Seen,
}

#[derive(Clone, Debug)]
struct Placed {
    node: Arc<str>,
    place: Place,
}

/// The rows.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    rows: Vec<NodeRow>,
    /// Generations of the rows, side by side: most cycles ask nothing else of most rows.
    generations: Vec<u64>,
    by_name: HashMap<Arc<str>, usize, Hash>,
    placed: HashMap<Uid, Placed, Hash>,
    namespaces: Namespaces,
    /// On how many nodes an image is.
    images: HashMap<Name, usize, Hash>,
    nodes: usize,
    generation: u64,
    topology: Topology,
    counters: Counters,
    /// How many pods use a claim, by `namespace/name`.
    claims: HashMap<String, usize, Hash>,
    /// Rows of nodes in the order in which a search goes; empty when it must be made anew.
    order: Vec<usize>,
    backing: Backing,
    interner: Interner,
}

impl Cache {
    pub fn new(interner: Interner) -> Self {
        Self { interner, ..Self::default() }
    }

    pub fn interner(&self) -> &Interner {
        &self.interner
    }

    /// Rows of known nodes.
    pub fn rows(&self) -> impl Iterator<Item = &NodeRow> {
        self.rows.iter().filter(|r| r.node.is_some())
    }

    /// Every row, also those without a node, by [`NodeRow::at`].
    pub fn all_rows(&self) -> &[NodeRow] {
        &self.rows
    }

    /// Generation of the row at a place.
    pub fn generation(&self, at: usize) -> u64 {
        self.generations[at]
    }

    /// Rows of nodes, zones in turn. Made by [`Cache::arrange`].
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Makes the order if nodes came, went or moved.
    pub fn arrange(&mut self) {
        if self.order.len() != self.nodes {
            self.order = order::by_zone(&self.rows);
        }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes
    }

    pub fn row(&self, name: &str) -> Option<&NodeRow> {
        self.by_name.get(name).map(|i| &self.rows[*i]).filter(|r| r.node.is_some())
    }

    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    pub fn set_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>) {
        match labels {
            Some(labels) => self.namespaces.insert(name.to_string(), labels),
            None => self.namespaces.remove(name),
        };
        self.counters.namespace_changed();
    }

    /// On how many nodes an image is.
    pub fn image_nodes(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    /// How many placed pods use a claim.
    pub fn claim_users(&self, namespace: &str, claim: &str) -> usize {
        if self.claims.is_empty() {
            return 0;
        }
        self.claims.get(format!("{namespace}/{claim}").as_str()).copied().unwrap_or(0)
    }

    /// Device classes that stand behind extended resources.
    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// A device class came, changed or went. What was found out about rows may not hold any more.
    pub fn set_device_class(&mut self, name: &str, class: Option<Arc<DeviceClass>>) {
        if self.backing.set(name, class) {
            (0..self.rows.len()).for_each(|at| self.touch(at));
        }
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn key(&self, name: &str) -> Option<KeyId> {
        self.topology.key(name)
    }

    /// Length of an array over the domains of a key.
    pub fn domains(&self, key: KeyId) -> usize {
        self.topology.size(key)
    }

    /// Whether every node has a value of a key.
    pub fn all_have(&self, key: KeyId) -> bool {
        self.topology.rows(key) == self.nodes
    }

    /// How many nodes each domain of a key has.
    pub fn nodes_by_domain(&self, key: KeyId) -> impl Iterator<Item = u32> {
        self.topology.rows_by_domain(key)
    }

    /// Makes a topology key known: rows get a domain of it.
    pub fn know_key(&mut self, name: &str) -> KeyId {
        if let Some(known) = self.topology.key(name) {
            return known;
        }
        let key = self.topology.add_key(name);
        for row in &mut self.rows {
            let domain = if row.node.is_some() { self.topology.enter(key, row.labels()) } else { NOWHERE };
            row.domains.push(domain);
        }
        key
    }

    /// Makes what terms ask about known, and counted.
    pub fn know_terms<'a>(&mut self, terms: impl IntoIterator<Item = &'a AffinityTerm>) {
        for term in terms {
            let key = self.know_key(&term.topology_key);
            self.count(&term.matcher, Some(key));
        }
    }

    /// Counts what a matcher means, also by the domains of a key.
    pub fn count(&mut self, matcher: &Arc<Matcher>, key: Option<KeyId>) {
        self.counters.count(matcher, key, &self.rows, &self.topology, &self.namespaces);
    }

    /// Remembers what terms of placed pods say of a pod.
    pub fn remember(&mut self, pod: &PodInfo) {
        self.counters.remember(pod, &self.namespaces);
    }

    /// Makes the topology keys of a pod's terms known.
    pub fn know_own_keys(&mut self, pod: &PodInfo) {
        let preferred = pod.preferred_affinity.iter().chain(&pod.preferred_anti_affinity).map(|w| &w.term);
        for term in pod.affinity.iter().chain(&pod.anti_affinity).chain(preferred) {
            self.know_key(&term.topology_key);
        }
    }

    fn row_at(&mut self, name: &str) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        let at = self.rows.len();
        let mut row = NodeRow { at, ..NodeRow::new(name) };
        row.domains = self.nowhere();
        self.by_name.insert(row.name.clone(), at);
        self.rows.push(row);
        self.generations.push(0);
        self.counters.row_added();
        at
    }

    fn nowhere(&self) -> Domains {
        self.topology.enter_none()
    }

    fn touch(&mut self, at: usize) {
        self.generation += 1;
        self.rows[at].generation = self.generation;
        self.generations[at] = self.generation;
    }

    pub fn set_node(&mut self, node: Arc<WireNode>) {
        let name = node.metadata.name.clone();
        let at = self.row_at(&name);
        let row = &mut self.rows[at];
        let before = row.images.clone();
        let new = row.node.is_none();
        let relabelled = new || *row.labels() != node.metadata.labels;
        row.set_node(node);
        let after = row.images.clone();
        self.nodes += usize::from(new);
        self.count_images(&before, &after);
        if relabelled {
            self.move_row(at, true);
            self.order.clear();
        }
        self.touch(at);
    }

    /// The row's labels changed, or it lost its node.
    fn move_row(&mut self, at: usize, there: bool) {
        let row = &self.rows[at];
        let to = if there { self.topology.enter_all(row.labels()) } else { self.nowhere() };
        let from = std::mem::replace(&mut self.rows[at].domains, to.clone());
        self.counters.moved(at, &self.rows[at].pods, &from, &to, &self.topology);
        self.topology.leave_all(&from);
    }

    fn count_images(&mut self, before: &HashMap<Name, i64, Hash>, after: &HashMap<Name, i64, Hash>) {
        for name in before.keys().filter(|n| !after.contains_key(*n)) {
            if let Some(count) = self.images.get_mut(name.as_str()) {
                *count -= 1;
                if *count == 0 {
                    self.images.remove(name.as_str());
                }
            }
        }
        for name in after.keys().filter(|n| !before.contains_key(*n)) {
            *self.images.entry(name.clone()).or_insert(0) += 1;
        }
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(&at) = self.by_name.get(name) else { return };
        if self.rows[at].node.is_none() {
            return;
        }
        self.move_row(at, false);
        self.rows[at].node = None;
        self.nodes -= 1;
        self.order.clear();
        let images = std::mem::take(&mut self.rows[at].images);
        self.count_images(&images, &HashMap::default());
        self.touch(at);
        self.drop_empty(at);
    }

    /// A row without node and pods goes away.
    fn drop_empty(&mut self, at: usize) {
        if self.rows[at].node.is_some() || !self.rows[at].pods.is_empty() {
            return;
        }
        let gone = self.rows.swap_remove(at);
        self.generations.swap_remove(at);
        self.by_name.remove(&gone.name);
        self.counters.row_removed(at);
        if let Some(moved) = self.rows.get_mut(at) {
            moved.at = at;
            self.by_name.insert(moved.name.clone(), at);
        }
        self.order.clear();
    }

    /// Puts a pod on a node, wherever it was before.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str, place: Place) {
        if self.renew(&pod, node, place) {
            return;
        }
        self.remove(&pod.uid.clone());
        self.know_own_keys(&pod);
        let at = self.row_at(node);
        let row = &mut self.rows[at];
        let placed = Placed { node: row.name.clone(), place };
        let uid = pod.uid.clone();
        row.add(pod.clone());
        self.counters.pod(&pod, at, &self.rows[at].domains, 1, &self.namespaces, &self.topology);
        for (name, _) in pod.claim_names() {
            *self.claims.entry(format!("{}/{name}", pod.namespace)).or_insert(0) += 1;
        }
        self.placed.insert(uid, placed);
        self.touch(at);
    }

    /// A new state of a pod that changes nothing for others.
    fn renew(&mut self, pod: &Arc<PodInfo>, node: &str, place: Place) -> bool {
        let Some(placed) = self.placed.get_mut(&pod.uid).filter(|p| *p.node == *node) else { return false };
        let Some(&at) = self.by_name.get(node) else { return false };
        let Some(known) = self.rows[at].pods.iter_mut().find(|p| p.uid == pod.uid) else { return false };
        if !known.same_place(pod) {
            return false;
        }
        *known = pod.clone();
        self.rows[at].renewals += 1;
        placed.place = place;
        true
    }

    /// Takes a pod away.
    pub fn remove(&mut self, uid: &Uid) -> Option<Arc<PodInfo>> {
        let placed = self.placed.remove(uid)?;
        let at = *self.by_name.get(&placed.node)?;
        let pod = self.rows[at].remove(uid)?;
        self.counters.pod(&pod, at, &self.rows[at].domains, -1, &self.namespaces, &self.topology);
        for (name, _) in pod.claim_names() {
            let key = format!("{}/{name}", pod.namespace);
            if let Some(users) = self.claims.get_mut(&key) {
                *users -= 1;
                if *users == 0 {
                    self.claims.remove(&key);
                }
            }
        }
        self.touch(at);
        self.drop_empty(at);
        Some(pod)
    }

    /// Takes an assumed pod back. One that was seen placed stays.
    pub fn forget(&mut self, uid: &Uid) -> bool {
        let assumed = self.is_assumed(uid);
        if assumed {
            self.remove(uid);
        }
        assumed
    }

    pub fn is_assumed(&self, uid: &Uid) -> bool {
        self.placed.get(uid).is_some_and(|p| p.place == Place::Assumed)
    }

    /// Node of a pod, assumed or seen.
    pub fn node_of(&self, uid: &Uid) -> Option<&Arc<str>> {
        self.placed.get(uid).map(|p| &p.node)
    }

    /// Node of a pod, and how it came there.
    pub fn placed(&self, uid: &Uid) -> Option<(Arc<str>, Place)> {
        self.placed.get(uid).map(|p| (p.node.clone(), p.place))
    }

    pub fn assumed(&self) -> usize {
        self.placed.values().filter(|p| p.place == Place::Assumed).count()
    }

    pub fn pods(&self) -> usize {
        self.placed.len()
    }
}
