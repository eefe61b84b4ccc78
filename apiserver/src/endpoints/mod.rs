//! What answers a request once it is through the filter chain: non-resource paths here, resources in `resource`.
pub(crate) mod health;
mod index;
pub(crate) mod openid;
mod version;

use std::sync::Arc;

use http::{Method, StatusCode};
use hyper::body::Incoming;
use registry::errors::ApiError;

use crate::server::{Call, Server};
use crate::web::{Response, respond};
use crate::{discovery, openapi};

/// Finds and runs the endpoint.
pub(crate) async fn route(server: Arc<Server>, call: Call, body: Incoming) -> Response {
    if call.info.is_resource_request {
        return crate::resource::serve(server, call, body).await;
    }
    let path = call.info.path.clone();
    if path.starts_with("//") {
        return not_found();
    }
    let readable = matches!(call.parts.method, Method::GET | Method::HEAD);
    // Health pages look at no method.
    if let Some((page, check)) = health::Page::of(&path) {
        return server.health.answer(page, check, &call.query).await;
    }
    if !readable {
        return match path.as_str() {
            "/version" | "/api" | "/apis" => {
                let text = "the server does not allow this method on the requested resource";
                let error = ApiError::of_route(405, "MethodNotAllowed", text);
                respond::error(&error, &call.parts.headers, &call.query)
            }
            _ => not_found(),
        };
    }
    match path.as_str() {
        "/version" | "/version/" => version::document(),
        "/metrics" => crate::metrics::page(),
        "/" | "/index.html" => index::document(&server, &call),
        _ => discovery::answer(&server, &call)
            .or_else(|| server.openid.answer(&path))
            .or_else(|| openapi::answer(&server, &call))
            .unwrap_or_else(not_found),
    }
}

/// Go's answer for a path nobody serves.
pub(crate) fn not_found() -> Response {
    respond::plain(StatusCode::NOT_FOUND, "404 page not found")
}
