//! Validates type and object metadata of embedded resources. Upstream: `schema/objectmeta/validation.go`.

use api::validation::field::{Error, Path};
use api::validation::{content, objectmeta};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::{Map, Value};

use super::Schema;
use super::coerce::{bad, object_meta};

/// Errors of embedded resources; of the root too where `is_root` says so.
pub fn validate(path: &Path<'_>, value: &Value, schema: &Schema, is_root: bool) -> Vec<Error> {
    let mut errors = Vec::new();
    let root = if is_root { schema.as_resource() } else { std::borrow::Cow::Borrowed(schema) };
    walk(path, value, &root, &mut errors);
    errors
}

fn walk(path: &Path<'_>, value: &Value, schema: &Schema, errors: &mut Vec<Error>) {
    match value {
        Value::Map(map) => {
            if schema.embedded {
                embedded(path, map, errors);
            }
            for (key, value) in map {
                if let Some(property) = schema.properties.get(key.as_str()) {
                    walk(&path.child(key), value, property, errors);
                } else if let Some(additional) = schema.additional_schema() {
                    walk(&path.key(key), value, additional, errors);
                }
            }
        }
        Value::List(list) => {
            let Some(items) = schema.items.as_deref() else { return };
            for (index, value) in list.iter().enumerate() {
                walk(&path.index(index), value, items, errors);
            }
        }
        _ => {}
    }
}

fn embedded(path: &Path<'_>, map: &Map, errors: &mut Vec<Error>) {
    for field in ["apiVersion", "kind"] {
        let path = path.child(field);
        match map.get(field) {
            None => errors.push(Error::required(&path, "")),
            Some(Value::Str(text)) if text.is_empty() => {
                errors.push(Error::invalid(&path, "", "must not be empty"));
            }
            Some(Value::Str(text)) if field == "apiVersion" => {
                if text.matches('/').count() > 1 {
                    let why = format!("unexpected GroupVersion string: {text}");
                    errors.push(Error::invalid(&path, text.as_str(), why));
                }
            }
            Some(Value::Str(text)) => {
                let refusals = content::dns1035_label(&text.to_lowercase());
                if !refusals.is_empty() {
                    let why =
                        format!("may have mixed case, but should otherwise match: {}", refusals.join(","));
                    errors.push(Error::invalid(&path, text.as_str(), why));
                }
            }
            Some(other) => errors.push(Error::invalid(&path, bad(other), "must be a string")),
        }
    }
    let Some(metadata) = map.get("metadata") else { return };
    let path = path.child("metadata");
    let typed = object_meta(metadata, false, false)
        .and_then(|(value, _)| machinery::value::from_value::<ObjectMeta>(&value).map_err(|e| e.to_string()));
    match typed {
        Ok(mut meta) => {
            if meta.name.as_ref().is_none_or(String::is_empty) {
                meta.name = Some("fakename".into());
            }
            let namespaced = meta.namespace.as_ref().is_some_and(|n| !n.is_empty());
            let rule = objectmeta::name_is_path_segment;
            errors.extend(objectmeta::validate_object_meta(&meta, namespaced, rule, &path));
        }
        Err(why) => errors.push(Error::invalid(&path, bad(metadata), why)),
    }
}
