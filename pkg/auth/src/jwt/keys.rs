//! Keys of service account tokens: RSA (PKCS#1, PKCS#8) and ECDSA on P-256, P-384, P-521 (SEC1, PKCS#8), public keys and
//! certificates. Upstream: `k8s.io/client-go/util/keyutil`, `pkg/serviceaccount/jwt.go`.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaKeyPair, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing in the file is a key.
    #[error("data does not contain any valid RSA or ECDSA {0} keys")]
    None(&'static str),
    /// The provider refuses it.
    #[error("key is not usable: {0}")]
    Unusable(String),
}

/// Curves that tokens may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

    fn algorithm(self) -> &'static str {
        match self {
            Curve::P256 => "ES256",
            Curve::P384 => "ES384",
            Curve::P521 => "ES512",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
            Curve::P521 => "P-521",
        }
    }

    /// Length of an uncompressed point.
    fn point_len(self) -> usize {
        match self {
            Curve::P256 => 65,
            Curve::P384 => 97,
            Curve::P521 => 133,
        }
    }

    fn of_point(point: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.point_len() == point.len())
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Curve::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Curve::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }

    fn oid(self) -> &'static [u8] {
        match self {
            Curve::P256 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Curve::P384 => &[0x2b, 0x81, 0x04, 0x00, 0x22],
            Curve::P521 => &[0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Public {
    /// PKCS#1 `RSAPublicKey`.
    Rsa(Vec<u8>),
    /// Uncompressed point.
    Ec(Curve, Vec<u8>),
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    public: Public,
    id: String,
}

impl VerifyingKey {
    fn new(public: Public) -> Self {
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(spki(&public)));
        Self { public, id }
    }

    /// Key id: base64url of the SHA-256 of the public key's DER. Upstream: `keyIDFromPublicKey`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// All public keys of a PEM file; private keys and certificates give theirs.
    ///
    /// # Errors
    /// When the file has none.
    pub fn from_pem(pem: &[u8]) -> Result<Vec<Self>, KeyError> {
        let mut keys = Vec::new();
        for (label, der) in blocks(pem) {
            let found = match label.as_str() {
                "PUBLIC KEY" => SubjectPublicKeyInfo::from_der(&der).ok().and_then(|(_, s)| from_spki(&s)),
                "RSA PUBLIC KEY" => Some(Public::Rsa(der)),
                "CERTIFICATE" => {
                    X509Certificate::from_der(&der).ok().and_then(|(_, c)| from_spki(c.public_key()))
                }
                _ => SigningKey::from_block(&label, &der).map(|k| k.public.public),
            };
            keys.extend(found.map(Self::new));
        }
        if keys.is_empty() { Err(KeyError::None("public")) } else { Ok(keys) }
    }

    /// The key of a JWK (RFC 7517) for signatures, under the id it has there; `None` for other kinds of keys.
    pub fn from_jwk(jwk: &serde_json::Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        if !matches!(text("use"), "" | "sig") {
            return None;
        }
        let number = |name: &str| URL_SAFE_NO_PAD.decode(text(name)).ok().filter(|n| !n.is_empty());
        let public = match text("kty") {
            "RSA" => Public::Rsa(tlv(0x30, &[unsigned(&number("n")?), unsigned(&number("e")?)].concat())),
            "EC" => {
                let curve = Curve::ALL.into_iter().find(|c| c.name() == text("crv"))?;
                let half = (curve.point_len() - 1) / 2;
                let mut point = vec![4];
                for coordinate in [number("x")?, number("y")?] {
                    point.resize(point.len() + half.checked_sub(coordinate.len())?, 0);
                    point.extend(coordinate);
                }
                Public::Ec(curve, point)
            }
            _ => return None,
        };
        Some(Self { public, id: text("kid").to_owned() })
    }

    /// Checks a signature made with the JWS algorithm `algorithm`.
    pub(crate) fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let (checker, key): (&dyn VerificationAlgorithm, &[u8]) = match (&self.public, algorithm) {
            (Public::Rsa(key), "RS256") => (&RSA_PKCS1_2048_8192_SHA256, key),
            (Public::Rsa(key), "RS384") => (&RSA_PKCS1_2048_8192_SHA384, key),
            (Public::Rsa(key), "RS512") => (&RSA_PKCS1_2048_8192_SHA512, key),
            (Public::Rsa(key), "PS256") => (&RSA_PSS_2048_8192_SHA256, key),
            (Public::Rsa(key), "PS384") => (&RSA_PSS_2048_8192_SHA384, key),
            (Public::Rsa(key), "PS512") => (&RSA_PSS_2048_8192_SHA512, key),
            (Public::Ec(Curve::P256, point), "ES256") => (&ECDSA_P256_SHA256_FIXED, point),
            (Public::Ec(Curve::P384, point), "ES384") => (&ECDSA_P384_SHA384_FIXED, point),
            (Public::Ec(Curve::P521, point), "ES512") => (&ECDSA_P521_SHA512_FIXED, point),
            _ => return false,
        };
        checker.verify_sig(key, message, signature).is_ok()
    }

    /// The key as a JWK for `/openid/v1/jwks`.
    pub fn jwk(&self) -> serde_json::Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.public {
            Public::Rsa(der) => {
                let (n, e) = rsa_numbers(der).unwrap_or_default();
                serde_json::json!({"use": "sig", "kty": "RSA", "kid": self.id, "alg": "RS256",
                    "n": encode(&n), "e": encode(&e)})
            }
            Public::Ec(curve, point) => {
                let (x, y) = point[1..].split_at((point.len() - 1) / 2);
                serde_json::json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": curve.name(),
                    "alg": curve.algorithm(), "x": encode(x), "y": encode(y)})
            }
        }
    }

    /// The algorithm its tokens carry.
    pub fn algorithm(&self) -> &'static str {
        match &self.public {
            Public::Rsa(_) => "RS256",
            Public::Ec(curve, _) => curve.algorithm(),
        }
    }
}

enum Private {
    Rsa(RsaKeyPair),
    Ec(Curve, EcdsaKeyPair),
}

/// A private key.
pub struct SigningKey {
    private: Private,
    public: VerifyingKey,
}

impl SigningKey {
    /// The first private key of a PEM file.
    ///
    /// # Errors
    /// When the file has none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let found = blocks(pem).into_iter().find_map(|(label, der)| Self::from_block(&label, &der));
        found.ok_or(KeyError::None("private"))
    }

    fn from_block(label: &str, der: &[u8]) -> Option<Self> {
        let rsa = match label {
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(der).ok(),
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(der).ok(),
            _ => None,
        };
        if let Some(pair) = rsa {
            let public = VerifyingKey::new(Public::Rsa(pair.public_key().as_ref().to_vec()));
            return Some(Self { private: Private::Rsa(pair), public });
        }
        for curve in Curve::ALL {
            let pair = match label {
                "EC PRIVATE KEY" => EcdsaKeyPair::from_private_key_der(curve.signing(), der),
                "PRIVATE KEY" => EcdsaKeyPair::from_pkcs8(curve.signing(), der),
                _ => return None,
            };
            if let Ok(pair) = pair {
                let public = VerifyingKey::new(Public::Ec(curve, pair.public_key().as_ref().to_vec()));
                return Some(Self { private: Private::Ec(curve, pair), public });
            }
        }
        None
    }

    /// Its public half.
    pub fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// JWS algorithm.
    pub fn algorithm(&self) -> &'static str {
        match &self.private {
            Private::Rsa(_) => "RS256",
            Private::Ec(curve, _) => curve.algorithm(),
        }
    }

    /// Signs a message.
    ///
    /// # Errors
    /// When the provider fails.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        let unusable = |e: aws_lc_rs::error::Unspecified| KeyError::Unusable(e.to_string());
        match &self.private {
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(unusable)?;
                Ok(signature)
            }
            Private::Ec(_, pair) => Ok(pair.sign(&random, message).map_err(unusable)?.as_ref().to_vec()),
        }
    }
}

/// Label and DER of each PEM block.
fn blocks(pem: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text = String::from_utf8_lossy(pem);
    let mut out = Vec::new();
    let mut rest = &*text;
    while let Some(start) = rest.find("-----BEGIN ") {
        rest = &rest[start + 11..];
        let Some((label, body)) = rest.split_once("-----") else { break };
        let Some((body, tail)) = body.split_once("-----END ") else { break };
        let clean: String = body.split_whitespace().filter(|line| !line.contains(':')).collect();
        if let Ok(der) = STANDARD.decode(clean) {
            out.push((label.to_owned(), der));
        }
        rest = tail;
    }
    out
}

fn from_spki(info: &SubjectPublicKeyInfo<'_>) -> Option<Public> {
    const RSA: &str = "1.2.840.113549.1.1.1";
    const EC: &str = "1.2.840.10045.2.1";
    let bits = info.subject_public_key.data.to_vec();
    match info.algorithm.algorithm.to_id_string().as_str() {
        RSA => Some(Public::Rsa(bits)),
        EC => Curve::of_point(&bits).map(|curve| Public::Ec(curve, bits)),
        _ => None,
    }
}

fn tlv(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let len = body.len();
    match len {
        0..=0x7f => out.push(len as u8),
        0x80..=0xff => out.extend([0x81, len as u8]),
        _ => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend_from_slice(body);
    out
}

/// A DER integer that is not negative.
fn unsigned(number: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = number.iter().skip_while(|b| **b == 0).copied().collect();
    let sign: &[u8] = if digits.first().is_none_or(|b| *b >= 0x80) { &[0] } else { &[] };
    tlv(0x02, &[sign, &digits].concat())
}

/// DER `SubjectPublicKeyInfo`.
fn spki(public: &Public) -> Vec<u8> {
    const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let (algorithm, key) = match public {
        Public::Rsa(key) => (RSA.to_vec(), key),
        Public::Ec(curve, point) => ([EC, &tlv(0x06, curve.oid())].concat(), point),
    };
    let bits = [&[0][..], key].concat();
    tlv(0x30, &[tlv(0x30, &algorithm), tlv(0x03, &bits)].concat())
}

/// Modulus and exponent, without leading zeros, of a PKCS#1 public key.
fn rsa_numbers(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (body, _) = element(der, 0x30)?;
    let (modulus, rest) = element(body, 0x02)?;
    let (exponent, _) = element(rest, 0x02)?;
    let strip = |n: &[u8]| n.iter().skip_while(|b| **b == 0).copied().collect();
    Some((strip(modulus), strip(exponent)))
}

/// One DER element of the given tag: its body, and what follows.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&len, rest) = rest.split_first().filter(|_| first == tag)?;
    let (len, rest) = match len {
        0..=0x7f => (usize::from(len), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), &rest[2..]),
        _ => return None,
    };
    (rest.len() >= len).then(|| rest.split_at(len))
}
