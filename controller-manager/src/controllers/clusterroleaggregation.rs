//! Cluster role aggregation: a role with an aggregation rule holds the rules of all roles that its selectors match.
//! Upstream: pkg/controller/clusterroleaggregation/clusterroleaggregation_controller.go.

use std::sync::Arc;

use client::{Client, Meta, Patch, PatchParams};
use component::app::Error;
use controller::WorkQueue;
use informer::{Options, Store};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use super::shared::{key, selector};
use crate::context::Context;
use crate::descriptor::Running;

const MANAGER: &str = "clusterrole-aggregation-controller";

/// An absent list is an empty one.
fn is_same(a: &PolicyRule, b: &PolicyRule) -> bool {
    let lists = |r: &PolicyRule| {
        [&r.api_groups, &r.non_resource_urls, &r.resource_names, &r.resources]
            .map(|l| l.clone().unwrap_or_default())
    };
    a.verbs == b.verbs && lists(a) == lists(b)
}

/// The rules that a role is to have; nothing if it has them, or aggregates nothing.
fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Result<Option<Vec<PolicyRule>>, String> {
    let Some(aggregation) = &role.aggregation_rule else { return Ok(None) };
    let mut sources: Vec<&Arc<ClusterRole>> = all.iter().filter(|r| r.name() != role.name()).collect();
    sources.sort_by_key(|r| r.name().to_string());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for labels in aggregation.cluster_role_selectors.iter().flatten() {
        let matches =
            selector(labels).map_err(|e| format!("reading a selector of role {}: {e}", role.name()))?;
        for source in sources.iter().filter(|r| matches.matches(&r.metadata.labels.as_ref())) {
            for rule in source.rules.iter().flatten() {
                if !rules.iter().any(|r| is_same(r, rule)) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    let have = role.rules.as_deref().unwrap_or_default();
    let same = have.len() == rules.len() && have.iter().zip(&rules).all(|(a, b)| is_same(a, b));
    Ok((!same).then_some(rules))
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let roles = context.factory.informer::<ClusterRole>(Options::default());
    let queue: WorkQueue<String> = WorkQueue::new("ClusterRoleAggregator");
    let (to, store) = (queue.clone(), roles.store());
    // Any role may be part of any other.
    roles.subscribe(move |_| {
        store.for_each(|_, role| {
            if role.aggregation_rule.is_some() {
                to.add(key(&**role));
            }
        });
    });
    let (client, store, token) = (context.client(), roles.store(), context.token.clone());
    Ok(Box::pin(async move {
        if !roles.wait_synced(&token).await {
            return;
        }
        queue
            .run(5, &token, move |name: String| {
                let (client, store) = (client.clone(), store.clone());
                async move { sync(&client, &store, &name).await.map(|()| None) }
            })
            .await;
    }))
}

async fn sync(client: &Client, roles: &Store<ClusterRole>, name: &str) -> Result<(), String> {
    let Some(role) = roles.get(name) else { return Ok(()) };
    let Some(rules) = plan(&role, &roles.list())? else { return Ok(()) };
    let patch = Patch::Apply(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": rules,
    }));
    let params = PatchParams { field_manager: MANAGER.to_string(), force: true, ..PatchParams::default() };
    let result = client.all::<ClusterRole>().patch(name, &patch, &params).await;
    result.map(drop).map_err(|e| format!("writing the rules of role {name}: {e}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::scenario;

    #[test]
    fn scenarios() {
        scenario::check("clusterroleaggregation/testdata", |given| {
            let all: Vec<Arc<ClusterRole>> = given.shared();
            let mut out = String::new();
            for role in &all {
                match plan(role, &all) {
                    Err(e) => out.push_str(&format!("failed: {e}\n")),
                    Ok(None) => {}
                    Ok(Some(rules)) => {
                        out.push_str(&format!("rules of {}\n{}", role.name(), scenario::yaml(&rules)))
                    }
                }
            }
            if out.is_empty() { "nothing to write".to_string() } else { out }
        });
    }

    /// `"name label: rule rule"`; a rule is a verb.
    fn role(text: &str) -> Arc<ClusterRole> {
        let (head, rules) = text.split_once(':').unwrap_or((text, ""));
        let (name, label) = head.split_once(' ').unwrap_or((head, "none"));
        let rules: Vec<_> =
            rules.split_whitespace().map(|v| json!({"verbs": [v], "resources": ["x"]})).collect();
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": name, "labels": {"to": label}}, "rules": rules}),
            )
            .expect("a role"),
        )
    }

    fn sum(name: &str, labels: &[&str], has: &str) -> ClusterRole {
        let mut role = ClusterRole::clone(&role(&format!("{name} sum: {has}")));
        let selectors: Vec<_> = labels.iter().map(|l| json!({"matchLabels": {"to": l}})).collect();
        role.aggregation_rule =
            Some(serde_json::from_value(json!({"clusterRoleSelectors": selectors})).expect("a rule"));
        role
    }

    fn verbs(rules: &[PolicyRule]) -> Vec<&str> {
        rules.iter().flat_map(|r| r.verbs.iter().map(String::as_str)).collect()
    }

    fn check(labels: &[&str], has: &str, others: &[&str], expected: Option<&[&str]>) {
        let others: Vec<_> = others.iter().map(|o| role(o)).collect();
        let plan = plan(&sum("sum", labels, has), &others).expect("a plan");
        assert_eq!(plan.as_deref().map(verbs), expected.map(<[&str]>::to_vec), "{labels:?}");
    }

    #[test]
    fn rules_of_matching_roles_are_joined() {
        check(&["a"], "", &["r1 a: get", "r2 b: list"], Some(&["get"]));
        check(&["a", "b"], "", &["r1 b: list", "r2 a: get"], Some(&["get", "list"]));
        check(&["a"], "", &["r2 a: get", "r1 a: list"], Some(&["list", "get"]));
        check(&["a"], "", &["r1 a: get", "r2 a: get"], Some(&["get"]));
        check(&["a"], "get", &["r1 a: get"], None);
        check(&["a"], "get", &[], Some(&[]));
        check(&["sum"], "get", &["sum sum: list"], Some(&[]));
    }

    #[test]
    fn other_roles_are_left_alone() {
        assert_eq!(plan(&role("plain a: get"), &[role("x a: list")]), Ok(None));
    }

    proptest! {
        /// A role that was written needs nothing more.
        #[test]
        fn one_write_is_enough(others in prop::collection::vec(("r[0-9]", "[ab]", "(get |list |watch ){0,2}"), 0..6)) {
            let others: Vec<_> = others.iter().map(|(n, l, v)| role(&format!("{n} {l}: {v}"))).collect();
            let mut sum = sum("sum", &["a", "b"], "delete");
            if let Some(rules) = plan(&sum, &others).expect("a plan") {
                sum.rules = Some(rules);
            }
            prop_assert_eq!(plan(&sum, &others), Ok(None));
        }

        /// A role that holds the rules of its sources, in the order of their names, is left alone, however they are seen.
        #[test]
        fn a_satisfied_view_needs_nothing(verbs in prop::collection::btree_set("[a-z]{1,4}", 0..6), backwards: bool) {
            let mut others: Vec<_> =
                verbs.iter().enumerate().map(|(i, verb)| role(&format!("r{i} a: {verb}"))).collect();
            if backwards {
                others.reverse();
            }
            let has: Vec<&str> = verbs.iter().map(String::as_str).collect();
            prop_assert_eq!(plan(&sum("sum", &["a"], &has.join(" ")), &others), Ok(None));
        }

        /// Without sources a role without rules is satisfied.
        #[test]
        fn nothing_of_nothing(labels in prop::collection::vec("[ab]", 0..3)) {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            prop_assert_eq!(plan(&sum("sum", &labels, ""), &[]), Ok(None));
        }
    }
}
