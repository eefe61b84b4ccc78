//! Strategic merge patches of upstream's own case tables: what its tests apply, to what, and what came out.
//!
//! `e2e/oracle/tables` records the calls. The short ones are committed; `ORACLE_TABLES` names a file with all.

use machinery::patch::strategic::{Lookup, Rules, merge};
use machinery::{Map, Value};
use serde_json::Value as Json;
use std::collections::HashMap;

type Structs = HashMap<&'static str, &'static Json>;

/// A struct of upstream's tests, with what it says about its fields.
#[derive(Clone, Copy)]
struct Recorded {
    structs: &'static Structs,
    this: &'static Json,
}

impl Recorded {
    fn look(self, name: &str, way: &str) -> Result<(Self, Rules<'static>), String> {
        let Some(field) = self.this["fields"].get(name) else {
            let owner = self.this["short"].as_str().unwrap_or_default();
            return Err(format!("unable to find api field in struct {owner} for the json field \"{name}\""));
        };
        let answer = &field[way];
        if let Some(e) = answer["err"].as_str() {
            return Err(e.into());
        }
        let to = self.structs[answer["to"].as_str().expect("a struct")];
        let mut strategies = answer["strategies"].as_array().into_iter().flatten().filter_map(Json::as_str);
        let strategy = strategies.rfind(|s| *s != "retainKeys").unwrap_or_default();
        let merge_key = answer["key"].as_str().unwrap_or_default();
        Ok((Recorded { this: to, ..self }, Rules { strategy, merge_key }))
    }
}

impl Lookup for Recorded {
    fn field(self, name: &str) -> Result<(Self, Rules<'static>), String> {
        self.look(name, "struct")
    }
    fn list(self, name: &str) -> Result<(Self, Rules<'static>), String> {
        self.look(name, "slice")
    }
    fn kind(self) -> &'static str {
        self.this["kind"].as_str().unwrap_or_default()
    }
}

fn map(v: &Json) -> Map {
    Value::from(v.clone()).as_map().cloned().unwrap_or_default()
}

fn check(lines: String) {
    let cases: &'static Vec<Json> = Box::leak(Box::new(
        lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect::<Vec<Json>>(),
    ));
    let named = cases.iter().filter(|c| c["op"] == "struct");
    let structs: &'static Structs =
        Box::leak(Box::new(named.map(|c| (c["name"].as_str().expect("a name"), c)).collect()));
    let (mut count, mut different) = (0, Vec::new());
    for case in cases.iter().filter(|c| c["op"] == "strategic") {
        count += 1;
        let this = structs[case["type"].as_str().expect("a type")];
        let same = match merge(map(&case["doc"]), map(&case["patch"]), Recorded { structs, this }) {
            Ok(out) => case["err"].is_null() && Value::Map(out) == Value::from(case["out"].clone()),
            Err(e) => case["err"] == e.to_string(),
        };
        if !same {
            let ours = merge(map(&case["doc"]), map(&case["patch"]), Recorded { structs, this });
            let ours = ours.map(|m| Json::from(&Value::Map(m)).to_string());
            different.push(format!("{case}\n  ours {ours:?}"));
        }
    }
    eprintln!("{count} of upstream's patches, {} different", different.len());
    assert!(count > 0 && different.is_empty(), "{}", different[..different.len().min(8)].join("\n"));
}

#[test]
fn recorded_patches_answer_as_upstream() {
    check(include_str!("data/tables.jsonl").into());
}

#[test]
fn all_patches_answer_as_upstream() {
    if let Some(file) = std::env::var_os("ORACLE_TABLES") {
        check(std::fs::read_to_string(file).expect("a recording"));
    }
}
