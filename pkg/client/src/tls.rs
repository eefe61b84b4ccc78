//! TLS for clients: CA and client certificate from files or memory, exchanged while connections are open.
//!
//! A [`ClientCert`] is a cell: whoever holds it (certificate rotation) may put in a new pair, and the transport then
//! closes the connections made with the old one. Files are looked at again when a request finds them older than ten seconds.
//! Upstream: client-go/transport (cert_rotation.go, ca_rotation.go, tls_cache.go).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::config::{Config, ConfigError};
use crate::kubeconfig::{Source, Stamp};

/// How old a look at a file may be. Upstream checks every five minutes; a stat is cheap enough for more.
const RECHECK: Duration = Duration::from_secs(10);

/// A client certificate that may change.
#[derive(Clone)]
pub struct ClientCert(Arc<CertCell>);

struct CertCell {
    current: ArcSwapOption<CertifiedKey>,
    version: AtomicU64,
    files: Option<Mutex<Files>>,
}

struct Files {
    cert: Source,
    key: Source,
    stamps: (Stamp, Stamp),
    checked: Instant,
}

impl std::fmt::Debug for ClientCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientCert(version {})", self.version())
    }
}

impl ClientCert {
    /// An empty cell: no certificate is offered until [`ClientCert::set_pem`].
    pub fn empty() -> Self {
        Self(Arc::new(CertCell { current: ArcSwapOption::empty(), version: AtomicU64::new(0), files: None }))
    }

    /// A certificate chain and key in PEM.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, ConfigError> {
        let cell = Self::empty();
        cell.set_pem(cert, key)?;
        Ok(cell)
    }

    /// A pair of files (one file may hold both), read again as they change.
    pub fn from_sources(cert: Source, key: Source) -> Result<Self, ConfigError> {
        let pair = load(&cert, &key)?;
        let files = matches!(cert, Source::File(_)) || matches!(key, Source::File(_));
        let stamps = (cert.stamp(), key.stamp());
        let files = files.then(|| Mutex::new(Files { cert, key, stamps, checked: Instant::now() }));
        Ok(Self(Arc::new(CertCell {
            current: ArcSwapOption::new(Some(pair)),
            version: AtomicU64::new(1),
            files,
        })))
    }

    /// Puts in a new pair; connections made with the old one are closed.
    pub fn set_pem(&self, cert: &[u8], key: &[u8]) -> Result<(), ConfigError> {
        let pair = parse_pair(cert, key).map_err(ConfigError::Tls)?;
        self.0.current.store(Some(pair));
        self.0.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// Whether a certificate is present.
    pub fn is_set(&self) -> bool {
        self.0.current.load().is_some()
    }

    /// Offers the present certificate in the handshakes of connections that others make.
    pub fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(Resolver(self.clone()))
    }

    /// Looks at the files, if the last look is old.
    pub fn refresh(&self) {
        let Some(files) = &self.0.files else { return };
        let mut files = files.lock();
        if files.checked.elapsed() < RECHECK {
            return;
        }
        files.checked = Instant::now();
        let stamps = (files.cert.stamp(), files.key.stamp());
        if stamps == files.stamps {
            return;
        }
        match load(&files.cert, &files.key) {
            Ok(pair) => {
                files.stamps = stamps;
                self.0.current.store(Some(pair));
                self.0.version.fetch_add(1, Ordering::Release);
            }
            // Half-written files are normal during rotation: keep the old pair and look again.
            Err(e) => tracing::warn!(error = %e, "keeping the previous client certificate"),
        }
    }
}

fn load(cert: &Source, key: &Source) -> Result<Arc<CertifiedKey>, ConfigError> {
    let pair = parse_pair(&cert.read("client certificate")?, &key.read("client key")?);
    pair.map_err(|reason| match cert {
        Source::File(path) => ConfigError::File { what: "client certificate", path: path.clone(), reason },
        Source::Inline(_) => ConfigError::Tls(reason),
    })
}

fn parse_pair(cert: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    let certs: Vec<_> = CertificateDer::pem_slice_iter(cert)
        .map(|c| c.map(CertificateDer::into_owned))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("client certificate: {e}"))?;
    if certs.is_empty() {
        return Err("client certificate: no CERTIFICATE block found".into());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("client key: {e}"))?;
    let key = provider().key_provider.load_private_key(key).map_err(|e| format!("client key: {e}"))?;
    let pair = CertifiedKey::new(certs, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(pair))
        }
        Err(e) => Err(format!("client certificate and key do not belong together: {e}")),
    }
}

#[derive(Debug)]
struct Resolver(ClientCert);

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.0.current.load_full()
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// The crypto provider of the whole product.
pub fn provider() -> Arc<CryptoProvider> {
    use std::sync::OnceLock;
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

/// TLS settings that follow their sources.
pub(crate) struct TlsSource {
    ca: Option<Source>,
    insecure: bool,
    cert: Option<ClientCert>,
    state: Mutex<State>,
}

struct State {
    ca_stamp: Stamp,
    checked: Instant,
    ca_version: u64,
    h2: Arc<rustls::ClientConfig>,
    h1: Arc<rustls::ClientConfig>,
}

impl TlsSource {
    /// `cert` is the identity's ([`crate::Identity::client_cert`]).
    pub fn new(config: &Config, cert: Option<ClientCert>) -> Result<Self, ConfigError> {
        let (h2, h1) = build(config.ca.as_ref(), config.insecure, cert.as_ref())?;
        let state = State {
            ca_stamp: config.ca.as_ref().and_then(Source::stamp),
            checked: Instant::now(),
            ca_version: 0,
            h2,
            h1,
        };
        Ok(Self { ca: config.ca.clone(), insecure: config.insecure, cert, state: Mutex::new(state) })
    }

    /// Changes whenever connections should be made anew: (CA, certificate).
    pub fn version(&self) -> (u64, u64) {
        if let Some(cert) = &self.cert {
            cert.refresh();
        }
        let mut state = self.state.lock();
        if let Some(ca) = self.ca.as_ref().filter(|_| state.checked.elapsed() >= RECHECK) {
            state.checked = Instant::now();
            let stamp = ca.stamp();
            if stamp != state.ca_stamp {
                match build(Some(ca), self.insecure, self.cert.as_ref()) {
                    Ok((h2, h1)) => {
                        state.ca_version += 1;
                        (state.h2, state.h1, state.ca_stamp) = (h2, h1, stamp);
                    }
                    Err(e) => tracing::warn!(error = %e, "keeping the previous CA certificates"),
                }
            }
        }
        (state.ca_version, self.cert.as_ref().map_or(0, ClientCert::version))
    }

    /// The settings; `upgrade` offers HTTP/1.1 only.
    pub fn client_config(&self, upgrade: bool) -> Arc<rustls::ClientConfig> {
        let state = self.state.lock();
        if upgrade { state.h1.clone() } else { state.h2.clone() }
    }
}

type Pair = (Arc<rustls::ClientConfig>, Arc<rustls::ClientConfig>);

fn build(ca: Option<&Source>, insecure: bool, cert: Option<&ClientCert>) -> Result<Pair, ConfigError> {
    let provider = provider();
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| ConfigError::Tls(e.to_string()))?;
    let builder = if insecure {
        builder.dangerous().with_custom_certificate_verifier(AcceptAny::new(provider))
    } else {
        builder.with_root_certificates(roots(ca)?)
    };
    let mut h2 = match cert {
        Some(cert) => builder.with_client_cert_resolver(Arc::new(Resolver(cert.clone()))),
        None => builder.with_no_client_auth(),
    };
    // A resumed session keeps the identity of the first handshake: a renewed certificate would never be shown.
    h2.resumption = rustls::client::Resumption::disabled();
    let mut h1 = h2.clone();
    h2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    h1.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(h2), Arc::new(h1)))
}

fn roots(ca: Option<&Source>) -> Result<rustls::RootCertStore, ConfigError> {
    let mut store = rustls::RootCertStore::empty();
    match ca {
        Some(source) => {
            let pem = source.read("certificate authority")?;
            for cert in CertificateDer::pem_slice_iter(&pem) {
                let cert = cert.map_err(|e| ConfigError::Tls(format!("certificate authority: {e}")))?;
                store.add(cert).map_err(|e| ConfigError::Tls(format!("certificate authority: {e}")))?;
            }
            if store.is_empty() {
                return Err(ConfigError::Tls("certificate authority: no CERTIFICATE block found".into()));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
        }
    }
    Ok(store)
}

/// Takes any certificate and believes any signature: who the server is was not asked. A signature by a certificate that
/// anybody could have made proves nothing, and checking it would refuse certificates of X.509 version 1, which Go takes.
#[derive(Debug)]
pub struct AcceptAny(Arc<CryptoProvider>);

impl AcceptAny {
    /// For a configuration made with this provider.
    pub fn new(provider: Arc<CryptoProvider>) -> Arc<Self> {
        Arc::new(Self(provider))
    }
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
