//! CSI storage capacities.

use k8s_openapi::api::storage::v1::CSIStorageCapacity;

use crate::validation::core::resources::amount;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{
    name_is_subdomain, validate_kube_object_meta, validate_label_selector_with, validate_object_meta_update,
};
use crate::validation::{dns_subdomain, same_pointer};

/// `ValidateCSIStorageCapacity`.
pub fn validate(capacity: &CSIStorageCapacity) -> Vec<Error> {
    check(capacity, false)
}

fn check(capacity: &CSIStorageCapacity, any_values: bool) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&capacity.metadata, true, name_is_subdomain, &Path::new("metadata"));
    let at = Path::new("nodeTopology");
    errors.extend(validate_label_selector_with(capacity.node_topology.as_ref(), any_values, &at));
    errors.extend(dns_subdomain(&capacity.storage_class_name, &Path::new("storageClassName")));
    if let Some(size) = capacity.capacity.as_ref().map(amount).filter(|q| q.sign() < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(Error::invalid(&Path::new("capacity"), size.canonical(), detail));
    }
    errors
}

/// `ValidateCSIStorageCapacityUpdate`.
pub fn validate_update(new: &CSIStorageCapacity, old: &CSIStorageCapacity) -> Vec<Error> {
    let before = old.node_topology.as_ref();
    let any_values = !validate_label_selector_with(before, false, &Path::ROOT).is_empty();
    let mut errors = check(new, any_values);
    errors.extend(validate_object_meta_update(&new.metadata, &old.metadata, &Path::new("metadata")));
    let immutable = "field is immutable";
    if !same_pointer(&new.node_topology, &old.node_topology) {
        let bad = Bad::json(&new.node_topology);
        errors.push(Error::invalid(&Path::new("nodeTopology"), bad, immutable));
    }
    if new.storage_class_name != old.storage_class_name {
        let at = Path::new("storageClassName");
        errors.push(Error::invalid(&at, &new.storage_class_name, immutable));
    }
    errors
}
