//! A node takes only so many volumes of a CSI driver. Upstream: plugins/nodevolumelimits.
//!
//! Counts bound claims and inline volumes. Volumes that in-tree plugins hand over to a driver are not translated.

use std::collections::{BTreeMap, BTreeSet};

use super::volume_binding::claim_names;
use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, Verdict, View};
use crate::model::{NodeRow, PodInfo};

pub const NAME: &str = "NodeVolumeLimits";

pub struct NodeVolumeLimits;

/// (driver, handle) of the volumes of a pod's bound claims.
fn attached(view: View<'_>, pod: &PodInfo) -> BTreeSet<(String, String)> {
    let volume = |name: String| {
        let claim = view.listers.claims.get_by(&pod.namespace, &name)?;
        let volume = view.listers.volumes.get(claim.spec.as_ref()?.volume_name.as_deref()?)?;
        let csi = volume.spec.as_ref()?.csi.as_ref()?;
        Some((csi.driver.clone(), csi.volume_handle.clone()))
    };
    claim_names(pod).filter_map(|(name, _)| volume(name)).collect()
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter(&self, _view: View<'_>, pod: &PodInfo, _state: &mut CycleState) -> PreFilter {
        if claim_names(pod).next().is_none() { PreFilter::Skip } else { PreFilter::All }
    }

    fn filter(&self, view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        let Some(csi) = view.listers.csi_nodes.get(&row.name) else { return Ok(()) };
        let wanted = attached(view, pod);
        if wanted.is_empty() {
            return Ok(());
        }
        let there: BTreeSet<_> = row.pods.iter().flat_map(|p| attached(view, p)).collect();
        let mut new: BTreeMap<&str, usize> = BTreeMap::new();
        for (driver, _) in wanted.difference(&there) {
            *new.entry(driver).or_default() += 1;
        }
        for driver in &csi.spec.drivers {
            let limit = driver.allocatable.as_ref().and_then(|a| a.count);
            let (Some(limit), Some(more)) = (limit, new.get(driver.name.as_str())) else { continue };
            let have = there.iter().filter(|(d, _)| *d == driver.name).count();
            if have + more > usize::try_from(limit).unwrap_or(0) {
                return Err(Reject::unschedulable(NAME, "node(s) exceed max volume count"));
            }
        }
        Ok(())
    }

    fn wakes(&self, change: &Change<'_>, _pod: &PodInfo) -> bool {
        matches!(change, Change::PodGone(_) | Change::Storage | Change::NodeAdded(_) | Change::Itself)
    }
}
