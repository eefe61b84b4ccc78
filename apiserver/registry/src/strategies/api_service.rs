//! API services. Upstream: `kube-aggregator/pkg/registry/apiservice/strategy.go`; validation in
//! `api::validation::apiregistration`.

use ::api::validation::apiregistration;
use ::api::validation::field::Error as FieldError;
use ::api::validation::objectmeta::{self, NameRule};
use machinery::Value;
use serde_json::json;

use super::{validated, validated_update};
use crate::meta;
use crate::strategy::{Call, Strategy, generic_prepare_for_create, generic_prepare_for_update};

/// The strategy.
pub struct ApiServices;

impl Strategy for ApiServices {
    fn name_rule(&self) -> NameRule {
        objectmeta::name_is_path_segment
    }

    fn prepare_for_create(&self, call: &Call<'_>, object: &mut Value) {
        generic_prepare_for_create(call, object);
        // What this server serves itself is available from the start.
        if object.map_at(&["spec", "service"]).is_none()
            && let Value::Map(map) = object
        {
            let condition = json!({
                "type": "Available", "status": "True", "lastTransitionTime": meta::rfc3339(call.now),
                "reason": "Local", "message": "Local APIServices are always available"});
            map.insert("status", Value::from(json!({"conditions": [condition]})));
        }
    }

    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, apiregistration::validate_api_service)
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        generic_prepare_for_update(call, object, old);
        if call.is_status() {
            for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
                let kept = old.get_path(&["metadata", field]).cloned();
                meta::set(object, field, kept.unwrap_or(Value::Null));
            }
        }
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        match call.is_status() {
            true => validated_update(object, old, apiregistration::validate_api_service_status_update),
            false => validated_update(object, old, apiregistration::validate_api_service_update),
        }
    }
}
