//! Which part of the old object a part of the new one takes the place of.
//! Upstream: `k8s.io/apiserver/pkg/cel/common/equality.go`.

use machinery::Value;

use super::MapList;
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

    /// The items of a map list, to be found by their keys. Items of other lists have no identity.
    pub fn items(self) -> Option<Items<'a>> {
        let old = self.old.as_list()?;
        if self.schema.list_type.as_deref() != Some("map") {
            return None;
        }
        let keys = self.schema.list_map_keys.iter().map(String::as_str);
        Some(Items { old: MapList::new(old, keys), schema: self.schema.items.as_deref()? })
    }

    /// Whether nothing changed.
    pub fn unchanged(self) -> bool {
        match (self.new, self.old) {
            (Value::List(new), Value::List(old)) if self.schema.list_type.as_deref() == Some("map") => {
                if new.len() != old.len() {
                    return false;
                }
                let Some(items) = self.items() else { return new == old };
                new.iter().all(|item| items.get(item).is_some_and(Correlated::unchanged))
            }
            (Value::Map(new), Value::Map(old)) => {
                let same = |key: &str| self.key(key).is_some_and(Correlated::unchanged);
                new.len() == old.len() && new.keys().all(|k| same(k))
            }
            (new, old) => new == old,
        }
    }
}

/// The old items of a map list.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    old: MapList<'a>,
    schema: &'a Schema,
}

impl<'a> Items<'a> {
    /// A new item, and the old one with its keys.
    pub fn get(&self, new: &'a Value) -> Option<Correlated<'a>> {
        Some(Correlated { new, old: self.old.get(new)?, schema: self.schema })
    }
}
