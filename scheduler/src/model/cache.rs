//! All nodes with their pods, and pods that are assumed: placed by us, not yet seen placed by the API server.
//! Upstream: pkg/scheduler/backend/cache/cache.go. An assumed pod stays until it is seen or forgotten; there is
//! no snapshot to refresh, a cycle reads the rows themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::core::v1::Node;

use super::node::NodeRow;
use super::pod::{PodInfo, Uid};

type Hash = foldhash::fast::RandomState;

/// How a pod came to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Assumed,
    Seen,
}

#[derive(Debug)]
struct Placed {
    node: Arc<str>,
    place: Place,
}

/// The rows.
#[derive(Debug, Default)]
pub struct Cache {
    rows: Vec<NodeRow>,
    by_name: HashMap<Arc<str>, usize, Hash>,
    placed: HashMap<Uid, Placed, Hash>,
    namespaces: HashMap<String, BTreeMap<String, String>, Hash>,
    /// On how many nodes an image is.
    images: HashMap<String, usize, Hash>,
    nodes: usize,
}

impl Cache {
    /// Rows of known nodes.
    pub fn rows(&self) -> impl Iterator<Item = &NodeRow> {
        self.rows.iter().filter(|r| r.node.is_some())
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes
    }

    pub fn row(&self, name: &str) -> Option<&NodeRow> {
        self.by_name.get(name).map(|i| &self.rows[*i]).filter(|r| r.node.is_some())
    }

    pub fn namespace_labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(namespace)
    }

    pub fn set_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>) {
        match labels {
            Some(labels) => self.namespaces.insert(name.to_string(), labels),
            None => self.namespaces.remove(name),
        };
    }

    /// On how many nodes an image is.
    pub fn image_nodes(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    fn row_mut(&mut self, name: &str) -> &mut NodeRow {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                let row = NodeRow::new(name);
                self.by_name.insert(row.name.clone(), self.rows.len());
                self.rows.push(row);
                self.rows.len() - 1
            }
        };
        &mut self.rows[at]
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let row = self.row_mut(&name);
        let before = row.images.clone();
        let new = row.node.is_none();
        row.set_node(node);
        let after = row.images.clone();
        self.nodes += usize::from(new);
        self.count_images(&before, &after);
    }

    fn count_images(&mut self, before: &HashMap<String, i64, Hash>, after: &HashMap<String, i64, Hash>) {
        for name in before.keys().filter(|n| !after.contains_key(*n)) {
            if let Some(count) = self.images.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.images.remove(name);
                }
            }
        }
        for name in after.keys().filter(|n| !before.contains_key(*n)) {
            *self.images.entry_ref(name.as_str()).or_insert(0) += 1;
        }
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(&at) = self.by_name.get(name) else { return };
        if self.rows[at].node.take().is_some() {
            self.nodes -= 1;
        }
        let images = std::mem::take(&mut self.rows[at].images);
        self.count_images(&images, &HashMap::default());
        self.drop_empty(name);
    }

    /// A row without node and pods goes away.
    fn drop_empty(&mut self, name: &str) {
        let Some(&at) = self.by_name.get(name) else { return };
        if self.rows[at].node.is_some() || !self.rows[at].pods.is_empty() {
            return;
        }
        self.by_name.remove(name);
        self.rows.swap_remove(at);
        if let Some(moved) = self.rows.get(at) {
            self.by_name.insert(moved.name.clone(), at);
        }
    }

    /// Puts a pod on a node, wherever it was before.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str, place: Place) {
        self.remove(&pod.uid.clone());
        let row = self.row_mut(node);
        let placed = Placed { node: row.name.clone(), place };
        let uid = pod.uid.clone();
        row.add(pod);
        self.placed.insert(uid, placed);
    }

    /// Takes a pod away.
    pub fn remove(&mut self, uid: &Uid) -> Option<Arc<PodInfo>> {
        let placed = self.placed.remove(uid)?;
        let at = *self.by_name.get(&placed.node)?;
        let pod = self.rows[at].remove(uid);
        self.drop_empty(&placed.node);
        pod
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

    pub fn pods(&self) -> usize {
        self.placed.len()
    }
}
