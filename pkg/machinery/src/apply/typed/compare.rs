//! What differs between two values of a type.

use super::validate::scalar;
use super::{Kind, Problems, choose, invalid_atom, item_element, no_type, undeclared};
use crate::apply::path::PathElement;
use crate::apply::schema::{List, Map, Resolved, Schema, TypeRef};
use crate::apply::set::Set;
use crate::apply::updater::Filter;
use crate::apply::value::{equal, open, shared};
use crate::value::Value;
use std::collections::BTreeMap;

/// The paths that were removed, changed and added. No path is in two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub removed: Set,
    pub modified: Set,
    pub added: Set,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    pub(in crate::apply) fn filtered(self, filter: Option<&Filter>) -> Comparison {
        match filter {
            None => self,
            Some(f) => Comparison {
                removed: f.apply(&self.removed),
                modified: f.apply(&self.modified),
                added: f.apply(&self.added),
            },
        }
    }
}

/// Compares two values of one type. Subtrees that share memory are not visited.
pub fn compare(schema: &Schema, tr: TypeRef, old: &Value, new: &Value) -> Result<Comparison, Problems> {
    let mut walk = Walk { schema, path: Vec::new(), out: Comparison::default() };
    walk.value(Some(tr), old, new).into_result()?;
    Ok(walk.out)
}

struct Walk<'a> {
    schema: &'a Schema,
    path: Vec<PathElement>,
    out: Comparison,
}

impl Walk<'_> {
    fn value(&mut self, tr: Option<TypeRef>, old: &Value, new: &Value) -> Problems {
        if shared(old, new) {
            return Problems::default();
        }
        let Some(tr) = tr else { return undeclared() };
        let Some(r) = self.schema.resolve(tr) else { return no_type(self.schema, tr) };
        let (old, new) = (&*open(old), &*open(new));
        let (as_old, as_new) = (choose(r.atom, Some(old)), choose(r.atom, Some(new)));
        let mut problems = Problems::default();
        if as_old != as_new {
            problems.append(self.handle(r, as_old.0, old, new));
        }
        problems.append(self.handle(r, as_new.0, old, new));
        problems
    }

    fn handle(&mut self, r: Resolved, kind: Kind, old: &Value, new: &Value) -> Problems {
        match kind {
            Kind::Map => {
                let Some(t) = &r.atom.map else { return Problems::default() };
                let size = |v: &Value| v.as_map().map_or(0, crate::Map::len);
                // Two empty ones are a leaf: that keeps apart empty and null.
                if r.map_is_atomic(t) || size(old) + size(new) == 0 {
                    self.leaf(old, new);
                    return Problems::default();
                }
                self.map(t, old, new)
            }
            Kind::Scalar => {
                let Some(t) = r.atom.scalar else { return Problems::default() };
                let (mut a, b) = (scalar(t, Some(old), "lhs: "), scalar(t, Some(new), "rhs: "));
                if !a.is_empty() && !b.is_empty() {
                    a.append(b);
                    return a;
                }
                self.leaf(old, new);
                Problems::default()
            }
            Kind::List => {
                let Some(t) = &r.atom.list else { return Problems::default() };
                let size = |v: &Value| super::list_of(Some(v)).map_or(0, <[Value]>::len);
                if r.list_is_atomic(t) || size(old) + size(new) == 0 {
                    self.leaf(old, new);
                    return Problems::default();
                }
                self.list(t, old, new)
            }
            Kind::None => invalid_atom(r),
        }
    }

    fn leaf(&mut self, old: &Value, new: &Value) {
        if !equal(old, new) {
            self.out.modified.insert(&self.path);
        }
    }

    fn child(
        &mut self,
        element: PathElement,
        tr: Option<TypeRef>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Problems {
        let (out, v) = match (old, new) {
            (Some(old), Some(new)) => {
                self.path.push(element);
                let problems = self.value(tr, old, new);
                return match self.path.pop() {
                    Some(element) => problems.under(&element),
                    None => problems,
                };
            }
            (None, Some(v)) => (&mut self.out.added, v),
            (Some(v), None) => (&mut self.out.removed, v),
            (None, None) => return Problems::default(),
        };
        Whole { schema: self.schema }.child(element, tr, v, out.descend_all(&self.path))
    }

    fn map(&mut self, t: &Map, old: &Value, new: &Value) -> Problems {
        let empty = crate::Map::new();
        let (old, new) = (old.as_map().unwrap_or(&empty), new.as_map().unwrap_or(&empty));
        let mut problems = Problems::default();
        let ty = |key: &str| t.field(key).map(|f| f.ty).or(t.element);
        for (key, a) in old {
            problems.append(self.child(PathElement::Field(key.clone()), ty(key), Some(a), new.get(key)));
        }
        for (key, b) in new.iter().filter(|(k, _)| !old.contains_key(k)) {
            problems.append(self.child(PathElement::Field(key.clone()), ty(key), None, Some(b)));
        }
        problems
    }

    fn list(&mut self, t: &List, old: &Value, new: &Value) -> Problems {
        let mut problems = Problems::default();
        let mut items: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (side, list) in [(0, super::list_of(Some(old))), (1, super::list_of(Some(new)))] {
            for (i, item) in list.unwrap_or_default().iter().enumerate() {
                match item_element(self.schema, t, item) {
                    Ok(element) => {
                        let both = items.entry(element).or_default();
                        if side == 0 { both.0.push(item) } else { both.1.push(item) }
                    }
                    Err(e) => problems.append(Problems::of(format!("element {i}: {e}"))),
                }
            }
        }
        for (element, (a, b)) in items {
            let ty = Some(t.element);
            match (a.as_slice(), b.as_slice()) {
                ([] | [_], [] | [_]) => {
                    problems.append(self.child(element, ty, a.first().copied(), b.first().copied()));
                }
                ([_, _, ..], [_, _, ..]) => {
                    if a.len() != b.len() || !a.iter().zip(&b).all(|(x, y)| equal(x, y)) {
                        self.mark(element, |out| &mut out.modified);
                    }
                }
                // A repeated item became single or went: what it is now is new, the mark of the repeat goes.
                ([_, _, ..], _) => {
                    if let Some(b) = b.first() {
                        problems.append(self.child(element.clone(), ty, None, Some(b)));
                    }
                    self.mark(element, |out| &mut out.removed);
                }
                (_, _) => {
                    if let Some(a) = a.first() {
                        problems.append(self.child(element.clone(), ty, Some(a), None));
                    }
                    self.mark(element, |out| &mut out.added);
                }
            }
        }
        problems
    }

    fn mark(&mut self, element: PathElement, set: impl Fn(&mut Comparison) -> &mut Set) {
        self.path.push(element);
        set(&mut self.out).insert(&self.path);
        self.path.pop();
    }
}

/// The paths of a value that is on one side only: all of them, those of containers too.
struct Whole<'a> {
    schema: &'a Schema,
}

impl Whole<'_> {
    fn child(&self, element: PathElement, tr: Option<TypeRef>, v: &Value, out: &mut Set) -> Problems {
        let (below, problems) = match self.value(tr, v) {
            (Some(below), problems) => (below, problems),
            (None, problems) => return problems.under(&element),
        };
        if !below.is_empty() {
            out.set_child(element.clone(), below);
        }
        let problems = problems.under(&element);
        out.insert_member(element);
        problems
    }

    /// What lies below a value; none if nobody knows what the value is.
    fn value(&self, tr: Option<TypeRef>, v: &Value) -> (Option<Set>, Problems) {
        let Some(tr) = tr else { return (None, undeclared()) };
        let Some(r) = self.schema.resolve(tr) else { return (None, no_type(self.schema, tr)) };
        let mut below = Set::default();
        let problems = self.below(r, &open(v), &mut below);
        (Some(below), problems)
    }

    fn below(&self, r: Resolved, v: &Value, out: &mut Set) -> Problems {
        let mut problems = Problems::default();
        match (choose(r.atom, Some(v)).0, &r.atom.map, &r.atom.list) {
            (Kind::Map, Some(t), _) if !r.map_is_atomic(t) => {
                let Some(map) = v.as_map() else { return problems };
                out.members.reserve_exact(map.len());
                for (key, v) in map {
                    let ty = t.field(key).map(|f| f.ty).or(t.element);
                    problems.append(self.next(PathElement::Field(key.clone()), ty, v, out));
                }
            }
            (Kind::List, _, Some(t)) if !r.list_is_atomic(t) => self.items(t, v, out, &mut problems),
            (Kind::None, _, _) => return invalid_atom(r),
            _ => {}
        }
        problems
    }

    /// As [`Whole::child`], for elements that come in order: those of maps do.
    fn next(&self, element: PathElement, tr: Option<TypeRef>, v: &Value, out: &mut Set) -> Problems {
        let (below, problems) = self.value(tr, v);
        let problems = problems.under(&element);
        if let Some(below) = below {
            out.push(element, below);
        }
        problems
    }

    /// Items by what names them; of repeated ones only that.
    fn items(&self, t: &List, v: &Value, out: &mut Set, problems: &mut Problems) {
        let all = super::list_of(Some(v)).unwrap_or_default();
        let mut items: Vec<(PathElement, &Value)> = Vec::with_capacity(all.len());
        for (i, item) in all.iter().enumerate() {
            match item_element(self.schema, t, item) {
                Ok(element) => items.push((element, item)),
                Err(e) => problems.append(Problems::of(format!("element {i}: {e}"))),
            }
        }
        items.sort_by(|a, b| a.0.cmp(&b.0));
        out.members.reserve_exact(items.len());
        let mut items = items.into_iter().peekable();
        while let Some((element, item)) = items.next() {
            let mut repeated = false;
            while items.next_if(|(next, _)| *next == element).is_some() {
                repeated = true;
            }
            match repeated {
                false => problems.append(self.next(element, Some(t.element), item, out)),
                true => out.push(element, Set::default()),
            }
        }
    }
}
