//! Calls on sets (fieldpath).

use super::types::Types;
use super::{Outcome, outcome, text};
use crate::apply::Set;
use serde_json::{Value as Json, json};

pub fn set(v: &Json) -> Set {
    Set::from_json(v.to_string().as_bytes()).expect("a set")
}

pub fn written(set: &Set) -> Json {
    serde_json::from_str(&set.to_json()).expect("JSON")
}

pub fn run(types: &Types, case: &Json) -> Outcome {
    let (a, b) = (|| set(&case["a"]), || set(&case["b"]));
    let out = match text(case, "op") {
        "union" => a().union(&b()),
        "intersection" => a().intersection(&b()),
        "difference" => a().difference(&b()),
        "recursiveDifference" => a().recursive_difference(&b()),
        "named" => {
            let ty = types.reference(&case["type"]);
            a().with_named_fields(&types.schema(), Some(ty))
        }
        "fromJSON" => return parsed(case, text(case, "text")),
        _ => return element(case),
    };
    outcome([("out", written(&out))])
}

/// Upstream's JSON library quotes its buffer in errors; that there is one is what counts.
fn parsed(case: &Json, text: &str) -> Outcome {
    match Set::from_json(text.as_bytes()) {
        Ok(set) => outcome([("err", Json::Null), ("out", set.to_json().into())]),
        Err(e) => outcome([("err", if case["err"].is_null() { e.into() } else { case["err"].clone() })]),
    }
}

/// An element alone is the one member of a set. Kinds that are unknown are errors alone and dropped in sets.
fn element(case: &Json) -> Outcome {
    let text = text(case, "text");
    let document = json!({ text: {} }).to_string();
    let one = Set::from_json(document.as_bytes()).map(|set| written(&set));
    match one.as_ref().map(|v| v.as_object().and_then(|m| m.keys().next())) {
        Ok(Some(key)) => outcome([("err", Json::Null), ("out", key.as_str().into())]),
        _ if case["err"].is_null() => outcome([("err", "refused or dropped".into())]),
        _ => Outcome::new(),
    }
}
