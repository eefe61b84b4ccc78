//! Which signatures the cluster information carries.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use proptest::prelude::*;
use serde_json::json;

use super::{plan, signature};
use crate::scenario;

#[test]
fn scenarios() {
    scenario::check("bootstrapsigner/testdata", |given| {
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        match plan(&given.one::<ConfigMap>(), &given.shared::<Secret>(), now) {
            Some(new) => scenario::yaml(&new.data),
            None => "nothing to write".to_string(),
        }
    });
}

/// From upstream's jws_test.go.
#[test]
fn signatures_are_upstreams() {
    let content = "Hello from the other side. I must have called a thousand times.";
    let expected = "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8";
    assert_eq!(signature(content, "joshua", "my voice is my passcode"), expected);
}

fn token(id: &str, key: &str, signs: bool) -> Arc<Secret> {
    let data = |text: &str| ByteString(text.as_bytes().to_vec());
    let secret = json!({
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {"token-id": data(id), "token-secret": data(key),
                 "usage-bootstrap-signing": data(if signs { "true" } else { "false" })},
    });
    Arc::new(serde_json::from_value(secret).expect("a secret"))
}

fn config(signatures: &[String]) -> ConfigMap {
    let mut data = serde_json::Map::from_iter([("kubeconfig".to_string(), json!("content"))]);
    data.extend(signatures.iter().map(|s| (format!("jws-kubeconfig-{s}"), json!("old"))));
    serde_json::from_value(json!({"metadata": {"name": "cluster-info"}, "data": data})).expect("a map")
}

proptest! {
    /// One write gives each token that may sign its signature, and nobody else.
    #[test]
    fn plan_then_apply_settles(
        tokens in proptest::collection::btree_map("[a-z0-9]{6}", ("[a-z]{4}", any::<bool>()), 0..6),
        old in proptest::collection::vec("[a-z0-9]{6}", 0..3),
    ) {
        let secrets: Vec<_> = tokens.iter().map(|(id, (key, signs))| token(id, key, *signs)).collect();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let mut config = config(&old);
        if let Some(new) = plan(&config, &secrets, now) {
            config = new;
        }
        prop_assert_eq!(plan(&config, &secrets, now), None);
        let signers = tokens.values().filter(|(_, signs)| *signs).count();
        prop_assert_eq!(config.data.expect("data").len(), 1 + signers);
    }

    /// Without a kubeconfig nothing is to sign, whoever could.
    #[test]
    fn a_satisfied_view_needs_nothing(ids in proptest::collection::btree_set("[a-z0-9]{6}", 0..6)) {
        let secrets: Vec<_> = ids.iter().map(|id| token(id, "key", true)).collect();
        prop_assert_eq!(plan(&ConfigMap::default(), &secrets, jiff::Timestamp::UNIX_EPOCH), None);
    }
}
