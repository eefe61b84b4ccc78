//! Volume attributes classes.

use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use super::{parameters, provisioner};
use crate::validation::field::{Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_object_meta_update,
};

/// `ValidateVolumeAttributesClass`.
pub fn validate(class: &VolumeAttributesClass) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&class.metadata, false, name_is_subdomain, &Path::new("metadata"));
    errors.extend(provisioner(&class.driver_name, &Path::new("driverName")));
    let at = Path::new("parameters");
    errors.extend(parameters(class.parameters.as_ref(), &at));
    if class.parameters.as_ref().is_none_or(|p| p.is_empty()) {
        errors.push(Error::required(&at, "must contain at least one key/value pair"));
    }
    errors
}

/// `ValidateVolumeAttributesClassUpdate`.
pub fn validate_update(new: &VolumeAttributesClass, old: &VolumeAttributesClass) -> Vec<Error> {
    let mut errors = validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata"));
    if new.driver_name != old.driver_name {
        errors.push(Error::forbidden(&Path::new("driverName"), "updates to driverName are forbidden."));
    }
    // No parameters and an empty map of them are not the same here.
    if new.parameters != old.parameters {
        errors.push(Error::forbidden(&Path::new("parameters"), "updates to parameters are forbidden."));
    }
    errors.extend(validate(new));
    errors
}
