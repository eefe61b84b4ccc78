//! Brings the metadata of embedded resources into the shape of object metadata.
//! Upstream: `schema/objectmeta/{algorithm,coerce}.go`.

use api::types;
use api::validation::field::{Bad, Error, Path};
use machinery::{Map, Value, json};

use super::Schema;

/// Reads metadata as ObjectMeta: the canonical tree, and the paths of unknown fields if asked for.
///
/// # Errors
/// What Go's decoder says about the first field of a wrong type, unless malformed fields are to be dropped.
pub fn object_meta(
    metadata: &Value,
    drop_malformed: bool,
    track: bool,
) -> Result<(Value, Vec<String>), String> {
    match decode(metadata, track) {
        Err(_) if drop_malformed => Ok((without_malformed(metadata), Vec::new())),
        result => result,
    }
}

fn decode(metadata: &Value, track: bool) -> Result<(Value, Vec<String>), String> {
    let id = types().by_name("meta/v1.ObjectMeta").ok_or("the type table has no object metadata")?;
    let decoded = json::decode(types(), id, &json::encode_any(metadata), track).map_err(|e| e.to_string())?;
    let field = |problem: &String| problem.split('"').nth(1).map(str::to_owned);
    Ok((tidy(decoded.value), decoded.strict.iter().filter_map(field).collect()))
}

/// Field by field, leaving out those that cannot be read.
fn without_malformed(metadata: &Value) -> Value {
    let mut kept = Map::new();
    for (key, value) in metadata.as_map().into_iter().flatten() {
        let single = Value::Map(Map::from_iter([(key.as_str(), value.clone())]));
        if decode(&single, false).is_ok() {
            kept.insert(key.as_str(), value.clone());
        }
    }
    decode(&Value::Map(kept), false).map(|(value, _)| value).unwrap_or_default()
}

/// Drops what Go leaves out of the map it makes of ObjectMeta: everything empty.
fn tidy(metadata: Value) -> Value {
    let Value::Map(mut map) = metadata else { return metadata };
    map.retain(|key, value| match value {
        Value::Null => false,
        Value::Str(text) => !text.is_empty(),
        // The other number is a pointer in Go: a grace period of nothing stays.
        Value::Int(number) => *number != 0 || key != "generation",
        Value::List(list) => !list.is_empty(),
        Value::Map(map) => !map.is_empty(),
        _ => true,
    });
    Value::Map(map)
}

/// Coerces type and object metadata of embedded resources; of the root too where `is_root` says so. Answers with the
/// paths of unknown metadata fields, sorted, if `track` says so.
///
/// # Errors
/// The first malformed field, unless they are to be dropped.
pub fn coerce(
    value: &mut Value,
    schema: &Schema,
    is_root: bool,
    drop_invalid: bool,
    track: bool,
) -> Result<Vec<String>, Error> {
    let mut c = Coercer { drop_invalid, track, unknown: Vec::new() };
    let root = if is_root { schema.as_resource() } else { std::borrow::Cow::Borrowed(schema) };
    c.walk(&Path::ROOT, value, &root)?;
    c.unknown.sort();
    Ok(c.unknown)
}

struct Coercer {
    drop_invalid: bool,
    track: bool,
    unknown: Vec<String>,
}

impl Coercer {
    fn walk(&mut self, path: &Path<'_>, value: &mut Value, schema: &Schema) -> Result<(), Error> {
        match value {
            Value::Map(map) => {
                if schema.embedded {
                    self.type_and_meta(path, map)?;
                }
                for (key, value) in map.iter_mut() {
                    if let Some(property) = schema.properties.get(key.as_str()) {
                        self.walk(&path.child(key), value, property)?;
                    } else if let Some(additional) = schema.additional_schema() {
                        self.walk(&path.key(key), value, additional)?;
                    }
                }
            }
            Value::List(list) => {
                let Some(items) = schema.items.as_deref() else { return Ok(()) };
                for (index, value) in list.iter_mut().enumerate() {
                    self.walk(&path.index(index), value, items)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn type_and_meta(&mut self, path: &Path<'_>, map: &mut Map) -> Result<(), Error> {
        for key in ["apiVersion", "kind"] {
            match map.get(key) {
                None | Some(Value::Str(_)) => {}
                Some(_) if self.drop_invalid => drop(map.remove(key)),
                Some(value) => return Err(Error::invalid(&path.child(key), bad(value), "must be a string")),
            }
        }
        let Some(metadata) = map.get("metadata") else { return Ok(()) };
        match object_meta(metadata, self.drop_invalid, self.track) {
            Ok((coerced, unknown)) => {
                let prefix = path.child("metadata").to_string();
                self.unknown.extend(unknown.into_iter().map(|field| format!("{prefix}.{field}")));
                map.insert("metadata", coerced);
                Ok(())
            }
            Err(why) => Err(Error::invalid(&path.child("metadata"), bad(metadata), why)),
        }
    }
}

/// A value as errors print it.
pub(crate) fn bad(value: &Value) -> Bad {
    match value {
        Value::Str(text) => Bad::Text(text.to_string()),
        Value::Float(number) => Bad::Raw(go_float(*number)),
        other => Bad::Raw(other.to_string()),
    }
}

/// Go's `%v` of a float64: the shortest form, with an exponent from 1e21 on and below 1e-4.
pub(crate) fn go_float(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 || (1e-4..1e21).contains(&size) || !number.is_finite() {
        return format!("{number}");
    }
    let text = format!("{number:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_keeps_what_go_keeps() {
        let check = |metadata: serde_json::Value, drop: bool, want: Result<serde_json::Value, ()>| {
            let got = object_meta(&Value::from(metadata), drop, false).map(|(value, _)| (&value).into());
            assert_eq!(got.map_err(drop_text), want);
        };
        let zeros =
            json!({"name": "a", "generation": 0, "deletionGracePeriodSeconds": 0, "labels": {}, "uid": ""});
        check(zeros, false, Ok(json!({"name": "a", "deletionGracePeriodSeconds": 0})));
        check(json!({"name": "a", "labels": {"x": 1}}), false, Err(()));
        check(json!({"name": "a", "labels": {"x": 1}}), true, Ok(json!({"name": "a"})));
    }

    fn drop_text(_: String) {}
}
