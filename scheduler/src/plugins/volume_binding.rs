//! Pods with claims: a bound claim's volume must be usable from the node. Upstream: plugins/volumebinding.
//!
//! Claims that are bound only once a pod is placed (`WaitForFirstConsumer`) need the part that chooses a volume
//! or has one provisioned; it is not there yet, and such pods stay pending with a message that says so.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::framework::{Change, CycleState, Plugin, PreFilter, Reject, Verdict, View};
use crate::model::{NodeRow, NodeSelector, PodInfo};

pub const NAME: &str = "VolumeBinding";

/// The volumes of a pod's bound claims; `None` for one that does not exist.
#[derive(Default)]
pub struct Claims(Vec<Option<(Arc<PersistentVolume>, Option<NodeSelector>)>>);

pub struct VolumeBinding;

/// Names of the claims a pod uses; generic ephemeral volumes have claims named after pod and volume.
pub fn claim_names(pod: &PodInfo) -> impl Iterator<Item = (String, bool)> {
    pod.spec().into_iter().flat_map(|s| s.volumes.iter().flatten()).filter_map(|v| {
        let named = v.persistent_volume_claim.as_ref().map(|c| (c.claim_name.clone(), false));
        named.or_else(|| v.ephemeral.as_ref().map(|_| (format!("{}-{}", pod.name(), v.name), true)))
    })
}

fn bound(claim: &PersistentVolumeClaim) -> Option<&str> {
    let done = claim
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|a| a.contains_key("pv.kubernetes.io/bind-completed"));
    claim.spec.as_ref()?.volume_name.as_deref().filter(|n| done && !n.is_empty())
}

/// Whether the claim waits for a pod to be placed.
fn delayed(view: View<'_>, claim: &PersistentVolumeClaim) -> bool {
    let class = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    let class = class.and_then(|c| view.listers.classes.get(c));
    class.is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pre_filter(&self, view: View<'_>, pod: &PodInfo, state: &mut CycleState) -> PreFilter {
        let mut volumes = Vec::new();
        let (mut immediate, mut waiting) = (false, false);
        for (name, ephemeral) in claim_names(pod) {
            let no = |reason: String| PreFilter::Reject(Reject::unresolvable(NAME, reason));
            let Some(claim) = view.listers.claims.get_by(&pod.namespace, &name) else {
                let text = if ephemeral {
                    format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                    )
                } else {
                    format!("persistentvolumeclaim \"{name}\" not found")
                };
                return no(text);
            };
            if claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost") {
                return no(format!(
                    "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{}\"",
                    claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default()
                ));
            }
            if claim.metadata.deletion_timestamp.is_some() {
                return no(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            let owner = claim.metadata.owner_references.iter().flatten().any(|o| o.uid == *pod.uid);
            if ephemeral && !owner {
                return no(format!(
                    "PVC {}/{name} was not created for pod {} (pod is not owner)",
                    pod.namespace,
                    pod.key()
                ));
            }
            match bound(&claim) {
                Some(volume) => volumes.push(view.listers.volumes.get(volume).map(|v| {
                    let affinity = v.spec.as_ref().and_then(|s| s.node_affinity.as_ref()?.required.as_ref());
                    let selector = affinity.map(|r| NodeSelector::new(&r.node_selector_terms));
                    (v, selector)
                })),
                None if delayed(view, &claim) => waiting = true,
                None => immediate = true,
            }
        }
        if immediate {
            return PreFilter::Reject(Reject::unresolvable(
                NAME,
                "pod has unbound immediate PersistentVolumeClaims",
            ));
        }
        if waiting {
            let reason = "pod has PersistentVolumeClaims that are bound when it is placed, \
                          which this scheduler does not do yet";
            return PreFilter::Reject(Reject::unresolvable(NAME, reason));
        }
        if volumes.is_empty() {
            return PreFilter::Skip;
        }
        state.volumes = Some(Arc::new(Claims(volumes)));
        PreFilter::All
    }

    fn filter(&self, _view: View<'_>, state: &CycleState, _pod: &PodInfo, row: &NodeRow) -> Verdict {
        for volume in state.volumes.iter().flat_map(|c| &c.0) {
            let Some((_, affinity)) = volume else {
                return Err(Reject::unresolvable(
                    NAME,
                    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
                ));
            };
            if affinity.as_ref().is_some_and(|a| !a.matches(row.labels(), &row.name)) {
                return Err(Reject::unresolvable(
                    NAME,
                    "node(s) didn't match PersistentVolume's node affinity",
                ));
            }
        }
        Ok(())
    }

    fn wakes(&self, change: &Change<'_>, _pod: &PodInfo) -> bool {
        match change {
            Change::Storage | Change::NodeAdded(_) | Change::Itself => true,
            Change::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            _ => false,
        }
    }
}

impl Claims {
    /// The volumes that exist.
    pub fn volumes(&self) -> impl Iterator<Item = &Arc<PersistentVolume>> {
        self.0.iter().flatten().map(|(v, _)| v)
    }
}
