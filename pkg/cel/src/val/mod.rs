//! Values an expression works on.
//!
//! A [`Val`] borrows what it can: strings, lists and maps of an object tree stay where they are, and so do the
//! constants of the program. What is computed is shared by reference count, so cloning is cheap everywhere.
//!
//! [`tree`] gives object trees their meaning, with a schema or without; [`ops`] has arithmetic and comparison,
//! [`convert`] conversions.

pub(crate) mod bulk;
pub(crate) mod convert;
pub(crate) mod equal;
mod list;
pub(crate) mod made;
pub(crate) mod map;
pub(crate) mod object;
pub(crate) mod ops;
mod show;
pub(crate) mod time;
pub(crate) mod tree;

use crate::eval::EvalError;
use crate::types::Type;
use crate::well_known::Message;
use std::sync::Arc;

pub use list::List;
pub use made::Made;
pub use map::{Lazy, Map, MapBuilder};
pub use object::Object;
pub use time::Timestamp;

/// A value, or why there is none.
pub type Res<'a> = Result<Val<'a>, EvalError>;

/// Text, borrowed or shared.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    Ref(&'a str),
    Own(Arc<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        match self {
            Text::Ref(s) => s,
            Text::Own(s) => s,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(Text<'a>),
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Val<'a>>>),
    Type(Arc<Type>),
    /// A value only functions look into.
    Object(Arc<dyn Object>),
    /// A tree node a schema says nothing about; only comparison works on it.
    Unknown(&'a machinery::Value),
    /// An object the expression made.
    Made(Arc<Made<'a>>),
}

impl<'a> Val<'a> {
    /// The value of a tree's node as its schema has it; as it is where there is none.
    pub fn of_tree(value: &'a machinery::Value, schema: Option<&'a crate::Schema>) -> Res<'a> {
        tree::typed(value, schema)
    }

    pub fn str(text: impl Into<Arc<str>>) -> Val<'a> {
        Val::Str(Text::Own(text.into()))
    }

    pub fn object(value: impl Object + 'static) -> Val<'a> {
        Val::Object(Arc::new(value))
    }

    pub fn list(items: Vec<Val<'a>>) -> Val<'a> {
        Val::List(List::from(items))
    }

    pub fn strings<S: Into<Arc<str>>>(items: impl IntoIterator<Item = S>) -> Val<'a> {
        Val::list(items.into_iter().map(Val::str).collect())
    }

    pub fn some(value: Val<'a>) -> Val<'a> {
        Val::Optional(Some(Arc::new(value)))
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Val::Str(s) => Some(s),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Val::Bool(b) => Some(*b),
            _ => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Val::Int(i) => Some(*i),
            _ => None,
        }
    }

    /// The object inside, if it is a `T`.
    pub fn as_object<T: Object + 'static>(&self) -> Option<&T> {
        match self {
            Val::Object(o) => o.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// The object the expression made, if it is one.
    pub fn as_made(&self) -> Option<&Made<'a>> {
        match self {
            Val::Made(made) => Some(made),
            _ => None,
        }
    }

    /// The name of the value's type.
    pub fn type_name(&self) -> &str {
        match self {
            Val::Null => "null_type",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::Uint(_) => "uint",
            Val::Double(_) => "double",
            Val::Str(_) => "string",
            Val::Bytes(_) => "bytes",
            Val::Duration(_) => "google.protobuf.Duration",
            Val::Timestamp(_) => "google.protobuf.Timestamp",
            Val::List(_) => "list",
            Val::Map(_) => "map",
            Val::Optional(_) => "optional_type",
            Val::Type(_) => "type",
            Val::Object(o) => o.type_name(),
            Val::Unknown(_) => "unknown",
            Val::Made(made) => made.type_name(),
        }
    }

    /// What `type(value)` is.
    pub fn type_value(&self) -> Type {
        match self {
            Val::Null => Type::Null,
            Val::Bool(_) => Type::Bool,
            Val::Int(_) => Type::Int,
            Val::Uint(_) => Type::Uint,
            Val::Double(_) => Type::Double,
            Val::Str(_) => Type::String,
            Val::Bytes(_) => Type::Bytes,
            Val::Duration(_) => Type::Duration,
            Val::Timestamp(_) => Type::Timestamp,
            Val::List(_) => Type::list(Type::Dyn),
            Val::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Val::Optional(_) => Type::optional(Type::Dyn),
            Val::Type(_) => Type::Type(None),
            Val::Object(o) => o.type_value(),
            Val::Unknown(_) => Type::opaque("unknown"),
            Val::Made(made) => Type::type_of(Type::object(made.type_name())),
        }
    }

    /// `size()`: code points, bytes or elements. `None` for what has no size.
    pub fn size(&self) -> Option<u64> {
        Some(match self {
            Val::Str(s) => chars(s) as u64,
            Val::Bytes(b) => b.len() as u64,
            Val::List(l) => l.len() as u64,
            Val::Map(m) => m.len() as u64,
            Val::Object(o) => return o.size(),
            _ => return None,
        })
    }

    /// Whether `optional.ofNonZeroValue` takes it for nothing.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Val::Null => true,
            Val::Bool(b) => !b,
            Val::Int(i) => *i == 0,
            Val::Uint(u) => *u == 0,
            Val::Double(d) => *d == 0.0,
            Val::Str(s) => s.is_empty(),
            Val::Bytes(b) => b.is_empty(),
            Val::Duration(d) => *d == 0,
            Val::Timestamp(t) => t.instant().is_zero(),
            Val::List(l) => l.is_empty() && !l.is_typed_tree(),
            Val::Map(m) => m.is_empty() && !m.is_typed_tree(),
            Val::Made(made) => made.is_empty() && !made.is_patch(),
            Val::Object(_) => self.as_object::<Message>().is_some_and(Message::is_zero),
            _ => false,
        }
    }
}

fn chars(s: &str) -> usize {
    if s.is_ascii() { s.len() } else { s.chars().count() }
}

impl From<bool> for Val<'_> {
    fn from(b: bool) -> Self {
        Val::Bool(b)
    }
}

impl From<i64> for Val<'_> {
    fn from(i: i64) -> Self {
        Val::Int(i)
    }
}

impl From<String> for Val<'_> {
    fn from(s: String) -> Self {
        Val::str(s)
    }
}

impl<'a> From<&'a str> for Val<'a> {
    fn from(s: &'a str) -> Self {
        Val::Str(Text::Ref(s))
    }
}
