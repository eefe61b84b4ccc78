//! Calls of the rules (merge): updates and applies.

use super::sets::{set, written};
use super::typed::typed_value;
use super::types::Types;
use super::{Outcome, outcome, text};
use crate::Value;
use crate::apply::managed::{Entry, ManagerId, Managers};
use crate::apply::schema::TypeRef;
use crate::apply::updater::{Change, Convert, ConvertError, Filter, Pattern, UpdateError, Updater};
use crate::apply::value::equal;
use crate::apply::{PathElement, Set};
use serde_json::{Map, Value as Json, json};
use std::collections::HashMap;
use std::sync::Arc;

/// One recorded conversion: what went in (anything, if it came out unchanged), the version, and what came out.
struct Call {
    input: Option<Value>,
    version: String,
    out: Result<Option<Value>, ConvertError>,
}

/// Converts as the converter of upstream's test did.
pub struct Recorded(Vec<Call>);

impl Recorded {
    pub fn new(case: &Json) -> Recorded {
        let call = |c: &Json| {
            let out = match c["err"].as_str() {
                Some(_) if c["missing"] == true => Err(ConvertError::MissingVersion),
                Some(e) => Err(ConvertError::Failed(e.into())),
                None => Ok(c.get("out").map(|v| Value::from(v["value"].clone()))),
            };
            let input = c.get("in").map(|v| Value::from(v["value"].clone()));
            Call { input, version: text(c, "version").into(), out }
        };
        Recorded(case["conversions"].as_array().into_iter().flatten().map(call).collect())
    }
}

impl Convert for Recorded {
    fn convert(&self, object: &Value, version: &str) -> Result<Value, ConvertError> {
        let at_version = || self.0.iter().filter(|c| c.version == version);
        let exact = at_version().find(|c| c.input.as_ref().is_some_and(|i| equal(i, object)));
        let missing = || at_version().any(|c| c.out == Err(ConvertError::MissingVersion));
        if exact.is_none() && !missing() && self.0.iter().any(|c| matches!(c.out, Ok(Some(_)))) {
            return Ok(renamed(object, version));
        }
        let unchanged = || at_version().find(|c| c.input.is_none());
        match exact.or_else(unchanged).map(|c| &c.out) {
            Some(Ok(out)) => Ok(out.clone().unwrap_or_else(|| object.clone())),
            Some(Err(e)) => Err(e.clone()),
            // Whether a version is missing does not depend on the object.
            None if missing() => Err(ConvertError::MissingVersion),
            None => Err(ConvertError::Failed(format!("upstream did not ask for {version} of {object:?}"))),
        }
    }
}

/// As upstream's test converters, for objects that appear only where versions are converted in another order: a field
/// is called after its version (`name_v2`), or has a name of one letter, as many times as the version says.
fn renamed(object: &Value, version: &str) -> Value {
    let count: usize = version.trim_start_matches('v').parse().unwrap_or(1);
    let name = |key: &str| match key.rsplit_once("_v") {
        Some((stem, _)) => format!("{stem}_{version}"),
        None if (1..4).contains(&key.len()) && key.bytes().all(|b| b == key.as_bytes()[0]) => {
            key[..1].repeat(count)
        }
        None => key.to_string(),
    };
    match object {
        Value::Map(m) => m.iter().map(|(k, v)| (name(k), renamed(v, version))).collect::<crate::Map>().into(),
        Value::List(l) => Value::List(l.iter().map(|v| renamed(v, version)).collect()),
        v => v.clone(),
    }
}

fn element(text: &str) -> PathElement {
    let mut paths = set(&json!({ text: {} })).paths();
    paths.pop().and_then(|mut p| p.pop()).expect("an element")
}

pub fn path(elements: &Json) -> Vec<PathElement> {
    elements.as_array().into_iter().flatten().filter_map(Json::as_str).map(element).collect()
}

pub fn filters(case: &Json) -> HashMap<String, Filter> {
    fn pattern(v: &Json) -> Pattern {
        let member = |m: &Json| (m[0].as_str().map(element), pattern(&m[1]));
        match v.as_array() {
            None => Pattern::Any,
            Some(members) => Pattern::Elements(members.iter().map(member).collect()),
        }
    }
    let filter = |f: &Json| match f.get("exclude") {
        Some(Json::Null) => Filter::Exclude(Set::default()),
        Some(s) => Filter::Exclude(set(s)),
        None => Filter::Include(pattern(&f["include"])),
    };
    case["filters"].as_object().into_iter().flatten().map(|(v, f)| (v.clone(), filter(f))).collect()
}

/// The kind's type in each version of the call.
pub fn versions(types: &Types, case: &Json) -> HashMap<String, TypeRef> {
    let converted = case["conversions"].as_array().into_iter().flatten();
    converted
        .filter(|c| c.get("type").is_some())
        .map(|c| (text(c, "version").to_string(), types.reference(&c["type"])))
        .collect()
}

fn managers(v: &Json) -> Managers {
    let entry = |(name, m): (&String, &Json)| {
        let entry = Entry::new(set(&m["set"]), text(m, "version").into(), m["applied"] == true);
        (ManagerId::new(name, "", "", ""), entry)
    };
    v.as_object().into_iter().flatten().map(entry).collect()
}

fn managers_written(managers: &Managers) -> Json {
    let entry =
        |e: &Entry| json!({"version": e.api_version.as_str(), "applied": e.applied, "set": written(e.set())});
    managers.iter().map(|(id, e)| (id.manager.to_string(), entry(e))).collect::<Map<_, _>>().into()
}

pub fn run(types: &Types, case: &Json) -> Outcome {
    let (live, _) = typed_value(types, &case["live"]);
    let (obj, ty) = typed_value(types, &case["obj"]);
    let version = text(case, "version");
    let mut versions = versions(types, case);
    versions.insert(version.into(), ty);
    let updater = Updater {
        schema: types.schema(),
        versions,
        converter: Arc::new(Recorded::new(case)),
        filters: filters(case),
    };
    let manager = ManagerId::new(text(case, "manager"), "", "", "");
    let before = managers(&case["before"]);
    let result = if text(case, "op") == "update" {
        updater.compare(&live, &obj, version).map_err(UpdateError::Other).and_then(|diff| {
            let change = Change { old: &live, new: &obj, version, diff };
            Ok((Some(obj.clone()), updater.update(change, before, &manager)?))
        })
    } else {
        updater.apply(&live, &obj, version, before, &manager, case["force"] == true)
    };
    match result {
        Ok((out, managers)) => {
            // Upstream's tests may ask for the object where nothing changed.
            let out = out.or((case["always"] == true).then_some(live));
            let managers = managers_written(&managers);
            let err = ("err", Json::Null);
            match out {
                Some(out) => outcome([err, ("managers", managers), ("out", Json::from(&out))]),
                None => outcome([err, ("managers", managers), ("out", Json::Null)]),
            }
        }
        Err(UpdateError::Conflicts(conflicts)) => {
            let mut list: Vec<_> =
                conflicts.iter().map(|c| [c.manager.manager.to_string(), c.field()]).collect();
            list.sort();
            outcome([("conflicts", json!(list))])
        }
        Err(UpdateError::Other(e)) => outcome([("err", e.into())]),
    }
}
