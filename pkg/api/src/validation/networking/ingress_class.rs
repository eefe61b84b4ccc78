//! Ingress classes.

use k8s_openapi::api::networking::v1::{IngressClass, IngressClassParametersReference, IngressClassSpec};

use crate::validation::field::{Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_object_meta_update,
};
use crate::validation::{content, dns_label, dns_subdomain, immutable, refusals, text};

const CONTROLLER_MAX: usize = 250;

/// `ValidateIngressClass`.
pub fn validate(class: &IngressClass) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&class.metadata, false, name_is_subdomain, &Path::new("metadata"));
    let none = IngressClassSpec::default();
    let (spec, path) = (class.spec.as_ref().unwrap_or(&none), Path::new("spec"));
    let (controller, at) = (text(&spec.controller), path.child("controller"));
    if controller.len() > CONTROLLER_MAX {
        errors.push(Error::too_long(&at, CONTROLLER_MAX));
    }
    errors.extend(content::domain_prefixed_path(controller, &at));
    if let Some(parameters) = &spec.parameters {
        errors.extend(validate_parameters(parameters, &path.child("parameters")));
    }
    errors
}

/// `ValidateIngressClassUpdate`.
pub fn validate_update(new: &IngressClass, old: &IngressClass) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    let controller =
        |c: &IngressClass| c.spec.as_ref().and_then(|s| s.controller.clone()).unwrap_or_default();
    let path = Path::new("spec");
    errors.extend(immutable(&controller(new), &controller(old), &path.child("controller")));
    errors.extend(validate(new));
    errors
}

fn validate_parameters(reference: &IngressClassParametersReference, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(group) = &reference.api_group {
        errors.extend(dns_subdomain(group, &path.child("apiGroup")));
    }
    for (value, name) in [(&reference.kind, "kind"), (&reference.name, "name")] {
        if value.is_empty() {
            errors.push(Error::required(&path.child(name), "").covered());
        }
        errors.extend(refusals(&path.child(name), value, content::path_segment(value, false)));
    }
    let Some(scope) = &reference.scope else {
        errors.push(Error::required(&path.child("scope"), ""));
        return errors;
    };
    let at = path.child("namespace");
    match (scope.as_str(), &reference.namespace) {
        ("Namespace", None) => {
            errors.push(Error::required(&at, "`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", Some(namespace)) => errors.extend(dns_label(namespace, &at)),
        ("Cluster", Some(_)) => errors.push(Error::forbidden(&at, "`parameters.scope` is set to 'Cluster'")),
        ("Cluster", None) => {}
        (other, _) => {
            errors.push(Error::not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]));
        }
    }
    errors
}
