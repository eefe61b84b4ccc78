//! Finds out who is asking: front proxy, client certificate, bearer token, anonymous, in upstream's order.
//! Upstream: `pkg/kubeapiserver/authenticator/config.go`, `endpoints/filters/authentication.go`.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use auth::authenticator::{Rejected, TokenAuthenticator, with_authenticated_group};
use auth::request_header::RequestHeaderConfig;
use auth::x509::CaBundle;
use auth::{ALL_UNAUTHENTICATED, ANONYMOUS, UserInfo};
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};

use crate::server::{Call, Connection};

/// A CA bundle that can be replaced while the server runs.
pub type SharedBundle = Arc<ArcSwapOption<CaBundle>>;

/// The configured authenticators.
pub struct Authentication {
    /// `--client-ca-file`
    pub client_ca: SharedBundle,
    /// `--requestheader-*`
    pub front_proxy: RequestHeaderConfig,
    /// `--requestheader-client-ca-file`
    pub front_proxy_ca: SharedBundle,
    /// Bearer tokens.
    pub tokens: Arc<dyn TokenAuthenticator>,
    /// `--api-audiences`, or the issuers.
    pub api_audiences: Vec<String>,
    /// `--anonymous-auth`, or what `--authentication-config` says.
    pub anonymous: Anonymous,
}

/// Whether requests without credentials are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anonymous {
    /// Never.
    Refused,
    /// Always.
    Everywhere,
    /// On these paths. Upstream: `authentication/request/anonymous`.
    At(Vec<String>),
}

impl Anonymous {
    fn allows(&self, path: &str) -> bool {
        match self {
            Anonymous::Refused => false,
            Anonymous::Everywhere => true,
            Anonymous::At(paths) => paths.iter().any(|p| p == path),
        }
    }
}

/// A client certificate that verified on this connection; valid while the bundle is the same and time has not run out.
#[derive(Debug)]
pub(crate) struct CachedIdentity {
    bundle: Arc<CaBundle>,
    not_after: SystemTime,
    user: Arc<UserInfo>,
}

impl Authentication {
    /// The user of a request; `None` means 401. Credentials are removed from the headers.
    pub(crate) async fn authenticate(&self, call: &mut Call) -> Option<Arc<UserInfo>> {
        let now = SystemTime::now();
        let found = self.identify(&call.parts.headers, &call.connection, now).await;
        call.parts.headers.remove(AUTHORIZATION);
        self.front_proxy.strip(&mut call.parts.headers);
        match found {
            Ok(Some(user)) => Some(user),
            Ok(None) if self.anonymous.allows(&call.info.path) => {
                Some(Arc::new(UserInfo::new(ANONYMOUS, &[ALL_UNAUTHENTICATED])))
            }
            Ok(None) => None,
            Err(error) => {
                tracing::error!(err = %error, peer = %call.connection.peer, "Unable to authenticate the request");
                None
            }
        }
    }

    async fn identify(
        &self,
        headers: &HeaderMap,
        connection: &Connection,
        now: SystemTime,
    ) -> Result<Option<Arc<UserInfo>>, Rejected> {
        let mut failure = None;
        if let Some(bundle) = self.front_proxy_ca.load_full() {
            match self.front_proxy.authenticate(headers, &connection.certificates, &bundle, now) {
                Ok(Some(user)) => return Ok(Some(Arc::new(with_authenticated_group(user)))),
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        if let Some(bundle) = self.client_ca.load_full().filter(|_| !connection.certificates.is_empty()) {
            match certificate(connection, &bundle, now) {
                Ok(user) => return Ok(Some(user)),
                Err(error) => failure = Some(error),
            }
        }
        if let Some(token) = bearer(headers) {
            return match self.tokens.authenticate(&token, &self.api_audiences).await {
                Ok(Some(found)) => Ok(Some(Arc::new(with_authenticated_group((*found.user).clone())))),
                Ok(None) => Err(failure.unwrap_or_else(|| Rejected("invalid bearer token".to_owned()))),
                Err(error) => Err(error),
            };
        }
        failure.map_or(Ok(None), Err)
    }
}

fn certificate(
    connection: &Connection,
    bundle: &Arc<CaBundle>,
    now: SystemTime,
) -> Result<Arc<UserInfo>, Rejected> {
    if let Some(cached) = &*connection.verified.lock()
        && Arc::ptr_eq(&cached.bundle, bundle)
        && now < cached.not_after
    {
        return Ok(cached.user.clone());
    }
    let verified = bundle.verify(&connection.certificates, now)?;
    let user = Arc::new(with_authenticated_group(verified.user));
    let cached = CachedIdentity { bundle: bundle.clone(), not_after: verified.not_after, user: user.clone() };
    *connection.verified.lock() = Some(cached);
    Ok(user)
}

/// `Authorization: Bearer <token>`, or the browser's way: a WebSocket subprotocol that carries it.
/// Upstream: `request/bearertoken`, `request/websocket/protocol.go`.
fn bearer(headers: &HeaderMap) -> Option<String> {
    const IN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";
    let header = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default().trim();
    if let Some((scheme, token)) = header.split_once(' ')
        && scheme.eq_ignore_ascii_case("bearer")
        && !token.is_empty()
    {
        return Some(token.split(' ').next().unwrap_or_default().to_owned());
    }
    let protocols = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let encoded =
        protocols.flat_map(|p| p.split(',')).find_map(|p| p.trim().strip_prefix(IN_PROTOCOL))?.to_owned();
    use base64::Engine;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok()
}
