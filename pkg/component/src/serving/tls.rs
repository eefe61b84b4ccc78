//! The server side of TLS: client certificates are asked for and accepted as they come.
//!
//! Whether a client certificate is trusted is decided per request by the authenticator, so that a foreign or expired
//! certificate is a 401 and not a broken handshake. Upstream: apiserver/pkg/server/secure_serving.go (RequestClientCert).

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::certs::Certificates;
use super::names::TlsParameters;

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

/// Builds the configuration. `ca_subjects` are DER names of accepted client CAs, shown to clients as a hint.
///
/// # Errors
/// The parameters name something unknown or leave nothing usable.
pub fn server_config(
    certificates: Arc<Certificates>,
    parameters: &TlsParameters,
    ca_subjects: &[Vec<u8>],
    http2: bool,
) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(parameters.provider()?);
    let hints = ca_subjects.iter().map(|s| DistinguishedName::from(s.clone())).collect();
    let verifier = Arc::new(RequestClientCert { provider: provider.clone(), hints });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(parameters.versions()?)
        .map_err(|e| format!("TLS configuration: {e}"))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    config.alpn_protocols =
        if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(Arc::new(config))
}
