//! Node selectors and node affinity. Upstream: plugins/nodeaffinity.

use k8s_openapi::api::core::v1::NodeAffinity as Wanted;

use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, Verdict, View, default_normalize};
use crate::model::{Groups, NodeRow, NodeSelector, PodInfo, WireNode};

pub const NAME: &str = "NodeAffinity";

/// With affinity that the profile adds to every pod.
#[derive(Default)]
pub struct NodeAffinity {
    required: Option<NodeSelector>,
    preferred: Vec<(i32, NodeSelector)>,
}

impl NodeAffinity {
    pub fn new(added: Option<&Wanted>) -> Self {
        let required = added.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred = added.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        Self {
            required: required.map(|r| NodeSelector::new(&r.node_selector_terms)),
            preferred: preferred
                .into_iter()
                .flatten()
                .map(|p| (p.weight, NodeSelector::new([&p.preference])))
                .collect(),
        }
    }
}

/// Whether the pod's own selector and affinity allow the node.
pub fn allowed(pod: &PodInfo, row: &NodeRow) -> bool {
    pod.node_labels.as_ref().is_none_or(|s| s.matches(row.labels()))
        && pod.required.as_ref().is_none_or(|r| r.matches(row.labels(), &row.name))
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &["NodeAdd", "NodeUpdate"]
    }

    fn local_filter(&self) -> bool {
        true
    }

    fn local_score(&self) -> bool {
        true
    }

    fn pre_filter(&self, _view: View<'_>, pod: &PodInfo, _state: &mut CycleState) -> PreFilter {
        if pod.required.is_none() && self.required.is_none() && pod.node_labels.is_none() {
            return PreFilter::Skip;
        }
        match pod.required.as_ref().and_then(NodeSelector::names) {
            None => PreFilter::All,
            Some(names) if names.is_empty() => {
                PreFilter::Reject(Reject::unresolvable(NAME, "pod affinity terms conflict"))
            }
            Some(names) => PreFilter::Nodes(names.clone()),
        }
    }

    fn filter(&self, _view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        if self.required.as_ref().is_some_and(|r| !r.matches(row.labels(), &row.name)) {
            return Err(Reject::unresolvable(NAME, "node(s) didn't match scheduler-enforced node affinity"));
        }
        if allowed(pod, row) {
            return Ok(());
        }
        Err(Reject::unresolvable(NAME, "node(s) didn't match Pod's node affinity/selector"))
    }

    fn pre_score(
        &self,
        _view: View<'_>,
        _state: &mut CycleState,
        pod: &PodInfo,
        _nodes: &[&NodeRow],
    ) -> bool {
        !pod.preferred.is_empty() || !self.preferred.is_empty()
    }

    fn score(&self, _view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> i64 {
        let all = self.preferred.iter().chain(&pod.preferred);
        all.filter(|(_, s)| s.matches(row.labels(), &row.name)).map(|(weight, _)| i64::from(*weight)).sum()
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeRow], scores: &mut [i64]) {
        default_normalize(scores, false);
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        let fits = |node: &WireNode| {
            let mut row = NodeRow::new(&node.metadata.name);
            row.node = Some(std::sync::Arc::new(node.clone()));
            allowed(pod, &row) && self.required.as_ref().is_none_or(|r| r.matches(row.labels(), &row.name))
        };
        match change {
            Change::NodeAdded(node) => fits(node),
            Change::NodeUpdated { old, new } => {
                old.metadata.labels != new.metadata.labels && !fits(old) && fits(new)
            }
            Change::Itself { old, new } => old.wants.id != new.wants.id,
            _ => false,
        }
    }
}
