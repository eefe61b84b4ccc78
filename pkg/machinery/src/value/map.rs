//! The tree's map: sorted by key bytes, shared copy-on-write.
//!
//! Objects have a handful of fields, so the usual form is one sorted vector. Beyond [`SMALL`] entries (a
//! ConfigMap with thousands of keys) a B-tree takes over, so that no order of insertion is quadratic.

use super::{Str, Value};
use std::cell::Cell;
use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

/// Entries up to which the sorted vector is kept.
const SMALL: usize = 48;

/// A map from field names or keys to values, iterated in byte order of the keys (Go's order for maps).
#[derive(Clone, Debug, Default)]
pub struct Map(Arc<Repr>);

#[derive(Clone, Debug)]
enum Repr {
    Small(Vec<(Str, Value)>),
    Large(BTreeMap<Str, Value>),
}

impl Default for Repr {
    fn default() -> Self {
        Repr::Small(Vec::new())
    }
}

fn find(v: &[(Str, Value)], key: &str) -> Result<usize, usize> {
    v.binary_search_by(|(k, _)| k.as_str().cmp(key))
}

impl Map {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        match &*self.0 {
            Repr::Small(v) => v.len(),
            Repr::Large(m) => m.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        match &*self.0 {
            Repr::Small(v) => find(v, key).ok().map(|i| &v[i].1),
            Repr::Large(m) => m.get(key),
        }
    }

    /// As [`Map::get`], with the map's own copy of the key.
    pub fn get_key_value(&self, key: &str) -> Option<(&Str, &Value)> {
        match &*self.0 {
            Repr::Small(v) => find(v, key).ok().map(|i| (&v[i].0, &v[i].1)),
            Repr::Large(m) => m.get_key_value(key),
        }
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        if !self.contains_key(key) {
            return None;
        }
        match Arc::make_mut(&mut self.0) {
            Repr::Small(v) => find(v, key).ok().map(|i| &mut v[i].1),
            Repr::Large(m) => m.get_mut(key),
        }
    }

    /// The entry's value, inserted as `Null` if it was absent.
    pub fn entry(&mut self, key: &str) -> &mut Value {
        self.grow();
        match Arc::make_mut(&mut self.0) {
            Repr::Small(v) => {
                let i = match find(v, key) {
                    Ok(i) => i,
                    Err(i) => {
                        v.insert(i, (Str::from(key), Value::Null));
                        i
                    }
                };
                &mut v[i].1
            }
            Repr::Large(m) => m.entry(Str::from(key)).or_default(),
        }
    }

    /// Sets the entry and returns what it replaced.
    pub fn insert(&mut self, key: impl Into<Str>, value: impl Into<Value>) -> Option<Value> {
        self.insert_entry(key.into(), value.into())
    }

    fn insert_entry(&mut self, key: Str, value: Value) -> Option<Value> {
        self.grow();
        match Arc::make_mut(&mut self.0) {
            Repr::Small(v) => match find(v, &key) {
                Ok(i) => Some(std::mem::replace(&mut v[i].1, value)),
                Err(i) => {
                    v.insert(i, (key, value));
                    None
                }
            },
            Repr::Large(m) => m.insert(key, value),
        }
    }

    pub fn remove(&mut self, key: &str) -> Option<Value> {
        if !self.contains_key(key) {
            return None;
        }
        match Arc::make_mut(&mut self.0) {
            Repr::Small(v) => find(v, key).ok().map(|i| v.remove(i).1),
            Repr::Large(m) => m.remove(key),
        }
    }

    /// Keeps the entries for which `keep` answers true.
    pub fn retain(&mut self, mut keep: impl FnMut(&Str, &mut Value) -> bool) {
        match Arc::make_mut(&mut self.0) {
            Repr::Small(v) => v.retain_mut(|(k, x)| keep(k, x)),
            Repr::Large(m) => m.retain(|k, x| keep(k, x)),
        }
    }

    pub fn clear(&mut self) {
        *self = Map::new();
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter(match &*self.0 {
            Repr::Small(v) => Inner::Small(v.iter()),
            Repr::Large(m) => Inner::Large(m.iter()),
        })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Str, &mut Value)> {
        let (small, large) = match Arc::make_mut(&mut self.0) {
            Repr::Small(v) => (Some(v.iter_mut().map(|(k, x)| (&*k, x))), None),
            Repr::Large(m) => (None, Some(m.iter_mut())),
        };
        small.into_iter().flatten().chain(large.into_iter().flatten())
    }

    pub fn keys(&self) -> impl Iterator<Item = &Str> {
        self.iter().map(|(k, _)| k)
    }

    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.iter().map(|(_, v)| v)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.iter_mut().map(|(_, v)| v)
    }

    /// Whether both are the very same memory (then they are equal).
    pub fn ptr_eq(&self, other: &Map) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn grow(&mut self) {
        if let Repr::Small(v) = &*self.0
            && v.len() >= SMALL
            && let Repr::Small(v) = std::mem::take(Arc::make_mut(&mut self.0))
        {
            self.0 = Arc::new(Repr::Large(v.into_iter().collect()));
        }
    }

    fn take_entries(repr: &mut Repr) -> Vec<Value> {
        match std::mem::take(repr) {
            Repr::Small(v) => v.into_iter().map(|(_, x)| x).collect(),
            Repr::Large(m) => m.into_values().collect(),
        }
    }

    fn has_containers(repr: &Repr) -> bool {
        match repr {
            Repr::Small(v) => v.iter().any(|(_, x)| is_container(x)),
            Repr::Large(m) => m.values().any(is_container),
        }
    }
}

pub(super) fn is_container(v: &Value) -> bool {
    matches!(v, Value::List(_) | Value::Map(_))
}

/// Levels of plain recursive dropping before the explicit stack takes over.
const DROP_RECURSION: u32 = 128;

thread_local! {
    static DROP_DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Drops the children of a container: by recursion near the top (fast), with an explicit stack further down, so
/// that no depth of nesting overflows the thread's stack.
pub(super) fn drop_children(children: Vec<Value>) {
    let depth = DROP_DEPTH.get();
    if depth < DROP_RECURSION {
        DROP_DEPTH.set(depth + 1);
        drop(children);
        DROP_DEPTH.set(depth);
        return;
    }
    let mut stack = children;
    while let Some(mut v) = stack.pop() {
        match &mut v {
            Value::List(l) => {
                if let Some(items) = l.unique() {
                    stack.append(items);
                }
            }
            Value::Map(m) => {
                if let Some(repr) = Arc::get_mut(&mut m.0) {
                    stack.append(&mut Map::take_entries(repr));
                }
            }
            _ => {}
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if let Some(repr) = Arc::get_mut(&mut self.0)
            && Map::has_containers(repr)
        {
            match DROP_DEPTH.get() {
                // Near the top the entries can go where they are.
                d if d < DROP_RECURSION => {
                    let repr = std::mem::take(repr);
                    DROP_DEPTH.set(d + 1);
                    drop(repr);
                    DROP_DEPTH.set(d);
                }
                _ => drop_children(Map::take_entries(repr)),
            }
        }
    }
}

/// Iterator over a map in key order.
#[derive(Clone)]
pub struct Iter<'a>(Inner<'a>);

#[derive(Clone)]
enum Inner<'a> {
    Small(std::slice::Iter<'a, (Str, Value)>),
    Large(btree_map::Iter<'a, Str, Value>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Str, &'a Value);
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Inner::Small(i) => i.next().map(|(k, v)| (k, v)),
            Inner::Large(i) => i.next(),
        }
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Inner::Small(i) => i.size_hint(),
            Inner::Large(i) => i.size_hint(),
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a Str, &'a Value);
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl IntoIterator for Map {
    type Item = (Str, Value);
    type IntoIter = std::vec::IntoIter<(Str, Value)>;
    fn into_iter(mut self) -> Self::IntoIter {
        let v: Vec<_> = match std::mem::take(Arc::make_mut(&mut self.0)) {
            Repr::Small(v) => v,
            Repr::Large(m) => m.into_iter().collect(),
        };
        v.into_iter()
    }
}

impl<K: Into<Str>, V: Into<Value>> FromIterator<(K, V)> for Map {
    /// A later entry replaces an earlier one of the same key.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(iter: I) -> Self {
        let mut b = MapBuilder::default();
        for (k, v) in iter {
            b.push(k.into(), v.into());
        }
        b.build()
    }
}

impl<K: Into<Str>, V: Into<Value>> Extend<(K, V)> for Map {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, iter: I) {
        for (k, v) in iter {
            self.insert(k, v);
        }
    }
}

/// Collects entries in any order and sorts once: how parsers build maps.
#[derive(Default)]
pub struct MapBuilder {
    entries: Vec<(Str, Value)>,
    unsorted: bool,
}

impl MapBuilder {
    pub fn with_capacity(n: usize) -> Self {
        Self { entries: Vec::with_capacity(n), unsorted: false }
    }

    pub fn push(&mut self, key: Str, value: Value) {
        self.unsorted |= self.entries.last().is_some_and(|(k, _)| *k >= key);
        self.entries.push((key, value));
    }

    /// As [`MapBuilder::push`], for a key that comes after all others.
    pub(crate) fn push_sorted(&mut self, key: Str, value: Value) {
        debug_assert!(self.entries.last().is_none_or(|(k, _)| *k < key));
        self.entries.push((key, value));
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The keys pushed so far, in that order.
    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = &Str> + DoubleEndedIterator {
        self.entries.iter().map(|(k, _)| k)
    }

    /// The map; of entries with the same key the last pushed one stays.
    pub fn build(mut self) -> Map {
        if self.unsorted {
            self.entries.sort_by(|a, b| a.0.cmp(&b.0));
            self.entries.dedup_by(|later, kept| {
                let same = later.0 == kept.0;
                if same {
                    std::mem::swap(later, kept);
                }
                same
            });
        }
        if self.entries.len() > SMALL {
            return Map(Arc::new(Repr::Large(self.entries.into_iter().collect())));
        }
        Map(Arc::new(Repr::Small(self.entries)))
    }
}
