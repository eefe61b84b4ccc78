//! Spans of a request: the authentication, the request itself, and the steps of the chain below it, each around the rest
//! of the chain as upstream nests its handlers.
//!
//! Only a client of the groups that may do anything, or that watch the cluster, may say which trace its request belongs
//! to; the trace of another client is linked to. Differs: a step's span ends when the response begins, not with its last
//! byte; that of the request ends with the last byte.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/filters/traces.go`, `filterlatency`, `handlers/trace_util.go`.

use std::time::{Duration, SystemTime};

use auth::{SYSTEM_PRIVILEGED_GROUP, UserInfo};
use http_body_util::BodyExt as _;
use registry::api::RequestInfo;
use traces::http::{Request, Spanned};
use traces::{Incoming, KeyValue, Scope, Span, Traces, audit_id, child_of, text};

use crate::server::{Call, Server};
use crate::web::Response;

/// Those who look after the cluster. Upstream: `MonitoringGroup` of apiserver/pkg/authentication/user.
const MONITORING_GROUP: &str = "system:monitoring";
/// Upstream: `GetAuditIDTruncated` of apiserver/pkg/audit.
const MAX_AUDIT_ID: usize = 64;
/// Upstream: `lazyTruncatedUserAgent`.
const MAX_USER_AGENT: usize = 1024;

/// A step of the chain, around all that follow it.
pub(super) fn step(name: &'static str) -> Span {
    child_of(Scope::Filters, name, Vec::new)
}

/// The first step, which belongs to no request yet.
pub(super) fn authentication(server: &Server) -> Span {
    match &server.traces {
        Some(traces) => traces.work(Scope::Filters, "authentication", Vec::new),
        None => Span::none(),
    }
}

/// The span of a request whose user is known.
pub(super) fn request(traces: &Traces, call: &Call) -> Span {
    let came = SystemTime::now().checked_sub(call.started.elapsed().min(Duration::from_secs(3600)));
    let parts = &call.parts;
    let attributes = Request {
        server: "",
        method: &parts.method,
        uri: &parts.uri,
        headers: &parts.headers,
        version: parts.version,
        tls: true,
        peer: Some(call.connection.peer),
    };
    let span = traces.request(Incoming {
        scope: Scope::Http,
        name: name(&call.info, parts.method.as_str()),
        headers: Some(&parts.headers),
        trusted: is_trusted(&call.user),
        began: came,
        attributes: attributes.attributes(),
    });
    let mut end = call.audit_id.len().min(MAX_AUDIT_ID);
    while !call.audit_id.is_char_boundary(end) {
        end -= 1;
    }
    let span = span.with_audit_id(call.audit_id.get(..end).unwrap_or_default());
    span.set(|| {
        let target = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        let id = call.audit_id.get(..end).unwrap_or_default().to_owned();
        vec![KeyValue::new("http.target", text(target)), KeyValue::new("audit-id", id)]
    });
    span
}

fn is_trusted(user: &UserInfo) -> bool {
    user.groups.iter().any(|group| group == SYSTEM_PRIVILEGED_GROUP || group == MONITORING_GROUP)
}

/// `GET /api/v1/namespaces/{:namespace}/pods/{:name}`, or the method alone. Upstream: `getSpanNameFromRequestInfo`.
fn name(info: &RequestInfo, method: &str) -> String {
    if !info.is_resource_request {
        return method.to_owned();
    }
    let mut out = format!("{method} /{}", info.api_prefix);
    for part in [&info.api_group, &info.api_version] {
        if !part.is_empty() {
            out.push('/');
            out.push_str(part);
        }
    }
    if !info.namespace.is_empty() {
        out.push_str("/namespaces/{:namespace}");
    }
    out.push('/');
    out.push_str(&info.resource);
    if !info.name.is_empty() {
        out.push_str("/{:name}");
    }
    if !info.subresource.is_empty() {
        out.push('/');
        out.push_str(&info.subresource);
    }
    out
}

/// The response, with whose end the request's span ends.
pub(super) fn end(response: Response, span: Span) -> Response {
    if !span.is_recording() {
        return response;
    }
    let (parts, inner) = response.into_parts();
    let inner = Spanned::new(inner, span, parts.status.as_u16());
    Response::from_parts(parts, inner.boxed_unsync())
}

/// A span of a verb on a resource.
pub(crate) fn verb(name: &'static str, call: &Call) -> Span {
    traces::child(name, || fields(call))
}

/// Upstream: `traceFields`.
fn fields(call: &Call) -> Vec<KeyValue> {
    let info = &call.info;
    let mut agent = call.user_agent().to_owned();
    if agent.len() > MAX_USER_AGENT {
        agent.truncate(agent.floor_char_boundary(MAX_USER_AGENT));
        agent.push_str("...TRUNCATED");
    }
    let scope = match () {
        () if !info.name.is_empty() || info.verb == "create" => "resource",
        () if !info.namespace.is_empty() => "namespace",
        () => "cluster",
    };
    let verb = match info.verb.as_str() {
        "list" => "LIST",
        "watch" | "watchlist" => "WATCH",
        "patch" if call.header(http::header::CONTENT_TYPE).starts_with("application/apply-patch") => "APPLY",
        _ => call.parts.method.as_str(),
    };
    vec![
        KeyValue::new("accept", text(call.header(http::header::ACCEPT))),
        KeyValue::new("audit-id", audit_id()),
        KeyValue::new("client", client(call)),
        KeyValue::new("api-group", info.api_group.clone()),
        KeyValue::new("api-version", info.api_version.clone()),
        KeyValue::new("name", info.name.clone()),
        KeyValue::new("subresource", info.subresource.clone()),
        KeyValue::new("namespace", info.namespace.clone()),
        KeyValue::new("protocol", protocol(call)),
        KeyValue::new("resource", info.resource.clone()),
        KeyValue::new("scope", scope),
        KeyValue::new("url", text(call.parts.uri.path())),
        KeyValue::new("user-agent", agent),
        KeyValue::new("verb", verb.to_owned()),
    ]
}

/// Upstream: `GetClientIP` of apimachinery/pkg/util/net.
fn client(call: &Call) -> String {
    super::audit::source_ips(call).first().cloned().unwrap_or_else(|| "unknown".to_owned())
}

fn protocol(call: &Call) -> &'static str {
    match call.parts.version {
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// The span of making a response out of an object, or of a watch that begins with the objects there are.
pub(crate) fn response(name: &'static str, call: &Call, media_type: &str) -> Span {
    traces::child(name, || {
        // What upstream's codecs call themselves.
        let encoder = match media_type {
            t if t.contains("protobuf") => "protobuf",
            t if t.contains("yaml") => "yaml",
            _ => "json",
        };
        vec![
            KeyValue::new("audit-id", audit_id()),
            KeyValue::new("method", call.parts.method.to_string()),
            KeyValue::new("url", text(call.parts.uri.path())),
            KeyValue::new("protocol", protocol(call)),
            KeyValue::new("mediaType", media_type.to_owned()),
            KeyValue::new("encoder", encoder),
        ]
    })
}

/// Tells a response's span that so many bytes are ready to be written; they are as good as written.
pub(crate) fn wrote(span: &Span, response: &Response) {
    let size = || {
        let size = http_body::Body::size_hint(response.body()).exact().unwrap_or(0);
        KeyValue::new("size", i64::try_from(size).unwrap_or(i64::MAX))
    };
    span.event("About to start writing response", || {
        let gzip = response.headers().contains_key(http::header::CONTENT_ENCODING);
        vec![KeyValue::new("writer", if gzip { "gzip" } else { "plain" }), size()]
    });
    span.event("Write call succeeded", || vec![size()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names as upstream's server gave them.
    #[test]
    fn names() {
        let info =
            |prefix: &str, group: &str, namespace: &str, resource: &str, name: &str, sub: &str| RequestInfo {
                is_resource_request: true,
                api_prefix: prefix.into(),
                api_group: group.into(),
                api_version: "v1".into(),
                namespace: namespace.into(),
                resource: resource.into(),
                name: name.into(),
                subresource: sub.into(),
                ..RequestInfo::default()
            };
        for (info, method, want) in [
            (
                info("api", "", "default", "configmaps", "", ""),
                "POST",
                "POST /api/v1/namespaces/{:namespace}/configmaps",
            ),
            (info("api", "", "", "configmaps", "", ""), "GET", "GET /api/v1/configmaps"),
            (
                info("apis", "apps", "default", "deployments", "x", "scale"),
                "GET",
                "GET /apis/apps/v1/namespaces/{:namespace}/deployments/{:name}/scale",
            ),
            (
                info("api", "", "kube-system", "namespaces", "kube-system", ""),
                "GET",
                "GET /api/v1/namespaces/{:namespace}/namespaces/{:name}",
            ),
            (
                info("apis", "rbac.authorization.k8s.io", "", "clusterroles", "x", ""),
                "GET",
                "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/{:name}",
            ),
            (RequestInfo { path: "/version".into(), ..RequestInfo::default() }, "GET", "GET"),
        ] {
            assert_eq!(name(&info, method), want);
        }
    }

    #[test]
    fn only_those_who_may_do_anything_or_monitor_name_parents() {
        for (groups, want) in [
            (&["system:masters"][..], true),
            (&["system:authenticated", "system:monitoring"], true),
            (&["system:authenticated", "system:nodes"], false),
            (&[], false),
        ] {
            assert_eq!(is_trusted(&UserInfo::new("x", groups)), want, "{groups:?}");
        }
    }
}
