//! Two pods cannot have the same port of a node. Upstream: plugins/nodeports.

use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, Verdict, View};
use crate::model::{Groups, NodeRow, PodInfo};

pub const NAME: &str = "NodePorts";

pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &["AssignedPodDelete", "NodeAdd"]
    }

    fn local_filter(&self) -> bool {
        true
    }

    fn pre_filter(&self, _view: View<'_>, pod: &PodInfo, _state: &mut CycleState) -> PreFilter {
        if pod.ports.is_empty() { PreFilter::Skip } else { PreFilter::All }
    }

    fn filter(&self, _view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        let taken = row.pods.iter().flat_map(|p| &p.ports);
        if taken.into_iter().any(|t| pod.ports.iter().any(|w| w.conflicts(t))) {
            return Err(Reject::unschedulable(
                NAME,
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        match change {
            Change::NodeAdded(_) => true,
            Change::PodGone(gone) => gone.ports.iter().any(|g| pod.ports.iter().any(|w| w.conflicts(g))),
            Change::Itself { old, new } => old.wants.id != new.wants.id,
            _ => false,
        }
    }
}
