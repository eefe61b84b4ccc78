//! Who asks: front-proxy headers, client certificate, bearer token, or nobody.
//! Upstream: apiserver/pkg/authentication/authenticatorfactory/delegating.go.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use auth::UserInfo;
use auth::authenticator::{Authenticated, Outcome, Rejected, TokenAuthenticator, with_authenticated_group};
use auth::request_header::RequestHeaderConfig;
use auth::x509::CaBundle;
use client::Client;
use http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use rustls_pki_types::CertificateDer;

use super::cache::ExpiringCache;

/// Credentials were missing or wrong; the text is for the log only.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unauthorized(pub String);

/// What identifies requests. Certificates may be replaced while serving.
#[derive(Default)]
pub struct Authentication {
    /// CAs of client certificates.
    pub client_ca: ArcSwapOption<CaBundle>,
    /// Front proxies: whose headers count, and by which CA they are known.
    pub front_proxy: ArcSwapOption<(RequestHeaderConfig, CaBundle)>,
    /// Bearer tokens.
    pub tokens: Option<Arc<dyn TokenAuthenticator>>,
    /// Requests without credentials are `system:anonymous`.
    pub anonymous: bool,
}

/// The shared "Authentication" flags.
#[derive(Debug, Clone)]
pub struct AuthenticationOptions {
    /// `--authentication-kubeconfig`.
    pub kubeconfig: String,
    /// `--client-ca-file`.
    pub client_ca_file: String,
    /// `--requestheader-client-ca-file`.
    pub request_header_ca_file: String,
    /// The other `--requestheader-*`.
    pub request_header: RequestHeaderConfig,
    /// `--authentication-token-webhook-cache-ttl`.
    pub cache_ttl: Duration,
    /// `--authentication-skip-lookup`.
    pub skip_lookup: bool,
    /// `--authentication-tolerate-lookup-failure`.
    pub tolerate_lookup_failure: bool,
}

impl AuthenticationOptions {
    /// Reads the flags of kube-scheduler and kube-controller-manager.
    pub fn from_flags(flags: &crate::flags::FlagSet) -> Self {
        AuthenticationOptions {
            kubeconfig: flags.string("authentication-kubeconfig").to_string(),
            client_ca_file: flags.string("client-ca-file").to_string(),
            request_header_ca_file: flags.string("requestheader-client-ca-file").to_string(),
            request_header: RequestHeaderConfig {
                username_headers: flags.list("requestheader-username-headers").to_vec(),
                uid_headers: flags.list("requestheader-uid-headers").to_vec(),
                group_headers: flags.list("requestheader-group-headers").to_vec(),
                extra_header_prefixes: flags.list("requestheader-extra-headers-prefix").to_vec(),
                allowed_names: flags.list("requestheader-allowed-names").to_vec(),
            },
            cache_ttl: flags.duration("authentication-token-webhook-cache-ttl"),
            skip_lookup: flags.bool("authentication-skip-lookup"),
            tolerate_lookup_failure: flags.bool("authentication-tolerate-lookup-failure"),
        }
    }
}

impl Authentication {
    /// Identifies one request and removes what nothing behind may see: the token and front-proxy headers.
    ///
    /// # Errors
    /// Wrong credentials, or none where anonymous requests are not permitted.
    pub async fn authenticate(
        &self,
        headers: &mut HeaderMap,
        peer: &[CertificateDer<'_>],
    ) -> Result<Arc<UserInfo>, Unauthorized> {
        let token = bearer(headers);
        let mut errors = Vec::new();
        if let Some(user) = self.by_certificate(headers, peer, &mut errors) {
            self.strip(headers);
            return Ok(Arc::new(with_authenticated_group(user)));
        }
        self.strip(headers);
        if let (Some(token), Some(tokens)) = (token, &self.tokens) {
            match tokens.authenticate(&token, &[]).await {
                Ok(Some(found)) => return Ok(Arc::new(with_authenticated_group((*found.user).clone()))),
                Ok(None) => {}
                Err(Rejected(why)) => errors.push(why),
            }
        }
        if !errors.is_empty() {
            return Err(Unauthorized(errors.join(", ")));
        }
        if self.anonymous {
            return Ok(Arc::new(UserInfo::new(auth::user::ANONYMOUS, &[auth::user::ALL_UNAUTHENTICATED])));
        }
        Err(Unauthorized("no credentials that identify the request".into()))
    }

    fn by_certificate(
        &self,
        headers: &HeaderMap,
        peer: &[CertificateDer<'_>],
        errors: &mut Vec<String>,
    ) -> Option<UserInfo> {
        let now = SystemTime::now();
        if let Some(proxy) = self.front_proxy.load_full() {
            match proxy.0.authenticate(headers, peer, &proxy.1, now) {
                Ok(Some(user)) => return Some(user),
                Ok(None) => {}
                Err(Rejected(why)) => errors.push(why),
            }
        }
        if peer.is_empty() {
            return None;
        }
        match self.client_ca.load_full()?.verify(peer, now) {
            Ok(verified) => Some(verified.user),
            Err(Rejected(why)) => {
                errors.push(why);
                None
            }
        }
    }

    fn strip(&self, headers: &mut HeaderMap) {
        headers.remove(header::AUTHORIZATION);
        if let Some(proxy) = self.front_proxy.load_full() {
            proxy.0.strip(headers);
        }
    }
}

/// Upstream: apiserver/pkg/authentication/request/bearertoken.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.split(' ').next().unwrap_or("");
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_string())
}

/// Tokens by TokenReview, answers cached. The cache holds digests, not tokens.
pub struct TokenReviews {
    client: Client,
    ttl: Duration,
    cache: ExpiringCache<[u8; 32], Option<Authenticated>>,
}

/// First wait and number of attempts of a review. Upstream: apiserver/pkg/server/options DefaultAuthWebhookRetryBackoff.
pub(super) const RETRY_START: Duration = Duration::from_millis(500);
pub(super) const RETRY_FACTOR: f64 = 1.5;
pub(super) const ATTEMPTS: u32 = 5;
/// Limit of one review. Upstream: options DelegatingAuthenticationOptions.TokenRequestTimeout.
pub(super) const REVIEW_TIMEOUT: Duration = Duration::from_secs(10);

impl TokenReviews {
    /// Reviews by `client`, each answer good for `ttl`.
    pub fn new(client: &Client, ttl: Duration) -> Self {
        TokenReviews { client: client.with_timeout(REVIEW_TIMEOUT), ttl, cache: ExpiringCache::new() }
    }

    async fn review(&self, token: &str, audiences: &[String]) -> Outcome {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_string(),
                audiences: (!audiences.is_empty()).then(|| audiences.to_vec()),
            },
            ..TokenReview::default()
        };
        let api = self.client.all::<TokenReview>();
        let answer = retried(|| api.create(&review)).await.map_err(|e| Rejected(e.to_string()))?;
        let status = answer.status.unwrap_or_default();
        if !status.authenticated.unwrap_or(false) {
            return match status.error.filter(|e| !e.is_empty()) {
                Some(error) => Err(Rejected(error)),
                None => Ok(None),
            };
        }
        let user = status.user.unwrap_or_default();
        let user = UserInfo {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default().into_iter().collect(),
        };
        Ok(Some(Authenticated { user: Arc::new(user), audiences: status.audiences.unwrap_or_default() }))
    }
}

/// Repeats a review that failed for a reason that may pass.
pub(super) async fn retried<T, F, Fut>(attempt: F) -> client::Result<T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = client::Result<T>>,
{
    let mut wait = RETRY_START;
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(error) if transient(&error) => {
                tokio::time::sleep(wait).await;
                wait = wait.mul_f64(RETRY_FACTOR);
            }
            done => return done,
        }
    }
    attempt().await
}

fn transient(error: &client::Error) -> bool {
    match error {
        client::Error::Api(status) => status.code.is_some_and(|c| c == 429 || c >= 500),
        client::Error::Connect { .. } | client::Error::Transport { .. } => true,
        _ => false,
    }
}

#[async_trait]
impl TokenAuthenticator for TokenReviews {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Outcome {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in audiences.iter().map(String::as_str).chain([token]) {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest.finish().as_ref());
        if let Some(known) = self.cache.get(&key, Instant::now()) {
            return Ok(known);
        }
        let outcome = self.review(token, audiences).await;
        // Errors may pass and are asked again.
        if let Ok(answer) = &outcome {
            self.cache.put(key, answer.clone(), self.ttl, Instant::now());
        }
        outcome
    }
}
