//! Connections to one server: HTTP/2 shared by all calls (HTTP/1.1 where the server has nothing better), and
//! HTTP/1.1 connections of their own for upgrades.
//!
//! A connection carries as many calls as the server allows; the next call then opens another one, as Go's transport does.
//! Connections made with an outdated certificate or CA are closed, dead ones are noticed by pings (30 s, 15 s, as
//! client-go). Retrying is not done here, except for requests that provably were not sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::ahead::Ahead;
use crate::config::{Config, ConfigError, Dialer};
use crate::http2::{self, Http2};
use crate::spans::RequestSpan;
use crate::tls::TlsSource;

/// A byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Upstream: client-go and apimachinery/pkg/util/net, SetTransportDefaults.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
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
type Outgoing = Request<Bytes>;
/// Why a body ended early, or a request failed.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The request, if it provably was not sent, and what kept it.
pub(crate) type Unsent = (Option<Box<Outgoing>>, Failure);

struct H1 {
    sender: http1::SendRequest<Full<Bytes>>,
    version: Version,
    close: CancellationToken,
}

enum Fresh {
    H2(http2::Place),
    H1(H1),
}

/// A connection that has just been made.
enum Made {
    H2(Http2),
    H1(H1),
}

#[derive(Default)]
struct Pool {
    h2: Vec<(Version, Arc<Http2>)>,
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

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Closes all connections; calls under way fail.
    pub fn close_all(&self) {
        let mut pool = self.pool.lock();
        pool.h2.drain(..).for_each(|(_, c)| c.close());
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
                Err((Some(back), e)) => (request, last) = (*back, Some(e)),
                Err((None, e)) => return Err(TransportError::Lost(describe(&*e))),
            }
        }
        Err(TransportError::Connect(last.map_or_else(|| "connection closed".into(), |e| describe(&*e))))
    }

    async fn send_h2(&self, place: http2::Place, mut request: Outgoing) -> Result<Response<Body>, Unsent> {
        let path = request.uri().clone();
        let mut whole = path.clone().into_parts();
        whole.scheme = Some(if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
        whole.authority = Some(self.authority.clone());
        if let Ok(uri) = Uri::from_parts(whole) {
            *request.uri_mut() = uri;
        }
        match place.send(request).await {
            Ok(response) => Ok(response.map(|incoming| Body::of(Inner::H2(incoming)))),
            Err((mut back, e)) => {
                if let Some(request) = &mut back {
                    *request.uri_mut() = path;
                }
                Err((back, e))
            }
        }
    }

    async fn send_h1(&self, mut c: H1, mut request: Outgoing) -> Result<Response<Body>, Unsent> {
        if let Ok(host) = http::HeaderValue::from_str(self.server()) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let empty = request.body().clone();
        match c.sender.try_send_request(request.map(Full::new)).await {
            Ok(response) => {
                let guard = Guard { pool: self.pool.clone(), conn: Some(c) };
                Ok(response.map(|incoming| Body::of(Inner::H1(incoming, Some(guard)))))
            }
            Err(mut e) => {
                let back = e.take_message().map(|request| Box::new(request.map(|_| empty)));
                Err((back, e.into_error().into()))
            }
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
        let made = tokio::time::timeout(DIAL_TIMEOUT + TLS_TIMEOUT, connect)
            .await
            .map_err(|_| TransportError::Connect("HTTP handshake timed out".into()))??;
        match made {
            Made::H1(c) => Ok(Fresh::H1(c)),
            Made::H2(c) => {
                let c = Arc::new(c);
                let place = c.enter();
                self.pool.lock().h2.push((version, c));
                place
                    .map(Fresh::H2)
                    .ok_or_else(|| TransportError::Connect("the server allows no calls".to_string()))
            }
        }
    }

    fn version(&self) -> Version {
        self.tls.as_ref().map_or((0, 0), TlsSource::version)
    }

    fn pooled(&self, version: Version) -> Option<Fresh> {
        let mut pool = self.pool.lock();
        pool.h2.retain(|(made_with, c)| {
            let current = *made_with == version;
            if !current {
                c.close();
            }
            current && !c.is_closed()
        });
        pool.h1.retain(|c| c.version == version && !c.sender.is_closed());
        let place = pool.h2.iter().find_map(|(_, c)| c.enter());
        place.map(Fresh::H2).or_else(|| pool.h1.pop().map(Fresh::H1))
    }

    async fn connect(&self, version: Version) -> Result<Made, TransportError> {
        let (io, h2) = self.open(false).await?;
        let close = self.alive.child_token();
        if h2 {
            let made = Http2::open(io, close).await;
            return made.map(Made::H2).map_err(|e| TransportError::Connect(describe(&e)));
        }
        let (sender, conn) = http1::handshake(TokioIo::new(io)).await.map_err(connect_error)?;
        drive(conn, close.clone());
        Ok(Made::H1(H1 { sender, version, close }))
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
        Ok(Box::new(Ahead::new(tcp, READ)))
    }

    /// Sends a request on a connection of its own that may be upgraded.
    pub async fn send_upgrade(&self, request: Outgoing) -> Result<Response<Incoming>, TransportError> {
        self.version();
        let (io, _) = self.open(true).await?;
        let mut request = request.map(Full::new);
        let (mut sender, conn) = http1::handshake(TokioIo::new(io)).await.map_err(connect_error)?;
        drive(conn.with_upgrades(), self.alive.child_token());
        if let Ok(host) = http::HeaderValue::from_str(self.server()) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        sender.send_request(request).await.map_err(|e| TransportError::Lost(describe(&e)))
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

/// Puts a HTTP/1.1 connection back when the body of an answer has ended.
struct Guard {
    pool: Arc<Mutex<Pool>>,
    conn: Option<H1>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut pool = self.pool.lock();
        if let Some(conn) = self.conn.take().filter(|c| !c.sender.is_closed() && pool.h1.len() < MAX_IDLE_H1)
        {
            pool.h1.push(conn);
        }
    }
}

/// Body of an answer, as it comes in, with the request's span if it has one.
pub struct Body {
    inner: Inner,
    _span: Option<Box<dyn RequestSpan>>,
}

impl Body {
    fn of(inner: Inner) -> Self {
        Self { inner, _span: None }
    }

    /// The body, with which the request's span ends.
    pub(crate) fn spanned(self, span: Option<Box<dyn RequestSpan>>) -> Self {
        Self { _span: span, ..self }
    }
}

enum Inner {
    H2(http2::Incoming),
    H1(Incoming, Option<Guard>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Failure>>> {
        match &mut self.inner {
            Inner::H2(incoming) => incoming.poll_frame(cx).map(|f| f.map(|f| f.map_err(Failure::from))),
            Inner::H1(incoming, guard) => {
                let polled = Pin::new(incoming).poll_frame(cx);
                if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
                    *guard = None;
                }
                polled.map(|f| f.map(|f| f.map_err(Failure::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::H2(incoming) => incoming.is_end_stream(),
            Inner::H1(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match &self.inner {
            Inner::H2(_) => http_body::SizeHint::default(),
            Inner::H1(incoming, _) => incoming.size_hint(),
        }
    }
}
