//! Answering a scrape, gzip included. Upstream: prometheus/client_golang promhttp.

use std::io::Write;

use http::{HeaderValue, Request, StatusCode, header};

use super::{Registry, text};
use crate::serving::body::{self, Body};
use crate::serving::mux::{Handler, immediate};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves a registry. `PUT`, `POST` and so on are answered like `GET`, as upstream does.
pub fn handler(registry: &Registry) -> Handler {
    let registry = registry.clone();
    immediate(move |request| {
        let accepts = |name: header::HeaderName, what: &str| {
            request.headers().get_all(name).iter().any(|v| v.to_str().is_ok_and(|v| v.contains(what)))
        };
        let families = registry.gather();
        // Upstream never answers OpenMetrics, and the bounds it writes (`le="1.0"`) are other series than `le="1"`: only a
        // client that takes nothing else gets it.
        let only_openmetrics = accepts(header::ACCEPT, "application/openmetrics-text")
            && !accepts(header::ACCEPT, "text/plain")
            && !accepts(header::ACCEPT, "*/*");
        let (content_type, data) = if only_openmetrics {
            (OPENMETRICS, text::openmetrics(&families))
        } else {
            (TEXT, text::prometheus(&families))
        };
        respond(request, content_type, data, accepts(header::ACCEPT_ENCODING, "gzip"))
    })
}

fn respond(_: &Request<Body>, content_type: &'static str, data: String, gzip: bool) -> http::Response<Body> {
    if !gzip {
        return body::response(StatusCode::OK, content_type, data);
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    match encoder.write_all(data.as_bytes()).and_then(|()| encoder.finish()) {
        Ok(packed) => {
            let mut response = body::response(StatusCode::OK, content_type, packed);
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        }
        Err(_) => body::response(StatusCode::OK, content_type, data),
    }
}
