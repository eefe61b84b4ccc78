//! Volumes that only one pod may use at a time. Upstream: plugins/volumerestrictions.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Volume;

use super::volume_binding::claim_names;
use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, Verdict, View};
use crate::model::{NodeRow, PodInfo};

pub const NAME: &str = "VolumeRestrictions";

pub struct VolumeRestrictions;

/// The pod's claims that only one pod may use.
fn exclusive(view: View<'_>, pod: &PodInfo) -> BTreeSet<String> {
    let alone = |name: &String| {
        let claim = view.listers.claims.get_by(&pod.namespace, name);
        let spec = claim.as_ref().and_then(|c| c.spec.as_ref());
        spec.is_some_and(|s| s.access_modes.iter().flatten().any(|m| m == "ReadWriteOncePod"))
    };
    claim_names(pod).map(|(name, _)| name).filter(alone).collect()
}

fn disks(pod: &PodInfo) -> impl Iterator<Item = &Volume> {
    let single = |v: &&Volume| {
        v.gce_persistent_disk.is_some()
            || v.aws_elastic_block_store.is_some()
            || v.iscsi.is_some()
            || v.rbd.is_some()
    };
    pod.spec().into_iter().flat_map(|s| s.volumes.iter().flatten()).filter(single)
}

/// Upstream: isVolumeConflict.
fn conflict(a: &Volume, b: &Volume) -> bool {
    if let (Some(a), Some(b)) = (&a.gce_persistent_disk, &b.gce_persistent_disk) {
        return a.pd_name == b.pd_name && !(a.read_only == Some(true) && b.read_only == Some(true));
    }
    if let (Some(a), Some(b)) = (&a.aws_elastic_block_store, &b.aws_elastic_block_store) {
        return a.volume_id == b.volume_id;
    }
    if let (Some(a), Some(b)) = (&a.iscsi, &b.iscsi) {
        return a.iqn == b.iqn && !(a.read_only == Some(true) && b.read_only == Some(true));
    }
    if let (Some(a), Some(b)) = (&a.rbd, &b.rbd) {
        return a.monitors.iter().any(|m| b.monitors.contains(m))
            && a.pool == b.pool
            && a.image == b.image
            && !(a.read_only == Some(true) && b.read_only == Some(true));
    }
    false
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter(&self, view: View<'_>, pod: &PodInfo, _state: &mut CycleState) -> PreFilter {
        if disks(pod).next().is_none() && exclusive(view, pod).is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::All
    }

    fn filter(&self, view: View<'_>, _state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        if disks(pod).any(|own| row.pods.iter().flat_map(|p| disks(p)).any(|other| conflict(own, other))) {
            return Err(Reject::unschedulable(NAME, "node(s) had no available disk"));
        }
        let alone = exclusive(view, pod);
        let uses = |row: &NodeRow| {
            row.pods.iter().any(|p| {
                p.namespace == pod.namespace && claim_names(p).any(|(name, _)| alone.contains(&name))
            })
        };
        // On another node it is as much in use as on this one, but only here preemption could end that.
        let elsewhere = || view.cache.rows().any(|other| other.name != row.name && uses(other));
        if !alone.is_empty() && (uses(row) || elsewhere()) {
            return Err(Reject::unschedulable(
                NAME,
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
            ));
        }
        Ok(())
    }

    fn wakes(&self, change: &Change<'_>, _pod: &PodInfo) -> bool {
        matches!(change, Change::PodGone(_) | Change::Storage | Change::NodeAdded(_) | Change::Itself)
    }
}
