//! Resource quotas.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement};

use super::resources::{Amounts, is_standard_quota, validate_amount, validate_name};
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_object_meta_update,
};
use crate::validation::{items, text};

const COMPUTE: &[&str] = &["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

/// `ValidateResourceQuota`.
pub fn validate(quota: &ResourceQuota) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&quota.metadata, true, name_is_subdomain, &Path::new("metadata"));
    errors.extend(validate_spec(quota));
    errors.extend(validate_status(quota));
    errors
}

/// `ValidateResourceQuotaUpdate`: scopes stay.
pub fn validate_update(new: &ResourceQuota, old: &ResourceQuota) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    errors.extend(validate_spec(new));
    let scopes = |q: &ResourceQuota| -> BTreeSet<String> {
        q.spec.iter().flat_map(|s| items(&s.scopes)).cloned().collect()
    };
    if scopes(new) != scopes(old) {
        let list = new.spec.as_ref().and_then(|s| s.scopes.clone());
        let path = Path::new("spec");
        errors.push(Error::invalid(&path.child("scopes"), Bad::json(&list), "field is immutable"));
    }
    errors
}

/// `ValidateResourceQuotaStatusUpdate`.
pub fn validate_status_update(new: &ResourceQuota, old: &ResourceQuota) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    if text(&new.metadata.resource_version).is_empty() {
        errors.push(Error::required(&Path::new("resourceVersion"), ""));
    }
    errors.extend(validate_status(new));
    errors
}

fn validate_status(quota: &ResourceQuota) -> Vec<Error> {
    let Some(status) = &quota.status else { return Vec::new() };
    let path = Path::new("status");
    let mut errors = validate_amounts(status.hard.as_ref(), &path.child("hard"));
    errors.extend(validate_amounts(status.used.as_ref(), &path.child("used")));
    errors
}

fn validate_amounts(amounts: Option<&Amounts>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (name, value) in amounts.into_iter().flatten() {
        let at = path.key(name);
        errors.extend(validate_name(name, &at));
        if !name.contains('/') && !is_standard_quota(name) {
            errors.push(Error::invalid(&at, name, "must be a standard resource for quota"));
        }
        errors.extend(validate_amount(name, value, &at));
    }
    errors
}

fn validate_spec(quota: &ResourceQuota) -> Vec<Error> {
    let none = ResourceQuotaSpec::default();
    let (spec, path) = (quota.spec.as_ref().unwrap_or(&none), Path::new("spec"));
    let mut errors = validate_amounts(spec.hard.as_ref(), &path.child("hard"));
    let scopes: Vec<&str> = items(&spec.scopes).iter().map(String::as_str).collect();
    let (at, bad) = (path.child("scopes"), || Bad::json(&spec.scopes));
    for scope in &scopes {
        if !is_scope(scope) {
            errors.push(Error::invalid(&at, bad(), "unsupported scope"));
        }
        let unfit = unfit(spec, scope);
        errors
            .extend((0..unfit).map(|_| Error::invalid(&at, bad(), "unsupported scope applied to resource")));
    }
    errors.extend(conflicts(&scopes, || Error::invalid(&at, bad(), "conflicting scopes")));
    if let Some(selector) = &spec.scope_selector {
        let at = path.child("scopeSelector");
        let at = at.child("matchExpressions");
        let requirements = items(&selector.match_expressions);
        for requirement in requirements {
            if !is_scope(&requirement.scope_name) {
                let name = &requirement.scope_name;
                errors.push(Error::invalid(&at.child("scopeName"), name, "unsupported scope"));
            }
            for _ in 0..unfit(spec, &requirement.scope_name) {
                let detail = "unsupported scope applied to resource";
                errors.push(Error::invalid(&at, Bad::json(selector), detail));
            }
            errors.extend(validate_requirement(requirement, &at));
        }
        let scopes: Vec<&str> = requirements.iter().map(|r| r.scope_name.as_str()).collect();
        errors.extend(conflicts(&scopes, || Error::invalid(&at, bad(), "conflicting scopes")));
    }
    errors
}

fn is_scope(scope: &str) -> bool {
    is_plain(scope) || matches!(scope, "PriorityClass" | "VolumeAttributesClass")
}

/// Scopes that a pod is in or not, without values.
fn is_plain(scope: &str) -> bool {
    matches!(
        scope,
        "Terminating" | "NotTerminating" | "BestEffort" | "NotBestEffort" | "CrossNamespacePodAffinity"
    )
}

/// How many of the standard resources a scope does not apply to.
fn unfit(spec: &ResourceQuotaSpec, scope: &str) -> usize {
    let fits = |name: &str| match scope {
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        s if is_scope(s) => name == "pods" || COMPUTE.contains(&name),
        _ => true,
    };
    let names = spec.hard.iter().flat_map(|h| h.keys());
    names.filter(|n| is_standard_quota(n) && !fits(n)).count()
}

fn conflicts(scopes: &[&str], error: impl Fn() -> Error) -> Vec<Error> {
    let pairs = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];
    pairs.iter().filter(|(a, b)| scopes.contains(a) && scopes.contains(b)).map(|_| error()).collect()
}

fn validate_requirement(requirement: &ScopedResourceSelectorRequirement, path: &Path) -> Vec<Error> {
    let (operator, at) = (requirement.operator.as_str(), path.child("operator"));
    let mut errors = Vec::new();
    if is_plain(&requirement.scope_name) && operator != "Exists" {
        let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(Error::invalid(&at, operator, detail));
    }
    let values = items(&requirement.values);
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.push(Error::required(&path.child("values"), detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.push(Error::invalid(&path.child("values"), Bad::json(&values), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(Error::invalid(&at, Bad::enumerated(other), "not a valid selector operator")),
    }
    errors
}
