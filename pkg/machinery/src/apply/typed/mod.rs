//! Walks of a value along its type: check, paths, compare, merge, remove, reconcile.
//!
//! Upstream: structured-merge-diff typed/. One file per walk; this one holds what they share.

mod added;
mod compare;
mod merge;
mod reconcile;
mod remove;
mod to_set;
mod validate;

use super::path::PathElement;
use super::schema::{Atom, List, Resolved, Schema, TypeRef};
use crate::golang::quote;
use crate::value::{Str, Value};

pub(super) use added::{Without, added};
pub use compare::{Comparison, compare};
pub use merge::merge;
pub(super) use reconcile::reconcile;
pub use remove::{extract, remove};
pub use to_set::to_set;
pub use validate::{Duplicates, validate, validate_changed};

/// What is wrong with a value, with the path to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: String,
    pub text: String,
}

/// The problems of a value, in upstream's wording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    fn of(text: impl Into<String>) -> Problems {
        Problems(vec![Problem { path: String::new(), text: text.into() }])
    }

    fn under(mut self, prefix: &PathElement) -> Problems {
        if !self.0.is_empty() {
            let prefix = prefix.to_string();
            for p in &mut self.0 {
                p.path.insert_str(0, &prefix);
            }
        }
        self
    }

    fn append(&mut self, mut other: Problems) {
        self.0.append(&mut other.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn into_result(self) -> Result<(), Problems> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let one =
            |p: &Problem| if p.path.is_empty() { p.text.clone() } else { format!("{}: {}", p.path, p.text) };
        match self.0.as_slice() {
            [p] => f.write_str(&one(p)),
            all => {
                f.write_str("errors:")?;
                all.iter().try_for_each(|p| write!(f, "\n  {}", one(p)))
            }
        }
    }
}

/// Which of an atom's types a value is taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Map,
    Scalar,
    List,
    /// The atom allows nothing.
    None,
}

/// The atom's type that fits the value and whether that was the value's own type. If none fits (null, absent,
/// wrong type), the atom as a whole is meant, which is handled as its first type: map, scalar, list.
fn choose(atom: &Atom, v: Option<&Value>) -> (Kind, bool) {
    let fits = match v {
        Some(Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_)) => {
            atom.scalar.is_some().then_some(Kind::Scalar)
        }
        Some(Value::List(_)) => atom.list.is_some().then_some(Kind::List),
        Some(Value::Map(_)) => atom.map.is_some().then_some(Kind::Map),
        _ => None,
    };
    let kinds = [
        (Kind::Map, atom.map.is_some()),
        (Kind::Scalar, atom.scalar.is_some()),
        (Kind::List, atom.list.is_some()),
    ];
    let mut present = kinds.iter().filter(|k| k.1);
    let first = present.next().map_or(Kind::None, |k| k.0);
    match fits {
        Some(kind) => (kind, true),
        // With a single type there is nothing to reduce.
        None => (first, present.next().is_none()),
    }
}

fn no_type(schema: &Schema, tr: TypeRef) -> Problems {
    let name = schema.name(tr).unwrap_or("inlined type");
    Problems::of(format!("schema error: no type found matching: {name}"))
}

fn invalid_atom(r: Resolved) -> Problems {
    match &r.atom.name {
        Some(name) => Problems::of(format!("schema error: invalid atom: named type: {name}")),
        None => Problems::of("schema error: invalid atom: inlined"),
    }
}

/// A field that its type neither declares nor allows has no type.
fn undeclared() -> Problems {
    Problems::of("schema error: invalid atom: inlined")
}

/// The element that names an item of an associative list.
fn item_element(schema: &Schema, list: &List, item: &Value) -> Result<PathElement, String> {
    if list.keys.is_empty() {
        return match item {
            Value::Map(_) => Err("associative list without keys has an element that's a map type".into()),
            Value::List(_) => Err("not supported: associative list with lists as elements".into()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            v => Ok(PathElement::Value(v.clone())),
        };
    }
    let m = match item {
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        Value::Map(m) => m,
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let mut keys: Vec<(Str, Value)> = Vec::with_capacity(list.keys.len());
    for name in &list.keys {
        if let Some(v) = m.get(name) {
            keys.push((name.clone(), v.clone()));
        } else if let Some(v) = key_default(schema, list, name)? {
            keys.push((name.clone(), v));
        }
    }
    if keys.is_empty() {
        let names: Vec<_> = list.keys.iter().map(|k| quote(k)).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(PathElement::Key(keys))
}

fn key_default(schema: &Schema, list: &List, name: &str) -> Result<Option<Value>, String> {
    let wrap = |e: &str| format!("couldn't find default value for {name}: {e}");
    let element = schema.resolve(list.element).ok_or_else(|| wrap("invalid elementType for list"))?;
    let map = element.atom.map.as_ref().ok_or_else(|| wrap("associative list may not have non-map types"))?;
    Ok(map.field(name).and_then(|f| f.default.clone()))
}

/// The items of a value that is a list; null and other types have none.
fn list_of(v: Option<&Value>) -> Option<&[Value]> {
    v.and_then(Value::as_list).map(|l| l.as_slice())
}
