//! Pods with resource claims or in a scheduling group: what these need is not there yet, so they stay pending with
//! a message that says so, rather than being placed without their devices. Upstream: plugins/dynamicresources.

use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, View};
use crate::model::PodInfo;

pub const NAME: &str = "DynamicResources";

pub struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &["TargetPodUpdate"]
    }

    fn pre_filter(&self, _view: View<'_>, pod: &PodInfo, _state: &mut CycleState) -> PreFilter {
        if !pod.resource_claims.is_empty() {
            let reason = "pod has resourceClaims, which this scheduler does not allocate yet";
            return PreFilter::Reject(Reject::unresolvable(NAME, reason));
        }
        if pod.group.is_some() {
            let reason = "pod has a schedulingGroup, which this scheduler does not place as one yet";
            return PreFilter::Reject(Reject::unresolvable(NAME, reason));
        }
        PreFilter::Skip
    }

    fn wakes(&self, change: &Change<'_>, _pod: &PodInfo) -> bool {
        matches!(change, Change::Itself { .. })
    }
}
