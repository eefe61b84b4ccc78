//! The only place that knows how objects are written on the wire.

use api::MediaType;
use api::codec::ManagedFields;
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use machinery::proto::Envelope;
use machinery::proto::wire::Wire;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::api::Form;
use crate::client::{Answer, ContentType};
use crate::error::{Error, Result};
use crate::object::{Earlier, Kept, PartialObjectMetadata};
use crate::watch::{INITIAL_EVENTS_END, WatchEvent};

/// What typed calls use unless told otherwise.
pub(crate) const DEFAULT: ContentType = ContentType::Protobuf;

pub(crate) const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What a call answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Item,
    List,
    Watch,
}

/// The `Accept` header for objects of `K`. JSON is always there as the last choice, so no server has to refuse.
pub(crate) fn accept<K: Kept>(content: ContentType, form: Form, what: What) -> &'static str {
    let protobuf = content == ContentType::Protobuf
        && K::TYPE.is_some_and(|(version, kind)| api::types().kind(version, kind).is_some());
    match (form, what) {
        (Form::Full, _) if !protobuf => JSON,
        (Form::Full, What::Watch) => "application/vnd.kubernetes.protobuf;stream=watch,application/json",
        (Form::Full, _) => "application/vnd.kubernetes.protobuf,application/json",
        (Form::Metadata, What::List) if protobuf => {
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
             application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
        }
        (Form::Metadata, What::List) => {
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
        }
        (Form::Metadata, _) if protobuf => {
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,\
             application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
        }
        (Form::Metadata, _) => {
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
        }
    }
}

/// Reads an answer: an object of any form, or a list.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, answer: &Answer, managed: ManagedFields) -> Result<T> {
    decode_as(answer.media_type(), what, &answer.body, managed)
}

fn decode_as<T: DeserializeOwned>(media: &str, what: &str, body: &[u8], managed: ManagedFields) -> Result<T> {
    if media != PROTOBUF {
        return decode_json(what, body);
    }
    api::codec::decode_with(MediaType::Protobuf, body, managed)
        .map_err(|e| Error::Decode { what: what.to_string(), reason: e.to_string() })
}

/// Reads an answer that is one object, as [`decode`] and quicker where the type reads itself.
pub(crate) fn decode_object<K: Kept>(what: &str, answer: &Answer, managed: ManagedFields) -> Result<K> {
    object(answer.media_type(), what, &answer.body, managed, None)
}

fn object<K: Kept>(
    media: &str,
    what: &str,
    body: &[u8],
    managed: ManagedFields,
    earlier: Option<&Earlier<K>>,
) -> Result<K> {
    match by_itself(media, body, earlier) {
        Some(object) => Ok(object),
        None => decode_as(media, what, body, managed),
    }
}

/// An object whose type reads itself.
fn by_itself<K: Kept>(media: &str, body: &[u8], earlier: Option<&Earlier<K>>) -> Option<K> {
    let envelope = (media == PROTOBUF).then(|| Envelope::open(body).ok()).flatten()?;
    let expected = K::TYPE? == (envelope.api_version, envelope.kind);
    match earlier.filter(|_| expected) {
        Some(earlier) => K::from_later_message(envelope.raw, earlier),
        None => expected.then(|| K::from_message(envelope.raw)).flatten(),
    }
}

/// Reads JSON.
pub(crate) fn decode_json<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| Error::Decode { what: what.to_string(), reason: e.to_string() })
}

/// Writes an object; JSON if its type has no protobuf form.
pub(crate) fn encode<T: Serialize + 'static>(
    content: ContentType,
    what: &str,
    value: &T,
) -> Result<(&'static str, Bytes)> {
    if content == ContentType::Json {
        return encode_json(what, value);
    }
    match api::encode(MediaType::Protobuf, value) {
        Ok(bytes) => Ok((PROTOBUF, bytes.into())),
        Err(_) => encode_json(what, value),
    }
}

/// Puts a message into its envelope.
pub(crate) fn sealed(api_version: &str, kind: &str, message: &[u8]) -> (&'static str, Bytes) {
    (PROTOBUF, machinery::proto::seal(api_version, kind, message).into())
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
pub(crate) fn status(media: &str, body: &[u8]) -> Option<Status> {
    if media.starts_with(PROTOBUF) {
        api::decode(MediaType::Protobuf, body).ok()
    } else {
        serde_json::from_slice(body).ok()
    }
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
        if media.starts_with(PROTOBUF) { Self::Length } else { Self::Lines }
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
pub(crate) fn event<K: Kept>(
    frames: Frames,
    what: &str,
    frame: &[u8],
    managed: ManagedFields,
    earlier: Option<&Earlier<K>>,
) -> Result<WatchEvent<K>> {
    match frames {
        Frames::Lines => {
            let event: JsonEvent<'_> = serde_json::from_slice(frame)
                .map_err(|e| Error::Decode { what: what.to_string(), reason: e.to_string() })?;
            typed_event(&event.kind, JSON, what, event.object.get().as_bytes(), managed, None)
        }
        Frames::Length => {
            let (kind, object) = protobuf_event(frame)
                .map_err(|e| Error::Decode { what: what.to_string(), reason: e.to_string() })?;
            typed_event(kind, PROTOBUF, what, object, managed, earlier)
        }
    }
}

/// `meta.k8s.io/v1 WatchEvent`, without an envelope: type, and the object in one.
fn protobuf_event(frame: &[u8]) -> Result<(&str, &[u8]), machinery::proto::Error> {
    let (mut kind, mut object) = (&b""[..], &b""[..]);
    let mut event = Wire::new(frame);
    while !event.is_empty() {
        match event.tag()? {
            (1, 2) => kind = event.bytes()?,
            (2, 2) => {
                let mut extension = Wire::new(event.bytes()?);
                while !extension.is_empty() {
                    match extension.tag()? {
                        (1, 2) => object = extension.bytes()?,
                        (_, wire) => extension.skip(wire)?,
                    }
                }
            }
            (_, wire) => event.skip(wire)?,
        }
    }
    Ok((std::str::from_utf8(kind).unwrap_or("?"), object))
}

fn typed_event<K: Kept>(
    kind: &str,
    media: &str,
    what: &str,
    object: &[u8],
    managed: ManagedFields,
    earlier: Option<&Earlier<K>>,
) -> Result<WatchEvent<K>> {
    let read = || self::object(media, what, object, managed, earlier);
    Ok(match kind {
        "ADDED" => WatchEvent::Added(read()?),
        "MODIFIED" => WatchEvent::Modified(read()?),
        "DELETED" => WatchEvent::Deleted(read()?),
        "BOOKMARK" => bookmark(decode_as(media, what, object, managed)?),
        "ERROR" => WatchEvent::Error(Box::new(decode_as(media, what, object, managed)?)),
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
