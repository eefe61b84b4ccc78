//! Commands, terminals and ports of pods: handed to the kubelet as they are, or translated here for nodes that do not
//! declare that they do it.
//!
//! Upstream: `pkg/registry/core/pod/rest/subresources.go`, `apiserver/pkg/util/proxy`, v1.37.

use std::sync::{Arc, OnceLock};

use component::features::Gate;
use component::metrics::{Counter, Family, Opts};
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use registry::errors::ApiError;
use streaming::backend::{self, Connection, Protocol};
use streaming::translate::{self, Wanted};
use streaming::{handshake, tunnel};

use super::forward;
use super::target::Target;
use crate::server::{Call, Server};
use crate::web::{Response, Upload};

/// How a request is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As it is; the kubelet translates.
    Kubelet,
    /// Translated here, if it is a WebSocket that old kubelets do not know.
    Here,
    /// As it is, whatever becomes of it: the gate is off.
    Plain,
}

impl Way {
    fn of(subresource: &str, is_on: impl Fn(Gate) -> bool, node_translates: bool) -> Self {
        let gate = match subresource {
            "portforward" => Gate::PortForwardWebsockets,
            _ => Gate::TranslateStreamCloseWebsocketRequests,
        };
        match (is_on(gate), is_on(Gate::ExtendWebSocketsToKubelet) && node_translates) {
            (false, _) => Way::Plain,
            (true, true) => Way::Kubelet,
            (true, false) => Way::Here,
        }
    }
}

struct Metrics {
    requests: Family<Counter>,
    translated: Family<Counter>,
    tunnelled: Family<Counter>,
}

fn metrics() -> &'static Metrics {
    static ALL: OnceLock<Metrics> = OnceLock::new();
    ALL.get_or_init(|| Metrics {
        requests: Family::counter(
            Opts::new(
                "apiserver_websocket_streaming_requests_total",
                "Requests for streams of pods by subresource, and by who translates WebSockets of it.",
            )
            .labels(&["subresource", "proxy_type"]),
        ),
        translated: Family::counter(
            Opts::new(
                "apiserver_stream_translator_requests_total",
                "WebSockets with channels of a command that were translated here, by code.",
            )
            .labels(&["code"]),
        ),
        tunnelled: Family::counter(
            Opts::new(
                "apiserver_stream_tunnel_requests_total",
                "WebSockets with a tunnel to ports that were unwrapped here, by code.",
            )
            .labels(&["code"]),
        ),
    })
}

/// Passes a request for streams on.
pub(super) async fn request(
    server: &Arc<Server>,
    mut call: Call,
    target: Target,
    body: Upload,
) -> Result<Response, ApiError> {
    let subresource = call.info.subresource.clone();
    let way = Way::of(&subresource, |gate| server.gates.enabled(gate), target.translates);
    let count = |kind| metrics().requests.with(&[&subresource, kind]).inc();
    match way {
        Way::Plain => {}
        Way::Kubelet => count("proxied_to_kubelet"),
        Way::Here => {
            count("translated_at_apiserver");
            if subresource != "portforward" && handshake::wants_channels(&call.parts.headers) {
                return channels(server, &mut call, target);
            }
            if subresource == "portforward"
                && let Some(unwrapped) = tunnel::unwrapped(&call.parts.headers)
            {
                return ports(server, &mut call, target, body, unwrapped).await;
            }
        }
    }
    forward::request(&server.dialer, &mut call, target, body).await
}

/// The streams that a request wants. Upstream: `PodExecOptions`, `PodAttachOptions`.
fn wanted(call: &Call) -> Wanted {
    let attach = call.info.subresource == "attach";
    let flag = |name: &str, default: bool| call.query.flag(name).unwrap_or(default);
    let tty = flag("tty", false);
    Wanted {
        stdin: flag("stdin", false),
        stdout: flag("stdout", attach),
        stderr: flag("stderr", attach) && !tty,
        tty,
    }
}

/// Answers the client's handshake, and translates until its command ends.
fn channels(server: &Arc<Server>, call: &mut Call, target: Target) -> Result<Response, ApiError> {
    let count = |code: u16| metrics().translated.with(&[&code.to_string()]).inc();
    let accepted = handshake::accept(&call.parts.headers, |protocol| protocol == handshake::CHANNELS);
    let client = call.parts.extensions.remove::<OnUpgrade>();
    let (Ok(headers), Some(client)) = (&accepted, client) else {
        count(400);
        let why = accepted.err().map_or_else(|| "HTTP/1.1 is needed".to_owned(), |e| e.to_string());
        return Err(ApiError::bad_request(why));
    };
    let wanted = wanted(call);
    let server = Arc::clone(server);
    // The audit event of the end comes with the end of the session.
    let recorded = call.recorded.clone();
    tokio::spawn(async move {
        let _recorded = recorded;
        let Ok(client) = client.await else { return };
        count(translate::serve(TokioIo::new(client), wanted, dial(&server, &target)).await);
    });
    Ok(switching(headers.clone()))
}

async fn dial(server: &Server, target: &Target) -> Result<(Connection, Protocol), String> {
    let stream = server.dialer.connect(target.transport, &target.host, target.port).await;
    let stream = stream.map_err(|why| format!("error sending request: {why}"))?;
    backend::propose(stream, &forward::host_header(target), &target.path).await
}

/// Asks the kubelet for what is in the client's tunnel, and unwraps it.
async fn ports(
    server: &Server,
    call: &mut Call,
    target: Target,
    body: Upload,
    unwrapped: HeaderMap,
) -> Result<Response, ApiError> {
    let asked = std::mem::replace(&mut call.parts.headers, unwrapped);
    call.parts.method = Method::POST;
    let count = |code: u16| metrics().tunnelled.with(&[&code.to_string()]).inc();
    let switched = |call: &mut Call, answer| unwrap(call, answer, &asked);
    let answer = forward::request_and(&server.dialer, call, target, body, switched).await;
    count(answer.as_ref().map_or(500, |answer| answer.status().as_u16()));
    answer
}

/// Answers the client's handshake, and copies both ways until one side is done.
fn unwrap(
    call: &mut Call,
    mut answer: http::Response<Incoming>,
    asked: &HeaderMap,
) -> Result<Response, ApiError> {
    let headers = tunnel::answer(asked, answer.headers()).map_err(ApiError::internal)?;
    let Some(client) = call.parts.extensions.remove::<OnUpgrade>() else {
        return Err(ApiError::bad_request("the connection cannot be upgraded: HTTP/1.1 is needed"));
    };
    let kubelet = hyper::upgrade::on(&mut answer);
    let recorded = call.recorded.clone();
    tokio::spawn(async move {
        let _recorded = recorded;
        let (Ok(client), Ok(kubelet)) = tokio::join!(client, kubelet) else { return };
        if let Err(error) = tunnel::join(TokioIo::new(client), TokioIo::new(kubelet)).await {
            tracing::debug!(err = %error, "tunnel ended");
        }
    });
    Ok(switching(headers))
}

fn switching(headers: HeaderMap) -> Response {
    let mut out = Response::new(crate::web::body::empty());
    *out.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *out.headers_mut() = headers;
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways() {
        const EXTEND: Gate = Gate::ExtendWebSocketsToKubelet;
        const COMMANDS: Gate = Gate::TranslateStreamCloseWebsocketRequests;
        const PORTS: Gate = Gate::PortForwardWebsockets;
        for (subresource, gates, node, want) in [
            ("exec", &[EXTEND, COMMANDS, PORTS][..], true, Way::Kubelet),
            ("exec", &[EXTEND, COMMANDS, PORTS], false, Way::Here),
            ("exec", &[COMMANDS], true, Way::Here),
            ("attach", &[EXTEND, PORTS], true, Way::Plain),
            ("portforward", &[EXTEND, PORTS], true, Way::Kubelet),
            ("portforward", &[PORTS], true, Way::Here),
            ("portforward", &[EXTEND, COMMANDS], true, Way::Plain),
        ] {
            let way = Way::of(subresource, |gate| gates.contains(&gate), node);
            assert_eq!(way, want, "{subresource} {gates:?} {node}");
        }
    }
}
