//! The keys of an issuer: where they are is asked once, they themselves when a token names one that is not known.
//! Upstream: `github.com/coreos/go-oidc` `NewProvider`, `RemoteKeySet`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use auth::jwt::Unverified;
use auth::jwt::keys::VerifyingKey;
use bytes::Bytes;
use client::kubeconfig::Source;
use client::{Client, Config, Options, Request};
use component::app::Tasks;
use parking_lot::RwLock;
use serde::Deserialize;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::config::Issuer;

/// The pause between attempts to find the issuer.
const RETRY: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Keys are not asked for more often than this: tokens that nobody signed cost an issuer little.
const REFRESH: Duration = Duration::from_secs(1);
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// An issuer's keys.
pub(super) struct Provider {
    issuer: String,
    discovery: String,
    ca: Option<Source>,
    /// Where the keys are, once that is known.
    keys_at: watch::Sender<Option<String>>,
    keys: RwLock<Arc<Vec<VerifyingKey>>>,
    /// When they were last asked for.
    asked: Mutex<Option<Instant>>,
}

impl Provider {
    /// Of an issuer that was not asked anything yet.
    ///
    /// # Errors
    /// The issuer's certificates cannot be used.
    pub(super) fn new(issuer: &Issuer) -> Result<Self, String> {
        let well_known = format!("{}{WELL_KNOWN}", issuer.url.strip_suffix('/').unwrap_or(&issuer.url));
        let ca = (!issuer.ca.is_empty()).then(|| Source::Inline(issuer.ca.clone().into_bytes()));
        let provider = Self {
            issuer: issuer.url.clone(),
            discovery: issuer.discovery_url.clone().unwrap_or(well_known),
            ca,
            keys_at: watch::Sender::new(None),
            keys: RwLock::default(),
            asked: Mutex::default(),
        };
        provider.client(&provider.discovery)?;
        Ok(provider)
    }

    /// Looks for the issuer until it is found.
    pub(super) fn start(self: Arc<Self>, tasks: &Tasks, stop: &CancellationToken) {
        let stop = stop.clone();
        tasks.spawn("oidc-issuer", async move {
            while let Err(why) = self.discover().await {
                tracing::error!("oidc authenticator: initializing plugin: {why}");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        });
    }

    pub(super) fn is_ready(&self) -> bool {
        self.keys_at.borrow().is_some()
    }

    pub(super) async fn ready(&self) {
        // The sender lives as long as this.
        let _ = self.keys_at.subscribe().wait_for(Option::is_some).await;
    }

    async fn discover(&self) -> Result<(), String> {
        let body = self.fetch(&self.discovery).await?;
        let found: Discovered = serde_json::from_slice(&body)
            .map_err(|e| format!("oidc: failed to decode provider discovery object: {e}"))?;
        if found.issuer != self.issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {:?} got {:?}",
                self.issuer, found.issuer
            ));
        }
        if found.jwks_uri.is_empty() {
            return Err("provider did not return JWKS URL".to_owned());
        }
        self.keys_at.send_replace(Some(found.jwks_uri));
        Ok(())
    }

    /// A client for the server of a URL.
    fn client(&self, url: &str) -> Result<(Client, String), String> {
        let uri: http::Uri = url.parse().map_err(|e| format!("{url:?}: {e}"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("{url:?} is no URL of a server"));
        };
        let config = Config { ca: self.ca.clone(), ..Config::new(&format!("{scheme}://{authority}")) };
        let options = Options {
            qps: -1.0,
            user_agent: client::user_agent("kube-apiserver", component::version::KUBERNETES, ""),
            timeout: TIMEOUT,
            ..Options::default()
        };
        let client = Client::new(config, options).map_err(|e| e.to_string())?;
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        Ok((client, path))
    }

    async fn fetch(&self, url: &str) -> Result<Bytes, String> {
        let (client, path) = self.client(url)?;
        let answer = client.call(&Request::get(path)).await.map_err(|e| format!("Get {url:?}: {e}"))?;
        Ok(answer.body)
    }

    /// Whether one of the issuer's keys made the signature. Keys are asked for when none of the known ones did.
    pub(super) async fn verify(&self, token: &Unverified<'_>) -> Result<(), String> {
        let known = self.keys.read().clone();
        if token.verify_named(&known) {
            return Ok(());
        }
        let keys = self
            .refreshed(&known)
            .await
            .map_err(|why| format!("failed to verify signature: fetching keys {why}"))?;
        if token.verify_named(&keys) {
            return Ok(());
        }
        Err("failed to verify signature: failed to verify id token signature".to_owned())
    }

    /// The keys as they are now, asked for once for all who wait.
    async fn refreshed(&self, seen: &Arc<Vec<VerifyingKey>>) -> Result<Arc<Vec<VerifyingKey>>, String> {
        let mut asked = self.asked.lock().await;
        let known = self.keys.read().clone();
        let recent = asked.is_some_and(|at| at.elapsed() < REFRESH);
        if recent || !Arc::ptr_eq(&known, seen) {
            return Ok(known);
        }
        *asked = Some(Instant::now());
        let at = self.keys_at.borrow().clone().ok_or("provider did not return JWKS URL")?;
        let body = self.fetch(&at).await?;
        let set: KeySet =
            serde_json::from_slice(&body).map_err(|e| format!("oidc: failed to decode keys: {e}"))?;
        // Keys of other kinds are for others.
        let keys: Vec<VerifyingKey> = set.keys.iter().filter_map(VerifyingKey::from_jwk).collect();
        let keys = Arc::new(keys);
        *self.keys.write() = keys.clone();
        Ok(keys)
    }
}
