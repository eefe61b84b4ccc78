//! Adapts a recorded set to a type that became atomic since.
//!
//! Upstream: structured-merge-diff typed/reconcile_schema.go. (A type that became granular keeps its owner.)

use super::{Kind, Problems, invalid_atom, no_type};
use crate::apply::path::PathElement;
use crate::apply::schema::{DEDUCED, Map, Scalar, Schema, TypeRef};
use crate::apply::set::Set;

/// The adapted set; none if nothing changes.
pub(in crate::apply) fn reconcile(schema: &Schema, tr: TypeRef, set: &Set) -> Result<Option<Set>, Problems> {
    let mut walk = Walk { schema, path: Vec::new(), atomic: Set::default() };
    walk.value(tr, Some(set), false)?;
    if walk.atomic.is_empty() {
        return Ok(None);
    }
    Ok(Some(set.recursive_difference(&walk.atomic).union(&walk.atomic)))
}

struct Walk<'a> {
    schema: &'a Schema,
    path: Vec<PathElement>,
    /// The roots of what is atomic now.
    atomic: Set,
}

impl Walk<'_> {
    fn value(&mut self, tr: TypeRef, set: Option<&Set>, member_only: bool) -> Result<(), Problems> {
        let r = self.schema.resolve(tr).ok_or_else(|| no_type(self.schema, tr))?;
        // The first type counts: a set does not tell what the value was.
        match super::choose(r.atom, None).0 {
            Kind::Scalar => Ok(()),
            Kind::Map => {
                let Some(t) = &r.atom.map else { return Ok(()) };
                if self.is_deduced(t) {
                    return Ok(());
                }
                if !member_only && r.map_is_atomic(t) {
                    if set.is_some_and(|s| !s.is_empty()) {
                        self.atomic.insert(&self.path);
                    }
                    return Ok(());
                }
                self.children(set, |pe| match pe {
                    PathElement::Field(name) => t.field(name).map(|f| f.ty).or(t.element),
                    _ => t.element,
                })
            }
            Kind::List => {
                let Some(t) = &r.atom.list else { return Ok(()) };
                if !member_only && r.list_is_atomic(t) {
                    self.atomic.insert(&self.path);
                    return Ok(());
                }
                self.children(set, |_| Some(t.element))
            }
            Kind::None => Err(invalid_atom(r)),
        }
    }

    fn children(
        &mut self,
        set: Option<&Set>,
        ty: impl Fn(&PathElement) -> Option<TypeRef>,
    ) -> Result<(), Problems> {
        let Some(set) = set else { return Ok(()) };
        let only_children =
            set.children.iter().map(|c| &c.0).filter(|pe| !set.has_member(pe)).map(|pe| (pe, false));
        let members = set.members.iter().map(|pe| (pe, true));
        for (pe, member) in only_children.chain(members) {
            let Some(tr) = ty(pe) else { continue };
            let below = set.child(pe);
            self.path.push(pe.clone());
            let result = self.value(tr, below, member && below.is_none());
            self.path.pop();
            result?;
        }
        Ok(())
    }

    /// Maps of which nothing is declared have no recorded structure to adapt.
    fn is_deduced(&self, t: &Map) -> bool {
        let Some(element) = t.element.filter(|_| !t.has_fields()) else { return false };
        let untyped = |a: &crate::apply::schema::Atom| a.name.is_none() && a.scalar == Some(Scalar::Untyped);
        element.id == DEDUCED || self.schema.resolve(element).is_some_and(|r| untyped(r.atom))
    }
}
