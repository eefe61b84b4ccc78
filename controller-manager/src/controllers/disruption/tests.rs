//! Disruption budgets, situation by situation: what they allow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::scenario;

use super::plan::{
    Wanted, clear_mark, disrupted, fail_safe, healthy, needs_scale, show, stale_after, status, wanted,
};
use crate::kept::Pod;

const NOW: i64 = 1_790_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).expect("a time")
}

fn budget(spec: Value) -> PodDisruptionBudget {
    serde_json::from_value(
        json!({"metadata": {"name": "b", "namespace": "n", "generation": 3}, "spec": spec}),
    )
    .expect("a budget")
}

/// `"a ready"`, `dying`.
fn pod(text: &str) -> Arc<Pod> {
    let has = |w: &str| text.split(' ').any(|t| t == w);
    let ready = if has("ready") { "True" } else { "False" };
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": text.split(' ').next(), "namespace": "n"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    }))
    .expect("a pod");
    if has("dying") {
        pod.metadata.deletion_timestamp = Some(at(0).into());
    }
    Arc::new(pod)
}

/// What a budget over `scale` expected pods allows while these are there.
fn allowed(spec: Value, scale: i32, pods: &[&str]) -> i32 {
    let budget = budget(spec);
    let pods: Vec<_> = pods.iter().map(|p| pod(p)).collect();
    let wanted = wanted(budget.spec.as_ref().expect("a spec"), pods.len(), scale).expect("numbers");
    let gone = disrupted(&budget, &pods, at(0));
    let status = status(&budget, wanted, healthy(&pods, &gone), gone.pods, at(0)).expect("a new status");
    status.disruptions_allowed.expect("a number")
}

#[test]
fn scenarios() {
    scenario::check("disruption/testdata", |given| {
        let budget: PodDisruptionBudget = given.one();
        let scale = given.setting("scale").unwrap_or(0);
        let mut out = String::new();
        for texts in given.setting::<Vec<Vec<String>>>("pods").expect("situations") {
            let pods: Vec<_> = texts.iter().map(|p| pod(p)).collect();
            out.push_str(&format!(
                "{}\n",
                if texts.is_empty() { "no pods".to_string() } else { texts.join(", ") }
            ));
            let wanted = match wanted(budget.spec.as_ref().expect("a spec"), pods.len(), scale) {
                Ok(wanted) => wanted,
                Err(e) => {
                    out.push_str(&format!(
                        "  {}",
                        scenario::yaml(&fail_safe(&budget, &e, at(0))).replace('\n', "\n  ")
                    ));
                    out.truncate(out.trim_end().len());
                    out.push('\n');
                    continue;
                }
            };
            let gone = disrupted(&budget, &pods, at(0));
            let up = healthy(&pods, &gone);
            out.push_str(&format!("  healthy {up} of {}, at least {}: ", wanted.expected, wanted.healthy));
            match status(&budget, wanted, up, gone.pods.clone(), at(0)) {
                None => out.push_str("nothing new\n"),
                Some(new) => {
                    let reason =
                        new.conditions.iter().flatten().map(|c| c.reason.as_str()).collect::<String>();
                    out.push_str(&format!("{} may go ({reason})\n", new.disruptions_allowed.unwrap_or(0)));
                }
            }
            gone.pods.keys().for_each(|p| out.push_str(&format!("  {p} is about to go\n")));
            gone.survivors
                .iter()
                .for_each(|p| out.push_str(&format!("  {} was not evicted after all\n", p.name())));
            gone.look_again.iter().for_each(|wait| out.push_str(&format!("  look again in {wait:?}\n")));
        }
        out
    });
}

#[test]
fn a_number_of_pods_must_stay_available() {
    let two = || json!({"minAvailable": 2});
    assert_eq!(allowed(two(), 0, &["a ready", "b ready", "c ready"]), 1);
    assert_eq!(allowed(two(), 0, &["a ready", "b ready", "c"]), 0);
    assert_eq!(allowed(two(), 0, &["a ready", "b ready", "c ready dying"]), 0);
    assert!(!needs_scale(budget(two()).spec.as_ref().expect("a spec")));
}

#[test]
fn a_share_is_taken_of_the_controllers_sizes() {
    let half = || json!({"minAvailable": "50%"});
    assert_eq!(allowed(half(), 5, &["a ready", "b ready", "c ready", "d ready"]), 1, "50% of 5 is 3");
    assert_eq!(allowed(json!({"maxUnavailable": 1}), 3, &["a ready", "b ready", "c ready"]), 1);
    assert_eq!(allowed(json!({"maxUnavailable": 1}), 3, &["a ready", "b ready"]), 0);
    assert_eq!(
        allowed(json!({"maxUnavailable": "30%"}), 4, &["a ready", "b ready", "c ready", "d ready"]),
        2
    );
}

#[test]
fn without_expected_pods_nothing_is_allowed() {
    assert_eq!(allowed(json!({"maxUnavailable": 5}), 0, &[]), 0);
    assert_eq!(allowed(json!({}), 0, &["a ready"]), 0);
}

#[test]
fn an_evicted_pod_counts_as_gone_for_two_minutes() {
    let mut budget = budget(json!({"minAvailable": 1}));
    let noted = |second: i64| Some(BTreeMap::from([("a".to_string(), Time(at(second)))]));
    let pods = [pod("a ready"), pod("b ready")];
    budget.status.get_or_insert_default().disrupted_pods = noted(-30);
    let gone = disrupted(&budget, &pods, at(0));
    assert_eq!((healthy(&pods, &gone), gone.look_again), (1, Some(Duration::from_secs(90))));
    budget.status.get_or_insert_default().disrupted_pods = noted(-121);
    let gone = disrupted(&budget, &pods, at(0));
    assert_eq!((healthy(&pods, &gone), gone.survivors.len(), gone.pods.len()), (2, 1, 0));
}

#[test]
fn the_condition_says_why() {
    let budget = budget(json!({"minAvailable": 1}));
    let new =
        status(&budget, Wanted { expected: 2, healthy: 1 }, 2, BTreeMap::new(), at(0)).expect("a status");
    let condition = |s: &k8s_openapi::api::policy::v1::PodDisruptionBudgetStatus| {
        let c = &s.conditions.as_ref().expect("conditions")[0];
        (c.status.clone(), c.reason.clone())
    };
    assert_eq!(condition(&new), ("True".into(), "SufficientPods".into()));
    let failed = fail_safe(&budget, "no", at(0));
    assert_eq!(
        (condition(&failed), failed.disruptions_allowed),
        (("False".into(), "SyncFailed".into()), Some(0))
    );
}

#[test]
fn marks_of_evictions_that_did_not_happen_are_taken_back() {
    let marked = |reason: &str, second: i64| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": at(second).to_string()}]}}))
        .expect("a pod")
    };
    assert_eq!(stale_after(&marked("EvictionByEvictionAPI", -30), at(0)), Some(Duration::from_secs(90)));
    assert_eq!(stale_after(&marked("EvictionByEvictionAPI", -300), at(0)), Some(Duration::ZERO));
    assert_eq!(stale_after(&marked("TerminationByKubelet", -300), at(0)), None);
    let cleared = clear_mark(&marked("EvictionByEvictionAPI", -300), at(0)).expect("a change");
    assert_eq!((&cleared["type"], &cleared["status"]), (&json!("DisruptionTarget"), &json!("False")));
    assert!(cleared["reason"].is_null() && cleared["lastTransitionTime"] == at(0).to_string());
    let cleared = serde_json::from_value(json!({"status": {"conditions": [cleared]}})).expect("a pod");
    assert_eq!(stale_after(&cleared, at(0)), None);
    assert_eq!(clear_mark(&cleared, at(0)), None);
}

#[test]
fn selectors_print_as_in_go() {
    let selector = serde_json::from_value(json!({"matchLabels": {"a": "b"}})).expect("a selector");
    assert_eq!(
        show(Some(&selector)),
        "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}"
    );
}

proptest! {
    /// A written status is not written again, and never more is allowed than keeps the budget.
    #[test]
    fn the_status_is_a_fixed_point(expected in 0i32..20, least in 0i32..20, up in 0i32..20) {
        let mut budget = budget(json!({"minAvailable": least}));
        let wanted = Wanted { expected, healthy: least };
        let new = status(&budget, wanted, up, BTreeMap::new(), at(0)).expect("a status");
        let allowed = new.disruptions_allowed.expect("a number");
        prop_assert!(allowed == 0 || up - allowed >= least);
        budget.status = Some(new);
        prop_assert_eq!(status(&budget, wanted, up, BTreeMap::new(), at(60)), None);
    }

    /// Pods without marks are left alone.
    #[test]
    fn a_satisfied_view_gives_an_empty_plan(count in 0usize..10) {
        let pods: Vec<_> = (0..count).map(|i| pod(&format!("p{i} ready"))).collect();
        prop_assert!(pods.iter().all(|p| stale_after(p, at(0)).is_none()));
        prop_assert_eq!(disrupted(&budget(json!({})), &pods, at(0)).pods.len(), 0);
    }

    /// A budget whose status says what is so is not written, whenever it is looked at.
    #[test]
    fn a_right_status_is_left_alone(up in 0i32..20, least in 1i32..20, later in 0i64..100_000) {
        let mut budget = budget(json!({"minAvailable": least}));
        let (word, reason) = if up > least { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        budget.status = Some(serde_json::from_value(json!({
            "currentHealthy": up, "desiredHealthy": least, "expectedPods": 20, "observedGeneration": 3,
            "disruptionsAllowed": (up - least).max(0),
            "conditions": [{"type": "DisruptionAllowed", "status": word, "reason": reason, "message": "",
                            "lastTransitionTime": at(-5).to_string(), "observedGeneration": 3}],
        })).expect("a status"));
        let wanted = Wanted { expected: 20, healthy: least };
        prop_assert_eq!(status(&budget, wanted, up, BTreeMap::new(), at(later)), None);
    }
}
