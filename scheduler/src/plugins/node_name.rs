//! A pod that names its node goes nowhere else. Upstream: plugins/nodename.

use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, Verdict, View};
use crate::model::{Groups, NodeRow, PodInfo};

pub const NAME: &str = "NodeName";

pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &["NodeAdd"]
    }

    /// A pod that names a node is never looked at like others.
    fn local_filter(&self) -> bool {
        true
    }

    fn pre_filter(&self, _view: View<'_>, pod: &PodInfo, _state: &mut CycleState) -> PreFilter {
        match pod.node.as_deref() {
            None => PreFilter::All,
            Some(name) => PreFilter::Nodes([name.to_string()].into()),
        }
    }

    fn filter(&self, _view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        match pod.node.as_deref() {
            None => Ok(()),
            Some(name) if *name == *row.name => Ok(()),
            Some(_) => Err(Reject::unresolvable(NAME, "node(s) didn't match the requested node name")),
        }
    }

    fn wakes(&self, change: &Change<'_>, _pod: &PodInfo, _groups: &Groups) -> bool {
        matches!(change, Change::NodeAdded(_))
    }
}
