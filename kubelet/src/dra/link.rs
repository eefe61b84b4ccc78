//! A connection to a driver that is made again whenever it breaks, so that it is known whether the driver is there.
//!
//! Upstream: monitoredPlugin in plugin/dra_plugin_manager.go, where Go's library keeps the connection.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{Ready, ready};
use http::Uri;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

/// Pause after a connection that broke: a driver that takes and drops connections must not keep the kubelet busy.
const BREATH: Duration = Duration::from_millis(50);
/// First pause after an attempt that failed, and the longest one, as in Go's library.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(120);
const GROWTH: f64 = 1.6;

/// A stream that tells when it ends, whoever ends it.
struct Guarded {
    stream: UnixStream,
    _ended: DropGuard,
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Gives the one stream that there is; a channel whose stream has ended is of no use any more.
struct Once(Option<Guarded>);

impl Service<Uri> for Once {
    type Response = TokioIo<Guarded>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<Guarded>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// A channel, and what is cancelled when its connection ends.
async fn connect(socket: &Path) -> io::Result<(Channel, CancellationToken)> {
    let stream = UnixStream::connect(socket).await?;
    let ended = CancellationToken::new();
    let guarded = Guarded { stream, _ended: ended.clone().drop_guard() };
    // The address is the stream's; this one only fills the messages' headers.
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(Once(Some(guarded))).await.map_err(io::Error::other)?;
    Ok((channel, ended))
}

/// The connection to one socket.
pub struct Link {
    socket: PathBuf,
    channel: Mutex<Option<(Channel, CancellationToken)>>,
    /// Held by whoever connects, so that there is one connection.
    dialing: tokio::sync::Mutex<()>,
    wake: Notify,
    stop: CancellationToken,
}

impl Link {
    /// Nothing is connected before [`Self::keep`].
    pub fn new(socket: &Path, stop: CancellationToken) -> Arc<Self> {
        let (socket, wake) = (socket.to_owned(), Notify::new());
        Arc::new(Self {
            socket,
            channel: Mutex::default(),
            dialing: tokio::sync::Mutex::default(),
            wake,
            stop,
        })
    }

    /// The connection and what is cancelled when it ends, if there is one.
    fn current(&self) -> Option<(Channel, CancellationToken)> {
        self.channel.lock().clone().filter(|(_, ended)| !ended.is_cancelled())
    }

    /// The connection that there is, else a new one, which is kept.
    async fn connected(&self) -> io::Result<(Channel, CancellationToken)> {
        let _turn = self.dialing.lock().await;
        if let Some(current) = self.current() {
            return Ok(current);
        }
        let made = connect(&self.socket).await?;
        if !self.stop.is_cancelled() {
            *self.channel.lock() = Some(made.clone());
        }
        Ok(made)
    }

    /// Ends it.
    pub fn close(&self) {
        self.stop.cancel();
        *self.channel.lock() = None;
    }

    /// Keeps it connected until it is closed, and tells when it is and when it is not.
    pub async fn keep(self: Arc<Self>, changed: impl Fn(bool) + Send) {
        let mut pause = FIRST;
        loop {
            let rest = match self.connected().await {
                Ok((_, ended)) => {
                    changed(true);
                    tokio::select! {
                        () = self.stop.cancelled() => return self.close(),
                        () = ended.cancelled() => {}
                    }
                    changed(false);
                    pause = FIRST;
                    BREATH
                }
                Err(error) => {
                    tracing::debug!(socket = %self.socket.display(), %error, "A driver cannot be reached");
                    let rest = pause;
                    pause = pause.mul_f64(GROWTH).min(LONGEST);
                    rest.mul_f64(0.8 + 0.4 * rand::random::<f64>())
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// The connection, or a new one if there is none at the moment.
    ///
    /// # Errors
    /// If nobody listens.
    pub async fn channel(&self) -> Result<Channel, Status> {
        if let Some((channel, _)) = self.current() {
            return Ok(channel);
        }
        let made = self.connected().await;
        self.wake.notify_one();
        made.map(|(channel, _)| channel).map_err(|error| {
            let socket = self.socket.display();
            Status::unavailable(format!(
                "connection error: desc = \"transport: Error while dialing: dial unix {socket}: connect: {error}\""
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use tokio::net::UnixListener;
    use tokio::sync::mpsc;

    /// Upstream's drivers may count on it: calls and health come over one connection, whoever asked for it first.
    #[tokio::test]
    async fn all_share_one_connection() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("d.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (told, mut heard) = mpsc::unbounded_channel();
        let link = Link::new(&socket, CancellationToken::new());
        let (first, second) = tokio::join!(link.channel(), link.channel());
        assert!(first.is_ok() && second.is_ok());
        let keeping = tokio::spawn(link.clone().keep(move |is| told.send(is).unwrap()));
        assert_eq!(heard.recv().await, Some(true));
        listener.accept().await.unwrap();
        assert!(listener.accept().now_or_never().is_none());
        link.close();
        keeping.await.unwrap();
    }
}
