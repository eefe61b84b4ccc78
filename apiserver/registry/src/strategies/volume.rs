//! Persistent volumes and claims, volume attachments.
//! Upstream: `pkg/registry/core/{persistentvolume,persistentvolumeclaim}/strategy.go`, `pkg/registry/storage`.

use ::api::validation::field::{Bad, Error as FieldError, Path};
use machinery::{Map, Value};

use crate::meta;
use crate::strategy::{
    Call, Strategy, generic_prepare_for_update, keep, keep_all_but_status, reset_metadata_for_status,
};

/// Persistent volumes: status keeps the time of its last phase change.
pub struct PersistentVolumes;

const TRANSITION: [&str; 2] = ["status", "lastPhaseTransitionTime"];

impl Strategy for PersistentVolumes {
    fn prepare_for_create(&self, call: &Call<'_>, volume: &mut Value) {
        let mut status = Map::new();
        status.insert("phase", "Pending");
        status.insert("lastPhaseTransitionTime", meta::rfc3339(call.now));
        if let Value::Map(map) = volume {
            map.insert("status", status);
        }
    }

    fn prepare_for_update(&self, call: &Call<'_>, volume: &mut Value, old: &Value) {
        if !call.is_status() {
            return keep(volume, old, "status");
        }
        keep_all_but_status(volume, old);
        let phase = |v: &Value| v.str_at(&["status", "phase"]).unwrap_or("").to_owned();
        let (now, before) = (volume.get_path(&TRANSITION).cloned(), old.get_path(&TRANSITION).cloned());
        let next = if phase(volume) == phase(old) {
            now.is_none().then_some(before).flatten()
        } else {
            (now.is_none() || now == before).then(|| meta::rfc3339(call.now).into())
        };
        if let Some(next) = next {
            // Status is an object or absent.
            let _ = volume.set_path(&TRANSITION, next);
        }
    }

    fn validate_update(&self, call: &Call<'_>, volume: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() { Vec::new() } else { immutable_source(volume, old) }
    }
}

/// The volume source never changes.
fn immutable_source(volume: &Value, old: &Value) -> Vec<FieldError> {
    const MUTABLE: [&str; 9] = [
        "capacity",
        "accessModes",
        "claimRef",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "mountOptions",
        "volumeMode",
        "nodeAffinity",
        "volumeAttributesClassName",
    ];
    let source = |v: &Value| {
        let mut spec: Map = v.map_at(&["spec"]).cloned().unwrap_or_default();
        spec.retain(|k, _| !MUTABLE.contains(&k.as_str()));
        Value::Map(spec)
    };
    if source(volume).semantic_eq(&source(old)) {
        return Vec::new();
    }
    let spec = Path::new("spec");
    let detail = "spec.persistentvolumesource is immutable after creation";
    vec![FieldError::forbidden(&spec.child("persistentvolumesource"), detail)]
}

/// Claims: `dataSource` and `dataSourceRef` mirror each other for local kinds.
pub struct PersistentVolumeClaims;

impl Strategy for PersistentVolumeClaims {
    fn prepare_for_create(&self, _call: &Call<'_>, claim: &mut Value) {
        let mut status = Map::new();
        status.insert("phase", "Pending");
        if let Value::Map(map) = claim {
            map.insert("status", status);
        }
        normalize_data_sources(claim);
    }

    fn validate(&self, call: &Call<'_>, claim: &Value) -> Vec<FieldError> {
        let mut errors = crate::strategy::validate_metadata(call, claim, self.name_rule());
        let spec = Path::new("spec");
        if claim.list_at(&["spec", "accessModes"]).is_none_or(|l| l.is_empty()) {
            errors
                .push(FieldError::required(&spec.child("accessModes"), "at least 1 access mode is required"));
        }
        if claim.str_at(&["spec", "resources", "requests", "storage"]).is_none() {
            let resources = spec.child("resources");
            errors.push(FieldError::required(&resources.key("storage"), ""));
        }
        errors
    }

    fn prepare_for_update(&self, call: &Call<'_>, claim: &mut Value, old: &Value) {
        if call.is_status() {
            return keep_all_but_status(claim, old);
        }
        keep(claim, old, "status");
        normalize_data_sources(claim);
    }

    fn validate_update(&self, call: &Call<'_>, claim: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() { Vec::new() } else { immutable_claim(claim, old) }
    }
}

fn normalize_data_sources(claim: &mut Value) {
    let (source, reference) = (["spec", "dataSource"], ["spec", "dataSourceRef"]);
    let get = |claim: &Value, path: &[&str]| claim.get_path(path).filter(|v| !v.is_null()).cloned();
    match (get(claim, &source), get(claim, &reference)) {
        (Some(value), None) => {
            let _ = claim.set_path(&reference, value);
        }
        (None, Some(value)) if value.str_at(&["namespace"]).unwrap_or("").is_empty() => {
            let _ = claim.set_path(&source, value);
        }
        _ => {}
    }
}

/// `ValidatePersistentVolumeClaimUpdate`: only requests and the attributes class of a bound claim change.
fn immutable_claim(claim: &Value, old: &Value) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let fixed = |v: &Value| {
        let mut spec: Map = v.map_at(&["spec"]).cloned().unwrap_or_default();
        spec.remove("volumeAttributesClassName");
        if let Some(Value::Map(resources)) = spec.get_mut("resources") {
            resources.remove("requests");
        }
        // A claim that has none yet is bound by the controller.
        if old.str_at(&["spec", "volumeName"]).unwrap_or("").is_empty() {
            spec.remove("volumeName");
        }
        if old.get_path(&["spec", "storageClassName"]).is_none() {
            spec.remove("storageClassName");
        }
        Value::Map(spec)
    };
    let mut errors = Vec::new();
    if !fixed(claim).semantic_eq(&fixed(old)) {
        errors.push(FieldError::forbidden(
            &spec,
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ));
    }
    let amount = |v: &Value| {
        let text = v.str_at(&["spec", "resources", "requests", "storage"])?;
        machinery::Quantity::parse(text).ok()
    };
    let recovering =
        old.str_at(&["status", "capacity", "storage"]).and_then(|t| machinery::Quantity::parse(t).ok());
    if let (Some(new), Some(before)) = (amount(claim), amount(old)) {
        let mut difference = new.clone();
        difference.sub(&before);
        let mut above = new;
        if let Some(capacity) = &recovering {
            above.sub(capacity);
        }
        let bound = old.str_at(&["status", "phase"]) == Some("Bound");
        let changed = difference.sign() != 0;
        let shrinks = difference.sign() < 0 && !(recovering.is_some() && above.sign() > 0);
        if shrinks || (changed && !bound) {
            let resources = spec.child("resources");
            let at = resources.child("requests").to_string();
            let detail = "field can not be less than status.capacity";
            errors.push(if shrinks {
                FieldError { field: at, ..FieldError::forbidden(&spec, detail) }
            } else {
                FieldError::forbidden(
                    &spec,
                    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
                )
            });
        }
    }
    errors.dedup();
    errors
}

/// Volume attachments: a status update touches no metadata.
pub struct VolumeAttachments;

impl Strategy for VolumeAttachments {
    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        generic_prepare_for_update(call, object, old);
        if call.is_status() {
            reset_metadata_for_status(object, old);
        }
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let spec = |v: &Value| v.get("spec").cloned().unwrap_or_default();
        if call.is_status() || spec(object).semantic_eq(&spec(old)) {
            return Vec::new();
        }
        vec![FieldError::invalid(
            &Path::new("spec"),
            Bad::Raw(spec(object).to_string()),
            "field is immutable",
        )]
    }
}
