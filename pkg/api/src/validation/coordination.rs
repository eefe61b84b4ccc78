//! Leases. Upstream: `pkg/apis/coordination/validation/validation.go`.

use k8s_openapi::api::coordination::v1::Lease;

use super::field::{Error, Path};
use super::objectmeta::{name_is_subdomain, validate_object_meta, validate_object_meta_update};
use super::{content, refusals, supported, text};

/// `ValidateLease`.
pub fn validate_lease(lease: &Lease) -> Vec<Error> {
    let mut errors = validate_object_meta(&lease.metadata, true, name_is_subdomain, &Path::new("metadata"));
    errors.extend(validate_spec(lease));
    errors
}

/// `ValidateLeaseUpdate`.
pub fn validate_lease_update(new: &Lease, old: &Lease) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    errors.extend(validate_spec(new));
    errors
}

fn validate_spec(lease: &Lease) -> Vec<Error> {
    let Some(spec) = &lease.spec else { return Vec::new() };
    let path = Path::new("spec");
    let mut errors = Vec::new();
    if let Some(seconds) = spec.lease_duration_seconds.filter(|s| *s <= 0) {
        errors.push(Error::invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
    }
    if let Some(times) = spec.lease_transitions.filter(|t| *t < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(Error::invalid(&path.child("leaseTransitions"), times, detail));
    }
    let strategy = text(&spec.strategy);
    if spec.strategy.is_some() {
        // Upstream names the field twice.
        let field = path.child("strategy");
        let at = field.child("strategy");
        if strategy.contains('/') {
            errors.extend(refusals(&at, strategy, content::qualified_name(strategy)));
        } else {
            errors.extend(supported(strategy, &["OldestEmulationVersion"], &at));
        }
    }
    if !text(&spec.preferred_holder).is_empty() && strategy.is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(Error::forbidden(&path.child("preferredHolder"), detail));
    }
    errors
}
