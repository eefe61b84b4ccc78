//! Protocol buffers' well-known messages, which every environment knows: wrappers, `Struct`, `Value`, `ListValue`,
//! `Any`, `Duration`, `Timestamp`, `Empty` (cel-go common/types/pb/pb.go `init`).
//!
//! [`make`] builds one from the fields an expression gives and answers what stands for it: a number, a text, a list,
//! a map, null. Only `Empty` and an entry of a `Struct` stay messages. [`native`] turns values into what fields hold,
//! [`any`] reads what an `Any` packs. No other message is known, so none packed in an `Any` is either.

mod any;
mod message;
mod native;

use crate::eval::{EvalError, Res};
use crate::types::Type;
use crate::val::convert::plain_type;
use crate::val::{Timestamp, Val};
use machinery::Str;
pub(crate) use message::Message;
use native::Native;

/// The number of the only enumeration's only value, by its name.
pub(crate) const NULL_VALUE: &str = "google.protobuf.NullValue.NULL_VALUE";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    Duration,
    Timestamp,
    Empty,
    Struct,
    StructEntry,
    Value,
    ListValue,
    /// A wrapper of a primitive.
    Wrapper(Native),
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name.strip_prefix("google.protobuf.")? {
        "Any" => Kind::Any,
        "Duration" => Kind::Duration,
        "Timestamp" => Kind::Timestamp,
        "Empty" => Kind::Empty,
        "Struct" => Kind::Struct,
        "Struct.FieldsEntry" => Kind::StructEntry,
        "Value" => Kind::Value,
        "ListValue" => Kind::ListValue,
        "BoolValue" => Kind::Wrapper(Native::Bool),
        "BytesValue" => Kind::Wrapper(Native::Bytes),
        "DoubleValue" => Kind::Wrapper(Native::Float64),
        "FloatValue" => Kind::Wrapper(Native::Float32),
        "Int32Value" => Kind::Wrapper(Native::Int32),
        "Int64Value" => Kind::Wrapper(Native::Int64),
        "StringValue" => Kind::Wrapper(Native::String),
        "UInt32Value" => Kind::Wrapper(Native::Uint32),
        "UInt64Value" => Kind::Wrapper(Native::Uint64),
        _ => return None,
    })
}

/// What the checker takes a message for (cel-go common/types/types.go `NewObjectType`).
pub(crate) fn type_named(name: &str) -> Option<Type> {
    Some(match kind(name)? {
        Kind::Any => Type::Any,
        Kind::Duration => Type::Duration,
        Kind::Timestamp => Type::Timestamp,
        Kind::Struct => Type::map(Type::String, Type::Dyn),
        Kind::Value => Type::Dyn,
        Kind::ListValue => Type::list(Type::Dyn),
        Kind::Wrapper(native) => Type::Nullable(native.cel_type().into()),
        Kind::Empty | Kind::StructEntry => Type::object(name),
    })
}

/// Whether values can be of the message's own type, so that its name is a value as well.
pub(crate) fn is_value_type(name: &str) -> bool {
    matches!(kind(name), Some(Kind::Empty | Kind::StructEntry | Kind::Duration | Kind::Timestamp))
}

/// The message that a type made by its name is (cel-go checker/checker.go `getWellKnownTypeName`).
pub(crate) fn message_of(t: &Type) -> Option<&'static str> {
    Some(match t {
        Type::Any => "google.protobuf.Any",
        Type::Dyn => "google.protobuf.Value",
        Type::Null => "google.protobuf.NullValue",
        Type::Duration => "google.protobuf.Duration",
        Type::Timestamp => "google.protobuf.Timestamp",
        Type::List(element) if **element == Type::Dyn => "google.protobuf.ListValue",
        Type::Map(kv) if kv.0 == Type::String && kv.1 == Type::Dyn => "google.protobuf.Struct",
        Type::Nullable(inner) => match &**inner {
            Type::Bool => "google.protobuf.BoolValue",
            Type::Bytes => "google.protobuf.BytesValue",
            Type::Double => "google.protobuf.DoubleValue",
            Type::Int => "google.protobuf.Int64Value",
            Type::String => "google.protobuf.StringValue",
            Type::Uint => "google.protobuf.UInt64Value",
            _ => return None,
        },
        _ => return None,
    })
}

/// What a message's field holds.
fn field(kind: Kind, name: &str) -> Option<Native> {
    Some(match (kind, name) {
        (Kind::Any, "type_url") | (Kind::StructEntry, "key") | (Kind::Value, "string_value") => {
            Native::String
        }
        (Kind::Any, "value") => Native::Bytes,
        (Kind::Duration | Kind::Timestamp, "seconds") => Native::Int64,
        (Kind::Duration | Kind::Timestamp, "nanos") => Native::Int32,
        (Kind::Struct, "fields") => Native::Entries,
        (Kind::StructEntry, "value") => Native::Value,
        (Kind::Value, "null_value") => Native::Enum,
        (Kind::Value, "number_value") => Native::Float64,
        (Kind::Value, "bool_value") => Native::Bool,
        (Kind::Value, "struct_value") => Native::Struct,
        (Kind::Value, "list_value") => Native::ListValue,
        (Kind::ListValue, "values") => Native::Values,
        (Kind::Wrapper(native), "value") => native,
        _ => return None,
    })
}

/// A field's type.
pub(crate) fn field_type(message: &str, name: &str) -> Option<Type> {
    Some(field(kind(message)?, name)?.cel_type())
}

/// Makes a message; `None` if there is none of that name. Of fields that exclude each other the last counts, where
/// upstream goes through them in any order.
pub(crate) fn make<'a>(message: &str, fields: &[(Str, Val<'a>)]) -> Option<Res<'a>> {
    let kind = kind(message)?;
    Some(set(message, kind, fields).map_err(EvalError::new).and_then(|fields| build(kind, &fields)))
}

/// A field as it is held.
type Field = (Str, Val<'static>);

fn set(message: &str, kind: Kind, fields: &[(Str, Val<'_>)]) -> Result<Vec<Field>, String> {
    let mut out = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let native = field(kind, name).ok_or_else(|| format!("no such field: {name}"))?;
        let held = native.of(value).map_err(|e| match e {
            native::Error::Shape => {
                let shown = plain_type(&value.type_value());
                format!("unsupported field type for {message}.{name}: {shown}")
            }
            native::Error::Conversion(e) => {
                format!("field type conversion error for {message}.{name} value type: {e}")
            }
        })?;
        out.push((name.clone(), held));
    }
    Ok(out)
}

fn get(fields: &[Field], name: &str) -> Option<Val<'static>> {
    fields.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.clone())
}

fn whole(fields: &[Field], name: &str) -> i64 {
    get(fields, name).as_ref().and_then(Val::as_i64).unwrap_or(0)
}

/// What stands for a message whose fields are set.
fn build<'a>(kind: Kind, fields: &[Field]) -> Res<'a> {
    Ok(match kind {
        Kind::Any => return any::unpack(fields),
        Kind::Duration => Val::Duration(duration(whole(fields, "seconds"), whole(fields, "nanos"))),
        Kind::Timestamp => Val::Timestamp(timestamp(whole(fields, "seconds"), whole(fields, "nanos"))),
        Kind::Empty => Val::object(Message::empty(Vec::new())),
        Kind::StructEntry => Val::object(Message::entry(get(fields, "key"), get(fields, "value"))),
        Kind::Struct => get(fields, "fields").unwrap_or_else(|| crate::val::MapBuilder::default().build()),
        Kind::ListValue => get(fields, "values").unwrap_or_else(|| Val::list(Vec::new())),
        Kind::Value => match fields.last() {
            Some((name, _)) if *name == "null_value" => Val::Null,
            Some((_, value)) => value.clone(),
            None => Val::Null,
        },
        Kind::Wrapper(native) => get(fields, "value").unwrap_or_else(|| native.zero()),
    })
}

/// A value as Go's string, or why it is none.
pub(crate) fn text(v: &Val<'_>) -> Result<Val<'static>, String> {
    native::string(v)
}

/// Nanoseconds of seconds and nanoseconds, the furthest that can be told if they are too many (Go durationpb
/// `AsDuration`).
fn duration(seconds: i64, nanos: i64) -> i64 {
    let sum = seconds.checked_mul(1_000_000_000).and_then(|sum| sum.checked_add(nanos));
    sum.unwrap_or(if seconds < 0 { i64::MIN } else { i64::MAX })
}

/// A time of any year, also of those that texts cannot tell.
fn timestamp(seconds: i64, nanos: i64) -> Timestamp {
    let seconds = seconds.wrapping_add(nanos.div_euclid(1_000_000_000));
    Timestamp::utc(seconds, nanos.rem_euclid(1_000_000_000) as u32)
}
