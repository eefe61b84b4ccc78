//! Upstream's own case tables: what its tests call, with what, and what came out.
//!
//! `e2e/oracle/tables` records the calls. The short ones are committed (`tests/data/tables.jsonl`);
//! `ORACLE_TABLES` names a file with all of them.

mod managers;
mod rules;
mod sets;
mod typed;
mod types;

use crate::Value;
use crate::apply::value::equal;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use types::Types;

/// What came out of a call, by the names the recording gives it.
type Outcome = Map<String, Json>;

fn outcome<const N: usize>(members: [(&str, Json); N]) -> Outcome {
    members.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
}

fn text<'a>(v: &'a Json, key: &str) -> &'a str {
    v[key].as_str().unwrap_or_default()
}

/// Runs a call; none if it describes types only.
fn run(types: &Types, case: &Json) -> Option<Outcome> {
    Some(match text(case, "op") {
        "union"
        | "intersection"
        | "difference"
        | "recursiveDifference"
        | "named"
        | "fromJSON"
        | "element" => sets::run(types, case),
        "validate" | "toSet" | "merge" | "compare" | "remove" | "extract" | "extractWithKeys"
        | "reconcile" => typed::run(types, case),
        "update" | "apply" => rules::run(types, case),
        "managerApply" | "managerUpdate" | "decode" | "conflict" | "toScale" | "fromScale" => {
            managers::run(types, case)
        }
        _ => return None,
    })
}

/// Whether two answers mean the same: 1 is 1.0, and problems have no order.
fn same(theirs: &Json, ours: &Json) -> bool {
    if let (Some(a), Some(b)) = (theirs.as_str(), ours.as_str()) {
        // Upstream's tests read YAML, whose maps have keys of any type; those of objects are strings.
        let sorted = |t: &str| {
            let t = t.replace("map[interface {}]interface {}", "map[string]interface {}");
            let mut lines: Vec<_> = t.lines().map(str::to_string).collect();
            lines.sort();
            lines
        };
        return a == b || sorted(a) == sorted(b);
    }
    equal(&Value::from(theirs.clone()), &Value::from(ours.clone()))
}

/// Answers how many calls there were by kind, and what differs.
fn compare(lines: &str) -> (BTreeMap<String, usize>, Vec<String>) {
    let cases: Vec<Json> = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let types = Types::new(&cases);
    let (mut counts, mut different) = (BTreeMap::new(), Vec::new());
    for case in &cases {
        let Some(ours) = run(&types, case) else { continue };
        *counts.entry(text(case, "op").to_string()).or_default() += 1;
        for (key, ours) in ours {
            let theirs = &case[&key];
            if !same(theirs, &ours) {
                different.push(format!("{case}\n{}", difference(theirs, &ours, &key)));
            }
        }
    }
    (counts, different)
}

/// The places where two answers differ.
fn difference(theirs: &Json, ours: &Json, path: &str) -> String {
    match (theirs, ours) {
        (Json::Object(a), Json::Object(b)) => {
            let absent = Json::from("(absent)");
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let at = |m: &Map<String, Json>, k: &str| m.get(k).cloned().unwrap_or(absent.clone());
            let changed = keys.into_iter().filter(|k| a.get(*k) != b.get(*k));
            changed.map(|k| difference(&at(a, k), &at(b, k), &format!("{path}.{k}"))).collect()
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            let changed = a.iter().zip(b).enumerate().filter(|(_, (x, y))| x != y);
            changed.map(|(i, (x, y))| difference(x, y, &format!("{path}[{i}]"))).collect()
        }
        _ => format!("  {path}\n    theirs {theirs}\n    ours   {ours}\n"),
    }
}

fn check(lines: &str) {
    let (counts, different) = compare(lines);
    eprintln!("upstream's calls: {counts:?}, {} different", different.len());
    let shown = &different[..different.len().min(12)];
    assert!(different.is_empty(), "{} differences, the first:\n{}", different.len(), shown.join("\n"));
}

const RECORDED: &str = include_str!("../../../tests/data/tables.jsonl");

#[test]
fn recorded_calls_answer_as_upstream() {
    check(RECORDED);
}

#[test]
fn all_calls_answer_as_upstream() {
    #[allow(clippy::disallowed_methods, reason = "a test's own switch")]
    if let Some(file) = std::env::var_os("ORACLE_TABLES") {
        check(&std::fs::read_to_string(file).expect("a recording"));
    }
}

#[test]
fn differences_are_seen() {
    let wrong = json!({"op": "union", "a": {"f:a": {}}, "b": {"f:b": {}}, "out": {"f:a": {}}});
    assert_eq!(compare(&wrong.to_string()).1.len(), 1);
}
