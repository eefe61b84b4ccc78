//! What a daemon set needs next: a pod on every node it fits, none elsewhere. Pure.
//! Upstream: pkg/controller/daemon/daemon_controller.go manage, podsShouldBeOnNode.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Node;

use super::node::{self, Fit, HASH_LABEL, Placement};
use crate::controllers::shared::backoff::Backoff;
use crate::controllers::shared::scaled;
use crate::kept::Pod;
use crate::pods;

/// Most pods made, and most deleted, in one round.
pub const BURST: usize = 250;

/// Pods by the node they are on or meant for.
pub type ByNode = BTreeMap<String, Vec<Arc<Pod>>>;

/// Everything a decision depends on.
pub struct View<'a> {
    pub set: &'a DaemonSet,
    pub nodes: &'a [Arc<Node>],
    /// The set's own pods, without those that ended and are being deleted.
    pub pods: &'a ByNode,
    /// Label of the current revision.
    pub hash: &'a str,
    pub now: Timestamp,
}

/// What to do with pods.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Nodes to make a pod for.
    pub create: Vec<String>,
    /// Names of pods.
    pub delete: Vec<String>,
    /// Events of the set: whether it is a warning, reason, message.
    pub events: Vec<(bool, &'static str, String)>,
    /// Nodes on which a pod failed and is deleted: the next failure there waits longer.
    pub failed: Vec<String>,
    pub look_again: Option<Duration>,
}

impl View<'_> {
    pub fn min_ready_seconds(&self) -> i32 {
        self.set.spec.min_ready_seconds.unwrap_or(0)
    }

    pub fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready_seconds(), self.now)
    }

    pub fn is_updated(&self, pod: &Pod) -> bool {
        node::is_updated(pod, self.hash, node::generation(self.set))
    }
}

/// Decides what each node needs.
pub fn plan(view: &View<'_>, backoff: &Backoff) -> Plan {
    let placement = Placement::new(view.set);
    let mut plan = Plan::default();
    for node in view.nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let here = view.pods.get(name);
        match (placement.fit(node), here) {
            (Fit::Run, None) => plan.create.push(name.to_string()),
            (Fit::Never, Some(here)) => {
                plan.delete.extend(here.iter().filter(|p| !pods::is_deleted(p)).map(|p| pod_name(p)));
            }
            (Fit::Never, None) => {}
            (fit, here) => plan.tidy(view, backoff, name, fit, here.map_or(&[], Vec::as_slice)),
        }
    }
    plan.delete.extend(without_node(view));
    plan
}

fn pod_name(pod: &Pod) -> String {
    pod.name().to_string()
}

/// Pods meant for nodes that are gone: they will never be scheduled, and nobody else collects them.
fn without_node(view: &View<'_>) -> Vec<String> {
    let known: std::collections::BTreeSet<&str> =
        view.nodes.iter().filter_map(|n| n.metadata.name.as_deref()).collect();
    let lost = view.pods.iter().filter(|(node, _)| !known.contains(node.as_str()));
    lost.flat_map(|(_, pods)| pods).filter(|p| pods::node_name(p).is_empty()).map(|p| pod_name(p)).collect()
}

impl Plan {
    /// A node that may keep its pods: ended ones are replaced, surplus ones deleted.
    fn tidy(&mut self, view: &View<'_>, backoff: &Backoff, node: &str, fit: Fit, here: &[Arc<Pod>]) {
        let mut running: Vec<&Arc<Pod>> = Vec::new();
        for pod in here.iter().filter(|p| !pods::is_deleted(p)) {
            match pods::phase(pod) {
                "Failed" => self.replace_failed(view, backoff, node, pod),
                "Succeeded" => {
                    let text =
                        format!("Found succeeded daemon pod {}, will try to delete it", on_node(pod, node));
                    self.events.push((false, "SucceededDaemonPod", text));
                    self.delete.push(pod_name(pod));
                }
                _ => running.push(pod),
            }
        }
        running.sort_by(|a, b| order(a, b));
        if !surges(view.set) {
            self.delete.extend(running.iter().skip(1).map(|p| pod_name(p)));
        } else if running.is_empty() && fit == Fit::Run {
            self.create.push(node.to_string());
        } else if running.len() > 1 {
            self.choose_of_surge(view, &running);
        }
    }

    /// A pod that fails at once everywhere would be replaced in a hot loop, so failures wait longer and longer.
    fn replace_failed(&mut self, view: &View<'_>, backoff: &Backoff, node: &str, pod: &Pod) {
        if let Some(pause) = backoff.waiting(&backoff_key(view.set, node), view.now) {
            self.look_again = Some(self.look_again.map_or(pause, |p| p.min(pause)));
            return;
        }
        if !self.failed.iter().any(|n| n == node) {
            self.failed.push(node.to_string());
        }
        let text = format!("Found failed daemon pod {}, will try to kill it", on_node(pod, node));
        self.events.push((true, "FailedDaemonPod", text));
        self.delete.push(pod_name(pod));
    }

    /// Two pods may be on a node only while the old one serves and the new one does not yet.
    fn choose_of_surge(&mut self, view: &View<'_>, running: &[&Arc<Pod>]) {
        let (mut new, mut old) = (None, None);
        for pod in running {
            let hash = pod.metadata.labels.as_ref().and_then(|l| l.get(HASH_LABEL));
            let slot = if hash.is_some_and(|h| h == view.hash) { &mut new } else { &mut old };
            if slot.is_none() {
                *slot = Some(*pod);
            } else {
                self.delete.push(pod_name(pod));
            }
        }
        if let (Some(new), Some(old)) = (new, old)
            && (!pods::is_ready(old) || view.is_available(new))
        {
            self.delete.push(pod_name(old));
        }
    }
}

fn on_node(pod: &Pod, node: &str) -> String {
    let namespace = pod.namespace();
    format!("{namespace}/{} on node {node}", pod_name(pod))
}

/// Key of a node's failures; a new generation starts anew.
pub fn backoff_key(set: &DaemonSet, node: &str) -> String {
    let seen = set.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
    format!("{}/{seen}/{node}", set.metadata.uid.as_deref().unwrap_or_default())
}

/// Scheduled pods first, then the oldest. Upstream: podByCreationTimestampAndPhase.
pub fn order(a: &Pod, b: &Pod) -> Ordering {
    let key = |p: &Pod| {
        let created = p.metadata.creation_timestamp;
        (pods::node_name(p).is_empty(), created, p.metadata.name.clone())
    };
    key(a).cmp(&key(b))
}

fn is_rolling(set: &DaemonSet) -> bool {
    let strategy = set.spec.update_strategy.as_ref();
    strategy.and_then(|s| s.type_.as_deref()) == Some("RollingUpdate")
}

/// Pods beyond one per node, of `desired` nodes.
///
/// # Errors
/// The value is no percentage.
pub fn max_surge(set: &DaemonSet, desired: i32) -> Result<i32, String> {
    let strategy = set.spec.update_strategy.as_ref();
    let surge = strategy.and_then(|s| s.rolling_update.as_ref()).and_then(|r| r.max_surge.as_ref());
    match surge {
        Some(surge) if is_rolling(set) => {
            scaled(surge, desired, true).map_err(|e| format!("invalid value for MaxSurge: {e}"))
        }
        _ => Ok(0),
    }
}

/// Nodes without an available pod, of `desired` nodes.
///
/// # Errors
/// The value is no percentage.
pub fn max_unavailable(set: &DaemonSet, desired: i32) -> Result<i32, String> {
    let strategy = set.spec.update_strategy.as_ref();
    let most = strategy.and_then(|s| s.rolling_update.as_ref()).and_then(|r| r.max_unavailable.as_ref());
    match most {
        Some(most) if is_rolling(set) => {
            scaled(most, desired, true).map_err(|e| format!("invalid value for MaxUnavailable: {e}"))
        }
        _ => Ok(0),
    }
}

/// More than one pod may be on a node for a while. Upstream: AllowsSurge.
pub fn surges(set: &DaemonSet) -> bool {
    max_surge(set, 1).is_ok_and(|surge| surge > 0)
}

/// Pods follow the template by themselves.
pub fn rolls(set: &DaemonSet) -> bool {
    is_rolling(set)
}
