//! One response body type for handlers, and the usual answers.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};

use super::data::Data;

/// Why a body broke off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A boxed body.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Data, BoxError>;

/// All of it at once.
pub fn full(data: impl Into<Bytes>) -> Body {
    Full::new(Data::One(data.into())).map_err(|never| match never {}).boxed_unsync()
}

/// Nothing.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// Boxes any body.
pub fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_frame(|frame| frame.map_data(Data::One)).map_err(Into::into).boxed_unsync()
}

/// A response with a content type.
pub fn response(status: StatusCode, content_type: &'static str, data: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(data));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Plain text.
pub fn text(status: StatusCode, data: impl Into<Bytes>) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", data)
}

/// Go's `http.Error`: the text, a line break, and no sniffing.
pub fn error(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = text(status, format!("{message}\n"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Go's `http.NotFound`.
pub fn not_found() -> Response<Body> {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

/// JSON; a value that cannot be written is a 500.
pub fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(data) => response(status, "application/json", data),
        Err(e) => error(StatusCode::INTERNAL_SERVER_ERROR, &format!("encoding the response: {e}")),
    }
}

/// Collects a body of at most `limit` bytes.
///
/// # Errors
/// The body breaks off or is longer.
pub async fn read(mut body: Body, limit: usize) -> Result<Bytes, BoxError> {
    let mut data = bytes::BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(part) = frame?.into_data() {
            let part = Bytes::from(part);
            if data.len() + part.len() > limit {
                return Err(format!("the body is longer than {limit} bytes").into());
            }
            data.extend_from_slice(&part);
        }
    }
    Ok(data.freeze())
}
