//! Server-side apply of custom resources: structural schemas and deduced types, against upstream's field manager.

#[path = "../../machinery/tests/oracle/mod.rs"]
mod oracle;

use machinery::Value;
use machinery::apply::{Config, Error, FieldManager, NoConversion, Schema, UNTYPED, from_structural};
use oracle::Rng;
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::sync::Arc;

const API_VERSION: &str = "example.com/v1";
const KIND: &str = "Thing";

/// A schema with every feature that matters.
fn document(preserve: bool) -> Json {
    let leaf = json!({"type": "string"});
    let item = json!({"type": "object", "properties": {
        "name": leaf, "port": {"type": "integer", "default": 80}, "proto": {"type": "string", "default": "TCP"},
        "value": {"type": "number"}, "tags": {"type": "array", "items": leaf, "x-kubernetes-list-type": "set"}}});
    let mut root = json!({"type": "object", "properties": {
        "apiVersion": leaf, "kind": leaf, "metadata": {"type": "object"},
        "spec": {"type": "object", "properties": {
            "text": leaf, "flag": {"type": "boolean"}, "when": {"type": "string", "format": "date-time"},
            "either": {"x-kubernetes-int-or-string": true},
            "atomic": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": leaf, "b": leaf}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": leaf},
            "list": {"type": "array", "items": item},
            "set": {"type": "array", "items": leaf, "x-kubernetes-list-type": "set"},
            "byName": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            "byPort": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "proto"]}}}}});
    if preserve {
        root["x-kubernetes-preserve-unknown-fields"] = true.into();
    }
    root
}

fn manager(q: &Json) -> FieldManager {
    let mut schema = Schema::default();
    let ty = if q["schema"] == "deduced" {
        UNTYPED.into()
    } else {
        let preserve = q["schema"]["x-kubernetes-preserve-unknown-fields"] == true;
        let document = Value::from(q["schema"].clone());
        from_structural(&mut schema, &document, preserve, UNTYPED.into()).expect("a schema")
    };
    FieldManager::new(Config {
        schema: Arc::new(schema),
        versions: HashMap::from([(API_VERSION.to_string(), ty)]),
        api_version: API_VERSION.into(),
        kind: KIND.into(),
        subresource: String::new(),
        reset_fields: HashMap::new(),
        converter: Arc::new(NoConversion),
        empty: Value::from(json!({"apiVersion": API_VERSION, "kind": KIND})),
        made_by_type: false,
    })
}

fn ours(q: &Json) -> Json {
    let manager = manager(q);
    let mut live = Value::from(json!({"apiVersion": API_VERSION, "kind": KIND}));
    let mut exists = false;
    let mut out = Vec::new();
    for (i, step) in q["steps"].as_array().into_iter().flatten().enumerate() {
        let now = format!("2000-01-01T00:{:02}:00Z", i + 1);
        let name = step["manager"].as_str().unwrap_or_default();
        let mut obj = Value::from(step["obj"].clone());
        let result = if step["op"] == "update" {
            if exists {
                obj.set_path(&["metadata", "uid"], "u").expect("metadata");
            }
            manager.try_update(&live, obj, name, &now).map_err(Error::Internal)
        } else {
            manager.apply(&live, &obj, name, step["force"] == true, &now).map(|a| a.object)
        };
        match result {
            Err(e) => out.push(json!({"err": e.to_string()})),
            Ok(mut v) => {
                v.set_path(&["metadata", "uid"], "u").expect("metadata");
                live = v;
                exists = true;
                out.push(json!({"obj": Json::from(&live)}));
            }
        }
    }
    Json::Array(out)
}

/// Objects and messages; upstream lists problems in random order.
fn form(_: &Json, answer: &Json) -> Json {
    let short = |a: &Json| match a["err"].as_str() {
        // The walk stops at the first undeclared field, wherever the random order has it.
        Some(e) if e.contains("field not declared in schema") => json!({"err": "undeclared"}),
        Some(e) => {
            let mut lines: Vec<_> = e.lines().collect();
            lines.sort_unstable();
            json!({ "err": lines })
        }
        None => {
            let mut a = a.clone();
            whole(&mut a);
            json!({"obj": a["obj"]})
        }
    };
    answer.as_array().map_or(answer.clone(), |a| a.iter().map(short).collect())
}

/// Go prints whole floats without a point.
fn whole(v: &mut Json) {
    match v {
        Json::Object(m) => m.values_mut().for_each(whole),
        Json::Array(a) => a.iter_mut().for_each(whole),
        Json::Number(n) => {
            if let Some(f) = n.as_f64().filter(|f| f.fract() == 0.0) {
                *v = (f as i64).into();
            }
        }
        _ => {}
    }
}

fn text(r: &mut Rng) -> Json {
    r.pick(&["a", "b", "c", "d<>"]).into()
}

fn item(r: &mut Rng) -> Json {
    let mut m = serde_json::Map::new();
    for key in ["name", "port", "proto", "value", "tags"] {
        if r.chance(60) {
            let v = match key {
                "port" => json!(r.below(3)),
                "value" => json!(r.below(3) as f64 / 2.0),
                "tags" => unique(r),
                _ => text(r),
            };
            m.insert(key.into(), v);
        }
    }
    m.into()
}

fn unique(r: &mut Rng) -> Json {
    let mut out: Vec<Json> = Vec::new();
    for _ in 0..r.below(4) {
        let t = text(r);
        if !out.contains(&t) || r.chance(5) {
            out.push(t);
        }
    }
    out.into()
}

fn anything(r: &mut Rng, depth: usize) -> Json {
    match r.below(if depth == 0 { 4 } else { 7 }) {
        0 => json!(r.below(3)),
        1 => text(r),
        2 => json!(true),
        3 => json!(1.5),
        4 => (0..r.below(3)).map(|_| anything(r, depth - 1)).collect(),
        _ => Json::Object(
            (0..r.below(3)).map(|_| (r.pick(&["x", "y", "z"]).to_string(), anything(r, depth - 1))).collect(),
        ),
    }
}

fn spec(r: &mut Rng) -> Json {
    let mut m = serde_json::Map::new();
    let keys =
        ["text", "flag", "when", "either", "atomic", "free", "labels", "list", "set", "byName", "byPort"];
    for key in keys {
        if !r.chance(45) {
            continue;
        }
        let v = match key {
            _ if r.chance(2) => Json::Null,
            _ if r.chance(1) => anything(r, 1),
            "flag" => json!(r.chance(50)),
            "either" => {
                if r.chance(50) {
                    json!(r.below(3))
                } else {
                    text(r)
                }
            }
            "atomic" => json!({"a": text(r), "b": text(r)}),
            "free" => json!({"k": anything(r, 3)}),
            "labels" => {
                Json::Object((0..r.below(3)).map(|_| (r.pick(&["x", "y"]).to_string(), text(r))).collect())
            }
            "set" => unique(r),
            "list" | "byName" | "byPort" => (0..r.below(4)).map(|_| item(r)).collect(),
            _ => text(r),
        };
        m.insert(key.into(), v);
    }
    if r.chance(2) {
        m.insert("unknown".into(), anything(r, 1));
    }
    m.into()
}

fn cases() -> Vec<Json> {
    let mut r = Rng::new(97);
    let mut out = Vec::new();
    for n in 0..3000 {
        let steps: Vec<Json> = (0..2 + r.below(6))
            .map(|_| {
                let obj = json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "x"}, "spec": spec(&mut r)});
                let op = if r.chance(40) { "update" } else { "apply" };
                json!({"op": op, "obj": obj, "manager": r.pick(&["m1", "m2", "kubectl"]), "force": r.chance(60), "sub": ""})
            })
            .collect();
        let schema = match n % 4 {
            0 => json!("deduced"),
            1 => document(true),
            _ => document(false),
        };
        out.push(json!({"apiVersion": API_VERSION, "kind": KIND, "schema": schema, "steps": steps}));
    }
    out
}

#[test]
fn answers_as_upstream() {
    let explained =
        |_: &Json, theirs: &Json| theirs[0]["err"].as_str().is_some_and(|e| e.starts_with("sequence:"));
    oracle::compare_with("apply", "apply_custom.jsonl", 60, cases, ours, explained, form);
}
