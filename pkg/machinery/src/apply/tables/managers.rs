//! Calls of the field manager and of what it is made of (apimachinery's managedfields).

use super::rules::{Recorded, filters, path, versions};
use super::types::Types;
use super::{Outcome, outcome, text};
use crate::Value;
use crate::apply::managed::{self, ManagerId};
use crate::apply::{Config, Conflict, Error, FieldManager, conflict, scale};
use serde_json::{Value as Json, json};
use std::sync::Arc;

pub fn run(types: &Types, case: &Json) -> Outcome {
    match text(case, "op") {
        "decode" => decoded(case),
        "conflict" => conflicts(case),
        "toScale" => scaled(scale::to_subresource(value(case, "parent").as_ref(), &paths(case))),
        "fromScale" => scaled(scale::to_parent(
            value(case, "parent").as_ref(),
            value(case, "scale").as_ref(),
            text(case, "version"),
            &paths(case),
        )),
        _ => managed(types, case),
    }
}

fn value(case: &Json, key: &str) -> Option<Value> {
    case.get(key).filter(|v| !v.is_null()).cloned().map(Value::from)
}

fn managed(types: &Types, case: &Json) -> Outcome {
    let (version, kind) =
        (case["gvk"][0].as_str().unwrap_or_default(), case["gvk"][1].as_str().unwrap_or_default());
    let mut versions = versions(types, case);
    if let Some(ty) = case.get("type") {
        versions.insert(version.into(), types.reference(ty));
    }
    let manager = FieldManager::new(Config {
        schema: types.schema(),
        versions,
        api_version: version.into(),
        kind: kind.into(),
        subresource: text(case, "sub").into(),
        reset_fields: filters(case),
        converter: Arc::new(Recorded::new(case)),
        empty: Value::from(json!({"apiVersion": version, "kind": kind})),
        made_by_type: false,
    });
    let (live, obj) = (value(case, "live").unwrap_or_default(), value(case, "obj").unwrap_or_default());
    let (name, now) = (text(case, "manager"), text(case, "now"));
    let result = if text(case, "op") == "managerUpdate" {
        manager.try_update(&live, obj, name, now).map_err(Error::Internal)
    } else {
        manager.apply(&live, &obj, name, case["force"] == true, now).map(|a| a.object)
    };
    match result {
        Ok(out) => outcome([("err", Json::Null), ("out", Json::from(&out))]),
        Err(e) => {
            let code = match &e {
                Error::BadRequest(_) => json!(400),
                Error::Conflict { .. } => json!(409),
                Error::Internal(_) => Json::Null,
            };
            outcome([("err", e.to_string().into()), ("code", code)])
        }
    }
}

/// Sets that cannot be read are quoted in Go's form of an entry; that they cannot is what counts.
fn decoded(case: &Json) -> Outcome {
    match managed::decode(value(case, "entries").as_ref()) {
        Ok(m) => {
            let out = managed::encode(&m).map_or(Json::Null, |v| Json::from(&v));
            outcome([("err", Json::Null), ("out", out)])
        }
        Err(_) if text(case, "err").starts_with("error decoding versioned set") => Outcome::new(),
        Err(e) => outcome([("err", e.into())]),
    }
}

fn conflicts(case: &Json) -> Outcome {
    let one = |c: &Json| {
        let id: Json = serde_json::from_str(c[0].as_str().unwrap_or_default()).ok()?;
        // Identifiers never have a time; some of upstream's hand-written ones do.
        if id.get("time").is_some() {
            return None;
        }
        let manager = ManagerId::new(
            text(&id, "manager"),
            text(&id, "operation"),
            text(&id, "apiVersion"),
            text(&id, "subresource"),
        );
        Some(Conflict { manager, path: path(&c[1]) })
    };
    let Some(list) = case["conflicts"].as_array().into_iter().flatten().map(one).collect::<Option<Vec<_>>>()
    else {
        return Outcome::new();
    };
    let causes: Vec<_> = list
        .iter()
        .map(|c| json!({"reason": "FieldManagerConflict", "message": c.message(), "field": c.field()}))
        .collect();
    let status = json!({"metadata": {}, "status": "Failure", "message": conflict::summary(&list),
        "reason": "Conflict", "details": {"causes": causes}, "code": 409});
    outcome([("status", status)])
}

fn paths(case: &Json) -> scale::ReplicasPaths {
    let one = |(version, p): (&String, &Json)| (version.clone(), (!p.is_null()).then(|| path(p)));
    case["paths"].as_object().into_iter().flatten().map(one).collect()
}

fn scaled(result: Result<Option<Value>, String>) -> Outcome {
    match result {
        Ok(out) => outcome([("err", Json::Null), ("out", out.map_or(Json::Null, |v| Json::from(&v)))]),
        Err(e) => outcome([("err", e.into())]),
    }
}
