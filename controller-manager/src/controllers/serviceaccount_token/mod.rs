//! ServiceAccount tokens: fills Secrets that ask for a token that never expires, and deletes those of lost accounts.
//!
//! Does not make Secrets; pods get tokens that expire from the kubelet. Start reading at [`plan`].
//! Upstream: pkg/controller/serviceaccount/tokens_controller.go.

pub mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use auth::jwt;
use auth::jwt::keys::SigningKey;
use client::{Client, DeleteParams, Meta};
use component::app::Error;
use controller::WorkQueue;
use informer::{Options, Store};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};

use self::plan::{Plan, TYPE, account_of, is_token_of};
use super::root_ca_certificate_publisher::root_ca;
use crate::context::Context;
use crate::descriptor::Running;

/// A Secret and the account it named when it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SecretKey {
    namespace: String,
    name: String,
    uid: String,
    account: String,
    account_uid: String,
}

/// An account as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct AccountKey {
    namespace: String,
    name: String,
    uid: String,
}

struct Shell {
    client: Client,
    accounts: Store<ServiceAccount>,
    secrets: Store<Secret>,
    key: SigningKey,
    root_ca: Vec<u8>,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let (path, token) = (context.flags.string("service-account-private-key-file"), context.token.clone());
    if path.is_empty() {
        tracing::warn!("No --service-account-private-key-file: Secrets that ask for tokens stay empty");
        return Ok(Box::pin(async move { token.cancelled().await }));
    }
    let failed = |e: &dyn std::fmt::Display| {
        format!("error reading key for service account token controller: {path}: {e}")
    };
    let pem = std::fs::read(path).map_err(|e| failed(&e))?;
    let key = SigningKey::from_pem(&pem).map_err(|e| failed(&e))?;
    let accounts = context.factory.informer::<ServiceAccount>(Options::default());
    let secrets = context.factory.informer::<Secret>(Options::default().fields(&format!("type={TYPE}")));
    let shell = Arc::new(Shell {
        // Not as an account of its own: others get their tokens with the help of this one.
        client: context.clients.base().named("tokens-controller"),
        accounts: accounts.store(),
        secrets: secrets.store(),
        key,
        root_ca: root_ca(context)?.unwrap_or_default(),
    });
    let of_accounts: WorkQueue<AccountKey> = WorkQueue::new("serviceaccount_tokens_service");
    let of_secrets: WorkQueue<SecretKey> = WorkQueue::new("serviceaccount_tokens_secret");
    let to = of_accounts.clone();
    accounts.subscribe(move |event| {
        let account = event.object();
        to.add(AccountKey {
            namespace: account.namespace().to_string(),
            name: account.name().to_string(),
            uid: account.uid().to_string(),
        });
    });
    let to = of_secrets.clone();
    secrets.subscribe(move |event| {
        let secret = event.object();
        let (account, account_uid) = account_of(secret);
        if !account.is_empty() {
            to.add(SecretKey {
                namespace: secret.namespace().to_string(),
                name: secret.name().to_string(),
                uid: secret.uid().to_string(),
                account: account.to_string(),
                account_uid: account_uid.to_string(),
            });
        }
    });
    let workers = context.workers("concurrent-serviceaccount-token-syncs");
    Ok(Box::pin(async move {
        if !(accounts.wait_synced(&token).await && secrets.wait_synced(&token).await) {
            return;
        }
        let (one, other) = (shell.clone(), shell);
        tokio::join!(
            of_accounts.run(workers, &token, move |key: AccountKey| {
                let shell = one.clone();
                async move { shell.sync_account(&key).await.map(|()| None) }
            }),
            of_secrets.run(workers, &token, move |key: SecretKey| {
                let shell = other.clone();
                async move { shell.sync_secret(&key).await.map(|()| None) }
            }),
        );
    }))
}

fn same_uid(wanted: &str, has: &str) -> bool {
    wanted.is_empty() || wanted == has
}

impl Shell {
    /// The account in the cache, or else the one on the server.
    async fn account(&self, key: &SecretKey, live: bool) -> client::Result<Option<Arc<ServiceAccount>>> {
        let fits = |a: &ServiceAccount| same_uid(&key.account_uid, a.uid());
        if let Some(account) = self.accounts.get_by(&key.namespace, &key.account).filter(|a| fits(a)) {
            return Ok(Some(account));
        }
        if !live {
            return Ok(None);
        }
        let found = self.client.namespaced::<ServiceAccount>(&key.namespace).get_opt(&key.account).await?;
        Ok(found.filter(fits).map(Arc::new))
    }

    /// Tokens of an account that is gone go too.
    async fn sync_account(&self, key: &AccountKey) -> Result<(), String> {
        if self.accounts.get_by(&key.namespace, &key.name).is_some_and(|a| a.uid() == key.uid) {
            return Ok(());
        }
        let mut failures = Vec::new();
        for secret in self.secrets.list_namespace(&key.namespace) {
            if is_token_of(&secret, &key.name, &key.uid) {
                failures.extend(self.delete(&key.namespace, secret.name(), secret.uid()).await.err());
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join(", ")) }
    }

    async fn sync_secret(&self, key: &SecretKey) -> Result<(), String> {
        let told =
            |what: &str, e: client::Error| format!("{what} of secret {}/{}: {e}", key.namespace, key.name);
        let cached = self.secrets.get_by(&key.namespace, &key.name).filter(|s| same_uid(&key.uid, s.uid()));
        let Some(secret) = cached else {
            // A failure here is not repeated: the reference is only an inconvenience.
            if let Ok(Some(_)) = self.account(key, false).await
                && let Err(error) = self.remove_reference(key).await
            {
                tracing::warn!(secret = key.name, %error, "Removing the reference to a deleted token failed");
            }
            return Ok(());
        };
        let account = self.account(key, true).await.map_err(|e| told("getting the service account", e))?;
        match plan::plan(&secret, account.as_deref(), &self.root_ca) {
            Plan::Nothing => Ok(()),
            Plan::Delete => self.delete(&key.namespace, &key.name, &key.uid).await,
            Plan::Fill(_) => match account {
                Some(account) => self.fill(&secret, &account).await,
                None => Ok(()),
            },
        }
    }

    async fn fill(&self, cached: &Secret, account: &ServiceAccount) -> Result<(), String> {
        let api = self.client.namespaced::<Secret>(cached.namespace());
        let told = |e: &dyn std::fmt::Display| format!("filling token secret {}: {e}", cached.key());
        let Some(live) = api.get_opt(cached.name()).await.map_err(|e| told(&e))? else { return Ok(()) };
        if live.resource_version() != cached.resource_version() {
            // A newer state comes by the watch.
            return Ok(());
        }
        let Plan::Fill(lacks) = plan::plan(&live, Some(account), &self.root_ca) else { return Ok(()) };
        let token = if lacks.token {
            jwt::sign(&self.key, &plan::claims(account, &live)).map_err(|e| told(&e))?
        } else {
            String::new()
        };
        match api.replace(&plan::filled(&live, account, lacks, &self.root_ca, &token)).await {
            Err(error) if !error.is_conflict() && !error.is_not_found() => Err(told(&error)),
            _ => Ok(()),
        }
    }

    async fn delete(&self, namespace: &str, name: &str, uid: &str) -> Result<(), String> {
        let params = if uid.is_empty() { DeleteParams::default() } else { DeleteParams::with_uid(uid) };
        match self.client.namespaced::<Secret>(namespace).delete(name, &params).await {
            // A conflict means another Secret of that name.
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                Err(format!("deleting token secret {namespace}/{name} of a lost account: {error}"))
            }
            _ => Ok(()),
        }
    }

    async fn remove_reference(&self, key: &SecretKey) -> client::Result<()> {
        let api = self.client.namespaced::<ServiceAccount>(&key.namespace);
        loop {
            let Some(mut account) = api.get_opt(&key.account).await? else { return Ok(()) };
            let refers = account.secrets.iter().flatten().any(|s| s.name.as_ref() == Some(&key.name));
            if !refers || !same_uid(&key.account_uid, account.uid()) {
                return Ok(());
            }
            if let Some(secrets) = &mut account.secrets {
                secrets.retain(|s| s.name.as_ref() != Some(&key.name));
            }
            match api.replace(&account).await {
                Err(error) if error.is_conflict() => {}
                Err(error) if error.is_not_found() => return Ok(()),
                other => return other.map(drop),
            }
        }
    }
}
