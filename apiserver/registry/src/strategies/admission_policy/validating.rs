//! Validating admission policies.

use ::api::validation::admission_policy::{self as common, validating as rules};
use ::api::validation::field::Error as FieldError;
use apiextensions::jsonpath::JsonPath;
use async_trait::async_trait;
use machinery::Value;

use super::super::{validated, validated_update};
use super::{Expressions, authorize};
use crate::errors::ApiError;
use crate::meta;
use crate::strategy::{Call, Finish, Strategy, generic_prepare_for_update, reset_metadata_for_status};

/// The strategy.
pub struct ValidatingPolicies;

/// A path within the policy; the type checks of the controller manager write it without the dot at its start.
fn is_path(path: &str) -> bool {
    JsonPath::parse(path).is_some() || JsonPath::parse(&format!(".{path}")).is_some()
}

#[cfg(test)]
#[test]
fn paths_may_start_with_a_name() {
    assert!(["spec.validations[0].expression", ".spec.validations", "$.a"].map(is_path).iter().all(|p| *p));
    assert!(!is_path("spec.validations["));
}

#[async_trait]
impl Strategy for ValidatingPolicies {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, |new| rules::validate(new, None, &mut Expressions::new(object)))
    }

    fn prepare_for_update(&self, call: &Call<'_>, object: &mut Value, old: &Value) {
        generic_prepare_for_update(call, object, old);
        if call.is_status() {
            reset_metadata_for_status(object, old);
        }
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        if call.is_status() {
            return validated(object, |new| rules::validate_status(new, &is_path));
        }
        validated_update(object, old, |new, old| {
            rules::validate(new, Some(old), &mut Expressions::new(object))
        })
    }

    fn warnings_on_update(&self, call: &Call<'_>, object: &Value, _old: &Value) -> Vec<String> {
        if call.is_status() { Vec::new() } else { common::warnings(meta::name(object)) }
    }

    async fn begin_create(
        &self,
        call: &Call<'_>,
        object: &mut Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        authorize::policy(call, object, None, &|| self.validate(call, object).is_empty()).await.map(|()| None)
    }

    async fn begin_update(
        &self,
        call: &Call<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        if call.is_status() {
            return Ok(None);
        }
        let valid = || self.validate_update(call, object, old).is_empty();
        authorize::policy(call, object, Some(old), &valid).await.map(|()| None)
    }
}
