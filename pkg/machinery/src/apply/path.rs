//! Paths to fields and items.

use super::value::{compare, to_text};
use crate::value::{Str, Value};
use std::cmp::Ordering;
use std::fmt;

/// One step from a container to what it holds.
#[derive(Clone, Debug)]
pub enum PathElement {
    /// A field of a struct or an entry of a map.
    Field(Str),
    /// The item of an associative list with these key fields, sorted by name.
    Key(Vec<(Str, Value)>),
    /// The item of a set that has this value.
    Value(Value),
    /// The item of an atomic list at this position.
    Index(i64),
}

/// A path from the root of an object.
pub type Path = [PathElement];

impl PathElement {
    fn rank(&self) -> u8 {
        match self {
            PathElement::Field(_) => 0,
            PathElement::Key(_) => 1,
            PathElement::Value(_) => 2,
            PathElement::Index(_) => 3,
        }
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (PathElement::Field(a), PathElement::Field(b)) => a.as_bytes().cmp(b.as_bytes()),
            (PathElement::Key(a), PathElement::Key(b)) => {
                let pair = |(x, y): (&(Str, Value), &(Str, Value))| {
                    x.0.as_bytes().cmp(y.0.as_bytes()).then_with(|| compare(&x.1, &y.1))
                };
                let order = a.iter().zip(b).map(pair).find(|o| o.is_ne());
                order.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (PathElement::Value(a), PathElement::Value(b)) => compare(a, b),
            (PathElement::Index(a), PathElement::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for PathElement {}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(f, ".{name}"),
            PathElement::Key(keys) => {
                let parts: Vec<_> = keys.iter().map(|(k, v)| format!("{k}={}", to_text(v))).collect();
                write!(f, "[{}]", parts.join(","))
            }
            PathElement::Value(v) => write!(f, "[={}]", to_text(v)),
            PathElement::Index(i) => write!(f, "[{i}]"),
        }
    }
}

/// The text of a path: `.spec.containers[name="a"].image`.
pub fn display(path: &Path) -> String {
    path.iter().map(PathElement::to_string).collect()
}
