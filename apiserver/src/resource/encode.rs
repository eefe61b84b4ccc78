//! Objects and lists to responses, including the transformations a client can ask for.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/handlers/response.go`.

use bytes::Bytes;
use http::StatusCode;
use registry::api::{Format, Gvk, List, MediaType, ObjectRef};
use registry::errors::ApiError;

use super::framing;
use crate::server::Call;
use crate::tables;
use crate::web::negotiate::{Output, Transform};
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
            let raw = partial(object, &gvk, protobuf)?;
            Ok(if protobuf { framing::envelope(&gvk, &raw) } else { raw })
        }
        Some(Transform::Table(version)) => {
            let options = tables::Options::from_query(query)?;
            tables::render(version, &options, std::slice::from_ref(object), None)
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

/// `PartialObjectMetadata`: with kind in JSON, a bare message in protobuf.
fn partial(object: &ObjectRef, gvk: &Gvk, protobuf: bool) -> Result<Bytes, ApiError> {
    let corrupt = || ApiError::internal("an encoded object has no metadata");
    if protobuf {
        return framing::protobuf_metadata(&object.encode(Format::ProtobufItem)?).ok_or_else(corrupt);
    }
    let metadata = framing::json_metadata(&object.encode(Format::JsonItem)?).ok_or_else(corrupt)?;
    let head = format!("{{\"kind\":{:?},\"apiVersion\":{:?},\"metadata\":", gvk.kind, gvk.api_version());
    Ok([head.as_bytes(), &metadata, b"}"].concat().into())
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
    finish(code, call, output, vec![bytes_for(output, &call.query, object)?])
}

/// A list as a response.
pub(super) fn list(call: &Call, output: &Output, list: &List) -> Result<Response, ApiError> {
    let protobuf = output.media == MediaType::Protobuf;
    let pieces = match &output.transform {
        None => {
            let format = if protobuf { Format::ProtobufItem } else { Format::JsonItem };
            let items = list.items.iter().map(|i| i.encode(format)).collect::<Result<_, _>>()?;
            frame(&list.gvk, list, items, protobuf)
        }
        Some(Transform::PartialList(version)) => {
            let item = meta_gvk(version, "PartialObjectMetadata");
            let items = list.items.iter().map(|i| partial(i, &item, protobuf)).collect::<Result<_, _>>()?;
            frame(&meta_gvk(version, "PartialObjectMetadataList"), list, items, protobuf)
        }
        Some(Transform::Table(version)) => {
            let options = tables::Options::from_query(&call.query)?;
            vec![tables::render(version, &options, &list.items, Some(list))?]
        }
        Some(Transform::Partial(_)) => {
            let kind = &list.gvk.kind;
            let text = format!(
                "you requested PartialObjectMetadata, but the requested object is a list (*core.{kind})"
            );
            return Err(ApiError::new(406, "NotAcceptable", text));
        }
    };
    finish(StatusCode::OK, call, output, pieces)
}

fn frame(gvk: &Gvk, list: &List, items: Vec<Bytes>, protobuf: bool) -> Vec<Bytes> {
    if protobuf { framing::protobuf_list(gvk, list, items) } else { framing::json_list(gvk, list, items) }
}

fn finish(code: StatusCode, call: &Call, output: &Output, pieces: Vec<Bytes>) -> Result<Response, ApiError> {
    if output.media == MediaType::Yaml {
        let yaml = crate::web::yaml::from_json(&pieces.concat())?;
        return Ok(respond::document(code, output, &call.parts.headers, vec![yaml.into()]));
    }
    Ok(respond::document(code, output, &call.parts.headers, pieces))
}
