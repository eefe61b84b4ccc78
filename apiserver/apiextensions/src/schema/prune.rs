//! Removes what a schema does not know. Upstream: `schema/pruning/algorithm.go`, `schema/defaulting/prunenulls.go`.

use machinery::Value;

use super::{Schema, is_meta_field};

/// Paths of what was removed, collected while walking.
#[derive(Default)]
pub(super) struct Unknown {
    at: String,
    found: Option<Vec<String>>,
}

impl Unknown {
    pub(super) fn tracking(track: bool) -> Self {
        Unknown { at: String::new(), found: track.then(Vec::new) }
    }

    pub(super) fn key<R>(&mut self, key: &str, walk: impl FnOnce(&mut Self) -> R) -> R {
        let len = self.at.len();
        if self.found.is_some() {
            if len > 0 {
                self.at.push('.');
            }
            self.at.push_str(key);
        }
        let result = walk(self);
        self.at.truncate(len);
        result
    }

    pub(super) fn index<R>(&mut self, index: usize, walk: impl FnOnce(&mut Self) -> R) -> R {
        let len = self.at.len();
        if self.found.is_some() {
            self.at.push_str(&format!("[{index}]"));
        }
        let result = walk(self);
        self.at.truncate(len);
        result
    }

    pub(super) fn record(&mut self, key: &str) {
        let at = if self.at.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at) };
        if let Some(found) = &mut self.found {
            found.push(at);
        }
    }

    fn at_root(&self) -> bool {
        self.at.is_empty()
    }

    pub(super) fn finish(self) -> Vec<String> {
        let mut found = self.found.unwrap_or_default();
        found.sort();
        found
    }
}

/// Removes unknown fields; answers with their paths, sorted, if `track` says so.
pub fn prune(value: &mut Value, schema: &Schema, is_root: bool, track: bool) -> Vec<String> {
    let mut unknown = Unknown::tracking(track);
    let root = if is_root { schema.as_resource() } else { std::borrow::Cow::Borrowed(schema) };
    walk(value, Some(&root), &mut unknown);
    unknown.finish()
}

fn walk(value: &mut Value, schema: Option<&Schema>, unknown: &mut Unknown) {
    let Some(schema) = schema else { return clear(value, unknown) };
    if schema.preserve_unknown {
        return skip(value, schema, unknown);
    }
    match value {
        Value::Map(map) => {
            let known = |k: &str| {
                (schema.embedded && is_meta_field(k))
                    || schema.properties.contains_key(k)
                    || schema.additional.is_some()
            };
            let gone: Vec<String> = map.keys().filter(|k| !known(k)).map(ToString::to_string).collect();
            for key in gone {
                if !is_meta_field(&key) || !unknown.at_root() {
                    unknown.record(&key);
                }
                map.remove(&key);
            }
            for (key, value) in map.iter_mut() {
                if schema.embedded && is_meta_field(key) {
                    continue;
                }
                let below = match schema.properties.get(key.as_str()) {
                    Some(property) => Some(property),
                    None => schema.additional_schema(),
                };
                unknown.key(key, |unknown| walk(value, below, unknown));
            }
        }
        Value::List(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                unknown.index(index, |unknown| walk(value, schema.items.as_deref(), unknown));
            }
        }
        _ => {}
    }
}

/// Nothing is known about the fields of this value.
fn clear(value: &mut Value, unknown: &mut Unknown) {
    match value {
        Value::Map(map) => {
            map.keys().for_each(|k| unknown.record(k));
            map.clear();
        }
        Value::List(list) => {
            for (index, value) in list.iter_mut().enumerate() {
                unknown.index(index, |unknown| clear(value, unknown));
            }
        }
        _ => {}
    }
}

/// Keeps unknown fields, and prunes below known ones.
fn skip(value: &mut Value, schema: &Schema, unknown: &mut Unknown) {
    match value {
        Value::Map(map) => {
            for (key, value) in map.iter_mut() {
                if schema.embedded && is_meta_field(key) {
                    continue;
                }
                if let Some(property) = schema.properties.get(key.as_str()) {
                    unknown.key(key, |unknown| walk(value, Some(property), unknown));
                } else if schema.additional.is_some() {
                    unknown.key(key, |unknown| walk(value, schema.additional_schema(), unknown));
                }
            }
        }
        Value::List(list) => {
            let Some(items) = schema.items.as_deref() else { return };
            for (index, value) in list.iter_mut().enumerate() {
                unknown.index(index, |unknown| skip(value, items, unknown));
            }
        }
        _ => {}
    }
}

/// Removes nulls where they are neither allowed nor about to be replaced by a default.
pub fn prune_nulls(value: &mut Value, schema: Option<&Schema>) {
    match value {
        Value::Map(map) => {
            let below =
                |key: &str| schema.and_then(|s| s.properties.get(key).or_else(|| s.additional_schema()));
            map.retain(|key, value| {
                !(value.is_null() && below(key).is_some_and(|s| !s.nullable && s.default.is_none()))
            });
            for (key, value) in map.iter_mut() {
                prune_nulls(value, below(key));
            }
        }
        Value::List(list) => {
            for value in list.iter_mut() {
                prune_nulls(value, schema.and_then(|s| s.items.as_deref()));
            }
        }
        _ => {}
    }
}
