//! TLS configuration: serving pairs by server name, client certificates requested and not judged.
//!
//! The handshake takes any client certificate whose signature is good; whether it is trusted is decided per request,
//! so that an expired or foreign certificate is a 401 and a new CA bundle needs no new connections.

use std::sync::Arc;

use arc_swap::ArcSwap;
use auth::x509::CaBundle;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

/// A serving pair that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate text.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The key text, or a key that does not belong to the certificate.
    #[error("private key: {0}")]
    Key(String),
    /// The provider refuses the combination.
    #[error("TLS configuration: {0}")]
    Config(#[from] rustls::Error),
}

/// One pair and the names it serves.
pub struct ServingPair {
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

impl ServingPair {
    /// Reads a PEM pair. `names` are the server names it answers to; when empty, those in the certificate.
    ///
    /// # Errors
    /// When either text is unusable or they do not match.
    pub fn from_pem(certificate: &[u8], key: &[u8], names: Vec<String>) -> Result<Self, TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|e| TlsError::Certificate(e.to_string()))?;
        let leaf =
            chain.first().ok_or_else(|| TlsError::Certificate("no certificate in the file".to_owned()))?;
        let names = if names.is_empty() { names_of(leaf) } else { names };
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| TlsError::Key(e.to_string()))?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(|e| TlsError::Key(e.to_string()))?;
        Ok(Self { names, key: Arc::new(key) })
    }
}

fn names_of(leaf: &CertificateDer<'_>) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(leaf) else { return Vec::new() };
    let Ok(Some(san)) = parsed.subject_alternative_name() else { return Vec::new() };
    san.value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(dns) => Some((*dns).to_owned()),
            _ => None,
        })
        .collect()
}

/// The pairs in use: the first is the default, the others are chosen by name. Replaceable while serving.
pub type ServingPairs = Arc<ArcSwap<Vec<ServingPair>>>;

struct Resolver(ServingPairs);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.0.load();
        let wanted = hello.server_name().unwrap_or_default();
        let by_name = pairs.iter().skip(1).find(|p| p.names.iter().any(|n| name_matches(n, wanted)));
        by_name.or_else(|| pairs.first()).map(|p| p.key.clone())
    }
}

/// Exact, or `*.suffix` for one label.
fn name_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(suffix) => name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == suffix),
        None => !name.is_empty() && pattern == name,
    }
}

/// Asks for a client certificate and accepts whichever comes.
#[derive(Debug)]
struct RequestClientCert {
    provider: Arc<CryptoProvider>,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for RequestClientCert {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The server configuration. `bundles` give the CA names that clients are told to choose certificates by.
///
/// # Errors
/// When the provider cannot do TLS 1.2 and 1.3.
pub fn config(pairs: ServingPairs, bundles: &[Arc<CaBundle>], http2: bool) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let subjects = bundles.iter().flat_map(|b| b.subjects().iter().cloned());
    let hints = subjects.map(DistinguishedName::from).collect();
    let verifier = Arc::new(RequestClientCert { provider: provider.clone(), hints });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Resolver(pairs)));
    config.alpn_protocols =
        if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::name_matches;

    #[test]
    fn names() {
        for (pattern, name, want) in [
            ("a.b", "a.b", true),
            ("*.b", "a.b", true),
            ("*.b", "b", false),
            ("*.b", "x.a.b", false),
            ("", "", false),
        ] {
            assert_eq!(name_matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
