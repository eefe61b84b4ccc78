//! Writes responses: documents in the agreed representation, and errors as `Status`.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/handlers/responsewriters`.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use registry::api::MediaType;
use registry::errors::ApiError;

use super::body::{self, Response, Splice};
use super::negotiate::{self, Output, Restrictions};
use super::query::Query;

/// A response with a fixed content type.
pub(crate) fn typed(code: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
    let mut response = Response::new(body::full(bytes));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A plain-text answer as Go's `http.Error` writes it.
pub(crate) fn plain(code: StatusCode, text: impl Into<String>) -> Response {
    let mut text = text.into();
    text.push('\n');
    let mut response = typed(code, "text/plain; charset=utf-8", text);
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// A document given as compact JSON pieces (no final newline), or as protobuf pieces, in the agreed representation.
pub(crate) fn document(
    code: StatusCode,
    output: &Output,
    headers: &HeaderMap,
    mut pieces: Vec<Bytes>,
) -> Response {
    match output.media {
        MediaType::Json if output.pretty => {
            let mut text = super::pretty::indent(&pieces.concat());
            text.push(b'\n');
            pieces = vec![text.into()];
        }
        MediaType::Json => pieces.push(Bytes::from_static(b"\n")),
        MediaType::Yaml | MediaType::Protobuf => {}
    }
    whole(code, output.content_type(), headers, pieces)
}

/// An answer that is sent as it is, compressed if it is long and the client takes that.
pub(crate) fn whole(
    code: StatusCode,
    content_type: &'static str,
    headers: &HeaderMap,
    pieces: Vec<Bytes>,
) -> Response {
    let (splice, gzip) = Splice::new(pieces, negotiate::accepts_gzip(headers));
    let mut response = Response::new(splice.boxed_unsync());
    *response.status_mut() = code;
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if gzip {
        compressed(out);
    }
    response
}

/// A document that is written as the client reads.
pub(crate) fn streamed(output: &Output, body: body::Body, gzip: bool) -> Response {
    let mut response = Response::new(body);
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static(output.content_type()));
    if gzip {
        compressed(out);
    }
    response
}

fn compressed(out: &mut HeaderMap) {
    out.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    out.append(VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// An error in the representation the client asked for, JSON when that is impossible.
pub(crate) fn error(error: &ApiError, headers: &HeaderMap, query: &Query) -> Response {
    let json =
        Output { media: MediaType::Json, transform: None, pretty: true, profile: None, params: vec![] };
    let output = negotiate::output(headers, query, Restrictions::None, false).unwrap_or(json);
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let bytes = match output.media {
        MediaType::Protobuf => error.to_protobuf(),
        MediaType::Json => error.to_json(),
        // JSON is YAML, should the one not become the other.
        MediaType::Yaml => super::yaml::from_json(&error.to_json()).unwrap_or_else(|_| error.to_json()),
    };
    let mut response = document(code, &output, headers, vec![bytes.into()]);
    let retry_after = error.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry_after > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
    }
    response
}
