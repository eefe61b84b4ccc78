//! Pods that run and are to grow, but for which their node lacks the room (the kubelet deferred it): they are looked at
//! for their own node alone, so that less important pods make room there. Upstream: plugins/deferredpodscheduling.
//!
//! Differs: upstream v1.37.2 assumes a pod before it asks this plugin, which fails for one that has a node, so that a pod
//! that fits by now is tried again and again. Here it waits for a change, as the plugin means it.

use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, Verdict, View};
use crate::model::{Groups, NodeRow, PodInfo, WireNode};

pub const NAME: &str = "DeferredPodScheduling";

pub struct DeferredPodScheduling;

fn forbidden(node: &WireNode) -> bool {
    let policy = node.spec.pod_preemption_policy.as_ref();
    policy.is_some_and(|p| p.disable_resize_preemption.as_ref().is_some_and(|list| !list.is_empty()))
}

impl Plugin for DeferredPodScheduling {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &["NodeUpdate", "NodeAdd"]
    }

    fn local_filter(&self) -> bool {
        true
    }

    fn pre_filter(&self, _view: View<'_>, pod: &PodInfo, _state: &mut CycleState) -> PreFilter {
        if pod.deferred() { PreFilter::All } else { PreFilter::Skip }
    }

    fn filter(&self, _view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        if !pod.deferred() {
            return Ok(());
        }
        if pod.node.as_ref().is_some_and(|node| *node != row.name) {
            return Err(Reject::unresolvable(NAME, "pod assigned to different node"));
        }
        match row.node.as_ref().is_some_and(|node| forbidden(node)) {
            true => Err(Reject::unresolvable(NAME, "node had resize preemption disabled")),
            false => Ok(()),
        }
    }

    /// Nobody binds it: it goes on waiting until the kubelet has made it grow.
    fn permit(&self, pod: &PodInfo) -> Verdict {
        match pod.deferred() {
            true => Err(Reject::unresolvable(NAME, "pod resize fits, waiting for Kubelet actuation")),
            false => Ok(()),
        }
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        let own = |node: &WireNode| Some(&*node.metadata.name) == pod.node.as_deref();
        match change {
            Change::NodeAdded(node) => pod.deferred() && own(node) && !forbidden(node),
            Change::NodeUpdated { old, new } => {
                pod.deferred() && own(new) && forbidden(old) && !forbidden(new)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Interner, WirePod};

    fn node(spec: Value) -> WireNode {
        serde_json::from_value(json!({ "metadata": { "name": "a" }, "spec": spec })).unwrap()
    }

    fn pod(node: &str, reason: &str) -> PodInfo {
        let pod: WirePod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "n", "uid": "p" },
            "spec": { "nodeName": node },
            "status": { "conditions": [{ "type": "PodResizePending", "status": "True", "reason": reason }] },
        }))
        .unwrap();
        PodInfo::new(&Interner::default(), &pod)
    }

    /// Cases of upstream's deferred_pod_scheduling_test.go.
    #[test]
    fn what_may_help() {
        let off = json!({ "podPreemptionPolicy": { "disableResizePreemption": ["x"] } });
        let on = json!({ "podPreemptionPolicy": { "disableResizePreemption": [] } });
        let plugin = DeferredPodScheduling;
        let update = |old: &Value, new: &Value, pod: &PodInfo| {
            let (old, new) = (node(old.clone()), node(new.clone()));
            plugin.wakes(&Change::NodeUpdated { old: &old, new: &new }, pod, &Groups::default())
        };
        let deferred = pod("a", "Deferred");
        assert!(update(&off, &on, &deferred) && update(&off, &json!({}), &deferred));
        assert!(!update(&on, &off, &deferred) && !update(&on, &on, &deferred));
        assert!(!update(&off, &on, &pod("b", "Deferred")) && !update(&off, &on, &pod("a", "Infeasible")));
        assert!(plugin.wakes(&Change::NodeAdded(&node(on)), &deferred, &Groups::default()));
        assert!(!plugin.wakes(&Change::NodeAdded(&node(off.clone())), &deferred, &Groups::default()));
        assert!(!plugin.wakes(
            &Change::NodeAdded(&node(json!({}))),
            &pod("b", "Deferred"),
            &Groups::default()
        ));
        assert!(forbidden(&node(off)));
        let row = NodeRow::of(Arc::new(node(json!({}))));
        assert_eq!(row.name, "a".into());
    }
}
