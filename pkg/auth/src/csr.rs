//! Keys in requests for certificates: what they are, and whether a signature shows that somebody holds them.
//!
//! Of RSA signatures only those of PKCS#1 are verified in requests; no kubelet makes others.
//! Upstream: Go's crypto/x509, as `pkg/apis/certificates/validation` uses it.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

/// The key types that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    Ed25519,
    P224,
    P256,
    P384,
    P521,
    /// Bits of the modulus, in whole bytes.
    Rsa(usize),
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub kind: KeyKind,
    /// `SubjectPublicKeyInfo` in DER.
    pub spki: Vec<u8>,
    bits: Vec<u8>,
}

/// A request in PKCS#10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRequest {
    pub key: PublicKey,
    /// True if it is signed with that key.
    pub proven: bool,
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` in DER. `None` if it is none, or of a type that is not known.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
        if rest.is_empty() { Self::read(&info) } else { None }
    }

    /// The key of a certificate in DER.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        Self::read(certificate.public_key())
    }

    fn read(info: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let bits = info.subject_public_key.data.to_vec();
        let curve = || info.algorithm.parameters.as_ref()?.as_oid().ok().map(|oid| oid.to_id_string());
        let kind = match info.algorithm.algorithm.to_id_string().as_str() {
            "1.3.101.112" if bits.len() == 32 => KeyKind::Ed25519,
            "1.2.840.113549.1.1.1" => match info.parsed().ok()? {
                x509_parser::public_key::PublicKey::RSA(key) => {
                    let modulus = key.modulus.iter().skip_while(|b| **b == 0).count();
                    KeyKind::Rsa(modulus * 8)
                }
                _ => return None,
            },
            "1.2.840.10045.2.1" => match curve()?.as_str() {
                "1.3.132.0.33" => KeyKind::P224,
                "1.2.840.10045.3.1.7" => KeyKind::P256,
                "1.3.132.0.34" => KeyKind::P384,
                "1.3.132.0.35" => KeyKind::P521,
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { kind, spki: info.raw.to_vec(), bits })
    }

    /// Whether the signature is one of this key: ECDSA and RSA-PSS with SHA-256, or Ed25519.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match self.kind {
            KeyKind::Ed25519 => &signature::ED25519,
            KeyKind::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            KeyKind::P384 => &signature::ECDSA_P384_SHA256_ASN1,
            KeyKind::P521 => &signature::ECDSA_P521_SHA256_ASN1,
            KeyKind::Rsa(_) => &signature::RSA_PSS_2048_8192_SHA256,
            KeyKind::P224 => return false,
        };
        self.check(algorithm, message, signature)
    }

    fn check(&self, algorithm: &'static dyn VerificationAlgorithm, message: &[u8], signed: &[u8]) -> bool {
        UnparsedPublicKey::new(algorithm, &self.bits).verify(message, signed).is_ok()
    }
}

impl SigningRequest {
    /// Reads a request in DER. `None` if it is none, or its key is of a type that is not known.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (rest, request) = X509CertificationRequest::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let info = &request.certification_request_info;
        let key = PublicKey::read(&info.subject_pki)?;
        let algorithm = algorithm(&request.signature_algorithm.algorithm.to_id_string(), key.kind);
        let proven = algorithm.is_some_and(|a| key.check(a, info.raw, &request.signature_value.data));
        Some(Self { key, proven })
    }
}

fn algorithm(oid: &str, key: KeyKind) -> Option<&'static dyn VerificationAlgorithm> {
    use KeyKind::{Ed25519, P256, P384, P521, Rsa};
    Some(match (oid, key) {
        ("1.3.101.112", Ed25519) => &signature::ED25519,
        ("1.2.840.10045.4.3.2", P256) => &signature::ECDSA_P256_SHA256_ASN1,
        ("1.2.840.10045.4.3.2", P384) => &signature::ECDSA_P384_SHA256_ASN1,
        ("1.2.840.10045.4.3.2", P521) => &signature::ECDSA_P521_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", P256) => &signature::ECDSA_P256_SHA384_ASN1,
        ("1.2.840.10045.4.3.3", P384) => &signature::ECDSA_P384_SHA384_ASN1,
        ("1.2.840.10045.4.3.3", P521) => &signature::ECDSA_P521_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", P521) => &signature::ECDSA_P521_SHA512_ASN1,
        // Go refuses keys of less than 1,024 bits, and SHA-1 in certificates but not in requests for them.
        ("1.2.840.113549.1.1.5", Rsa(_)) => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        ("1.2.840.113549.1.1.11", Rsa(_)) => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        ("1.2.840.113549.1.1.12", Rsa(_)) => &signature::RSA_PKCS1_2048_8192_SHA384,
        ("1.2.840.113549.1.1.13", Rsa(_)) => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use machinery::golang::decode_base64;

    fn bytes(text: &str) -> Vec<u8> {
        decode_base64(text.as_bytes()).unwrap()
    }

    /// The samples of upstream's test/integration/etcd/data.go.
    #[test]
    fn reads_upstreams_samples() {
        let request = bytes(
            "MIGNMEECAQAwDjEMMAoGA1UEAxMDZm9vMCowBQYDK2VwAyEA33notc99UJwFQmOojmMx5+OHh3eSxnCXPD8y4+3fCOigADAFBgMrZXADQQB201a14Mlk73XPyT7Ff/Ln0SIDL/YO4MIqPDYnpO1pA2s3vyo0H8qkvxo9WMNLeY5MZa2uG3gqZzXjjyWV38QA",
        );
        let read = SigningRequest::from_der(&request).unwrap();
        assert_eq!((read.key.kind, read.proven), (KeyKind::Ed25519, true));
        let mut other = request.clone();
        *other.last_mut().unwrap() ^= 1;
        assert!(!SigningRequest::from_der(&other).unwrap().proven);
        assert_eq!(SigningRequest::from_der(&request[1..]), None);
        other.push(0);
        assert_eq!(SigningRequest::from_der(&other), None);
        let key =
            PublicKey::from_spki(&bytes("MCowBQYDK2VwAyEA5g+rk9q/hjojtc2nwHJ660RdX5w1f4AK0/kP391QyLY="))
                .unwrap();
        let proof =
            bytes("SuGHX7SMyPHuN5cD5wjKLXGNbhdlCYUnTH65JkTx17iWlLynQ/g9GiTYObftSHNzqRh0ofdgAGqK6a379O7RBw==");
        assert!(key.verify(b"pod-uid-1", &proof));
        assert!(!key.verify(b"pod-uid-2", &proof));
    }

    #[test]
    fn verifies_a_short_old_request_of_upstreams() {
        let request = bytes(
            "MIIByjCCATMCAQAwgYkxCzAJBgNVBAYTAlVTMRMwEQYDVQQIEwpDYWxpZm9ybmlhMRYwFAYDVQQHEw1Nb3VudGFpbiBWaWV3MRMwEQYDVQQKEwpHb29nbGUgSW5jMR8wHQYDVQQLExZJbmZvcm1hdGlvbiBUZWNobm9sb2d5MRcwFQYDVQQDEw53d3cuZ29vZ2xlLmNvbTCBnzANBgkqhkiG9w0BAQEFAAOBjQAwgYkCgYEApZtYJCHJ4VpVXHfVIlstQTlO4qC03hjX+ZkPyvdYd1Q4+qbAeTwXmCUKYHThVRd5aXSqlPzyIBwieMZrWFlRQddZ1IzXAlVRDWwAo60KecqeAXnnUK+5fXoTI/UgWshre8tJ+x/TMHaQKR/JcIWPhqaQhsJuzZbvAdGA80BLxdMCAwEAAaAAMA0GCSqGSIb3DQEBBQUAA4GBAIhl4PvFq+e7ipARgI5ZM+GZx6mpCz44DTo0JkwfRDf+BtrsaC0q68eTf2XhYOsq4fkHQ0uA0aVog3f5iJxCa3Hp5gxbJQ6zV6kJ0TEsuaaOhEko9sdpCoPOnRBm2i/XRD2D6iNh8f8z0ShGsFqjDgFHyF3o+lUyj+UC6H1QW7bn",
        );
        let read = SigningRequest::from_der(&request).unwrap();
        assert_eq!((read.key.kind, read.proven), (KeyKind::Rsa(1024), true));
    }

    #[test]
    fn verifies_every_type() {
        for (algorithm, kind) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, KeyKind::P256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, KeyKind::P384),
            (&rcgen::PKCS_ECDSA_P521_SHA512, KeyKind::P521),
            (&rcgen::PKCS_RSA_SHA256, KeyKind::Rsa(2048)),
            (&rcgen::PKCS_ED25519, KeyKind::Ed25519),
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let request = rcgen::CertificateParams::default().serialize_request(&pair).unwrap();
            let read = SigningRequest::from_der(request.der()).unwrap();
            assert_eq!((read.key.kind, read.proven), (kind, true));
        }
    }
}
