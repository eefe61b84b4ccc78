//! Made objects and other values as trees.
//!
//! Upstream goes through Go's own values on the way, which loses some types: an object's field that is a list or a
//! map of literals must hold plain values or objects, not further literals (objects.go `convertField`). What
//! upstream cannot write is an error here too.

use super::Made;
use crate::eval::EvalError;
use crate::library::quantity::QuantityVal;
use crate::val::{List, Map, Res, Val};
use crate::well_known;
use machinery::{Str, Value};

/// What a failed conversion says.
type Tree = Result<Value, String>;

/// How whole numbers come out.
#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    Exact,
    /// As JSON numbers, which are floats.
    Floats,
}

/// The largest whole number a JSON number holds for sure.
const SAFE: i64 = (1 << 53) - 1;

impl<'a> Made<'a> {
    /// The object's fields, as a configuration to apply.
    pub fn to_tree(&self) -> Tree {
        self.tree(Numbers::Exact)
    }

    fn tree(&self, numbers: Numbers) -> Tree {
        if self.is_patch() {
            return Err("proto: invalid type: *mutation.JSONPatchVal".into());
        }
        let mut out = machinery::Map::default();
        for (name, value) in &self.fields {
            let value = field(value, numbers).map_err(|e| match e.starts_with("proto:") {
                true => e,
                false => format!("fail to convert field {name:?}: {e}"),
            })?;
            out.insert(name.clone(), value);
        }
        Ok(Value::Map(out))
    }
}

fn invalid(v: &Val<'_>) -> String {
    format!("proto: invalid type: {}", v.native_type())
}

fn number(d: f64) -> Tree {
    if !d.is_finite() {
        let name = if d.is_nan() {
            "NaN"
        } else if d > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        };
        let at = "json: error calling MarshalJSON for type *structpb.Value: proto: google.protobuf.Value.number_value";
        return Err(format!("{at}: invalid {name} value"));
    }
    let whole = d.fract() == 0.0 && d.abs() < 9.2e18;
    Ok(if whole { Value::Int(d as i64) } else { Value::Float(d) })
}

/// An object's field.
fn field(v: &Val<'_>, numbers: Numbers) -> Tree {
    match v {
        Val::List(list) if list.is_literal() => each(list, |item| native(item, numbers)),
        Val::List(list) => each(list, |item| field(item, numbers)),
        Val::Map(map) => entries(map, text_name, |value| match map.is_computed() {
            true => native(value, numbers),
            false => field(value, numbers),
        }),
        other => native(other, numbers),
    }
}

/// What Go's value of it is as a tree.
fn native(v: &Val<'_>, numbers: Numbers) -> Tree {
    let exact = numbers == Numbers::Exact;
    Ok(match v {
        Val::Bool(b) => Value::Bool(*b),
        Val::Int(i) if exact => Value::Int(*i),
        Val::Uint(u) if exact => i64::try_from(*u).map_or(Value::Float(*u as f64), Value::Int),
        Val::Double(d) if exact => Value::Float(*d),
        Val::Int(i) => number(*i as f64)?,
        Val::Uint(u) => number(*u as f64)?,
        Val::Double(d) => number(*d)?,
        Val::Str(s) => Value::Str(Str::from(&**s)),
        Val::Bytes(b) if !exact => base64(b),
        Val::Type(t) => Value::Str(t.runtime_name().into()),
        Val::Optional(Some(inner)) => native(inner, numbers)?,
        Val::Optional(None) => Value::Null,
        Val::Made(made) => made.tree(numbers)?,
        Val::List(list) if !list.is_literal() => each(list, |item| native(item, numbers))?,
        Val::Map(map) if !map.is_computed() => entries(map, text_name, |value| native(value, numbers))?,
        // Within a tree a null is one, unlike the literal.
        Val::Unknown(v) => (*v).clone(),
        other => return Err(invalid(other)),
    })
}

/// A key as a name.
fn text_name(key: &Val<'_>) -> Result<Str, String> {
    let unnamed = || format!("map key {:?} is of type {}, not string", key.display(), key.go_type());
    key.as_str().map(Str::from).ok_or_else(unnamed)
}

/// A key as a name, where whatever becomes a string is one.
fn name(key: &Val<'_>) -> Result<Str, String> {
    well_known::text(key).map(|name| name.as_str().unwrap_or_default().into())
}

fn base64(bytes: &[u8]) -> Value {
    Value::Str(machinery::golang::encode_base64(bytes).into())
}

fn each(list: &List<'_>, of: impl Fn(&Val<'_>) -> Tree) -> Tree {
    let mut out = Vec::with_capacity(list.len());
    for item in list.iter() {
        out.push(match item.map_err(|e| e.to_string())? {
            Val::Null if list.is_tree() => Value::Null,
            item => of(&item)?,
        });
    }
    Ok(Value::from(out))
}

fn entries(map: &Map<'_>, name: fn(&Val<'_>) -> Result<Str, String>, of: impl Fn(&Val<'_>) -> Tree) -> Tree {
    let mut out = machinery::Map::default();
    for key in map.keys() {
        let Some(value) = map.find(&key) else { continue };
        let name = name(&key)?;
        let value = match value.map_err(|e| e.to_string())? {
            Val::Null if !map.is_computed() => Value::Null,
            value => of(&value)?,
        };
        out.insert(name, value);
    }
    Ok(Value::Map(out))
}

impl<'a> Val<'a> {
    /// The value as JSON, as a JSON Patch takes it (json_patch.go `evaluatePatchExpression`): whole numbers beyond
    /// what a float holds become strings.
    pub fn to_json(&self) -> Tree {
        Ok(match self {
            Val::Null => Value::Null,
            Val::Bool(b) => Value::Bool(*b),
            Val::Int(i) if (-SAFE..=SAFE).contains(i) => Value::Int(*i),
            Val::Int(i) => Value::Str(i.to_string().into()),
            Val::Uint(u) if *u <= SAFE as u64 => Value::Int(*u as i64),
            Val::Uint(u) => Value::Str(u.to_string().into()),
            Val::Double(d) => number(*d)?,
            Val::Str(s) => Value::Str(Str::from(&**s)),
            Val::Bytes(b) => base64(b),
            Val::Duration(d) => Value::Str(protobuf_duration(*d).into()),
            Val::Timestamp(t) => Value::Str(t.format(t.offset).into()),
            Val::List(list) => each(list, |v| v.to_json())?,
            Val::Map(map) => entries(map, name, |v| v.to_json())?,
            Val::Optional(Some(inner)) => inner.to_json()?,
            Val::Optional(None) => return Err("optional.none() dereference".into()),
            Val::Type(_) => return Err("type conversion not supported for 'type'".into()),
            Val::Made(made) if made.is_patch() => {
                return Err("cannot convert to native type: *structpb.Value".into());
            }
            Val::Made(made) => made.tree(Numbers::Floats)?,
            Val::Object(o) if o.is_message() => {
                let mut map = machinery::Map::default();
                for (name, value) in o.fields() {
                    map.insert(name, value.to_json()?);
                }
                Value::Map(map)
            }
            Val::Object(o) => {
                let name = o.type_name().rsplit('.').next().unwrap_or_default();
                return Err(format!("type conversion error from '{name}' to '*structpb.Value'"));
            }
            Val::Unknown(v) => (*v).clone(),
        })
    }

    /// Whether a field of an object can be read at all: its maps have strings for keys.
    pub(super) fn has_text_keys(&self) -> bool {
        match self {
            Val::Map(map) => map.keys().iter().all(|k| k.as_str().is_some()),
            Val::Made(made) => made.fields.iter().all(|(_, v)| v.has_text_keys()),
            _ => true,
        }
    }

    /// The value that reading an object's field gives, by way of Go's own value.
    pub(super) fn as_field(&self) -> Res<'a> {
        match self {
            Val::Made(made) if !made.is_patch() => made.as_map(),
            Val::Type(t) => Ok(Val::str(t.runtime_name())),
            Val::Optional(Some(inner)) => inner.as_field(),
            Val::Optional(None) => Ok(Val::Null),
            Val::Object(o) if !o.is_message() => Err(EvalError::new(format!(
                "unsupported conversion to ref.Val: ({}){}",
                self.native_type(),
                self.as_object::<QuantityVal>().map(|q| q.0.to_string()).or(o.text()).unwrap_or_default()
            ))),
            Val::List(list) if !list.is_tree() => {
                list.iter().map(|v| v?.as_field()).collect::<Result<_, _>>().map(Val::list)
            }
            other => Ok(other.clone()),
        }
    }

    /// The name of the Go type of the value without upstream's wrapper.
    pub(crate) fn native_type(&self) -> &'static str {
        match self {
            Val::Null => "structpb.NullValue",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int64",
            Val::Uint(_) => "uint64",
            Val::Double(_) => "float64",
            Val::Str(_) | Val::Type(_) => "string",
            Val::Bytes(_) => "[]uint8",
            Val::Duration(_) => "time.Duration",
            Val::Timestamp(_) => "time.Time",
            Val::List(l) if l.is_literal() => "[]ref.Val",
            Val::List(_) => "[]interface {}",
            Val::Map(m) if m.is_computed() => "map[ref.Val]ref.Val",
            Val::Map(_) => "map[string]interface {}",
            Val::Optional(Some(inner)) => inner.native_type(),
            Val::Optional(None) => "<nil>",
            Val::Made(made) if made.is_patch() => "*mutation.JSONPatchVal",
            Val::Made(_) => "map[string]interface {}",
            Val::Object(o) => match o.type_name() {
                "kubernetes.Quantity" => "*resource.Quantity",
                "kubernetes.URL" => "*url.URL",
                "kubernetes.Semver" => "semver.Version",
                "net.IP" => "netip.Addr",
                "net.CIDR" => "netip.Prefix",
                _ if o.is_message() => "*dynamicpb.Message",
                _ => "ref.Val",
            },
            Val::Unknown(_) => "interface {}",
        }
    }
}

/// As protocol buffers' JSON has it: seconds with three, six or nine decimals, or none.
fn protobuf_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, rest) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let decimals = format!("{rest:09}");
    let shown = match rest {
        0 => String::new(),
        r if r % 1_000_000 == 0 => format!(".{}", &decimals[..3]),
        r if r % 1_000 == 0 => format!(".{}", &decimals[..6]),
        _ => format!(".{decimals}"),
    };
    format!("{sign}{seconds}{shown}s")
}
