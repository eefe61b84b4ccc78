//! Namespaces.

use k8s_openapi::api::core::v1::Namespace;

use crate::validation::field::{Error, Path};
use crate::validation::objectmeta::{
    name_is_label, validate_finalizer_name, validate_kube_object_meta, validate_object_meta_update,
};
use crate::validation::text;

/// `ValidateNamespace`.
pub fn validate(namespace: &Namespace) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&namespace.metadata, false, name_is_label, &Path::new("metadata"));
    let path = Path::new("spec");
    let at = path.child("finalizers");
    for name in finalizers(namespace) {
        errors.extend(validate_finalizer_name(name, &at));
    }
    errors
}

fn finalizers(namespace: &Namespace) -> &[String] {
    namespace.spec.as_ref().and_then(|s| s.finalizers.as_deref()).unwrap_or_default()
}

/// `ValidateNamespaceUpdate`.
pub fn validate_update(new: &Namespace, old: &Namespace) -> Vec<Error> {
    let mut errors = validate(new);
    errors.extend(validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata")));
    errors
}

/// `ValidateNamespaceStatusUpdate`.
pub fn validate_status_update(new: &Namespace, old: &Namespace) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    let phase = new.status.as_ref().map_or("", |s| text(&s.phase));
    let (wanted, state) = match new.metadata.deletion_timestamp {
        None => ("Active", "empty"),
        Some(_) => ("Terminating", "not empty"),
    };
    if phase != wanted {
        let detail = format!("may only be '{wanted}' if `deletionTimestamp` is {state}");
        let status = Path::new("status");
        // Upstream's name of the field.
        errors.push(Error::invalid(&status.child("Phase"), phase, detail));
    }
    errors
}

/// `ValidateNamespaceFinalizeUpdate`.
pub fn validate_finalize_update(new: &Namespace, old: &Namespace) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    let path = Path::new("spec");
    let at = path.child("finalizers");
    for (i, name) in finalizers(new).iter().enumerate() {
        errors.extend(validate_finalizer_name(name, &at.index(i)));
    }
    errors
}
