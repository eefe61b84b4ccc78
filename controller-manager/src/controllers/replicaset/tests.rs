//! Rules of the ReplicaSet, one line each, and properties.

use std::sync::Arc;

use controller::Related;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use proptest::prelude::*;
use serde_json::json;

use super::plan::{Action, Count, View, differs, plan, status, template_labels};
use super::tally;
use crate::controllers::shared::selector;
use crate::kept::Pod;
use crate::scenario;

const NOW: i64 = 1_790_000_000;

fn set(replicas: usize) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "u", "generation": 3},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}}},
    }))
    .expect("a set")
}

/// `"web-a ready node=n1 since=100"`: since = seconds it has been ready.
fn pod(text: &str) -> Arc<Pod> {
    let mut words = text.split(' ');
    let name = words.next().expect("a name");
    let words: Vec<&str> = words.collect();
    let value = |p: &str| words.iter().find_map(|w| w.strip_prefix(p)).unwrap_or_default();
    let ready = words.contains(&"ready");
    let since: i64 = value("since=").parse().unwrap_or(0);
    let time = Timestamp::from_second(NOW - since).expect("a time").to_string();
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"a": "b"}, "creationTimestamp": time},
            "spec": {"nodeName": value("node="), "containers": []},
            "status": {"phase": if ready { "Running" } else { "Pending" },
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": time}]},
        }))
        .expect("a pod"),
    )
}

fn view<'a>(set: &'a ReplicaSet, active: &'a [Arc<Pod>]) -> View<'a> {
    View { set, count: Count::of(set, active, 0, now()), active, related: active, settled: true }
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

fn check(replicas: usize, pods: &[&str], expected: Action) {
    let (set, active) = (set(replicas), pods.iter().map(|p| pod(p)).collect::<Vec<_>>());
    assert_eq!(plan(&view(&set, &active), now()), expected);
}

fn delete(names: &[&str]) -> Action {
    Action::Delete(names.iter().map(ToString::to_string).collect())
}

/// Situations of a set: pods, and what is done.
pub(in crate::controllers) fn situations(set: &ReplicaSet, given: &scenario::Given) -> String {
    let settled = given.setting("settled").unwrap_or(true);
    let failure: Option<String> = given.setting("failure");
    let mut out = String::new();
    for texts in given.setting::<Vec<Vec<String>>>("pods").expect("situations") {
        let active: Vec<_> = texts.iter().map(|p| pod(p)).collect();
        let view = View { settled, ..view(set, &active) };
        let what = match plan(&view, now()) {
            Action::Nothing => "nothing to do".to_string(),
            Action::Create(count) => format!("make {count}"),
            Action::Delete(names) => format!("delete {}", names.join(", ")),
        };
        let status = status(&view, failure.as_deref(), now());
        out.push_str(&format!(
            "{}\n",
            if texts.is_empty() { "no pods".to_string() } else { texts.join(", ") }
        ));
        let ready = status.ready_replicas.unwrap_or(0);
        let available = status.available_replicas.unwrap_or(0);
        out.push_str(&format!("  {what}; {} pods, {ready} ready, {available} available", status.replicas));
        let told = status.conditions.iter().flatten().filter_map(|c| c.reason.as_deref());
        told.for_each(|reason| out.push_str(&format!(" ({reason})")));
        out.push('\n');
    }
    out
}

#[test]
fn scenarios() {
    scenario::check("replicaset/testdata", |given| situations(&given.one(), given));
}

#[test]
fn too_few_pods_are_made_up_for() {
    check(3, &["web-a ready"], Action::Create(2));
    check(2000, &[], Action::Create(500));
    check(1, &["web-a ready"], Action::Nothing);
}

#[test]
fn pods_that_never_ran_are_the_cheapest_to_lose() {
    check(1, &["web-a ready node=n1", "web-b"], delete(&["web-b"]));
    check(1, &["web-a ready node=n1", "web-b node=n2"], delete(&["web-b"]));
}

#[test]
fn pods_on_crowded_nodes_go_before_others() {
    check(2, &["web-a ready node=n1", "web-b ready node=n2", "web-c ready node=n2"], delete(&["web-b"]));
}

#[test]
fn young_pods_go_before_old_ones() {
    check(1, &["web-a ready node=n1 since=9000", "web-b ready node=n2 since=10"], delete(&["web-b"]));
}

#[test]
fn nothing_happens_while_earlier_work_is_unseen() {
    let (set, active) = (set(3), vec![]);
    let unsettled = View { settled: false, ..view(&set, &active) };
    assert_eq!(plan(&unsettled, now()), Action::Nothing);
}

#[test]
fn a_set_that_is_going_away_makes_nothing() {
    let mut set = set(3);
    set.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    assert_eq!(plan(&view(&set, &[]), now()), Action::Nothing);
}

#[test]
fn status_counts_and_notes_failures_once() {
    let (mut set, active) = (set(3), vec![pod("web-a ready since=5"), pod("web-b")]);
    let first = status(&view(&set, &active), Some("quota"), now());
    assert_eq!((first.replicas, first.ready_replicas, first.available_replicas), (2, Some(1), Some(1)));
    let reasons: Vec<_> = first.conditions.iter().flatten().map(|c| c.reason.clone()).collect();
    assert_eq!(reasons, [Some("FailedCreate".to_string())]);
    set.status = Some(first.clone());
    assert!(!differs(&first, &status(&view(&set, &active), Some("again"), now())));
    assert_eq!(status(&view(&set, &active), None, now()).conditions, None);
}

/// A pod in words: whose it is, whether it has the labels, its state.
fn owned(number: usize, (owner, labelled, state): (u8, bool, u8)) -> Pod {
    let uid = ["u", "other"][usize::from(owner % 2)];
    let ready = if state == 0 { "True" } else { "False" };
    serde_json::from_value(json!({
        "metadata": {"name": format!("web-{number}"), "namespace": "n", "labels": {"a": if labelled { "b" } else { "c" }},
            "deletionTimestamp": (state == 2).then(|| now().to_string()),
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": uid, "controller": true}]},
        "status": {"phase": if state == 3 { "Failed" } else { "Running" }, "conditions": [{"type": "Ready", "status": ready}]},
    }))
    .expect("a pod")
}

proptest! {
    /// Counting pods as they change gives what looking at each of them gives.
    #[test]
    fn counts_are_those_of_a_look(pods in prop::collection::vec((0u8..2, prop::bool::weighted(0.9), 0u8..4), 0..20)) {
        let set = set(3);
        let all = pods.iter().enumerate().map(|(i, p)| owned(i, *p));
        let store: informer::Store<Pod> = all.clone().collect();
        let counted = tally::start::<ReplicaSet>(&store);
        let (own, labels) = (selector(&set.spec.selector).expect("a selector"), template_labels(&set));
        let own_pods: Vec<Pod> = all.filter(|p| p.metadata.owners()[0].uid == "u").collect();
        let active: Vec<_> = own_pods.iter().filter(|p| crate::pods::is_active(p)).cloned().map(Arc::new).collect();
        let terminating = own_pods.iter().filter(|p| crate::pods::is_terminating(p)).count();
        let released = active.iter().any(|p| !own.matches(&p.metadata.labels));
        let expected = (!released).then(|| Count::of(&set, &active, terminating, now()));
        prop_assert_eq!(tally::count(&counted, &set, &own, &labels), expected);
    }

    /// Planning and carrying out reaches the wanted number in as many rounds as bursts, and then rests.
    #[test]
    fn plan_then_apply_settles(wanted in 0usize..1200, have in 0usize..1200) {
        let set = set(wanted);
        let mut active: Vec<Arc<Pod>> = (0..have).map(|i| pod(&format!("web-{i} ready node=n"))).collect();
        for round in 0..4 {
            match plan(&view(&set, &active), now()) {
                Action::Nothing => break,
                Action::Create(count) => active.extend((0..count).map(|i| pod(&format!("new-{round}-{i} ready node=n")))),
                Action::Delete(names) => active.retain(|p| !names.iter().any(|n| n == p.name())),
            }
        }
        prop_assert_eq!(active.len(), wanted);
        prop_assert_eq!(plan(&view(&set, &active), now()), Action::Nothing);
    }

    /// With the wanted number of pods, in whatever state, nothing is done, and a right status is not written again.
    #[test]
    fn a_satisfied_view_needs_nothing(ready in prop::collection::vec(any::<bool>(), 0..30)) {
        let mut set = set(ready.len());
        let text = |(i, ready): (usize, &bool)| pod(&format!("web-{i} node=n{}", if *ready { " ready" } else { "" }));
        let active: Vec<Arc<Pod>> = ready.iter().enumerate().map(text).collect();
        prop_assert_eq!(plan(&view(&set, &active), now()), Action::Nothing);
        let told = status(&view(&set, &active), None, now());
        set.status = Some(told.clone());
        prop_assert!(!differs(&told, &status(&view(&set, &active), None, now())));
    }
}
