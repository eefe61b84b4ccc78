//! Storage classes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{TopologySelectorLabelRequirement, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::StorageClass;

use super::{parameters, provisioner};
use crate::validation::field::{Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_label_name, validate_object_meta_update,
};
use crate::validation::{items, supported};

/// `ValidateStorageClass`.
pub fn validate(class: &StorageClass) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&class.metadata, false, name_is_subdomain, &Path::new("metadata"));
    errors.extend(provisioner(&class.provisioner, &Path::new("provisioner")));
    errors.extend(parameters(class.parameters.as_ref(), &Path::new("parameters")));
    if let Some(policy) = class.reclaim_policy.as_deref().filter(|p| !p.is_empty()) {
        errors.extend(supported(policy, &["Delete", "Retain"], &Path::new("reclaimPolicy")));
    }
    let at = Path::new("volumeBindingMode");
    match &class.volume_binding_mode {
        None => errors.push(Error::required(&at, "")),
        Some(mode) => errors.extend(supported(mode, &["Immediate", "WaitForFirstConsumer"], &at)),
    }
    errors.extend(topologies(items(&class.allowed_topologies), &Path::new("allowedTopologies")));
    errors
}

/// `ValidateStorageClassUpdate`; what is immutable is told by the type's own rules.
pub fn validate_update(new: &StorageClass, old: &StorageClass) -> Vec<Error> {
    let mut errors = validate(new);
    errors.extend(validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata")));
    errors
}

type Term<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn topologies(all: &[TopologySelectorTerm], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    // Upstream's list begins with as many empty terms as there are terms, so an empty one repeats all of them.
    let mut seen: Vec<Term<'_>> = vec![Term::new(); all.len()];
    for (i, term) in all.iter().enumerate() {
        let at = path.index(i);
        let at = at.child("matchLabelExpressions");
        let mut own = Term::new();
        for (j, requirement) in items(&term.match_label_expressions).iter().enumerate() {
            let at = at.index(j);
            errors.extend(requirement_values(requirement, &at));
            let values = requirement.values.iter().map(String::as_str).collect();
            if own.insert(&requirement.key, values).is_some() {
                errors.push(Error::duplicate(&at.child("key"), &requirement.key));
            }
        }
        for _ in seen.iter().filter(|t| **t == own) {
            errors.push(Error::duplicate(&at, ""));
        }
        seen.push(own);
    }
    errors
}

fn requirement_values(requirement: &TopologySelectorLabelRequirement, path: &Path) -> Vec<Error> {
    let at = path.child("values");
    let mut errors = Vec::new();
    if requirement.values.is_empty() {
        errors.push(Error::required(&at, ""));
    }
    for (i, value) in requirement.values.iter().enumerate() {
        if requirement.values.iter().take(i).any(|v| v == value) {
            errors.push(Error::duplicate(&at.index(i), value));
        }
    }
    errors.extend(validate_label_name(&requirement.key, &path.child("key")));
    errors
}
