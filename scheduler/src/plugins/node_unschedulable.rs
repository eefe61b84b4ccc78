//! Cordoned nodes take only pods that tolerate it. Upstream: plugins/nodeunschedulable.

use k8s_openapi::api::core::v1::Taint;

use crate::framework::{Change, CycleState, Plugin, Reject, Verdict, View};
use crate::model::{Groups, NodeRow, PodInfo, WireNode, tolerates};

pub const NAME: &str = "NodeUnschedulable";

pub struct NodeUnschedulable;

fn tolerated(pod: &PodInfo) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    tolerates(&pod.tolerations, &taint)
}

fn cordoned(node: &WireNode) -> bool {
    node.spec.unschedulable
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &["NodeAdd", "NodeUpdate", "TargetPodUpdate"]
    }

    fn local_filter(&self) -> bool {
        true
    }

    fn filter(&self, _view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        if !row.unschedulable() || tolerated(pod) {
            return Ok(());
        }
        Err(Reject::unresolvable(NAME, "node(s) were unschedulable"))
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        match change {
            Change::NodeAdded(node) => !cordoned(node) || tolerated(pod),
            Change::NodeUpdated { old, new } => cordoned(old) && !cordoned(new),
            Change::Itself { old, new } => !tolerated(old) && tolerated(new),
            _ => false,
        }
    }
}
