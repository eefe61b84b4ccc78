//! Bindings of admission policies.

use std::collections::HashSet;

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, MutatingAdmissionPolicyBinding, MutatingAdmissionPolicyBindingSpec, ParamRef,
    ValidatingAdmissionPolicyBinding,
};

use super::super::field::{Bad, Error, Path};
use super::super::objectmeta::validate_label_selector;
use super::super::{content, supported, text};
use super::mutating::validate_operations;
use super::{static_name, validate_match_resources, validate_metadata};

/// `ValidateValidatingAdmissionPolicyBinding`, of new and changed ones alike.
pub fn validate_validating(new: &ValidatingAdmissionPolicyBinding, is_new: bool) -> Vec<Error> {
    let (path, spec) = (Path::new("spec"), &new.spec);
    let mut errors = validate_metadata(&new.metadata);
    let resources = spec.match_resources.as_ref();
    errors.extend(validate_common(&spec.policy_name, spec.param_ref.as_ref(), resources, &path));
    errors.extend(validate_actions(&spec.validation_actions, &path.child("validationActions")));
    errors.extend(static_name(text(&new.metadata.name)).filter(|_| is_new));
    errors
}

/// `ValidateMutatingAdmissionPolicyBinding`, of new and changed ones alike.
pub fn validate_mutating(new: &MutatingAdmissionPolicyBinding, is_new: bool) -> Vec<Error> {
    let none = MutatingAdmissionPolicyBindingSpec::default();
    let (path, spec) = (Path::new("spec"), new.spec.as_ref().unwrap_or(&none));
    let mut errors = validate_metadata(&new.metadata);
    let resources = spec.match_resources.as_ref();
    errors.extend(validate_common(text(&spec.policy_name), spec.param_ref.as_ref(), resources, &path));
    if let Some(resources) = resources {
        errors.extend(validate_operations(resources, &path.child("matchResources")));
    }
    errors.extend(static_name(text(&new.metadata.name)).filter(|_| is_new));
    errors
}

fn validate_common(
    policy: &str,
    params: Option<&ParamRef>,
    resources: Option<&MatchResources>,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    let at = path.child("policyName");
    match policy {
        "" => errors.push(Error::required(&at, "").covered()),
        name => {
            let refusals = content::dns_subdomain(name);
            errors.extend(refusals.into_iter().map(|m| Error::invalid(&at, name, m)));
        }
    }
    if let Some(params) = params {
        errors.extend(validate_param_ref(params, &path.child("paramRef")));
    }
    if let Some(resources) = resources {
        errors.extend(validate_match_resources(resources, &path.child("matchResources")));
    }
    errors
}

fn validate_param_ref(params: &ParamRef, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let name = text(&params.name);
    let exclusive = "name and selector are mutually exclusive";
    if !name.is_empty() {
        let at = path.child("name");
        let refusals = content::path_segment(name, false);
        errors.extend(refusals.into_iter().map(|m| Error::invalid(&at, name, m)));
        if params.selector.is_some() {
            errors.push(Error::forbidden(&at, exclusive));
        }
    }
    if let Some(selector) = &params.selector {
        let at = path.child("selector");
        errors.extend(validate_label_selector(Some(selector), &at));
        if !name.is_empty() {
            errors.push(Error::forbidden(&at, exclusive));
        }
    } else if name.is_empty() {
        errors.push(Error::required(path, "one of name or selector must be specified"));
    }
    let at = path.child("parameterNotFoundAction");
    match text(&params.parameter_not_found_action) {
        "" => errors.push(Error::required(&at, "")),
        action => errors.extend(supported(action, &["Deny", "Allow"], &at)),
    }
    errors
}

fn validate_actions(actions: &[String], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, action) in actions.iter().enumerate() {
        errors.extend(supported(action, &["Audit", "Deny", "Warn"], &path.index(i)));
        if !seen.insert(action.as_str()) {
            errors.push(Error::duplicate(&path.index(i), action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(Error::invalid(path, Bad::json(&actions), detail));
    }
    if actions.is_empty() {
        errors.push(Error::required(path, "at least one validation action is required").covered());
    }
    errors
}
