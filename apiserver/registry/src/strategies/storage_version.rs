//! The versions that servers store resources in. Upstream: `pkg/registry/apiserverinternal/storageversion/strategy.go`.

use ::api::validation::apiserverinternal::{Status, name_is_storage_version, validate_status};
use ::api::validation::field::Error as FieldError;
use ::api::validation::objectmeta::NameRule;
use machinery::Value;

use crate::strategy::{
    Call, Strategy, generic_prepare_for_update, reset_metadata_for_status, typed, validate_kube_metadata,
};

/// The strategy.
pub struct StorageVersions;

fn status(version: &Value) -> Vec<FieldError> {
    let status = version.get("status").filter(|s| !s.is_null());
    match status.map_or_else(|| Ok(Status::default()), typed) {
        Ok(status) => validate_status(&status),
        Err(error) => vec![error],
    }
}

impl Strategy for StorageVersions {
    fn name_rule(&self) -> NameRule {
        name_is_storage_version
    }

    fn validate(&self, call: &Call<'_>, version: &Value) -> Vec<FieldError> {
        // Of a new one there is no status.
        validate_kube_metadata(call, version, self.name_rule())
    }

    fn prepare_for_update(&self, call: &Call<'_>, version: &mut Value, old: &Value) {
        generic_prepare_for_update(call, version, old);
        if call.is_status() {
            reset_metadata_for_status(version, old);
        }
    }

    fn judges_finalizers(&self, _call: &Call<'_>) -> bool {
        false
    }

    fn validate_update(&self, call: &Call<'_>, version: &Value, _old: &Value) -> Vec<FieldError> {
        if call.is_status() { status(version) } else { Vec::new() }
    }
}
