//! Which part of the old object a part of the new one takes the place of.
//! Upstream: `k8s.io/apiserver/pkg/cel/common/equality.go`.

use machinery::Value;

use crate::schema::Schema;

/// A value, the one it takes the place of, and the schema of both.
#[derive(Clone, Copy, Debug)]
pub struct Correlated<'a> {
    new: &'a Value,
    old: &'a Value,
    schema: &'a Schema,
}

impl<'a> Correlated<'a> {
    /// Two versions of an object.
    pub fn new(new: &'a Value, old: &'a Value, schema: &'a Schema) -> Self {
        Correlated { new, old, schema }
    }

    /// A field of both, if the schema knows it.
    pub fn key(self, key: &str) -> Option<Correlated<'a>> {
        let (new, old) = (self.new.as_map()?.get(key)?, self.old.as_map()?.get(key)?);
        let schema = self.schema.properties.get(key).or_else(|| self.schema.additional_schema())?;
        Some(Correlated { new, old, schema })
    }

    /// An item of a map list, and the old item with its keys. Items of other lists have no identity.
    pub(super) fn index(self, index: usize) -> Option<Correlated<'a>> {
        let (new, old) = (self.new.as_list()?.get(index)?, self.old.as_list()?);
        if self.schema.list_type.as_deref() != Some("map") {
            return None;
        }
        let key = |item: &'a Value| -> Vec<Option<&'a Value>> {
            self.schema.list_map_keys.iter().map(|k| item.get(k)).collect()
        };
        let wanted = key(new);
        let old = old.iter().find(|item| key(item) == wanted)?;
        Some(Correlated { new, old, schema: self.schema.items.as_deref()? })
    }

    /// Whether nothing changed.
    pub(super) fn unchanged(self) -> bool {
        match (self.new, self.old) {
            (Value::List(new), Value::List(old)) if self.schema.list_type.as_deref() == Some("map") => {
                let same = |i: usize| self.index(i).is_some_and(Correlated::unchanged);
                new.len() == old.len() && (0..new.len()).all(same)
            }
            (Value::Map(new), Value::Map(old)) => {
                let same = |key: &str| self.key(key).is_some_and(Correlated::unchanged);
                new.len() == old.len() && new.keys().all(|k| same(k))
            }
            (new, old) => new == old,
        }
    }
}
