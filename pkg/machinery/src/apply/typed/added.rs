//! What a new object has that an empty one has not, as the text of the set.
//!
//! Every object that is created needs the text of its fields and nothing else of their set. This walk writes the same
//! bytes as [`super::compare`], [`Filter::apply`](super::super::updater::Filter) and `Set::to_json` one after another.
//! Where a value does not fit its type it gives up: the long way knows what to say.

use super::{Kind, choose, item_element, validate::scalar};
use crate::Str;
use crate::apply::fields_v1::{write_field, write_key};
use crate::apply::path::PathElement;
use crate::apply::schema::{List, Map, Schema, TypeRef};
use crate::apply::set::Set;
use crate::apply::value::{equal, open, shared};
use crate::value::Value;

/// How a set that has something below it says that it is itself a member.
const MEMBER: &str = "\".\":{}";

/// What is not written, at one place of the object.
#[derive(Clone, Copy, Default)]
pub(in crate::apply) struct Without<'a> {
    /// These paths, and all below them.
    pub trees: Option<&'a Set>,
    /// These paths, but not what is below them.
    pub paths: Option<&'a Set>,
}

impl<'a> Without<'a> {
    /// Whether an element may be a member, and what is not written below it; none if nothing is.
    fn under(self, element: impl FnOnce() -> PathElement) -> Option<(bool, Self)> {
        if self.trees.is_none() && self.paths.is_none() {
            return Some((true, self));
        }
        let element = element();
        let has = |set: Option<&Set>| set.is_some_and(|set| set.has_member(&element));
        let child = |set: Option<&'a Set>| set.and_then(|set| set.child(&element));
        let below = Without { trees: child(self.trees), paths: child(self.paths) };
        (!has(self.trees)).then(|| (!has(self.paths), below))
    }
}

/// The text of what `new` has and `old` has not, `{}` if that is nothing; none if a value does not fit its type, or if
/// items of `old` would have to be told from those of `new`.
pub(in crate::apply) fn added(
    schema: &Schema,
    tr: TypeRef,
    old: &Value,
    new: &Value,
    without: Without<'_>,
) -> Option<String> {
    let mut text = Text { schema, out: String::with_capacity(1024), rest: false };
    text.out.push('{');
    text.both(Some(tr), old, new, without)?;
    text.out.push('}');
    Some(text.out)
}

struct Text<'a> {
    schema: &'a Schema,
    out: String,
    /// Whether something stands before the next key in the braces that are open.
    rest: bool,
}

impl Text<'_> {
    /// A value of both objects, which is written if it changed and is a leaf. Answers whether it is.
    fn both(&mut self, tr: Option<TypeRef>, old: &Value, new: &Value, without: Without<'_>) -> Option<bool> {
        if shared(old, new) {
            return Some(false);
        }
        let r = self.schema.resolve(tr?)?;
        let (old, new) = (&*open(old), &*open(new));
        let kind = choose(r.atom, Some(new));
        if choose(r.atom, Some(old)) != kind {
            return None;
        }
        match (kind.0, &r.atom.map, &r.atom.list, r.atom.scalar) {
            (Kind::Map, Some(t), _, _) => {
                let empty = crate::Map::new();
                let (a, b) = (old.as_map().unwrap_or(&empty), new.as_map().unwrap_or(&empty));
                if r.map_is_atomic(t) || a.is_empty() && b.is_empty() {
                    return Some(!equal(old, new));
                }
                self.map(t, a, b, without)?;
                Some(false)
            }
            (Kind::List, _, Some(t), _) => {
                let size = |v| super::list_of(Some(v)).map_or(0, <[Value]>::len);
                if r.list_is_atomic(t) || size(old) + size(new) == 0 {
                    return Some(!equal(old, new));
                }
                if size(old) > 0 {
                    return None;
                }
                self.items(t, new, without)?;
                Some(false)
            }
            (Kind::Scalar, _, _, Some(t)) => {
                let fits = scalar(t, Some(old), "").is_empty() || scalar(t, Some(new), "").is_empty();
                fits.then(|| !equal(old, new))
            }
            _ => None,
        }
    }

    fn map(&mut self, t: &Map, old: &crate::Map, new: &crate::Map, without: Without<'_>) -> Option<()> {
        for (key, v) in new {
            let ty = t.field(key).map(|f| f.ty).or(t.element);
            match old.get(key) {
                None => self.field(key, without, true, |text, without| text.whole(ty, v, without))?,
                Some(before) => {
                    self.field(key, without, false, |text, without| text.both(ty, before, v, without))?;
                }
            }
        }
        Some(())
    }

    /// What is below a value of the new object alone. It is itself a member, which its caller has written.
    fn whole(&mut self, tr: Option<TypeRef>, v: &Value, without: Without<'_>) -> Option<bool> {
        let r = self.schema.resolve(tr?)?;
        let v = &*open(v);
        match (choose(r.atom, Some(v)).0, &r.atom.map, &r.atom.list) {
            (Kind::Map, Some(t), _) if !r.map_is_atomic(t) => {
                for (key, v) in v.as_map().into_iter().flatten() {
                    let ty = t.field(key).map(|f| f.ty).or(t.element);
                    self.field(key, without, true, |text, without| text.whole(ty, v, without))?;
                }
            }
            (Kind::List, _, Some(t)) if !r.list_is_atomic(t) => self.items(t, v, without)?,
            (Kind::None, _, _) => return None,
            _ => {}
        }
        Some(true)
    }

    /// Items in the order of what names them; of repeated ones only that.
    fn items(&mut self, t: &List, v: &Value, without: Without<'_>) -> Option<()> {
        let all = super::list_of(Some(v)).unwrap_or_default();
        let mut items: Vec<(PathElement, &Value)> = Vec::with_capacity(all.len());
        for item in all {
            items.push((item_element(self.schema, t, item).ok()?, item));
        }
        items.sort_by(|a, b| a.0.cmp(&b.0));
        for same in items.chunk_by(|a, b| a.0 == b.0) {
            let [(element, item), others @ ..] = same else { continue };
            let Some((may, inside)) = without.under(|| element.clone()) else { continue };
            self.entry(
                |out| write_key(element, out),
                may,
                true,
                |text| match others {
                    [] => text.whole(Some(t.element), item, inside),
                    _ => Some(true),
                },
            )?;
        }
        Some(())
    }

    fn field(
        &mut self,
        key: &Str,
        without: Without<'_>,
        whole: bool,
        below: impl FnOnce(&mut Self, Without<'_>) -> Option<bool>,
    ) -> Option<()> {
        let Some((may, inside)) = without.under(|| PathElement::Field(key.clone())) else { return Some(()) };
        self.entry(|out| write_field(key, out), may, whole, |text| below(text, inside))
    }

    /// Writes an entry: its key and, in braces, what is below it. It is a member if it `may` be one and `below` says
    /// so, which for a `whole` value it does: of others what is below does not matter then, as there is none. What is
    /// neither a member nor has anything below leaves no trace.
    fn entry(
        &mut self,
        key: impl FnOnce(&mut String),
        may: bool,
        whole: bool,
        below: impl FnOnce(&mut Self) -> Option<bool>,
    ) -> Option<()> {
        let (start, before) = (self.out.len(), self.rest);
        if before {
            self.out.push(',');
        }
        key(&mut self.out);
        self.out.push_str(":{");
        let inside = self.out.len();
        self.rest = whole && may;
        if self.rest {
            self.out.push_str(MEMBER);
        }
        let empty = self.out.len();
        let member = below(self)? && may;
        let nothing_below = self.out.len() == empty;
        if nothing_below {
            self.out.truncate(if member { inside } else { start });
        }
        if nothing_below && !member {
            self.rest = before;
            return Some(());
        }
        self.rest = true;
        self.out.push('}');
        Some(())
    }
}
