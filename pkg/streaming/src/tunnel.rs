//! SPDY within a WebSocket: the binary messages of one side are the bytes of the other.
//!
//! Frames are not looked into. Start reading at [`join`].
//! Upstream: apiserver/pkg/util/proxy/streamtunnel.go, client-go/tools/portforward/tunneling_connection.go, v1.37.

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::backend::{PROTOCOL, SPDY, is_spdy};
use crate::handshake::{self, Refused};

/// Bytes of one message at most.
const PART: usize = 32 << 10;

/// The headers of the request for SPDY that is sent on for one for a tunnel, as a POST; nothing for other requests.
pub fn unwrapped(headers: &HeaderMap) -> Option<HeaderMap> {
    let values = handshake::tunnelled(headers).filter_map(|p| HeaderValue::from_str(p).ok());
    let protocols: Vec<HeaderValue> = values.collect();
    if protocols.is_empty() {
        return None;
    }
    let mut out = headers.clone();
    let of_websockets =
        [SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_EXTENSIONS];
    of_websockets.iter().for_each(|name| drop(out.remove(name)));
    out.insert(UPGRADE, HeaderValue::from_static(SPDY));
    out.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    out.remove(&PROTOCOL);
    for protocol in protocols {
        out.append(&PROTOCOL, protocol);
    }
    Some(out)
}

/// The headers of the answer to the client, after the other side has answered 101.
///
/// # Errors
/// The other side did not change to SPDY, or the client's handshake is none.
pub fn answer(asked: &HeaderMap, answered: &HeaderMap) -> Result<HeaderMap, Refused> {
    if !is_spdy(answered) {
        return Err(Refused("unable to upgrade: missing upgrade headers in response"));
    }
    let chosen = answered.get(&PROTOCOL).and_then(|v| v.to_str().ok()).unwrap_or_default().trim();
    handshake::accept(asked, |offer| handshake::is_tunnel_of(offer, chosen))
}

/// Copies both ways until one side is done; both are closed then.
///
/// # Errors
/// A connection breaks, or the client sends what is no tunnel's.
pub async fn join<C, B>(client: C, backend: B) -> Result<(), Error>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let socket = WebSocketStream::from_raw_socket(client, Role::Server, Some(handshake::limits())).await;
    let (mut sink, mut source) = socket.split();
    let (mut read, mut write) = tokio::io::split(backend);
    let up = async {
        while let Some(message) = source.next().await {
            match message? {
                Message::Binary(bytes) => {
                    write.write_all(&bytes).await?;
                    write.flush().await?;
                }
                Message::Text(_) => return Err(unexpected()),
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(())
    };
    let down = async {
        loop {
            let mut buffer = BytesMut::with_capacity(PART);
            if read.read_buf(&mut buffer).await? == 0 {
                let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                return sink.send(Message::Close(Some(normal))).await;
            }
            sink.send(Message::Binary(Bytes::from(buffer))).await?;
        }
    };
    let done = tokio::select! { done = up => done, done = down => done };
    let closed = write.shutdown().await;
    done.and(closed.map_err(Error::from))
}

fn unexpected() -> Error {
    Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, "invalid message type received"))
}

#[cfg(test)]
mod tests;
