//! Autoscalers, situation by situation: what metrics call for, and what holds it back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerSpec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::limits::{History, Sizes};
use super::replicas::{
    Delays, Sample, Samples, Tolerances, View, by_ratio, by_usage, by_utilization, per_pod, sum,
};
use super::requests::requests;
use crate::kept::Pod;
use crate::scenario::{self, Given};

const NOW: i64 = 1_790_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).expect("a time")
}

/// `"a ready=True"`: of phase Running and old, unless `pending`, `failed`, `young`.
fn pod(text: &str) -> Arc<Pod> {
    let has = |w: &str| text.split(' ').any(|t| t == w);
    let phase = if has("pending") {
        "Pending"
    } else if has("failed") {
        "Failed"
    } else {
        "Running"
    };
    let ready = if has("unready") { "False" } else { "True" };
    let start = at(if has("young") { -30 } else { -3600 }).to_string();
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": text.split(' ').next(), "namespace": "n"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]},
            "status": {"phase": phase, "startTime": start, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": start}]},
        }))
        .expect("a pod"),
    )
}

fn samples(all: &[(&str, i64)]) -> Samples {
    let sample = |value: i64| Sample { value, at: at(0), window: Duration::from_secs(15) };
    all.iter().map(|(name, value)| ((*name).to_string(), sample(*value))).collect()
}

fn view(pods: &[Arc<Pod>], current: i32) -> View<'_> {
    View {
        pods,
        current,
        tolerances: Tolerances { down: 0.1, up: 0.1 },
        delays: Delays {
            cpu_initialization: Duration::from_secs(300),
            initial_readiness: Duration::from_secs(30),
        },
        now: at(0),
    }
}

/// Pods for a target of 50 percent of the CPU.
fn cpu(pods: &[&str], current: i32, used: &[(&str, i64)]) -> i32 {
    let pods: Vec<_> = pods.iter().map(|p| pod(p)).collect();
    let requests = requests(&pods, "", "cpu").expect("requests");
    by_utilization(&view(&pods, current), samples(used), &requests, 50, true).expect("a proposal").replicas
}

/// CPU that pods use, in thousandths; requested is one each.
#[derive(serde::Deserialize)]
struct Used {
    pods: Vec<String>,
    used: BTreeMap<String, i64>,
}

/// What metrics call for at a second.
#[derive(serde::Deserialize)]
struct Called {
    at: i64,
    current: i32,
    desired: i32,
}

fn proposals(given: &Given, out: &mut String) {
    let target = given.setting("percent").unwrap_or(50);
    for case in given.setting::<Vec<Used>>("proposals").unwrap_or_default() {
        let pods: Vec<_> = case.pods.iter().map(|p| pod(p)).collect();
        let used: Vec<(&str, i64)> = case.used.iter().map(|(name, used)| (name.as_str(), *used)).collect();
        let current = i32::try_from(pods.len()).expect("small");
        let requests = requests(&pods, "", "cpu").expect("requests");
        let proposal = by_utilization(&view(&pods, current), samples(&used), &requests, target, true);
        let what =
            proposal.map_or_else(|e| e, |p| format!("{}% used, {current} -> {}", p.utilization, p.replicas));
        out.push_str(&format!("{} use {used:?}\n  {what}\n", case.pods.join(", ")));
    }
}

fn limits(given: &Given, out: &mut String) {
    let spec = spec(given.setting("max").unwrap_or(100), given.setting("behavior").unwrap_or(Value::Null));
    let mut history = History::default();
    for (i, called) in given.setting::<Vec<Called>>("called").unwrap_or_default().into_iter().enumerate() {
        let Called { at: second, current, desired } = called;
        if i == 0 {
            history.begin(current, at(second));
        }
        let (to, why) = go(&mut history, &spec, current, desired, second);
        out.push_str(&format!("{second} s: {current}, called for {desired} -> {to} ({why})\n"));
    }
}

#[test]
fn scenarios() {
    scenario::check("podautoscaler/testdata", |given| {
        let mut out = String::new();
        proposals(given, &mut out);
        limits(given, &mut out);
        out
    });
}

#[test]
fn use_above_the_target_calls_for_more_pods_and_below_for_fewer() {
    assert_eq!(cpu(&["a", "b"], 2, &[("a", 1000), ("b", 1000)]), 4);
    assert_eq!(cpu(&["a", "b", "c"], 3, &[("a", 300), ("b", 300), ("c", 0)]), 2);
    assert_eq!(cpu(&["a", "b"], 2, &[("a", 520), ("b", 520)]), 2, "within the tolerance");
}

#[test]
fn pods_without_metrics_speak_against_the_change() {
    assert_eq!(cpu(&["a", "b", "c"], 3, &[("a", 1000), ("b", 1000)]), 4, "taken for idle when growing");
    assert_eq!(cpu(&["a", "b", "c"], 3, &[("a", 100), ("b", 100)]), 3, "taken for busy when shrinking");
    assert_eq!(cpu(&["a", "b", "c pending"], 3, &[("a", 1000), ("b", 1000)]), 4);
    assert_eq!(
        cpu(&["a", "b", "c failed"], 2, &[("a", 1000), ("b", 1000), ("c", 0)]),
        4,
        "a failed pod does not count"
    );
}

#[test]
fn young_pods_are_distrusted_as_long_as_they_start() {
    assert_eq!(cpu(&["a", "b young unready"], 2, &[("a", 1000), ("b", 9000)]), 2);
    let pods = [pod("a young unready")];
    let none = by_usage(&view(&pods, 1), samples(&[("a", 500)]), 100, true);
    assert_eq!(
        none.expect_err("nothing to count"),
        "did not receive metrics for targeted pods (pods might be unready)"
    );
    assert!(by_usage(&view(&pods, 1), samples(&[("a", 500)]), 100, false).is_ok(), "only for CPU");
}

#[test]
fn metrics_that_are_not_the_pods_own_are_shared() {
    let pods: Vec<_> = ["a", "b unready"].iter().map(|p| pod(p)).collect();
    assert_eq!(
        by_ratio(&view(&pods, 2), 3000, 1000).expect("a proposal").replicas,
        3,
        "only ready pods serve"
    );
    assert_eq!(
        by_ratio(&view(&[], 0), 2500, 1000).expect("a proposal").replicas,
        3,
        "from zero the ratio is the number"
    );
    let even = Tolerances { down: 0.1, up: 0.1 };
    assert_eq!((per_pod(3, even, 12_000, 2000).replicas, per_pod(3, even, 12_000, 2000).usage), (6, 4000));
    assert_eq!(per_pod(3, even, 6300, 2000).replicas, 3);
    assert_eq!(sum(&[i64::MAX, 5]), i64::MAX);
}

#[test]
fn requests_are_of_the_pod_or_of_one_container() {
    let pods = [pod("a")];
    assert_eq!(
        requests(&pods, "", "memory").expect("requests"),
        BTreeMap::from([("a".into(), 1024 * 1024 * 1024 * 1000)])
    );
    assert_eq!(requests(&pods, "c", "cpu").expect("requests")["a"], 1000);
    assert_eq!(requests(&pods, "d", "cpu").expect_err("none"), "container d not found in Pod a");
    assert_eq!(
        requests(&pods, "", "nvidia.com/gpu").expect_err("none"),
        "missing request for nvidia.com/gpu in container c of Pod a"
    );
}

fn spec(max: i32, behavior: Value) -> HorizontalPodAutoscalerSpec {
    serde_json::from_value(json!({"maxReplicas": max, "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "behavior": behavior})).expect("a spec")
}

fn go(
    history: &mut History,
    spec: &HorizontalPodAutoscalerSpec,
    current: i32,
    desired: i32,
    now: i64,
) -> (i32, &'static str) {
    let sizes = Sizes { current, desired, min: 1, max: spec.max_replicas };
    let (to, told) = history.normalize(spec, sizes, Duration::from_secs(300), at(now));
    history.scaled(spec.behavior.as_ref(), current, to, at(now));
    (to, told[1].2)
}

#[test]
fn without_rules_a_size_may_double() {
    let (mut history, spec) = (History::default(), spec(100, Value::Null));
    assert_eq!(go(&mut history, &spec, 1, 50, 0), (4, "ScaleUpLimit"));
    assert_eq!(go(&mut history, &spec, 10, 50, 1), (20, "ScaleUpLimit"));
    assert_eq!(go(&mut history, &spec, 80, 150, 2), (100, "TooManyReplicas"));
}

#[test]
fn higher_recommendations_hold_for_five_minutes() {
    let (mut history, spec) = (History::default(), spec(100, Value::Null));
    history.begin(10, at(0));
    assert_eq!(go(&mut history, &spec, 10, 2, 60).0, 10);
    assert_eq!(go(&mut history, &spec, 10, 2, 301).0, 2);
}

#[test]
fn rules_say_how_many_pods_per_period() {
    let rules = json!({"scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
            {"type": "Pods", "value": 3, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}]},
        "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}]}});
    let (mut history, spec) = (History::default(), spec(100, rules));
    assert_eq!(go(&mut history, &spec, 10, 50, 0), (15, "ScaleUpLimit"));
    assert_eq!(go(&mut history, &spec, 15, 50, 30), (15, "ScaleUpLimit"), "the period is used up");
    assert_eq!(go(&mut history, &spec, 15, 50, 61).0, 23);
    assert_eq!(go(&mut history, &spec, 50, 10, 600), (45, "ScaleDownLimit"));
}

#[test]
fn disabled_rules_keep_the_size() {
    let rules = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Disabled"}, "scaleUp": {"stabilizationWindowSeconds": 0}});
    let (mut history, spec) = (History::default(), spec(100, rules));
    assert_eq!(go(&mut history, &spec, 10, 2, 0), (10, "ScaleDownLimit"));
}

proptest! {
    /// A size stays between its bounds, and a load that stays the same leads to a size that stays the same.
    #[test]
    fn sizes_settle_within_bounds(current in 1i32..60, load in 0i64..100_000, max in 1i32..60) {
        let spec = spec(max, Value::Null);
        let (mut size, mut history) = (current.min(max), History::default());
        let mut last = Vec::new();
        for round in 0..60 {
            let names: Vec<String> = (0..size).map(|i| format!("p{i}")).collect();
            let pods: Vec<_> = names.iter().map(|n| pod(n)).collect();
            let each: Vec<(&str, i64)> = names.iter().map(|n| (n.as_str(), load / i64::from(size))).collect();
            let proposal = by_usage(&view(&pods, size), samples(&each), 500, true).expect("a proposal");
            size = go(&mut history, &spec, size, proposal.replicas, round * 400).0;
            prop_assert!((1..=max).contains(&size));
            last.push(size);
        }
        let end = &last[last.len() - 5..];
        prop_assert!(end.iter().all(|s| *s == end[0]), "{:?}", last);
    }

    /// Use exactly at the target changes nothing.
    #[test]
    fn a_satisfied_view_gives_an_empty_plan(count in 1usize..20, target in 1i64..10_000) {
        let pods: Vec<_> = (0..count).map(|i| pod(&format!("p{i}"))).collect();
        let names: Vec<String> = (0..count).map(|i| format!("p{i}")).collect();
        let used: Vec<(&str, i64)> = names.iter().map(|n| (n.as_str(), target)).collect();
        let current = i32::try_from(count).expect("small");
        prop_assert_eq!(by_usage(&view(&pods, current), samples(&used), target, true).expect("a proposal").replicas, current);
    }
}
