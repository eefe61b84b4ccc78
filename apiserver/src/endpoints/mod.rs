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
use crate::web::negotiate::JSON;
use crate::web::router::{self, Media};
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
    if let Some(Err(error)) = media(&server, &path).map(|media| check(&call, media)) {
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

/// Refuses what a route does not take.
fn check(call: &Call, media: Media) -> Result<(), ApiError> {
    if call.parts.method != Method::GET {
        let text = "the server does not allow this method on the requested resource";
        return Err(ApiError::of_route(405, "MethodNotAllowed", text));
    }
    media.check(&call.parts.headers)
}

/// The media types of a path that is one of the routes; pages that are none answer every method alike, and send what
/// they have.
fn media(server: &Server, path: &str) -> Option<Media> {
    const DOCUMENT: Media = Media { consumes: router::ALL, produces: router::ALL };
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["version"] => Some(Media { consumes: &[JSON], produces: &[JSON] }),
        ["openid", "v1", "jwks"] => Some(Media { consumes: &[], produces: &[openid::KEYS] }),
        [".well-known", "openid-configuration"] => Some(Media { consumes: &[], produces: &[JSON] }),
        ["api"] => Some(DOCUMENT),
        ["api", version] => discovery::serves(server, "", version).then_some(DOCUMENT),
        ["apis", group, version] => discovery::serves(server, group, version).then_some(DOCUMENT),
        // The page of a group is no route, but with one slash more the path is one.
        ["apis", group] if path.ends_with("//") => discovery::serves_group(server, group).then_some(DOCUMENT),
        _ => None,
    }
}

/// Go's answer for a path nobody serves.
pub(crate) fn not_found() -> Response {
    respond::plain(StatusCode::NOT_FOUND, "404 page not found")
}
