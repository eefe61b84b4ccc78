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
    use client::Meta;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::scenario;

    #[test]
    fn scenarios() {
        scenario::check("serviceaccount/testdata", |given| {
            let accounts: Vec<ServiceAccount> = given.all();
            let namespace: Option<Namespace> = given.maybe();
            let account = namespace
                .as_ref()
                .and_then(|n| accounts.iter().find(|a| a.namespace() == n.name() && a.name() == DEFAULT));
            if is_missing(namespace.as_ref(), account) { "create" } else { "nothing to do" }.to_string()
        });
    }

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

    proptest! {
        /// One account is enough: who has it needs nothing, and who lacks it gets it exactly while it is active.
        #[test]
        fn plan_then_apply_settles(phase in "Active|Terminating|", has: bool) {
            let namespace: Namespace =
                serde_json::from_value(json!({"metadata": {}, "status": {"phase": phase}})).expect("a namespace");
            let mut account = has.then(ServiceAccount::default);
            let missing = is_missing(Some(&namespace), account.as_ref());
            prop_assert_eq!(missing, !has && phase == "Active");
            if missing {
                account = Some(ServiceAccount::default());
            }
            prop_assert!(!is_missing(Some(&namespace), account.as_ref()));
        }

        /// A namespace with its account is left alone, whatever becomes of either.
        #[test]
        fn a_satisfied_view_needs_nothing(phase in "Active|Terminating|[A-Za-z]{0,9}", labels in prop::collection::btree_map("[a-z]{1,3}", "[a-z]{1,3}", 0..3)) {
            let namespace: Namespace =
                serde_json::from_value(json!({"metadata": {"labels": labels}, "status": {"phase": phase}})).expect("a namespace");
            let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"labels": labels}})).expect("an account");
            prop_assert!(!is_missing(Some(&namespace), Some(&account)));
        }
    }
}
