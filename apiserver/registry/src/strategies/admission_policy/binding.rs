//! Bindings of admission policies.

use ::api::validation::admission_policy::{self as common, binding as rules};
use ::api::validation::field::Error as FieldError;
use async_trait::async_trait;
use machinery::Value;

use super::super::validated;
use super::authorize::{self, Policies};
use crate::errors::ApiError;
use crate::meta;
use crate::strategy::{Call, Finish, Strategy};

/// Bindings of validating policies.
pub struct ValidatingBindings;

#[async_trait]
impl Strategy for ValidatingBindings {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, |new| rules::validate_validating(new, true))
    }

    fn validate_update(&self, _call: &Call<'_>, object: &Value, _old: &Value) -> Vec<FieldError> {
        validated(object, |new| rules::validate_validating(new, false))
    }

    fn warnings_on_update(&self, _call: &Call<'_>, object: &Value, _old: &Value) -> Vec<String> {
        common::warnings(meta::name(object))
    }

    async fn begin_create(
        &self,
        call: &Call<'_>,
        object: &mut Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        let valid = || self.validate(call, object).is_empty();
        authorize::binding(call, Policies::Validating, object, None, &valid).await.map(|()| None)
    }

    async fn begin_update(
        &self,
        call: &Call<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        let valid = || self.validate_update(call, object, old).is_empty();
        authorize::binding(call, Policies::Validating, object, Some(old), &valid).await.map(|()| None)
    }
}
