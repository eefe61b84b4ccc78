//! Clients over WebSockets: their channels are translated for the runtime, their tunnels unwrapped.
//!
//! Which client wants what is decided here; `streams` has found the container and the runtime's address. With the gate
//! off, everything is the runtime's to understand. Upstream: pkg/kubelet/server/server.go getExec, getAttach,
//! getPortForward, v1.37.

use std::time::Duration;

use component::features::{self, Gate};
use component::serving::body::{self, Body};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use streaming::backend::{self, Connection, Protocol};
use streaming::translate::{self, Wanted};
use streaming::{handshake, tunnel};

use super::streams;
use crate::metrics::streams::count;

/// Whether a command's streams are to be translated.
pub(super) fn wants_channels(headers: &HeaderMap) -> bool {
    features::enabled(Gate::ExtendWebSocketsToKubelet) && handshake::wants_channels(headers)
}

/// The headers for the runtime, if ports are asked for through a tunnel.
pub(super) fn unwrapped(headers: &HeaderMap) -> Option<HeaderMap> {
    features::enabled(Gate::ExtendWebSocketsToKubelet).then(|| tunnel::unwrapped(headers))?
}

/// Answers a client's handshake, and translates until its command ends.
pub(super) fn channels(
    mut request: Request<Incoming>,
    url: String,
    subresource: &str,
    wanted: Wanted,
) -> Response<Body> {
    count(subresource);
    let headers = match handshake::accept(request.headers(), |protocol| protocol == handshake::CHANNELS) {
        Ok(headers) => headers,
        Err(error) => return body::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(client) => {
                let code = translate::serve(TokioIo::new(client), wanted, dial(&url)).await;
                tracing::debug!(code, "Streams of a command ended");
            }
            Err(error) => tracing::debug!(%error, "A WebSocket was answered but is not there"),
        }
    });
    switching(headers)
}

/// The answer that changes the protocol.
pub(super) fn switching(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

async fn dial(url: &str) -> Result<(Connection, Protocol), String> {
    let proposed = async {
        let place = streams::connect(url).await.map_err(|e| format!("error sending request: {e}"))?;
        backend::propose(place.stream, &place.authority, &place.target).await
    };
    let late =
        |_| format!("error sending request: the runtime does not answer within {:?}", streams::CONNECT);
    tokio::time::timeout(streams::CONNECT, proposed).await.map_err(late)?
}

/// Moves bytes between a client and the runtime, as they are or out of a tunnel, for `limit` at most.
pub(super) async fn join(
    caller: Connection,
    runtime: Connection,
    is_tunnel: bool,
    limit: Duration,
) -> Result<(), component::app::Error> {
    let (mut caller, mut runtime) = (caller, runtime);
    if is_tunnel {
        tokio::time::timeout(limit, tunnel::join(caller, runtime)).await??;
    } else {
        tokio::time::timeout(limit, tokio::io::copy_bidirectional(&mut caller, &mut runtime)).await??;
    }
    Ok(())
}
