//! How namespaces empty and go.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Gvr, PartialObjectMetadata};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use proptest::prelude::*;
use serde_json::json;

use super::conditions;
use super::plan::{Left, Next, is_finalized, let_go, pods_grace, what_is_left};
use crate::kept::Pod;
use crate::scenario;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

/// An object with these finalizers.
fn item(finalizers: &[String]) -> PartialObjectMetadata {
    let mut item = PartialObjectMetadata::default();
    item.metadata.finalizers = Some(finalizers.to_vec());
    item
}

/// Objects by `resource.version.group`: the finalizers of each.
type Content = BTreeMap<String, Vec<Vec<String>>>;

fn gvr(text: &str) -> Gvr {
    let mut parts = text.splitn(3, '.');
    let mut part = || parts.next().unwrap_or_default();
    let (resource, version) = (part(), part());
    Gvr::new(part(), version, resource)
}

/// What a round finds, in the order of the shell: pods first, and alone.
fn round(content: &Content, grace: Duration) -> Left {
    let mut left = Left::default();
    let judge = |name: &str, grace| {
        let items: Vec<_> = content.get(name).iter().flat_map(|i| i.iter().map(|f| item(f))).collect();
        what_is_left(&gvr(name), "ns", &items, grace)
    };
    left.add(judge("pods.v1.", grace));
    if left.findings.remaining.is_empty() {
        content.keys().filter(|k| *k != "pods.v1.").for_each(|k| left.add(judge(k, Duration::ZERO)));
    }
    left
}

#[test]
fn scenarios() {
    scenario::check("namespace/testdata", |given| {
        let namespace: Namespace = given.one();
        let pods: Vec<Pod> = given.all();
        let deleted = namespace.metadata.deletion_timestamp.as_ref().map(|t| t.0);
        let mut left = round(&given.setting("left").unwrap_or_default(), pods_grace(&pods, deleted, now()));
        left.findings.undiscovered = given.setting("undiscovered").unwrap_or_default();
        left.findings.failures.extend(given.setting::<Vec<String>>("failed").unwrap_or_default());
        let mut all = Vec::new();
        conditions::update(&mut all, &left.findings, now());
        let mut out = String::new();
        for condition in all.iter().filter(|c| c.status == "True") {
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            let (reason, message) = (text(&condition.reason), text(&condition.message));
            out.push_str(&format!("{} ({reason}): {message}\n", condition.type_));
        }
        match left.next() {
            Next::Finalize => {
                let mut namespace = namespace;
                let_go(&mut namespace);
                let left = namespace.spec.and_then(|s| s.finalizers).unwrap_or_default();
                out + &format!("let it go, finalizers left: {left:?}")
            }
            other => out + &format!("{other:?}"),
        }
    });
}

/// Objects of a resource: each with how many rounds its finalizer stays.
fn resources() -> impl Strategy<Value = BTreeMap<String, Vec<usize>>> {
    let name = prop_oneof![
        Just("pods.v1."),
        Just("secrets.v1."),
        Just("deployments.v1.apps"),
        Just("widgets.v1.example.org")
    ];
    proptest::collection::btree_map(
        name.prop_map(str::to_owned),
        proptest::collection::vec(0usize..4, 0..5),
        0..5,
    )
}

proptest! {
    /// A namespace goes when, and only when, it is empty, however long finalizers take; until then the conditions name
    /// what is left. Nothing else is deleted while there are pods.
    #[test]
    fn plan_then_apply_settles(mut resources in resources()) {
        let mut conditions: Vec<NamespaceCondition> = Vec::new();
        let mut rounds = 0;
        loop {
            let pods = resources.get("pods.v1.").map_or(0, Vec::len);
            // What is deleted goes, unless a finalizer keeps it.
            for (name, objects) in &mut resources {
                if pods == 0 || name == "pods.v1." {
                    objects.retain(|stays| *stays > 0);
                    objects.iter_mut().for_each(|stays| *stays -= 1);
                }
            }
            let content: Content = resources
                .iter()
                .map(|(name, objects)| (name.clone(), vec![vec!["example.org/guard".to_owned()]; objects.len()]))
                .collect();
            let left = round(&content, Duration::ZERO);
            conditions::update(&mut conditions, &left.findings, now());
            prop_assert!(!conditions::update(&mut conditions, &left.findings, now()), "the same is told once");
            let is_empty = resources.values().all(Vec::is_empty);
            prop_assert_eq!(left.next() == Next::Finalize, is_empty);
            let told = conditions.iter().any(|c| c.type_ == "NamespaceContentRemaining" && c.status == "True");
            prop_assert_eq!(told, !is_empty);
            rounds += 1;
            prop_assert!(rounds < 12, "never ends: {:?}", resources);
            if is_empty {
                break;
            }
        }
    }

    /// An empty namespace is let go at once, with nothing to complain of; a guard of somebody else stays on it.
    #[test]
    fn a_satisfied_view_needs_nothing(other in any::<bool>(), empty in proptest::collection::btree_set("[a-z]{1,5}", 0..4)) {
        let content: Content = empty.into_iter().map(|r| (format!("{r}.v1."), vec![])).collect();
        let left = round(&content, Duration::ZERO);
        prop_assert_eq!(left.next(), Next::Finalize);
        let mut conditions = Vec::new();
        conditions::update(&mut conditions, &left.findings, now());
        prop_assert!(conditions.iter().all(|c| c.status == "False"));
        let finalizers = if other { json!(["kubernetes", "example.org/guard"]) } else { json!(["kubernetes"]) };
        let mut namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"finalizers": finalizers}})).expect("a namespace");
        let_go(&mut namespace);
        prop_assert_eq!(is_finalized(&namespace), !other);
    }
}
