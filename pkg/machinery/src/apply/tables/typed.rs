//! Calls on typed values (typed).

use super::sets::{set, written};
use super::types::Types;
use super::{Outcome, outcome, text};
use crate::Value;
use crate::apply::schema::{Schema, TypeRef};
use crate::apply::set::Set;
use crate::apply::typed::{self, Duplicates, Problems, Without, added};
use serde_json::Value as Json;

pub fn typed_value(types: &Types, v: &Json) -> (Value, TypeRef) {
    (Value::from(v["value"].clone()), types.reference(&v["type"]))
}

fn failed(e: &Problems) -> Outcome {
    outcome([("err", e.to_string().into())])
}

/// What is written at once is what the sets come to, with and without some of their paths left out.
fn check_added(schema: &Schema, ty: TypeRef, old: &Value, new: &Value) {
    let Ok(compared) = typed::compare(schema, ty, old, new) else {
        assert_eq!(added(schema, ty, old, new, Without::default()), None);
        return;
    };
    let all = compared.modified.union(&compared.added);
    let some = |step: usize| Set::from_paths(all.paths().iter().skip(1).step_by(step).map(Vec::as_slice));
    let (trees, paths) = (some(3), some(2));
    let all_of = Without::default();
    let rest_of = Without { trees: Some(&trees), paths: Some(&paths) };
    let Some(text) = added(schema, ty, old, new, all_of) else { return };
    assert_eq!(text, all.to_json());
    let rest = all.recursive_difference(&trees).difference(&paths);
    assert_eq!(added(schema, ty, old, new, rest_of), Some(rest.to_json()));
}

pub fn run(types: &Types, case: &Json) -> Outcome {
    let (v, ty) = typed_value(types, &case["in"]);
    let other = |key: &str| typed_value(types, &case[key]).0;
    let json = |v: &Value| Json::from(v);
    // All types are known by now.
    let new = case.get("new").map(|_| other("new"));
    let schema = types.schema();
    let schema = &schema;
    match text(case, "op") {
        "validate" => {
            let duplicates =
                if case["duplicates"] == true { Duplicates::Allowed } else { Duplicates::Refused };
            let problems = typed::validate(schema, ty, &v, duplicates).err();
            outcome([("err", problems.map_or(Json::Null, |e| e.to_string().into()))])
        }
        "toSet" => match typed::to_set(schema, ty, &v) {
            Ok(set) => outcome([("err", Json::Null), ("out", written(&set))]),
            Err(e) => failed(&e),
        },
        "merge" => match typed::merge(schema, ty, &v, &other("patch")) {
            Ok(v) => outcome([("err", Json::Null), ("out", json(&v))]),
            Err(e) => failed(&e),
        },
        "compare" => {
            let new = new.unwrap_or_default();
            for old in [&v, &Value::Null, &Value::Map(crate::Map::new())] {
                check_added(schema, ty, old, &new);
            }
            match typed::compare(schema, ty, &v, &new) {
                Ok(c) => outcome([
                    ("err", Json::Null),
                    ("removed", written(&c.removed)),
                    ("modified", written(&c.modified)),
                    ("added", written(&c.added)),
                ]),
                Err(e) => failed(&e),
            }
        }
        "remove" => outcome([("out", json(&typed::remove(schema, ty, &v, &set(&case["items"]))))]),
        "extract" => outcome([("out", json(&typed::extract(schema, ty, &v, &set(&case["items"]))))]),
        "reconcile" => match typed::reconcile(schema, ty, &set(&case["set"])) {
            Ok(set) => outcome([("err", Json::Null), ("out", set.map_or(Json::Null, |s| written(&s)))]),
            Err(e) => failed(&e),
        },
        // Only clients extract with keys.
        _ => Outcome::new(),
    }
}
