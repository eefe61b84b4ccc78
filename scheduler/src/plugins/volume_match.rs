//! Which volume a claim gets: the smallest that does. Upstream: component-helpers/storage/volume/pv_helpers.go.

use std::cmp::Ordering;
use std::sync::Arc;

use client::Meta;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use machinery::quantity::Quantity;

use super::volume_binding::Candidate;
use crate::listers::{claim_class, volume_class};
use crate::model::{NodeRow, label_selector};

/// Upstream: IsVolumeBoundToClaim.
pub fn bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else { return false };
    let uid = reference.uid.as_deref().unwrap_or_default();
    reference.name.as_deref() == Some(claim.name())
        && reference.namespace.as_deref() == Some(claim.namespace())
        && (uid.is_empty() || uid == claim.uid())
}

/// How much storage a claim asks for.
pub fn storage_request(claim: &PersistentVolumeClaim) -> Option<String> {
    Some(claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.clone())
}

/// How much a volume holds.
pub fn size(volume: &PersistentVolume) -> Option<Quantity> {
    Quantity::parse(&volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?.0).ok()
}

fn smaller(a: Option<&Quantity>, b: Option<&Quantity>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.partial_cmp(b) == Some(Ordering::Less),
        (None, Some(b)) => b.value() > 0,
        _ => false,
    }
}

fn mode(text: Option<&str>) -> &str {
    text.unwrap_or("Filesystem")
}

/// Whether size, mode and attributes suit, and the volume is not going away.
fn suits(claim: &PersistentVolumeClaim, volume: &PersistentVolume, wanted: Option<&Quantity>) -> bool {
    let (Some(want), Some(has)) = (&claim.spec, &volume.spec) else { return false };
    let attributes = |name: &Option<String>| name.clone().unwrap_or_default();
    !smaller(size(volume).as_ref(), wanted)
        && mode(want.volume_mode.as_deref()) == mode(has.volume_mode.as_deref())
        && attributes(&want.volume_attributes_class_name) == attributes(&has.volume_attributes_class_name)
        && volume.metadata.deletion_timestamp.is_none()
}

fn available(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let Some(want) = &claim.spec else { return false };
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    let selector = want.selector.as_ref().map(|s| label_selector(Some(s)));
    let modes = volume.spec.as_ref().and_then(|s| s.access_modes.as_ref());
    phase == Some("Available")
        && selector.is_none_or(|s| s.matches(&volume.metadata.labels.as_ref()))
        && volume_class(volume) == claim_class(claim)
        && want.access_modes.iter().flatten().all(|m| modes.is_some_and(|all| all.contains(m)))
}

/// Upstream: FindMatchingVolume with a node.
pub fn find_matching(
    claim: &PersistentVolumeClaim,
    candidates: &[Candidate],
    row: &NodeRow,
    taken: &[(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)],
) -> Option<Arc<PersistentVolume>> {
    let wanted = storage_request(claim).and_then(|q| Quantity::parse(&q).ok());
    let mut smallest: Option<(&Candidate, Option<Quantity>)> = None;
    for candidate in candidates {
        let volume = &candidate.volume;
        let bound = bound_to(volume, claim);
        let claimed = volume.spec.as_ref().is_some_and(|s| s.claim_ref.is_some());
        let excluded = taken.iter().any(|(t, _)| t.name() == volume.name());
        if excluded || (claimed && !bound) || !suits(claim, volume, wanted.as_ref()) {
            continue;
        }
        let here = candidate.affinity.as_ref().is_none_or(|a| a.matches(row.labels(), ""));
        if bound {
            return here.then(|| volume.clone());
        }
        if here && available(claim, volume) {
            let own = size(volume);
            if smallest.as_ref().is_none_or(|(_, least)| smaller(own.as_ref(), least.as_ref())) {
                smallest = Some((candidate, own));
            }
        }
    }
    smallest.map(|(c, _)| c.volume.clone())
}
