//! storagemigration/v1. Upstream: `pkg/apis/storagemigration/validation/validation.go`.

use k8s_openapi::api::storagemigration::v1::{StorageVersionMigration, StorageVersionMigrationStatus};

use super::field::{Bad, Error, Path};
use super::objectmeta::{
    name_is_subdomain, validate_conditions, validate_kube_object_meta, validate_object_meta_update,
};
use super::{content, immutable, items, text};

/// A new migration.
pub fn validate(migration: &StorageVersionMigration) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&migration.metadata, false, name_is_subdomain, &Path::new("metadata"));
    let named = migration.spec.as_ref().map(|s| (s.resource.group.as_str(), s.resource.resource.as_str()));
    let (group, resource) = named.unwrap_or_default();
    let path = Path::new("spec.resource");
    let (at, refusals) = (path.child("resource"), content::dns1035_label(resource));
    if resource.is_empty() {
        errors.push(Error::required(&at, "resource is required to be set"));
    } else if !refusals.is_empty() {
        errors.push(Error::invalid(&at, resource, refusals.join(",")));
    }
    let refusals = content::dns_subdomain(group);
    if !group.is_empty() && !refusals.is_empty() {
        errors.push(Error::invalid(&path.child("group"), group, refusals.join(",")));
    }
    errors
}

/// A changed migration: what is migrated stays.
pub fn validate_update(new: &StorageVersionMigration, old: &StorageVersionMigration) -> Vec<Error> {
    let mut errors = validate(new);
    errors.extend(validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata")));
    errors.extend(immutable(&new.spec, &old.spec, &Path::new("spec")));
    errors
}

/// A changed status: versions stay, and so do results.
pub fn validate_status_update(new: &StorageVersionMigration, old: &StorageVersionMigration) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    let (now, was) = (status(new), status(old));
    let (version, before) = (text(&now.resource_version), text(&was.resource_version));
    let path = Path::new("status");
    let (at, conditions_at) = (path.child("resourceVersion"), path.child("conditions"));
    if !version.is_empty() && !is_version(version) {
        let detail = format!("resource version is not well formed: {version}");
        errors.push(Error::invalid(&at, version, detail));
    }
    errors.extend(validate_conditions(items(&now.conditions), &conditions_at));
    if !before.is_empty() && before != version {
        errors.push(Error::invalid(&at, version, "field is immutable"));
    }
    let bad = || Bad::json(&now.conditions);
    let [(succeeded, had), (failed, had_failed)] =
        ["Succeeded", "Failed"].map(|result| (has(&now, result), has(&was, result)));
    for (wrong, detail) in [
        (succeeded && failed, "Both success and failed conditions cannot be true at the same time"),
        (had && !succeeded, "Success condition cannot be set to false once it is true"),
        (had_failed && !failed, "Failed condition cannot be set to false once it is true"),
    ] {
        if wrong {
            errors.push(Error::invalid(&conditions_at, bad(), detail));
        }
    }
    errors
}

fn status(migration: &StorageVersionMigration) -> StorageVersionMigrationStatus {
    migration.status.clone().unwrap_or_default()
}

/// `resourceversion.CompareResourceVersion`: digits that do not begin with zero.
fn is_version(text: &str) -> bool {
    !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit())
}

fn has(status: &StorageVersionMigrationStatus, result: &str) -> bool {
    let condition = items(&status.conditions).iter().find(|c| c.type_ == result);
    condition.is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(status: serde_json::Value) -> StorageVersionMigration {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "m", "resourceVersion": "1"},
            "spec": {"resource": {"group": "apps", "resource": "deployments"}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn results_stay() {
        let condition = |result: &str, status: &str| {
            serde_json::json!({"type": result, "status": status, "reason": "R", "message": "",
                "lastTransitionTime": "2020-01-01T00:00:00Z"})
        };
        let old = migration(
            serde_json::json!({"resourceVersion": "7", "conditions": [condition("Succeeded", "True")]}),
        );
        let told = |status| {
            let errors = validate_status_update(&migration(status), &old);
            errors.iter().map(|e| format!("{} {}", e.field, e.detail)).collect::<Vec<_>>()
        };
        assert!(validate_status_update(&old, &old).is_empty());
        assert_eq!(
            told(serde_json::json!({"resourceVersion": "07"})),
            [
                "status.resourceVersion resource version is not well formed: 07",
                "status.resourceVersion field is immutable",
                "status.conditions Success condition cannot be set to false once it is true",
            ]
        );
    }
}
