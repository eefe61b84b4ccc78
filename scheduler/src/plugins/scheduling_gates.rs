//! Keeps pods with scheduling gates out of the queue. Upstream: plugins/schedulinggates.

use crate::framework::{Change, Plugin, Reject, Verdict};
use crate::model::PodInfo;

pub const NAME: &str = "SchedulingGates";

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Verdict {
        let gates = pod.spec().and_then(|s| s.scheduling_gates.as_deref()).unwrap_or_default();
        if gates.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = gates.iter().map(|g| g.name.as_str()).collect();
        let reason = format!("waiting for scheduling gates: [{}]", names.join(" "));
        Err(Reject::unresolvable(NAME, reason))
    }

    fn wakes(&self, change: &Change<'_>, _pod: &PodInfo) -> bool {
        matches!(change, Change::Itself)
    }
}
