//! Order, equality and text of values in paths and comparisons.
//!
//! Upstream: structured-merge-diff value/value.go. Numbers compare by value, whether integer or float.

use crate::golang::quote;
use crate::patch::show::float;
use crate::value::{Map, Value};
use std::borrow::Cow;
use std::cmp::Ordering;

/// The value, with raw JSON parsed.
pub(super) fn open(v: &Value) -> Cow<'_, Value> {
    match v {
        Value::Raw(raw) => Cow::Owned(crate::json::parse(raw).unwrap_or_default()),
        v => Cow::Borrowed(v),
    }
}

/// Whether both are the very same memory or bytes: then nothing differs under them.
pub(super) fn shared(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Map(a), Value::Map(b)) => a.ptr_eq(b),
        (Value::List(a), Value::List(b)) => a.ptr_eq(b),
        (Value::Raw(a), Value::Raw(b)) => a == b,
        _ => false,
    }
}

fn rank(v: &Value) -> u8 {
    match v {
        Value::Int(_) | Value::Float(_) => 0,
        Value::Str(_) => 1,
        Value::Bool(_) => 2,
        Value::List(_) => 3,
        Value::Map(_) | Value::Raw(_) => 4,
        Value::Null => 5,
    }
}

/// A total order: numbers, strings, booleans, lists, maps, null.
pub(super) fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Value::Str(a), Value::Str(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::List(a), Value::List(b)) => {
            let order = a.iter().zip(b.iter()).map(|(x, y)| compare(x, y)).find(|o| o.is_ne());
            order.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Map(a), Value::Map(b)) => compare_maps(a, b),
        (Value::Raw(_), _) | (_, Value::Raw(_)) => {
            let (a, b) = (open(a), open(b));
            if matches!((&*a, &*b), (Value::Raw(_), _) | (_, Value::Raw(_))) {
                return Ordering::Equal;
            }
            compare(&a, &b)
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

fn compare_maps(a: &Map, b: &Map) -> Ordering {
    let entry = |(x, y): ((&crate::Str, &Value), (&crate::Str, &Value))| {
        x.0.as_bytes().cmp(y.0.as_bytes()).then_with(|| compare(x.1, y.1))
    };
    let order = a.iter().zip(b.iter()).map(entry).find(|o| o.is_ne());
    order.unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// Whether two values are the same; shared subtrees are not visited.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::List(a), Value::List(b)) => {
            a.ptr_eq(b) || (a.len() == b.len() && a.iter().zip(b.iter()).all(|(x, y)| equal(x, y)))
        }
        (Value::Map(a), Value::Map(b)) => {
            let same =
                |((k, x), (l, y)): ((&crate::Str, &Value), (&crate::Str, &Value))| k == l && equal(x, y);
            a.ptr_eq(b) || (a.len() == b.len() && a.iter().zip(b.iter()).all(same))
        }
        (Value::Raw(x), Value::Raw(y)) if x == y => true,
        _ => compare(a, b).is_eq(),
    }
}

/// The text of a value in a path.
pub(super) fn to_text(v: &Value) -> String {
    match v {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Float(f) => float(*f),
        Value::Str(s) => quote(s),
        Value::List(l) => format!("[{}]", l.iter().map(to_text).collect::<Vec<_>>().join(",")),
        Value::Map(m) => m.iter().map(|(k, v)| format!("{k}={}", to_text(v))).collect(),
        Value::Raw(_) => match &*open(v) {
            Value::Raw(_) => String::new(),
            v => to_text(v),
        },
    }
}

/// A value as Go prints upstream's wrapper of it with `%v`.
pub(super) fn go_value(v: &Value) -> String {
    format!("&{{{}}}", crate::patch::show::display(v))
}

/// A value as Go prints upstream's wrapper of it with `%#v`.
pub(super) fn go_syntax(v: &Value) -> String {
    format!("&value.valueUnstructured{{Value:{}}}", go_literal(v))
}

fn go_literal(v: &Value) -> String {
    match v {
        Value::Null => "interface {}(nil)".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Float(f) => float(*f),
        Value::Str(s) => quote(s),
        Value::List(l) => {
            format!("[]interface {{}}{{{}}}", l.iter().map(go_literal).collect::<Vec<_>>().join(", "))
        }
        Value::Map(m) => {
            let members: Vec<_> = m.iter().map(|(k, v)| format!("{}:{}", quote(k), go_literal(v))).collect();
            format!("map[string]interface {{}}{{{}}}", members.join(", "))
        }
        Value::Raw(_) => match &*open(v) {
            Value::Raw(_) => String::new(),
            v => go_literal(v),
        },
    }
}

/// The Go type of a decoded value, as `%T` prints it.
pub(super) fn go_type(v: &Value) -> &'static str {
    match v {
        Value::Null => "<nil>",
        v => crate::patch::show::go_type(v),
    }
}
