//! The objects of an informer, by key and by named indexes.
//!
//! Objects are shared (`Arc`): reading never copies one, and a reader keeps what it has while the store moves on.
//! Upstream: client-go/tools/cache/thread_safe_store.go.

use std::collections::BTreeSet;
use std::sync::Arc;

use client::Kept;
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use parking_lot::RwLock;

use crate::tally::{Counter, Counting, Tally};

type Hash = foldhash::fast::RandomState;
/// Key of an object: `namespace/name` or `name`.
pub type Key = Arc<str>;
/// Computes the values under which an object is found in an index.
pub type IndexFn<K> = Arc<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// Index over namespaces that every namespaced informer may use.
pub const NAMESPACE_INDEX: &str = "namespace";

pub(crate) type Objects<K> = HashMap<Key, Arc<K>, Hash>;

struct Index<K> {
    function: IndexFn<K>,
    values: HashMap<String, BTreeSet<Key>, Hash>,
}

struct Inner<K> {
    objects: HashMap<Key, Arc<K>, Hash>,
    indexes: HashMap<&'static str, Index<K>, Hash>,
    tallies: Vec<Box<dyn Counting<K>>>,
    resource_version: String,
    synced: bool,
}

/// What a write did to one key.
pub(crate) enum Change<K> {
    Added(Arc<K>),
    Updated { old: Arc<K>, new: Arc<K> },
    Deleted(Arc<K>),
}

/// Shared, indexed objects.
pub struct Store<K>(Arc<RwLock<Inner<K>>>);

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Inner {
            objects: HashMap::default(),
            indexes: HashMap::default(),
            tallies: Vec::new(),
            resource_version: String::new(),
            synced: false,
        })))
    }
}

/// A complete store that no informer keeps, for tests of what reads stores.
impl<K: Kept> FromIterator<K> for Store<K> {
    fn from_iter<I: IntoIterator<Item = K>>(objects: I) -> Self {
        let store = Self::default();
        store.replace(objects.into_iter().collect(), "", |_, _| {});
        store
    }
}

impl<K: Kept> Store<K> {
    /// The object with this key.
    pub fn get(&self, key: &str) -> Option<Arc<K>> {
        self.0.read().objects.get(key).cloned()
    }

    /// The object with this namespace ("" for none) and name.
    pub fn get_by(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        if namespace.is_empty() { self.get(name) } else { self.get(&[namespace, "/", name].concat()) }
    }

    /// All objects, in no order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.0.read().objects.values().cloned().collect()
    }

    /// All objects of a namespace ("" for all), in no order. Uses the namespace index if there is one.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        if namespace.is_empty() {
            return self.list();
        }
        let inner = self.0.read();
        if inner.indexes.contains_key(NAMESPACE_INDEX) {
            return inner.indexed(NAMESPACE_INDEX, namespace);
        }
        inner.objects.values().filter(|o| o.named().namespace == namespace).cloned().collect()
    }

    /// The objects that an index files under a value, ordered by key; none if the index does not exist.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        self.0.read().indexed(name, value)
    }

    /// The keys that an index files under a value, ordered.
    pub fn index_keys(&self, name: &str, value: &str) -> Vec<Key> {
        let inner = self.0.read();
        let keys = inner.indexes.get(name).and_then(|i| i.values.get(value));
        keys.map(|k| k.iter().cloned().collect()).unwrap_or_default()
    }

    /// How many objects an index files under a value.
    pub fn index_len(&self, name: &str, value: &str) -> usize {
        let inner = self.0.read();
        inner.indexes.get(name).and_then(|i| i.values.get(value)).map_or(0, BTreeSet::len)
    }

    /// The values an index has.
    pub fn index_values(&self, name: &str) -> Vec<String> {
        let inner = self.0.read();
        inner.indexes.get(name).map(|i| i.values.keys().cloned().collect()).unwrap_or_default()
    }

    /// All keys, in no order.
    pub fn keys(&self) -> Vec<Key> {
        self.0.read().objects.keys().cloned().collect()
    }

    /// Calls a function for each object while the store cannot change; keep it short.
    pub fn for_each(&self, mut f: impl FnMut(&Key, &Arc<K>)) {
        self.0.read().objects.iter().for_each(|(k, o)| f(k, o));
    }

    pub(crate) fn with_objects<R>(&self, f: impl FnOnce(&Objects<K>) -> R) -> R {
        f(&self.0.read().objects)
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.0.read().objects.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a complete state has been received.
    pub fn has_synced(&self) -> bool {
        self.0.read().synced
    }

    /// Newest version the store has reached, "" if none.
    pub fn resource_version(&self) -> String {
        self.0.read().resource_version.clone()
    }

    /// Adds an index, also over the objects that are there. The same name again changes nothing.
    pub fn add_index(&self, name: &'static str, function: IndexFn<K>) {
        let mut inner = self.0.write();
        if inner.indexes.contains_key(name) {
            return;
        }
        let mut index = Index { function, values: HashMap::default() };
        for (key, object) in &inner.objects {
            index.insert(key, object);
        }
        inner.indexes.insert(name, index);
    }

    /// Counts the objects, also those that are there: `sort` says in which group and as what an object counts, if it does.
    pub fn tally<M: Clone + PartialEq + Send + Sync + 'static>(
        &self,
        sort: impl for<'a> Fn(&'a K) -> Option<(&'a str, M)> + Send + Sync + 'static,
    ) -> Tally<M> {
        let (counter, tally) = Counter::new(Box::new(sort));
        let mut inner = self.0.write();
        inner.objects.values().for_each(|o| counter.update(None, Some(o)));
        inner.tallies.push(Box::new(counter));
        tally
    }

    pub(crate) fn set_resource_version(&self, rv: &str) {
        self.0.write().reach(rv);
    }

    /// Puts an object and reports the change while the store is still locked, so that observers see the order of writes.
    pub(crate) fn put(&self, key: &str, object: K, report: impl FnOnce(&Key, Change<K>)) {
        let mut inner = self.0.write();
        inner.reach(object.named().version);
        let (key, change) = inner.put(key, Arc::new(object));
        report(&key, change);
    }

    /// Removes an object; the last state comes from the event.
    pub(crate) fn remove(&self, key: &str, object: K, report: impl FnOnce(&Key, Change<K>)) {
        let mut inner = self.0.write();
        inner.reach(object.named().version);
        if let Some((key, _)) = inner.remove(key) {
            report(&key, Change::Deleted(Arc::new(object)));
        }
    }

    /// Replaces everything; reports only differences, deletions first.
    pub(crate) fn replace(&self, objects: Vec<K>, rv: &str, mut report: impl FnMut(&Key, Change<K>)) {
        let mut inner = self.0.write();
        let wanted: hashbrown::HashSet<String, Hash> = objects.iter().map(|o| o.named().key()).collect();
        let gone: Vec<Key> = inner.objects.keys().filter(|k| !wanted.contains(&***k)).cloned().collect();
        for key in gone {
            if let Some((key, old)) = inner.remove(&key) {
                report(&key, Change::Deleted(old));
            }
        }
        for object in objects {
            let new = object.named();
            let key = new.key();
            let same = inner.objects.get(key.as_str()).is_some_and(|old| {
                let old = old.named();
                !new.version.is_empty() && old.version == new.version && old.uid == new.uid
            });
            if !same {
                let (key, change) = inner.put(&key, Arc::new(object));
                report(&key, change);
            }
        }
        inner.resource_version = rv.to_string();
        inner.synced = true;
    }
}

impl<K: Kept> Inner<K> {
    fn reach(&mut self, version: &str) {
        if !version.is_empty() {
            self.resource_version.clear();
            self.resource_version.push_str(version);
        }
    }

    fn indexed(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let keys = self.indexes.get(name).and_then(|i| i.values.get(value));
        keys.map(|keys| keys.iter().filter_map(|k| self.objects.get(k).cloned()).collect())
            .unwrap_or_default()
    }

    fn put(&mut self, key: &str, new: Arc<K>) -> (Key, Change<K>) {
        let (key, old) = match self.objects.entry_ref(key) {
            EntryRef::Occupied(mut there) => (there.key().clone(), Some(there.insert(new.clone()))),
            EntryRef::Vacant(free) => {
                let key = Key::from(key);
                free.insert_with_key(key.clone(), new.clone());
                (key, None)
            }
        };
        for index in self.indexes.values_mut() {
            index.update(&key, old.as_deref(), &new);
        }
        self.tallies.iter().for_each(|t| t.update(old.as_deref(), Some(&new)));
        let change = match old {
            Some(old) => Change::Updated { old, new },
            None => Change::Added(new),
        };
        (key, change)
    }

    fn remove(&mut self, key: &str) -> Option<(Key, Arc<K>)> {
        let (key, old) = self.objects.remove_entry(key)?;
        for index in self.indexes.values_mut() {
            for value in (index.function)(&old) {
                index.take(&value, &key);
            }
        }
        self.tallies.iter().for_each(|t| t.update(Some(&old), None));
        Some((key, old))
    }
}

impl<K> Index<K> {
    fn insert(&mut self, key: &Key, object: &K) {
        for value in (self.function)(object) {
            self.values.entry(value).or_default().insert(key.clone());
        }
    }

    fn take(&mut self, value: &str, key: &Key) {
        if let Some(set) = self.values.get_mut(value) {
            set.remove(key);
            if set.is_empty() {
                self.values.remove(value);
            }
        }
    }

    fn update(&mut self, key: &Key, old: Option<&K>, new: &K) {
        let Some(old) = old else { return self.insert(key, new) };
        let (before, after) = ((self.function)(old), (self.function)(new));
        if before == after {
            return;
        }
        for value in before.iter().filter(|v| !after.contains(v)) {
            self.take(value, key);
        }
        for value in after {
            self.values.entry(value).or_default().insert(key.clone());
        }
    }
}
