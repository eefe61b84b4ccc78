//! Uniqueness of items of sets and map lists. Upstream: `schema/listtype/validation.go`.

use std::collections::HashMap;

use api::validation::field::{Error, Path};
use machinery::{List, Map, Value};

use super::Schema;
use super::coerce::bad;

/// Duplicates in lists of list-type `set` and `map` below a value.
pub fn validate(path: &Path<'_>, value: &Value, schema: &Schema) -> Vec<Error> {
    let mut errors = Vec::new();
    walk(path, value, schema, &mut errors);
    errors
}

fn walk(path: &Path<'_>, value: &Value, schema: &Schema, errors: &mut Vec<Error>) {
    match value {
        Value::Map(map) => {
            for (key, value) in map {
                if let Some(additional) = schema.additional_schema() {
                    walk(&path.key(key), value, additional, errors);
                }
                if let Some(property) = schema.properties.get(key.as_str()) {
                    walk(&path.child(key), value, property, errors);
                }
            }
        }
        Value::List(list) => {
            match schema.list_type.as_deref() {
                Some("set") => {
                    let repeated = repeated(list);
                    errors.extend(
                        repeated.into_iter().map(|i| Error::duplicate(&path.index(i), bad(&list[i]))),
                    );
                }
                Some("map") => keys(path, list, schema, errors),
                _ => {}
            }
            let Some(items) = schema.items.as_deref() else { return };
            for (index, value) in list.iter().enumerate() {
                walk(&path.index(index), value, items, errors);
            }
        }
        _ => {}
    }
}

/// Positions at which something occurs for the second time.
fn repeated(list: &[Value]) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(list.len());
    let mut out = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let times = seen.entry(value.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            out.push(index);
        }
    }
    out
}

fn keys(path: &Path<'_>, list: &List, schema: &Schema, errors: &mut Vec<Error>) {
    let wrong = list.iter().position(|v| !matches!(v, Value::Null | Value::Map(_)));
    if let Some(index) = wrong {
        let why = "must be an object for an array of list-type map";
        errors.push(Error::invalid(&path.index(index), bad(&list[index]), why));
        return;
    }
    let key_of = |item: &Value| {
        let mut key = Map::new();
        for field in &schema.list_map_keys {
            if let Some(value) = item.get(field) {
                key.insert(field.as_str(), value.clone());
            }
        }
        Value::Map(key)
    };
    let all: Vec<Value> = list.iter().map(key_of).collect();
    for index in repeated(&all) {
        errors.push(Error::duplicate(&path.index(index), bad(&all[index])));
    }
}
