//! Takes items out of a value, or keeps only them.

use super::{Kind, choose, item_element, list_of};
use crate::apply::path::PathElement;
use crate::apply::schema::{List, Map, Schema, TypeRef};
use crate::apply::set::Set;
use crate::apply::value::open;
use crate::value::Value;

/// The value without the items of the set. What became empty is null, as upstream leaves it.
pub fn remove(schema: &Schema, tr: TypeRef, v: &Value, items: &Set) -> Value {
    Walk { schema, extract: false }.value(Some(tr), v, items)
}

/// Only the items of the set.
pub fn extract(schema: &Schema, tr: TypeRef, v: &Value, items: &Set) -> Value {
    Walk { schema, extract: true }.value(Some(tr), v, items)
}

struct Walk<'a> {
    schema: &'a Schema,
    extract: bool,
}

impl Walk<'_> {
    fn value(&self, tr: Option<TypeRef>, v: &Value, items: &Set) -> Value {
        let Some(r) = tr.and_then(|tr| self.schema.resolve(tr)) else { return Value::Null };
        let v = &*open(v);
        let whole = || if self.extract { v.clone() } else { Value::Null };
        match choose(r.atom, Some(v)).0 {
            Kind::Scalar => v.clone(),
            Kind::Map => match (&r.atom.map, v.as_map()) {
                (Some(t), Some(m)) if !m.is_empty() && !r.map_is_atomic(t) => self.map(t, m, items),
                (Some(_), Some(_)) => whole(),
                _ => Value::Null,
            },
            Kind::List => match (&r.atom.list, list_of(Some(v))) {
                (Some(t), Some(l)) if !l.is_empty() && !r.list_is_atomic(t) => self.list(t, l, items),
                (Some(_), Some(_)) => whole(),
                _ => Value::Null,
            },
            Kind::None => Value::Null,
        }
    }

    fn list(&self, t: &List, list: &[Value], items: &Set) -> Value {
        let empty = Set::default();
        let mut out = Vec::with_capacity(list.len());
        for item in list {
            let element = item_element(self.schema, t, item).ok();
            let exact = element.as_ref().is_some_and(|e| items.has_member(e));
            let below =
                element.as_ref().and_then(|e| items.child(e)).filter(|s| !s.is_empty()).unwrap_or(&empty);
            let keep = if self.extract { exact || !below.is_empty() } else { !exact };
            if keep {
                let walked = !below.is_empty();
                out.push(if walked { self.value(Some(t.element), item, below) } else { item.clone() });
            }
        }
        if out.is_empty() { Value::Null } else { Value::List(out.into()) }
    }

    fn map(&self, t: &Map, m: &crate::Map, items: &Set) -> Value {
        let mut out = m.clone();
        for (key, v) in m {
            let element = PathElement::Field(key.clone());
            let ty = t.field(key).map(|f| f.ty).or(t.element);
            if items.has_member(&element) {
                if self.extract {
                    // As upstream, which goes on with the whole set here.
                    out.insert(key.clone(), self.value(ty, v, items));
                } else {
                    out.remove(key);
                }
                continue;
            }
            match items.child(&element).filter(|s| !s.is_empty()) {
                Some(below) => drop(out.insert(key.clone(), self.value(ty, v, below))),
                None if self.extract => drop(out.remove(key)),
                None => {}
            }
        }
        if out.is_empty() { Value::Null } else { Value::Map(out) }
    }
}
