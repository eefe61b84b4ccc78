//! Lists: of an object tree, or computed.

use super::bulk::Bulk;
use super::{Res, Val, tree};
use crate::schema::Schema;
use machinery::Value;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct List<'a>(Repr<'a>);

#[derive(Clone, Debug)]
enum Repr<'a> {
    /// Elements as the tree has them, and the list's schema.
    Tree(&'a [Value], Option<&'a Schema>),
    Own(Arc<Items<'a>>),
    /// Put together of others; only what reads made objects tells them apart.
    Joined(Arc<Items<'a>>),
}

#[derive(Clone, Debug)]
struct Items<'a> {
    items: Vec<Val<'a>>,
    bulk: Bulk,
}

impl<'a> From<Vec<Val<'a>>> for Items<'a> {
    fn from(items: Vec<Val<'a>>) -> Self {
        Items { bulk: Bulk::all(&items), items }
    }
}

impl<'a> From<Vec<Val<'a>>> for List<'a> {
    fn from(items: Vec<Val<'a>>) -> Self {
        List(Repr::Own(Arc::new(items.into())))
    }
}

impl<'a> List<'a> {
    pub(crate) fn tree(items: &'a [Value], schema: Option<&'a Schema>) -> Self {
        List(Repr::Tree(items, schema))
    }

    pub(crate) fn joined(items: Vec<Val<'a>>) -> Self {
        List(Repr::Joined(Arc::new(items.into())))
    }

    /// Of what is in it; of a tree only its own elements.
    pub(crate) fn bulk(&self) -> Bulk {
        match &self.0 {
            Repr::Own(own) | Repr::Joined(own) => own.bulk,
            Repr::Tree(items, _) => Bulk::flat(items.len()),
        }
    }

    /// Whether one literal, function or loop made it.
    pub(crate) fn is_literal(&self) -> bool {
        matches!(self.0, Repr::Own(_))
    }

    /// Whether both are one list, not two alike.
    pub(crate) fn is_same(&self, other: &List<'_>) -> bool {
        match (&self.0, &other.0) {
            (Repr::Own(a) | Repr::Joined(a), Repr::Own(b) | Repr::Joined(b)) => {
                std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
            }
            _ => false,
        }
    }

    /// Where it stands, if it is not of a tree.
    pub(super) fn place(&self) -> Option<usize> {
        match &self.0 {
            Repr::Own(own) | Repr::Joined(own) => Some(Arc::as_ptr(own).addr()),
            Repr::Tree(..) => None,
        }
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Tree(items, _) => items.len(),
            Repr::Own(own) | Repr::Joined(own) => own.items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The list's schema, where it is of a tree that has one.
    pub(crate) fn schema(&self) -> Option<&'a Schema> {
        match &self.0 {
            Repr::Tree(_, schema) => *schema,
            Repr::Own(_) | Repr::Joined(_) => None,
        }
    }

    pub(crate) fn is_tree(&self) -> bool {
        matches!(self.0, Repr::Tree(..))
    }

    pub(crate) fn is_typed_tree(&self) -> bool {
        self.schema().is_some()
    }

    /// The element, if there are so many; an error where the tree's value does not fit its schema.
    pub fn get(&self, i: usize) -> Option<Res<'a>> {
        match &self.0 {
            Repr::Tree(items, None) => items.get(i).map(|v| Ok(tree::plain(v))),
            Repr::Tree(items, Some(schema)) => items.get(i).map(|v| tree::typed(v, schema.item_schema())),
            Repr::Own(own) | Repr::Joined(own) => own.items.get(i).map(|v| Ok(v.clone())),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Res<'a>> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    /// All elements, the first error instead.
    pub(crate) fn to_vec(&self) -> Result<Vec<Val<'a>>, crate::eval::EvalError> {
        self.iter().collect()
    }

    /// Appends in place where nobody else holds the list.
    pub(crate) fn push(&mut self, item: Val<'a>) -> Result<(), crate::eval::EvalError> {
        if let Repr::Tree(..) = self.0 {
            *self = List::from(self.to_vec()?);
        }
        if let Repr::Own(own) | Repr::Joined(own) = &mut self.0 {
            let own = Arc::make_mut(own);
            own.bulk.add(item.bulk());
            own.items.push(item);
        }
        Ok(())
    }
}
