//! A volume with zone labels is used only within its zone. Upstream: plugins/volumezone.

use super::volume_binding::claim_names;
use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, Verdict, View};
use crate::model::{NodeRow, PodInfo};

pub const NAME: &str = "VolumeZone";
const KEYS: [(&str, &str); 2] = [
    ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
];

pub struct VolumeZone;

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter(&self, _view: View<'_>, pod: &PodInfo, _state: &mut CycleState) -> PreFilter {
        if claim_names(pod).next().is_none() { PreFilter::Skip } else { PreFilter::All }
    }

    fn filter(&self, _view: View<'_>, state: &CycleState, _pod: &PodInfo, row: &NodeRow) -> Verdict {
        let labels = row.labels();
        let known = KEYS.iter().any(|(a, b)| labels.contains_key(*a) || labels.contains_key(*b));
        if !known {
            return Ok(());
        }
        for volume in state.volumes.iter().flat_map(|c| c.volumes()) {
            for (new, old) in KEYS {
                let own = volume.metadata.labels.as_ref().and_then(|l| l.get(new).or_else(|| l.get(old)));
                let Some(own) = own else { continue };
                let here = labels.get(new).or_else(|| labels.get(old));
                if !here.is_some_and(|h| own.split("__").any(|zone| zone == h)) {
                    return Err(Reject::unresolvable(NAME, "node(s) had no available volume zone"));
                }
            }
        }
        Ok(())
    }

    fn wakes(&self, change: &Change<'_>, _pod: &PodInfo) -> bool {
        matches!(change, Change::Storage | Change::NodeAdded(_) | Change::NodeUpdated { .. } | Change::Itself)
    }
}
