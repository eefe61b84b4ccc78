//! Leases, and candidates for them. Upstream: `pkg/apis/coordination/validation/validation.go`.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::coordination::v1beta1::LeaseCandidate;
use semver::Version;

use super::content::Refusals;
use super::field::{Error, Path};
use super::objectmeta::{name_is_subdomain, validate_object_meta, validate_object_meta_update};
use super::{content, immutable, refusals, required, supported, text};

/// The one strategy that Kubernetes names itself.
const OLDEST: &str = "OldestEmulationVersion";

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
        errors.extend(validate_strategy(strategy, &path.child("strategy")));
    }
    if !text(&spec.preferred_holder).is_empty() && strategy.is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        errors.push(Error::forbidden(&path.child("preferredHolder"), detail));
    }
    errors
}

/// `ValidLeaseCandidateName`.
pub fn name_is_config_key(name: &str, _prefix: bool) -> Refusals {
    content::config_map_key(name)
}

/// `ValidateLeaseCandidate`, metadata apart.
pub fn validate_candidate(candidate: &LeaseCandidate) -> Vec<Error> {
    let spec = &candidate.spec;
    let path = Path::new("spec");
    let mut errors: Vec<Error> = required(&spec.lease_name, &path.child("leaseName")).into_iter().collect();
    let mut version = |text: &str, field: &str| match Version::parse(text) {
        Ok(version) => Some(version),
        Err(_) if text.is_empty() => None,
        Err(_) => {
            errors.push(Error::invalid(&path.child(field), text, "must be a valid semantic version"));
            None
        }
    };
    let emulated = version(text(&spec.emulation_version), "emulationVersion");
    let binary = version(&spec.binary_version, "binaryVersion");
    let zero = Version::new(0, 0, 0);
    let at = path.child("binaryVersion");
    errors.extend(required(&spec.binary_version, &at));
    if !spec.binary_version.is_empty() && !text(&spec.emulation_version).is_empty() {
        let (binary, emulated) = (binary.as_ref().unwrap_or(&zero), emulated.as_ref().unwrap_or(&zero));
        if binary.cmp_precedence(emulated).is_lt() {
            let detail = "must be greater than or equal to `emulationVersion`";
            errors.push(Error::invalid(&at, &spec.binary_version, detail));
        }
    }
    errors.extend(required(&spec.strategy, &path.child("strategy")));
    if !spec.strategy.is_empty() {
        let unset = emulated.as_ref().unwrap_or(&zero).cmp_precedence(&zero).is_eq();
        if spec.strategy == OLDEST && unset {
            let detail = "must be specified when `strategy` is 'OldestEmulationVersion'";
            errors.push(Error::required(&path.child("emulationVersion"), detail));
        }
        errors.extend(validate_strategy(&spec.strategy, &path.child("strategy")));
    }
    errors
}

/// `ValidateLeaseCandidateUpdate`, metadata apart.
pub fn validate_candidate_update(new: &LeaseCandidate, old: &LeaseCandidate) -> Vec<Error> {
    let mut errors = validate_candidate(new);
    let (now, before) = (&new.spec.lease_name, &old.spec.lease_name);
    errors.extend(immutable(now, before, &Path::new("spec").child("leaseName")));
    errors
}

/// `ValidateCoordinatedLeaseStrategy`, which names the field twice.
fn validate_strategy(strategy: &str, field: &Path) -> Vec<Error> {
    let at = field.child("strategy");
    if strategy.contains('/') {
        return refusals(&at, strategy, content::qualified_name(strategy));
    }
    supported(strategy, &[OLDEST], &at).into_iter().collect()
}
