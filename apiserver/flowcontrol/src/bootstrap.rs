//! The objects every cluster starts with, and how they are kept up to date.
//!
//! Mandatory objects are put back whatever happens to them. Suggested ones are created when missing and updated while
//! their annotation says so, or while nobody has changed their spec. What an earlier version made and this one does not
//! know is removed. The objects are data, recorded from upstream by `e2e/oracle/flowcontrol`.
//! Upstream: `k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap`, `k8s.io/kubernetes/pkg/registry/flowcontrol/ensurer`.

use std::sync::LazyLock;

use k8s_openapi::api::flowcontrol::v1 as api;
use serde_json::{Value, json};

use crate::config::EXEMPT;

/// Whether the server may change an object's spec.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// How insistently an object is maintained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Users may change it.
    Suggested,
    /// Users may not.
    Mandatory,
}

/// Which of the two kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// FlowSchema
    Schema,
    /// PriorityLevelConfiguration
    Level,
}

/// An object of the bootstrap configuration.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// How it is maintained.
    pub strategy: Strategy,
    /// `apiVersion`, `kind`, name, annotation and spec.
    pub value: Value,
}

impl Object {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        name(&self.value)
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

static OBJECTS: LazyLock<Vec<Object>> = LazyLock::new(|| {
    const DATA: &str = include_str!("../data/bootstrap.jsonl");
    // The file is part of the program; a test counts its lines.
    DATA.lines().filter_map(|line| object(&serde_json::from_str(line).ok()?)).collect()
});

fn object(line: &Value) -> Option<Object> {
    let kind = match line["kind"].as_str()? {
        "FlowSchema" => Kind::Schema,
        _ => Kind::Level,
    };
    let strategy = match line["of"].as_str()? {
        "mandatory" => Strategy::Mandatory,
        _ => Strategy::Suggested,
    };
    let given = &line["object"];
    let value = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": line["kind"],
        "metadata": {"name": given["metadata"]["name"], "annotations": given["metadata"]["annotations"]},
        "spec": given["spec"],
    });
    Some(Object { kind, strategy, value })
}

/// All of them in the order they are ensured: levels before the schemas that name them, suggested before mandatory.
#[must_use]
pub fn objects() -> &'static [Object] {
    &OBJECTS
}

fn typed<T: serde::de::DeserializeOwned>(kind: Kind, strategy: Strategy) -> Vec<T> {
    let wanted = OBJECTS.iter().filter(|o| o.kind == kind && o.strategy == strategy);
    wanted.filter_map(|o| serde_json::from_value(o.value.clone()).ok()).collect()
}

/// Levels that cannot be missing.
#[must_use]
pub fn mandatory_levels() -> Vec<api::PriorityLevelConfiguration> {
    typed(Kind::Level, Strategy::Mandatory)
}

/// Flow schemas that cannot be missing.
#[must_use]
pub fn mandatory_schemas() -> Vec<api::FlowSchema> {
    typed(Kind::Schema, Strategy::Mandatory)
}

/// Levels a cluster starts with.
#[must_use]
pub fn suggested_levels() -> Vec<api::PriorityLevelConfiguration> {
    typed(Kind::Level, Strategy::Suggested)
}

/// Flow schemas a cluster starts with.
#[must_use]
pub fn suggested_schemas() -> Vec<api::FlowSchema> {
    typed(Kind::Schema, Strategy::Suggested)
}

/// What brings an existing object up to date; `None` when it is. Upstream: `strategy.ReviseIfNeeded`.
#[must_use]
pub fn revise(current: &Value, wanted: &Object) -> Option<Value> {
    let auto_update = wanted.strategy == Strategy::Mandatory || may_update(current);
    let annotation = parse_bool(&current["metadata"]["annotations"][AUTO_UPDATE]) != Some(auto_update);
    let spec = auto_update && !same_spec(current, wanted);
    if !annotation && !spec {
        return None;
    }
    let mut revised = current.clone();
    if spec {
        revised["spec"] = wanted.value["spec"].clone();
    }
    if annotation {
        revised["metadata"]["annotations"][AUTO_UPDATE] = json!(auto_update.to_string());
    }
    Some(revised)
}

/// As annotated; without a word, while nobody has changed the spec.
fn may_update(current: &Value) -> bool {
    let said = parse_bool(&current["metadata"]["annotations"][AUTO_UPDATE]);
    said.unwrap_or_else(|| current["metadata"]["generation"].as_i64() == Some(1))
}

fn parse_bool(value: &Value) -> Option<bool> {
    machinery::golang::parse_bool(value.as_str()?)
}

/// Whether specs agree, defaults and absent fields aside. The shares of the exempt level are the user's to choose.
fn same_spec(current: &Value, wanted: &Object) -> bool {
    let mut expected = wanted.value["spec"].clone();
    if wanted.kind == Kind::Level && wanted.name() == EXEMPT {
        if !current["spec"]["exempt"].is_object() {
            return false;
        }
        expected["exempt"] = current["spec"]["exempt"].clone();
    }
    equal(&expected, &current["spec"])
}

/// Equality to which an absent field, a null, an empty list and a false are the same.
fn equal(a: &Value, b: &Value) -> bool {
    let empty = |v: &Value| match v {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    match (a, b) {
        (Value::Object(x), Value::Object(_)) => {
            let keys = x.keys().chain(b.as_object().into_iter().flat_map(|y| y.keys()));
            keys.into_iter().all(|key| equal(&a[key.as_str()], &b[key.as_str()]))
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => x.iter().zip(y).all(|(x, y)| equal(x, y)),
        _ => a == b || (empty(a) && empty(b)),
    }
}

/// Whether an object is a leftover of another version's bootstrap configuration. Upstream: `RemoveUnwantedObjects`.
#[must_use]
pub fn is_unwanted(kind: Kind, current: &Value) -> bool {
    let known = OBJECTS.iter().any(|o| o.kind == kind && o.name() == name(current));
    !known && parse_bool(&current["metadata"]["annotations"][AUTO_UPDATE]) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str, kind: Kind) -> &'static Object {
        objects().iter().find(|o| o.name() == name && o.kind == kind).unwrap()
    }

    #[test]
    fn all_are_read() {
        assert_eq!(objects().len(), include_str!("../data/bootstrap.jsonl").lines().count());
        let counts = (suggested_levels().len(), suggested_schemas().len());
        assert_eq!((counts, mandatory_levels().len(), mandatory_schemas().len()), ((6, 9), 2, 2));
    }

    #[test]
    fn revisions() {
        let wanted = find("system", Kind::Level);
        let stored = |note: Value, shares: i64, generation: i64| {
            let mut object = wanted.value.clone();
            object["metadata"]["annotations"][AUTO_UPDATE] = note;
            object["metadata"]["generation"] = json!(generation);
            object["spec"]["limited"]["nominalConcurrencyShares"] = json!(shares);
            object
        };
        let seen = |object: Value| {
            revise(&object, wanted).map(|o| {
                let note = o["metadata"]["annotations"][AUTO_UPDATE].as_str().unwrap_or_default().to_owned();
                (note, o["spec"]["limited"]["nominalConcurrencyShares"].as_i64().unwrap_or_default())
            })
        };
        let yes = |note: &str, shares| Some((note.to_owned(), shares));
        assert_eq!(seen(stored(json!("true"), 30, 1)), None);
        assert_eq!(seen(stored(json!("true"), 31, 2)), yes("true", 30));
        assert_eq!(seen(stored(json!("false"), 31, 2)), None);
        assert_eq!(seen(stored(json!(null), 31, 1)), yes("true", 30));
        assert_eq!(seen(stored(json!("x"), 31, 2)), yes("false", 31));
    }

    #[test]
    fn the_mandatory_are_put_back() {
        let exempt = find(EXEMPT, Kind::Level);
        let mut stored = exempt.value.clone();
        stored["spec"]["exempt"]["nominalConcurrencyShares"] = json!(7);
        assert_eq!(revise(&stored, exempt), None);
        stored["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
        assert!(revise(&stored, exempt).is_some());
        let schema = find("catch-all", Kind::Schema);
        let mut stored = schema.value.clone();
        stored["spec"]["matchingPrecedence"] = json!(3);
        stored["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
        assert_eq!(revise(&stored, schema).unwrap()["spec"]["matchingPrecedence"], 10_000);
    }

    #[test]
    fn leftovers() {
        let object = |note: &str| json!({"metadata": {"name": "old", "annotations": {AUTO_UPDATE: note}}});
        assert!(is_unwanted(Kind::Level, &object("true")));
        assert!(!is_unwanted(Kind::Level, &object("false")));
        assert!(!is_unwanted(Kind::Level, &json!({"metadata": {"name": "mine"}})));
        assert!(!is_unwanted(Kind::Level, &find("system", Kind::Level).value));
        assert!(is_unwanted(
            Kind::Schema,
            &json!({"metadata": {"name": "node-high", "annotations": {AUTO_UPDATE: "T"}}})
        ));
    }
}
