//! Connections to one server: HTTP/2 shared by all calls (HTTP/1.1 where the server has nothing better), and
//! HTTP/1.1 connections of their own for upgrades.
//!
//! A connection carries as many calls as the server allows; the next call then opens another one, as Go's transport does.
//! Connections made with an outdated certificate or CA are closed, dead ones are noticed by pings (30 s, 15 s, as
//! client-go). Retrying is not done here, except for requests that provably were not sent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Dialer};
use crate::tls::TlsSource;

/// A byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Upstream: client-go and apimachinery/pkg/util/net, SetTransportDefaults.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Flow control windows of Go's HTTP/2 client: a slow reader of one stream must not stop the others.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;
/// Calls at a time before the server has said how many it allows; upstream's default.
const FIRST_STREAMS: usize = 100;
/// What is taken from a socket at a time: TLS asks for 4 KiB, which is two events of a busy watch.
const READ: usize = 32 << 10;
/// Idle HTTP/1.1 connections that are kept.
const MAX_IDLE_H1: usize = 25;

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum TransportError {
    /// No connection; nothing was sent.
    Connect(String),
    /// Lost while waiting; the server may have acted.
    Lost(String),
}

type Version = (u64, u64);
type Outgoing = Request<Full<Bytes>>;

struct H2 {
    sender: http2::SendRequest<Full<Bytes>>,
    /// Calls whose answer is not complete.
    in_flight: Arc<AtomicUsize>,
    /// Calls the server allows at a time.
    room: Arc<AtomicUsize>,
    version: Version,
    close: CancellationToken,
}

struct H1 {
    sender: http1::SendRequest<Full<Bytes>>,
    version: Version,
    close: CancellationToken,
}

enum Fresh {
    H2(H2),
    H1(H1),
}

#[derive(Default)]
struct Pool {
    h2: Vec<H2>,
    h1: Vec<H1>,
}

/// All connections to one server.
pub(crate) struct Transport {
    host: String,
    port: u16,
    authority: Authority,
    tls: Option<TlsSource>,
    tls_name: Option<ServerName<'static>>,
    dialer: Option<Dialer>,
    pool: Arc<Mutex<Pool>>,
    /// One dial at a time, so that a burst of calls shares the new connection.
    dialing: tokio::sync::Mutex<()>,
    /// Ends every connection when the last client is dropped.
    alive: CancellationToken,
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.alive.cancel();
    }
}

impl Transport {
    pub fn new(
        config: &Config,
        url: &http::Uri,
        cert: Option<crate::tls::ClientCert>,
    ) -> Result<Self, ConfigError> {
        let https = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            other => {
                return Err(ConfigError::Invalid(format!(
                    "server URL: scheme {other:?} is not http or https"
                )));
            }
        };
        let host = url.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']').to_string();
        if host.is_empty() {
            return Err(ConfigError::Invalid(format!("server URL {:?} has no host", config.server)));
        }
        let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
        let tls_name = match (https, config.tls_server_name.as_str()) {
            (false, _) => None,
            (true, "") => Some(server_name(&host)?),
            (true, name) => Some(server_name(name)?),
        };
        let tls = if https { Some(TlsSource::new(config, cert)?) } else { None };
        let authority = authority(&host, port)
            .parse()
            .map_err(|e| ConfigError::Invalid(format!("server URL {:?}: {e}", config.server)))?;
        Ok(Self {
            host,
            port,
            authority,
            tls,
            tls_name,
            dialer: config.dialer.clone(),
            pool: Arc::default(),
            dialing: tokio::sync::Mutex::new(()),
            alive: CancellationToken::new(),
        })
    }

    /// `host:port`.
    pub fn server(&self) -> &str {
        self.authority.as_str()
    }

    /// Closes all connections; calls under way fail.
    pub fn close_all(&self) {
        let mut pool = self.pool.lock();
        pool.h2.drain(..).for_each(|c| c.close.cancel());
        pool.h1.drain(..).for_each(|c| c.close.cancel());
    }

    /// Sends a request on a shared connection.
    pub async fn send(&self, mut request: Outgoing) -> Result<Response<Body>, TransportError> {
        let mut last = None;
        // A request comes back unsent when the connection was found closed; twice in a row is bad luck, more is a fault.
        for _ in 0..4 {
            let unsent = match self.checkout().await? {
                Fresh::H2(c) => self.send_h2(c, request).await,
                Fresh::H1(c) => self.send_h1(c, request).await,
            };
            match unsent {
                Ok(response) => return Ok(response),
                Err((Some(back), e)) => (request, last) = (back, Some(e)),
                Err((None, e)) => return Err(TransportError::Lost(describe(&e))),
            }
        }
        Err(TransportError::Connect(last.map_or_else(|| "connection closed".into(), |e| describe(&e))))
    }

    async fn send_h2(&self, mut c: H2, mut request: Outgoing) -> Result<Response<Body>, Unsent> {
        let path = request.uri().clone();
        let mut whole = path.clone().into_parts();
        whole.scheme = Some(if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
        whole.authority = Some(self.authority.clone());
        if let Ok(uri) = Uri::from_parts(whole) {
            *request.uri_mut() = uri;
        }
        let guard = Guard::Stream(c.in_flight.clone());
        match c.sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(|inner| Body { inner, guard: Some(guard) })),
            Err(mut e) => {
                let mut back = e.take_message();
                if let Some(request) = &mut back {
                    *request.uri_mut() = path;
                }
                Err((back, e.into_error()))
            }
        }
    }

    async fn send_h1(&self, mut c: H1, mut request: Outgoing) -> Result<Response<Body>, Unsent> {
        if let Ok(host) = http::HeaderValue::from_str(self.server()) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        match c.sender.try_send_request(request).await {
            Ok(response) => {
                let guard = Guard::Connection { pool: self.pool.clone(), conn: Some(c) };
                Ok(response.map(|inner| Body { inner, guard: Some(guard) }))
            }
            Err(mut e) => Err((e.take_message(), e.into_error())),
        }
    }

    /// Takes a usable connection from the pool (counting the call) or opens one.
    async fn checkout(&self) -> Result<Fresh, TransportError> {
        let version = self.version();
        if let Some(c) = self.pooled(version) {
            return Ok(c);
        }
        let _one = self.dialing.lock().await;
        if let Some(c) = self.pooled(version) {
            return Ok(c);
        }
        let connect = self.connect(version);
        let fresh = tokio::time::timeout(DIAL_TIMEOUT + TLS_TIMEOUT, connect)
            .await
            .map_err(|_| TransportError::Connect("HTTP handshake timed out".into()))??;
        if let Fresh::H2(c) = &fresh {
            c.in_flight.fetch_add(1, Ordering::Relaxed);
            self.pool.lock().h2.push(c.share());
        }
        Ok(fresh)
    }

    fn version(&self) -> Version {
        self.tls.as_ref().map_or((0, 0), TlsSource::version)
    }

    fn pooled(&self, version: Version) -> Option<Fresh> {
        let mut pool = self.pool.lock();
        pool.h2.retain(|c| {
            let current = c.version == version;
            if !current {
                c.close.cancel();
            }
            current && !c.sender.is_closed()
        });
        pool.h1.retain(|c| c.version == version && !c.sender.is_closed());
        for c in &pool.h2 {
            if c.in_flight.load(Ordering::Relaxed) < c.room.load(Ordering::Relaxed) {
                c.in_flight.fetch_add(1, Ordering::Relaxed);
                return Some(Fresh::H2(c.share()));
            }
        }
        pool.h1.pop().map(Fresh::H1)
    }

    async fn connect(&self, version: Version) -> Result<Fresh, TransportError> {
        let (io, h2) = self.open(false).await?;
        let close = self.alive.child_token();
        let io = Cuttable { io, cut: Box::pin(close.clone().cancelled_owned()), close: close.clone() };
        if !h2 {
            let (sender, conn) = http1::handshake(TokioIo::new(io)).await.map_err(connect_error)?;
            drive(conn, close.clone());
            return Ok(Fresh::H1(H1 { sender, version, close }));
        }
        let (sender, conn) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(io))
            .await
            .map_err(connect_error)?;
        let room = Arc::new(AtomicUsize::new(FIRST_STREAMS));
        let (seen, mut conn) = (room.clone(), Box::pin(conn));
        let watched = std::future::poll_fn(move |cx| {
            let polled = conn.as_mut().poll(cx);
            if polled.is_pending() {
                seen.store(conn.current_max_send_streams().max(1), Ordering::Relaxed);
            }
            polled
        });
        drive(watched, close.clone());
        Ok(Fresh::H2(H2 { sender, in_flight: Arc::default(), room, version, close }))
    }

    /// Opens a byte stream, TLS included; says whether HTTP/2 was agreed.
    async fn open(&self, upgrade: bool) -> Result<(Box<dyn Io>, bool), TransportError> {
        let io = self.dial().await?;
        let (Some(tls), Some(name)) = (&self.tls, &self.tls_name) else { return Ok((io, false)) };
        let connector = tokio_rustls::TlsConnector::from(tls.client_config(upgrade));
        let stream = tokio::time::timeout(TLS_TIMEOUT, connector.connect(name.clone(), io))
            .await
            .map_err(|_| TransportError::Connect("TLS handshake timeout".into()))?
            .map_err(|e| TransportError::Connect(format!("TLS: {e}")))?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(stream), h2))
    }

    async fn dial(&self) -> Result<Box<dyn Io>, TransportError> {
        if let Some(dialer) = &self.dialer {
            return dialer().await.map_err(|e| TransportError::Connect(e.to_string()));
        }
        let tcp = tokio::net::TcpStream::connect((self.host.as_str(), self.port));
        let tcp = tokio::time::timeout(DIAL_TIMEOUT, tcp)
            .await
            .map_err(|_| TransportError::Connect("i/o timeout".into()))?
            .map_err(|e| TransportError::Connect(e.to_string()))?;
        tcp.set_nodelay(true).map_err(|e| TransportError::Connect(e.to_string()))?;
        Ok(Box::new(BufReader::with_capacity(READ, tcp)))
    }

    /// Sends a request on a connection of its own that may be upgraded.
    pub async fn send_upgrade(&self, mut request: Outgoing) -> Result<Response<Incoming>, TransportError> {
        self.version();
        let (io, _) = self.open(true).await?;
        let (mut sender, conn) = http1::handshake(TokioIo::new(io)).await.map_err(connect_error)?;
        drive(conn.with_upgrades(), self.alive.child_token());
        if let Ok(host) = http::HeaderValue::from_str(self.server()) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        sender.send_request(request).await.map_err(|e| TransportError::Lost(describe(&e)))
    }
}

type Unsent = (Option<Outgoing>, hyper::Error);

impl H2 {
    fn share(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            in_flight: self.in_flight.clone(),
            room: self.room.clone(),
            version: self.version,
            close: self.close.clone(),
        }
    }
}

/// Runs a connection until it ends or is told to.
fn drive<F, E>(conn: F, close: CancellationToken)
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: std::fmt::Display + Send,
{
    tokio::spawn(async move {
        tokio::select! {
            result = conn => if let Err(e) = result { tracing::debug!(error = %e, "connection ended") },
            () = close.cancelled() => {}
        }
    });
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn server_name(name: &str) -> Result<ServerName<'static>, ConfigError> {
    ServerName::try_from(name.to_string())
        .map_err(|e| ConfigError::Invalid(format!("server name {name:?}: {e}")))
}

fn connect_error(e: hyper::Error) -> TransportError {
    TransportError::Connect(describe(&e))
}

/// An error with its causes: hyper's own text alone says too little.
pub(crate) fn describe(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// A stream that fails once it is told to: hyper drives HTTP/2 in a task of its own, which outlives the handle.
struct Cuttable {
    io: Box<dyn Io>,
    cut: Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>,
    close: CancellationToken,
}

fn cut() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "closed because certificates or CA changed")
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.close.is_cancelled() || self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        Pin::new(&mut *self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.close.is_cancelled() {
            return Poll::Ready(Err(cut()));
        }
        Pin::new(&mut *self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}

/// What ends with the body of an answer.
enum Guard {
    Stream(Arc<AtomicUsize>),
    Connection { pool: Arc<Mutex<Pool>>, conn: Option<H1> },
}

impl Drop for Guard {
    fn drop(&mut self) {
        match self {
            Self::Stream(count) => {
                count.fetch_sub(1, Ordering::Relaxed);
            }
            Self::Connection { pool, conn } => {
                let mut pool = pool.lock();
                if let Some(conn) =
                    conn.take().filter(|c| !c.sender.is_closed() && pool.h1.len() < MAX_IDLE_H1)
                {
                    pool.h1.push(conn);
                }
            }
        }
    }
}

/// Body of an answer, as it comes in.
pub struct Body {
    inner: Incoming,
    guard: Option<Guard>,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.guard = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
