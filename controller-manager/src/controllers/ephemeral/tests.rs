//! Which claims are made for pods.

use std::sync::Arc;

use client::Meta;
use k8s_openapi::api::core::v1::PersistentVolumeClaim as Claim;
use proptest::prelude::*;
use serde_json::json;

use super::plan;
use crate::kept::Pod;
use crate::scenario;

#[test]
fn scenarios() {
    scenario::check("ephemeral/testdata", |given| {
        let claims = given.shared::<Claim>();
        let find = |name: &str| claims.iter().find(|c| c.name() == name).cloned();
        let (missing, taken) = plan(&given.one::<Pod>(), find);
        let mut out: String = missing.iter().map(|c| format!("create\n{}", scenario::yaml(c))).collect();
        taken.iter().for_each(|why| out.push_str(&format!("error: {why}\n")));
        if out.is_empty() { "nothing to make".to_string() } else { out }
    });
}

fn pod(volumes: &[(String, bool)]) -> Pod {
    let template = json!({"spec": {"accessModes": ["ReadWriteOnce"]}});
    let volume = |(name, ephemeral): &(String, bool)| {
        if *ephemeral {
            json!({"name": name, "ephemeral": {"volumeClaimTemplate": template}})
        } else {
            json!({"name": name, "emptyDir": {}})
        }
    };
    let volumes: Vec<_> = volumes.iter().map(volume).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [], "volumes": volumes},
    }))
    .expect("a pod")
}

proptest! {
    /// After the missing claims are made nothing is missing, and each ephemeral volume has one.
    #[test]
    fn plan_then_apply_settles(
        volumes in proptest::collection::btree_map("[a-z]{1,3}", any::<bool>(), 0..6),
        had in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let volumes: Vec<(String, bool)> = volumes.into_iter().collect();
        let pod = pod(&volumes);
        let mut claims: Vec<Arc<Claim>> = plan(&pod, |_| None).0.into_iter().map(Arc::new).collect();
        prop_assert_eq!(claims.len(), volumes.iter().filter(|(_, e)| *e).count());
        // Some are deleted.
        for index in had {
            if !claims.is_empty() {
                claims.remove(index.index(claims.len()));
            }
        }
        let find = |claims: &[Arc<Claim>], name: &str| claims.iter().find(|c| c.name() == name).cloned();
        let (missing, _) = plan(&pod, |name| find(&claims, name));
        claims.extend(missing.into_iter().map(Arc::new));
        prop_assert_eq!(plan(&pod, |name| find(&claims, name)), (vec![], None));
    }

    /// A pod that goes gets nothing more.
    #[test]
    fn a_satisfied_view_needs_nothing(volumes in proptest::collection::btree_map("[a-z]{1,3}", any::<bool>(), 0..6)) {
        let mut pod = pod(&volumes.into_iter().collect::<Vec<_>>());
        pod.metadata.deletion_timestamp = Some(jiff::Timestamp::UNIX_EPOCH.into());
        prop_assert_eq!(plan(&pod, |_| None), (vec![], None));
    }
}
