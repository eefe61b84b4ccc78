//! Pods with claims: a bound claim's volume must be usable from the node, for an unbound one that waits for its pod
//! there must be a volume, or one must be provisionable. Upstream: plugins/volumebinding/volume_binding.go, binder.go.
//!
//! What is chosen comes back as [`Bindings`]; who writes it is `prebind.rs`. Volumes of in-tree plugins are not
//! translated to CSI: their labels and affinity are read as they are.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use client::Meta;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use machinery::quantity::Quantity;

use super::node_resources_fit::ratio;
use super::volume_match::{bound_to, find_matching, size, storage_request};
use super::volume_provision::{self, Provision};
use crate::config::Shape;
use crate::framework::{Change, Code, CycleState, Plugin, PreFilter, Reject, Verdict, View};
use crate::listers::claim_class;
use crate::model::{Groups, NodeRow, NodeSelector, PodInfo};

pub const NAME: &str = "VolumeBinding";
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const NODE_CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const BIND_CONFLICT: &str = "node(s) didn't find available persistent volumes to bind";
const NO_SPACE: &str = "node(s) did not have enough free storage";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

/// The claims of a pod.
#[derive(Default)]
pub struct Claims {
    /// Volumes of bound claims; `None` for one that does not exist.
    bound: Vec<Option<(Arc<PersistentVolume>, Option<NodeSelector>)>>,
    /// Claims that wait for the pod, the smallest first, each with the volumes of its class.
    waiting: Vec<(Arc<PersistentVolumeClaim>, Arc<Vec<Candidate>>)>,
}

/// A volume that may be chosen.
pub struct Candidate {
    pub volume: Arc<PersistentVolume>,
    pub affinity: Option<NodeSelector>,
}

/// What is to be written before a pod can be bound.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    pub fixed: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    pub provision: Vec<Arc<PersistentVolumeClaim>>,
    /// How much storage there is for each claim to provision, where drivers say so.
    capacities: Vec<Option<i64>>,
}

pub struct VolumeBinding {
    /// Score by how full the storage gets.
    pub shape: Vec<Shape>,
}

/// Upstream: isPVCFullyBound.
pub fn fully_bound(claim: &PersistentVolumeClaim) -> Option<&str> {
    let done = claim.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(BIND_COMPLETED));
    claim.spec.as_ref()?.volume_name.as_deref().filter(|n| done && !n.is_empty())
}

pub fn affinity(volume: &PersistentVolume) -> Option<NodeSelector> {
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    Some(NodeSelector::new(&required.node_selector_terms))
}

/// Whether the claim waits for a pod to be placed. Upstream: volume.IsDelayBindingMode.
fn delayed(view: View<'_>, claim: &PersistentVolumeClaim) -> Result<bool, Reject> {
    let name = claim_class(claim);
    if name.is_empty() {
        return Ok(false);
    }
    let Some(class) = view.listers.classes.get(name) else { return Ok(false) };
    match class.volume_binding_mode.as_deref() {
        None => Err(Reject::error(NAME, format!("VolumeBindingMode not set for StorageClass {name:?}"))),
        Some(mode) => Ok(mode == "WaitForFirstConsumer"),
    }
}

/// A pod's claim, or why the pod cannot use it. Upstream: podHasPVCs.
fn usable(
    view: View<'_>,
    pod: &PodInfo,
    name: &str,
    ephemeral: bool,
) -> Result<Arc<PersistentVolumeClaim>, String> {
    let Some(claim) = view.listers.claims.get_by(&pod.namespace, name) else {
        return Err(if ephemeral {
            format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
        } else {
            format!("persistentvolumeclaim {name:?} not found")
        });
    };
    if claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost") {
        let volume = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
        return Err(format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
        ));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    let owned = claim.metadata.owner_references.iter().flatten();
    if ephemeral && !owned.clone().any(|o| o.controller == Some(true) && o.uid == *pod.uid) {
        return Err(format!(
            "PVC {}/{name} was not created for pod {} (pod is not owner)",
            pod.namespace,
            pod.key()
        ));
    }
    Ok(claim)
}

impl Claims {
    fn of(view: View<'_>, pod: &PodInfo) -> Result<Self, Reject> {
        let mut claims = Claims::default();
        let mut immediate = false;
        let mut all = Vec::new();
        for (name, ephemeral) in pod.claim_names() {
            usable(view, pod, &name, ephemeral).map_err(|text| Reject::unresolvable(NAME, text))?;
            all.push(name);
        }
        for name in all {
            let Some(claim) = view.claim(&pod.namespace, &name) else { continue };
            let named =
                claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).is_some_and(|n| !n.is_empty());
            match fully_bound(&claim) {
                Some(volume) => claims.bound.push(view.volume(volume).map(|v| (v.clone(), affinity(&v)))),
                None if delayed(view, &claim)? && !named => claims.waiting.push((claim, Arc::default())),
                None => immediate = true,
            }
        }
        if immediate {
            return Err(Reject::unresolvable(NAME, "pod has unbound immediate PersistentVolumeClaims"));
        }
        let smaller = |a: &PersistentVolumeClaim, b: &PersistentVolumeClaim| {
            let size = |c| storage_request(c).and_then(|q| Quantity::parse(&q).ok());
            size(a).partial_cmp(&size(b)).unwrap_or(Ordering::Equal)
        };
        claims.waiting.sort_by(|(a, _), (b, _)| smaller(a, b));
        for (claim, candidates) in &mut claims.waiting {
            let of_class = view.volumes_of(claim_class(claim)).into_iter();
            *candidates =
                Arc::new(of_class.map(|v| Candidate { affinity: affinity(&v), volume: v }).collect());
        }
        Ok(claims)
    }

    /// Upstream: checkBoundClaims.
    fn check_bound(&self, row: &NodeRow) -> Option<&'static str> {
        for volume in &self.bound {
            match volume {
                None => return Some(NO_VOLUME),
                Some((_, Some(affinity))) if !affinity.matches(row.labels(), "") => {
                    return Some(NODE_CONFLICT);
                }
                Some(_) => {}
            }
        }
        None
    }

    /// What to bind and provision for the waiting claims on a node. Upstream: FindPodVolumes, findMatchingVolumes.
    fn find(&self, view: View<'_>, row: &NodeRow) -> Result<Result<Bindings, &'static str>, Reject> {
        let mut found = Bindings::default();
        let mut provision = Vec::new();
        for (claim, candidates) in &self.waiting {
            let selected = claim.metadata.annotations.as_ref().and_then(|a| a.get(SELECTED_NODE));
            match selected {
                Some(node) if **node != *row.name => return Ok(Err(BIND_CONFLICT)),
                Some(_) => provision.insert(0, claim),
                None => match find_matching(claim, candidates, row, &found.fixed) {
                    Some(volume) => found.fixed.push((volume, claim.clone())),
                    None => provision.push(claim),
                },
            }
        }
        for claim in provision {
            match volume_provision::check(view, claim, row) {
                Provision::Possible(capacity) => {
                    found.provision.push(claim.clone());
                    found.capacities.push(capacity);
                }
                Provision::Impossible => return Ok(Err(BIND_CONFLICT)),
                Provision::NoSpace => return Ok(Err(NO_SPACE)),
                Provision::Error(text) => return Err(Reject::error(NAME, text)),
            }
        }
        Ok(Ok(found))
    }
}

/// What must be bound or provisioned for a pod on a row that fits.
pub fn bindings(view: View<'_>, state: &CycleState, _pod: &PodInfo, row: &NodeRow) -> Bindings {
    let Some(claims) = &state.volumes else { return Bindings::default() };
    claims.find(view, row).ok().and_then(Result::ok).unwrap_or_default()
}

impl Bindings {
    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.provision.is_empty()
    }

    /// (requested, there), by storage class; claims that are bound to volumes count alone if there are any.
    /// Upstream: VolumeBinding.Score.
    fn by_class(&self) -> BTreeMap<&str, (i64, i64)> {
        let asks = |c: &PersistentVolumeClaim| {
            storage_request(c).and_then(|q| Quantity::parse(&q).ok()).map_or(0, |q| q.value())
        };
        let mut classes: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for (volume, claim) in &self.fixed {
            let class =
                volume.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or_default();
            let entry = classes.entry(class).or_default();
            entry.0 += asks(claim);
            entry.1 += size(volume).map_or(0, |q| q.value());
        }
        if classes.is_empty() {
            for (claim, capacity) in self.provision.iter().zip(&self.capacities) {
                let Some(capacity) = capacity else { continue };
                let entry = classes.entry(claim_class(claim)).or_default();
                *entry = (entry.0 + asks(claim), *capacity);
            }
        }
        classes
    }

    /// The objects as they are to be written. Upstream: AssumePodVolumes, volume.GetBindVolumeToClaim.
    pub fn to_write(&self, node: &str) -> Self {
        let fixed = self.fixed.iter().map(|(volume, claim)| {
            let mut new = PersistentVolume::clone(volume);
            let by_us = !bound_to(volume, claim);
            new.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("PersistentVolumeClaim".into()),
                name: claim.metadata.name.clone(),
                namespace: claim.metadata.namespace.clone(),
                uid: claim.metadata.uid.clone(),
                resource_version: claim.metadata.resource_version.clone(),
                field_path: None,
            });
            if by_us {
                let annotations = new.metadata.annotations.get_or_insert_default();
                annotations.entry(BOUND_BY_CONTROLLER.into()).or_insert_with(|| "yes".into());
            }
            (Arc::new(new), claim.clone())
        });
        let provision = self.provision.iter().map(|claim| {
            let mut new = PersistentVolumeClaim::clone(claim);
            new.metadata.annotations.get_or_insert_default().insert(SELECTED_NODE.into(), node.into());
            Arc::new(new)
        });
        Self { fixed: fixed.collect(), provision: provision.collect(), capacities: Vec::new() }
    }
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        NAME
    }

    fn events(&self) -> &'static [&'static str] {
        &[
            "PersistentVolumeClaimAdd",
            "PersistentVolumeClaimUpdate",
            "PersistentVolumeAdd",
            "PersistentVolumeUpdate",
            "StorageClassAdd",
            "StorageClassUpdate",
            "CSINodeAdd",
            "CSINodeUpdate",
            "CSIDriverUpdate",
            "CSIStorageCapacityAdd",
            "CSIStorageCapacityUpdate",
            "NodeAdd",
            "NodeUpdate",
        ]
    }

    fn pre_filter(&self, view: View<'_>, pod: &PodInfo, state: &mut CycleState) -> PreFilter {
        if pod.claims.is_empty() {
            return PreFilter::Skip;
        }
        match Claims::of(view, pod) {
            Ok(claims) => state.volumes = Some(Arc::new(claims)),
            Err(reject) => return PreFilter::Reject(reject),
        }
        PreFilter::All
    }

    fn filter(&self, view: View<'_>, state: &CycleState, _pod: &PodInfo, row: &NodeRow) -> Verdict {
        let Some(claims) = &state.volumes else { return Ok(()) };
        let bound = claims.check_bound(row);
        let waiting = claims.find(view, row)?.err();
        // In upstream's order: conflict, binding, space, existence.
        let order = [NODE_CONFLICT, BIND_CONFLICT, NO_SPACE, NO_VOLUME];
        let said = |reason: &&str| bound == Some(*reason) || waiting == Some(*reason);
        let reasons = order.into_iter().filter(said).map(Into::into).collect::<smallvec::SmallVec<[_; 1]>>();
        if reasons.is_empty() {
            return Ok(());
        }
        Err(Reject { code: Code::Unresolvable, plugin: NAME, reasons })
    }

    fn scores(&self, _view: View<'_>, _pod: &PodInfo) -> bool {
        !self.shape.is_empty()
    }

    fn score(&self, view: View<'_>, state: &CycleState, _pod: &PodInfo, row: &NodeRow) -> i64 {
        let Some(claims) = &state.volumes else { return 0 };
        let found = claims.find(view, row).ok().and_then(Result::ok).unwrap_or_default();
        let classes = found.by_class();
        if classes.is_empty() {
            return 0;
        }
        let sum: i64 = classes.values().map(|(asked, there)| ratio(&self.shape, *asked, *there)).sum();
        (sum as f64 / classes.len() as f64).round() as i64
    }

    fn wakes(&self, change: &Change<'_>, pod: &PodInfo, _groups: &Groups) -> bool {
        match change {
            Change::Claim { new, .. } => {
                *pod.namespace == *new.namespace() && pod.claim_names().any(|(name, _)| name == new.name())
            }
            Change::Class { old, new } => old.is_none_or(|o| o.allowed_topologies != new.allowed_topologies),
            Change::Volume { .. } | Change::NodeAdded(_) => true,
            Change::CsiNode { old, .. } => old.is_none(),
            Change::CsiDriver { old, new } => {
                old.is_some_and(|o| o.spec.storage_capacity == Some(true))
                    && new.spec.storage_capacity != Some(true)
            }
            Change::Capacity { old, new } => volume_provision::grew(*old, new),
            Change::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            _ => false,
        }
    }
}
