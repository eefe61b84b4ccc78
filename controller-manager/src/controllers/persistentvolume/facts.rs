//! What volumes and claims say about themselves. Pure.
//! Upstream: k8s.io/component-helpers/storage/volume/helpers.go, pv_helpers.go.

use client::Meta;
use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::quantity::Quantity;

pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
pub const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
pub const BETA_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
pub const PRE_RESIZE_CAPACITY: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";
/// Before the field there was an annotation, which still counts.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

pub fn has(meta: &ObjectMeta, name: &str) -> bool {
    annotation(meta, name).is_some()
}

pub fn annotate(meta: &mut ObjectMeta, name: &str, value: &str) {
    meta.annotations.get_or_insert_default().insert(name.to_string(), value.to_string());
}

/// "" for none.
pub fn claim_class(claim: &Claim) -> &str {
    let field = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    annotation(&claim.metadata, CLASS).or(field).unwrap_or_default()
}

/// The claim says which class it wants, even if none.
pub fn names_class(claim: &Claim) -> bool {
    has(&claim.metadata, CLASS) || claim.spec.as_ref().is_some_and(|s| s.storage_class_name.is_some())
}

/// "" for none.
pub fn volume_class(volume: &Volume) -> &str {
    let field = volume.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    annotation(&volume.metadata, CLASS).or(field).unwrap_or_default()
}

/// The volume that the claim names, "" for none.
pub fn volume_name(claim: &Claim) -> &str {
    claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default()
}

pub fn claim_phase(claim: &Claim) -> &str {
    claim.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

pub fn volume_phase(volume: &Volume) -> &str {
    volume.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

pub fn policy(volume: &Volume) -> &str {
    volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref()).unwrap_or_default()
}

pub fn claim_key(volume: &Volume) -> Option<String> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    Some(format!("{}/{}", text(&reference.namespace), text(&reference.name)))
}

/// Uid of the claim a volume is for; "" while it is only reserved for one of that name.
pub fn claim_uid(volume: &Volume) -> &str {
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    reference.and_then(|r| r.uid.as_deref()).unwrap_or_default()
}

pub fn is_claimed(volume: &Volume) -> bool {
    volume.spec.as_ref().is_some_and(|s| s.claim_ref.is_some())
}

/// The volume is bound to, or reserved for, this claim. Upstream: IsVolumeBoundToClaim.
pub fn is_for(volume: &Volume, claim: &Claim) -> bool {
    let uid = claim_uid(volume);
    claim_key(volume).is_some_and(|key| key == claim.key()) && (uid.is_empty() || uid == claim.uid())
}

fn mode(field: Option<&String>) -> &str {
    field.map_or("Filesystem", String::as_str)
}

pub fn modes_differ(claim: &Claim, volume: &Volume) -> bool {
    let wanted = claim.spec.as_ref().and_then(|s| s.volume_mode.as_ref());
    mode(wanted) != mode(volume.spec.as_ref().and_then(|s| s.volume_mode.as_ref()))
}

/// "" for none.
pub fn attributes_classes<'a>(claim: &'a Claim, volume: &'a Volume) -> (&'a str, &'a str) {
    let of_claim = claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref());
    let of_volume = volume.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref());
    (of_claim.unwrap_or_default(), of_volume.unwrap_or_default())
}

/// Access modes that the claim wants and the volume has not.
pub fn lacks_access(claim: &Claim, volume: &Volume) -> bool {
    let wanted = claim.spec.iter().flat_map(|s| s.access_modes.iter().flatten());
    let has: Vec<&String> = volume.spec.iter().flat_map(|s| s.access_modes.iter().flatten()).collect();
    wanted.into_iter().any(|mode| !has.contains(&mode))
}

pub fn capacity(volume: &Volume) -> Quantity {
    let list = volume.spec.as_ref().and_then(|s| s.capacity.as_ref());
    list.and_then(|c| c.get("storage")).and_then(|q| Quantity::parse(&q.0).ok()).unwrap_or_default()
}

pub fn request(claim: &Claim) -> Quantity {
    let list = claim.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
    list.and_then(|c| c.get("storage")).and_then(|q| Quantity::parse(&q.0).ok()).unwrap_or_default()
}

pub fn is_smaller(a: &Quantity, b: &Quantity) -> bool {
    let mut difference = a.clone();
    difference.sub(b);
    difference.sign() < 0
}

/// CSI drivers that took over from plugins that once were built in. Upstream: csi-translation-lib/plugins.
pub fn migrated(plugin: &str) -> Option<&'static str> {
    Some(match plugin {
        "kubernetes.io/aws-ebs" => "ebs.csi.aws.com",
        "kubernetes.io/gce-pd" => "pd.csi.storage.gke.io",
        "kubernetes.io/cinder" => "cinder.csi.openstack.org",
        "kubernetes.io/azure-disk" => "disk.csi.azure.com",
        "kubernetes.io/azure-file" => "file.csi.azure.com",
        "kubernetes.io/vsphere-volume" => "csi.vsphere.vmware.com",
        "kubernetes.io/portworx-volume" => "pxd.portworx.com",
        _ => return None,
    })
}

/// Notes the driver that took over, or takes the note away; says whether that changed anything.
/// Upstream: updateMigrationAnnotations.
pub fn note_migration(meta: &mut ObjectMeta, keys: &[&str]) -> bool {
    let Some(provisioner) = keys.iter().find_map(|key| annotation(meta, key)) else { return false };
    match migrated(provisioner) {
        Some(driver) if annotation(meta, MIGRATED_TO) == Some(driver) => false,
        Some(driver) => {
            annotate(meta, MIGRATED_TO, driver);
            true
        }
        None => meta.annotations.as_mut().is_some_and(|a| a.remove(MIGRATED_TO).is_some()),
    }
}
