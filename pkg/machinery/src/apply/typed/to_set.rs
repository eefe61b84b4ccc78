//! The paths of all leaves and items of a value.

use super::{Kind, Problems, choose, invalid_atom, item_element, no_type, undeclared};
use crate::apply::path::PathElement;
use crate::apply::schema::{Schema, TypeRef};
use crate::apply::set::Set;
use crate::apply::value::open;
use crate::value::Value;
use std::collections::BTreeMap;

/// The set of every leaf field and item of the value.
pub fn to_set(schema: &Schema, tr: TypeRef, v: &Value) -> Result<Set, Problems> {
    let mut set = Set::default();
    let mut problems = Problems::default();
    walk(schema, Some(tr), v, &mut set, &mut problems);
    problems.into_result().map(|()| set)
}

/// Adds what lies under a value; answers whether the value itself is a member.
fn walk(schema: &Schema, tr: Option<TypeRef>, v: &Value, set: &mut Set, problems: &mut Problems) -> bool {
    let Some(tr) = tr else {
        problems.append(undeclared());
        return false;
    };
    let Some(r) = schema.resolve(tr) else {
        problems.append(no_type(schema, tr));
        return false;
    };
    let v = &*open(v);
    match choose(r.atom, Some(v)).0 {
        Kind::Scalar => true,
        Kind::Map => {
            let Some(t) = &r.atom.map else { return false };
            if r.map_is_atomic(t) {
                return true;
            }
            for (key, v) in v.as_map().into_iter().flatten() {
                let element = PathElement::Field(key.clone());
                let field = t.field(key);
                let empty = match &*open(v) {
                    Value::Null => true,
                    Value::Map(m) => m.is_empty(),
                    _ => false,
                };
                let member = under(schema, field.map(|f| f.ty).or(t.element), v, &element, set, problems);
                if member || empty || field.is_none() {
                    set.insert(&[element]);
                }
            }
            false
        }
        Kind::List => {
            let Some(t) = &r.atom.list else { return false };
            if r.list_is_atomic(t) {
                return true;
            }
            let items = super::list_of(Some(v)).unwrap_or_default();
            let mut elements: BTreeMap<PathElement, (usize, &Value)> = BTreeMap::new();
            for item in items {
                // Checked before.
                let Ok(element) = item_element(schema, t, item) else { continue };
                elements.entry(element).or_insert((0, item)).0 += 1;
            }
            for (element, (count, item)) in elements {
                if count == 1 {
                    under(schema, Some(t.element), item, &element, set, problems);
                }
                set.insert(&[element]);
            }
            false
        }
        Kind::None => {
            problems.append(invalid_atom(r));
            false
        }
    }
}

/// Walks a child; its subset is added if it has members.
fn under(
    schema: &Schema,
    tr: Option<TypeRef>,
    v: &Value,
    element: &PathElement,
    set: &mut Set,
    problems: &mut Problems,
) -> bool {
    let mut below = Set::default();
    let mut found = Problems::default();
    let member = walk(schema, tr, v, &mut below, &mut found);
    problems.append(found);
    if !below.is_empty() {
        *set.descend(element) = below;
    }
    member
}
