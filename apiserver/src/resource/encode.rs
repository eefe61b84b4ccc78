//! Objects and lists to responses, including the transformations a client can ask for.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/handlers/response.go`.

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use registry::api::{Format, Gvk, List, MediaType, ObjectRef};
use registry::errors::ApiError;

use super::framing;
use super::stream::{Body, Style, Written};
use crate::chain::spans;
use crate::server::Call;
use crate::tables;
use crate::web::negotiate::{self, Output, Transform};
use crate::web::query::Query;
use crate::web::{Response, respond};

fn meta_gvk(version: &str, kind: &str) -> Gvk {
    Gvk { group: "meta.k8s.io".to_owned(), version: version.to_owned(), kind: kind.to_owned() }
}

/// One object in one wire form, transformed if asked.
pub(super) fn bytes_for(output: &Output, query: &Query, object: &ObjectRef) -> Result<Bytes, ApiError> {
    let protobuf = output.media == MediaType::Protobuf;
    match &output.transform {
        None => object.encode(if protobuf { Format::Protobuf } else { Format::Json }),
        Some(Transform::Partial(version)) => {
            let gvk = meta_gvk(version, "PartialObjectMetadata");
            partial(object, &gvk, protobuf)
        }
        Some(Transform::Table(version)) => {
            let options = tables::Options::from_query(query)?;
            tables::Renderer::new(version, options, object.gvk(), object.columns()).one(object)
        }
        Some(Transform::PartialList(_)) => Err(not_a_list(&object.gvk().kind)),
    }
}

/// Upstream names the Go type; ours is the same name.
fn not_a_list(kind: &str) -> ApiError {
    let text = format!(
        "you requested PartialObjectMetadataList, but the requested object is not a list (*core.{kind})"
    );
    ApiError::new(406, "NotAcceptable", text)
}

/// Everything of a JSON `PartialObjectMetadata` before its metadata.
pub(super) fn partial_head(gvk: &Gvk) -> String {
    format!("{{\"kind\":{:?},\"apiVersion\":{:?},\"metadata\":", gvk.kind, gvk.api_version())
}

/// `PartialObjectMetadata` of an object.
fn partial(object: &ObjectRef, gvk: &Gvk, protobuf: bool) -> Result<Bytes, ApiError> {
    let metadata = object.metadata(protobuf)?;
    if protobuf {
        let mut message = BytesMut::with_capacity(metadata.len() + 6);
        framing::field(&mut message, 1, &metadata);
        return Ok(framing::envelope(gvk, &message));
    }
    Ok([partial_head(gvk).as_bytes(), &metadata, b"}"].concat().into())
}

/// `PartialObjectMetadata` as JSON, for table rows.
pub(super) fn partial_json(object: &ObjectRef, version: &str) -> Result<Bytes, ApiError> {
    partial(object, &meta_gvk(version, "PartialObjectMetadata"), false)
}

/// One object as a response.
pub(super) fn object(
    code: StatusCode,
    call: &Call,
    output: &Output,
    object: &ObjectRef,
) -> Result<Response, ApiError> {
    traces::event("About to write a response", Vec::new);
    let span = spans::response("SerializeObject", call, output.content_type());
    let bytes = bytes_for(output, &call.query, object)?;
    if call.audit.wants_response() {
        call.audit.response_document(match output.media {
            MediaType::Protobuf => {
                let json = Output { media: MediaType::Json, ..output.clone() };
                bytes_for(&json, &call.query, object)?
            }
            _ => bytes.clone(),
        });
    }
    let response = finish(code, call, output, vec![bytes])?;
    spans::wrote(&span, &response);
    traces::event("Writing http response done", Vec::new);
    Ok(response)
}

/// A list as a response.
pub(super) fn list(call: &Call, output: &Output, list: List) -> Result<Response, ApiError> {
    let span = spans::response("SerializeObject", call, output.content_type());
    let response = list_response(call, output, list)?;
    spans::wrote(&span, &response);
    Ok(response)
}

fn list_response(call: &Call, output: &Output, list: List) -> Result<Response, ApiError> {
    if call.audit.wants_response() {
        // A second time, as JSON and whole: the event holds it all.
        let json = Output { media: MediaType::Json, ..output.clone() };
        match list_body(call, &json, list.clone())? {
            ListBody::Table(whole) => call.audit.response_document(whole),
            ListBody::Items(body) => call.audit.response_document(body.whole()?),
        }
    }
    let body = match list_body(call, output, list)? {
        ListBody::Table(table) => return finish(StatusCode::OK, call, output, vec![table]),
        ListBody::Items(body) => body,
    };
    if output.media == MediaType::Yaml || output.pretty {
        return finish(StatusCode::OK, call, output, vec![body.whole()?]);
    }
    let headers = &call.parts.headers;
    Ok(match body.start(negotiate::accepts_gzip(headers))? {
        Written::Whole(bytes) => respond::typed(StatusCode::OK, output.content_type(), bytes),
        Written::Stream(body, gzip) => respond::streamed(output, body.boxed_unsync(), gzip),
    })
}

/// A list on its way into a response.
enum ListBody {
    /// A table without rows of its own.
    Table(Bytes),
    Items(Box<Body>),
}

fn list_body(call: &Call, output: &Output, mut list: List) -> Result<ListBody, ApiError> {
    let protobuf = output.media == MediaType::Protobuf;
    let (gvk, style) = match &output.transform {
        None => {
            let format = if protobuf { Format::ProtobufItem } else { Format::JsonItem };
            (list.gvk.clone(), Style::Objects(format))
        }
        Some(Transform::PartialList(version)) => {
            let head = partial_head(&meta_gvk(version, "PartialObjectMetadata"));
            let style = if protobuf { Style::PartialProtobuf } else { Style::PartialJson(head) };
            (meta_gvk(version, "PartialObjectMetadataList"), style)
        }
        Some(Transform::Table(version)) => {
            let options = tables::Options::from_query(&call.query)?;
            let kind = list.gvk.kind.strip_suffix("List").unwrap_or(&list.gvk.kind).to_owned();
            let gvk = Gvk { kind, ..list.gvk.clone() };
            let mut renderer = tables::Renderer::new(version, options, &gvk, list.columns.clone());
            if let Some(table) = renderer.without_rows(&list) {
                return Ok(ListBody::Table(table));
            }
            renderer.order(&mut list.items);
            (gvk, Style::Rows(renderer))
        }
        Some(Transform::Partial(_)) => {
            let kind = &list.gvk.kind;
            let text = format!(
                "you requested PartialObjectMetadata, but the requested object is a list (*core.{kind})"
            );
            return Err(ApiError::new(406, "NotAcceptable", text));
        }
    };
    Body::new(&gvk, list, style).map(|body| ListBody::Items(Box::new(body)))
}

fn finish(code: StatusCode, call: &Call, output: &Output, pieces: Vec<Bytes>) -> Result<Response, ApiError> {
    if output.media == MediaType::Yaml {
        let yaml = crate::web::yaml::from_json(&pieces.concat())?;
        return Ok(respond::document(code, output, &call.parts.headers, vec![yaml.into()]));
    }
    Ok(respond::document(code, output, &call.parts.headers, pieces))
}
