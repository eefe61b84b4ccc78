//! Validates values against a schema, with upstream's error texts, and ratcheting: what an update leaves as it was is
//! not an error. Upstream: `kube-openapi/pkg/validation/validate`, `apiserver/validation/{validation,ratcheting}.go`.

mod correlate;
mod fail;
mod map_list;
mod scalar;

use api::validation::field::{Error, Path};
use machinery::{List, Map, Value};

pub use correlate::Correlated;
use fail::{Code, Fail, Outcome};
pub use map_list::MapList;

use super::{Additional, Schema, formats};

/// Validates a new value. Field names in errors are below `path`.
pub fn validate(path: &Path<'_>, value: &Value, schema: &Schema) -> Vec<Error> {
    let outcome = node(schema, value, None, "");
    outcome.fails.iter().map(|f| f.to_field_error(path)).collect()
}

/// Validates a value that takes the place of another. `old` is `None` where the two cannot be compared.
pub fn validate_update(
    path: &Path<'_>,
    value: &Value,
    schema: &Schema,
    old: Option<Correlated<'_>>,
) -> Vec<Error> {
    let outcome = node(schema, value, old, "");
    outcome.fails.iter().map(|f| f.to_field_error(path)).collect()
}

/// A value with a place of its own: its errors are forgiven if it is as it was.
fn node(schema: &Schema, value: &Value, old: Option<Correlated<'_>>, path: &str) -> Outcome {
    let mut outcome = one(schema, value, old, path);
    if !outcome.fails.is_empty() && old.is_some_and(|o| o.unchanged()) {
        outcome.fails.clear();
    }
    outcome
}

/// One schema against one value: upstream's chain of validators.
fn one(schema: &Schema, value: &Value, old: Option<Correlated<'_>>, path: &str) -> Outcome {
    let mut out = Outcome::default();
    let types = schema.types();
    let format =
        if formats::is_supported(if schema.int_or_string { "" } else { &schema.kind }, &schema.format)
            && !(schema.int_or_string && schema.format.is_empty())
        {
            schema.format.as_str()
        } else {
            ""
        };
    if value.is_null() {
        if !types.is_empty() && !schema.nullable {
            out.add(Fail::wrong_type(path, &types.join(","), "null"));
        }
        out.merge(enumerated(schema, value, path));
        return out;
    }
    if !types.is_empty() || !format.is_empty() {
        out.merge(scalar::type_of(types, format, value, path));
        out.matched();
    }
    out.merge(combined(schema, value, old, path));
    out.matched();
    match value {
        Value::Str(text) => {
            out.merge(scalar::string(&schema.rules, text, path));
            out.matched();
            if !format.is_empty() && formats::is_supported("string", format) {
                if !formats::holds(format, text) {
                    out.add(Fail::wrong_type(path, format, text));
                }
                out.matched();
            }
        }
        Value::Int(_) | Value::Float(_) => {
            out.merge(scalar::number(schema, types, format, value, path));
            out.matched();
        }
        Value::List(list) => {
            out.merge(items(schema, list, old, path));
            out.matched();
        }
        _ => {}
    }
    out.merge(enumerated(schema, value, path));
    out.matched();
    if let Value::Map(map) = value {
        out.merge(object(schema, map, old, path));
        out.matched();
    }
    out.matched();
    out
}

fn enumerated(schema: &Schema, value: &Value, path: &str) -> Outcome {
    let allowed = &schema.rules.enumeration;
    let same = |e: &Value| match (e, value) {
        // Go converts between numbers before it compares.
        (Value::Float(a), Value::Int(b)) => *a == *b as f64,
        (Value::Int(a), Value::Float(b)) => *a == *b as i64,
        (a, b) => !a.is_null() && a == b,
    };
    let mut out = Outcome::default();
    if !allowed.is_empty() && !allowed.iter().any(same) {
        out.add(Fail::new(Code::Enum(allowed.clone()), path, Some(value.clone()), String::new()));
    }
    out
}

/// `anyOf`, `oneOf`, `allOf`, `not`.
fn combined(schema: &Schema, value: &Value, old: Option<Correlated<'_>>, path: &str) -> Outcome {
    let rules = &schema.rules;
    let mut out = Outcome::default();
    if !rules.any_of.is_empty() {
        any_of(&rules.any_of, value, old, path, &mut out);
    }
    if !rules.one_of.is_empty() {
        one_of(&rules.one_of, value, old, path, &mut out);
    }
    if !rules.all_of.is_empty() {
        let mut valid = 0;
        for schema in &rules.all_of {
            let outcome = one(schema, value, old, path);
            valid += usize::from(outcome.fails.is_empty());
            out.merge(outcome);
        }
        if valid != rules.all_of.len() {
            let more = if valid == 0 { ". None validated" } else { "" };
            out.add(Fail::composite(format!("{path:?} must validate all the schemas (allOf){more}")));
        }
    }
    if let Some(not) = &rules.not
        && one(not, value, old, path).fails.is_empty()
    {
        out.add(Fail::composite(format!("{path:?} must not validate the schema (not)")));
    }
    out
}

fn any_of(schemas: &[Schema], value: &Value, old: Option<Correlated<'_>>, path: &str, out: &mut Outcome) {
    let mut best: Option<Outcome> = None;
    for schema in schemas {
        let outcome = one(schema, value, old, path);
        if outcome.fails.is_empty() {
            out.merge(outcome);
            return;
        }
        if best.as_ref().is_none_or(|b| outcome.matches > b.matches) {
            best = Some(outcome);
        }
    }
    out.add(Fail::composite(format!("{path:?} must validate at least one schema (anyOf)")));
    if let Some(best) = best {
        out.merge(best);
    }
}

fn one_of(schemas: &[Schema], value: &Value, old: Option<Correlated<'_>>, path: &str, out: &mut Outcome) {
    let (mut best, mut first, mut valid) = (None::<Outcome>, None, 0_usize);
    for schema in schemas {
        let outcome = one(schema, value, old, path);
        if outcome.fails.is_empty() {
            valid += 1;
            best = None;
            first.get_or_insert(outcome);
        } else if valid == 0 && best.as_ref().is_none_or(|b| outcome.matches > b.matches) {
            best = Some(outcome);
        }
    }
    if valid == 1 {
        out.merge(first.unwrap_or_default());
        return;
    }
    let more = match valid {
        0 => "Found none valid".to_owned(),
        n => format!("Found {n} valid alternatives"),
    };
    out.add(Fail::composite(format!("{path:?} must validate one and only one schema (oneOf). {more}")));
    if let Some(best) = best {
        out.merge(best);
    }
}

fn items(schema: &Schema, list: &List, old: Option<Correlated<'_>>, path: &str) -> Outcome {
    let (rules, size) = (&schema.rules, i64::try_from(list.len()).unwrap_or(i64::MAX));
    let mut out = Outcome::default();
    if let Some(items) = &schema.items {
        let correlated = old.and_then(Correlated::items);
        for (index, value) in list.iter().enumerate() {
            let below = correlated.as_ref().and_then(|c| c.get(value));
            out.merge(node(items, value, below, &format!("{path}[{index}]")));
        }
    }
    if let Some(min) = rules.min_items.filter(|min| size < *min) {
        let text = format!("{path} in body should have at least {min} items");
        out.add(Fail::new(Code::Other, path, Some(size.into()), text));
    }
    if let Some(max) = rules.max_items.filter(|max| size > *max) {
        out.add(Fail::new(Code::TooMany { size, max }, path, None, format!("{path} max items {max}")));
    }
    if rules.unique_items && list.iter().enumerate().any(|(i, v)| list[..i].contains(v)) {
        out.add(Fail::new(Code::Other, path, None, format!("{path} in body shouldn't contain duplicates")));
    }
    out.matched();
    out
}

fn object(schema: &Schema, map: &Map, old: Option<Correlated<'_>>, path: &str) -> Outcome {
    let (rules, size) = (&schema.rules, i64::try_from(map.len()).unwrap_or(i64::MAX));
    let mut out = Outcome::default();
    if let Some(min) = rules.min_properties.filter(|min| size < *min) {
        let text = format!("{path} in body should have at least {min} properties");
        out.add(Fail::new(Code::Other, path, Some(size.into()), text));
    }
    if let Some(max) = rules.max_properties.filter(|max| size > *max) {
        out.add(Fail::new(Code::TooMany { size, max }, path, None, format!("{path} max properties {max}")));
    }
    // Upstream looks up kind and apiVersion of the root as if they were new.
    let below = |key: &str| {
        let compared = !(path.is_empty() && matches!(key, "kind" | "apiVersion"));
        old.filter(|_| compared).and_then(|o| o.key(key))
    };
    match &schema.additional {
        Some(Additional::Allowed(false)) => {
            for key in map.keys().filter(|k| !schema.properties.contains_key(k.as_str())) {
                let text = format!("{path}.{key} in body is a forbidden property");
                out.add(Fail::new(Code::Other, path, Some(key.clone().into()), text));
            }
        }
        Some(Additional::Schema(additional)) => {
            for (key, value) in map.iter().filter(|(k, _)| !schema.properties.contains_key(k.as_str())) {
                out.merge(node(additional, value, below(key), &format!("{path}.{key}")));
            }
        }
        _ => {}
    }
    for (name, property) in &schema.properties {
        if let Some(value) = map.get(name) {
            let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            out.merge(node(property, value, below(name), &at));
        }
    }
    for name in rules.required.iter().filter(|name| !map.contains_key(name)) {
        let at = format!("{path}.{name}");
        let text = format!("{at} in body is required");
        out.add(Fail::new(Code::Required, &at, None, text));
    }
    out
}
