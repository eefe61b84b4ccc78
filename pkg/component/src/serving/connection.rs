//! Accepting connections and driving each until it ends or the server drains.
//!
//! One task per connection. Limits are upstream's: 32 s for request headers, 1 MiB of headers, 100 streams, flow-control
//! windows of 256 KiB per stream (apiserver/pkg/server/secure_serving.go Serve).

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::Listener;
use super::body::{self, Body};
use super::gather::Gather;
use super::turns::{Streams, Turns};

/// What is known about a connection; an `Arc` of it is an extension of every request.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    /// The client's address.
    pub remote: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// TLS facts; `None` on a plain port.
    pub tls: Option<TlsInfo>,
}

/// What the handshake told.
#[derive(Debug, Clone)]
pub struct TlsInfo {
    /// The client's certificate chain, leaf first; presented and proven, not verified against any authority.
    pub peer_certificates: Vec<CertificateDer<'static>>,
    /// Name the client asked for.
    pub server_name: Option<String>,
    /// e.g. `TLSv1_3`.
    pub version: &'static str,
    /// HTTP/2 was negotiated.
    pub http2: bool,
}

/// Limits of a server.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// TLS; `None` serves plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// `--http2-max-streams-per-connection`; 0 means upstream's 100.
    pub http2_max_streams: u32,
    /// How long open requests may take once the server drains.
    pub drain: Duration,
    /// Connections at once; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Whether a client that closed its sending side still gets its answer. Without it, as in Go, the end of a client
    /// that waits in a watch is noticed at once.
    pub half_close: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        ServeOptions {
            tls: None,
            http2_max_streams: 0,
            drain: Duration::from_secs(60),
            max_connections: 65_536,
            half_close: true,
        }
    }
}

const HEADER_TIMEOUT: Duration = Duration::from_secs(32);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(32);
/// Holds 99 % of request bodies upstream measured; its figure for windows and frames.
const STREAM_WINDOW: u32 = 256 * 1024;
const DEFAULT_STREAMS: u32 = 100;
const MAX_HEADER_BYTES: usize = 1 << 20;
const MAX_HEADERS: usize = 1_000;

fn builder(options: &ServeOptions, executor: Streams) -> auto::Builder<Streams> {
    let streams = if options.http2_max_streams == 0 { DEFAULT_STREAMS } else { options.http2_max_streams };
    let mut builder = auto::Builder::new(executor);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .half_close(options.half_close);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW.saturating_mul(streams).min(i32::MAX as u32))
        .max_frame_size(STREAM_WINDOW)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        // Peers that vanish without a word are noticed; Go relies on TCP keep-alive for the same.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    builder
}

/// Serves until `shutdown` is cancelled, then lets open requests end for at most `options.drain`.
///
/// `service` gets each request with an `Arc<ConnInfo>` extension. A panic in it becomes a 500.
pub async fn serve<S, Fut>(listener: Listener, options: ServeOptions, service: S, shutdown: CancellationToken)
where
    S: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    serve_each(listener, options, move |_| service.clone(), shutdown).await;
}

/// As [`serve`], with a service of its own for every connection, for what is known or kept per connection.
pub async fn serve_each<M, S, Fut>(
    listener: Listener,
    options: ServeOptions,
    make: M,
    shutdown: CancellationToken,
) where
    M: Fn(&Arc<ConnInfo>) -> S + Clone + Send + Sync + 'static,
    S: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let acceptor = options.tls.clone().map(tokio_rustls::TlsAcceptor::from);
    let slots = Arc::new(tokio::sync::Semaphore::new(options.max_connections));
    let connections = TaskTracker::new();
    // Ends connections that outlive the drain.
    let abort = CancellationToken::new();
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            () = shutdown.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.tcp.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(&error, &shutdown).await;
                continue;
            }
        };
        let streams = Streams::default();
        let (builder, acceptor, make) = (builder(&options, streams.clone()), acceptor.clone(), make.clone());
        let (drain, abort) = (shutdown.clone(), abort.clone());
        connections.spawn(async move {
            let _slot = slot;
            let work = connection(stream, remote, builder, streams, acceptor, make, drain);
            tokio::select! {
                () = work => {}
                () = abort.cancelled() => {}
            }
        });
    }
    // Close the port first: clients must go elsewhere while we drain.
    drop(listener);
    connections.close();
    if tokio::time::timeout(options.drain, connections.wait()).await.is_err() {
        abort.cancel();
        connections.wait().await;
    }
}

/// Out of descriptors or an aborted connection: neither may end the server, the first must not spin.
async fn accept_failed(error: &std::io::Error, shutdown: &CancellationToken) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        return;
    }
    tracing::error!(err = error as &dyn Error, "Accepting a connection failed");
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn connection<M, S, Fut>(
    stream: TcpStream,
    remote: SocketAddr,
    builder: auto::Builder<Streams>,
    streams: Streams,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    make: M,
    drain: CancellationToken,
) where
    M: Fn(&Arc<ConnInfo>) -> S,
    S: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    // An IPv4 client of a dual-stack socket shows as what it is.
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let Some(acceptor) = acceptor else {
        let info = Arc::new(ConnInfo { remote, local, tls: None });
        let service = make(&info);
        return drive(stream, Turns::new(streams, None), info, builder, service, drain).await;
    };
    let handshake = tokio::select! {
        result = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(Gather::new(stream))) => result,
        () = drain.cancelled() => return,
    };
    let mut stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            // Go's net/http logs these at info level; port scanners make many.
            crate::v!(2, remote = %remote, err = %error, "TLS handshake error");
            return;
        }
        Err(_) => {
            crate::v!(2, remote = %remote, "TLS handshake timed out");
            return;
        }
    };
    let session = stream.get_ref().1;
    let http2 = session.alpn_protocol() == Some(b"h2");
    let tls = TlsInfo {
        peer_certificates: session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|c| c.clone().into_owned())
            .collect(),
        server_name: session.server_name().map(String::from),
        version: session.protocol_version().and_then(|v| v.as_str()).unwrap_or("unknown"),
        http2,
    };
    let turn = http2.then(|| stream.get_mut().0.begin());
    let builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    let info = Arc::new(ConnInfo { remote, local, tls: Some(tls) });
    let service = make(&info);
    drive(stream, Turns::new(streams, turn), info, builder, service, drain).await;
}

async fn drive<I, S, Fut>(
    io: I,
    mut turns: Turns,
    info: Arc<ConnInfo>,
    builder: auto::Builder<Streams>,
    service: S,
    drain: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let remote = info.remote;
    // As Go's HTTP/2 server: an answer with `Connection: close` asks the client to go away once it has its answers.
    let goaway = CancellationToken::new();
    let ask = goaway.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(info.clone());
        let (uri, service, ask) = (request.uri().clone(), service.clone(), ask.clone());
        let http2 = request.version() == http::Version::HTTP_2;
        async move {
            let answer = if http2 {
                // In a task of its own: requests of one connection are handled side by side.
                AbortOnDropHandle::new(tokio::spawn(Box::pin(service(request)))).await.ok()
            } else {
                std::panic::AssertUnwindSafe(Box::pin(service(request))).catch_unwind().await.ok()
            };
            let mut response = answer.unwrap_or_else(|| {
                tracing::error!(path = uri.path(), "A request handler panicked");
                body::error(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
            });
            if http2 && response.headers_mut().remove(http::header::CONNECTION).is_some() {
                ask.cancel();
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = turns.run(connection.as_mut()) => result,
        () = async { tokio::select! { () = drain.cancelled() => {}, () = goaway.cancelled() => {} } } => {
            connection.as_mut().graceful_shutdown();
            turns.run(connection.as_mut()).await
        }
    };
    if let Err(error) = result {
        crate::v!(4, remote = %remote, err = %error, "Connection ended with an error");
    }
}
