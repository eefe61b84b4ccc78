//! Why a patched tree is no object of its type, in the words of upstream's conversion from trees.
//!
//! Upstream goes from the tree straight to the object (`apimachinery/pkg/runtime/converter.go` `fromUnstructured`),
//! whose texts differ from those of decoding. Types with a JSON form of their own are left to decoding.

use crate::Value;
use crate::schema::{Field, Shape, TypeId, TypeTable};

/// What is wrong first, if it is a matter of form.
pub fn restore_error(table: &TypeTable, id: TypeId, tree: &Value) -> Option<String> {
    let Value::Map(map) = tree else {
        return kind(tree).map(|kind| format!("cannot restore struct from: {kind}"));
    };
    if table.get(id).choice.is_some() {
        return None;
    }
    table
        .fields(id)
        .find_map(|field| map.get(&field.name).and_then(|v| of_shape(table, field, field.shape, v)))
}

/// Go's kind of a value in a tree; none of null.
fn kind(value: &Value) -> Option<&'static str> {
    Some(match value {
        Value::Null | Value::Raw(_) => return None,
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::Str(_) => "string",
        Value::List(_) => "slice",
        Value::Map(_) => "map",
    })
}

fn of_shape(table: &TypeTable, field: &Field, shape: Shape, value: &Value) -> Option<String> {
    let kind = kind(value)?;
    match (shape, value) {
        (Shape::Struct(id), _) => restore_error(table, id, value),
        (Shape::Map(e), Value::Map(map)) => {
            map.iter().find_map(|(_, v)| of_shape(table, field, table.elem(e), v))
        }
        (Shape::Map(_), _) => Some(format!("cannot restore map from {kind}")),
        (Shape::List(e) | Shape::Wrapped(e), Value::List(list)) => {
            list.iter().find_map(|v| of_shape(table, field, table.elem(e), v))
        }
        (Shape::Bytes, Value::Str(_)) => None,
        (Shape::List(_) | Shape::Wrapped(_) | Shape::Bytes, _) => {
            Some(format!("cannot restore slice from {kind}"))
        }
        (Shape::String, _) => plain("string", field, value, kind),
        (Shape::Bool, _) => plain("bool", field, value, kind),
        (Shape::Int32, _) => plain("int32", field, value, kind),
        (Shape::Int64, _) => plain("int64", field, value, kind),
        (Shape::Double, _) => plain("float64", field, value, kind),
        _ => None,
    }
}

/// Numbers are converted where nothing is lost; Go would make a text of a number too, which is refused.
fn plain(wanted: &str, field: &Field, value: &Value, kind: &str) -> Option<String> {
    let number = matches!(wanted, "int32" | "int64" | "float64");
    match value {
        Value::Str(_) if wanted == "string" => None,
        Value::Bool(_) if wanted == "bool" => None,
        Value::Int(_) if number => None,
        Value::Float(n) if wanted == "float64" || (number && n.fract() == 0.0) => None,
        Value::Int(_) if wanted == "string" => {
            let name = field.extra().go_type.as_deref().unwrap_or(wanted).trim_start_matches(['*', '[', ']']);
            Some(format!("cannot convert {kind} to {name}"))
        }
        Value::Float(_) if number => Some(format!("cannot convert {kind} to {wanted}")),
        _ => Some(format!("unrecognized type: {wanted}")),
    }
}
