//! A stream of bytes as WebSocket messages, for logs asked for over a WebSocket.
//!
//! One way only: what the client sends is ignored, but its end is noticed. Start reading at [`answer`].
//! Upstream: `k8s.io/streaming/pkg/httpstream/wsstream/stream.go`, `Reader`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use registry::errors::ApiError;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::server::Call;
use crate::web::Response;
use crate::web::body::{Body, empty};

/// How the bytes are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As they are.
    Binary,
    /// Text messages, for clients that cannot read binary ones.
    Base64,
}

/// Bytes of one message at most, as upstream's buffer.
const MESSAGE: usize = 2048;

/// The first protocol offered that is known, and its form; without an offer the bytes come as they are.
fn negotiate(offered: &str) -> Option<(&'static str, Form)> {
    let mut offered = offered.split(',').map(str::trim).filter(|p| !p.is_empty()).peekable();
    if offered.peek().is_none() {
        return Some(("", Form::Binary));
    }
    offered.find_map(|protocol| match protocol {
        "binary.k8s.io" => Some(("binary.k8s.io", Form::Binary)),
        "base64.binary.k8s.io" => Some(("base64.binary.k8s.io", Form::Base64)),
        _ => None,
    })
}

/// Accepts the handshake and sends `body` as messages until it or the connection ends.
pub(super) fn answer(call: &mut Call, body: Body) -> Result<Response, ApiError> {
    let refused = |text: &str| ApiError::bad_request(format!("the WebSocket handshake failed: {text}"));
    let header =
        |name| call.parts.headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or_default();
    if header(SEC_WEBSOCKET_VERSION) != "13" {
        return Err(refused("only version 13 is spoken"));
    }
    let accept = derive_accept_key(header(SEC_WEBSOCKET_KEY).as_bytes());
    let Some((protocol, form)) = negotiate(header(SEC_WEBSOCKET_PROTOCOL)) else {
        return Err(refused("none of the offered protocols is binary.k8s.io or base64.binary.k8s.io"));
    };
    let Some(client) = call.parts.extensions.remove::<OnUpgrade>() else {
        return Err(refused("HTTP/1.1 is needed"));
    };
    tokio::spawn(async move {
        if let Ok(client) = client.await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(client), Role::Server, None).await;
            if let Err(error) = send(socket, body, form).await {
                tracing::debug!(err = %error, "log over a WebSocket ended");
            }
        }
    });
    let mut out = Response::new(empty());
    *out.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = out.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).map_err(ApiError::internal)?);
    if !protocol.is_empty() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(out)
}

fn message(bytes: Bytes, form: Form) -> Message {
    match form {
        Form::Binary => Message::Binary(bytes),
        Form::Base64 => Message::Text(STANDARD.encode(&bytes).into()),
    }
}

async fn send<S>(socket: WebSocketStream<S>, mut body: Body, form: Form) -> Result<(), Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut sink, mut received) = socket.split();
    // An empty message says that the stream has begun, before there is anything to send.
    sink.send(message(Bytes::new(), form)).await?;
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            ended = received.next() => match ended {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => continue,
            },
        };
        let Some(Ok(frame)) = frame else { return sink.close().await };
        let Ok(mut bytes) = frame.into_data().map(Bytes::from) else { continue };
        while !bytes.is_empty() {
            sink.send(message(bytes.split_to(bytes.len().min(MESSAGE)), form)).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols() {
        assert_eq!(negotiate(""), Some(("", Form::Binary)));
        assert_eq!(negotiate("binary.k8s.io"), Some(("binary.k8s.io", Form::Binary)));
        assert_eq!(negotiate("x, base64.binary.k8s.io"), Some(("base64.binary.k8s.io", Form::Base64)));
        assert_eq!(negotiate("channel.k8s.io"), None);
    }
}
