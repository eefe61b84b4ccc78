//! Publishes the CA of API servers as a ClusterTrustBundle, for pods to trust them by, under a name that tells its content.
//!
//! Bundles of older CAs go once the new one is there. Only served as v1; where the API server does not serve that, nothing
//! is published. Upstream: pkg/controller/certificates/clustertrustbundlepublisher/publisher.go.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Client, DeleteParams, Meta};
use component::app::Error;
use controller::WorkQueue;
use informer::{Options, Store};
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle as Bundle, ClusterTrustBundleSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

use super::root_ca_certificate_publisher::root_ca;
use crate::context::Context;
use crate::descriptor::Running;

const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";

#[derive(Debug, PartialEq)]
enum Action {
    Create(Bundle),
    Update(Bundle),
    /// By name.
    Delete(String),
}

fn name(ca: &str) -> String {
    let hash = Sha256::digest(ca.as_bytes());
    let hex: String = hash.iter().take(12).map(|b| format!("{b:02x}")).collect();
    format!("{}:{hex}", SIGNER.replace('/', ":"))
}

/// Decides. `bundles` are those of the signer.
fn plan(ca: &str, bundles: &[Arc<Bundle>]) -> Vec<Action> {
    let name = name(ca);
    let mut actions = Vec::new();
    match bundles.iter().find(|b| b.name() == name) {
        None => actions.push(Action::Create(Bundle {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            spec: ClusterTrustBundleSpec {
                signer_name: Some(SIGNER.to_string()),
                trust_bundle: ca.to_string(),
            },
        })),
        Some(current) if current.spec.trust_bundle != ca => {
            let mut new = (**current).clone();
            new.spec.trust_bundle = ca.to_string();
            actions.push(Action::Update(new));
        }
        Some(_) => {}
    }
    let mut old: Vec<&str> = bundles.iter().map(|b| b.name()).filter(|n| *n != name).collect();
    old.sort_unstable();
    actions.extend(old.into_iter().map(|n| Action::Delete(n.to_string())));
    actions
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let token = context.token.clone();
    let Some(ca) = root_ca(context)? else {
        return Ok(Box::pin(async move { token.cancelled().await }));
    };
    let ca = String::from_utf8(ca).map_err(|e| format!("the root CA is no text: {e}"))?;
    let bundles =
        context.factory.informer::<Bundle>(Options::default().fields(&format!("spec.signerName={SIGNER}")));
    let queue: WorkQueue<()> = WorkQueue::new("ca_cert_publisher_cluster_trust_bundles");
    let to = queue.clone();
    bundles.subscribe(move |_| to.add(()));
    let (client, store) = (context.client(), bundles.store());
    Ok(Box::pin(async move {
        if !bundles.wait_synced(&token).await {
            return;
        }
        queue.add(());
        queue
            .run(1, &token, move |()| {
                let (client, store, ca) = (client.clone(), store.clone(), ca.clone());
                async move { sync(&client, &store, &ca).await.map(|()| None) }
            })
            .await;
    }))
}

async fn sync(client: &Client, bundles: &Store<Bundle>, ca: &str) -> Result<(), String> {
    let api = client.all::<Bundle>();
    for action in plan(ca, &bundles.list()) {
        let done = match &action {
            Action::Create(new) => api.create(new).await.map(drop),
            Action::Update(new) => api.replace(new).await.map(drop),
            Action::Delete(name) => api.delete(name, &DeleteParams::default()).await,
        };
        match done {
            // Old bundles stay until the new one is there.
            Err(error) if !(error.is_not_found() && matches!(action, Action::Delete(_))) => {
                return Err(format!("publishing the CA of signer {SIGNER}: {error}"));
            }
            _ => {}
        }
    }
    Ok(())
}
