//! A CA: a certificate and its key, from files that may be renewed while in use.
//! Upstream: pkg/controller/certificates/signer/ca_provider.go, authority/authority.go.

use std::path::PathBuf;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use jiff::Timestamp;
use parking_lot::Mutex;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use super::encode::{self, Issuer};
use super::policy::Terms;

enum Key {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair, &'static [u64]),
    Ed25519(Ed25519KeyPair),
}

/// Curves in the order of trying, with the signature's object identifier: the digest has the curve's strength.
const CURVES: [(&EcdsaSigningAlgorithm, &[u64]); 3] = [
    (&ECDSA_P256_SHA256_ASN1_SIGNING, &[1, 2, 840, 10045, 4, 3, 2]),
    (&ECDSA_P384_SHA384_ASN1_SIGNING, &[1, 2, 840, 10045, 4, 3, 3]),
    (&ECDSA_P521_SHA512_ASN1_SIGNING, &[1, 2, 840, 10045, 4, 3, 4]),
];

impl Key {
    fn from_pem(bytes: &[u8]) -> Result<Self, String> {
        for pem in Pem::iter_from_buffer(bytes).flatten() {
            let der = &pem.contents;
            if !pem.label.ends_with("PRIVATE KEY") {
                continue;
            }
            if let Ok(key) = RsaKeyPair::from_der(der).or_else(|_| RsaKeyPair::from_pkcs8(der)) {
                return Ok(Key::Rsa(key));
            }
            for (curve, id) in CURVES {
                if let Ok(key) = EcdsaKeyPair::from_private_key_der(curve, der) {
                    return Ok(Key::Ecdsa(key, id));
                }
            }
            if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                return Ok(Key::Ed25519(key));
            }
        }
        Err("data does not contain a valid RSA, ECDSA or Ed25519 private key".to_string())
    }

    fn algorithm(&self) -> Vec<u8> {
        match self {
            Key::Rsa(_) => encode::algorithm(&[1, 2, 840, 113_549, 1, 1, 11], true),
            Key::Ecdsa(_, id) => encode::algorithm(id, false),
            Key::Ed25519(_) => encode::algorithm(&[1, 3, 101, 112], false),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let failed = |_| "failed to sign certificate: the key cannot sign".to_string();
        let random = SystemRandom::new();
        match self {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Key::Ecdsa(key, _) => Ok(key.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Key::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
}

/// A CA as it is now.
pub struct Authority {
    subject: Vec<u8>,
    key_id: Option<Vec<u8>>,
    not_after: Timestamp,
    key: Key,
}

impl Authority {
    /// From PEM: one certificate, one key.
    ///
    /// # Errors
    /// Either cannot be used.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, String> {
        let all: Vec<Pem> = Pem::iter_from_buffer(certificate)
            .filter_map(Result::ok)
            .filter(|pem| pem.label == "CERTIFICATE")
            .collect();
        let [pem] = all.as_slice() else {
            return Err(format!("expected 1 certificate, found {}", all.len()));
        };
        let parsed = pem.parse_x509().map_err(|e| e.to_string())?;
        let key_id = parsed.extensions().iter().find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        Ok(Self {
            subject: parsed.subject().as_raw().to_vec(),
            key_id: key_id.filter(|id| !id.is_empty()),
            not_after: Timestamp::from_second(parsed.validity().not_after.timestamp())
                .map_err(|e| e.to_string())?,
            key: Key::from_pem(key)?,
        })
    }

    /// When it may sign no more.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The part to be signed; apart from [`Authority::sign`] so that it can be compared.
    ///
    /// # Errors
    /// The request is malformed.
    pub fn to_be_signed(
        &self,
        request: &X509CertificationRequest<'_>,
        terms: &Terms,
        serial: &[u8],
    ) -> Result<Vec<u8>, String> {
        let algorithm = self.key.algorithm();
        let issuer = Issuer { subject: &self.subject, key_id: self.key_id.as_deref(), algorithm: &algorithm };
        encode::to_be_signed(request, terms, &issuer, serial)
    }

    /// A certificate in DER. `serial` is random.
    ///
    /// # Errors
    /// The request is malformed or not signed by its own key.
    pub fn sign(&self, request: &[u8], terms: &Terms, serial: &[u8]) -> Result<Vec<u8>, String> {
        let (_, parsed) = X509CertificationRequest::from_der(request)
            .map_err(|e| format!("unable to parse certificate request: {e}"))?;
        verify(&parsed).map_err(|e| format!("unable to verify certificate request signature: {e}"))?;
        let to_be_signed = self.to_be_signed(&parsed, terms, serial)?;
        let signature = self.key.sign(&to_be_signed)?;
        Ok(encode::certificate(&to_be_signed, &self.key.algorithm(), &signature))
    }
}

/// Who asks has the key. RSA-PSS is refused: nobody's tools ask that way.
fn verify(request: &X509CertificationRequest<'_>) -> Result<(), String> {
    let key = &request.certification_request_info.subject_pki;
    let id = request.signature_algorithm.algorithm.to_id_string();
    let bits = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|c| c.to_id_string());
    let curve = bits.as_deref().unwrap_or_default();
    const P256: &str = "1.2.840.10045.3.1.7";
    const P384: &str = "1.3.132.0.34";
    const P521: &str = "1.3.132.0.35";
    let algorithm: &'static dyn VerificationAlgorithm = match (id.as_str(), curve) {
        ("1.2.840.113549.1.1.11", _) => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        ("1.2.840.113549.1.1.12", _) => &signature::RSA_PKCS1_2048_8192_SHA384,
        ("1.2.840.113549.1.1.13", _) => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        ("1.2.840.10045.4.3.2", P256) => &signature::ECDSA_P256_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", P256) => &signature::ECDSA_P256_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", P256) => &signature::ECDSA_P256_SHA512_ASN1,
        ("1.2.840.10045.4.3.2", P384) => &signature::ECDSA_P384_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", P384) => &signature::ECDSA_P384_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", P384) => &signature::ECDSA_P384_SHA512_ASN1,
        ("1.2.840.10045.4.3.2", P521) => &signature::ECDSA_P521_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", P521) => &signature::ECDSA_P521_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", P521) => &signature::ECDSA_P521_SHA512_ASN1,
        ("1.3.101.112", _) => &signature::ED25519,
        _ => return Err(format!("x509: cannot verify signature: algorithm {id} unimplemented")),
    };
    UnparsedPublicKey::new(algorithm, key.subject_public_key.data.as_ref())
        .verify(request.certification_request_info.raw, request.signature_value.data.as_ref())
        .map_err(|_| "x509: the signature does not fit the key".to_string())
}

struct Loaded {
    bytes: (Vec<u8>, Vec<u8>),
    authority: std::sync::Arc<Authority>,
}

/// The CA in two files. They are read for each signing, as that is rare and a renewed CA must count at once.
pub struct Provider {
    files: (PathBuf, PathBuf),
    loaded: Mutex<Loaded>,
}

impl Provider {
    /// # Errors
    /// A file cannot be read or used.
    pub fn new(certificate: &str, key: &str) -> Result<Self, String> {
        let files = (PathBuf::from(certificate), PathBuf::from(key));
        let loaded = load(&files)?;
        Ok(Self { files, loaded: Mutex::new(loaded) })
    }

    /// The CA as the files are now; as they last were, if they cannot be used any more.
    pub fn current(&self) -> std::sync::Arc<Authority> {
        let mut loaded = self.loaded.lock();
        let bytes = read(&self.files);
        if bytes.as_ref().is_ok_and(|b| *b == loaded.bytes) {
            return loaded.authority.clone();
        }
        match load(&self.files) {
            Ok(new) => *loaded = new,
            Err(error) => {
                tracing::error!(error, "The CA that signs requests cannot be renewed, the old one goes on")
            }
        }
        loaded.authority.clone()
    }
}

fn read(files: &(PathBuf, PathBuf)) -> Result<(Vec<u8>, Vec<u8>), String> {
    let read = |what: &str, path: &PathBuf| {
        std::fs::read(path).map_err(|e| format!("error reading CA {what} file {:?}: {e}", path.display()))
    };
    Ok((read("cert", &files.0)?, read("key", &files.1)?))
}

fn load(files: &(PathBuf, PathBuf)) -> Result<Loaded, String> {
    let bytes = read(files)?;
    let authority = Authority::from_pem(&bytes.0, &bytes.1).map_err(|e| {
        format!("error reading CA files {:?} and {:?}: {e}", files.0.display(), files.1.display())
    })?;
    Ok(Loaded { bytes, authority: std::sync::Arc::new(authority) })
}
