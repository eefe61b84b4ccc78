//! Steps of an eviction, each as the states of its responders before and after, and what is refused. Upstream's answers to
//! damaged statuses are in the API server's `tests/strategies.rs`.

use serde_json::{Value as Json, json};

use super::*;

const NOW: &str = "2030-01-01T00:00:00Z";
const EARLIER: &str = "2029-12-31T23:55:00Z";
const LONG_AGO: &str = "2029-12-31T20:00:00Z";

fn status(states: &[(&str, i32, &str, Json)]) -> EvictionStatus {
    let targets: Vec<Json> =
        states.iter().map(|(n, p, s, _)| json!({"name": n, "priority": p, "state": s})).collect();
    let responders = states.iter().map(|(name, _, _, times)| {
        let mut out = times.clone();
        out["name"] = json!(name);
        out
    });
    let responders: Vec<Json> = responders.collect();
    serde_json::from_value(json!({"targetResponders": targets, "responders": responders})).unwrap()
}

fn refused(old: &[(&str, i32, &str, Json)], new: &[(&str, i32, &str, Json)]) -> Vec<String> {
    let now = serde_json::from_value(json!(NOW)).unwrap();
    let errors = validate_eviction_status(&status(new), &status(old), &now);
    errors.iter().map(|e| e.field.clone()).collect()
}

fn started(at: &str) -> Json {
    json!({"startTime": at})
}

#[test]
fn responders_get_their_turn_in_order() {
    let (a, b) = ("example.com/a", "example.com/b");
    let none = json!({});
    let idle = [(a, 3000, INACTIVE, none.clone()), (b, 2000, INACTIVE, none.clone())];
    let first = [(a, 3000, ACTIVE, started(NOW)), (b, 2000, INACTIVE, none.clone())];
    let second = [(a, 3000, INACTIVE, none.clone()), (b, 2000, ACTIVE, started(NOW))];
    assert_eq!(refused(&[], &first), [""; 0]);
    assert_eq!(
        refused(&[], &second),
        ["status.targetResponders[0].state", "status.targetResponders[1].state"]
    );
    assert_eq!(refused(&[], &idle), ["status.targetResponders[0].state"]);
    // Who stands first in the list makes no difference.
    let turned = [first[1].clone(), first[0].clone()];
    assert_eq!(refused(&[], &turned), [""; 0]);
}

#[test]
fn a_turn_ends_when_it_is_done_or_silent() {
    let (a, b) = ("example.com/a", "example.com/b");
    let going = |at: &str| [(a, 3000, ACTIVE, started(at)), (b, 2000, INACTIVE, json!({}))];
    let next = |times: Json, state: &'static str| [(a, 3000, state, times), (b, 2000, ACTIVE, started(NOW))];
    assert_eq!(refused(&going(LONG_AGO), &next(started(LONG_AGO), "Interrupted")), [""; 0]);
    let lately = refused(&going(EARLIER), &next(started(EARLIER), "Interrupted"));
    assert_eq!(lately, ["status.targetResponders[0].state"]);
    let done = json!({"startTime": EARLIER, "completionTime": EARLIER});
    let reported = [(a, 3000, ACTIVE, done.clone()), (b, 2000, INACTIVE, json!({}))];
    assert_eq!(refused(&reported, &next(done, COMPLETED)), [""; 0]);
    let unreported = refused(&going(LONG_AGO), &next(started(LONG_AGO), COMPLETED));
    assert_eq!(unreported, ["status.targetResponders[0].state"]);
}

#[test]
fn times_are_now() {
    let a = "example.com/a";
    let (before, at) = ([(a, 3000, ACTIVE, started(EARLIER))], |times: Json| [(a, 3000, ACTIVE, times)]);
    let wrong = |times: Json| refused(&before, &at(times));
    assert_eq!(wrong(json!({"startTime": EARLIER, "heartbeatTime": NOW})), [""; 0]);
    for (field, time) in [
        ("heartbeatTime", LONG_AGO),
        ("heartbeatTime", "2029-12-31T23:58:00Z"),
        ("expectedCompletionTime", LONG_AGO),
        ("expectedCompletionTime", "2041-01-01T00:00:00Z"),
        ("completionTime", "2029-12-31T23:58:00Z"),
    ] {
        let told = wrong(json!({"startTime": EARLIER, field: time}));
        assert_eq!(told, [format!("status.responders[0].{field}")], "{time}");
    }
    // Whose turn it is not says nothing.
    let idle = [("example.com/b", 2000, INACTIVE, json!({}))];
    let told = [("example.com/b", 2000, INACTIVE, json!({"message": "m"}))];
    assert_eq!(refused(&idle, &told).last().map(String::as_str), Some("status.responders[0]"));
}

#[test]
fn responders_stay() {
    let one = [("example.com/a", 3000, ACTIVE, started(NOW))];
    let other = [("example.com/b", 3000, ACTIVE, started(NOW))];
    assert_eq!(refused(&one, &[]), ["status.targetResponders"]);
    assert_eq!(refused(&one, &other)[0], "status.targetResponders");
}

#[test]
fn what_is_reached_is_not_taken_back() {
    let reached = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "R", "message": "",
        "lastTransitionTime": NOW}]});
    let old = serde_json::from_value(reached).unwrap();
    let now = serde_json::from_value(json!(NOW)).unwrap();
    let errors = validate_eviction_status(&EvictionStatus::default(), &old, &now);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].field, "status.conditions");
}
