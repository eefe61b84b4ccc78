//! Types of expressions, as the checker knows them.

use std::fmt;
use std::sync::Arc;

/// The most parts a type may have, a shared one counted each time.
const MAX_PARTS: u32 = 2_000;
/// The deepest a type may nest: twice what one literal can.
const MAX_NESTING: u32 = 500;

/// A type. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Any value; checked when evaluated.
    Dyn,
    /// `google.protobuf.Any`: dynamic too, and named so in errors.
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// The type of a type; of which one, if known.
    Type(Option<Arc<Type>>),
    /// An object with declared fields, by name.
    Struct(Arc<str>),
    /// A type that only functions look into, with parameters (`optional_type(int)`, `net.IP`).
    Opaque(Arc<str>, Arc<[Type]>),
    /// A primitive or null (`google.protobuf.StringValue` and its like).
    Nullable(Arc<Type>),
    /// Stands for a type to be found (`A` in `list(A)`).
    Param(Arc<str>),
    /// Of an expression with an error.
    Error,
}

impl Type {
    pub fn list(element: Type) -> Type {
        Type::List(Arc::new(element))
    }

    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new((key, value)))
    }

    pub fn optional(inner: Type) -> Type {
        Type::Opaque("optional_type".into(), Arc::new([inner]))
    }

    pub fn object(name: &str) -> Type {
        Type::Struct(name.into())
    }

    pub fn opaque(name: &str) -> Type {
        Type::Opaque(name.into(), Arc::new([]))
    }

    pub fn param(name: &str) -> Type {
        Type::Param(name.into())
    }

    pub(crate) fn type_of(inner: Type) -> Type {
        Type::Type(Some(Arc::new(inner)))
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Any)
    }

    pub(crate) fn is_error(&self) -> bool {
        matches!(self, Type::Error)
    }

    /// What an optional holds.
    pub(crate) fn unwrap_optional(&self) -> (&Type, bool) {
        match self {
            Type::Opaque(name, params) if &**name == "optional_type" && params.len() == 1 => {
                (&params[0], true)
            }
            other => (other, false),
        }
    }

    /// The name values of this type have at run time.
    pub fn runtime_name(&self) -> &str {
        match self {
            Type::Dyn => "dyn",
            Type::Any => "google.protobuf.Any",
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Duration => "google.protobuf.Duration",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::List(_) => "list",
            Type::Map(_) => "map",
            Type::Type(_) => "type",
            Type::Struct(name) | Type::Opaque(name, _) | Type::Param(name) => name,
            Type::Nullable(inner) => inner.runtime_name(),
            Type::Error => "error",
        }
    }

    pub(crate) fn parameters(&self) -> Vec<&Type> {
        match self {
            Type::List(e) => vec![e],
            Type::Map(kv) => vec![&kv.0, &kv.1],
            Type::Type(Some(t)) => vec![t],
            Type::Opaque(_, params) => params.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a value of `from` may stand where this type is wanted, without looking at type parameters' bindings.
    pub(crate) fn accepts(&self, from: &Type) -> bool {
        match self {
            Type::Dyn | Type::Any | Type::Param(_) => true,
            Type::Nullable(inner) => *from == Type::Null || inner.accepts(from),
            _ => {
                let same = std::mem::discriminant(self) == std::mem::discriminant(from.primitive());
                let (mine, theirs) = (self.parameters(), from.parameters());
                same && self.runtime_name() == from.runtime_name()
                    && mine.len() == theirs.len()
                    && mine.iter().zip(theirs).all(|(a, b)| a.accepts(b))
            }
        }
    }

    /// Whether it has more parts or nests deeper than checking has time and stack for.
    pub(crate) fn is_too_large(&self) -> bool {
        let mut parts = MAX_PARTS;
        !self.fits_in(&mut parts, MAX_NESTING)
    }

    fn fits_in(&self, parts: &mut u32, nesting: u32) -> bool {
        if *parts == 0 || nesting == 0 {
            return false;
        }
        *parts -= 1;
        match self {
            Type::List(t) | Type::Type(Some(t)) => t.fits_in(parts, nesting - 1),
            Type::Map(kv) => kv.0.fits_in(parts, nesting - 1) && kv.1.fits_in(parts, nesting - 1),
            Type::Opaque(_, params) => params.iter().all(|p| p.fits_in(parts, nesting - 1)),
            _ => true,
        }
    }

    pub(crate) fn primitive(&self) -> &Type {
        match self {
            Type::Nullable(inner) => inner,
            other => other,
        }
    }

    /// The same type, nullable or not (upstream's `IsExactType`).
    pub(crate) fn same(&self, other: &Type) -> bool {
        self.primitive() == other.primitive()
    }
}

/// As checker errors show it.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Any => return f.write_str("any"),
            Type::Duration => return f.write_str("duration"),
            Type::Timestamp => return f.write_str("timestamp"),
            Type::Null => return f.write_str("null"),
            Type::Error => return f.write_str("!error!"),
            Type::Nullable(inner) => return write!(f, "wrapper({})", inner.runtime_name()),
            _ => f.write_str(self.runtime_name())?,
        }
        let params = self.parameters();
        for (i, p) in params.iter().enumerate() {
            write!(f, "{}{p}", if i == 0 { "(" } else { ", " })?;
        }
        if params.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}
