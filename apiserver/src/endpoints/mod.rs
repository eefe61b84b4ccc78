//! What answers a request once it is through the filter chain: non-resource paths here, resources in `resource`.
pub(crate) mod health;
pub(crate) mod index;
pub(crate) mod openid;
mod version;

use std::sync::Arc;

use http::{Method, StatusCode};
use registry::errors::ApiError;

use crate::flowcontrol::dump;
use crate::server::{Call, Limiter, Server};
use crate::web::{Response, Upload, respond};
use crate::{discovery, openapi};

/// Finds and runs the endpoint.
pub(crate) async fn route(server: Arc<Server>, call: Call, body: Upload) -> Response {
    if let Some(service) = server.aggregator.target(&call.info.path) {
        return server.aggregator.serve(&service, call, body).await;
    }
    if call.info.is_resource_request {
        return crate::resource::serve(server, call, body).await;
    }
    let path = call.info.path.clone();
    if path.starts_with("//") || path.starts_with("/apis//") {
        return not_found();
    }
    // Health pages look at no method.
    if let Some((page, check)) = health::Page::of(&path) {
        return server.health.answer(page, check, &call.query).await;
    }
    if call.parts.method != Method::GET && is_get_only(&server, &path) {
        let text = "the server does not allow this method on the requested resource";
        let error = ApiError::of_route(405, "MethodNotAllowed", text);
        return respond::error(&error, &call.parts.headers, &call.query);
    }
    if let Limiter::Flows(controller) = &server.limiter
        && let Some(page) = dump::page(controller, &path, &call.query)
    {
        return respond::plain(StatusCode::OK, page);
    }
    match path.as_str() {
        "/version" | "/version/" => version::document(),
        "/" | "/index.html" => index::document(&server, &call),
        _ if path.starts_with("/version/") => {
            respond::error(&ApiError::page_not_found(), &call.parts.headers, &call.query)
        }
        _ if server.pages.find(&path).is_some() => {
            let request = http::Request::from_parts(call.parts, component::serving::body::boxed(body));
            server.pages.call(request).await
        }
        _ => discovery::answer(&server, &call)
            .or_else(|| server.openid.answer(&path))
            .or_else(|| openapi::answer(&server, &call))
            .unwrap_or_else(not_found),
    }
}

/// Whether a path is one of the routes; pages that are no routes answer every method alike.
fn is_get_only(server: &Server, path: &str) -> bool {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["version" | "api"] | ["openid", "v1", "jwks"] | [".well-known", "openid-configuration"] => true,
        ["api", version] => discovery::serves(server, "", version),
        ["apis", group, version] => discovery::serves(server, group, version),
        _ => false,
    }
}

/// Go's answer for a path nobody serves.
pub(crate) fn not_found() -> Response {
    respond::plain(StatusCode::NOT_FOUND, "404 page not found")
}
