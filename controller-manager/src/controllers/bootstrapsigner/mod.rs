//! Bootstrap signer: signs the cluster information with every bootstrap token, so that a joining node can trust it.
//!
//! Upstream: pkg/controller/bootstrap/bootstrapsigner.go, k8s.io/cluster-bootstrap/token/jws.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::{Client, Meta};
use component::app::Error;
use controller::WorkQueue;
use informer::{Event, Options};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::context::Context;
use crate::descriptor::Running;

const CONFIG: (&str, &str) = ("kube-public", "cluster-info");
const TOKENS: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";
const NAME_PREFIX: &str = "bootstrap-token-";

/// The id and the secret of a token that may sign now. Upstream: validateSecretForSigning.
fn signing_token(secret: &Secret, now: Timestamp) -> Option<(String, String)> {
    let data = |name: &str| {
        let bytes = secret.data.as_ref().and_then(|d| d.get(name)).map_or(&[][..], |d| d.0.as_slice());
        std::str::from_utf8(bytes).ok().map(str::to_string)
    };
    let id = data("token-id")?;
    let named = secret.name().strip_prefix(NAME_PREFIX);
    let well_formed = id.len() == 6 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let key = data("token-secret")?;
    let expiration = data("expiration")?;
    let lives = expiration.is_empty() || expiration.parse::<Timestamp>().is_ok_and(|end| end > now);
    let may = data("usage-bootstrap-signing")? == "true";
    let usable = secret.type_.as_deref() == Some(TYPE) && well_formed && named == Some(id.as_str());
    (usable && !key.is_empty() && lives && may).then_some((id, key))
}

/// A compact JWS without its payload.
fn signature(content: &str, id: &str, key: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{id}\"}}"));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
}

/// The map with exactly the signatures that the tokens give; nothing if it has them already.
fn plan(config: &ConfigMap, tokens: &[Arc<Secret>], now: Timestamp) -> Option<ConfigMap> {
    let content = config.data.as_ref()?.get(KUBECONFIG)?;
    let mut by_id = BTreeMap::new();
    for secret in tokens {
        if let Some((id, key)) = signing_token(secret, now) {
            by_id.entry(id).or_insert(key);
        }
    }
    let mut new = config.clone();
    let data = new.data.get_or_insert_default();
    data.retain(|name, _| !name.starts_with(SIGNATURE));
    let signed = by_id.iter().map(|(id, key)| (format!("{SIGNATURE}{id}"), signature(content, id, key)));
    data.extend(signed);
    (new.data != config.data).then_some(new)
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let (namespace, name) = CONFIG;
    let options = Options::default().namespace(namespace).fields(&format!("metadata.name={name}"));
    let configs = context.factory.informer::<ConfigMap>(options);
    let options = Options::default().namespace(TOKENS).fields(&format!("type={TYPE}"));
    let tokens = context.factory.informer::<Secret>(options);
    let queue: WorkQueue<()> = WorkQueue::new("bootstrap_signer_queue");
    let to = queue.clone();
    configs.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            to.add(());
        }
    });
    let to = queue.clone();
    tokens.subscribe(move |_| to.add(()));
    let (client, token) = (context.client(), context.token.clone());
    Ok(Box::pin(async move {
        if !(configs.wait_synced(&token).await && tokens.wait_synced(&token).await) {
            return;
        }
        let (configs, tokens) = (configs.store(), tokens.store());
        queue
            .run(1, &token, move |()| {
                let config = configs.get_by(namespace, name);
                let mut all = tokens.list();
                all.sort_by(|a, b| a.name().cmp(b.name()));
                let new = config.and_then(|c| plan(&c, &all, Timestamp::now()));
                let client = client.clone();
                async move {
                    match new {
                        Some(new) => write(&client, &new).await.map(|()| None),
                        None => Ok(None),
                    }
                }
            })
            .await;
    }))
}

async fn write(client: &Client, config: &ConfigMap) -> Result<(), String> {
    match client.namespaced::<ConfigMap>(CONFIG.0).replace(config).await {
        // A newer state comes by the watch.
        Err(error) if !error.is_conflict() && !error.is_not_found() => {
            Err(format!("signing config map {}/{}: {error}", CONFIG.0, CONFIG.1))
        }
        _ => Ok(()),
    }
}
