//! Volumes that only one pod may use at a time. Upstream: plugins/volumerestrictions.

use std::collections::BTreeSet;
use std::sync::Arc;

use client::Meta;

use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, Verdict, View};
use crate::model::wire::WireVolume;
use crate::model::{Groups, NodeRow, PodInfo};

pub const NAME: &str = "VolumeRestrictions";

/// The pod's claims that only one pod may use, and how many uses there are.
#[derive(Clone, Default)]
pub struct Exclusive {
    claims: Arc<BTreeSet<String>>,
    users: i64,
}

pub struct VolumeRestrictions;

fn exclusive(view: View<'_>, pod: &PodInfo) -> Result<Exclusive, Reject> {
    let mut claims = BTreeSet::new();
    for claim in pod.claims.iter().filter(|c| !c.ephemeral) {
        let Some(found) = view.listers.claims.get_by(&pod.namespace, &claim.name) else {
            return Err(Reject::unresolvable(
                NAME,
                format!("persistentvolumeclaim {:?} not found", claim.name),
            ));
        };
        let modes = found.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
        if modes.iter().any(|m| m == "ReadWriteOncePod") {
            claims.insert(claim.name.clone());
        }
    }
    let used = claims.iter().filter(|c| view.cache.claim_users(&pod.namespace, c) > 0).count();
    Ok(Exclusive { claims: Arc::new(claims), users: i64::try_from(used).unwrap_or(i64::MAX) })
}

/// Upstream: isVolumeConflict.
fn conflict(a: &WireVolume, b: &WireVolume) -> bool {
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

    fn events(&self) -> &'static [&'static str] {
        &["AssignedPodDelete", "PersistentVolumeClaimAdd", "PersistentVolumeClaimUpdate", "NodeAdd"]
    }

    fn pre_filter(&self, view: View<'_>, pod: &PodInfo, state: &mut CycleState) -> PreFilter {
        if pod.disks.is_empty() && pod.claims.is_empty() {
            return PreFilter::Skip;
        }
        let exclusive = match exclusive(view, pod) {
            Ok(exclusive) => exclusive,
            Err(reject) => return PreFilter::Reject(reject),
        };
        if pod.disks.is_empty() && exclusive.users == 0 {
            return PreFilter::Skip;
        }
        state.exclusive = Some(exclusive);
        PreFilter::All
    }

    fn adjust(
        &self,
        _view: View<'_>,
        state: &mut CycleState,
        _pod: &PodInfo,
        other: &PodInfo,
        _row: &NodeRow,
        delta: i64,
    ) {
        if let Some(exclusive) = &mut state.exclusive {
            let uses =
                other.claims.iter().filter(|c| !c.ephemeral && exclusive.claims.contains(&c.name)).count();
            exclusive.users += delta * i64::try_from(uses).unwrap_or(0);
        }
    }

    fn filter(&self, _view: View<'_>, state: &CycleState, pod: &PodInfo, row: &NodeRow) -> Verdict {
        let there = || row.pods.iter().flat_map(|p| &p.disks);
        if pod.disks.iter().any(|own| there().any(|other| conflict(own, other))) {
            return Err(Reject::unschedulable(NAME, "node(s) had no available disk"));
        }
        if state.exclusive.as_ref().is_some_and(|e| e.users > 0) {
            return Err(Reject::unschedulable(
                NAME,
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
            ));
        }
        Ok(())
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        match change {
            Change::PodGone(gone) => {
                pod.disks.iter().any(|own| gone.disks.iter().any(|other| conflict(own, other)))
                    || (gone.namespace == pod.namespace
                        && pod.claims.iter().any(|c| gone.claims.iter().any(|g| g.name == c.name)))
            }
            Change::Claim { new, .. } => {
                *pod.namespace == *new.namespace() && pod.claims.iter().any(|c| c.name == new.name())
            }
            Change::NodeAdded(_) => true,
            _ => false,
        }
    }
}
