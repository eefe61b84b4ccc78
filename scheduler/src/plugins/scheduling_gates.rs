//! Keeps pods with scheduling gates out of the queue. Upstream: plugins/schedulinggates.

use crate::framework::{Change, Plugin, Reject, Verdict};
use crate::listers::Listers;
use crate::model::{Groups, PodInfo};

pub const NAME: &str = "SchedulingGates";

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &["TargetPodUpdate"]
    }

    fn pre_enqueue(&self, _listers: &Listers, _groups: &Groups, pod: &PodInfo) -> Verdict {
        if pod.gates.is_empty() {
            return Ok(());
        }
        let reason = format!("waiting for scheduling gates: [{}]", pod.gates.join(" "));
        Err(Reject::unresolvable(NAME, reason))
    }

    fn wakes(&self, change: &Change<'_>, _pod: &PodInfo, _groups: &Groups) -> bool {
        matches!(change, Change::Itself { new, .. } if new.gates.is_empty())
    }
}
