//! Keys of pods, each with a signing request that proves that it is held.
//! Upstream: generateKeyAndProof and pemEncodeKey in pkg/kubelet/podcertificate/podcertificatemanager.go, v1.37.

use machinery::{golang, pem};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, RsaKeySize};

/// A key and the proof of holding it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The key, PKCS#8 in PEM.
    pub key: Vec<u8>,
    /// An empty PKCS#10 request in DER, signed with the key.
    pub request: Vec<u8>,
}

/// Makes a key of the type that a pod asks for. Slow for RSA.
///
/// # Errors
/// If the type is unknown or there is no randomness.
pub fn generate(kind: &str) -> Result<Proven, String> {
    let pair = match kind {
        "RSA3072" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
        "RSA4096" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
        "ECDSAP256" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        "ECDSAP384" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        "ECDSAP521" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
        "ED25519" => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        other => return Err(format!("unknown key type {}", golang::quote(other))),
    };
    let pair = pair.map_err(|e| format!("while generating {} key: {e}", spelled(kind)))?;
    let mut empty = CertificateParams::default();
    empty.distinguished_name = DistinguishedName::new();
    let request =
        empty.serialize_request(&pair).map_err(|e| format!("while generating stub PKCS#10 request: {e}"))?;
    let key = pem::encode("PRIVATE KEY", pair.serialized_der()).into_bytes();
    Ok(Proven { key, request: request.der().to_vec() })
}

fn spelled(kind: &str) -> String {
    match kind.split_at_checked(3) {
        Some(("RSA", bits)) => format!("RSA {bits}"),
        Some(("ECD", curve)) => format!("ECDSA {}", curve.trim_start_matches("SA")),
        _ => "Ed25519".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

    #[test]
    fn every_type_proves_itself() {
        for (kind, bits) in
            [("RSA3072", 3072), ("RSA4096", 4096), ("ECDSAP256", 256), ("ECDSAP384", 384), ("ECDSAP521", 521)]
        {
            let proven = generate(kind).unwrap();
            let (_, request) = X509CertificationRequest::from_der(&proven.request).unwrap();
            let info = &request.certification_request_info;
            assert!(info.subject.iter().next().is_none() && info.attributes().is_empty(), "{kind}");
            let size = info.subject_pki.parsed().unwrap().key_size();
            // The parser counts P-521 in whole bytes.
            assert_eq!(size.div_ceil(8), usize::div_ceil(bits, 8), "{kind}");
            assert_eq!(pem::blocks(&proven.key)[0].label, "PRIVATE KEY");
        }
        let proven = generate("ED25519").unwrap();
        let (_, request) = X509CertificationRequest::from_der(&proven.request).unwrap();
        let algorithm = &request.certification_request_info.subject_pki.algorithm.algorithm;
        assert_eq!(algorithm.to_id_string(), "1.3.101.112");
        assert_eq!(generate("RSA1024").unwrap_err(), "unknown key type \"RSA1024\"");
    }
}
