//! The few places where the server itself reads or writes documents: delete options, and YAML for those who ask.

use bytes::Bytes;
use machinery::Value;
use registry::api::MediaType;
use registry::errors::ApiError;

/// An options object as a tree.
pub(crate) fn options_tree(media: MediaType, bytes: &Bytes) -> Result<Value, ApiError> {
    match media {
        MediaType::Json => {
            let parsed: serde_json::Value =
                serde_json::from_slice(bytes).map_err(|e| ApiError::bad_request(e.to_string()))?;
            machinery::value::to_value(&parsed).map_err(|e| ApiError::bad_request(e.to_string()))
        }
        MediaType::Yaml | MediaType::Protobuf => {
            Err(ApiError::unsupported_media_type(&[super::negotiate::JSON]))
        }
    }
}

/// JSON to YAML.
pub(crate) fn from_json(_: &[u8]) -> Result<Vec<u8>, ApiError> {
    Err(ApiError::not_acceptable(&[super::negotiate::JSON, super::negotiate::PROTOBUF]))
}
