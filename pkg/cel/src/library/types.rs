//! Types as values in expressions.

use crate::environment::Features;
use crate::types::Type;

/// The type a name stands for.
pub(crate) fn named(name: &str, features: &Features) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "int" => Type::Int,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "string" => Type::String,
        "type" => Type::Type(None),
        "uint" => Type::Uint,
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "optional_type" if features.optionals => Type::optional(Type::Dyn),
        "net.IP" | "net.CIDR" if features.addresses => Type::opaque(name),
        _ => return None,
    })
}
