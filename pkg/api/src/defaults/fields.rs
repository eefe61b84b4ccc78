//! Go's zero values on trees: absent, null and empty are the same to a default function.

use machinery::{Map, Str, Value};

/// A string field; absent and null read as empty.
pub(super) fn text<'a>(m: &'a Map, key: &str) -> &'a str {
    m.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// An integer field; absent and null read as zero.
pub(super) fn number(m: &Map, key: &str) -> i64 {
    m.get(key).and_then(Value::as_i64).unwrap_or_default()
}

/// Whether a pointer field is nil.
pub(super) fn is_nil(m: &Map, key: &str) -> bool {
    m.get(key).is_none_or(Value::is_null)
}

/// The elements of a list field.
pub(super) fn items<'a>(m: &'a Map, key: &str) -> &'a [Value] {
    m.get(key).and_then(Value::as_list).map_or(&[], |l| l.as_slice())
}

/// Sets a pointer field that is nil.
pub(super) fn if_nil(m: &mut Map, key: &str, value: impl Into<Value>) {
    if is_nil(m, key) {
        m.insert(Str::from(key), value);
    }
}

/// Sets a string field that is empty.
pub(super) fn if_empty(m: &mut Map, key: &str, value: &str) {
    if text(m, key).is_empty() {
        m.insert(Str::from(key), value);
    }
}

/// Sets an integer field that is zero.
pub(super) fn if_zero(m: &mut Map, key: &str, value: i64) {
    if number(m, key) == 0 {
        m.insert(Str::from(key), value);
    }
}

/// A struct field for reading; an empty map if it is absent.
pub(super) fn peek(m: &Map, key: &str) -> Map {
    m.get(key).and_then(Value::as_map).cloned().unwrap_or_default()
}

/// A struct field for writing, created if absent.
pub(super) fn child<'a>(m: &'a mut Map, key: &str) -> &'a mut Map {
    let slot = m.entry(key);
    if !matches!(slot, Value::Map(_)) {
        *slot = Value::Map(Map::new());
    }
    match slot {
        Value::Map(m) => m,
        // Just made a map.
        _ => unreachable!("a map"),
    }
}

/// A pointer field to a struct, if it is set.
pub(super) fn pointer<'a>(m: &'a mut Map, key: &str) -> Option<&'a mut Map> {
    m.get_mut(key).and_then(Value::as_map_mut)
}

/// Calls `f` for each struct in a list field.
pub(super) fn each(m: &mut Map, key: &str, mut f: impl FnMut(&mut Map)) {
    if items(m, key).is_empty() {
        return;
    }
    if let Some(Value::List(l)) = m.get_mut(key) {
        l.iter_mut().filter_map(Value::as_map_mut).for_each(&mut f);
    }
}

/// Adds the entries of `from` that `key` does not have yet.
pub(super) fn fill(m: &mut Map, key: &str, from: &Map) {
    if from.is_empty() {
        return;
    }
    let to = child(m, key);
    for (k, v) in from {
        if !to.contains_key(k) {
            to.insert(k.clone(), v.clone());
        }
    }
}

pub(super) fn empty() -> Value {
    Value::Map(Map::new())
}
