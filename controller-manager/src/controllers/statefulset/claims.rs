//! Who owns a stateful set's claims: with a retention policy of Delete the set or the scaled-down pod does, so that the
//! garbage collector removes them. Pure. Upstream: pkg/controller/statefulset/stateful_set_utils.go.

use client::{Kept, Meta};
use controller::controller_ref;
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::identity::is_wanted;

/// What becomes of claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Policy {
    delete_with_set: bool,
    delete_when_scaled: bool,
}

const RETAIN: Policy = Policy { delete_with_set: false, delete_when_scaled: false };

/// Words that are not understood mean Retain.
fn policy(set: &StatefulSet) -> Policy {
    let stated = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let Some(stated) = stated else { return RETAIN };
    let delete = |word: &Option<String>| match word.as_deref() {
        Some("Delete") => Some(true),
        Some("Retain") => Some(false),
        _ => None,
    };
    match (delete(&stated.when_deleted), delete(&stated.when_scaled)) {
        (Some(delete_with_set), Some(delete_when_scaled)) => Policy { delete_with_set, delete_when_scaled },
        _ => RETAIN,
    }
}

fn owners(claim: &PersistentVolumeClaim) -> &[OwnerReference] {
    claim.metadata.owner_references.as_deref().unwrap_or_default()
}

/// The reference means an object of this name, whatever its uid.
fn names<K: Kept + Resource>(reference: &OwnerReference, object: &K) -> bool {
    reference.api_version == K::API_VERSION
        && reference.kind == K::KIND
        && reference.name == object.named().name
}

fn owned_by<K: Kept>(claim: &PersistentVolumeClaim, object: &K) -> bool {
    owners(claim).iter().any(|r| r.uid == object.named().uid)
}

/// The first reference to a namesake is to an earlier object.
fn is_stale<K: Kept + Resource>(claim: &PersistentVolumeClaim, object: &K) -> bool {
    owners(claim).iter().find(|r| names(r, object)).is_some_and(|r| r.uid != object.named().uid)
}

/// Somebody else manages the claim although the policy wants us to. Upstream: hasUnexpectedController.
pub fn has_stranger<P: Kept + Resource>(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &P) -> bool {
    if policy(set) == RETAIN {
        return false;
    }
    owners(claim).iter().any(|r| {
        if names(r, set) {
            r.uid != set.uid()
        } else if names(r, pod) {
            r.uid != pod.named().uid
        } else {
            r.controller == Some(true)
        }
    })
}

/// (the set owns the claim, the pod does), as the policy wants it.
fn wanted(set: &StatefulSet, pod: &impl Kept) -> (bool, bool) {
    let scaled_down = !is_wanted(set, pod);
    match policy(set) {
        Policy { delete_with_set, delete_when_scaled: false } => (delete_with_set, false),
        Policy { delete_with_set: false, delete_when_scaled: true } => (false, scaled_down),
        Policy { delete_with_set: true, delete_when_scaled: true } => (!scaled_down, scaled_down),
    }
}

/// The claim's owners need no change. Claims with owners of an earlier set or pod are never touched.
/// Upstream: isClaimOwnerUpToDate.
pub fn is_up_to_date<P: Kept + Resource>(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &P) -> bool {
    if is_stale(claim, set) || is_stale(claim, pod) {
        return true;
    }
    let (by_set, by_pod) = (owned_by(claim, set), owned_by(claim, pod));
    if has_stranger(claim, set, pod) {
        return !by_set && !by_pod;
    }
    let ours = |r: &&OwnerReference| r.uid == set.uid() || r.uid == pod.named().uid;
    if owners(claim).iter().filter(ours).any(|r| r.controller != Some(true)) {
        return false;
    }
    (by_set, by_pod) == wanted(set, pod)
}

/// Brings the claim's owners up to date. Upstream: updateClaimOwnerRefForSetAndPod.
pub fn set_owners<P: Kept + Resource>(claim: &mut PersistentVolumeClaim, set: &StatefulSet, pod: &P) {
    let stranger = has_stranger(claim, set, pod);
    let references = claim.metadata.owner_references.get_or_insert_default();
    references.retain(|r| !names(r, set) && !names(r, pod));
    if stranger {
        return;
    }
    let (by_set, by_pod) = wanted(set, pod);
    let mut add = |reference: OwnerReference| {
        if !references.iter().any(|r| r.uid == reference.uid) {
            references.push(reference);
        }
    };
    if by_pod {
        add(controller_ref(pod));
    }
    if by_set {
        add(controller_ref(set));
    }
}

/// The claim belongs to an earlier pod of this name and is about to be collected. Upstream: PodClaimIsStale.
pub fn blocks_creation<P: Kept + Resource>(
    claim: &PersistentVolumeClaim,
    set: &StatefulSet,
    pod: &P,
) -> bool {
    policy(set).delete_when_scaled && is_stale(claim, pod)
}
