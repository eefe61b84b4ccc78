//! Legacy token cleaner: tokens that were made for every account once, and are used no more, are marked and then deleted.
//!
//! Does not touch tokens that people asked for: only those that their account lists. Start reading at [`plan`].
//! Upstream: pkg/controller/serviceaccount/legacy_serviceaccount_token_cleaner.go.

#[cfg(test)]
mod tests;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Meta, Patch, PatchParams};
use component::app::Error;
use informer::Options;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use serde_json::json;

use super::serviceaccount_token::plan::{TYPE, account_of};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;

/// How often upstream looks; the labels hold days.
const PERIOD: Duration = Duration::from_secs(24 * 3600);
/// Where the API server notes since when it has noted uses.
const TRACKING: (&str, &str, &str) =
    ("kube-system", "kube-apiserver-legacy-service-account-token-tracking", "since");
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// Everything a decision depends on.
struct View<'a> {
    secrets: &'a [Arc<Secret>],
    accounts: &'a dyn Fn(&str, &str) -> Option<Arc<ServiceAccount>>,
    /// Secrets that pods name, by namespace.
    used: &'a BTreeMap<String, BTreeSet<String>>,
    /// Since when uses are noted.
    tracked_since: Date,
    clean_up_period: SignedDuration,
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    /// Refused from now on; the date tells since when.
    Invalidate {
        secret: String,
        since: Date,
    },
    Delete {
        secret: String,
    },
}

fn day(text: &str) -> Option<Date> {
    text.parse().ok().filter(|d: &Date| d.to_string() == text)
}

/// Decides about all tokens.
fn plan(view: &View<'_>, now: Timestamp) -> Vec<Action> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let Ok(bound) = now.checked_sub(view.clean_up_period) else { return Vec::new() };
    let last_day = bound.to_zoned(TimeZone::UTC).date();
    // Whole days are noted: of the first one nothing can be said.
    let tracked = view.tracked_since.tomorrow().ok().and_then(|d| d.to_zoned(TimeZone::UTC).ok());
    if tracked.is_none_or(|t| bound < t.timestamp()) {
        return Vec::new();
    }
    view.secrets.iter().filter_map(|secret| decide(view, secret, bound, last_day, today)).collect()
}

fn decide(view: &View<'_>, secret: &Secret, bound: Timestamp, last_day: Date, today: Date) -> Option<Action> {
    let meta = &secret.metadata;
    let label = |name: &str| meta.labels.as_ref().and_then(|l| l.get(name)).map(String::as_str);
    let old = meta.creation_timestamp.as_ref().is_none_or(|t| t.0 < bound);
    if secret.type_.as_deref() != Some(TYPE) || !old || meta.deletion_timestamp.is_some() {
        return None;
    }
    // A date that cannot be read says nothing; no date means that nobody has used it since uses are noted.
    if let Some(used) = label(LAST_USED)
        && day(used).is_none_or(|d| d >= last_day)
    {
        return None;
    }
    let (name, uid) = account_of(secret);
    let account = (view.accounts)(secret.namespace(), name).filter(|a| uid.is_empty() || a.uid() == uid)?;
    let listed = account.secrets.iter().flatten().any(|s| s.name.as_deref() == Some(secret.name()));
    let in_use = view.used.get(secret.namespace()).is_some_and(|names| names.contains(secret.name()));
    if !listed || in_use {
        return None;
    }
    match label(INVALID_SINCE).and_then(day) {
        None => Some(Action::Invalidate { secret: secret.key(), since: today }),
        Some(since) if since < last_day => Some(Action::Delete { secret: secret.key() }),
        Some(_) => None,
    }
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let period = context.flags.duration("legacy-service-account-token-clean-up-period");
    if period.is_zero() {
        return Err("--legacy-service-account-token-clean-up-period must be greater than 0".into());
    }
    let clean_up_period = SignedDuration::try_from(period)?;
    let accounts = context.factory.informer::<ServiceAccount>(Options::default());
    let secrets = context.factory.informer::<Secret>(Options::default().fields(&format!("type={TYPE}")));
    let pods = context.factory.informer::<Pod>(Options::default());
    let (client, token) = (context.client(), context.token.clone());
    Ok(Box::pin(async move {
        let synced = accounts.wait_synced(&token).await
            && secrets.wait_synced(&token).await
            && pods.wait_synced(&token).await;
        if !synced {
            return;
        }
        let known = accounts.store();
        let find = move |namespace: &str, name: &str| known.get_by(namespace, name);
        let look = async {
            loop {
                match tracked_since(&client).await {
                    Ok(tracked_since) => {
                        let (secrets, used) = (secrets.store().list(), uses::of_all(&pods.store()));
                        let actions = {
                            let view = View {
                                secrets: &secrets,
                                accounts: &find,
                                used: &used,
                                tracked_since,
                                clean_up_period,
                            };
                            plan(&view, Timestamp::now())
                        };
                        act(&client, &secrets, actions).await;
                    }
                    Err(error) => tracing::error!(
                        error,
                        "Legacy tokens stay, as it is not known since when uses are noted"
                    ),
                }
                tokio::time::sleep(PERIOD).await;
            }
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = look => {}
        }
    }))
}

async fn tracked_since(client: &Client) -> Result<Date, String> {
    let (namespace, name, key) = TRACKING;
    let map = client.namespaced::<ConfigMap>(namespace).get(name).await.map_err(|e| e.to_string())?;
    let text = map.data.as_ref().and_then(|d| d.get(key));
    let text = text.ok_or_else(|| format!("config map {namespace}/{name} has no {key:?}"))?;
    day(text).ok_or_else(|| format!("config map {namespace}/{name}: {text:?} is no date"))
}

async fn act(client: &Client, secrets: &[Arc<Secret>], actions: Vec<Action>) {
    for action in actions {
        let key = match &action {
            Action::Invalidate { secret, .. } | Action::Delete { secret } => secret,
        };
        let Some(secret) = secrets.iter().find(|s| s.key() == *key) else { continue };
        let api = client.namespaced::<Secret>(secret.namespace());
        let done = match &action {
            Action::Invalidate { since, .. } => {
                tracing::info!(secret = key, %since, "An unused legacy token is refused from now on");
                let labels = json!({(INVALID_SINCE): since.to_string()});
                let patch = Patch::Merge(json!({"metadata": {"uid": secret.uid(), "labels": labels}}));
                api.patch(secret.name(), &patch, &PatchParams::default()).await.map(drop)
            }
            Action::Delete { .. } => {
                tracing::info!(secret = key, "Deleting a legacy token that has been refused for long");
                // Any change since, such as a use, keeps it.
                let resource_version = Some(secret.resource_version().to_string());
                api.delete(secret.name(), &DeleteParams { resource_version, ..DeleteParams::default() }).await
            }
        };
        match done {
            Err(error) if !error.is_conflict() && !error.is_not_found() => {
                tracing::error!(secret = key, %error, "Cleaning up a legacy token failed, it stays for another day");
            }
            _ => {}
        }
    }
}
