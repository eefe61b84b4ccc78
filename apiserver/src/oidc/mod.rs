//! Tokens of other issuers: OpenID Connect by flags, or `--authentication-config` with expressions.
//!
//! [`config`] reads and checks what is asked for, [`provider`] has an issuer's keys, [`token`] verifies, [`mapping`] makes
//! a user of the claims. The file is followed: new issuers take over once they all answered.
//! Does not do: distributed claims (`_claim_names`), whose tokens are refused; egress selectors.
//! Upstream: `plugin/pkg/authenticator/token/oidc/oidc.go`, `pkg/kubeapiserver/options/authentication.go`.

pub(crate) mod config;
pub(crate) mod mapping;
mod provider;
mod token;
mod validation;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use auth::authenticator::{Authenticated, Outcome, Rejected, TokenAuthenticator};
use component::app::Tasks;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::config::{Anonymous, Issuer};
use self::provider::Provider;

/// How long new issuers may take to answer. Upstream: `UpdateAuthenticationConfigTimeout`.
const UPDATE: Duration = Duration::from_secs(60);
/// How long issuers that are gone are kept for requests that are on their way.
const GRACE: Duration = Duration::from_secs(60);

/// One issuer.
struct Jwt {
    issuer: Issuer,
    provider: Arc<Provider>,
}

impl Jwt {
    /// The user of a token of this issuer.
    async fn authenticate(&self, token: &str, now: Timestamp) -> Result<auth::UserInfo, String> {
        if !self.provider.is_ready() {
            return Err("oidc: authenticator not initialized".to_owned());
        }
        let verified = token::verify(token, &self.issuer, &self.provider, now).await;
        let claims = verified.map_err(|why| format!("oidc: verify token: {why}"))?;
        self.issuer.mapping.user(&claims)
    }
}

/// All issuers, and what ends their tasks.
struct Issuers {
    all: Vec<Jwt>,
    stop: CancellationToken,
}

impl Issuers {
    fn start(wanted: Vec<Issuer>, tasks: &Tasks) -> Result<Self, String> {
        let stop = tasks.shutdown().child_token();
        let mut all = Vec::new();
        for issuer in wanted {
            let provider = Arc::new(Provider::new(&issuer)?);
            provider.clone().start(tasks, &stop);
            all.push(Jwt { issuer, provider });
        }
        Ok(Self { all, stop })
    }

    /// Waits until all issuers answered.
    async fn ready(&self) {
        for jwt in &self.all {
            jwt.provider.ready().await;
        }
    }
}

/// The authenticator.
pub(crate) struct Tokens {
    current: Arc<ArcSwap<Issuers>>,
    /// What tokens that say nothing of this server are good for.
    api_audiences: Vec<String>,
}

#[async_trait]
impl TokenAuthenticator for Tokens {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Outcome {
        let Some(issuer) = token::untrusted_issuer(token) else { return Ok(None) };
        let current = self.current.load_full();
        let Some(jwt) = current.all.iter().find(|jwt| jwt.issuer.url == issuer) else { return Ok(None) };
        // Upstream: `WrapAudienceAgnosticToken`.
        let common: Vec<String> =
            audiences.iter().filter(|a| self.api_audiences.contains(a)).cloned().collect();
        if !audiences.is_empty() && common.is_empty() {
            return Ok(None);
        }
        let user = jwt.authenticate(token, Timestamp::now()).await.map_err(Rejected)?;
        Ok(Some(Authenticated { user: Arc::new(user), audiences: common }))
    }
}

/// What the flags ask for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `--authentication-config`
    pub file: Option<PathBuf>,
    /// `--oidc-*`
    pub flags: Option<config::Flags>,
    /// `--anonymous-auth`, where it was given.
    pub anonymous: Option<bool>,
    /// Issuers of service accounts, which are no others.
    pub own_issuers: Vec<String>,
}

/// The authenticator, if there is to be one, and what the file says about requests without credentials.
pub(crate) type Started = (Option<Arc<dyn TokenAuthenticator>>, Option<Anonymous>);

/// Starts the authenticator, and follows the file.
///
/// # Errors
/// The configuration cannot be used.
pub(crate) fn start(asked: &Asked, api_audiences: &[String], tasks: &Tasks) -> Result<Started, String> {
    let (loaded, followed) = match (&asked.file, &asked.flags) {
        (Some(file), _) => {
            let named = |why: String| {
                let shown = file.display().to_string();
                format!("failed to load authentication configuration from file {shown:?}: {why}")
            };
            let data = config::read(file).map_err(named)?;
            let written = config::decode(&data).map_err(named)?;
            if written.anonymous.is_some() && asked.anonymous.is_some() {
                return Err(
                    "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is \
                            configured in authentication configuration file"
                        .to_owned(),
                );
            }
            (written, Some((file.clone(), data)))
        }
        (None, Some(flags)) => (flags.to_file()?, None),
        (None, None) => return Ok((None, None)),
    };
    let algorithms = asked.flags.as_ref().map_or_else(config::all_algorithms, |f| f.algorithms.clone());
    config::check_algorithms(&algorithms)?;
    let checked = validation::check(&loaded, &asked.own_issuers, &algorithms)
        .map_err(|why| format!("invalid authentication configuration: {why}"))?;
    let current = Arc::new(ArcSwap::from_pointee(Issuers::start(checked, tasks)?));
    let anonymous = loaded.anonymous;
    if let Some((file, data)) = followed {
        let follower = Follower {
            file,
            known: data,
            anonymous: anonymous.clone(),
            own_issuers: asked.own_issuers.clone(),
            current: current.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn("authentication-config-reload", follower.follow());
    }
    let tokens = Tokens { current, api_audiences: api_audiences.to_vec() };
    Ok((Some(Arc::new(tokens)), anonymous))
}

/// Follows the file.
struct Follower {
    file: PathBuf,
    known: Vec<u8>,
    anonymous: Option<Anonymous>,
    own_issuers: Vec<String>,
    current: Arc<ArcSwap<Issuers>>,
    tasks: Tasks,
}

impl Follower {
    async fn follow(mut self) {
        // One change waiting stands for all that follow it.
        let (changed, mut changes) = tokio::sync::mpsc::channel(1);
        let (watched, until) = (vec![self.file.clone()], self.tasks.shutdown().clone());
        self.tasks.spawn("authentication-config-watch", async move {
            let tell = move || {
                // Full: the change that waits will read the newest content.
                let _ = changed.try_send(());
            };
            component::files::watch(watched, until, tell).await;
        });
        while changes.recv().await.is_some() {
            match self.reload().await {
                Ok(true) => tracing::info!("reloaded authentication config"),
                Ok(false) => {}
                Err(why) => tracing::error!(err = why, "failed to update authentication config"),
            }
        }
    }

    /// Takes the file's new content; false where it is what it was.
    async fn reload(&mut self) -> Result<bool, String> {
        let data = config::read(&self.file)?;
        if data == self.known {
            return Ok(false);
        }
        let written = config::decode(&data)?;
        if written.anonymous != self.anonymous {
            return Err("anonymous: Forbidden: changed from initial configuration file".to_owned());
        }
        let checked = validation::check(&written, &self.own_issuers, &config::all_algorithms())?;
        let issuers = Issuers::start(checked, &self.tasks)?;
        if tokio::time::timeout(UPDATE, issuers.ready()).await.is_err() {
            issuers.stop.cancel();
            return Err("timed out waiting for new issuers to be healthy".to_owned());
        }
        let old = self.current.swap(Arc::new(issuers));
        self.tasks.spawn("authentication-config-old", async move {
            tokio::time::sleep(GRACE).await;
            old.stop.cancel();
        });
        self.known = data;
        Ok(true)
    }
}
