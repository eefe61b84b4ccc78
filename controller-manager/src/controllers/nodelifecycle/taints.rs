//! What a node's conditions say about its taints and labels. Pure.
//! Upstream: pkg/controller/nodelifecycle/node_lifecycle_controller.go doNoScheduleTaintingPass, reconcileNodeLabels.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub const NO_EXECUTE: &str = "NoExecute";
const NO_SCHEDULE: &str = "NoSchedule";

/// Condition, its status, and the taint that these ask for.
const BY_CONDITION: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// Labels, and the older labels that repeat them.
const LABELS: &[(&str, &str)] =
    &[("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")];

/// Taints to add and to remove; a taint is its key and effect.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swap {
    pub add: Vec<(&'static str, &'static str)>,
    pub remove: Vec<(&'static str, &'static str)>,
}

pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == kind)
}

pub fn has(node: &Node, key: &str, effect: &str) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    taints.iter().any(|t| t.key == key && t.effect == effect)
}

/// The NoSchedule taints that conditions ask for.
pub fn no_schedule(node: &Node) -> Swap {
    let mut wanted: Vec<&str> = BY_CONDITION
        .iter()
        .filter(|(kind, status, _)| condition(node, kind).is_some_and(|c| c.status == *status))
        .map(|(_, _, key)| *key)
        .collect();
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        wanted.push(UNSCHEDULABLE);
    }
    let mut swap = Swap::default();
    for key in BY_CONDITION.iter().map(|(_, _, key)| *key).chain([UNSCHEDULABLE]) {
        match (wanted.contains(&key), has(node, key, NO_SCHEDULE)) {
            (true, false) => swap.add.push((key, NO_SCHEDULE)),
            (false, true) => swap.remove.push((key, NO_SCHEDULE)),
            _ => {}
        }
    }
    swap
}

/// The NoExecute taint that a readiness asks for.
pub fn no_execute(ready: &str) -> Swap {
    let (not_ready, unreachable) = ((NOT_READY, NO_EXECUTE), (UNREACHABLE, NO_EXECUTE));
    match ready {
        "False" => Swap { add: vec![not_ready], remove: vec![unreachable] },
        "Unknown" => Swap { add: vec![unreachable], remove: vec![not_ready] },
        _ => Swap { add: vec![], remove: vec![unreachable, not_ready] },
    }
}

impl Swap {
    /// The node's taints afterwards; nothing if they are like that already.
    pub fn on(&self, node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
        let old = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
        let is = |t: &Taint, (key, effect): &(&str, &str)| t.key == *key && t.effect == *effect;
        let mut new = old.clone();
        new.retain(|t| !self.remove.iter().any(|r| is(t, r)));
        for added in &self.add {
            if !new.iter().any(|t| is(t, added)) {
                new.push(Taint {
                    key: added.0.to_string(),
                    effect: added.1.to_string(),
                    value: None,
                    time_added: Some(Time(now)),
                });
            }
        }
        (new != old).then_some(new)
    }
}

/// Older labels that do not say what the newer ones say.
pub fn labels(node: &Node) -> BTreeMap<&'static str, String> {
    let Some(have) = &node.metadata.labels else { return BTreeMap::new() };
    let differs = |(new, old): &&(&'static str, &'static str)| {
        have.get(*new).is_some_and(|value| have.get(*old) != Some(value))
    };
    LABELS.iter().filter(differs).filter_map(|(new, old)| Some((*old, have.get(*new)?.clone()))).collect()
}
