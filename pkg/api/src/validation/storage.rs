//! storage.k8s.io/v1. Upstream: `pkg/apis/storage/validation/validation.go`.

pub mod attachment;
pub mod attributes_class;
pub mod capacity;
pub mod class;
pub mod csi_driver;
pub mod csi_node;

use std::collections::BTreeMap;

use super::content;
use super::field::{Error, Path};
use super::refusals;

/// Size of all keys and values of parameters, in bytes.
const PARAMETERS_MAX: usize = 256 * 1024;
const PARAMETER_COUNT_MAX: usize = 512;

/// `validateProvisioner`.
fn provisioner(value: &str, path: &Path) -> Vec<Error> {
    if value.is_empty() {
        return vec![Error::required(path, "").covered()];
    }
    let lower = value.to_lowercase();
    refusals(path, &lower, content::qualified_name(&lower))
}

/// `validateParameters`.
fn parameters(all: Option<&BTreeMap<String, String>>, path: &Path) -> Vec<Error> {
    let Some(all) = all else { return Vec::new() };
    if all.len() > PARAMETER_COUNT_MAX {
        return vec![Error::too_long(path, PARAMETER_COUNT_MAX)];
    }
    let mut errors = Vec::new();
    if all.contains_key("") {
        errors.push(Error::invalid(path, "", "field can not be empty."));
    }
    if size(all) > PARAMETERS_MAX {
        errors.push(Error::too_long(path, PARAMETERS_MAX));
    }
    errors
}

fn size(all: &BTreeMap<String, String>) -> usize {
    all.iter().map(|(k, v)| k.len() + v.len()).sum()
}
