//! Rules of the node lifecycle, one line each, and two properties.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use proptest::prelude::*;
use serde_json::json;

use super::health::{Grace, Health, silent};
use super::taints::{NOT_READY, UNREACHABLE, labels, no_execute, no_schedule};
use super::zones::{Settings, State, Turn, Zones, state};
use crate::scenario::{self, Given};

const NOW: i64 = 1_790_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).expect("a time")
}

/// `"Ready=False MemoryPressure=True cordoned taint=key"`; all conditions are of second 0, NoSchedule taints.
fn node(text: &str) -> Node {
    let words: Vec<&str> = text.split_whitespace().collect();
    let conditions: Vec<_> = words
        .iter()
        .filter_map(|w| w.split_once('='))
        .filter(|(kind, _)| *kind != "taint")
        .map(|(kind, status)| json!({"type": kind, "status": status, "lastHeartbeatTime": at(0).to_string()}))
        .collect();
    let taints: Vec<_> = words
        .iter()
        .filter_map(|w| w.strip_prefix("taint="))
        .map(|key| json!({"key": key, "effect": "NoSchedule"}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "n1", "creationTimestamp": at(0).to_string()},
        "spec": {"unschedulable": words.contains(&"cordoned"), "taints": taints},
        "status": {"conditions": conditions},
    }))
    .expect("a node")
}

fn check(text: &str, add: &[&str], remove: &[&str]) {
    let swap = no_schedule(&node(text));
    let keys = |of: &[(&'static str, &'static str)]| of.iter().map(|(key, _)| *key).collect::<Vec<_>>();
    assert_eq!((keys(&swap.add), keys(&swap.remove)), (add.to_vec(), remove.to_vec()), "{text}");
}

/// What is seen of a node at a second.
#[derive(serde::Deserialize)]
struct Seen {
    at: i64,
    status: String,
    /// When its lease was renewed last.
    lease: Option<i64>,
}

/// Nodes of a zone at a second; some are to be tainted.
#[derive(serde::Deserialize)]
struct Turns {
    at: u64,
    ready: usize,
    lost: usize,
    #[serde(default)]
    queue: Vec<String>,
}

fn taints(text: &str, out: &mut String) {
    let node = node(text);
    let ready = super::taints::condition(&node, "Ready").map_or("", |c| c.status.as_str()).to_string();
    out.push_str(&format!("{text}\n"));
    for swap in [no_schedule(&node), no_execute(&ready)] {
        let name = |(key, effect): &(&str, &str)| {
            format!("{}:{effect}", key.trim_start_matches("node.kubernetes.io/"))
        };
        let missing = swap.remove.iter().filter(|(key, effect)| super::taints::has(&node, key, effect));
        swap.add.iter().for_each(|t| out.push_str(&format!("  add {}\n", name(t))));
        missing.for_each(|t| out.push_str(&format!("  remove {}\n", name(t))));
    }
}

fn silence(given: &Given, out: &mut String) {
    let (mut known, mut last) = (None, String::new());
    for seen in given.setting::<Vec<Seen>>("seen").unwrap_or_default() {
        let node = node(&seen.status);
        let (health, late) =
            Health::observe(known, &node, seen.lease.map(lease).as_ref(), GRACE, at(seen.at));
        known = Some(health);
        out.push_str(&format!("{} s: {}\n", seen.at, if late { "silent for too long" } else { "well" }));
        let conditions = if late { silent(&node, at(seen.at)) } else { None };
        let told: Vec<String> = conditions
            .into_iter()
            .flatten()
            .map(|c| format!("{}={} ({})", c.type_, c.status, c.reason.unwrap_or_default()))
            .collect();
        if !told.is_empty() && told.join(" ") != last {
            last = told.join(" ");
            out.push_str(&format!("  {last}\n"));
        }
    }
}

fn turns(given: &Given, out: &mut String) {
    let mut zones = Zones::new(SETTINGS);
    for turn in given.setting::<Vec<Turns>>("turns").unwrap_or_default() {
        let what = zones.turn(&zone(turn.ready, turn.lost));
        turn.queue.iter().for_each(|n| zones.queue("z", n));
        let due = zones.due(Duration::from_secs(turn.at));
        let (at, ready, lost) = (turn.at, turn.ready, turn.lost);
        let state = state(&zone(ready, lost)["z"], SETTINGS.unhealthy);
        out.push_str(&format!("{at} s, {ready} ready, {lost} lost ({state:?}): {what:?}, taint {due:?}\n"));
    }
}

#[test]
fn scenarios() {
    scenario::check("nodelifecycle/testdata", |given| {
        let mut out = String::new();
        given.setting::<Vec<String>>("nodes").unwrap_or_default().iter().for_each(|n| taints(n, &mut out));
        silence(given, &mut out);
        turns(given, &mut out);
        out
    });
}

#[test]
fn conditions_become_taints_that_keep_new_pods_away() {
    check("Ready=True", &[], &[]);
    check("Ready=False", &[NOT_READY], &[]);
    check("Ready=Unknown taint=node.kubernetes.io/not-ready", &[UNREACHABLE], &[NOT_READY]);
    check("Ready=True taint=node.kubernetes.io/not-ready", &[], &[NOT_READY]);
    check("Ready=True MemoryPressure=True", &["node.kubernetes.io/memory-pressure"], &[]);
    check("Ready=True cordoned", &["node.kubernetes.io/unschedulable"], &[]);
    check("Ready=True taint=somebody/elses", &[], &[]);
}

#[test]
fn old_labels_repeat_the_new_ones() {
    let mut node = node("");
    let set =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
    node.metadata.labels = Some(set(&[("kubernetes.io/os", "linux"), ("beta.kubernetes.io/arch", "arm")]));
    assert_eq!(labels(&node), BTreeMap::from([("beta.kubernetes.io/os", "linux".to_string())]));
}

const GRACE: Grace = Grace { monitor: Duration::from_secs(50), startup: Duration::from_secs(60) };

fn lease(second: i64) -> Lease {
    serde_json::from_value(json!({
        "metadata": {"resourceVersion": second.to_string()}, "spec": {"renewTime": format!("{:.6}", at(second))},
    }))
    .expect("a lease")
}

#[test]
fn a_node_is_silent_when_neither_lease_nor_status_move() {
    let node = node("Ready=True");
    let (health, late) = Health::observe(None, &node, Some(&lease(0)), GRACE, at(0));
    assert!(!late);
    let (health, late) = Health::observe(Some(health), &node, Some(&lease(0)), GRACE, at(50));
    assert!(!late, "the grace period is not over");
    assert!(Health::observe(Some(health.clone()), &node, Some(&lease(0)), GRACE, at(51)).1);
    let (health, late) = Health::observe(Some(health), &node, Some(&lease(51)), GRACE, at(51));
    assert!(!late, "the lease moved");
    assert_eq!(health.lease_version, "51");
}

#[test]
fn a_node_that_never_reported_counts_from_its_creation() {
    let node = node("");
    assert!(!Health::observe(None, &node, None, GRACE, at(60)).1);
    assert!(Health::observe(None, &node, None, GRACE, at(61)).1);
    let conditions = silent(&node, at(61)).expect("a change");
    let all: Vec<_> = conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect();
    let unknown = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"].map(|c| (c, "Unknown"));
    assert_eq!(all, unknown);
}

const SETTINGS: Settings = Settings { rate: 0.1, secondary_rate: 0.01, large: 50, unhealthy: 0.55 };

fn zone(ready: usize, lost: usize) -> BTreeMap<String, Vec<bool>> {
    let nodes = std::iter::repeat_n(true, ready).chain(std::iter::repeat_n(false, lost)).collect();
    BTreeMap::from([("z".to_string(), nodes)])
}

#[test]
fn a_zone_is_disrupted_when_many_of_its_nodes_are() {
    let of = |ready, lost| state(&zone(ready, lost)["z"], SETTINGS.unhealthy);
    assert_eq!(of(3, 0), State::Normal);
    assert_eq!(of(1, 2), State::Normal, "two are too few to judge");
    assert_eq!(of(2, 3), State::Partial);
    assert_eq!(of(0, 1), State::Full);
}

#[test]
fn when_all_nodes_are_lost_none_is_tainted() {
    let mut zones = Zones::new(SETTINGS);
    assert_eq!(zones.turn(&zone(1, 0)), Turn::Steady);
    assert_eq!(zones.turn(&zone(0, 1)), Turn::AllLost);
    zones.queue("z", "n1");
    assert_eq!(zones.due(Duration::from_secs(1000)), [""; 0]);
    assert_eq!(zones.turn(&zone(0, 1)), Turn::Steady);
    assert_eq!(zones.turn(&zone(1, 1)), Turn::SomeBack);
    assert_eq!(zones.due(Duration::from_secs(1000)), ["n1"]);
}

#[test]
fn nodes_are_tainted_one_after_the_other() {
    let mut zones = Zones::new(SETTINGS);
    zones.turn(&zone(5, 2));
    zones.queue("z", "n1");
    zones.queue("z", "n2");
    assert_eq!(zones.due(Duration::from_secs(1)), ["n1"]);
    assert_eq!(zones.due(Duration::from_secs(2)), [""; 0]);
    assert_eq!(zones.due(Duration::from_secs(12)), ["n2"]);
    zones.queue("z", "n3");
    zones.forget("n3");
    assert!(zones.is_idle());
}

proptest! {
    /// Swapping taints once is enough, and leaves those of others alone.
    #[test]
    fn swapping_settles(ready in "True|False|Unknown", pressure in "True|False", had in prop::sample::subsequence(
        vec!["taint=node.kubernetes.io/not-ready", "taint=node.kubernetes.io/unreachable", "taint=x/y",
             "taint=node.kubernetes.io/memory-pressure", "cordoned"], 0..5)) {
        let mut node = node(&format!("Ready={ready} MemoryPressure={pressure} {}", had.join(" ")));
        if let Some(taints) = no_schedule(&node).on(&node, at(0)) {
            node.spec.as_mut().expect("a spec").taints = Some(taints);
        }
        prop_assert_eq!(no_schedule(&node), super::Swap::default());
        if let Some(taints) = no_execute(&ready).on(&node, at(0)) {
            node.spec.as_mut().expect("a spec").taints = Some(taints);
        }
        prop_assert_eq!(no_execute(&ready).on(&node, at(1)), None);
        prop_assert_eq!(super::taints::has(&node, "x/y", "NoSchedule"), had.contains(&"taint=x/y"));
    }

    /// A silent node is written once.
    #[test]
    fn silence_is_written_once(text in prop::sample::subsequence(vec!["Ready=True", "MemoryPressure=False", "PIDPressure=Unknown"], 0..4)) {
        let mut node = node(&text.join(" "));
        let conditions = silent(&node, at(9));
        prop_assert!(conditions.is_some());
        node.status.as_mut().expect("a status").conditions = conditions;
        prop_assert_eq!(silent(&node, at(10)), None);
    }

    /// A node that is well and reports is left alone: no taints, no labels, no silence.
    #[test]
    fn a_satisfied_view_needs_nothing(beats in prop::collection::vec(1i64..50, 1..20)) {
        let mut node = node("Ready=True MemoryPressure=False DiskPressure=False PIDPressure=False");
        let label = |k: &str, v: &str| (k.to_string(), v.to_string());
        node.metadata.labels = Some([label("kubernetes.io/os", "linux"), label("beta.kubernetes.io/os", "linux")].into());
        prop_assert_eq!(no_schedule(&node), super::Swap::default());
        prop_assert_eq!(no_execute("True").on(&node, at(0)), None);
        prop_assert!(labels(&node).is_empty());
        let (mut known, mut time) = (None, 0);
        for beat in beats {
            time += beat;
            let (health, late) = Health::observe(known, &node, Some(&lease(time)), GRACE, at(time));
            prop_assert!(!late);
            known = Some(health);
        }
    }
}
