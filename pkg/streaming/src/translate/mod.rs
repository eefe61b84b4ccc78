//! A client's WebSocket channels as SPDY streams of a runtime, until the command ends or the client leaves.
//!
//! [`inbound`] decides what becomes of what the runtime sends, [`wire`] writes to it, [`pumps`] move the bytes. Back-pressure
//! is that of the two connections: nothing is read that the other side does not take. Start reading at [`serve`].
//! Differs: when the client leaves, the connection to the runtime is closed, as it is when a client over SPDY leaves;
//! upstream's stays until the command ends. Upstream: apiserver/pkg/util/proxy/{streamtranslator,websocket}.go, v1.37.

mod inbound;
mod pumps;
mod wire;

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::backend::Protocol;
use crate::status::Verdict;
use crate::{channels, handshake};

/// How long a connection may be silent. Upstream: `defaultIdleConnectionTimeout`.
const IDLE: Duration = Duration::from_secs(4 * 60 * 60);

/// How long the verdict may take to be written. Upstream: `writeErrorDeadline`.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How long a client may take to see that all is said; what it still sends would reset the connection otherwise.
const FAREWELL: Duration = Duration::from_secs(2);

/// Streams that a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Input.
    pub stdin: bool,
    /// Output.
    pub stdout: bool,
    /// The other output; never with a terminal, which has one.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

/// Why a session ended.
enum End {
    /// The runtime said how.
    Verdict(Verdict),
    /// Nobody is there to be told.
    ClientLeft,
}

/// Serves a client whose handshake was answered. `dial` connects to the runtime; its error is told to the client. The
/// answer is the code of HTTP that the session is counted under.
pub async fn serve<C, B>(
    client: C,
    wanted: Wanted,
    dial: impl Future<Output = Result<(B, Protocol), String>>,
) -> u16
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = WebSocketStream::from_raw_socket(client, Role::Server, Some(handshake::limits())).await;
    // Says that the connection stands, before there is anything to say.
    let first = match wanted {
        Wanted { stdout: true, .. } => channels::STDOUT,
        Wanted { stderr: true, .. } => channels::STDERR,
        _ => channels::ERROR,
    };
    if socket.send(Message::Binary(channels::write(first, &[]))).await.is_err() {
        return 400;
    }
    let end = match dial.await {
        Ok((backend, protocol)) => pumps::run(&mut socket, backend, protocol, wanted, IDLE).await,
        Err(why) => End::Verdict(Verdict::Failed(why)),
    };
    let End::Verdict(verdict) = end else {
        // As upstream's, whose command ends without its client.
        return 200;
    };
    let told = tokio::time::timeout(LAST_WORDS, tell(&mut socket, &verdict)).await;
    if let Ok(Ok(())) = told {
        let silence = async { while let Some(Ok(_)) = socket.next().await {} };
        // A client that goes on talking is cut off.
        let _ = tokio::time::timeout(FAREWELL, silence).await;
    }
    verdict.code()
}

async fn tell<C>(
    socket: &mut WebSocketStream<C>,
    verdict: &Verdict,
) -> Result<(), tokio_tungstenite::tungstenite::Error>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    socket.send(Message::Binary(channels::write(channels::ERROR, &verdict.write()))).await?;
    // Any other code is an error to client-go, whatever the verdict was.
    socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })).await
}

#[cfg(test)]
mod tests;
