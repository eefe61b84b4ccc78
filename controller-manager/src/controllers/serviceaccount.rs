//! ServiceAccount: every active namespace has the account `default`.
//!
//! Does not make tokens; pods get theirs from the kubelet. Upstream: pkg/controller/serviceaccount/serviceaccounts_controller.go.

use std::sync::Arc;

use client::Client;
use component::app::Error;
use controller::WorkQueue;
use informer::{Event, Options};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::context::Context;
use crate::descriptor::Running;

const DEFAULT: &str = "default";

/// The account is to be made: pure.
fn is_missing(namespace: Option<&Namespace>, account: Option<&ServiceAccount>) -> bool {
    let active = |n: &Namespace| n.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Active");
    namespace.is_some_and(active) && account.is_none()
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let namespaces = context.factory.informer::<Namespace>(Options::default());
    let accounts = context.factory.informer::<ServiceAccount>(Options::default());
    let queue: WorkQueue<String> = WorkQueue::new("serviceaccount");
    let to = queue.clone();
    namespaces.subscribe(move |event| match event {
        Event::Deleted(_) => {}
        Event::Added(n) | Event::Updated { new: n, .. } => {
            to.add(n.metadata.name.clone().unwrap_or_default())
        }
    });
    let to = queue.clone();
    accounts.subscribe(move |event| {
        if let Event::Deleted(account) = event
            && account.metadata.name.as_deref() == Some(DEFAULT)
        {
            to.add(account.metadata.namespace.clone().unwrap_or_default());
        }
    });
    let (client, token) = (Arc::new(context.client()), context.token.clone());
    Ok(Box::pin(async move {
        if !(namespaces.wait_synced(&token).await && accounts.wait_synced(&token).await) {
            return;
        }
        let (known, made) = (namespaces.store(), accounts.store());
        queue
            .run(1, &token, move |name: String| {
                let missing = is_missing(known.get(&name).as_deref(), made.get_by(&name, DEFAULT).as_deref());
                let client = client.clone();
                async move { if missing { create(&client, &name).await.map(|()| None) } else { Ok(None) } }
            })
            .await;
    }))
}

async fn create(client: &Client, namespace: &str) -> Result<(), client::Error> {
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some(DEFAULT.to_string()),
            namespace: Some(namespace.to_string()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    match client.namespaced(namespace).create(&account).await {
        // A namespace that is going away needs no account.
        Err(error) if !error.is_already_exists() && !error.is_namespace_terminating() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_active_namespaces_without_account_lack_one() {
        let namespace = |phase: &str| {
            serde_json::from_value::<Namespace>(json!({"metadata": {}, "status": {"phase": phase}}))
                .expect("a namespace")
        };
        let account = ServiceAccount::default();
        assert!(is_missing(Some(&namespace("Active")), None));
        assert!(!is_missing(Some(&namespace("Active")), Some(&account)));
        assert!(!is_missing(Some(&namespace("Terminating")), None));
        assert!(!is_missing(None, None));
    }
}
