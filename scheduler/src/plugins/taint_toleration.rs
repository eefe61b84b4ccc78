//! Taints keep pods away that do not tolerate them. Upstream: plugins/tainttoleration.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::framework::{Change, CycleState, Plugin, Reject, Verdict, View, default_normalize};
use crate::model::{NodeRow, PodInfo, tolerates};

pub const NAME: &str = "TaintToleration";

pub struct TaintToleration;

fn tolerations(pod: &PodInfo) -> &[Toleration] {
    pod.spec().and_then(|s| s.tolerations.as_deref()).unwrap_or_default()
}

/// Whether every taint that keeps new pods away is tolerated.
pub fn tolerates_all(pod: &PodInfo, taints: &[Taint]) -> bool {
    let hard = |t: &&Taint| t.effect == "NoSchedule" || t.effect == "NoExecute";
    taints.iter().filter(hard).all(|t| tolerates(tolerations(pod), t))
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        NAME
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
        soft.filter(|t| !tolerates(tolerations(pod), t)).count() as i64
    }

    fn normalize(&self, _state: &CycleState, _nodes: &[&NodeRow], scores: &mut [i64]) {
        default_normalize(scores, true);
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo) -> bool {
        let taints = |n: &k8s_openapi::api::core::v1::Node| {
            n.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default()
        };
        match change {
            Change::NodeAdded(node) => tolerates_all(pod, &taints(node)),
            Change::NodeUpdated { old, new } => {
                !tolerates_all(pod, &taints(old)) && tolerates_all(pod, &taints(new))
            }
            Change::Itself => true,
            _ => false,
        }
    }
}
