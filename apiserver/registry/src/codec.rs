//! Between wire or stored bytes and trees in the hub version. The one place that knows the codecs.
//!
//! The hub version is the version a strategy works in: the served version, except for kinds whose versions differ in
//! more than their name ([`crate::conversion`]). Decoding checks the shape against the type table, defaults, and
//! converts; encoding goes the other way.

use ::api::resources::{ResourceRow, RowKind};
use bytes::Bytes;
use machinery::Value;

use crate::api::{Body, FieldValidation, Format, RequestContext};
use crate::conversion;
use crate::errors::ApiError;
use crate::meta;
use crate::shape::{self, Refusal};

/// Decodes, checks and defaults a request body of the given kind; the result is in the hub version.
///
/// # Errors
/// 400 for a body that is not an object of this kind, or has unknown or duplicate fields under `Strict`.
pub fn decode_body(request: &RequestContext, kind: RowKind, body: &Body) -> Result<Value, ApiError> {
    let strict = request.field_validation != FieldValidation::Ignore;
    let read = shape::read(kind, body, strict).map_err(|refusal| refused(kind, body, refusal))?;
    report_strict(request, kind, &read.strict)?;
    let mut object = read.value;
    stamp(&mut object, kind);
    shape::default(&mut object, kind, &meta::rfc3339(jiff::Timestamp::now()));
    conversion::to_hub(&mut object, kind)?;
    Ok(object)
}

/// What [`decode_body`] does after reading, for a tree made of `known`, a complete object of the same kind, by changing
/// a part of it.
///
/// # Errors
/// As of conversions.
pub fn complete_changed(mut object: Value, known: &Value, kind: RowKind) -> Result<Value, ApiError> {
    stamp(&mut object, kind);
    shape::default_changed(&mut object, known, kind, &meta::rfc3339(jiff::Timestamp::now()));
    conversion::to_hub(&mut object, kind)?;
    Ok(object)
}

/// As [`decode_body`], for the object that the client sent; the audit event shows it.
pub fn decode_sent(request: &RequestContext, kind: RowKind, body: &Body) -> Result<Value, ApiError> {
    let object = decode_body(request, kind, body)?;
    request.audit.request(&object, kind);
    Ok(object)
}

/// Turns strict decoding problems into warnings or the refusal, by the request's field validation.
pub fn report_strict(request: &RequestContext, kind: RowKind, problems: &[String]) -> Result<(), ApiError> {
    match request.field_validation {
        FieldValidation::Strict if !problems.is_empty() => {
            let why = format!("strict decoding error: {}", problems.join(", "));
            Err(cannot_be_handled(kind, kind.kind, &why))
        }
        FieldValidation::Warn => {
            problems.iter().for_each(|p| request.warnings.add(p.clone()));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Upstream's `transformDecodeError`.
fn refused(kind: RowKind, body: &Body, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Unrecognized(why) => unrecognized(kind, body, &why),
        Refusal::WrongVersion(text) => ApiError::bad_request(text),
        Refusal::Malformed { kind: sent, why } => cannot_be_handled(kind, &sent, &why),
    }
}

/// A body of which not even the kind could be read.
pub fn unrecognized(kind: RowKind, body: &Body, why: &str) -> ApiError {
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {why} ({})",
        kind.kind,
        summarize(&body.bytes)
    ))
}

/// Upstream's `summarizeData` with its limit of 30 bytes.
fn summarize(data: &[u8]) -> String {
    const MAX: usize = 30;
    let cut = &data[..data.len().min(MAX)];
    let more = if data.len() > MAX { " ..." } else { "" };
    match data.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(cut)),
        Some(_) => {
            let hex: String = cut.iter().map(|b| format!("{b:02x}")).collect();
            format!("{hex}{more}")
        }
    }
}

/// A body that says what it is, but cannot be read as what is wanted.
pub fn cannot_be_handled(kind: RowKind, sent: &str, why: &str) -> ApiError {
    ApiError::bad_request(format!(
        "{sent} in version {:?} cannot be handled as a {}: {why}",
        kind.version, kind.kind
    ))
}

/// Writes apiVersion and kind.
pub fn stamp(object: &mut Value, kind: RowKind) {
    if let Value::Map(map) = object {
        map.insert("apiVersion", kind.api_version());
        map.insert("kind", kind.kind);
    }
}

/// Decodes stored bytes into the hub version, with the defaults of today's version.
///
/// # Errors
/// 500 when the bytes are not what this server or upstream's writes.
pub fn decode_stored(row: &ResourceRow, bytes: &Bytes) -> Result<Value, ApiError> {
    let mut object = decode_complete(row, bytes)?;
    shape::default(&mut object, conversion::hub(row.kind), "");
    Ok(object)
}

/// As [`decode_stored`], for bytes that are known to hold today's defaults.
///
/// # Errors
/// As [`decode_stored`].
pub fn decode_complete(row: &ResourceRow, bytes: &Bytes) -> Result<Value, ApiError> {
    let stored = row.stored.as_ref().ok_or_else(|| ApiError::internal("resource is not stored"))?;
    let mut object = shape::decode_stored(stored, bytes)
        .map_err(|e| ApiError::internal(format!("stored {} cannot be decoded: {e}", row.resource)))?;
    stamp(&mut object, stored.kind);
    conversion::stored_to_hub(&mut object, stored.kind, row.kind)?;
    Ok(object)
}

/// Encodes a hub object as it is stored: stored version, no resourceVersion.
///
/// # Errors
/// 500 when the tree does not fit its type.
pub fn encode_stored(row: &ResourceRow, object: &Value) -> Result<Bytes, ApiError> {
    let stored = row.stored.as_ref().ok_or_else(|| ApiError::internal("resource is not stored"))?;
    let mut object = object.clone();
    meta::remove(&mut object, "resourceVersion");
    meta::remove(&mut object, "selfLink");
    conversion::hub_to_stored(&mut object, row.kind, stored.kind)?;
    stamp(&mut object, stored.kind);
    let format = if stored.json { Format::Json } else { Format::Protobuf };
    let bytes = shape::encode(&object, stored.kind, format)
        .map_err(|e| ApiError::internal(format!("{} cannot be encoded: {e}", row.resource)))?;
    if !stored.json {
        return Ok(bytes);
    }
    // Upstream's encoder ends JSON with a newline, and what differs is written again.
    let mut line = Vec::from(bytes);
    line.push(b'\n');
    Ok(line.into())
}

/// Encodes a hub object for a client in the served version.
///
/// # Errors
/// 500 when the tree does not fit its type.
pub fn encode(object: &Value, kind: RowKind, format: Format) -> Result<Bytes, ApiError> {
    let object = served(object, kind)?;
    if shape::is_custom(kind) {
        return match format {
            Format::Json | Format::JsonItem => Ok(machinery::json::encode_any(&object).into()),
            Format::Protobuf | Format::ProtobufItem => {
                Err(ApiError::not_acceptable(&["application/json", "application/yaml"]))
            }
        };
    }
    shape::encode(&object, kind, format)
        .map_err(|e| ApiError::internal(format!("{} cannot be encoded: {e}", kind.kind)))
}

/// A hub object in the served version.
///
/// # Errors
/// 501 for a version that cannot be converted to.
pub fn served(object: &Value, kind: RowKind) -> Result<Value, ApiError> {
    let mut object = object.clone();
    if !shape::is_custom(kind) {
        conversion::from_hub(&mut object, kind)?;
    }
    stamp(&mut object, kind);
    Ok(object)
}

/// The metadata of an object alone, as JSON or as a bare protobuf message.
pub fn metadata(object: &Value, kind: RowKind, protobuf: bool) -> Result<Bytes, String> {
    const ANNOTATIONS: [&str; 2] = ["metadata", "annotations"];
    let empty = Value::Map(machinery::Map::new());
    let whole = object.get("metadata").unwrap_or(&empty);
    let carrier = conversion::carrier(kind).filter(|key| meta::annotation(object, key).is_some());
    let Some(carrier) = carrier else { return shape::metadata(whole, protobuf) };
    let mut object = object.clone();
    if let Some(Value::Map(annotations)) = object.get_path_mut(&ANNOTATIONS) {
        annotations.remove(carrier);
        if annotations.is_empty() {
            meta::remove(&mut object, "annotations");
        }
    }
    shape::metadata(object.get("metadata").unwrap_or(&empty), protobuf)
}
