//! HTTP/1.1 connections to one server, kept between requests.
//!
//! A request takes an idle connection or opens one; it goes back when the answer was read to its end. Idle ones are
//! dropped after 90 seconds, and few are kept, as Go's transport does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::resolve::Resolver;
use super::tls;
use crate::web::body::Body;

const IDLE_FOR: Duration = Duration::from_secs(90);
const MAX_IDLE: usize = 25;
const DIAL: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Both halves of a connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// A host.
    Host(String, u16),
    /// A service: resolved for each connection.
    Service { namespace: String, name: String, port: u16 },
}

impl Place {
    /// What URLs and the `Host` header call it.
    pub(crate) fn authority(&self) -> String {
        match self {
            Place::Host(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Place::Host(host, port) => format!("{host}:{port}"),
            Place::Service { namespace, name, port } => format!("{name}.{namespace}.svc:{port}"),
        }
    }

    fn tls_name(&self) -> String {
        match self {
            Place::Host(host, _) => host.clone(),
            Place::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
        }
    }
}

/// Opens a TLS connection.
pub(crate) async fn connect(
    place: &Place,
    resolver: &Resolver,
    config: &Arc<ClientConfig>,
) -> Result<Box<dyn Stream>, String> {
    let (host, port) = match place {
        Place::Host(host, port) => (host.clone(), *port),
        Place::Service { namespace, name, port } => resolver.resolve(namespace, name, *port).await?,
    };
    let what = Place::Host(host.clone(), port).authority();
    let tcp = tokio::time::timeout(DIAL, TcpStream::connect((host.as_str(), port)))
        .await
        .map_err(|_| format!("dial tcp {what}: i/o timeout"))?
        .map_err(|e| dial_error(&e, &host, &what))?;
    // Without it the connection is slower, not wrong.
    let _ = tcp.set_nodelay(true);
    let name = ServerName::try_from(place.tls_name()).map_err(|e| format!("dial tcp {what}: {e}"))?;
    let connector = tokio_rustls::TlsConnector::from(config.clone());
    let handshake = tokio::time::timeout(HANDSHAKE, connector.connect(name, tcp)).await;
    let tls = handshake.map_err(|_| "net/http: TLS handshake timeout".to_owned())?;
    Ok(Box::new(tls.map_err(|e| tls::explain(&e))?))
}

/// Go prints the failed system call and the reason without its number.
fn dial_error(error: &std::io::Error, host: &str, address: &str) -> String {
    let text = error.to_string();
    if text.starts_with("failed to lookup address") {
        return format!("dial tcp: lookup {host}: no such host");
    }
    let reason = text.split(" (os error").next().unwrap_or_default();
    format!("dial tcp {address}: connect: {}", reason.to_ascii_lowercase())
}

type Sender = SendRequest<Body>;

struct Idle {
    sender: Sender,
    since: Instant,
}

/// The connections to one server.
pub(crate) struct Pool {
    place: Place,
    resolver: Resolver,
    config: Arc<ClientConfig>,
    idle: Mutex<Vec<Idle>>,
}

/// An answer, read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Pool {
    pub(crate) fn new(place: Place, resolver: Resolver, config: Arc<ClientConfig>) -> Arc<Self> {
        Arc::new(Self { place, resolver, config, idle: Mutex::default() })
    }

    fn take(&self) -> Option<Sender> {
        let mut idle = self.idle.lock();
        idle.retain(|i| i.since.elapsed() < IDLE_FOR && !i.sender.is_closed());
        let ready = idle.iter().rposition(|i| i.sender.is_ready())?;
        Some(idle.swap_remove(ready).sender)
    }

    fn put(&self, sender: Sender) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE && !sender.is_closed() {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Opens a connection of its own, for an upgrade.
    pub(crate) async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        connect(&self.place, &self.resolver, &self.config).await
    }

    async fn open(&self) -> Result<Sender, String> {
        let stream = self.connect().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        // Ends when the server closes, or when nobody holds the sender any more.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(err = %error, "connection ended");
            }
        });
        Ok(sender)
    }

    /// The value of `Host`.
    pub(crate) fn authority(&self) -> String {
        self.place.authority()
    }

    /// Sends a request whose URI is a path; `Host` is set here. The connection is kept once the answer was read.
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        mut request: Request<Body>,
    ) -> Result<Response<Pooled>, String> {
        let host = http::HeaderValue::from_str(&self.authority()).map_err(|e| e.to_string())?;
        request.headers_mut().insert(http::header::HOST, host);
        loop {
            let pooled = self.take();
            let fresh = pooled.is_none();
            let mut sender = match pooled {
                Some(sender) => sender,
                None => self.open().await?,
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let back = Some((self.clone(), sender));
                    return Ok(response.map(|inner| Pooled { inner, back }));
                }
                // An idle connection may have been closed at the other end; the request was not sent.
                Err(mut error) => match error.take_message().filter(|_| !fresh) {
                    Some(back) => request = back,
                    None => return Err(lost(error.error())),
                },
            }
        }
    }

    /// Sends a request and reads the answer, up to `limit` bytes.
    pub(crate) async fn send(
        self: &Arc<Self>,
        request: Request<Body>,
        limit: usize,
    ) -> Result<Answer, String> {
        let (parts, body) = self.exchange(request).await?.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

/// The body of an answer; its end gives the connection back.
pub(crate) struct Pooled {
    inner: Incoming,
    back: Option<(Arc<Pool>, Sender)>,
}

impl http_body::Body for Pooled {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => {
                if let Some((pool, sender)) = self.back.take() {
                    pool.put(sender);
                }
            }
            Poll::Ready(Some(Err(_))) => self.back = None,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        // Asked to the end, so that the connection comes back.
        self.back.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

fn lost(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "EOF".to_owned()
    } else {
        error.to_string()
    }
}
