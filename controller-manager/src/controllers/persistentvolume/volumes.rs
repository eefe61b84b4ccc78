//! What is next for a volume. Pure. Upstream: pv_controller.go syncVolume, reclaimVolume.

use client::Meta;
use controller::WARNING;
use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};

use super::bind::{Write, unbound, with_phase};
use super::facts::{
    MIGRATED_TO, PROVISIONED_BY, annotation, claim_uid, has, is_claimed, migrated, modes_differ,
    note_migration, policy, volume_name, volume_phase,
};

const IN_TREE_FINALIZER: &str = "kubernetes.io/pv-controller";
const EXTERNAL_FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

/// What is known of the claim that a volume is for.
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    /// As the cache has it, which may be behind.
    Cached(Option<&'a Claim>),
    /// As the server has just told.
    Live(Option<&'a Claim>),
}

/// What is next.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    Nothing,
    Write(Write),
    /// Write, and tell whoever looks at the volume.
    Tell(Write, &'static str, String),
    /// The server must be asked for the claim, lest a volume in use be reclaimed.
    AskForClaim,
    /// The claim's turn.
    SyncClaim,
    /// The two can never be bound; both are told.
    Mismatch,
}

fn phase(volume: &Volume, phase: &str) -> Plan {
    with_phase(volume, phase, "").map_or(Plan::Nothing, |v| Plan::Write(Write::VolumeStatus(Box::new(v))))
}

fn failed(volume: &Volume, reason: &'static str, message: &str) -> Plan {
    match with_phase(volume, "Failed", message) {
        Some(new) => Plan::Tell(Write::VolumeStatus(Box::new(new)), reason, message.to_string()),
        None => Plan::Nothing,
    }
}

/// The volume's claim is lost, and that is told.
fn is_released(volume: &Volume) -> bool {
    matches!(volume_phase(volume), "Released" | "Failed")
}

/// Decides.
pub fn plan(volume: &Volume, known: Known<'_>) -> Plan {
    if let Some(new) = tidied(volume) {
        return Plan::Write(Write::Volume(Box::new(new)));
    }
    if !is_claimed(volume) || claim_uid(volume).is_empty() {
        // Free, or reserved for a claim whose own sync takes it.
        return phase(volume, "Available");
    }
    let claim = match known {
        Known::Cached(Some(claim)) if claim.uid() == claim_uid(volume) => Some(claim),
        Known::Cached(None) if is_released(volume) => None,
        Known::Cached(_) => return Plan::AskForClaim,
        Known::Live(claim) => claim.filter(|c| c.uid() == claim_uid(volume)),
    };
    match claim {
        None => released(volume),
        Some(claim) if volume_name(claim).is_empty() && modes_differ(claim, volume) => Plan::Mismatch,
        Some(claim) if volume_name(claim).is_empty() => Plan::SyncClaim,
        Some(claim) if volume_name(claim) == volume.name() => phase(volume, "Bound"),
        // Made for a claim that took another one.
        Some(_) if has(&volume.metadata, PROVISIONED_BY) && policy(volume) == "Delete" => released(volume),
        Some(_) => unbound(volume).map_or(Plan::Nothing, |v| Plan::Write(Write::Volume(Box::new(v)))),
    }
}

fn released(volume: &Volume) -> Plan {
    if !is_released(volume) {
        return phase(volume, "Released");
    }
    reclaim(volume)
}

/// Provisioners elsewhere delete what they made. Nothing is recycled or deleted here: upstream's recyclers and deleters
/// of built-in volumes are for NFS and for host paths in tests.
fn reclaim(volume: &Volume) -> Plan {
    if annotation(&volume.metadata, MIGRATED_TO).is_some_and(|m| !m.is_empty()) {
        return Plan::Nothing;
    }
    match policy(volume) {
        "Retain" => Plan::Nothing,
        "Recycle" => failed(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!"),
        "Delete" => match deleter(volume) {
            Ok(()) => Plan::Nothing,
            Err(message) => failed(volume, "VolumeFailedDelete", &message),
        },
        _ => {
            let message = "Volume has unrecognized PersistentVolumeReclaimPolicy";
            failed(volume, "VolumeUnknownReclaimPolicy", message)
        }
    }
}

/// Somebody deletes the volume. Upstream: findDeletablePlugin.
fn deleter(volume: &Volume) -> Result<(), String> {
    let made_by = annotation(&volume.metadata, PROVISIONED_BY).unwrap_or_default();
    if made_by.starts_with("kubernetes.io/") {
        return Err(format!("no volume plugin matched name: {made_by}"));
    }
    let external = !made_by.is_empty()
        || has(&volume.metadata, MIGRATED_TO)
        || volume.spec.as_ref().is_some_and(|s| s.csi.is_some());
    if external {
        return Ok(());
    }
    let name = volume.name();
    Err(format!(
        "error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched"
    ))
}

/// The volume with the annotation and the finalizers that it should have. Upstream: modifyDeletionFinalizers.
fn tidied(volume: &Volume) -> Option<Volume> {
    let mut new = volume.clone();
    note_migration(&mut new.metadata, &[PROVISIONED_BY]);
    if let Some(made_by) = annotation(&volume.metadata, PROVISIONED_BY) {
        let mut finalizers = volume.metadata.finalizers.clone().unwrap_or_default();
        if migrated(made_by).is_some() {
            finalizers.retain(|f| f != IN_TREE_FINALIZER);
        } else if made_by.starts_with("kubernetes.io/") {
            let guarded = finalizers.iter().any(|f| f == IN_TREE_FINALIZER);
            match policy(volume) {
                "Delete" if !guarded => finalizers.push(IN_TREE_FINALIZER.to_string()),
                "Retain" | "Recycle" => finalizers.retain(|f| f != IN_TREE_FINALIZER),
                _ => {}
            }
            finalizers.retain(|f| f != EXTERNAL_FINALIZER);
        }
        if finalizers != volume.metadata.finalizers.clone().unwrap_or_default() {
            new.metadata.finalizers = Some(finalizers).filter(|f| !f.is_empty());
        }
    }
    (new != *volume).then_some(new)
}

/// What both are told when their modes differ.
pub fn mismatch_messages(volume: &Volume, claim: &Claim) -> [(&'static str, &'static str, String); 2] {
    let reason = "VolumeMismatch";
    [
        (
            WARNING,
            reason,
            format!(
                "Cannot bind PersistentVolume to requested PersistentVolumeClaim {:?} due to incompatible volumeMode.",
                claim.name()
            ),
        ),
        (
            WARNING,
            reason,
            format!(
                "Cannot bind PersistentVolume {:?} to requested PersistentVolumeClaim due to incompatible volumeMode.",
                volume.name()
            ),
        ),
    ]
}
