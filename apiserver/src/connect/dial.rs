//! Connections to kubelets, pods and services. Upstream: `pkg/kubelet/client/kubelet_client.go`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::tls::AcceptAny;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::Transport;
use crate::options::KubeletClient;

/// Opens connections. Built once.
pub struct Dialer {
    verified: TlsConnector,
    unverified: TlsConnector,
    anonymous: TlsConnector,
    timeout: Duration,
    /// `--kubelet-preferred-address-types`
    pub(crate) address_types: Vec<String>,
}

/// A file or certificate of the kubelet client that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DialerError {
    /// A file.
    #[error("reading {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The TLS library refuses.
    #[error("kubelet client TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Both halves of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn file_error(path: &std::path::Path, why: impl std::fmt::Display) -> DialerError {
    DialerError::File { path: path.to_owned(), why: why.to_string() }
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, DialerError> {
    let all = CertificateDer::pem_file_iter(path).map_err(|e| file_error(path, e))?;
    all.collect::<Result<_, _>>().map_err(|e| file_error(path, e))
}

fn identity(flags: &KubeletClient) -> Result<Option<Identity>, DialerError> {
    let Some((certificate, key)) = &flags.client else { return Ok(None) };
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| file_error(key, e))?;
    Ok(Some((certificates(certificate)?, key_der)))
}

fn config(roots: Option<RootCertStore>, identity: Option<Identity>) -> Result<TlsConnector, DialerError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match roots {
        Some(roots) => builder.with_root_certificates(roots),
        None => builder.dangerous().with_custom_certificate_verifier(AcceptAny::new(provider)),
    };
    let config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    // Upgrades need HTTP/1.1, so nothing else is offered.
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Dialer {
    /// Reads the kubelet client's files.
    ///
    /// # Errors
    /// When one cannot be used.
    pub fn new(flags: &KubeletClient) -> Result<Self, DialerError> {
        let mut roots = None;
        if let Some(path) = &flags.ca {
            let mut store = RootCertStore::empty();
            for certificate in certificates(path)? {
                store.add(certificate)?;
            }
            roots = Some(store);
        }
        Ok(Self {
            verified: config(roots, identity(flags)?)?,
            unverified: config(None, identity(flags)?)?,
            anonymous: config(None, None)?,
            timeout: if flags.timeout.is_zero() { Duration::from_secs(30) } else { flags.timeout },
            address_types: flags.address_types.clone(),
        })
    }

    /// Connects; the error is for the client.
    pub(super) async fn connect(
        &self,
        transport: Transport,
        host: &str,
        port: u16,
    ) -> Result<Box<dyn Stream>, String> {
        let what = || format!("dial tcp {host}:{port}");
        let connecting = TcpStream::connect((host, port));
        let tcp = tokio::time::timeout(self.timeout.max(Duration::from_secs(5)), connecting)
            .await
            .map_err(|_| format!("{}: i/o timeout", what()))?
            .map_err(|e| format!("{}: connect: {e}", what()))?;
        let _ = tcp.set_nodelay(true);
        let connector = match transport {
            Transport::Plain => return Ok(Box::new(tcp)),
            Transport::Kubelet => &self.verified,
            Transport::KubeletUnverified => &self.unverified,
            Transport::Tls => &self.anonymous,
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("{}: {e}", what()))?;
        let handshake = tokio::time::timeout(Duration::from_secs(10), connector.connect(name, tcp)).await;
        let tls = handshake.map_err(|_| "net/http: TLS handshake timeout".to_owned())?;
        Ok(Box::new(tls.map_err(|e| format!("tls: failed to verify certificate: {e}"))?))
    }
}
