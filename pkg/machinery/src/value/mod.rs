//! The generic object tree.
//!
//! A [`Value`] is JSON's data model with two refinements: integers stay apart from floats, and a subtree may be
//! kept as the JSON bytes it arrived in ([`Value::Raw`]). Everything else keeps its JSON form: byte strings are
//! base64 text, quantities and times are canonical text. One form for built-in kinds and custom resources
//! alike, so that patches, admission and expressions see one thing.
//!
//! Cost model: 24 bytes per node. Strings up to 24 bytes and all field names are stored in place. Lists and maps
//! are shared copy-on-write, so `clone` is O(1) and a change copies only the path to it.
//!
//! Depth: parsers refuse trees deeper than [`MAX_DEPTH`], so recursive walkers are safe on what they produce.
//! Dropping is safe at any depth. Code that grows trees from user input (patches) checks
//! [`Value::deeper_than`] afterwards.

mod convert;
mod de;
mod eq;
mod list;
mod map;
mod path;
mod ser;
mod share;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use convert::Number;
pub(crate) use de::{TreeDeserializer, ZERO_TIME};
pub use de::{from_value, from_value_owned, from_value_unowned};
pub use list::List;
pub use map::{Map, MapBuilder};
pub use path::PathError;
pub use ser::{Error, to_value};

/// A string of the tree. Up to 24 bytes are stored in place; `Str::const_new` borrows static text.
pub type Str = compact_str::CompactString;

/// The deepest nesting a parser of this crate lets into a tree.
///
/// Upstream's JSON reader stops at 10,000 levels. Ours stops earlier, with the same text, because recursive code
/// runs on 2 MiB stacks here; no real object comes near either figure.
pub const MAX_DEPTH: usize = 256;

/// One node of an object.
#[derive(Clone, Debug, Default)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    /// Never NaN nor infinite when it came out of a parser.
    Float(f64),
    Str(Str),
    /// Well-formed JSON kept byte for byte (RawExtension, FieldsV1, JSON of apiextensions).
    Raw(Arc<[u8]>),
    List(List),
    Map(Map),
}

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The integer, if this is one. Floats are not converted, not even whole ones.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(i) => Some(*i),
            _ => None,
        }
    }

    /// The number as a float, integers included.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(i) => Some(*i as f64),
            Value::Float(f) => Some(*f),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    pub fn as_raw(&self) -> Option<&Arc<[u8]>> {
        match self {
            Value::Raw(b) => Some(b),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&List> {
        match self {
            Value::List(l) => Some(l),
            _ => None,
        }
    }

    pub fn as_list_mut(&mut self) -> Option<&mut List> {
        match self {
            Value::List(l) => Some(l),
            _ => None,
        }
    }

    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(m) => Some(m),
            _ => None,
        }
    }

    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Value::Map(m) => Some(m),
            _ => None,
        }
    }

    /// The entry of a map; `None` for anything that is not a map.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.as_map_mut()?.get_mut(key)
    }

    /// Takes the value out and leaves `Null`.
    pub fn take(&mut self) -> Value {
        std::mem::take(self)
    }

    /// JSON's name of the value's type, as Go's decoder spells it in errors.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::Float(_) => "number",
            Value::Str(_) => "string",
            Value::List(_) => "array",
            Value::Map(_) => "object",
            Value::Raw(b) => raw_type_name(b),
        }
    }

    /// Whether nesting goes beyond `limit` levels. Visits no node below that.
    pub fn deeper_than(&self, limit: usize) -> bool {
        match self {
            Value::List(l) => limit == 0 || l.iter().any(|v| v.deeper_than(limit - 1)),
            Value::Map(m) => limit == 0 || m.values().any(|v| v.deeper_than(limit - 1)),
            _ => false,
        }
    }
}

fn raw_type_name(raw: &[u8]) -> &'static str {
    match raw.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'n') | None => "null",
        Some(_) => "number",
    }
}
