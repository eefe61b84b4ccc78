//! Bindings of admission policies.

use ::api::validation::admission_policy::{self as common, binding as rules};
use ::api::validation::field::Error as FieldError;
use async_trait::async_trait;
use machinery::Value;

use super::super::{validated, with_declared};
use super::authorize::{self, Policies};
use crate::errors::ApiError;
use crate::meta;
use crate::strategy::{Call, Finish, Strategy};

/// Bindings of one kind of policies.
pub struct Bindings(pub Policies);

impl Bindings {
    fn check(&self, object: &Value, is_new: bool) -> Vec<FieldError> {
        match self.0 {
            Policies::Validating => validated(object, |new| rules::validate_validating(new, is_new)),
            Policies::Mutating => validated(object, |new| rules::validate_mutating(new, is_new)),
        }
    }
}

#[async_trait]
impl Strategy for Bindings {
    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        with_declared(call, self.check(object, true), object, None)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        with_declared(call, self.check(object, false), object, Some(old))
    }

    fn warnings_on_update(&self, _call: &Call<'_>, object: &Value, _old: &Value) -> Vec<String> {
        common::warnings(meta::name(object))
    }

    async fn begin_create(
        &self,
        call: &Call<'_>,
        object: &mut Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        let valid = || self.check(object, true).is_empty();
        authorize::binding(call, self.0, object, None, &valid).await.map(|()| None)
    }

    async fn begin_update(
        &self,
        call: &Call<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        let valid = || self.check(object, false).is_empty();
        authorize::binding(call, self.0, object, Some(old), &valid).await.map(|()| None)
    }
}
