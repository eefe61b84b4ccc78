//! The few places where the server itself reads or writes documents: delete options, and YAML for those who ask.

use std::borrow::Cow;

use bytes::Bytes;
use machinery::{Value, json, proto, yaml};
use registry::api::MediaType;
use registry::errors::ApiError;

/// The body of a delete request as a tree of `DeleteOptions`.
pub(crate) fn delete_options(media: MediaType, bytes: &Bytes) -> Result<Value, ApiError> {
    let types = ::api::types();
    let id = types
        .by_name("meta/v1.DeleteOptions")
        .ok_or_else(|| ApiError::internal("meta/v1.DeleteOptions is not in the type table"))?;
    if media == MediaType::Protobuf {
        let envelope = proto::Envelope::open(bytes).map_err(|e| ApiError::bad_request(e.to_string()))?;
        check_kind(envelope.api_version, envelope.kind)?;
        let decoded = proto::decode_message(types, id, envelope.raw);
        return decoded.map_err(|e| ApiError::bad_request(e.to_string()));
    }
    let document = match media {
        MediaType::Yaml => {
            Cow::Owned(yaml::to_json(bytes).map_err(|e| ApiError::bad_request(e.to_string()))?)
        }
        _ => Cow::Borrowed(&**bytes),
    };
    let (version, kind) = json::type_meta(&document).map_err(|e| ApiError::bad_request(e.to_string()))?;
    check_kind(&version, &kind)?;
    let decoded =
        json::decode(types, id, &document, false).map_err(|e| ApiError::bad_request(e.to_string()))?;
    Ok(decoded.value)
}

/// Options that say what they are must be delete options, of whatever version.
fn check_kind(version: &str, kind: &str) -> Result<(), ApiError> {
    let version = if version.is_empty() { "meta.k8s.io/v1" } else { version };
    Err(ApiError::bad_request(match kind {
        "" | "DeleteOptions" => return Ok(()),
        "Status" if version == "v1" => {
            "converting (v1.Status) to (v1.DeleteOptions): unknown conversion".to_owned()
        }
        _ => format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
        ),
    }))
}

/// JSON to YAML.
pub(crate) fn from_json(document: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut out = String::new();
    yaml::write(&json::parse(document).map_err(ApiError::internal)?, &mut out);
    Ok(out.into_bytes())
}
