//! The writes that bind a volume and a claim, and what they say in their states. Pure.
//!
//! Each function gives the one write that is next: whoever dies in between leaves a state from which the rest follows.
//! The volume comes first, as only one claim can win it. Upstream: pv_controller.go bind, updateClaimStatus, unbindVolume.

use client::Meta;
use controller::reference;
use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::Quantity;

use super::facts::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, PRE_RESIZE_CAPACITY, annotate, annotation, claim_phase, claim_uid,
    has, is_claimed, is_for, volume_name, volume_phase,
};

/// A write to the server.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    Volume(Box<Volume>),
    VolumeStatus(Box<Volume>),
    Claim(Box<Claim>),
    ClaimStatus(Box<Claim>),
}

/// The next write on the way to both being bound; nothing once they are.
///
/// # Errors
/// The volume tells no capacity.
pub fn bind(volume: &Volume, claim: &Claim) -> Result<Option<Write>, String> {
    if let Some(new) = claimed(volume, claim) {
        return Ok(Some(Write::Volume(Box::new(new))));
    }
    if let Some(new) = with_phase(volume, "Bound", "") {
        return Ok(Some(Write::VolumeStatus(Box::new(new))));
    }
    if let Some(new) = naming(claim, volume) {
        return Ok(Some(Write::Claim(Box::new(new))));
    }
    Ok(with_status(claim, "Bound", Some(volume))?.map(|new| Write::ClaimStatus(Box::new(new))))
}

/// The volume, given to the claim. Upstream: GetBindVolumeToClaim.
fn claimed(volume: &Volume, claim: &Claim) -> Option<Volume> {
    let (mut new, ours) = (volume.clone(), is_for(volume, claim));
    if !ours || claim_uid(volume) != claim.uid() {
        new.spec.get_or_insert_default().claim_ref = Some(reference(claim));
    }
    if !ours && !has(&volume.metadata, BOUND_BY_CONTROLLER) {
        annotate(&mut new.metadata, BOUND_BY_CONTROLLER, "yes");
    }
    (new != *volume).then_some(new)
}

/// The claim, naming its volume.
fn naming(claim: &Claim, volume: &Volume) -> Option<Claim> {
    let mut new = claim.clone();
    if volume_name(claim) != volume.name() {
        new.spec.get_or_insert_default().volume_name = Some(volume.name().to_string());
        if !has(&claim.metadata, BOUND_BY_CONTROLLER) {
            annotate(&mut new.metadata, BOUND_BY_CONTROLLER, "yes");
        }
    }
    if !has(&claim.metadata, BIND_COMPLETED) {
        annotate(&mut new.metadata, BIND_COMPLETED, "yes");
    }
    (new != *claim).then_some(new)
}

/// The volume in another phase; nothing if it is in that one.
pub fn with_phase(volume: &Volume, phase: &str, message: &str) -> Option<Volume> {
    if volume_phase(volume) == phase {
        return None;
    }
    let mut new = volume.clone();
    let status = new.status.get_or_insert_default();
    status.phase = Some(phase.to_string());
    status.message = Some(message.to_string()).filter(|m| !m.is_empty());
    Some(new)
}

/// The claim's state: a phase and, when it is bound, what the volume offers. Capacity is told when the claim becomes
/// bound; later it may differ on purpose, while a file system grows.
///
/// # Errors
/// The volume tells no capacity.
pub fn with_status(claim: &Claim, phase: &str, volume: Option<&Volume>) -> Result<Option<Claim>, String> {
    let mut new = claim.clone();
    let before = claim_phase(claim);
    let status = new.status.get_or_insert_default();
    status.phase = Some(phase.to_string());
    let Some(volume) = volume else {
        status.access_modes = None;
        status.capacity = None;
        status.current_volume_attributes_class_name = None;
        return Ok((new != *claim).then_some(new));
    };
    let spec = volume.spec.as_ref();
    status.access_modes = spec.and_then(|s| s.access_modes.clone());
    if before != phase {
        let capacity = spec.and_then(|s| s.capacity.as_ref()).filter(|c| c.contains_key("storage"));
        let Some(capacity) = capacity else {
            return Err(format!("PersistentVolume {:?} is without a storage capacity", volume.name()));
        };
        match annotation(&volume.metadata, PRE_RESIZE_CAPACITY).filter(|c| Quantity::parse(c).is_ok()) {
            // The file system has not grown yet.
            Some(before) => {
                let all = status.capacity.get_or_insert_default();
                all.insert("storage".to_string(), Text(before.to_string()));
            }
            None => status.capacity = Some(capacity.clone()),
        }
    }
    if before == "Pending" && phase == "Bound" {
        let class = spec.and_then(|s| s.volume_attributes_class_name.clone());
        status.current_volume_attributes_class_name = class;
    }
    Ok((new != *claim).then_some(new))
}

/// The volume without its claim: a user's reservation stays one, ours goes.
pub fn unbound(volume: &Volume) -> Option<Volume> {
    if !is_claimed(volume) {
        return None;
    }
    let mut new = volume.clone();
    let spec = new.spec.get_or_insert_default();
    if has(&volume.metadata, BOUND_BY_CONTROLLER) {
        spec.claim_ref = None;
        let annotations = new.metadata.annotations.get_or_insert_default();
        annotations.remove(BOUND_BY_CONTROLLER);
        if annotations.is_empty() {
            new.metadata.annotations = None;
        }
    } else if let Some(reference) = &mut spec.claim_ref {
        reference.uid = None;
    }
    Some(new)
}
