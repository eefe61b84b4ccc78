//! What a node of an object tree is worth to an expression.
//!
//! Without a schema a node is what its JSON says ([`plain`]). With one, strings may be durations, times or bytes,
//! and lists may be sets or keyed lists ([`typed`], upstream's pkg/cel/common/valuesunstructured.go).

use super::convert::double_text;
use super::{List, Map, Res, Timestamp, Val};
use crate::eval::EvalError;
use crate::schema::{Kind, Schema};
use machinery::Value;
use std::collections::{HashMap, HashSet};

/// The value of a node whose type nobody declared.
pub(crate) fn plain(v: &Value) -> Val<'_> {
    match v {
        Value::Null => Val::Null,
        Value::Bool(b) => Val::Bool(*b),
        Value::Int(i) => Val::Int(*i),
        Value::Float(f) => Val::Double(*f),
        Value::Str(s) => Val::from(s.as_str()),
        Value::List(l) => Val::List(List::tree(l, None)),
        Value::Map(m) => Val::Map(Map::tree(m, None)),
        Value::Raw(raw) => machinery::json::parse(raw).map_or(Val::Null, |v| owned(&v)),
    }
}

/// The same, copied out of the tree.
pub(crate) fn owned<'a>(v: &Value) -> Val<'a> {
    match v {
        Value::Str(s) => Val::str(s.as_str()),
        Value::List(l) => Val::list(l.iter().map(owned).collect()),
        Value::Map(m) => {
            let mut out = super::MapBuilder::default();
            for (k, v) in m {
                out.set(Val::str(k.as_str()), owned(v));
            }
            out.build()
        }
        Value::Raw(raw) => machinery::json::parse(raw).map_or(Val::Null, |v| owned(&v)),
        Value::Null => Val::Null,
        Value::Bool(b) => Val::Bool(*b),
        Value::Int(i) => Val::Int(*i),
        Value::Float(f) => Val::Double(*f),
    }
}

fn go_type(v: &Value) -> &'static str {
    match v {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::Str(_) => "string",
        Value::List(_) | Value::Raw(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
    }
}

fn invalid<'a>(wanted: &str, v: &Value) -> Res<'a> {
    Err(EvalError::new(format!("invalid data, expected {wanted}, got {}", go_type(v))))
}

/// The value of a node with a schema; none where the schema has no say.
pub(crate) fn typed<'a>(v: &'a Value, schema: Option<&'a Schema>) -> Res<'a> {
    let Some(schema) = schema else { return Ok(plain(v)) };
    if v.is_null() {
        if schema.nullable {
            return Ok(Val::Null);
        }
        return Err(EvalError::new("invalid data, got null for schema with nullable=false"));
    }
    if schema.int_or_string {
        return match v {
            Value::Str(_) | Value::Int(_) => Ok(plain(v)),
            _ => Err(EvalError::new(
                "invalid data, expected XIntOrString value to be either a string or integer",
            )),
        };
    }
    match schema.kind {
        Kind::Object => match v {
            Value::Map(m) => Ok(Val::Map(Map::tree(m, Some(schema)))),
            _ => Err(EvalError::new("invalid data, expected a map for the provided schema with type=object")),
        },
        Kind::Array => array(v, schema),
        Kind::String => match v {
            Value::Str(s) => text(s, schema),
            _ => invalid("string", v),
        },
        Kind::Number => match v {
            Value::Int(_) | Value::Float(_) => Ok(Val::Double(v.as_f64().unwrap_or_default())),
            _ => invalid("float", v),
        },
        Kind::Integer => match v {
            Value::Int(i) => Ok(Val::Int(*i)),
            _ => invalid("int", v),
        },
        Kind::Boolean => match v {
            Value::Bool(b) => Ok(Val::Bool(*b)),
            _ => invalid("bool", v),
        },
        Kind::None if schema.preserve_unknown => Ok(Val::Unknown(v)),
        Kind::None => Err(EvalError::new(
            "invalid type, expected object, array, number, integer, boolean or string, or no type with \
             x-kubernetes-int-or-string or x-kubernetes-preserve-unknown-fields is true, got ",
        )),
    }
}

fn array<'a>(v: &'a Value, schema: &'a Schema) -> Res<'a> {
    let Value::List(items) = v else {
        return Err(EvalError::new(
            "invalid data, expected an array for the provided schema with type=array",
        ));
    };
    if schema.items.is_none() {
        return Err(EvalError::new("invalid array type, expected Items with a non-empty Schema"));
    }
    match schema.list_kind.as_deref() {
        None | Some("map" | "set" | "atomic" | "") => Ok(Val::List(List::tree(items, Some(schema)))),
        Some(other) => Err(EvalError::new(format!(
            "invalid x-kubernetes-list-type, expected 'map', 'set' or 'atomic' but got {other}"
        ))),
    }
}

fn text<'a>(s: &'a machinery::Str, schema: &Schema) -> Res<'a> {
    let bad = |what: &str, why: String| Err(EvalError::new(format!("Invalid {what} {s}: {why}")));
    match schema.format.as_deref() {
        Some("duration") => match machinery::time::parse_duration(s) {
            Ok(d) => Ok(Val::Duration(d)),
            Err(e) => bad("duration", e.to_string()),
        },
        Some("date") => match Timestamp::parse(&format!("{s}T00:00:00Z")) {
            Some(t) if s.len() == 10 => Ok(Val::Timestamp(t)),
            _ => bad(
                "date formatted string",
                format!(
                    "parsing time {q} as \"2006-01-02\": cannot parse {q} as \"2006\"",
                    q = machinery::golang::quote(s)
                ),
            ),
        },
        Some("date-time") => match Timestamp::parse(s) {
            Some(t) => Ok(Val::Timestamp(t)),
            None => bad("date-time formatted string", "not a date-time".into()),
        },
        Some("byte") => match machinery::golang::decode_base64(s.as_bytes()) {
            Ok(bytes) => Ok(Val::Bytes(bytes.into())),
            Err(e) => bad("byte formatted string", e),
        },
        _ => Ok(Val::from(s.as_str())),
    }
}

/// Whether a preserved node equals a value.
pub(super) fn plain_equal(v: &Value, other: &Val<'_>) -> bool {
    super::equal::equal(&plain(v), other).unwrap_or(false)
}

/// What makes an element of a set unique; `None` for lists and maps, which upstream refuses to compare so.
fn set_key(v: &Val<'_>) -> Option<String> {
    Some(match v {
        Val::Null => "null".into(),
        Val::Bool(b) => format!("b{b}"),
        Val::Int(i) => format!("i{i}"),
        Val::Uint(u) => format!("u{u}"),
        Val::Double(d) => format!("d{}", double_text(*d)),
        Val::Str(s) => format!("s{}", &**s),
        Val::Bytes(b) => format!("y{b:?}"),
        Val::Duration(d) => format!("r{d}"),
        Val::Timestamp(t) => format!("t{}.{}", t.seconds, t.nanos),
        Val::Unknown(v) => format!("v{v}"),
        _ => return None,
    })
}

fn element_key(v: &Val<'_>) -> Result<String, EvalError> {
    match v {
        Val::List(_) | Val::Map(_) => Ok(v.display()),
        other => set_key(other).ok_or_else(super::ops::no_overload),
    }
}

/// The values of a keyed list's keys in one element.
fn map_key(v: &Val<'_>, schema: &Schema) -> String {
    let mut out = String::new();
    for name in &schema.list_keys {
        let escaped = crate::escape::escape(name).unwrap_or_else(|| name.to_string());
        let found = match v {
            Val::Map(m) => m.find(&Val::str(escaped)).and_then(Result::ok),
            _ => None,
        };
        let part = found.map(|v| set_key(&v).unwrap_or_else(|| v.display())).unwrap_or_default();
        out.push_str(&format!("{}:{part}", part.len()));
    }
    out
}

/// Elements of both, those of the second replacing or skipping ones with the same identity.
pub(super) fn union<'a>(a: &List<'a>, b: &List<'a>) -> Res<'a> {
    let mut items = a.to_vec()?;
    let Some(schema) = a.schema() else { return Ok(Val::list(items)) };
    let keyed = schema.list_type() == Some("map");
    let key = |v: &Val<'a>| if keyed { Ok(map_key(v, schema)) } else { element_key(v) };
    let mut known = HashMap::new();
    for (i, item) in items.iter().enumerate() {
        known.insert(key(item)?, i);
    }
    for item in b.iter() {
        let item = item?;
        let id = key(&item)?;
        match known.get(&id) {
            Some(at) if keyed => items[*at] = item,
            Some(_) => {}
            None if keyed => items.push(item),
            None => {
                known.insert(id, items.len());
                items.push(item);
            }
        }
    }
    Ok(Val::list(items))
}

pub(super) fn sets_equal(a: &List<'_>, b: &List<'_>) -> Result<bool, EvalError> {
    let keys = |l: &List<'_>| l.iter().map(|v| element_key(&v?)).collect::<Result<HashSet<_>, _>>();
    Ok(keys(a)? == keys(b)?)
}

pub(super) fn keyed_equal(a: &List<'_>, b: &List<'_>, schema: &Schema) -> Result<bool, EvalError> {
    let mut known = HashMap::new();
    for item in a.iter() {
        let item = item?;
        known.insert(map_key(&item, schema), item);
    }
    let mut seen = HashSet::new();
    for item in b.iter() {
        let item = item?;
        let key = map_key(&item, schema);
        let Some(mine) = known.get(&key) else { return Ok(false) };
        if !super::equal::equal(mine, &item)? {
            return Ok(false);
        }
        seen.insert(key);
    }
    Ok(seen.len() == known.len())
}

pub(super) fn objects_equal(
    a: &Map<'_>,
    map: &machinery::Map,
    schema: &Schema,
    b: &Map<'_>,
) -> Result<bool, EvalError> {
    for (name, value) in map {
        if schema.property(name).is_some() {
            // Upstream looks names up as they stand, so those that need escaping are found on neither side.
            let key = Val::from(name.as_str());
            match (a.find(&key), b.find(&key)) {
                (None, None) => {}
                (Some(mine), Some(theirs)) => {
                    if !super::equal::equal(&mine?, &theirs?)? {
                        return Ok(false);
                    }
                }
                _ => return Ok(false),
            }
        } else {
            let Some((theirs, Some(_))) = b.as_tree() else { return Err(super::ops::no_overload()) };
            if theirs.get(name).is_some_and(|v| v != value) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
