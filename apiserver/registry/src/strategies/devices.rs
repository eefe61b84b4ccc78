//! resource.k8s.io: device classes, claims, their templates, slices.
//!
//! Access for administrators needs a label of the namespace, and a claim's status needs rights of its own: both are
//! asked before anything is validated (`begin_*`), where upstream tells them first among the invalid fields.
//! Upstream: `pkg/registry/resource/{deviceclass,resourceclaim,resourceclaimtemplate,resourceslice}/strategy.go`,
//! `pkg/registry/resource/utils.go`.

mod drop;
mod rights;
mod selector;

use ::api::validation::field::{Bad, Error as FieldError, Path};
use ::api::validation::objectmeta::{
    name_is_subdomain, validate_object_meta_update, validate_template_object_meta,
};
use ::api::validation::resource;
use async_trait::async_trait;
use machinery::{Value, golang};

use super::{long_named, with_declared};
use crate::errors::ApiError;
use crate::strategy::{
    Call, Finish, Strategy, generic_prepare_for_create, generic_prepare_for_update,
    reset_metadata_for_status, typed_metadata, validate_kube_metadata,
};

type Begun = Result<Option<Box<dyn Finish>>, ApiError>;

fn metadata_update(object: &Value, old: &Value) -> Vec<FieldError> {
    match (typed_metadata(object), typed_metadata(old)) {
        (Ok(new), Ok(old)) => validate_object_meta_update(&new, &old, &Path::new("metadata")),
        (Err(error), _) | (_, Err(error)) => vec![error],
    }
}

fn spec(object: &Value) -> Value {
    object.get("spec").cloned().unwrap_or_default()
}

/// Device classes.
pub struct DeviceClasses;

impl Strategy for DeviceClasses {
    fn judges_finalizers(&self, _call: &Call<'_>) -> bool {
        false
    }

    fn validate(&self, call: &Call<'_>, class: &Value) -> Vec<FieldError> {
        let mut errors = long_named(call, class);
        errors.extend(resource::class::validate_spec(class, None, &selector::verdict));
        with_declared(call, errors, class, None)
    }

    fn validate_update(&self, call: &Call<'_>, class: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = long_named(call, class);
        errors.extend(metadata_update(class, old));
        errors.extend(resource::class::validate_spec(class, Some(old), &selector::verdict));
        with_declared(call, errors, class, Some(old))
    }
}

/// Claims.
pub struct ResourceClaims;

#[async_trait]
impl Strategy for ResourceClaims {
    fn judges_finalizers(&self, call: &Call<'_>) -> bool {
        !call.subresource.is_empty()
    }

    fn prepare_for_create(&self, call: &Call<'_>, claim: &mut Value) {
        generic_prepare_for_create(call, claim);
        drop::claim_spec(claim, &["spec"], None);
    }

    fn validate(&self, call: &Call<'_>, claim: &Value) -> Vec<FieldError> {
        let mut errors = validate_kube_metadata(call, claim, name_is_subdomain);
        errors.extend(resource::claim::validate_spec(&spec(claim), &selector::verdict, &Path::new("spec")));
        with_declared(call, errors, claim, None)
    }

    fn prepare_for_update(&self, call: &Call<'_>, claim: &mut Value, old: &Value) {
        generic_prepare_for_update(call, claim, old);
        if call.is_status() {
            reset_metadata_for_status(claim, old);
            drop::claim_status(claim, old);
        } else {
            drop::claim_spec(claim, &["spec"], Some(old));
        }
    }

    fn validate_update(&self, call: &Call<'_>, claim: &Value, old: &Value) -> Vec<FieldError> {
        let errors = if call.is_status() {
            let mut errors = metadata_update(claim, old);
            errors.extend(resource::status::validate_update(claim, old));
            errors
        } else {
            // The rest cannot have changed.
            let mut errors = validate_kube_metadata(call, claim, name_is_subdomain);
            errors.extend(metadata_update(claim, old));
            errors
        };
        with_declared(call, errors, claim, Some(old))
    }

    async fn begin_create(&self, call: &Call<'_>, claim: &mut Value) -> Begun {
        rights::admin_in_spec(call, claim, &["spec"]).await.map(|()| None)
    }

    async fn begin_update(&self, call: &Call<'_>, claim: &mut Value, old: &Value) -> Begun {
        if call.is_status() {
            rights::status(call, claim, old).await?;
        }
        Ok(None)
    }
}

/// Templates of claims.
pub struct ResourceClaimTemplates;

fn validate_template(call: &Call<'_>, template: &Value) -> Vec<FieldError> {
    let mut errors = validate_kube_metadata(call, template, name_is_subdomain);
    let (outer, path) = (spec(template), Path::new("spec"));
    match typed_metadata(&outer) {
        Ok(metadata) => errors.extend(validate_template_object_meta(&metadata, &path.child("metadata"))),
        Err(error) => errors.push(error),
    }
    errors.extend(resource::claim::validate_spec(&spec(&outer), &selector::verdict, &path.child("spec")));
    errors
}

#[async_trait]
impl Strategy for ResourceClaimTemplates {
    fn judges_finalizers(&self, _call: &Call<'_>) -> bool {
        false
    }

    fn prepare_for_create(&self, call: &Call<'_>, template: &mut Value) {
        generic_prepare_for_create(call, template);
        drop::claim_spec(template, &["spec", "spec"], None);
    }

    fn validate(&self, call: &Call<'_>, template: &Value) -> Vec<FieldError> {
        with_declared(call, validate_template(call, template), template, None)
    }

    fn prepare_for_update(&self, call: &Call<'_>, template: &mut Value, old: &Value) {
        generic_prepare_for_update(call, template, old);
        drop::claim_spec(template, &["spec", "spec"], Some(old));
    }

    fn validate_update(&self, call: &Call<'_>, template: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate_template(call, template);
        errors.extend(metadata_update(template, old));
        if !spec(template).semantic_eq(&spec(old)) {
            let bad = Bad::Raw(spec(template).to_string());
            errors.push(FieldError::invalid(&Path::new("spec"), bad, "field is immutable"));
        }
        with_declared(call, errors, template, Some(old))
    }

    async fn begin_create(&self, call: &Call<'_>, template: &mut Value) -> Begun {
        rights::admin_in_spec(call, template, &["spec", "spec"]).await.map(|()| None)
    }
}

/// Slices.
pub struct ResourceSlices;

fn driver_warning(slice: &Value) -> Vec<String> {
    let driver = slice.str_at(&["spec", "driver"]).unwrap_or_default();
    if driver.to_lowercase() == driver {
        return Vec::new();
    }
    let driver = golang::quote(driver);
    vec![format!("spec.driver: driver names should be lowercase; {driver} contains uppercase characters")]
}

impl Strategy for ResourceSlices {
    fn warnings_on_create(&self, _call: &Call<'_>, slice: &Value) -> Vec<String> {
        driver_warning(slice)
    }

    fn warnings_on_update(&self, _call: &Call<'_>, slice: &Value, _old: &Value) -> Vec<String> {
        driver_warning(slice)
    }

    fn prepare_for_create(&self, call: &Call<'_>, slice: &mut Value) {
        generic_prepare_for_create(call, slice);
        drop::slice(slice, None);
    }

    fn validate(&self, call: &Call<'_>, slice: &Value) -> Vec<FieldError> {
        let mut errors = validate_kube_metadata(call, slice, name_is_subdomain);
        errors.extend(resource::slice::validate_spec(slice, None));
        with_declared(call, errors, slice, None)
    }

    fn prepare_for_update(&self, call: &Call<'_>, slice: &mut Value, old: &Value) {
        generic_prepare_for_update(call, slice, old);
        drop::slice(slice, Some(old));
    }

    fn validate_update(&self, call: &Call<'_>, slice: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = metadata_update(slice, old);
        errors.extend(resource::slice::validate_spec(slice, Some(old)));
        with_declared(call, errors, slice, Some(old))
    }
}
