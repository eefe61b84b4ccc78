//! One node's row: what it offers and what is taken, sums kept by every change.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::core::v1::{Taint, Toleration};
use machinery::quantity::Quantity;

use super::pod::{PodInfo, Uid};
use super::resources::Resources;
use super::topology::Domains;
use super::wire::WireNode;

type Hash = foldhash::fast::RandomState;
static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// A node and its pods.
#[derive(Clone, Debug, Default)]
pub struct NodeRow {
    pub name: Arc<str>,
    /// Absent while only pods speak of the node.
    pub node: Option<Arc<WireNode>>,
    pub allocatable: Resources,
    pub allowed_pods: i64,
    pub requested: Resources,
    pub ranked: Resources,
    pub pods: Vec<Arc<PodInfo>>,
    pub images: Arc<HashMap<String, i64, Hash>>,
    /// Its values of topology keys.
    pub domains: Domains,
    /// Different after every change of any row.
    pub generation: u64,
    /// Where the row is among all rows.
    pub at: usize,
}

impl NodeRow {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A row of nothing but a node.
    pub fn of(node: Arc<WireNode>) -> Self {
        let mut row = Self::new(node.metadata.name.as_deref().unwrap_or_default());
        row.set_node(node);
        row
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        self.node.as_ref().and_then(|n| n.metadata.labels.as_ref()).unwrap_or(&NO_LABELS)
    }

    pub fn taints(&self) -> &[Taint] {
        self.node.as_ref().map(|n| n.spec.taints.as_slice()).unwrap_or_default()
    }

    pub fn unschedulable(&self) -> bool {
        self.node.as_ref().is_some_and(|n| n.spec.unschedulable)
    }

    /// Takes over what the node says.
    pub fn set_node(&mut self, node: Arc<WireNode>) {
        let offered = &node.status.allocatable;
        self.allocatable = Resources::from_list(offered);
        let pods = offered.get("pods");
        self.allowed_pods = pods.and_then(|q| Quantity::parse(&q.0).ok()).map_or(0, |q| q.value());
        let mut images = HashMap::default();
        for image in &node.status.images {
            for name in &image.names {
                images.insert(name.clone(), image.size_bytes);
            }
        }
        self.images = Arc::new(images);
        self.node = Some(node);
    }

    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.ranked.add(&pod.ranked);
        self.pods.push(pod);
    }

    /// Removes a pod; the removed one comes back.
    pub fn remove(&mut self, uid: &Uid) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|p| p.uid == *uid)?;
        let pod = self.pods.swap_remove(at);
        self.requested.sub(&pod.requests);
        self.ranked.sub(&pod.ranked);
        Some(pod)
    }
}

/// Whether one of the tolerations covers the taint. Numeric operators cover nothing: their gate is off.
/// Upstream: component-helpers/scheduling/corev1/helpers.go.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| {
        let effect = t.effect.as_deref().unwrap_or_default();
        let key = t.key.as_deref().unwrap_or_default();
        if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
            return false;
        }
        match t.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => {
                t.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
            }
            "Exists" => true,
            _ => false,
        }
    })
}
