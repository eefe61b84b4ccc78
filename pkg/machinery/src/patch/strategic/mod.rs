//! Strategic merge patch: a merge patch that knows which lists merge by key.
//!
//! Upstream: apimachinery util/strategicpatch/patch.go (`StrategicMergeMapPatch`), error texts included. Upstream
//! walks patches in Go's random map order; here the order is that of the keys. Where it crashes on a patch (null
//! elements, lists as merge keys) this answers an error or compares unequal.
//!
//! Start at [`merge`]. `list` merges lists, `order` keeps their order, [`TableType`] knows the rules.

mod list;
mod order;
mod restore;
mod table;

use super::Error;
use super::show::{display, go_type};
use crate::value::{List, Map, Value};
pub use restore::restore_error;
pub use table::TableType;

const MARKER: &str = "$patch";
const DELETE: &str = "delete";
const REPLACE: &str = "replace";
const MERGE: &str = "merge";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ELEMENT_ORDER: &str = "$setElementOrder";

/// What a type says about patching its members.
pub trait Lookup: Copy {
    /// The type and patch rules of a struct's field; the error is upstream's text.
    fn field(self, name: &str) -> Result<(Self, Rules<'static>), String>;
    /// As [`Lookup::field`] for a list field: the type is that of the elements.
    fn list(self, name: &str) -> Result<(Self, Rules<'static>), String>;
    /// Go's name of the type's kind: `struct`, `map`, ...
    fn kind(self) -> &'static str;
}

/// Patch rules of a field: its `patchStrategy` without `retainKeys`, and its `patchMergeKey`; empty if it has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<'a> {
    pub strategy: &'a str,
    pub merge_key: &'a str,
}

/// Merges `patch` into `original`, both in the version of `schema`'s type.
pub fn merge<L: Lookup>(original: Map, patch: Map, schema: L) -> Result<Map, Error> {
    merge_map(original, patch, schema)
}

fn internal(text: String) -> Error {
    Error::Internal(text)
}

fn bad_arg(expected: &str, found: &Value) -> Error {
    internal(format!("expected a {expected}, but received a {}", go_type(found)))
}

fn no_merge_key(m: &Map, key: &str) -> Error {
    internal(format!("map: {} does not contain declared merge key: {key}", display(&Value::Map(m.clone()))))
}

fn bad_patch_type(directive: &Value, m: &Map) -> Error {
    let shown = match directive {
        Value::Str(s) => s.to_string(),
        Value::Null => "%!s(<nil>)".into(),
        v @ (Value::Bool(_) | Value::Int(_) | Value::Float(_)) => {
            format!("%!s({}={})", go_type(v), display(v))
        }
        v => display(v),
    };
    internal(format!("unknown patch type: {shown} in map: {}", display(&Value::Map(m.clone()))))
}

fn bad_order_list() -> Error {
    Error::BadRequest("invalid patch format of setElementOrder list".into())
}

fn bad_retain_keys() -> Error {
    Error::BadRequest("invalid patch format of retainKeys".into())
}

/// The map in a value; raw JSON is parsed. Other types stay what they are.
fn open(v: Value) -> Value {
    match v {
        Value::Raw(raw) => crate::json::parse(&raw).unwrap_or_default(),
        v => v,
    }
}

fn merge_map<L: Lookup>(mut original: Map, mut patch: Map, schema: L) -> Result<Map, Error> {
    if let Some(directive) = patch.get(MARKER).cloned() {
        return directed(&directive, patch);
    }
    retain_keys(&mut original, &mut patch)?;
    ordered_lists(&mut original, &mut patch, schema)?;
    for (name, value) in patch {
        let delete_list = name.starts_with(DELETE_FROM_LIST);
        let key = if delete_list { referenced(&name, DELETE_FROM_LIST)? } else { name.as_str() };
        if value.is_null() {
            original.remove(key);
            continue;
        }
        merge_member(&mut original, key, value, delete_list, schema)?;
    }
    Ok(original)
}

fn merge_member<L: Lookup>(
    original: &mut Map,
    key: &str,
    value: Value,
    delete_list: bool,
    schema: L,
) -> Result<(), Error> {
    let current = original.get_mut(key).map(|v| open(v.take()));
    let merged = match (current, value) {
        (Some(Value::Map(current)), Value::Map(patch)) => {
            let (inner, rules) = schema.field(key).map_err(internal)?;
            Value::Map(if rules.strategy == REPLACE { patch } else { merge_map(current, patch, inner)? })
        }
        (Some(Value::List(current)), Value::List(patch)) => {
            let (inner, rules) = schema.list(key).map_err(internal)?;
            if rules.strategy == MERGE || delete_list {
                list::merge(current, patch, inner, rules.merge_key, delete_list)?.merged.into()
            } else {
                Value::List(patch)
            }
        }
        (None, _) if delete_list => return Ok(()),
        (Some(current), value) if delete_list && go_type(&current) != go_type(&value) => current,
        (Some(current), mut value) if go_type(&current) == go_type(&value) => {
            // Scalars; nothing to discard or direct.
            value.take()
        }
        (_, mut value) => {
            discard_nulls(&mut value);
            match without_directives(value) {
                Some(v) => v,
                None => {
                    original.remove(key);
                    return Ok(());
                }
            }
        }
    };
    original.insert(key, merged);
    Ok(())
}

/// What a map with a `$patch` directive amounts to.
fn directed(directive: &Value, mut patch: Map) -> Result<Map, Error> {
    match directive.as_str() {
        Some(REPLACE) => {
            patch.remove(MARKER);
            Ok(patch)
        }
        Some(DELETE) => Ok(Map::new()),
        _ => Err(bad_patch_type(directive, &patch)),
    }
}

/// `$retainKeys`: everything it does not name goes.
fn retain_keys(original: &mut Map, patch: &mut Map) -> Result<(), Error> {
    let Some(keep) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let keep = keep.as_list().ok_or_else(bad_retain_keys)?;
    let kept = |k: &str| keep.iter().any(|v| v.as_str() == Some(k));
    let exempt = |k: &str, v: &Value| {
        v.is_null() || k.starts_with(DELETE_FROM_LIST) || k.starts_with(SET_ELEMENT_ORDER)
    };
    if patch.iter().any(|(k, v)| !exempt(k, v) && !kept(k)) {
        return Err(bad_retain_keys());
    }
    original.retain(|k, _| kept(k));
    Ok(())
}

/// `$setElementOrder/<list>`: merges the named lists and puts their elements in that order.
fn ordered_lists<L: Lookup>(original: &mut Map, patch: &mut Map, schema: L) -> Result<(), Error> {
    let directives: Vec<_> = patch.keys().filter(|k| k.starts_with(SET_ELEMENT_ORDER)).cloned().collect();
    for name in directives {
        let order = match patch.remove(&name) {
            Some(Value::List(order)) => order,
            Some(other) => return Err(bad_arg("[]interface {}", &other)),
            None => continue,
        };
        let key = referenced(&name, SET_ELEMENT_ORDER)?;
        let list = |m: &Map| match m.get(key).cloned().map(open) {
            None => Ok(None),
            Some(Value::List(l)) => Ok(Some(l)),
            Some(other) => Err(bad_arg("[]interface {}", &other)),
        };
        let (current, wanted) = (list(original)?, list(patch)?);
        let (inner, rules) = schema.list(key).map_err(internal)?;
        order::validate(wanted.as_ref(), &order, rules.merge_key)?;
        if let Some(merged) = order::apply(current, wanted, &order, inner, rules)? {
            original.insert(key, merged);
            patch.remove(key);
        }
    }
    Ok(())
}

/// The field a parallel list (`$prefix/field`) belongs to.
fn referenced<'a>(name: &'a str, prefix: &str) -> Result<&'a str, Error> {
    match name.split_once('/') {
        Some((p, field)) if p == prefix => Ok(field),
        _ if prefix == DELETE_FROM_LIST => {
            Err(Error::BadRequest("invalid patch format of primitive list".into()))
        }
        _ => Err(bad_order_list()),
    }
}

/// Removes null members at every depth; null elements of lists stay.
fn discard_nulls(v: &mut Value) {
    match v {
        Value::Map(m) => {
            m.retain(|_, v| !v.is_null());
            m.values_mut().for_each(discard_nulls);
        }
        Value::List(l) => l.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// The value without members and elements that carry a `$patch` directive; `None` if it carries one itself.
fn without_directives(v: Value) -> Option<Value> {
    match v {
        Value::Map(m) if m.contains_key(MARKER) => None,
        Value::Map(m) => {
            Some(Value::Map(m.into_iter().filter_map(|(k, v)| Some((k, without_directives(v)?))).collect()))
        }
        Value::List(l) => Some(Value::List(l.into_iter().filter_map(without_directives).collect::<List>())),
        v => Some(v),
    }
}
