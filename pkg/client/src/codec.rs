//! The only place that knows how objects are written on the wire.

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::api::Form;
use crate::client::{Answer, ContentType};
use crate::error::{Error, Result};
use crate::object::{Meta, ObjectList, PartialObjectMetadata};
use crate::watch::{INITIAL_EVENTS_END, WatchEvent};

/// What typed calls use unless told otherwise.
pub(crate) const DEFAULT: ContentType = ContentType::Json;

pub(crate) const JSON: &str = "application/json";

/// What a call answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Item,
    List,
    Watch,
}

/// The `Accept` header for objects of `K`.
pub(crate) fn accept<K: Meta>(_content: ContentType, form: Form, what: What) -> String {
    match (form, what) {
        (Form::Full, _) => JSON.to_string(),
        (Form::Metadata, What::List) => {
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json".to_string()
        }
        (Form::Metadata, _) => {
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json".to_string()
        }
    }
}

/// Reads an object of any form.
pub(crate) fn decode<T: DeserializeOwned + 'static>(what: &str, answer: &Answer) -> Result<T> {
    decode_json(what, &answer.body)
}

/// Reads a list.
pub(crate) fn decode_list<K: Meta>(what: &str, answer: &Answer) -> Result<ObjectList<K>> {
    decode_json(what, &answer.body)
}

/// Reads JSON.
pub(crate) fn decode_json<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| Error::Decode { what: what.to_string(), reason: e.to_string() })
}

/// Writes an object.
pub(crate) fn encode<T: Serialize + 'static>(
    _content: ContentType,
    what: &str,
    value: &T,
) -> Result<(&'static str, Bytes)> {
    encode_json(what, value)
}

/// Writes JSON.
pub(crate) fn encode_json<T: Serialize>(what: &str, value: &T) -> Result<(&'static str, Bytes)> {
    let bytes = serde_json::to_vec(value)
        .map_err(|e| Error::Encode { what: what.to_string(), reason: e.to_string() })?;
    Ok((JSON, bytes.into()))
}

/// Whether the server refused the format, so that JSON should be tried.
pub(crate) fn retry_as_json(e: &Error, content_type: &str) -> bool {
    content_type != JSON && (e.is_unsupported_media_type() || e.is_not_acceptable())
}

/// Reads a `Status`, if the body is one.
pub(crate) fn status(_media: &str, body: &[u8]) -> Option<Status> {
    serde_json::from_slice(body).ok()
}

/// How events are separated in a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frames {
    /// JSON, one object a line.
    Lines,
    /// Protobuf, each with its length before it.
    Length,
}

impl Frames {
    pub fn of(headers: &http::HeaderMap) -> Self {
        let media = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        if media.starts_with("application/vnd.kubernetes.protobuf") { Self::Length } else { Self::Lines }
    }
}

#[derive(Deserialize)]
struct JsonEvent<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Reads one event of a watch.
pub(crate) fn event<K: Meta>(frames: Frames, what: &str, frame: &[u8]) -> Result<WatchEvent<K>> {
    if frames == Frames::Length {
        return Err(Error::Decode { what: what.to_string(), reason: "protobuf was not asked for".into() });
    }
    let event: JsonEvent<'_> = serde_json::from_slice(frame)
        .map_err(|e| Error::Decode { what: what.to_string(), reason: e.to_string() })?;
    let object = event.object.get().as_bytes();
    Ok(match &*event.kind {
        "ADDED" => WatchEvent::Added(decode_json(what, object)?),
        "MODIFIED" => WatchEvent::Modified(decode_json(what, object)?),
        "DELETED" => WatchEvent::Deleted(decode_json(what, object)?),
        "BOOKMARK" => bookmark(decode_json(what, object)?),
        "ERROR" => WatchEvent::Error(Box::new(decode_json(what, object)?)),
        other => {
            return Err(Error::Decode {
                what: what.to_string(),
                reason: format!("unknown event type {other:?}"),
            });
        }
    })
}

fn bookmark<K>(object: PartialObjectMetadata) -> WatchEvent<K> {
    let meta = object.metadata;
    let end = meta.annotations.is_some_and(|a| a.get(INITIAL_EVENTS_END).is_some_and(|v| v == "true"));
    WatchEvent::Bookmark {
        resource_version: meta.resource_version.unwrap_or_default(),
        initial_events_end: end,
    }
}
