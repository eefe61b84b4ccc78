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

    fn pre_filter(&self, _view: View<'_>, pod: &PodInfo, _state: &mut CycleState) -> PreFilter {
        let claims = pod.spec().is_some_and(|s| s.resource_claims.as_ref().is_some_and(|c| !c.is_empty()));
        if claims {
            let reason = "pod has resourceClaims, which this scheduler does not allocate yet";
            return PreFilter::Reject(Reject::unresolvable(NAME, reason));
        }
        if pod.spec().is_some_and(|s| s.scheduling_group.is_some()) {
            let reason = "pod has a schedulingGroup, which this scheduler does not place as one yet";
            return PreFilter::Reject(Reject::unresolvable(NAME, reason));
        }
        PreFilter::Skip
    }

    fn wakes(&self, change: &Change<'_>, _pod: &PodInfo) -> bool {
        matches!(change, Change::Itself)
    }
}
