//! Clients of the controllers: all as one user, or each as a service account of its own.
//!
//! With `--use-service-account-credentials` a controller's requests carry a token of `kube-system/<account>`, made by
//! the TokenRequest API and renewed before it expires; the account is created when it is missing.
//! Upstream: staging/src/k8s.io/controller-manager/pkg/clientbuilder/client_builder_dynamic.go.

use std::time::Duration;

use client::config::{Credentials, Secret};
use client::{Api, Client, Config, Options, TokenProvider};
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;
use tokio::sync::Mutex;

const NAMESPACE: &str = "kube-system";
const LIFETIME_SECS: i64 = 3600;

/// Makes clients.
#[derive(Clone)]
pub struct Clients {
    base: Client,
    config: Config,
    options: Options,
    per_controller: bool,
}

impl Clients {
    /// Clients like `base`, which `config` and `options` made.
    pub fn new(base: Client, config: Config, options: Options, per_controller: bool) -> Self {
        Self { base, config, options, per_controller }
    }

    /// The client of the daemon itself.
    pub fn base(&self) -> &Client {
        &self.base
    }

    /// How the daemon itself connects.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A client for a controller.
    pub fn get(&self, account: &str) -> Client {
        if !self.per_controller {
            return self.base.named(account);
        }
        let provider = AccountToken {
            accounts: self.base.namespaced(NAMESPACE),
            account: account.to_string(),
            cached: Mutex::default(),
        };
        let config = Config {
            client_cert: None,
            credentials: Credentials::Provider(Arc::new(provider)),
            ..self.config.clone()
        };
        match Client::new(config, self.options.clone()) {
            Ok(client) => client.named(account),
            Err(error) => {
                // The same settings made the base client, so this cannot be a mistake in them.
                tracing::error!(account, %error, "Making a client failed, the controller acts as the daemon itself");
                self.base.named(account)
            }
        }
    }
}

/// Tokens of one service account.
struct AccountToken {
    accounts: Api<ServiceAccount>,
    account: String,
    cached: Mutex<Option<Cached>>,
}

struct Cached {
    token: Secret,
    renew_at: Timestamp,
}

impl std::fmt::Debug for AccountToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tokens of {NAMESPACE}/{}", self.account)
    }
}

impl TokenProvider for AccountToken {
    fn token(&self) -> BoxFuture<'_, Result<Secret, String>> {
        Box::pin(async {
            let mut cached = self.cached.lock().await;
            let now = Timestamp::now();
            if let Some(current) = cached.as_ref().filter(|c| now < c.renew_at) {
                return Ok(current.token.clone());
            }
            match self.request(now).await {
                Ok(new) => Ok(cached.insert(new).token.clone()),
                Err(error) => Err(format!(
                    "requesting a token of service account {NAMESPACE}/{}: {error}",
                    self.account
                )),
            }
        })
    }

    fn refused(&self) {
        // Busy means that a new one is on its way.
        if let Ok(mut cached) = self.cached.try_lock() {
            *cached = None;
        }
    }
}

impl AccountToken {
    async fn request(&self, now: Timestamp) -> client::Result<Cached> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(LIFETIME_SECS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer: TokenRequest =
            match self.accounts.create_subresource(&self.account, "token", &request).await {
                Err(error) if error.is_not_found() => {
                    self.create_account().await?;
                    self.accounts.create_subresource(&self.account, "token", &request).await?
                }
                other => other?,
            };
        let status = answer.status.unwrap_or_default();
        let left =
            status.expiration_timestamp.map(|t| t.0.duration_since(now).unsigned_abs()).unwrap_or_default();
        // Renewed after four fifths, as upstream does.
        let renew_at = now.checked_add(left.mul_f64(0.8).max(Duration::from_secs(1))).unwrap_or(now);
        Ok(Cached { token: Secret(status.token.unwrap_or_default()), renew_at })
    }

    async fn create_account(&self) -> client::Result<()> {
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(self.account.clone()),
                namespace: Some(NAMESPACE.to_string()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        match self.accounts.create(&account).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    }
}
