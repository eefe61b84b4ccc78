//! Assembly: reads files, builds the parts, runs the server until it is told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use auth::authenticator::TokenUnion;
use auth::request_header::RequestHeaderConfig;
use auth::x509::CaBundle;
use auth::{PrivilegedGroups, SYSTEM_PRIVILEGED_GROUP, Union};
use registry::api::Registry;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::chain::authenticate::Authentication;
use crate::chain::in_flight::InFlight;
use crate::endpoints::health::{Health, Page};
use crate::serve::{self, tls};
use crate::server::{Lifecycle, Limits, Server};

/// What the flags say, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// `--bind-address` and `--secure-port`
    pub listen: SocketAddr,
    /// `--tls-cert-file` and `--tls-private-key-file`
    pub serving: (PathBuf, PathBuf),
    /// `--client-ca-file`
    pub client_ca: Option<PathBuf>,
    /// `--requestheader-client-ca-file`
    pub front_proxy_ca: Option<PathBuf>,
    /// Other `--requestheader-*` flags.
    pub front_proxy: RequestHeaderConfig,
    /// `--anonymous-auth`
    pub anonymous: bool,
    /// Limits and times.
    pub limits: Limits,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file that a flag names.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A CA bundle.
    #[error("CA bundle {path}: {source}")]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: auth::x509::BundleError,
    },
    /// The serving pair.
    #[error("serving certificate {path}: {source}")]
    Tls {
        /// The certificate file.
        path: PathBuf,
        /// What is wrong.
        source: tls::TlsError,
    },
    /// The port.
    #[error("failed to create listener: failed to listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|source| StartError::Read { path: path.to_owned(), source })
}

fn bundle(path: Option<&Path>) -> Result<Option<Arc<CaBundle>>, StartError> {
    let Some(path) = path else { return Ok(None) };
    let bundle = CaBundle::from_pem(&read(path)?)
        .map_err(|source| StartError::Bundle { path: path.to_owned(), source })?;
    Ok(Some(Arc::new(bundle)))
}

/// Runs until `stop`.
///
/// # Errors
/// When a part cannot be built; nothing was served then.
pub async fn run(
    config: Config,
    registry: Arc<dyn Registry>,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    serve(config, registry, listener, stop).await
}

/// [`run`] on a port that is already bound.
///
/// # Errors
/// When a part cannot be built; nothing was served then.
pub async fn serve(
    config: Config,
    registry: Arc<dyn Registry>,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let client_ca = bundle(config.client_ca.as_deref())?;
    let front_proxy_ca = bundle(config.front_proxy_ca.as_deref())?;
    let (certificate, key) = &config.serving;
    let tls_error = |source| StartError::Tls { path: certificate.clone(), source };
    let pair = tls::ServingPair::from_pem(&read(certificate)?, &read(key)?, Vec::new()).map_err(tls_error)?;
    let bundles: Vec<Arc<CaBundle>> = client_ca.iter().chain(&front_proxy_ca).cloned().collect();
    let tls_config =
        tls::config(Arc::new(ArcSwap::from_pointee(vec![pair])), &bundles, true).map_err(tls_error)?;
    let server = Arc::new(Server {
        registry,
        authentication: Authentication {
            client_ca: Arc::new(ArcSwapOption::new(client_ca)),
            front_proxy: config.front_proxy.clone(),
            front_proxy_ca: Arc::new(ArcSwapOption::new(front_proxy_ca)),
            tokens: Arc::new(TokenUnion(Vec::new())),
            api_audiences: Vec::new(),
            anonymous: config.anonymous,
        },
        authorizer: Arc::new(Union(vec![Arc::new(PrivilegedGroups(vec![
            SYSTEM_PRIVILEGED_GROUP.to_owned(),
        ]))])),
        in_flight: InFlight::new(400, 200),
        health: health(),
        advertise: config.listen.to_string(),
        limits: config.limits.clone(),
        lifecycle: Lifecycle::default(),
    });
    tracing::info!(address = %config.listen, "Serving securely");
    let options = serve::Options { http2_max_streams: 0, disable_http2: false };
    serve::run(server, listener, TlsAcceptor::from(Arc::new(tls_config)), options, stop).await;
    Ok(())
}

fn health() -> Health {
    let health = Health::default();
    let everywhere = [Page::Healthz, Page::Livez, Page::Readyz];
    for name in ["ping", "log"] {
        health.add(name, &everywhere, || Box::pin(async { Ok(()) }));
    }
    health
}
