//! What becomes of one object, given what the server says of it and of its owners. Pure.
//! Upstream: pkg/controller/garbagecollector/garbagecollector.go attemptToDeleteItem.

use client::{Patch, Propagation};
use controller::Related;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::graph::{FOREGROUND, Facts, ORPHAN, Uid};

/// What a reference to an owner is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The owner lives, or ends without waiting for its dependents.
    Solid,
    /// The owner does not exist.
    Dangling,
    /// The owner waits for its dependents to go.
    Waiting,
}

/// What to do with the object.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// Some owner is solid: drop the references to these others.
    DropOwners(Vec<String>),
    /// Delete it after its dependents; before that, `unblock` its owners, which may wait for it in a circle.
    Foreground {
        unblock: bool,
    },
    Delete(Propagation),
    /// All who kept it are gone: let it go.
    Finish,
    /// It waits for these dependents.
    Look(Vec<Uid>),
}

/// The object ends by itself; nothing has to be asked of the server.
pub fn is_settled(facts: &Facts) -> bool {
    facts.being_deleted && !facts.deleting_dependents
}

/// An object that waits for its dependents needs no look at its owners.
pub fn judge_waiting(facts: &Facts) -> Verdict {
    if facts.blocking.is_empty() {
        return Verdict::Finish;
    }
    Verdict::Look(facts.blocking.iter().filter(|(_, waits)| !waits).map(|(uid, _)| uid.clone()).collect())
}

/// Judges an object by its newest metadata; one standing for each of its references.
pub fn judge(facts: &Facts, latest: &ObjectMeta, standings: &[Standing]) -> Verdict {
    let references = latest.owner_references.as_deref().unwrap_or_default();
    if references.is_empty() {
        return Verdict::Keep;
    }
    let waiting = standings.contains(&Standing::Waiting);
    if standings.contains(&Standing::Solid) {
        let lost = references.iter().zip(standings).filter(|(_, s)| **s != Standing::Solid);
        let lost: Vec<String> = lost.map(|(r, _)| r.uid.clone()).collect();
        return if lost.is_empty() { Verdict::Keep } else { Verdict::DropOwners(lost) };
    }
    if waiting && !facts.dependents.is_empty() {
        return Verdict::Foreground { unblock: facts.dependent_waits };
    }
    Verdict::Delete(if latest.has_finalizer(ORPHAN) {
        Propagation::Orphan
    } else if latest.has_finalizer(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    })
}

/// Drops owners, for servers that know no strategic merge patch of the kind.
pub fn drop_owners_merge(latest: &ObjectMeta, owners: &[String]) -> Patch {
    let left: Vec<_> =
        latest.owner_references.iter().flatten().filter(|r| !owners.contains(&r.uid)).collect();
    let left = if left.is_empty() { serde_json::Value::Null } else { json!(left) };
    Patch::Merge(json!({"metadata": {"resourceVersion": latest.resource_version, "ownerReferences": left}}))
}

/// Makes no owner wait for the object; strategic, then as a merge patch.
pub fn unblock(facts: &Facts, latest: &ObjectMeta) -> (Patch, Patch) {
    let freed = |all: bool| {
        let mut owners: Vec<_> =
            facts.owners.iter().filter(|r| all || r.block_owner_deletion == Some(true)).cloned().collect();
        owners.iter_mut().for_each(|r| r.block_owner_deletion = Some(false));
        json!(owners)
    };
    let uid = facts.identity.uid.to_string();
    (
        Patch::Strategic(json!({"metadata": {"uid": uid, "ownerReferences": freed(false)}})),
        Patch::Merge(
            json!({"metadata": {"resourceVersion": latest.resource_version, "ownerReferences": freed(true)}}),
        ),
    )
}

/// Takes a finalizer off; nothing if it is not there.
pub fn drop_finalizer(latest: &ObjectMeta, finalizer: &str) -> Option<Patch> {
    if !latest.has_finalizer(finalizer) {
        return None;
    }
    let left: Vec<_> = latest.finalizers.iter().flatten().filter(|f| *f != finalizer).collect();
    Some(Patch::Merge(json!({"metadata": {"resourceVersion": latest.resource_version, "finalizers": left}})))
}
