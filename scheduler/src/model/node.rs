//! One node's row: what it offers and what is taken, sums kept by every change.

use std::sync::Arc;

use component::features::{self, Gate};
use hashbrown::HashMap;
use informer::Name;
use k8s_openapi::api::core::v1::{Taint, Toleration};
use machinery::quantity::Quantity;

use super::node_labels::{NO_LABELS, NodeLabels};
use super::pod::{PodInfo, Uid};
use super::resources::Resources;
use super::topology::Domains;
use super::wire::WireNode;

type Hash = foldhash::fast::RandomState;

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
    /// How many claims for volumes the pods have.
    pub claims: usize,
    pub images: Arc<HashMap<Name, i64, Hash>>,
    /// Its values of topology keys.
    pub domains: Domains,
    /// Different after every change of any row.
    pub generation: u64,
    /// How often a pod of it was replaced by a state that changes nothing for cycles, unless they take it away.
    pub renewals: u64,
    /// Where the row is among all rows.
    pub at: usize,
}

impl NodeRow {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A row of nothing but a node.
    pub fn of(node: Arc<WireNode>) -> Self {
        let mut row = Self::new(&node.metadata.name);
        row.set_node(node);
        row
    }

    pub fn labels(&self) -> &NodeLabels {
        self.node.as_ref().map_or(&*NO_LABELS, |n| &n.metadata.labels)
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
        self.claims += pod.claims.len();
        self.pods.push(pod);
    }

    /// Removes a pod; the removed one comes back.
    pub fn remove(&mut self, uid: &Uid) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|p| p.uid == *uid)?;
        let pod = self.pods.swap_remove(at);
        self.requested.sub(&pod.requests);
        self.ranked.sub(&pod.ranked);
        self.claims -= pod.claims.len();
        Some(pod)
    }
}

/// Whether one of the tolerations covers the taint. Operators that compare numbers cover nothing while their gate is
/// off. Upstream: component-helpers/scheduling/corev1/helpers.go, api/core/v1/toleration.go ToleratesTaint.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    covered(tolerations, taint, || features::enabled(Gate::TaintTolerationComparisonOperators))
}

/// A whole number as the API takes it: no sign but "-", no leading zeros.
fn number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (!digits.starts_with('0') || text == "0");
    text.parse().ok().filter(|_| plain)
}

fn covered(tolerations: &[Toleration], taint: &Taint, compares: impl Fn() -> bool) -> bool {
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
            operator @ ("Lt" | "Gt") if compares() => {
                let limit = t.value.as_deref().and_then(number);
                let value = taint.value.as_deref().and_then(number);
                let below = operator == "Lt";
                limit
                    .zip(value)
                    .is_some_and(|(limit, value)| if below { value < limit } else { value > limit })
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_with_the_gate_only() {
        let check = |operator: &str, limit: &str, value: &str, on: bool| {
            let some = |text: &str| Some(text.to_string());
            let toleration = Toleration {
                key: some("k"),
                operator: some(operator),
                value: some(limit),
                ..Toleration::default()
            };
            let taint = Taint { key: "k".into(), value: some(value), ..Taint::default() };
            covered(&[toleration], &taint, || on)
        };
        assert!(check("Gt", "5", "6", true) && !check("Gt", "5", "5", true) && !check("Gt", "5", "6", false));
        assert!(check("Lt", "5", "-6", true) && !check("Lt", "5", "5", true));
        for odd in ["05", "+5", "", "-", "x", "-0", "5.0", "9223372036854775808"] {
            assert!(!check("Lt", odd, "1", true) && !check("Gt", "-9", odd, true), "{odd:?}");
        }
        assert!(check("Gt", "-1", "0", true));
    }
}
