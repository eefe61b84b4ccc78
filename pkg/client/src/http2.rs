//! One HTTP/2 connection. A call puts its frames into the connection itself and waits for its own answer: a queue and a task
//! between calls and connection, and one more task for each answer, as hyper's client has them, cost more than small calls.
//!
//! Dead servers are noticed by pings (30 s, 15 s, as client-go). Which connection a call takes is the business of
//! `transport.rs`. Upstream: golang.org/x/net/http2 (transport.go), apimachinery/pkg/util/net SetTransportDefaults.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Frame;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::transport::{Io, Unsent};

const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// Flow control windows of Go's HTTP/2 client: a slow reader of one stream must not stop the others.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;
/// Calls at a time before the server has said how many it allows; upstream's default.
const FIRST_STREAMS: usize = 100;
/// Header fields of an answer; the API server has a dozen.
const MAX_HEADERS: u32 = 16 << 10;

/// A connection; it ends with its token.
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    /// Calls whose answer is not complete.
    in_flight: AtomicUsize,
    /// Calls the server allows at a time.
    room: Arc<AtomicUsize>,
    /// The server takes no more calls, though those under way go on: it said goodbye.
    leaving: AtomicBool,
    close: CancellationToken,
}

impl Http2 {
    /// Greets the server; from then on a task reads and writes.
    pub async fn open(io: Box<dyn Io>, close: CancellationToken) -> Result<Self, h2::Error> {
        let heard = Arc::new(Mutex::new(Instant::now()));
        let (sender, mut connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(FIRST_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .enable_push(false)
            .handshake(Listening { io, heard: heard.clone() })
            .await?;
        let room = Arc::new(AtomicUsize::new(FIRST_STREAMS));
        let pings = connection.ping_pong();
        tokio::spawn(drive(connection, room.clone(), pings, heard, close.clone()));
        let (in_flight, leaving) = (AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Self { sender, in_flight, room, leaving, close })
    }

    /// Whether it takes no more calls.
    pub fn is_closed(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.close.is_cancelled()
    }

    pub fn close(&self) {
        self.close.cancel();
    }

    /// Counts a call in, if the server allows one more.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        let free = self.in_flight.load(Ordering::Relaxed) < self.room.load(Ordering::Relaxed);
        free.then(|| {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            Place(self.clone())
        })
    }
}

/// The place of one call on a connection.
pub(crate) struct Place(Arc<Http2>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    /// Sends a request and waits for the head of its answer. Dropped early, it tells the server that nobody waits.
    pub async fn send(self, request: Request<Bytes>) -> Result<Response<Incoming>, Unsent> {
        let mut sender = self.0.sender.clone();
        if let Err(closed) = poll_fn(|cx| sender.poll_ready(cx)).await {
            self.0.leaving.store(true, Ordering::Relaxed);
            return Err((Some(Box::new(request)), closed.into()));
        }
        let lost = |e: h2::Error| (None, e.into());
        let (mut head, body) = request.into_parts();
        if !body.is_empty() || matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let head = Request::from_parts(head, ());
        let (answer, mut rest) = sender.send_request(head, body.is_empty()).map_err(lost)?;
        drop(sender);
        if !body.is_empty() {
            // Waits inside until the server has room for it.
            rest.send_data(body, true).map_err(lost)?;
        }
        drop(rest);
        let answer = answer.await.map_err(lost)?;
        Ok(answer.map(|stream| Incoming { stream, _place: self }))
    }
}

/// The body of an answer, as it comes in.
pub(crate) struct Incoming {
    stream: RecvStream,
    _place: Place,
}

impl Incoming {
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        Poll::Ready(match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // It fails only when the stream has ended, which the next read tells.
                let _ = self.stream.flow_control().release_capacity(data.len());
                Some(Ok(Frame::data(data)))
            }
            // The server had no use for the rest of the request; the answer is complete.
            Some(Err(e)) if e.reason() == Some(Reason::NO_ERROR) => None,
            Some(Err(e)) => Some(Err(e)),
            None => None,
        })
    }

    pub fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// Reads and writes until the connection ends, the server falls silent, or the token says so.
async fn drive(
    mut connection: Connection<Listening, Bytes>,
    room: Arc<AtomicUsize>,
    pings: Option<PingPong>,
    heard: Arc<Mutex<Instant>>,
    close: CancellationToken,
) {
    let _closed = close.clone().drop_guard();
    let work = poll_fn(move |cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        if polled.is_pending() {
            room.store(connection.max_concurrent_send_streams().max(1), Ordering::Relaxed);
        }
        polled
    });
    tokio::select! {
        biased;
        ended = work => if let Err(error) = ended { tracing::debug!(%error, "connection ended") },
        () = close.cancelled() => {}
        () = silence(pings, &heard) => tracing::debug!("connection ended: the server does not answer pings"),
    }
}

/// Ends when nothing was heard for a while, a ping included.
async fn silence(pings: Option<PingPong>, heard: &Mutex<Instant>) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        let due = *heard.lock() + PING_INTERVAL;
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
            continue;
        }
        let pong = tokio::time::timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await;
        if !matches!(pong, Ok(Ok(_))) {
            return;
        }
    }
}

/// A stream that notes when something was read.
struct Listening {
    io: Box<dyn Io>,
    heard: Arc<Mutex<Instant>>,
}

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut *self.io).poll_read(cx, buf);
        if read.is_ready() {
            *self.heard.lock() = Instant::now();
        }
        read
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}
