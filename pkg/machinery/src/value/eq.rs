//! Equality of trees.

use super::{List, Map, Value};

/// Exact equality: same types, same values; an integer differs from a float, `Null` from an absent entry.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Raw(a), Value::Raw(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl PartialEq for List {
    fn eq(&self, other: &List) -> bool {
        self.ptr_eq(other) || **self == **other
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Map) -> bool {
        self.ptr_eq(other) || (self.len() == other.len() && self.iter().eq(other.iter()))
    }
}

impl Value {
    /// Equality as upstream's `equality.Semantic.DeepEqual`: absent, null, empty list and empty map are one.
    ///
    /// Quantities and times compare as text, which is right for trees in canonical form.
    pub fn semantic_eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::List(a), Value::List(b)) => {
                a.ptr_eq(b) || (a.len() == b.len() && a.iter().zip(b.iter()).all(|(x, y)| x.semantic_eq(y)))
            }
            (Value::Map(a), Value::Map(b)) => {
                let covered = |x: &Map, y: &Map| {
                    x.iter().all(|(k, v)| match y.get(k) {
                        Some(w) => v.semantic_eq(w),
                        None => v.is_empty_container(),
                    })
                };
                let absent_empty =
                    |x: &Map, y: &Map| x.iter().all(|(k, v)| y.contains_key(k) || v.is_empty_container());
                a.ptr_eq(b) || (covered(a, b) && absent_empty(b, a))
            }
            (a, b) => (a.is_empty_container() && b.is_empty_container()) || a == b,
        }
    }

    fn is_empty_container(&self) -> bool {
        match self {
            Value::Null => true,
            Value::List(l) => l.is_empty(),
            Value::Map(m) => m.is_empty(),
            _ => false,
        }
    }
}
