//! Server-side apply and update tracking against upstream's field manager.

mod generate;
#[path = "../../machinery/tests/oracle/mod.rs"]
mod oracle;

use api::defaults::{self, Context, Gates};
use generate::Taste;
use machinery::apply::{Config, Error, FieldManager, Filter, NoConversion, Set};
use machinery::schema::{Shape, TypeId};
use machinery::{Value, json as codec};
use oracle::Rng;
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::sync::Arc;

const KINDS: [(&str, &str); 10] = [
    ("v1", "ConfigMap"),
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "Node"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "Job"),
    ("networking.k8s.io/v1", "Ingress"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
];

struct Kind {
    id: TypeId,
    api_version: String,
    kind: String,
    reset: HashMap<String, Filter>,
    empty: Value,
}

impl Kind {
    fn new(q: &Json) -> Kind {
        let text = |k: &str| q[k].as_str().unwrap_or_default().to_string();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let id = api::types().kind(&api_version, &kind).expect("a kind");
        let empty = canonical(id, &json!({"apiVersion": api_version, "kind": kind}));
        let mut reset = HashMap::new();
        for (version, paths) in q["reset"].as_object().into_iter().flatten() {
            let mut set = Set::default();
            for path in paths.as_array().into_iter().flatten() {
                let path: Vec<&str> =
                    path.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
                set.insert_fields(&path);
            }
            reset.insert(version.clone(), Filter::Exclude(set));
        }
        Kind { id, api_version, kind, reset, empty }
    }

    fn manager(&self, subresource: &str) -> FieldManager {
        let ty = api::apply::type_of(&self.api_version, &self.kind).expect("a type");
        FieldManager::new(Config {
            schema: api::apply::schema(),
            versions: HashMap::from([(self.api_version.clone(), ty)]),
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            subresource: subresource.into(),
            reset_fields: self.reset.clone(),
            converter: Arc::new(NoConversion),
            empty: self.empty.clone(),
            made_by_type: true,
        })
    }

    fn default(&self, v: &mut Value) {
        let context = Context { gates: Gates::default(), now: "2038-01-01T00:00:00Z" };
        defaults::apply(v, &self.api_version, &self.kind, &context);
    }
}

fn canonical(id: TypeId, v: &Json) -> Value {
    codec::decode(api::types(), id, v.to_string().as_bytes(), false).expect("an object").value
}

fn set_uid(v: &mut Value) {
    v.set_path(&["metadata", "uid"], "u").expect("metadata");
}

fn failure(e: &Error) -> Json {
    match e {
        Error::BadRequest(m) => json!({"err": m, "code": 400}),
        Error::Internal(m) => json!({"err": m}),
        Error::Conflict { message, conflicts } => {
            let mut causes: Vec<_> = conflicts.iter().map(|c| json!([c.message(), c.field()])).collect();
            causes.sort_by_key(Json::to_string);
            json!({"err": message, "code": 409, "causes": causes})
        }
    }
}

fn ours(q: &Json) -> Json {
    let kind = Kind::new(q);
    let mut live = kind.empty.clone();
    let mut exists = false;
    let mut out = Vec::new();
    for (i, step) in q["steps"].as_array().into_iter().flatten().enumerate() {
        let text = |k: &str| step[k].as_str().unwrap_or_default();
        let manager = kind.manager(text("sub"));
        let now = format!("2000-01-01T00:{:02}:00Z", i + 1);
        let result = if text("op") == "update" {
            let mut obj = canonical(kind.id, &step["obj"]);
            kind.default(&mut obj);
            if exists {
                set_uid(&mut obj);
            }
            manager.try_update(&live, obj, text("manager"), &now).map_err(Error::Internal)
        } else {
            let config = Value::from(step["obj"].clone());
            let applied = manager.apply(&live, &config, text("manager"), step["force"] == true, &now);
            applied.map(|a| {
                let mut v = canonical(kind.id, &Json::from(&a.object));
                if a.changed {
                    kind.default(&mut v);
                }
                v
            })
        };
        match result {
            Err(e) => out.push(failure(&e)),
            Ok(mut v) => {
                set_uid(&mut v);
                live = v;
                exists = true;
                let mut text = Vec::new();
                codec::write_typed(api::types(), kind.id, &live, &mut text);
                let entries = live.list_at(&["metadata", "managedFields"]);
                let sets: Vec<Json> = entries
                    .into_iter()
                    .flatten()
                    .map(|e| {
                        String::from_utf8_lossy(e.get("fieldsV1").and_then(Value::as_raw).expect("a set"))
                            .into()
                    })
                    .collect();
                let obj: Json = serde_json::from_slice(&text).expect("JSON");
                out.push(if sets.is_empty() {
                    json!({ "obj": obj })
                } else {
                    json!({"obj": obj, "sets": sets})
                });
            }
        }
    }
    Json::Array(out)
}

/// Upstream lists problems in Go's random map order, and stops at the first undeclared field.
fn problems(err: &str) -> Json {
    let Some((what, list)) = err.split_once("): ").filter(|(w, _)| w.starts_with("failed to create typed"))
    else {
        return err.into();
    };
    if list.contains("field not declared in schema") {
        return format!("{what}): field not declared in schema").into();
    }
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_unstable();
    format!("{what}): {}", lines.join("\n")).into()
}

/// Upstream's status in our short form.
fn form(_: &Json, answer: &Json) -> Json {
    let short = |a: &Json| {
        let Some(status) = a.get("status") else {
            let mut a = a.clone();
            if let Some(err) = a["err"].as_str() {
                a["err"] = problems(err);
            }
            return a;
        };
        let mut out = json!({"err": a["err"], "code": status["code"]});
        if let Some(causes) = status["details"]["causes"].as_array() {
            let mut causes: Vec<_> = causes.iter().map(|c| json!([c["message"], c["field"]])).collect();
            causes.sort_by_key(Json::to_string);
            out["causes"] = causes.into();
        }
        out
    };
    answer.as_array().map_or(answer.clone(), |a| a.iter().map(short).collect())
}

const TASTE: Taste = Taste { fill: 30, depth: 5, zero: 3, texts: 4 };

/// The value with some members changed, added or gone.
fn mutate(r: &mut Rng, v: &Json, id: TypeId, depth: usize, percent: usize) -> Json {
    let table = api::types();
    let mut out = v.as_object().cloned().unwrap_or_default();
    for f in table.fields(id) {
        let name = f.name.as_str();
        let skip = [
            "apiVersion",
            "kind",
            "managedFields",
            "creationTimestamp",
            "deletionTimestamp",
            "uid",
            "namespace",
        ];
        if skip.contains(&name) || !r.chance(percent) {
            continue;
        }
        match (out.get(name).cloned(), f.shape) {
            (Some(_), _) if r.chance(20) => drop(out.remove(name)),
            (Some(current @ Json::Object(_)), Shape::Struct(inner)) if depth > 0 => {
                out.insert(name.into(), mutate(r, &current, inner, depth - 1, percent));
            }
            (Some(Json::Array(items)), Shape::List(e)) if depth > 0 => {
                let element = table.elem(e);
                let mut list: Vec<Json> = Vec::new();
                for item in items {
                    match element {
                        _ if r.chance(20) => {}
                        Shape::Struct(inner) if r.chance(50) => {
                            list.push(mutate(r, &item, inner, depth - 1, percent))
                        }
                        _ => list.push(item),
                    }
                }
                if r.chance(40) {
                    let at = r.below(list.len() + 1);
                    list.insert(at, generate::value(r, f, element, TASTE, depth));
                }
                if r.chance(20) && list.len() > 1 {
                    let (a, b) = (r.below(list.len()), r.below(list.len()));
                    list.swap(a, b);
                }
                out.insert(name.into(), list.into());
            }
            (Some(Json::Object(mut m)), Shape::Map(_)) if r.chance(70) => {
                m.retain(|_, _| !r.chance(30));
                if r.chance(50)
                    && let Some(v) = generate::value(r, f, f.shape, TASTE, depth).as_object()
                {
                    m.extend(v.clone());
                }
                out.insert(name.into(), m.into());
            }
            (current, _) => {
                if depth > 0 && (current.is_some() || r.chance(30)) {
                    out.insert(name.into(), generate::value(r, f, f.shape, TASTE, depth));
                }
            }
        }
    }
    Json::Object(out)
}

/// Some of an object's members: what an applier might have an opinion on.
fn subset(r: &mut Rng, v: &Json, id: TypeId, depth: usize) -> Json {
    let table = api::types();
    let mut out = serde_json::Map::new();
    for (k, v) in v.as_object().into_iter().flatten() {
        let Some(f) = table.field(id, k) else { continue };
        let always = ["apiVersion", "kind", "metadata", "name"].contains(&k.as_str());
        if !always && !r.chance(65) || ["uid", "managedFields"].contains(&k.as_str()) {
            continue;
        }
        let v = match (f.shape, v) {
            (Shape::Struct(inner), Json::Object(_)) if depth > 0 => subset(r, v, inner, depth - 1),
            (Shape::List(e), Json::Array(items)) if depth > 0 => {
                let keep: Vec<_> = items.iter().filter(|_| r.chance(80)).cloned().collect();
                keep.iter()
                    .map(|i| match table.elem(e) {
                        // Mostly with their keys.
                        Shape::Struct(inner) if r.chance(60) => {
                            let mut part = subset(r, i, inner, depth - 1);
                            for key in f.list_keys() {
                                if let (Some(m), Some(k)) = (part.as_object_mut(), i.get(key.as_str()))
                                    && !r.chance(2)
                                {
                                    m.insert(key.to_string(), k.clone());
                                }
                            }
                            part
                        }
                        _ => i.clone(),
                    })
                    .collect()
            }
            _ => v.clone(),
        };
        out.insert(k.clone(), v);
    }
    if r.chance(1) {
        out.insert("unknownField".into(), 1.into());
    }
    if r.chance(1) && out.len() > 3 {
        let at = r.below(out.len());
        let key = out.keys().nth(at).cloned().unwrap_or_default();
        if !["apiVersion", "kind", "metadata"].contains(&key.as_str()) {
            out.insert(
                key,
                [json!(5), json!("five"), json!(true), json!([1]), json!({"a": 1}), Json::Null][r.below(6)]
                    .clone(),
            );
        }
    }
    Json::Object(out)
}

fn sequence(r: &mut Rng, n: usize) -> Json {
    let (api_version, kind) = KINDS[n % KINDS.len()];
    let id = api::types().kind(api_version, kind).expect("a kind");
    let crowded = n.is_multiple_of(23);
    let mut current = generate::object(r, api_version, kind, Taste { fill: [20, 35][n % 2], ..TASTE });
    current["metadata"]["name"] = "x".into();
    current["metadata"]["namespace"] = "ns".into();
    if r.chance(30) {
        let last = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": current["spec"], "data": current["data"]});
        current["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] =
            last.to_string().into();
    }
    if let Some(m) = current["metadata"].as_object_mut() {
        for k in ["uid", "deletionGracePeriodSeconds", "generation"] {
            m.remove(k);
        }
    }
    let mut steps = Vec::new();
    let managers = ["m1", "m2", "kubectl", "m3", ""];
    for i in 0..if crowded { 16 } else { 3 + r.below(6) } {
        let changed = mutate(r, &current, id, 6, if i == 0 { 0 } else { 12 });
        let sub = if r.chance(12) { "status" } else { "" };
        let manager = if crowded { format!("u{}", r.below(16)) } else { r.pick(&managers).to_string() };
        if r.chance(if crowded { 85 } else { 45 }) {
            steps.push(json!({"op": "update", "obj": changed, "manager": manager, "sub": sub}));
            current = changed;
        } else {
            let config = subset(r, &changed, id, 5);
            let force = r.chance(45);
            steps.push(json!({"op": "apply", "obj": config, "manager": manager, "force": force, "sub": sub}));
            if r.chance(50) {
                current = changed;
            }
        }
    }
    let reset = match n % 3 {
        0 => json!({api_version: [["status"]]}),
        1 => json!({api_version: [["spec"], ["metadata", "labels"]]}),
        _ => Json::Null,
    };
    let mut out = json!({"apiVersion": api_version, "kind": kind, "reset": reset, "steps": steps});
    strip(&mut out);
    out
}

/// What upstream's conversion to its internal form changes, and an empty map that Go tells from none.
const CONVERTED: [&str; 7] =
    ["podCIDR", "podCIDRs", "podIP", "podIPs", "volumeClaimTemplates", "rollingUpdate", "allocatable"];

/// Removes what is not apply's doing.
fn strip(v: &mut Json) {
    match v {
        Json::Object(m) => {
            m.retain(|k, _| !CONVERTED.contains(&k.as_str()));
            m.values_mut().for_each(strip);
        }
        Json::Array(a) => a.iter_mut().for_each(strip),
        // Inside atomic lists upstream compares quantities by their parts, not by value: 0.5 is not 500m there.
        Json::String(s) => {
            let canonical = match s.as_str() {
                "100u" | "0.0001" | "5n" => "1m",
                "0.5" => "500m",
                "0.1" => "100m",
                "1.5Gi" => "1536Mi",
                _ => return,
            };
            *s = canonical.into();
        }
        _ => {}
    }
}

fn cases() -> Vec<Json> {
    let mut r = Rng::new(41);
    (0..4000).map(|n| sequence(&mut r, n)).filter(|s| s.to_string().len() < 60_000).collect()
}

#[test]
fn answers_as_upstream() {
    let explained =
        |_: &Json, theirs: &Json| theirs[0]["err"].as_str().is_some_and(|e| e.starts_with("sequence:"));
    oracle::compare_with("apply", "apply.jsonl", 120, cases, ours, explained, form);
}
