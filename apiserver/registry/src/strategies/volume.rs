//! Persistent volumes and claims.
//! Upstream: `pkg/registry/core/{persistentvolume,persistentvolumeclaim}/strategy.go`.

use ::api::validation::core::{claim, persistent_volume};
use ::api::validation::field::Error as FieldError;
use ::api::warnings;
use machinery::{Map, Value};

use super::{validated, validated_update, warned};
use crate::meta;
use crate::strategy::{Call, Strategy, keep, keep_all_but_status};

/// Persistent volumes: status keeps the time of its last phase change.
pub struct PersistentVolumes;

const TRANSITION: [&str; 2] = ["status", "lastPhaseTransitionTime"];

impl Strategy for PersistentVolumes {
    fn judges_finalizers(&self, call: &Call<'_>) -> bool {
        !call.subresource.is_empty()
    }

    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        warned(object, warnings::storage::persistent_volume)
    }

    fn warnings_on_update(&self, call: &Call<'_>, object: &Value, _old: &Value) -> Vec<String> {
        if call.is_status() { Vec::new() } else { warned(object, warnings::storage::persistent_volume) }
    }

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

    fn validate(&self, _call: &Call<'_>, volume: &Value) -> Vec<FieldError> {
        validated(volume, persistent_volume::validate_volume)
    }

    fn validate_update(&self, call: &Call<'_>, volume: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return validated(volume, |v| {
                persistent_volume::validate_volume_status_update(v).into_iter().collect()
            });
        }
        validated_update(volume, old, persistent_volume::validate_volume_update)
    }
}

/// Claims: `dataSource` and `dataSourceRef` mirror each other for local kinds.
pub struct PersistentVolumeClaims;

impl Strategy for PersistentVolumeClaims {
    fn warnings_on_create(&self, _call: &Call<'_>, object: &Value) -> Vec<String> {
        warned(object, warnings::storage::claim)
    }

    fn warnings_on_update(&self, call: &Call<'_>, object: &Value, _old: &Value) -> Vec<String> {
        if call.is_status() { Vec::new() } else { warned(object, warnings::storage::claim) }
    }

    fn prepare_for_create(&self, _call: &Call<'_>, claim: &mut Value) {
        let mut status = Map::new();
        status.insert("phase", "Pending");
        if let Value::Map(map) = claim {
            map.insert("status", status);
        }
        drop_data_sources(claim, None);
        normalize_data_sources(claim);
    }

    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, claim::validate_claim)
    }

    fn prepare_for_update(&self, call: &Call<'_>, claim: &mut Value, old: &Value) {
        if call.is_status() {
            keep_all_but_status(claim, old);
            // Told only with a feature that is off (`CSIVolumeHealth`).
            let health = ["status", "healthStatus"];
            if old.get_path(&health).is_none_or(Value::is_null) {
                claim.remove_path(&health);
            }
            return;
        }
        keep(claim, old, "status");
        drop_data_sources(claim, Some(old));
        normalize_data_sources(claim);
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return validated(object, claim::validate_claim_status_update);
        }
        let mut old = old.clone();
        normalize_data_sources(&mut old);
        validated_update(object, &old, claim::validate_claim_update)
    }
}

/// Sources that count for nothing, unless the claim had one already: references to other namespaces, a feature that is
/// off, and whatever but claims and snapshots stands in the older of the two fields
/// (`pkg/api/persistentvolumeclaim/util.go` `DropDisabledFields`, `EnforceDataSourceBackwardsCompatibility`).
fn drop_data_sources(claim: &mut Value, old: Option<&Value>) {
    let has = |v: &Value, field| v.get_path(&["spec", field]).is_some_and(|s| !s.is_null());
    let elsewhere = claim.str_at(&["spec", "dataSourceRef", "namespace"]).is_some_and(|n| !n.is_empty());
    if elsewhere && !old.is_some_and(|o| has(o, "dataSourceRef")) {
        claim.remove_path(&["spec", "dataSourceRef"]);
    }
    if has(claim, "dataSourceRef") || old.is_some_and(|o| has(o, "dataSource") || has(o, "dataSourceRef")) {
        return;
    }
    let said = |field| claim.str_at(&["spec", "dataSource", field]).unwrap_or("");
    let known = [("PersistentVolumeClaim", ""), ("VolumeSnapshot", "snapshot.storage.k8s.io")];
    if !known.contains(&(said("kind"), said("apiGroup"))) {
        claim.remove_path(&["spec", "dataSource"]);
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
