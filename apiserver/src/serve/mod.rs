//! The secure port: accepts TLS connections, hands each request to the filter chain, and drains on shutdown.
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::chain;
use crate::server::{Connection, Server};

/// TLS hello and request headers must arrive within this time. Upstream: `ReadHeaderTimeout`.
const HEADER_TIMEOUT: Duration = Duration::from_secs(32);
/// Upstream: `http2Options.MaxUploadBufferPerStream` and frame size of `RunServer`, sized so that one request fits.
const HTTP2_STREAM_WINDOW: u32 = 256 << 10;

/// Connection settings that flags set.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// `--http2-max-streams-per-connection`; 0 means upstream's default of 100.
    pub http2_max_streams: u32,
    /// `--disable-http2-serving`
    pub disable_http2: bool,
    /// How long open connections may take to finish after the end of serving.
    pub drain: Duration,
}

/// Serves until `stop`, then lets open connections finish; returns when all are closed.
pub async fn run(
    server: Arc<Server>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    options: Options,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely; waiting lets others close.
                tracing::error!(err = %error, "Failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (server, acceptor, stop) = (server.clone(), acceptor.clone(), stop.clone());
        connections.spawn(async move { connection(server, stream, peer, acceptor, options, stop).await });
    }
    drop(listener);
    connections.close();
    // Requests have their own deadlines; what is still open after this time is cut.
    let _ = tokio::time::timeout(options.drain, connections.wait()).await;
}

async fn connection(
    server: Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    options: Options,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let tls = match tokio::time::timeout(HEADER_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            tracing::debug!(%peer, err = %error, "http: TLS handshake error");
            return;
        }
        Err(_) => return,
    };
    let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = certificates.iter().map(|c| c.clone().into_owned()).collect();
    let connection = Arc::new(Connection { peer, certificates, verified: parking_lot::Mutex::default() });
    let drain = CancellationToken::new();
    let close = drain.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (server, connection, close) = (server.clone(), connection.clone(), close.clone());
        async move {
            let http2 = request.version() == http::Version::HTTP_2;
            let mut response = chain::serve(server, connection, request).await;
            if http2 && response.headers_mut().remove(http::header::CONNECTION).is_some() {
                close.cancel();
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let builder = builder(options);
    let io = TokioIo::new(tls);
    let serving = builder.serve_connection_with_upgrades(io, service);
    tokio::pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = async { tokio::select! { () = stop.cancelled() => {}, () = drain.cancelled() => {} } } => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, err = %error, "connection ended");
    }
}

fn builder(options: Options) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(true)
        .half_close(false);
    let streams = if options.http2_max_streams == 0 { 100 } else { options.http2_max_streams };
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_STREAM_WINDOW.saturating_mul(streams.min(1000)))
        .max_frame_size(HTTP2_STREAM_WINDOW)
        .max_header_list_size(1 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    builder
}
