//! The few places where the server itself reads or writes documents: delete options, and YAML for those who ask.

use bytes::Bytes;
use machinery::Value;
use registry::api::MediaType;
use registry::errors::ApiError;

/// An options object as a tree.
pub(crate) fn options_tree(media: MediaType, bytes: &Bytes) -> Result<Value, ApiError> {
    let wrong = |why: String| ApiError::bad_request(why);
    match media {
        MediaType::Json => machinery::json::parse(bytes).map_err(|e| wrong(e.to_string())),
        MediaType::Protobuf => {
            let decoded = machinery::proto::decode(::api::types(), bytes);
            decoded.map(|(_, tree)| tree).map_err(|e| wrong(e.to_string()))
        }
        MediaType::Yaml => Err(ApiError::unsupported_media_type(&[super::negotiate::JSON])),
    }
}

/// JSON to YAML.
pub(crate) fn from_json(_: &[u8]) -> Result<Vec<u8>, ApiError> {
    Err(ApiError::not_acceptable(&[super::negotiate::JSON, super::negotiate::PROTOBUF]))
}
