//! Cordoned nodes take only pods that tolerate it. Upstream: plugins/nodeunschedulable.

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::framework::{Change, CycleState, Plugin, Reject, Verdict, View};
use crate::model::{NodeRow, PodInfo, tolerates};

pub const NAME: &str = "NodeUnschedulable";

pub struct NodeUnschedulable;

fn tolerated(pod: &PodInfo) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    tolerates(pod.spec().and_then(|s| s.tolerations.as_deref()).unwrap_or_default(), &taint)
}

fn cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true)
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        NAME
    }

    fn filter(&self, _view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        if !row.unschedulable() || tolerated(pod) {
            return Ok(());
        }
        Err(Reject::unresolvable(NAME, "node(s) were unschedulable"))
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo) -> bool {
        match change {
            Change::NodeAdded(node) => !cordoned(node) || tolerated(pod),
            Change::NodeUpdated { old, new } => cordoned(old) && !cordoned(new),
            Change::Itself => true,
            _ => false,
        }
    }
}
