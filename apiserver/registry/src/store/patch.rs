//! PATCH: the four formats, applied to the present object in the version of the request.
//! Upstream: `pkg/endpoints/handlers/patch.go`.

use ::api::resources::RowKind;
use bytes::Bytes;
use machinery::Value;

use super::before;
use super::update::{self, Outcome, Source};
use crate::api::{Body, FieldValidation, Format, MediaType, Patch, PatchType};
use crate::codec;
use crate::errors::{ApiError, Cause};
use crate::managed_fields;
use crate::meta;
use crate::strategy::Call;

/// Patches the resource or a subresource that has the resource's shape.
pub async fn patch(call: &Call<'_>, patch: &Patch) -> Result<Outcome, ApiError> {
    check_options(call, patch)?;
    update::update(call, &Patcher { patch }).await
}

/// `ValidatePatchOptions`.
pub fn check_options(call: &Call<'_>, patch: &Patch) -> Result<(), ApiError> {
    use ::api::validation::field::{Error as FieldError, Path};
    let mut errors = Vec::new();
    if patch.kind == PatchType::Apply {
        if call.request.field_manager.is_empty() {
            let path = Path::new("fieldManager");
            errors.push(FieldError::required(&path, "is required for apply patch"));
        }
    } else if patch.force.is_some() {
        errors.push(FieldError::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid_fields("meta.k8s.io", "PatchOptions", "", &errors))
}

struct Patcher<'a> {
    patch: &'a Patch,
}

impl Source for Patcher<'_> {
    fn creates(&self) -> bool {
        self.patch.kind == PatchType::Apply
    }

    fn wanted(&self, call: &Call<'_>, current: Option<&Value>) -> Result<Value, ApiError> {
        let info = &call.request.info;
        let row = call.resource.row;
        let mut object = match (self.patch.kind, current) {
            (PatchType::Apply, _) => managed_fields::apply(call, current, self.patch)?,
            (_, Some(old)) => apply(call, old, row.kind, self.patch)?,
            (_, None) => return Err(ApiError::not_found(row.kind.group, row.resource, &info.name)),
        };
        if let (None, uid) = (current, meta::uid(&object))
            && !uid.is_empty()
        {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(ApiError::conflict(row.kind.group, row.resource, &info.name, why));
        }
        let namespace = if row.namespaced { info.namespace.as_str() } else { "" };
        before::ensure_namespace(&mut object, namespace)?;
        update::check_name(&object, &info.name)?;
        if let Some(old) = current {
            object.share(old);
        }
        if let (Some(old), false) = (current, self.creates()) {
            managed_fields::on_update(call, &mut object, old)?;
        }
        Ok(object)
    }
}

/// The patched object (of any kind, such as a Scale) in the hub version.
pub fn apply(call: &Call<'_>, old: &Value, kind: RowKind, patch: &Patch) -> Result<Value, ApiError> {
    let mut object = match strategic(old, kind, patch)? {
        Some(object) => object,
        None => by_text(call, old, kind, patch)?,
    };
    // The patch was made for this version; nothing else may slip in through the resourceVersion of another.
    if meta::resource_version(&object).is_empty() {
        let version = meta::resource_version(old).to_owned();
        meta::set(&mut object, "resourceVersion", version);
    }
    Ok(object)
}

/// A strategic patch that needs no text.
fn strategic(old: &Value, kind: RowKind, patch: &Patch) -> Result<Option<Value>, ApiError> {
    let custom = crate::shape::is_custom(kind);
    if patch.kind != PatchType::Strategic || custom || crate::conversion::hub(kind) != kind {
        return Ok(None);
    }
    let served = codec::served(old, kind)?;
    match crate::shape::strategic_patched(&served, kind, &patch.bytes) {
        Some(object) => codec::complete_changed(object, &served, kind).map(Some),
        None => Ok(None),
    }
}

fn by_text(call: &Call<'_>, old: &Value, kind: RowKind, patch: &Patch) -> Result<Value, ApiError> {
    let strict = call.request.field_validation != FieldValidation::Ignore;
    let (json, problems) = match patch.kind {
        PatchType::Json => {
            let problems = if strict { json_problems(&patch.bytes)? } else { Vec::new() };
            let doc = codec::encode(old, kind, Format::Json)?;
            (machinery::patch::json_patch(&doc, &patch.bytes)?, problems)
        }
        PatchType::Merge => {
            let problems = if strict {
                machinery::patch::merge_patch::strict_errors(&patch.bytes)
                    .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?
            } else {
                Vec::new()
            };
            let doc = codec::encode(old, kind, Format::Json)?;
            (machinery::patch::merge_patch(&doc, &patch.bytes)?, problems)
        }
        PatchType::Strategic if crate::shape::is_custom(kind) => {
            return Err(ApiError::unsupported_media_type(&[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/apply-patch+yaml",
            ]));
        }
        PatchType::Strategic => {
            crate::shape::strategic_patch(codec::served(old, kind)?, kind, &patch.bytes, strict)?
        }
        PatchType::Apply => return Err(ApiError::internal("an apply patch is not applied to bytes")),
    };
    report(call, &json, &problems)?;
    let body = Body { media_type: MediaType::Json, bytes: Bytes::from(json) };
    let decoded = match kind == call.resource.row.kind {
        true => call.resource.decode_body(call.request, &body),
        false => codec::decode_body(call.request, kind, &body),
    };
    decoded.map_err(|e| match patch.kind {
        PatchType::Strategic => match crate::shape::unrestorable(kind, &patch.bytes, &body.bytes) {
            Some((shown, why)) => invalid_text(shown.as_bytes(), &why),
            None => invalid_patch(&body, &e),
        },
        _ => invalid_patch(&body, &e),
    })
}

fn json_problems(patch: &Bytes) -> Result<Vec<String>, ApiError> {
    let problems = machinery::patch::json_patch::strict_errors(patch)
        .map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    Ok(problems)
}

/// Strict problems of the patch document itself.
fn report(call: &Call<'_>, patched: &[u8], problems: &[String]) -> Result<(), ApiError> {
    if problems.is_empty() {
        return Ok(());
    }
    if call.request.field_validation == FieldValidation::Warn {
        problems.iter().for_each(|p| call.warn(p.clone()));
        return Ok(());
    }
    let text = format!("strict decoding error: {}", problems.join(", "));
    Err(invalid_text(patched, &text))
}

/// A patched document that is no object of the kind: 422 about the field "patch".
fn invalid_patch(body: &Body, error: &ApiError) -> ApiError {
    let text = error.message.split_once(": ").map_or(error.message.as_str(), |(_, rest)| rest);
    invalid_text(&body.bytes, text)
}

fn invalid_text(document: &[u8], text: &str) -> ApiError {
    let message = format!(
        "Invalid value: {}: {text}",
        ::api::validation::field::quote(&String::from_utf8_lossy(document))
    );
    let cause = Cause { reason: "FieldValueInvalid".into(), message, field: "patch".into() };
    ApiError::invalid("", "", "", vec![cause])
}
