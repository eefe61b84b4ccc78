//! CSI nodes.

use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, StorageHealth, StorageHealthCondition};

use crate::validation::content::{self, condition_reason};
use crate::validation::core::volume_source::driver_name;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_nonnegative, validate_object_meta_update,
};
use crate::validation::{items, refusals, semantic_eq, supported, text};

const NODE_ID_MAX: usize = 256;
const CONDITIONS_MAX: usize = 16;
const REASON_MAX: usize = 256;
const MESSAGE_MAX: usize = 1024;

/// `ValidateCSINode`.
pub fn validate(node: &CSINode) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&node.metadata, false, name_is_subdomain, &Path::new("metadata"));
    let spec = Path::new("spec");
    let path = spec.child("drivers");
    let drivers = &node.spec.drivers;
    for (i, driver) in drivers.iter().enumerate() {
        let repeated = drivers.iter().take(i).any(|d| d.name == driver.name);
        errors.extend(validate_driver(driver, repeated, &path.index(i)));
    }
    errors
}

/// `ValidateCSINodeUpdate`: of a driver that stays, only the number of volumes may change.
pub fn validate_update(new: &CSINode, old: &CSINode) -> Vec<Error> {
    let mut errors = validate(new);
    let spec = Path::new("spec");
    let path = spec.child("drivers");
    let fixed = |d: &CSINodeDriver| CSINodeDriver { allocatable: None, ..d.clone() };
    for before in &old.spec.drivers {
        for now in new.spec.drivers.iter().filter(|d| d.name == before.name) {
            if !semantic_eq(&fixed(now), &fixed(before)) {
                let bad = Bad::json(&fixed(now));
                errors.push(Error::invalid(&path, bad, "field is immutable"));
            }
        }
    }
    errors
}

/// `ValidateCSINodeStatusUpdate`.
pub fn validate_status_update(new: &CSINode, old: &CSINode) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    let status = Path::new("status");
    let path = status.child("storageHealth");
    let all = new.status.as_ref().map_or(&[][..], |s| items(&s.storage_health));
    for (i, health) in all.iter().enumerate() {
        let at = path.index(i);
        if all.iter().take(i).any(|h| h.name == health.name) {
            errors.push(Error::duplicate(&at, &health.name));
        }
        errors.extend(validate_health(health, &at));
    }
    errors
}

fn validate_driver(driver: &CSINodeDriver, repeated: bool, path: &Path) -> Vec<Error> {
    let mut errors = driver_name(&driver.name, &path.child("name"));
    let at = path.child("nodeID");
    if driver.node_id.is_empty() {
        errors.push(Error::required(&at, ""));
    }
    if driver.node_id.len() > NODE_ID_MAX {
        let detail = format!("must be {NODE_ID_MAX} characters or less");
        errors.push(Error::invalid(&at, &driver.node_id, detail));
    }
    if let Some(count) = driver.allocatable.as_ref().and_then(|a| a.count) {
        let at = path.child("allocatable");
        errors.extend(validate_nonnegative(i64::from(count), &at.child("count")));
    }
    if repeated {
        errors.push(Error::duplicate(&path.child("name"), &driver.name));
    }
    let keys = items(&driver.topology_keys);
    for (i, key) in keys.iter().enumerate() {
        if key.is_empty() {
            errors.push(Error::required(path, ""));
        }
        if keys.iter().take(i).any(|k| k == key) {
            errors.push(Error::duplicate(path, key));
        }
        errors.extend(refusals(path, key, content::qualified_name(key)));
    }
    errors
}

fn validate_health(health: &StorageHealth, path: &Path) -> Vec<Error> {
    let mut errors = driver_name(&health.name, &path.child("name"));
    let (conditions, at) = (items(&health.health_conditions), path.child("healthConditions"));
    if conditions.len() > CONDITIONS_MAX {
        errors.push(Error::too_many(&at, conditions.len(), CONDITIONS_MAX));
        return errors;
    }
    errors.extend(conditions.iter().enumerate().flat_map(|(i, c)| validate_condition(c, &at.index(i))));
    errors
}

fn validate_condition(condition: &StorageHealthCondition, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let kinds = ["StorageDegraded", "StorageUnreachable"];
    errors.extend(supported(&condition.status, &kinds, &path.child("status")));
    let (reason, at) = (condition.reason.as_str(), path.child("reason"));
    if reason.is_empty() {
        errors.push(Error::required(&at, ""));
    } else {
        errors.extend(refusals(&at, reason, condition_reason(reason)));
        if reason.len() > REASON_MAX {
            errors.push(Error::too_long(&at, REASON_MAX));
        }
    }
    if text(&condition.message).len() > MESSAGE_MAX {
        errors.push(Error::too_long(&path.child("message"), MESSAGE_MAX));
    }
    if let Some(mode) = &condition.access_mode {
        let modes = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
        errors.extend(supported(mode, &modes, &path.child("accessMode")));
    }
    if let Some(mode) = &condition.volume_mode {
        errors.extend(supported(mode, &["Filesystem", "Block"], &path.child("volumeMode")));
    }
    errors
}
