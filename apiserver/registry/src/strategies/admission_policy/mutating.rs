//! Mutating admission policies.

use ::api::validation::admission_policy::{self as common, mutating as rules};
use ::api::validation::field::Error as FieldError;
use async_trait::async_trait;
use machinery::Value;

use super::super::{validated, validated_update};
use super::{Expressions, authorize};
use crate::errors::ApiError;
use crate::meta;
use crate::strategy::{Call, Finish, Strategy};

/// The strategy.
pub struct MutatingPolicies;

#[async_trait]
impl Strategy for MutatingPolicies {
    fn validate(&self, _call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        validated(object, |new| rules::validate(new, None, &mut Expressions::with_variables(object)))
    }

    fn validate_update(&self, _call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        validated_update(object, old, |new, old| {
            rules::validate(new, Some(old), &mut Expressions::with_variables(object))
        })
    }

    fn warnings_on_update(&self, _call: &Call<'_>, object: &Value, _old: &Value) -> Vec<String> {
        common::warnings(meta::name(object))
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
        let valid = || self.validate_update(call, object, old).is_empty();
        authorize::policy(call, object, Some(old), &valid).await.map(|()| None)
    }
}
