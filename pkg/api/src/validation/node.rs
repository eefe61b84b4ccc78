//! Runtime classes. Upstream: `pkg/apis/node/validation/validation.go`.

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::api::node::v1::RuntimeClass;

use super::core::resources::validate_overhead;
use super::core::scheduling::validate_tolerations;
use super::field::{Bad, Error, Path};
use super::objectmeta::{
    name_is_subdomain, validate_labels, validate_object_meta, validate_object_meta_update,
};
use super::{dns_label, items};

/// `ValidateRuntimeClass`.
pub fn validate(class: &RuntimeClass) -> Vec<Error> {
    let mut errors = validate_object_meta(&class.metadata, false, name_is_subdomain, &Path::new("metadata"));
    let at = Path::new("handler");
    match class.handler.as_str() {
        "" => errors.push(Error::required(&at, "").covered()),
        handler => errors.extend(dns_label(handler, &at).into_iter().map(Error::covered)),
    }
    if let Some(overhead) = &class.overhead {
        let limits = ResourceRequirements { limits: overhead.pod_fixed.clone(), ..Default::default() };
        errors.extend(validate_overhead(&limits, &Path::new("overhead")));
    }
    if let Some(scheduling) = &class.scheduling {
        let path = Path::new("scheduling");
        errors.extend(validate_labels(scheduling.node_selector.as_ref(), &path.child("nodeSelector")));
        let (tolerations, at) = (items(&scheduling.tolerations), path.child("tolerations"));
        errors.extend(validate_tolerations(tolerations, false, &at));
        for (i, toleration) in tolerations.iter().enumerate() {
            if tolerations.iter().take(i).any(|t| key(t) == key(toleration)) {
                errors.push(Error::duplicate(&at.index(i), Bad::json(toleration)));
            }
        }
    }
    errors
}

fn key(t: &Toleration) -> [&str; 4] {
    [&t.key, &t.operator, &t.value, &t.effect].map(super::text)
}

/// `ValidateRuntimeClassUpdate`; that the handler stays is told by the type's own rules.
pub fn validate_update(new: &RuntimeClass, old: &RuntimeClass) -> Vec<Error> {
    let mut errors = validate(new);
    errors.extend(validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata")));
    errors
}
