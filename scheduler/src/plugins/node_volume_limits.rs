//! A node takes only so many volumes of a CSI driver. Upstream: plugins/nodevolumelimits.
//!
//! Volumes that in-tree plugins hand over to a driver are not translated, so not counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::Meta;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::CSINode;

use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, Verdict, View};
use crate::listers::{NODE, claim_class};
use crate::model::{Groups, NodeRow, PodInfo};

pub const NAME: &str = "NodeVolumeLimits";

pub struct NodeVolumeLimits {
    /// Drivers may want their volumes where they run only. Upstream: gate VolumeLimitScaling.
    pub drivers_must_run: bool,
}

/// (driver, handle).
pub type Volume = (String, String);

/// Driver and handle of a claim's volume, or of the one it will get. Upstream: getCSIDriverInfo.
fn volume(view: View<'_>, claim: &PersistentVolumeClaim) -> Option<Volume> {
    let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).filter(|n| !n.is_empty());
    if let Some(volume) = name.and_then(|n| view.listers.volumes.get(n)) {
        let csi = volume.spec.as_ref()?.csi.as_ref()?;
        return Some((csi.driver.clone(), csi.volume_handle.clone()));
    }
    let class = view.listers.classes.get(Some(claim_class(claim)).filter(|c| !c.is_empty())?)?;
    // No real handle has a line end in it.
    Some((class.provisioner.clone(), format!("\n{}", claim.key())))
}

/// What a pod's claims add to a node at most, or why it cannot be told.
pub type Wanted = Result<BTreeSet<Volume>, Reject>;

/// Volumes of a pod's claims. The first claim that is missing, or not the pod's own, is the error.
fn wanted(view: View<'_>, pod: &PodInfo) -> Wanted {
    let mut volumes = BTreeSet::new();
    for (name, _) in pod.claim_names() {
        let Some(claim) = view.listers.claims.get_by(&pod.namespace, &name) else {
            let text =
                format!("looking up PVC {}/{name}: persistentvolumeclaim {name:?} not found", pod.namespace);
            return Err(Reject::unresolvable(NAME, text));
        };
        volumes.extend(volume(view, &claim));
    }
    Ok(volumes)
}

/// Volumes of the pods on a node.
fn in_use(view: View<'_>, row: &NodeRow) -> BTreeSet<Volume> {
    let claims = row.pods.iter().flat_map(|p| p.claim_names().map(|(name, _)| (p.namespace.clone(), name)));
    let claims = claims.filter_map(|(namespace, name)| view.listers.claims.get_by(&namespace, &name));
    claims.filter_map(|c| volume(view, &c)).collect()
}

/// Volumes that are attached to a node.
fn attached(view: View<'_>, row: &NodeRow) -> BTreeSet<Volume> {
    let attachments = view.listers.attachments.by_index(NODE, &row.name);
    let volume = |a: &k8s_openapi::api::storage::v1::VolumeAttachment| {
        let volume = view.listers.volumes.get(a.spec.source.persistent_volume_name.as_deref()?)?;
        let csi = volume.spec.as_ref()?.csi.as_ref()?;
        Some((a.spec.attacher.clone(), csi.volume_handle.clone()))
    };
    attachments.iter().filter(|a| !a.spec.attacher.is_empty()).filter_map(|a| volume(a)).collect()
}

/// Whether the driver of a volume wants it there. Upstream: checkCSIDriverOnNode.
fn is_wanted(view: View<'_>, driver: &str, node: Option<&CSINode>) -> bool {
    let insists = view.listers.csi_drivers.get(driver);
    let insists = insists.is_some_and(|d| d.spec.prevent_pod_scheduling_if_missing == Some(true));
    !insists || node.is_some_and(|n| n.spec.drivers.iter().any(|d| d.name == driver))
}

/// Whether a node has room for the volumes whatever those are that it has: there cannot be more than claims of its pods
/// and attachments.
fn surely_fit(view: View<'_>, new: &BTreeSet<Volume>, limits: &BTreeMap<&str, i32>, row: &NodeRow) -> bool {
    let there = row.claims + view.listers.attachments.index_len(NODE, &row.name);
    limits.iter().all(|(driver, limit)| {
        let more = of(new, driver);
        more == 0 || more + there <= most(*limit)
    })
}

/// How many volumes are of a driver.
fn of(volumes: &BTreeSet<Volume>, driver: &str) -> usize {
    volumes.iter().filter(|(d, _)| d == driver).count()
}

fn most(limit: i32) -> usize {
    usize::try_from(limit).unwrap_or(0)
}

/// Limits by driver.
fn limits(node: &CSINode) -> BTreeMap<&str, i32> {
    let limit =
        |d: &k8s_openapi::api::storage::v1::CSINodeDriver| d.allocatable.as_ref().and_then(|a| a.count);
    node.spec.drivers.iter().filter_map(|d| Some((d.name.as_str(), limit(d)?))).collect()
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &[
            "CSINodeAdd",
            "CSINodeUpdate",
            "AssignedPodDelete",
            "PersistentVolumeClaimAdd",
            "VolumeAttachmentDelete",
        ]
    }

    fn pre_filter(&self, view: View<'_>, pod: &PodInfo, state: &mut CycleState) -> PreFilter {
        if pod.claims.is_empty() {
            return PreFilter::Skip;
        }
        state.limited = Some(Arc::new(wanted(view, pod)));
        PreFilter::All
    }

    fn filter(&self, view: View<'_>, state: &CycleState, _pod: &PodInfo, row: &NodeRow) -> Verdict {
        let Some(wanted) = &state.limited else { return Ok(()) };
        let new = (**wanted).as_ref().map_err(Reject::clone)?;
        let node = view.listers.csi_nodes.get(&row.name);
        let missing = new.iter().find(|(driver, _)| !is_wanted(view, driver, node.as_deref()));
        if let Some((driver, _)) = missing.filter(|_| self.drivers_must_run) {
            let reason = format!("{driver} CSI driver is not installed on the node");
            return Err(Reject::unschedulable(NAME, reason));
        }
        let limits = node.as_deref().map(limits).unwrap_or_default();
        if new.is_empty() || surely_fit(view, new, &limits, row) {
            return Ok(());
        }
        let mut new = new.clone();
        let mut there = in_use(view, row);
        new.retain(|v| !there.contains(v));
        there.extend(attached(view, row));
        for (driver, limit) in limits {
            let more = of(&new, driver);
            if more > 0 && more + of(&there, driver) > most(limit) {
                return Err(Reject::unschedulable(NAME, "node(s) exceed max volume count"));
            }
        }
        Ok(())
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        match change {
            Change::CsiNode { old: None, .. } => true,
            Change::CsiNode { old: Some(old), new } => {
                let before = limits(old);
                limits(new).iter().any(|(driver, limit)| *limit > before.get(driver).copied().unwrap_or(0))
            }
            Change::PodGone(gone) => !gone.claims.is_empty(),
            Change::Claim { old: None, new } => {
                *pod.namespace == *new.namespace() && pod.claim_names().any(|(name, _)| name == new.name())
            }
            Change::AttachmentGone => pod.claims.iter().any(|c| !c.ephemeral),
            _ => false,
        }
    }
}
