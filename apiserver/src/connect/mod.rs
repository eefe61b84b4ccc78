//! Requests that are passed on: logs, exec, attach and port-forward to kubelets, proxy to pods, services and nodes.
//!
//! [`target`] finds where to, [`dial`] opens the connection, [`forward`] moves the bytes, [`rewrite`] keeps the links of
//! proxied pages within the proxy. Upgraded connections (WebSocket or SPDY) are copied byte for byte in both directions,
//! but for two: logs become WebSocket messages here ([`messages`]), and WebSockets with streams of a pod are translated
//! for a node whose kubelet does not declare that it does so itself ([`streams`]).
//! Upstream: `pkg/registry/core/{pod,node,service}/rest`, `apimachinery/pkg/util/proxy`.
pub(crate) mod dial;
pub(crate) mod forward;
mod messages;
mod rewrite;
mod streams;
mod target;

use std::sync::Arc;

use auth::Decision;
use bytes::Bytes;
use http::Method;
use http::header::{CONNECTION, UPGRADE};
use registry::api::{Body, MediaType, RequestContext, RequestInfo, ResourceRow};
use registry::errors::ApiError;
use serde_json::json;

use crate::chain::authorize;
use crate::local::Local;
use crate::server::{Call, Server};
use crate::web::negotiate::{self, Restrictions};
use crate::web::query::Query;
use crate::web::{Response, Upload};

pub use dial::Dialer;

/// Whether a subresource is passed on.
pub(crate) fn is_connect(row: &ResourceRow, subresource: &str) -> bool {
    let core = row.gvk.group.is_empty();
    match row.resource.as_str() {
        "pods" => core && matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy"),
        "services" | "nodes" => core && subresource == "proxy",
        _ => false,
    }
}

/// Whether the client wants another protocol on this connection.
pub(crate) fn is_upgrade(call: &Call) -> bool {
    call.parts.headers.contains_key(UPGRADE)
        && call.header(CONNECTION).to_ascii_lowercase().contains("upgrade")
}

fn is_websocket(call: &Call) -> bool {
    is_upgrade(call) && call.header(UPGRADE).eq_ignore_ascii_case("websocket")
}

/// Passes a request on.
pub(crate) async fn serve(
    server: &Arc<Server>,
    mut call: Call,
    context: RequestContext,
    body: Upload,
) -> Result<Response, ApiError> {
    let subresource = call.info.subresource.clone();
    check(&call.query, &call.info)?;
    let local = Local::new(server.registry.clone());
    if matches!(subresource.as_str(), "exec" | "attach" | "portforward") {
        check_create(server, &call).await?;
    }
    if subresource != "log" {
        let options = Body { media_type: MediaType::Json, bytes: options(&call, &subresource) };
        server.registry.connect(&context, options).await?;
    }
    if subresource == "log" {
        // Upstream negotiates as for an object before it looks for the pod, and then answers in plain text all the same
        // (`getResourceHandler`).
        negotiate::output(
            &call.parts.headers,
            &call.query,
            Restrictions::Resource { protobuf: true, table: false },
            false,
        )?;
    }
    let target = target::find(server, &local, &call).await?;
    let Some(target) = target else {
        // Logs of a pod without a node: nothing yet.
        return Ok(crate::web::respond::typed(http::StatusCode::OK, "text/plain", ""));
    };
    match subresource.as_str() {
        "log" => forward::log(&server.dialer, &mut call, target).await,
        "exec" | "attach" | "portforward" => streams::request(server, call, target, body).await,
        _ => forward::request(&server.dialer, &mut call, target, body).await,
    }
}

/// What is refused whatever it is asked of. Logs are read, the rest is connected to, which cannot be tried dry.
/// Upstream: `ConnectResource` of apiserver/pkg/endpoints/handlers/rest.go.
fn check(query: &Query, info: &RequestInfo) -> Result<(), ApiError> {
    if info.subresource != "log" && query.get("dryRun").is_some() {
        return Err(ApiError::bad_request("dryRun is not supported"));
    }
    if info.name.is_empty() {
        return Err(ApiError::bad_request("name must be provided"));
    }
    Ok(())
}

/// A WebSocket handshake is a GET, yet it runs a command: the right to create is asked for as well.
/// Upstream: feature `AuthorizePodWebsocketUpgradeCreatePermission`.
async fn check_create(server: &Server, call: &Call) -> Result<(), ApiError> {
    if call.parts.method != Method::GET || !is_websocket(call) {
        return Ok(());
    }
    let mut attributes = authorize::attributes(call);
    attributes.verb = "create".to_owned();
    let verdict = server.authorizer.authorize(&attributes).await;
    if verdict.decision == Decision::Allow {
        return Ok(());
    }
    Err(authorize::forbidden(&attributes, &verdict.reason))
}

/// The options object that admission sees.
fn options(call: &Call, subresource: &str) -> Bytes {
    let flag = |name: &str, default: bool| call.query.flag(name).unwrap_or(default);
    let container = call.query.text("container");
    let object = match subresource {
        "exec" => json!({
            "kind": "PodExecOptions", "apiVersion": "v1", "container": container,
            "stdin": flag("stdin", false), "stdout": flag("stdout", false), "stderr": flag("stderr", false),
            "tty": flag("tty", false), "command": call.query.all("command").collect::<Vec<_>>(),
        }),
        "attach" => json!({
            "kind": "PodAttachOptions", "apiVersion": "v1", "container": container,
            "stdin": flag("stdin", false), "stdout": flag("stdout", true), "stderr": flag("stderr", true),
            "tty": flag("tty", false),
        }),
        "portforward" => json!({"kind": "PodPortForwardOptions", "apiVersion": "v1"}),
        _ => {
            let kind = match call.info.resource.as_str() {
                "pods" => "PodProxyOptions",
                "services" => "ServiceProxyOptions",
                _ => "NodeProxyOptions",
            };
            json!({"kind": kind, "apiVersion": "v1", "path": target::proxied_path(call)})
        }
    };
    object.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        for (subresource, name, query, want) in [
            ("proxy", "a", "", None),
            ("proxy", "a", "dryRun=All", Some("dryRun is not supported")),
            ("exec", "", "dryRun=", Some("dryRun is not supported")),
            ("log", "a", "dryRun=All", None),
            ("log", "", "", Some("name must be provided")),
        ] {
            let info = RequestInfo {
                name: name.to_owned(),
                subresource: subresource.to_owned(),
                ..RequestInfo::default()
            };
            let got = check(&Query::parse(query), &info).err().map(|e| e.message);
            assert_eq!(got.as_deref(), want, "{subresource} {name} {query}");
        }
    }
}
