//! The tree's list: a vector shared copy-on-write.

use super::{Value, map};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A list of values. Dereferences to `Vec<Value>`; taking `&mut` copies a shared list first.
#[derive(Clone, Debug, Default)]
pub struct List(Arc<Vec<Value>>);

impl List {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with_capacity(n: usize) -> Self {
        Self(Arc::new(Vec::with_capacity(n)))
    }

    /// The elements, copied only if the list is shared.
    pub fn into_vec(mut self) -> Vec<Value> {
        std::mem::take(Arc::make_mut(&mut self.0))
    }

    /// Whether both are the very same memory (then they are equal).
    pub fn ptr_eq(&self, other: &List) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn unique(&mut self) -> Option<&mut Vec<Value>> {
        Arc::get_mut(&mut self.0)
    }
}

impl Drop for List {
    fn drop(&mut self) {
        if let Some(items) = self.unique()
            && items.iter().any(map::is_container)
        {
            map::drop_children(std::mem::take(items));
        }
    }
}

impl Deref for List {
    type Target = Vec<Value>;
    fn deref(&self) -> &Vec<Value> {
        &self.0
    }
}

impl DerefMut for List {
    fn deref_mut(&mut self) -> &mut Vec<Value> {
        Arc::make_mut(&mut self.0)
    }
}

impl From<Vec<Value>> for List {
    fn from(v: Vec<Value>) -> Self {
        Self(Arc::new(v))
    }
}

impl FromIterator<Value> for List {
    fn from_iter<I: IntoIterator<Item = Value>>(iter: I) -> Self {
        Self(Arc::new(iter.into_iter().collect()))
    }
}

impl IntoIterator for List {
    type Item = Value;
    type IntoIter = std::vec::IntoIter<Value>;
    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl<'a> IntoIterator for &'a List {
    type Item = &'a Value;
    type IntoIter = std::slice::Iter<'a, Value>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
