//! Service account tokens: compact JWS signed with RSA or ECDSA keys, issued and verified here.
//!
//! [`keys`] reads PEM, [`claims`] says what a token states, [`authenticator`] decides whether to believe it. Does not
//! do what other issuers' tokens say (OIDC), but verifies them by keys from their key sets. Upstream: `pkg/serviceaccount`.
pub mod authenticator;
pub mod claims;
pub mod keys;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use keys::{SigningKey, VerifyingKey};

/// A token taken apart; nothing is verified.
#[derive(Debug)]
pub struct Unverified<'a> {
    /// `alg` of the header.
    pub algorithm: String,
    /// `kid` of the header.
    pub key_id: String,
    /// The payload, always an object.
    pub claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

/// Longest token that is looked at; real ones are below 2 KiB.
const MAX_TOKEN: usize = 64 << 10;

impl<'a> Unverified<'a> {
    /// Parses `header.payload.signature`; `None` for anything else.
    pub fn parse(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
        let claims: Value = serde_json::from_slice(&decode(payload)?).ok()?;
        let text = |name: &str| header.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        claims.is_object().then_some(())?;
        Some(Self {
            algorithm: text("alg"),
            key_id: text("kid"),
            claims,
            signed,
            signature: decode(signature)?,
        })
    }

    /// Whether one of the keys made the signature. Keys whose id the token names are tried alone.
    pub fn verify(&self, keys: &[VerifyingKey]) -> bool {
        let named = |key: &&VerifyingKey| self.key_id.is_empty() || key.id() == self.key_id;
        let mut candidates: Vec<&VerifyingKey> = keys.iter().filter(named).collect();
        if candidates.is_empty() {
            candidates = keys.iter().collect();
        }
        candidates.iter().any(|key| key.verify(&self.algorithm, self.signed.as_bytes(), &self.signature))
    }
}

impl Unverified<'_> {
    /// As [`Unverified::verify`], but a token that names a key is verified by that key alone: what the keys of other
    /// issuers are tried by. Upstream: go-oidc `RemoteKeySet`.
    pub fn verify_named(&self, keys: &[VerifyingKey]) -> bool {
        let named = |key: &&VerifyingKey| self.key_id.is_empty() || key.id() == self.key_id;
        let mut candidates = keys.iter().filter(named);
        candidates.any(|key| key.verify(&self.algorithm, self.signed.as_bytes(), &self.signature))
    }
}

/// Signs claims into a compact token.
///
/// # Errors
/// When the key cannot sign.
pub fn sign(key: &SigningKey, claims: &Value) -> Result<String, keys::KeyError> {
    let header = format!("{{\"alg\":\"{}\",\"kid\":\"{}\"}}", key.algorithm(), key.public().id());
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = key.sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
