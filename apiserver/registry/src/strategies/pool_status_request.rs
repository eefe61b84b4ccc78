//! Questions about pools of devices, which are answered once.
//! Upstream: `pkg/registry/resource/resourcepoolstatusrequest/strategy.go`,
//! `pkg/apis/resource/validation/validation_resourcepoolstatusrequest.go`.

use ::api::validation::field::{Bad, Error as FieldError, Path};
use ::api::validation::objectmeta::name_is_subdomain;
use machinery::Value;

use super::{conditions, with_declared};
use crate::strategy::{
    Call, Strategy, generic_prepare_for_create, generic_prepare_for_update, reset_metadata_for_status,
    validate_kube_metadata,
};
use crate::untagged;

/// The strategy.
pub struct ResourcePoolStatusRequests;

/// Of the feature DRAPartitionableDevicesType, which is off.
const PARTITION_TYPE: [&str; 2] = ["spec", "defaultPartitionTypeAttribute"];

fn given<'v>(object: &'v Value, path: &[&str]) -> Option<&'v Value> {
    object.get_path(path).filter(|value| !value.is_null())
}

impl Strategy for ResourcePoolStatusRequests {
    fn prepare_for_create(&self, call: &Call<'_>, request: &mut Value) {
        generic_prepare_for_create(call, request);
        request.remove_path(&PARTITION_TYPE);
    }

    fn validate(&self, call: &Call<'_>, request: &Value) -> Vec<FieldError> {
        let errors = validate_kube_metadata(call, request, name_is_subdomain);
        with_declared(call, errors, request, None)
    }

    fn prepare_for_update(&self, call: &Call<'_>, request: &mut Value, old: &Value) {
        generic_prepare_for_update(call, request, old);
        if call.is_status() {
            reset_metadata_for_status(request, old);
        } else if given(old, &PARTITION_TYPE).is_none() {
            request.remove_path(&PARTITION_TYPE);
        }
    }

    fn validate_update(&self, call: &Call<'_>, request: &Value, old: &Value) -> Vec<FieldError> {
        let errors = match (call.is_status(), given(old, &["status"])) {
            (false, _) => Vec::new(),
            (true, None) => conditions(request),
            (true, Some(answer)) => {
                let new = given(request, &["status"]);
                let changed = new.is_none_or(|new| !new.semantic_eq(answer));
                let bad = Bad::Raw(untagged::print(
                    new.unwrap_or(&Value::Null),
                    untagged::POOL_STATUS_REQUEST_STATUS,
                ));
                let error = || FieldError::invalid(&Path::new("status"), bad, "field is immutable");
                changed.then(error).into_iter().collect()
            }
        };
        with_declared(call, errors, request, Some(old))
    }
}
