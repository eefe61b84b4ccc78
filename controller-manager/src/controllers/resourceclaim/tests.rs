//! Which claims are made, reserved and taken back.

use std::sync::Arc;

use client::Meta;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{ClaimPlan, PodPlan, PodView, plan_claim, plan_pod, statuses};
use crate::kept::Pod;
use crate::scenario;

fn decide(pod: &Pod, claims: &[Arc<ResourceClaim>], templates: &[Arc<ResourceClaimTemplate>]) -> PodPlan {
    let owned: Vec<_> = claims
        .iter()
        .filter(|c| super::owning_pod(c).is_some_and(|(_, u)| u == pod.uid()))
        .cloned()
        .collect();
    plan_pod(&PodView {
        pod,
        claim: &|name| claims.iter().find(|c| c.name() == name).cloned(),
        owned: &owned,
        template: &|name| templates.iter().find(|t| t.name() == name).cloned(),
    })
}

#[test]
fn scenarios_of_pods() {
    scenario::check("resourceclaim/testdata/pods", |given| {
        let plan = decide(&given.one(), &given.shared(), &given.shared());
        let mut out = String::new();
        for (wanted, claim) in &plan.create {
            out.push_str(&format!("create for {wanted}\n{}", scenario::yaml(claim)));
        }
        plan.tell.iter().for_each(|(wanted, claim)| out.push_str(&format!("tell {wanted} is {claim}\n")));
        plan.reserve
            .iter()
            .for_each(|c| out.push_str(&format!("reserve {}\n{}", c.name(), scenario::yaml(&c.status))));
        plan.failure.iter().for_each(|f| out.push_str(&format!("failed: {f}\n")));
        if out.is_empty() { "nothing to do".to_string() } else { out }
    });
}

#[test]
fn scenarios_of_claims() {
    scenario::check("resourceclaim/testdata/claims", |given| {
        let running: Vec<String> = given.setting("running").unwrap_or_default();
        let claim: ResourceClaim = given.one();
        let done = given.setting("ownerIsDone").unwrap_or(false);
        let released = given.setting("released").unwrap_or(false);
        match plan_claim(&claim, |name, _| running.iter().any(|r| r == name), done, released) {
            ClaimPlan::UpdateStatus(new) => format!("status\n{}", scenario::yaml(&new.status)),
            ClaimPlan::Update(new) => format!("metadata\n{}", scenario::yaml(&new.metadata)),
            other => format!("{other:?}"),
        }
    });
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn pod(claims: &[String], node: &str) -> Pod {
    let claims: Vec<_> =
        claims.iter().map(|c| json!({"name": c, "resourceClaimTemplateName": "t"})).collect();
    read(json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "u"},
        "spec": {"containers": [], "nodeName": node, "resourceClaims": claims},
    }))
}

proptest! {
    /// Every claim of a pod is made once and told, also if it stops in between; on a node it is reserved once.
    #[test]
    fn plan_then_apply_settles(
        wanted in proptest::collection::btree_set("[a-z]{1,30}", 0..5), node in "|node", lost in any::<bool>(),
    ) {
        let wanted: Vec<String> = wanted.into_iter().collect();
        let templates: Vec<Arc<ResourceClaimTemplate>> =
            vec![Arc::new(read(json!({"metadata": {"name": "t"}, "spec": {"spec": {}}})))];
        let (mut pod, mut claims) = (pod(&wanted, &node), Vec::<Arc<ResourceClaim>>::new());
        for round in 0..5 {
            let plan = decide(&pod, &claims, &templates);
            prop_assert_eq!(&plan.failure, &None);
            if plan == PodPlan::default() {
                break;
            }
            let mut told = plan.tell;
            for (name, mut claim) in plan.create {
                let base = claim.metadata.generate_name.clone().expect("a base");
                prop_assert!(base.len() <= 58, "{base}");
                claim.metadata.name = Some(format!("{base}{round}"));
                claim.status = Some(read(json!({"allocation": {}})));
                told.push((name, claim.name().to_string()));
                claims.push(Arc::new(claim));
            }
            for claim in plan.reserve {
                let at = claims.iter().position(|c| c.name() == claim.name()).expect("the claim");
                claims[at] = Arc::new(claim);
            }
            // The status may not have been written.
            if !(lost && round == 0) {
                pod.status.get_or_insert_default().resource_claim_statuses = Some(statuses(&pod, &told));
            }
        }
        prop_assert_eq!(decide(&pod, &claims, &templates), PodPlan::default());
        prop_assert_eq!(claims.len(), wanted.len());
        let reserved = claims.iter().filter(|c| c.status.as_ref().is_some_and(|s| s.reserved_for.is_some())).count();
        prop_assert_eq!(reserved, if node.is_empty() { 0 } else { wanted.len() });
    }

    /// A claim loses all consumers that are gone and keeps the others; once nobody is left, nothing stays allocated.
    #[test]
    fn claims_settle(consumers in proptest::collection::vec(any::<bool>(), 0..5), deleted in any::<bool>()) {
        let reserved: Vec<_> = (0..consumers.len()).map(|i| json!({"resource": "pods", "name": format!("p{i}"), "uid": format!("{i}")})).collect();
        let mut claim: ResourceClaim = read(json!({
            "metadata": {"name": "c", "finalizers": ["resource.kubernetes.io/delete-protection"],
                         "deletionTimestamp": deleted.then_some("2026-01-01T00:00:00Z")},
            "spec": {}, "status": {"allocation": {}, "reservedFor": reserved},
        }));
        let runs = |_: &str, uid: &str| consumers[uid.parse::<usize>().expect("a number")];
        let mut released = false;
        for _ in 0..4 {
            match plan_claim(&claim, runs, false, released) {
                ClaimPlan::Nothing => break,
                ClaimPlan::UpdateStatus(new) => (claim, released) = (*new, true),
                ClaimPlan::Update(new) => claim = *new,
                ClaimPlan::Delete => prop_assert!(false, "its pod is not done"),
            }
        }
        prop_assert_eq!(plan_claim(&claim, runs, false, released), ClaimPlan::Nothing);
        let status = claim.status.expect("a status");
        let left = consumers.iter().filter(|runs| **runs).count();
        prop_assert_eq!(status.reserved_for.map_or(0, |r| r.len()), left);
        let kept = left > 0 || (consumers.is_empty() && !deleted);
        prop_assert_eq!(status.allocation.is_some(), kept);
        prop_assert_eq!(claim.metadata.finalizers.is_some_and(|f| !f.is_empty()), kept);
    }

    /// A pod whose claims are there and told is left alone, and so is a claim all of whose consumers run.
    #[test]
    fn a_satisfied_view_needs_nothing(names in proptest::collection::btree_set("[a-z]{1,9}", 0..5), consumers in 1usize..5) {
        let names: Vec<String> = names.into_iter().collect();
        let mut pod = pod(&names, "");
        let own = |name: &String| -> ResourceClaim {
            read(json!({
                "metadata": {"name": format!("web-{name}"), "annotations": {"resource.kubernetes.io/pod-claim-name": name},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u", "controller": true}]},
                "spec": {},
            }))
        };
        let claims: Vec<Arc<ResourceClaim>> = names.iter().map(|n| Arc::new(own(n))).collect();
        let told: Vec<_> = names.iter().map(|n| (n.clone(), format!("web-{n}"))).collect();
        pod.status.get_or_insert_default().resource_claim_statuses = Some(statuses(&pod, &told));
        prop_assert_eq!(decide(&pod, &claims, &[]), PodPlan::default());
        let reserved: Vec<_> = (0..consumers).map(|i| json!({"resource": "pods", "name": format!("p{i}"), "uid": format!("{i}")})).collect();
        let claim: ResourceClaim = read(json!({
            "metadata": {"name": "c", "finalizers": ["resource.kubernetes.io/delete-protection"]},
            "spec": {}, "status": {"allocation": {}, "reservedFor": reserved},
        }));
        prop_assert_eq!(plan_claim(&claim, |_, _| true, false, false), ClaimPlan::Nothing);
    }
}
