//! Values as what messages' fields hold: upstream's conversion to Go's types (`ConvertToNative` of
//! cel-go common/types), its errors included.

use super::message::Message;
use crate::types::Type;
use crate::val::{List, Map, MapBuilder, Val};

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Native {
    Bool,
    Bytes,
    Enum,
    Float32,
    Float64,
    Int32,
    Int64,
    String,
    Uint32,
    Uint64,
    /// Any JSON.
    Value,
    Struct,
    ListValue,
    /// Values of JSON, repeated.
    Values,
    /// Values of JSON by name.
    Entries,
}

pub(super) enum Error {
    /// Neither a list nor a map where one must be.
    Shape,
    Conversion(String),
}

impl From<String> for Error {
    fn from(e: String) -> Self {
        Error::Conversion(e)
    }
}

type Held = Result<Val<'static>, String>;

impl Native {
    pub fn cel_type(self) -> Type {
        match self {
            Native::Bool => Type::Bool,
            Native::Bytes => Type::Bytes,
            Native::Float32 | Native::Float64 => Type::Double,
            Native::Enum | Native::Int32 | Native::Int64 => Type::Int,
            Native::Uint32 | Native::Uint64 => Type::Uint,
            Native::String => Type::String,
            Native::Value => Type::Dyn,
            Native::Struct | Native::Entries => Type::map(Type::String, Type::Dyn),
            Native::ListValue | Native::Values => Type::list(Type::Dyn),
        }
    }

    /// What a field that is not set reads as.
    pub fn zero(self) -> Val<'static> {
        match self {
            Native::Bool => Val::Bool(false),
            Native::Bytes => Val::Bytes([].into()),
            Native::Enum | Native::Int32 | Native::Int64 => Val::Int(0),
            Native::Uint32 | Native::Uint64 => Val::Uint(0),
            Native::Float32 | Native::Float64 => Val::Double(0.0),
            Native::String => Val::from(""),
            Native::Value => Val::Null,
            Native::Struct | Native::Entries => MapBuilder::default().build(),
            Native::ListValue | Native::Values => Val::list(Vec::new()),
        }
    }

    /// The name of the Go type.
    fn go_type(self) -> &'static str {
        match self {
            Native::Bool => "bool",
            Native::Bytes => "[]uint8",
            Native::Enum => "protoreflect.EnumNumber",
            Native::Float32 => "float32",
            Native::Float64 => "float64",
            Native::Int32 => "int32",
            Native::Int64 => "int64",
            Native::String => "string",
            Native::Uint32 => "uint32",
            Native::Uint64 => "uint64",
            Native::Value | Native::Values | Native::Entries => "*structpb.Value",
            Native::Struct => "*structpb.Struct",
            Native::ListValue => "*structpb.ListValue",
        }
    }

    /// The value as the field holds it.
    pub fn of(self, v: &Val<'_>) -> Result<Val<'static>, Error> {
        match (self, v) {
            (Native::Values, Val::List(list)) => Ok(list_json(list)?),
            (Native::Entries, Val::Map(map)) => Ok(map_json(map)?),
            (Native::Values | Native::Entries, _) => Err(Error::Shape),
            _ => Ok(self.convert(v)?),
        }
    }

    fn convert(self, v: &Val<'_>) -> Held {
        use Native as N;
        Ok(match (self, v) {
            (N::Value, v) => return json(v),
            (_, Val::Optional(Some(inner))) => return self.convert(inner),
            (N::Bool, Val::Bool(b)) => Val::Bool(*b),
            (N::Bytes, Val::Bytes(b)) => Val::Bytes(b.clone()),
            (N::Bytes, Val::List(list)) => return bytes(list),
            (N::Float32, Val::Double(d)) => Val::Double(f64::from(*d as f32)),
            (N::Float64, Val::Double(d)) => Val::Double(*d),
            (N::Int32 | N::Enum, Val::Int(i)) => {
                Val::Int(i32::try_from(*i).map_err(|_| "integer overflow")?.into())
            }
            (N::Int64, Val::Int(i)) => Val::Int(*i),
            (N::Uint32, Val::Uint(u)) => {
                Val::Uint(u32::try_from(*u).map_err(|_| "unsigned integer overflow")?.into())
            }
            (N::Uint64, Val::Uint(u)) => Val::Uint(*u),
            (N::String, Val::Str(s)) => Val::str(&**s),
            (N::String, Val::Object(o)) => match o.native_text() {
                Some(text) => Val::str(text),
                None => return Err(unsupported(v, "string")),
            },
            (N::Struct, Val::Map(map)) if !map.is_typed_tree() => return map_json(map),
            (N::Struct, Val::Made(made)) if !made.is_patch() => return json(v),
            (N::ListValue, Val::List(list)) if !list.is_typed_tree() => return list_json(list),
            (N::ListValue, Val::Map(map)) if map.is_empty() && !map.is_typed_tree() => Val::list(Vec::new()),
            (_, v) => return Err(unsupported(v, self.go_type())),
        })
    }
}

pub(super) fn string(v: &Val<'_>) -> Held {
    Native::String.convert(v)
}

/// What a value says that cannot be converted.
fn unsupported(v: &Val<'_>, to: &str) -> String {
    match v {
        Val::Bool(_) => format!("type conversion error from bool to '{to}'"),
        Val::Bytes(_) => format!("type conversion error from Bytes to '{to}'"),
        Val::Double(_) => format!("type conversion error from Double to '{to}'"),
        Val::Duration(_) => format!("type conversion error from 'Duration' to '{to}'"),
        Val::Timestamp(_) => format!("type conversion error from 'Timestamp' to '{to}'"),
        Val::Int(_) | Val::Uint(_) => format!("unsupported type conversion from '{}' to {to}", v.type_name()),
        Val::Str(_) => format!("unsupported native conversion from string to '{to}'"),
        Val::Null => format!("type conversion error from 'null_type' to '{to}'"),
        Val::List(list) if list.is_typed_tree() => {
            format!("type conversion error from 'list(dyn)' to '{to}'")
        }
        Val::Map(map) if map.is_typed_tree() => {
            format!("type conversion error from 'map(dyn, dyn)' to '{to}'")
        }
        Val::List(_) => format!("type conversion error from list to '{to}'"),
        Val::Map(map) if to.starts_with('*') => no_field(map, to),
        Val::Map(_) => format!("type conversion error from map to '{to}'"),
        Val::Optional(_) => "optional.none() dereference".into(),
        Val::Type(_) => "type conversion not supported for 'type'".into(),
        Val::Unknown(_) => format!(
            "type conversion to '{to}' not supported for values preserved by x-kubernetes-preserve-unknown-fields"
        ),
        Val::Made(made) if made.is_patch() => format!("cannot convert to native type: {to}"),
        Val::Made(_) => format!("unable to convert to {to}"),
        Val::Object(o) if o.is_message() => match to.strip_prefix("*structpb.") {
            Some(message) => format!(
                "type conversion error: pb.Merge() arguments must be the same type. got: google.protobuf.{message}, {}",
                o.type_name()
            ),
            None => format!("type conversion error from '*dynamicpb.Message' to '{to}'"),
        },
        Val::Object(o) => {
            let name = o.type_name().rsplit('.').next().unwrap_or_default();
            format!("type conversion error from '{}' to '{to}'", name.replace("NamedFormat", "Format"))
        }
    }
}

/// A map whose keys are taken for the fields of a Go structure (cel-go common/types/map.go `upperCamelCase`).
fn no_field(map: &Map<'_>, to: &str) -> String {
    let first = map.keys().into_iter().next().map(|k| k.display()).unwrap_or_default();
    let (mut name, mut before) = (String::new(), None);
    for c in first.trim().chars() {
        let starts = before.is_none_or(|b| matches!(b, '_' | '-'));
        match c {
            '_' | '-' => {}
            c if starts => name.extend(c.to_uppercase()),
            c if before.is_some_and(|b| b.is_lowercase()) => name.push(c),
            c => name.extend(c.to_lowercase()),
        }
        before = Some(c);
    }
    format!("type conversion error, no such field '{name}' in type '{}'", to.trim_start_matches('*'))
}

/// Numbers as bytes: a list is assigned element by element.
fn bytes(list: &List<'_>) -> Held {
    let byte = |v: Val<'_>| match v {
        Val::Uint(u) => u8::try_from(u).map_err(|_| "unsigned integer overflow".to_owned()),
        other => Err(unsupported(&other, "uint8")),
    };
    let all = list.iter().map(|v| byte(v.map_err(|e| e.to_string())?));
    Ok(Val::Bytes(all.collect::<Result<Vec<u8>, _>>()?.into()))
}

fn list_json(list: &List<'_>) -> Held {
    let items = list.iter().map(|v| json(&v.map_err(|e| e.to_string())?));
    Ok(Val::list(items.collect::<Result<_, _>>()?))
}

fn map_json(map: &Map<'_>) -> Held {
    let mut out = MapBuilder::default();
    for key in map.keys() {
        let Some(value) = map.find(&key) else { continue };
        out.set(string(&key)?, json(&value.map_err(|e| e.to_string())?)?);
    }
    Ok(out.build())
}

/// The largest whole number a JSON number holds for sure.
const SAFE: u64 = (1 << 53) - 1;

/// The value as `google.protobuf.Value` holds it, read back.
fn json(v: &Val<'_>) -> Held {
    Ok(match v {
        Val::Null => Val::Null,
        Val::Bool(b) => Val::Bool(*b),
        Val::Int(i) if i.unsigned_abs() <= SAFE => Val::Double(*i as f64),
        Val::Int(i) => Val::str(i.to_string()),
        Val::Uint(u) if *u <= SAFE => Val::Double(*u as f64),
        Val::Uint(u) => Val::str(u.to_string()),
        Val::Double(d) => Val::Double(*d),
        Val::Str(s) => Val::str(&**s),
        Val::Bytes(b) => Val::str(machinery::golang::encode_base64(b)),
        Val::Duration(_) | Val::Timestamp(_) => {
            let text = v.convert(&Type::String).map_err(|e| e.to_string())?;
            Val::str(text.as_str().unwrap_or_default())
        }
        Val::List(list) if !list.is_typed_tree() => list_json(list)?,
        Val::Map(map) if !map.is_typed_tree() => map_json(map)?,
        Val::Optional(Some(inner)) => json(inner)?,
        Val::Made(made) if !made.is_patch() => read(&v.to_json()?),
        Val::Object(o) => match o.as_any().downcast_ref::<Message>() {
            Some(message) => message.to_json(),
            None => return Err(unsupported(v, Native::Value.go_type())),
        },
        other => return Err(unsupported(other, Native::Value.go_type())),
    })
}

/// A tree as `google.protobuf.Value` has it: all numbers are floats.
fn read(tree: &machinery::Value) -> Val<'static> {
    use machinery::Value;
    match tree {
        Value::Null => Val::Null,
        Value::Bool(b) => Val::Bool(*b),
        Value::Int(i) => Val::Double(*i as f64),
        Value::Float(d) => Val::Double(*d),
        Value::Str(s) => Val::str(s.as_str()),
        Value::List(items) => Val::list(items.iter().map(read).collect()),
        Value::Map(map) => {
            let mut out = MapBuilder::default();
            for (name, value) in map {
                out.set(Val::str(name.as_str()), read(value));
            }
            out.build()
        }
        _ => Val::Null,
    }
}
