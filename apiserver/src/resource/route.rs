//! Which paths and methods are routes at all, before anything of the request is looked at.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/installer.go`, `emicklei/go-restful` `CurlyRouter`.

use http::Method;
use registry::api::{RequestInfo, ResourceRow};
use registry::errors::ApiError;

/// Whether the path says `namespaces/{namespace}/` before the resource, be the name empty.
pub(super) fn names_namespace(info: &RequestInfo) -> bool {
    let version_at = if info.api_prefix == "apis" { 4 } else { 3 };
    let mut rest = info.path.split('/').skip(version_at);
    let first = rest.next().unwrap_or_default();
    let first = if matches!(first, "watch" | "proxy") { rest.next().unwrap_or_default() } else { first };
    first == "namespaces" && !(info.api_group.is_empty() && info.resource == "namespaces")
}

/// Whether a path of this shape is served for the resource, with whatever method.
pub(super) fn is_served(info: &RequestInfo, row: &ResourceRow, scoped: bool) -> bool {
    let depth = info.parts.len();
    let deepest = if info.subresource == "proxy" { usize::MAX } else { 3 };
    // Objects with a namespace have no path without it; only lists of all namespaces do.
    let in_scope = if row.namespaced { scoped || depth <= 1 } else { !scoped };
    info.verb != "proxy" && in_scope && depth <= deepest
}

/// Whether the verb made of the method is one of a route: `HEAD` has none, nor has `POST` to an object.
pub(super) fn takes_method(info: &RequestInfo, method: &Method) -> bool {
    let named = info.parts.len() > 1;
    match info.verb.as_str() {
        "list" | "watch" | "get" if *method != Method::GET => false,
        "get" | "update" | "patch" | "delete" => named,
        "create" => !named || !info.subresource.is_empty(),
        _ => true,
    }
}

/// Whether a request of this method is passed on to what is proxied. Upstream: `proxyMethods` of pods, services, nodes.
pub(super) fn passes_on(method: &Method) -> bool {
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS]
        .contains(method)
}

/// Refuses what the router takes for unacceptable: it knows no ranges but `*/*` and looks at no parameters.
pub(super) fn check_accept(header: &str, streams: bool) -> Result<(), ApiError> {
    const OFFERED: [&str; 3] =
        ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
    const STREAMS: [&str; 2] =
        ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
    let acceptable = |clause: &str| {
        let media = clause.split(';').next().unwrap_or_default().trim_matches(' ');
        media == "*/*" || OFFERED.contains(&media)
    };
    if header.is_empty() || header.split(',').any(acceptable) {
        return Ok(());
    }
    let streams = if streams { &STREAMS[..] } else { &[] };
    let names: Vec<&str> = OFFERED.iter().chain(streams).copied().collect();
    let text = format!("406: Not Acceptable\n\nAvailable representations: {}", names.join(", "));
    Err(ApiError::of_route(406, "NotAcceptable", text))
}
