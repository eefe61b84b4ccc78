//! One node's row: what it offers and what is taken, sums kept by every change.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use machinery::quantity::Quantity;

use super::pod::{PodInfo, Uid};
use super::resources::Resources;

type Hash = foldhash::fast::RandomState;
static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// A node and its pods.
#[derive(Clone, Debug, Default)]
pub struct NodeRow {
    pub name: Arc<str>,
    /// Absent while only pods speak of the node.
    pub node: Option<Arc<Node>>,
    pub allocatable: Resources,
    pub allowed_pods: i64,
    pub requested: Resources,
    pub ranked: Resources,
    pub pods: Vec<Arc<PodInfo>>,
    /// How many of the pods have terms of pod (anti-)affinity.
    pub with_affinity: usize,
    pub images: Arc<HashMap<String, i64, Hash>>,
}

impl NodeRow {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        self.node.as_ref().and_then(|n| n.metadata.labels.as_ref()).unwrap_or(&NO_LABELS)
    }

    pub fn taints(&self) -> &[Taint] {
        let spec = self.node.as_ref().and_then(|n| n.spec.as_ref());
        spec.and_then(|s| s.taints.as_deref()).unwrap_or_default()
    }

    pub fn unschedulable(&self) -> bool {
        self.node.as_ref().and_then(|n| n.spec.as_ref()).and_then(|s| s.unschedulable) == Some(true)
    }

    /// Takes over what the node says.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        let offered = status.and_then(|s| s.allocatable.as_ref());
        self.allocatable = offered.map(Resources::from_list).unwrap_or_default();
        let pods = offered.and_then(|o| o.get("pods"));
        self.allowed_pods = pods.and_then(|q| Quantity::parse(&q.0).ok()).map_or(0, |q| q.value());
        let mut images = HashMap::default();
        for image in status.and_then(|s| s.images.as_ref()).into_iter().flatten() {
            for name in image.names.iter().flatten() {
                images.insert(name.clone(), image.size_bytes.unwrap_or(0));
            }
        }
        self.images = Arc::new(images);
        self.node = Some(node);
    }

    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.ranked.add(&pod.ranked);
        self.with_affinity += usize::from(pod.has_affinity());
        self.pods.push(pod);
    }

    /// Removes a pod; the removed one comes back.
    pub fn remove(&mut self, uid: &Uid) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|p| p.uid == *uid)?;
        let pod = self.pods.swap_remove(at);
        self.requested.sub(&pod.requests);
        self.ranked.sub(&pod.ranked);
        self.with_affinity -= usize::from(pod.has_affinity());
        Some(pod)
    }
}

/// Whether one of the tolerations covers the taint. Numeric operators cover nothing: their gate is off.
/// Upstream: component-helpers/scheduling/corev1/helpers.go.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| {
        let text = |v: &Option<String>| v.clone().unwrap_or_default();
        let effect = text(&t.effect);
        let key = text(&t.key);
        if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
            return false;
        }
        match t.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => text(&t.value) == text(&taint.value),
            "Exists" => true,
            _ => false,
        }
    })
}
