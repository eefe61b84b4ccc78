//! TLS settings of connections to webhooks and aggregated servers, and Go's words for what is wrong with a certificate.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use client::ClientCert;
use client::tls::AcceptAny;

/// What servers are believed by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// PEM certificates; the system's when there are none.
    Bundle(&'a [u8]),
    /// Anything.
    Blindly,
}

/// Settings for HTTP/1.1: upgrades need it, and it spreads connections over endpoints.
pub(crate) fn config(trust: Trust<'_>, identity: Option<&ClientCert>) -> Result<Arc<ClientConfig>, String> {
    let provider = client::tls::provider();
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Blindly => AcceptAny::new(provider.clone()),
        Trust::Bundle(pem) => Arc::new(Pinned::new(pem)?),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Verifies by given roots. A certificate that is itself one of the roots is believed whatever it says of being a CA,
/// as Go's verifier does: self-signed serving certificates are often their own bundle.
#[derive(Debug)]
struct Pinned {
    roots: Vec<CertificateDer<'static>>,
    inner: Arc<WebPkiServerVerifier>,
}

impl Pinned {
    fn new(pem: &[u8]) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        let mut roots = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate
                .map_err(|_| "unable to load root certificates: unable to parse bytes as PEM block")?;
            // Go skips what it cannot use as well; a bundle without any use is refused below.
            if store.add(certificate.clone()).is_ok() {
                roots.push(certificate);
            }
        }
        if pem.is_empty() {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        } else if roots.is_empty() {
            return Err("unable to load root certificates: unable to parse bytes as PEM block".to_owned());
        }
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), client::tls::provider());
        let inner = builder.build().map_err(|_| "no root certificates to verify servers by".to_owned())?;
        Ok(Pinned { roots, inner })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        let Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) = &verdict else {
            return verdict;
        };
        if !self.roots.iter().any(|root| root == end_entity) {
            return verdict;
        }
        rustls::client::verify_server_name(&rustls::server::ParsedCertificate::try_from(end_entity)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A failed handshake as Go words it.
pub(crate) fn explain(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else { return error.to_string() };
    let rustls::Error::InvalidCertificate(why) = inner else { return format!("tls: {inner}") };
    let why = match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired or is not yet valid: current time is after its validity".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid: current time is before its validity".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => wrong_name(expected, presented),
        other => format!("{other}"),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

/// `x509.HostnameError`, about the names of the kind that was asked for. webpki prints `DnsName("x")`, `IpAddress(x)`.
fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let wanted = expected.to_str();
    let is_ip = matches!(expected, ServerName::IpAddress(_));
    let kind = if is_ip { "IpAddress(" } else { "DnsName(" };
    let of_kind = presented.iter().filter_map(|p| p.strip_prefix(kind)?.strip_suffix(')'));
    let names: Vec<&str> = of_kind.map(|name| name.trim_matches('"')).collect();
    match (names.as_slice(), is_ip) {
        ([], true) => {
            format!("cannot validate certificate for {wanted} because it doesn't contain any IP SANs")
        }
        ([], false) => format!("certificate is not valid for any names, but wanted to match {wanted}"),
        (names, _) => format!("certificate is valid for {}, not {wanted}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let presented = ["DnsName(\"a.b\")".to_owned(), "IpAddress(127.0.0.1)".to_owned()];
        let check = |name: &str, presented: &[String], want: &str| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            assert_eq!(wrong_name(&name, presented), want);
        };
        check("x.y", &presented, "certificate is valid for a.b, not x.y");
        check("x.y", &presented[1..], "certificate is not valid for any names, but wanted to match x.y");
        check("1.2.3.4", &presented, "certificate is valid for 127.0.0.1, not 1.2.3.4");
        check(
            "1.2.3.4",
            &presented[..1],
            "cannot validate certificate for 1.2.3.4 because it doesn't contain any IP SANs",
        );
    }
}
