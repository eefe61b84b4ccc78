//! Variables that a question declares itself: types as the checker prints them, values as protocol buffers' JSON
//! form of `cel.expr.Value`.

use cel::{MapBuilder, Type, Val};
use serde_json::Value as Json;

/// Reads a type; `None` for what Kubernetes' environments have no values of.
pub fn parse_type(text: &str) -> Type {
    let (name, inner) = match text.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')').unwrap()),
        None => (text, ""),
    };
    match name {
        "dyn" => Type::Dyn,
        "any" => Type::Any,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "list" => Type::list(parse_type(inner)),
        "map" => {
            let (key, value) = inner.split_once(", ").unwrap();
            Type::map(parse_type(key), parse_type(value))
        }
        "wrapper" => Type::Nullable(parse_type(inner).into()),
        "optional_type" => Type::optional(parse_type(inner)),
        "type" => Type::Type((!inner.is_empty()).then(|| parse_type(inner).into())),
        other => Type::object(other),
    }
}

fn number<T: std::str::FromStr>(v: &Json) -> Option<T> {
    v.as_str().map_or_else(|| v.to_string(), str::to_owned).parse().ok()
}

fn double(v: &Json) -> Option<f64> {
    match v.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => v.as_f64(),
    }
}

/// Reads a value; `None` for messages that Kubernetes' environments do not know.
pub fn parse_value(v: &Json) -> Option<Val<'static>> {
    let (kind, v) = v.as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "nullValue" => Val::Null,
        "boolValue" => Val::Bool(v.as_bool()?),
        "int64Value" => Val::Int(number(v)?),
        "uint64Value" => Val::Uint(number(v)?),
        "doubleValue" => Val::Double(double(v)?),
        "stringValue" => Val::str(v.as_str()?),
        "bytesValue" => bytes(v)?,
        "typeValue" => Val::Type(parse_type(v.as_str()?).into()),
        "listValue" => {
            let items = v["values"].as_array().into_iter().flatten().map(parse_value);
            Val::list(items.collect::<Option<_>>()?)
        }
        "mapValue" => {
            let mut map = MapBuilder::default();
            for entry in v["entries"].as_array().into_iter().flatten() {
                map.set(parse_value(&entry["key"])?, parse_value(&entry["value"])?);
            }
            map.build()
        }
        "objectValue" => message(v)?,
        _ => return None,
    })
}

fn bytes(v: &Json) -> Option<Val<'static>> {
    Some(Val::Bytes(machinery::golang::decode_base64(v.as_str()?.as_bytes()).ok()?.into()))
}

/// What stands for one of protocol buffers' well-known messages.
fn message(v: &Json) -> Option<Val<'static>> {
    let value = &v["value"];
    Some(match v["@type"].as_str()?.strip_prefix("type.googleapis.com/google.protobuf.")? {
        "BoolValue" => Val::Bool(value.as_bool()?),
        "Int32Value" | "Int64Value" => Val::Int(number(value)?),
        "UInt32Value" | "UInt64Value" => Val::Uint(number(value)?),
        "FloatValue" | "DoubleValue" => Val::Double(double(value)?),
        "StringValue" => Val::str(value.as_str()?),
        "BytesValue" => bytes(value)?,
        "Duration" => Val::Duration(machinery::time::parse_duration(value.as_str()?).ok()?),
        "Struct" | "ListValue" | "Value" => plain(value),
        _ => return None,
    })
}

/// JSON whose numbers are floats.
fn plain(v: &Json) -> Val<'static> {
    match v {
        Json::Null => Val::Null,
        Json::Bool(b) => Val::Bool(*b),
        Json::Number(n) => Val::Double(n.as_f64().unwrap()),
        Json::String(s) => Val::str(s.as_str()),
        Json::Array(items) => Val::list(items.iter().map(plain).collect()),
        Json::Object(entries) => {
            let mut map = MapBuilder::default();
            for (name, value) in entries {
                map.set(Val::str(name.as_str()), plain(value));
            }
            map.build()
        }
    }
}
