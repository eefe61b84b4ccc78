//! A node must declare the features a pod needs. Upstream: plugins/nodedeclaredfeatures.

use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, Verdict, View};
use crate::model::{Groups, NodeRow, PodInfo};

pub const NAME: &str = "NodeDeclaredFeatures";

pub struct NodeDeclaredFeatures;

impl Plugin for NodeDeclaredFeatures {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &["NodeAdd", "NodeUpdate", "TargetPodUpdate"]
    }

    fn pre_filter(&self, _view: View<'_>, pod: &PodInfo, _state: &mut CycleState) -> PreFilter {
        if pod.features.is_empty() { PreFilter::Skip } else { PreFilter::All }
    }

    fn filter(&self, _view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        let declared = row.node.as_ref().map(|n| n.status.declared_features.as_slice()).unwrap_or_default();
        if pod.features.iter().all(|f| declared.iter().any(|d| d == f)) {
            return Ok(());
        }
        Err(Reject::unresolvable(NAME, "node(s) didn't match Pod's required features"))
    }

    fn wakes(&self, change: &Change<'_>, _pod: &PodInfo, _groups: &Groups) -> bool {
        match change {
            Change::NodeAdded(_) => true,
            Change::NodeUpdated { old, new } => old.status.declared_features != new.status.declared_features,
            Change::Itself { old, new } => old.features != new.features,
            _ => false,
        }
    }
}
