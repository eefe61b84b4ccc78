//! Checks a value against its type.

use super::{Kind, Problems, choose, invalid_atom, item_element, no_type};
use crate::apply::path::PathElement;
use crate::apply::schema::{List, Map, Resolved, Scalar, Schema, TypeRef};
use crate::apply::value::{go_syntax, go_type, go_value, open, shared};
use crate::value::Value;
use std::collections::BTreeSet;

/// Whether items of associative lists may repeat: they may in stored objects, not in applied ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    Allowed,
    Refused,
}

/// Answers every violation of the type.
pub fn validate(schema: &Schema, tr: TypeRef, v: &Value, duplicates: Duplicates) -> Result<(), Problems> {
    Walk { schema, duplicates }.value(tr, v, None).into_result()
}

/// As [`validate`], without the subtrees that `v` shares in memory with `known`.
pub fn validate_changed(
    schema: &Schema,
    tr: TypeRef,
    v: &Value,
    known: &Value,
    duplicates: Duplicates,
) -> Result<(), Problems> {
    Walk { schema, duplicates }.value(tr, v, Some(known)).into_result()
}

struct Walk<'a> {
    schema: &'a Schema,
    duplicates: Duplicates,
}

/// Upstream's check of a scalar; nothing and null pass.
pub(super) fn scalar(t: Scalar, v: Option<&Value>, prefix: &str) -> Problems {
    let Some(v) = v.filter(|v| !v.is_null()) else { return Problems::default() };
    let is_number = matches!(v, Value::Int(_) | Value::Float(_));
    let ok = match t {
        Scalar::Numeric => is_number,
        Scalar::String => v.as_str().is_some(),
        Scalar::Boolean => v.as_bool().is_some(),
        Scalar::Untyped => is_number || v.as_str().is_some() || v.as_bool().is_some(),
    };
    if ok {
        return Problems::default();
    }
    Problems::of(match t {
        Scalar::Numeric => format!("{prefix}expected numeric (int or float), got {}", go_type(v)),
        Scalar::String => format!("{prefix}expected string, got {}", go_syntax(v)),
        Scalar::Boolean => format!("{prefix}expected boolean, got {}", go_value(v)),
        Scalar::Untyped => format!("{prefix}expected any scalar, got {}", go_value(v)),
    })
}

/// Whether an item has all the keys that tell it from others.
fn is_named(t: &List, item: &Value) -> bool {
    !t.keys.is_empty() && item.as_map().is_some_and(|m| t.keys.iter().all(|key| m.contains_key(key)))
}

impl Walk<'_> {
    fn value(&self, tr: TypeRef, v: &Value, known: Option<&Value>) -> Problems {
        if known.is_some_and(|k| shared(k, v)) {
            return Problems::default();
        }
        let v = &*open(v);
        let Some(r) = self.schema.resolve(tr) else { return no_type(self.schema, tr) };
        match (choose(r.atom, Some(v)).0, &r.atom.map, r.atom.scalar, &r.atom.list) {
            (Kind::Map, Some(t), _, _) => self.map(t, v, known),
            (Kind::Scalar, _, Some(t), _) => scalar(t, Some(v), ""),
            (Kind::List, _, _, Some(t)) => self.list(r, t, v, known),
            _ => invalid_atom(r),
        }
    }

    fn map(&self, t: &Map, v: &Value, known: Option<&Value>) -> Problems {
        let mut problems = Problems::default();
        let m = match v {
            Value::Null => return problems,
            Value::Map(m) => m,
            v => return Problems::of(format!("expected map, got {}", go_value(v))),
        };
        for (key, v) in m {
            let element = || PathElement::Field(key.clone());
            let Some(tr) = t.field(key).map(|f| f.ty).or(t.element) else {
                problems.append(Problems::of("field not declared in schema").under(&element()));
                return problems;
            };
            if v.is_null() {
                continue;
            }
            let found = self.value(tr, v, known.and_then(|k| k.get(key)));
            if !found.is_empty() {
                problems.append(found.under(&element()));
            }
        }
        problems
    }

    fn list(&self, r: Resolved, t: &List, v: &Value, known: Option<&Value>) -> Problems {
        let mut problems = Problems::default();
        let items = match v {
            Value::Null => return problems,
            Value::List(l) => l,
            v => return Problems::of(format!("expected list, got {}", go_value(v))),
        };
        let known = super::list_of(known).unwrap_or_default();
        let mut seen = BTreeSet::new();
        let atomic = r.list_is_atomic(t);
        let element = |i: usize, item| match atomic {
            true => Ok(PathElement::Index(i as i64)),
            false => item_element(self.schema, t, item),
        };
        for (i, item) in items.iter().enumerate() {
            // Elements are needed where they may repeat, where they may be wrong, and to tell of a problem.
            if !atomic && (self.duplicates == Duplicates::Refused || !is_named(t, item)) {
                match element(i, item) {
                    Ok(e) if self.duplicates == Duplicates::Refused => {
                        if let Some(repeated) = seen.replace(e) {
                            problems.append(Problems::of(format!("duplicate entries for key {repeated}")));
                        }
                    }
                    Ok(_) => {}
                    Err(e) => {
                        problems.append(Problems::of(format!("element {i}: {e}")));
                        return problems;
                    }
                }
            }
            let found = self.value(t.element, item, known.get(i));
            if !found.is_empty()
                && let Ok(element) = element(i, item)
            {
                problems.append(found.under(&element));
            }
        }
        problems
    }
}
