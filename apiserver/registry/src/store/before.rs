//! What happens to every object before it is created or changed, whatever its kind.
//! Upstream: `pkg/registry/rest/create.go`, `update.go`, `meta.go`.

use ::api::validation::field::{self, Error as FieldError, Path};
use ::api::validation::objectmeta;
use machinery::Value;

use crate::errors::ApiError;
use crate::meta;
use crate::strategy::{Call, typed_metadata, validate_metadata};

/// The object's namespace must be the request's; an unset one becomes it.
pub fn ensure_namespace(object: &mut Value, namespace: &str) -> Result<(), ApiError> {
    let own = meta::namespace(object);
    if own == namespace {
        return Ok(());
    }
    if own.is_empty() {
        meta::set(object, "namespace", namespace);
    } else if namespace.is_empty() {
        meta::remove(object, "namespace");
    } else {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Drops repeated owner references with upstream's warning.
pub fn dedup_owners(call: &Call<'_>, object: &mut Value, after_admission: bool) {
    let dropped = meta::dedup_owner_references(object);
    if !dropped.is_empty() {
        let when = if after_admission { " after mutating admission happens" } else { "" };
        call.warn(format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            dropped.join(", ")
        ));
    }
}

fn refused(call: &Call<'_>, object: &Value, errors: Vec<FieldError>) -> ApiError {
    let errors = if call.resource.strategy.declares(call) { field::without_repeated(errors) } else { errors };
    invalid(call, meta::name(object), &errors)
}

/// 422 for the kind of the resource.
pub fn invalid(call: &Call<'_>, name: &str, errors: &[FieldError]) -> ApiError {
    let kind = crate::conversion::hub(call.resource.row.kind);
    ApiError::invalid_fields(kind.group, kind.kind, name, errors)
}

/// `rest.BeforeCreate`.
pub fn before_create(call: &Call<'_>, object: &mut Value) -> Result<(), ApiError> {
    let row = call.resource.row;
    let namespace = if row.namespaced { call.request.info.namespace.as_str() } else { "" };
    ensure_namespace(object, namespace)?;
    call.resource.strategy.prepare_for_create(call, object);
    let (mut errors, warnings) = call.resource.strategy.judge_new(call, object);
    if errors.is_empty() {
        errors = validate_metadata(call, object, objectmeta::name_is_path_segment);
    }
    if !errors.is_empty() {
        return Err(refused(call, object, errors));
    }
    warnings.into_iter().for_each(|warning| call.warn(warning));
    call.resource.strategy.canonicalize(object);
    Ok(())
}

/// `rest.BeforeUpdate`.
pub fn before_update(call: &Call<'_>, object: &mut Value, old: &Value) -> Result<(), ApiError> {
    let row = call.resource.row;
    let namespace = if row.namespaced { call.request.info.namespace.as_str() } else { "" };
    ensure_namespace(object, namespace)?;
    let old_field = |field: &str| old.get_path(&["metadata", field]).cloned();
    meta::set(object, "generation", old_field("generation").unwrap_or(Value::Null));
    call.resource.strategy.prepare_for_update(call, object, old);
    if meta::uid(object).is_empty() {
        meta::set(object, "uid", meta::uid(old));
    }
    for field in ["creationTimestamp", "deletionTimestamp"] {
        if let Some(value) = old_field(field).filter(|v| !v.is_null()) {
            meta::set(object, field, value);
        }
    }
    if meta::deletion_grace_period_seconds(object).is_none()
        && let Some(seconds) = meta::deletion_grace_period_seconds(old)
    {
        meta::set(object, "deletionGracePeriodSeconds", seconds);
    }
    let mut errors = validate_common(call, object, old);
    errors.extend(call.resource.strategy.validate_update(call, object, old));
    if !errors.is_empty() {
        return Err(refused(call, object, errors));
    }
    for warning in call.resource.strategy.warnings_on_update(call, object, old) {
        call.warn(warning);
    }
    call.resource.strategy.canonicalize(object);
    Ok(())
}

fn validate_common(call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate_metadata(call, object, objectmeta::name_is_path_segment);
    match (typed_metadata(object), typed_metadata(old)) {
        (Ok(new), Ok(old)) => {
            let path = Path::new("metadata");
            errors.extend(objectmeta::validate_object_meta_update(&new, &old, &path));
            if call.resource.strategy.judges_finalizers(call) {
                errors.extend(objectmeta::validate_kube_finalizers(&new, &path));
            }
        }
        (Err(error), _) | (_, Err(error)) => errors.push(error),
    }
    errors
}
