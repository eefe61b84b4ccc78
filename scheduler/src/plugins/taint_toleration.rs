//! Taints keep pods away that do not tolerate them. Upstream: plugins/tainttoleration.

use k8s_openapi::api::core::v1::Taint;

use crate::framework::{Change, CycleState, Plugin, Reject, Verdict, View, default_normalize};
use crate::model::{Groups, NodeRow, PodInfo, tolerates};

pub const NAME: &str = "TaintToleration";

pub struct TaintToleration;

/// Whether every taint that keeps new pods away is tolerated.
pub fn tolerates_all(pod: &PodInfo, taints: &[Taint]) -> bool {
    let hard = |t: &&Taint| t.effect == "NoSchedule" || t.effect == "NoExecute";
    taints.iter().filter(hard).all(|t| tolerates(&pod.tolerations, t))
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &["NodeAdd", "NodeUpdate", "TargetPodUpdate"]
    }

    fn local_filter(&self) -> bool {
        true
    }

    fn local_score(&self) -> bool {
        true
    }

    fn filter(&self, _view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        if tolerates_all(pod, row.taints()) {
            return Ok(());
        }
        Err(Reject::unresolvable(NAME, "node(s) had untolerated taint(s)"))
    }

    /// Number of soft taints that are not tolerated.
    fn score(&self, _view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> i64 {
        let soft = row.taints().iter().filter(|t| t.effect == "PreferNoSchedule");
        soft.filter(|t| !tolerates(&pod.tolerations, t)).count() as i64
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeRow], scores: &mut [i64]) {
        default_normalize(scores, true);
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        match change {
            Change::NodeAdded(node) => tolerates_all(pod, &node.spec.taints),
            Change::NodeUpdated { old, new } => {
                !tolerates_all(pod, &old.spec.taints) && tolerates_all(pod, &new.spec.taints)
            }
            Change::Itself { old, new } => old.tolerations != new.tolerations,
            _ => false,
        }
    }
}
