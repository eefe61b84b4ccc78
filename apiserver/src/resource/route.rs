//! Which paths and methods are routes at all, before anything of the request is looked at.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/installer.go`, `emicklei/go-restful` `CurlyRouter`.

use std::sync::Arc;

use http::{HeaderMap, Method};
use registry::api::{RequestInfo, ResourceRow};
use registry::errors::ApiError;

use crate::web::{negotiate, router};

/// Whether a path is in the router's care, which answers what it does not find with a `Status`: all that is not is
/// `/apis/<group>` of no group, and versions of groups that only custom resources are in.
/// Upstream: `director` of `k8s.io/apiserver/pkg/server/handler.go`.
pub(super) fn is_routed(info: &RequestInfo, rows: &[Arc<ResourceRow>]) -> bool {
    let served = |row: &Arc<ResourceRow>| {
        row.gvk.group == info.api_group && (row.custom.is_none() || row.gvk.version == info.api_version)
    };
    info.api_prefix == "api" || !info.api_group.is_empty() && rows.iter().any(served)
}

/// The verb of the handler, which is the request's but for a subresource of an empty name: it is not listed.
pub(super) fn verb(info: &RequestInfo) -> &str {
    match info.verb.as_str() {
        "list" | "watch" if !info.subresource.is_empty() => "get",
        verb => verb,
    }
}

/// Refuses an empty name where the route has one. Upstream: `ContextBasedNaming.Name`.
pub(super) fn check_name(info: &RequestInfo, verb: &str) -> Result<(), ApiError> {
    let named = match verb {
        "create" => !info.subresource.is_empty(),
        verb => matches!(verb, "get" | "update" | "patch" | "delete"),
    };
    if named && info.name.is_empty() {
        return Err(ApiError::bad_request("name must be provided"));
    }
    Ok(())
}

/// What the path says after the version: the verb if it is one of the special ones, and what comes next.
fn head(info: &RequestInfo) -> (Option<&str>, &str) {
    let version_at = if info.api_prefix == "apis" { 4 } else { 3 };
    let mut rest = info.path.split('/').skip(version_at);
    let first = rest.next().unwrap_or_default();
    if matches!(first, "watch" | "proxy") {
        (Some(first), rest.next().unwrap_or_default())
    } else {
        (None, first)
    }
}

/// Whether the path says `namespaces/{namespace}/` before the resource, be the name empty.
pub(super) fn names_namespace(info: &RequestInfo) -> bool {
    head(info).1 == "namespaces" && !(info.api_group.is_empty() && info.resource == "namespaces")
}

/// Whether a path of this shape is served for the resource, with whatever method.
pub(super) fn is_served(info: &RequestInfo, row: &ResourceRow, scoped: bool) -> bool {
    let depth = info.parts.len();
    let deepest = match head(info).0 {
        // Only what can be watched has such paths, and only for itself; custom resources have no routes.
        Some("watch") if row.custom.is_some() => 3,
        Some("watch") if row.verbs.iter().any(|v| v == "watch") => 2,
        Some(_) => 0,
        None if info.subresource == "proxy" => usize::MAX,
        None => 3,
    };
    // Objects with a namespace have no path without it; only lists of all namespaces do.
    let in_scope = if row.namespaced { scoped || depth <= 1 } else { !scoped };
    in_scope && depth <= deepest
}

/// Whether the verb made of the method is one of a route: `HEAD` has none, nor has `POST` to an object.
pub(super) fn takes_method(info: &RequestInfo, method: &Method) -> bool {
    let named = info.parts.len() > 1;
    match verb(info) {
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

/// Refuses a patch of a kind that the route does not take, before looking at what the client accepts. Custom resources
/// have no routes of their own: the handler answers.
pub(super) fn check_content_type(headers: &HeaderMap, verb: &str, built_in: bool) -> Result<(), ApiError> {
    if verb == "patch" && built_in && negotiate::patch(headers, true).is_err() {
        return Err(router::unsupported());
    }
    Ok(())
}

/// Refuses what the client accepts nothing of.
pub(super) fn check_accept(header: &str, streams: bool) -> Result<(), ApiError> {
    const STREAMS: [&str; 2] =
        ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
    let streams = if streams { &STREAMS[..] } else { &[] };
    let names: Vec<&str> = router::ALL.iter().chain(streams).copied().collect();
    router::check_accept(header, &names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::info;
    use crate::web::query::Query;

    fn info_of(method: &str, path: &str) -> RequestInfo {
        info::resolve(&method.parse().unwrap(), path, &Query::default()).unwrap()
    }

    #[test]
    fn names() {
        for (method, path, want) in [
            ("GET", "/api/v1/namespaces/d/pods", Ok("list")),
            ("GET", "/api/v1/namespaces/d/pods/a/status", Ok("get")),
            ("GET", "/api/v1/namespaces/d/pods//status", Err("get")),
            ("PUT", "/api/v1/namespaces/d/pods//status", Err("update")),
            ("POST", "/api/v1/namespaces/d/pods", Ok("create")),
            ("POST", "/api/v1/namespaces/d/pods//eviction", Err("create")),
            ("DELETE", "/api/v1/namespaces/d/pods", Ok("deletecollection")),
        ] {
            let info = info_of(method, path);
            let verb = verb(&info);
            assert_eq!(check_name(&info, verb).map(|()| verb).map_err(|_| verb), want, "{method} {path}");
        }
    }

    #[test]
    fn content_types() {
        for (sent, verb, built_in, want) in [
            ("application/merge-patch+json; charset=utf-8", "patch", true, true),
            ("application/yaml", "patch", true, false),
            ("application/yaml", "patch", false, true),
            ("application/yaml", "update", true, true),
            ("", "patch", true, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::CONTENT_TYPE, sent.parse().unwrap());
            assert_eq!(
                check_content_type(&headers, verb, built_in).is_ok(),
                want,
                "{sent} {verb} {built_in}"
            );
        }
    }

    #[test]
    fn routed_paths() {
        for (path, want) in [
            ("/api//v1", true),
            ("/api/v2/pods", true),
            ("/apis//apps/v1", false),
            ("/apis/nope/v1/pods", false),
        ] {
            assert_eq!(is_routed(&info_of("GET", path), &[]), want, "{path}");
        }
    }
}
