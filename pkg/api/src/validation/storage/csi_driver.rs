//! CSI drivers.

use k8s_openapi::api::storage::v1::{CSIDriver, CSIDriverSpec, TokenRequest};

use crate::validation::field::{Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_object_meta_update,
};
use crate::validation::{immutable, items, supported};

/// Seconds.
const TOKEN_MIN: i64 = 600;
const TOKEN_MAX: i64 = 1 << 32;
const UPDATE_PERIOD_MIN: i64 = 10;

/// `ValidateCSIDriver`.
pub fn validate(driver: &CSIDriver) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&driver.metadata, false, name_is_subdomain, &Path::new("metadata"));
    errors.extend(validate_spec(&driver.spec));
    errors
}

/// `ValidateCSIDriverUpdate`.
pub fn validate_update(new: &CSIDriver, old: &CSIDriver) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    errors.extend(validate_spec(&new.spec));
    let path = Path::new("spec");
    let (now, before) = (&new.spec, &old.spec);
    // Upstream's name of the field.
    let at = path.child("attachedRequired");
    errors.extend(immutable(&now.attach_required, &before.attach_required, &at));
    let at = path.child("volumeLifecycleModes");
    errors.extend(immutable(&now.volume_lifecycle_modes, &before.volume_lifecycle_modes, &at));
    errors
}

fn validate_spec(spec: &CSIDriverSpec) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    for (value, name) in [
        (spec.attach_required, "attachedRequired"),
        (spec.pod_info_on_mount, "podInfoOnMount"),
        (spec.storage_capacity, "storageCapacity"),
    ] {
        errors.extend(missing(value, &path.child(name)));
    }
    if let Some(policy) = &spec.fs_group_policy {
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        errors.extend(supported(policy, &policies, &path.child("fsGroupPolicy")));
    }
    let requests = items(&spec.token_requests);
    errors.extend(validate_tokens(requests, &path.child("tokenRequests")));
    for mode in items(&spec.volume_lifecycle_modes) {
        errors.extend(supported(mode, &["Persistent", "Ephemeral"], &path.child("volumeLifecycleModes")));
    }
    errors.extend(missing(spec.se_linux_mount, &path.child("seLinuxMount")));
    if let Some(period) = spec.node_allocatable_update_period_seconds.filter(|p| *p < UPDATE_PERIOD_MIN) {
        let detail = "must be greater than or equal to 10 seconds";
        errors.push(Error::invalid(&path.child("nodeAllocatableUpdatePeriodSeconds"), period, detail));
    }
    if let Some(on) = spec.service_account_token_in_secrets.filter(|_| requests.is_empty()) {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(Error::invalid(&path.child("serviceAccountTokenInSecrets"), on, detail));
    }
    let at = path.child("preventPodSchedulingIfMissing");
    errors.extend(missing(spec.prevent_pod_scheduling_if_missing, &at));
    errors
}

fn missing(value: Option<bool>, path: &Path) -> Option<Error> {
    value.is_none().then(|| Error::required(path, ""))
}

fn validate_tokens(requests: &[TokenRequest], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, request) in requests.iter().enumerate() {
        let path = path.index(i);
        if requests.iter().take(i).any(|r| r.audience == request.audience) {
            errors.push(Error::duplicate(&path.child("audience"), &request.audience));
            continue;
        }
        let at = path.child("expirationSeconds");
        match request.expiration_seconds {
            Some(n) if n < TOKEN_MIN => {
                errors.push(Error::invalid(&at, n, "may not specify a duration less than 10 minutes"));
            }
            Some(n) if n > TOKEN_MAX => {
                errors.push(Error::invalid(&at, n, "may not specify a duration larger than 2^32 seconds"));
            }
            _ => {}
        }
    }
    errors
}
