//! Discovery of the service account issuer: `/.well-known/openid-configuration` and `/openid/v1/jwks`.
//! Upstream: `pkg/serviceaccount/openidmetadata.go`, `pkg/routes/openidmetadata.go`.

use auth::jwt::keys::VerifyingKey;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::web::{Response, respond};

/// The media type of the keys.
pub(crate) const KEYS: &str = "application/jwk-set+json";

/// Both documents, made once; absent when the issuer is no https URL.
#[derive(Debug, Clone, Default)]
pub struct OpenId {
    configuration: Option<String>,
    keys: Option<String>,
}

impl OpenId {
    /// Makes the documents.
    pub fn new(issuer: &str, jwks_uri: &str, address: &str, keys: &[VerifyingKey]) -> Self {
        if !issuer.starts_with("https://") {
            return Self::default();
        }
        let own = format!("https://{address}/openid/v1/jwks");
        let uri = if jwks_uri.is_empty() { own } else { jwks_uri.to_owned() };
        let mut algorithms: Vec<&str> = keys.iter().map(VerifyingKey::algorithm).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        let configuration = format!(
            "{{\"issuer\":{issuer:?},\"jwks_uri\":{uri:?},\"response_types_supported\":[\"id_token\"],\
             \"subject_types_supported\":[\"public\"],\"id_token_signing_alg_values_supported\":{}}}",
            json!(algorithms)
        );
        let all: Vec<serde_json::Value> = keys.iter().map(VerifyingKey::jwk).collect();
        Self { configuration: Some(configuration), keys: Some(json!({"keys": all}).to_string()) }
    }

    /// Whether there are documents.
    pub(crate) fn is_served(&self) -> bool {
        self.keys.is_some()
    }

    /// Answers one of the two paths.
    pub(crate) fn answer(&self, path: &str) -> Option<Response> {
        // The router does not mind a slash at the end.
        let (text, kind) = match path.strip_suffix('/').unwrap_or(path) {
            "/.well-known/openid-configuration" => (self.configuration.clone()?, "application/json"),
            "/openid/v1/jwks" => (self.keys.clone()?, KEYS),
            _ => return None,
        };
        let mut response = respond::typed(StatusCode::OK, kind, text);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
        Some(response)
    }
}
