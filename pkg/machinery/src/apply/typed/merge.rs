//! Merges a partial value into a value.

use super::{Kind, Problems, choose, invalid_atom, item_element, list_of, no_type, undeclared};
use crate::apply::path::PathElement;
use crate::apply::schema::{List, Map, Schema, TypeRef};
use crate::apply::value::open;
use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The value with `patch` merged into it. Nothing is removed; where both have a leaf, the patch's stays. Lists are
/// ordered like the patch where it names items. Both must be valid.
pub fn merge(schema: &Schema, tr: TypeRef, live: &Value, patch: &Value) -> Result<Value, Problems> {
    Ok(value(schema, Some(tr), live, patch)?.unwrap_or_default())
}

/// Where only one side has a value, it is taken as it is.
fn value(
    schema: &Schema,
    tr: Option<TypeRef>,
    live: &Value,
    patch: &Value,
) -> Result<Option<Value>, Problems> {
    let tr = tr.ok_or_else(undeclared)?;
    let r = schema.resolve(tr).ok_or_else(|| no_type(schema, tr))?;
    let (live, patch) = (&*open(live), &*open(patch));
    let kept = || Ok(Some(patch.clone()));
    match choose(r.atom, Some(patch)).0 {
        Kind::Map => {
            let Some(t) = &r.atom.map else { return kept() };
            let size = |v: &Value| v.as_map().map_or(0, crate::Map::len);
            if r.map_is_atomic(t) || size(live) + size(patch) == 0 {
                return kept();
            }
            map(schema, t, live, patch)
        }
        Kind::List => {
            let Some(t) = &r.atom.list else { return kept() };
            let size = |v: &Value| list_of(Some(v)).map_or(0, <[Value]>::len);
            if r.list_is_atomic(t) || size(live) + size(patch) == 0 {
                return kept();
            }
            list(schema, t, live, patch)
        }
        Kind::Scalar => kept(),
        Kind::None => Err(invalid_atom(r)),
    }
}

fn map(schema: &Schema, t: &Map, live: &Value, patch: &Value) -> Result<Option<Value>, Problems> {
    let empty = crate::Map::new();
    let live = live.as_map().unwrap_or(&empty);
    let patch = patch.as_map().unwrap_or(&empty);
    let mut out = live.clone();
    for (key, p) in patch {
        let merged = match live.get(key) {
            None => Some(p.clone()),
            Some(l) => value(schema, t.field(key).map(|f| f.ty).or(t.element), l, p)
                .map_err(|e| e.under(&PathElement::Field(key.clone())))?,
        };
        match merged {
            Some(v) => drop(out.insert(key.clone(), v)),
            None => drop(out.remove(key)),
        }
    }
    Ok((!out.is_empty()).then_some(Value::Map(out)))
}

/// The items by element; a repeated item of the live list is there, without a value to merge with.
struct Index<'a> {
    elements: Vec<(PathElement, &'a Value)>,
    values: BTreeMap<PathElement, Option<&'a Value>>,
}

fn index<'a>(schema: &Schema, t: &List, items: &'a [Value], duplicates: bool) -> Result<Index<'a>, Problems> {
    let mut problems = Problems::default();
    let mut out = Index { elements: Vec::with_capacity(items.len()), values: BTreeMap::new() };
    for (i, item) in items.iter().enumerate() {
        let element = match item_element(schema, t, item) {
            Ok(element) => element,
            Err(e) => {
                problems.append(Problems::of(format!("element {i}: {e}")));
                continue;
            }
        };
        if out.values.contains_key(&element) {
            if !duplicates {
                problems.append(Problems::of(format!("duplicate entries for key {element}")));
                continue;
            }
            out.values.insert(element.clone(), None);
        } else {
            out.values.insert(element.clone(), Some(item));
        }
        out.elements.push((element, item));
    }
    problems.into_result().map(|()| out)
}

/// Interleaves the items: live ones keep their places between shared items, shared ones follow the patch's order
/// (upstream's `visitListItems`).
fn list(schema: &Schema, t: &List, live: &Value, patch: &Value) -> Result<Option<Value>, Problems> {
    let right = index(schema, t, list_of(Some(patch)).unwrap_or_default(), false)?;
    let left = index(schema, t, list_of(Some(live)).unwrap_or_default(), true)?;
    let mut shared = right.elements.iter().map(|e| &e.0).filter(|e| left.values.contains_key(*e));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&PathElement> = BTreeSet::new();
    let mut out = Vec::with_capacity(left.elements.len().max(right.elements.len()));
    let merged = |element: &PathElement, patch: &Value| -> Option<Value> {
        match left.values.get(element) {
            None => Some(patch.clone()),
            // A repeated item counts as null, which anything replaces.
            Some(None) => value(schema, Some(t.element), &Value::Null, patch).ok().flatten(),
            // Upstream loses errors here; both sides were checked before.
            Some(Some(live)) => value(schema, Some(t.element), live, patch).ok().flatten(),
        }
    };
    let (mut l, mut r) = (0, 0);
    while l < left.elements.len() || r < right.elements.len() {
        if let (Some((le, _)), Some((re, rv))) = (left.elements.get(l), right.elements.get(r)) {
            if le == re {
                done.insert(re);
                out.extend(merged(re, rv));
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            if right.values.contains_key(le) && next_shared.is_some_and(|n| n != le) {
                // Shared, but not its turn.
                l += 1;
                continue;
            }
        }
        if let Some((le, lv)) = left.elements.get(l) {
            if !right.values.contains_key(le) {
                out.push((*lv).clone());
                l += 1;
                continue;
            } else if done.contains(le) {
                l += 1;
            }
        }
        if let Some((re, rv)) = right.elements.get(r) {
            done.insert(re);
            out.extend(merged(re, rv));
            r += 1;
            if next_shared == Some(re) {
                next_shared = shared.next();
            }
        }
    }
    Ok((!out.is_empty()).then_some(Value::List(out.into())))
}
