//! Equal parts of pods are kept once: what they want, their labels, which other pods a term means.

use std::collections::BTreeMap;
use std::hash::Hash as HashTrait;
use std::sync::{Arc, LazyLock, Weak};

use component::features;
use hashbrown::HashMap;
use machinery::labels::Selector;
use parking_lot::Mutex;

use super::matcher::{Matcher, Part};
use super::pod::Wants;
use super::resources::Levels;

type Hash = foldhash::fast::RandomState;

/// A set of labels under a number, by which answers about it are remembered.
#[derive(Debug, Default)]
pub struct LabelSet {
    pub id: u64,
    pub map: BTreeMap<String, String>,
}

/// Values by what they say; those that nobody holds any more go away now and then.
struct Table<K, V> {
    entries: HashMap<K, Weak<V>, Hash>,
    sweep_at: usize,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::default(), sweep_at: 256 }
    }
}

impl<K: Eq + HashTrait, V> Table<K, V> {
    fn get<Q: HashTrait + hashbrown::Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Arc<V>> {
        self.entries.get(key)?.upgrade()
    }

    fn put(&mut self, key: K, value: V) -> Arc<V> {
        let value = Arc::new(value);
        self.link(key, &value);
        value
    }

    fn link(&mut self, key: K, value: &Arc<V>) {
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, v| v.strong_count() > 0);
            self.sweep_at = 2 * self.entries.len() + 256;
        }
        self.entries.insert(key, Arc::downgrade(value));
    }
}

#[derive(Default)]
struct Tables {
    next: u64,
    wants: Table<Vec<u8>, Wants>,
    of_rows: Table<Vec<u8>, u64>,
    labels: Table<BTreeMap<String, String>, LabelSet>,
    /// The same by the bytes that they were read from.
    wants_of_bytes: Table<Vec<u8>, Wants>,
    labels_of_bytes: Table<Vec<u8>, LabelSet>,
    matchers: Table<String, Matcher>,
    names: HashMap<Arc<str>, (), Hash>,
}

impl Tables {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// The shared parts. Clones share.
#[derive(Clone)]
pub struct Interner {
    tables: Arc<Mutex<Tables>>,
    /// Which resources of pods count.
    pub levels: Levels,
}

impl Default for Interner {
    fn default() -> Self {
        Self::new(Levels::of(features::enabled))
    }
}

impl std::fmt::Debug for Interner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interner")
    }
}

impl Interner {
    pub fn new(levels: Levels) -> Self {
        Self { tables: Arc::default(), levels }
    }

    /// What everything in the process shares.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Interner> = LazyLock::new(Interner::default);
        &SHARED
    }

    pub fn labels(&self, map: Option<&BTreeMap<String, String>>) -> Arc<LabelSet> {
        let mut tables = self.tables.lock();
        let none = BTreeMap::new();
        let map = map.unwrap_or(&none);
        if let Some(known) = tables.labels.get(map) {
            return known;
        }
        let id = tables.number();
        tables.labels.put(map.clone(), LabelSet { id, map: map.clone() })
    }

    /// What a pod wants, by a text that says it all; made when it is new.
    pub fn wants(&self, text: Vec<u8>, make: impl FnOnce() -> Wants) -> Arc<Wants> {
        if let Some(known) = self.tables.lock().wants.get(&text) {
            return known;
        }
        let mut wants = make();
        let mut tables = self.tables.lock();
        wants.id = tables.number();
        tables.wants.put(text, wants)
    }

    /// What a pod wants, by bytes that it was read from before.
    pub fn wants_of_bytes(&self, bytes: &[u8]) -> Option<Arc<Wants>> {
        self.tables.lock().wants_of_bytes.get(bytes)
    }

    pub fn learn_wants(&self, bytes: Vec<u8>, wants: &Arc<Wants>) {
        self.tables.lock().wants_of_bytes.link(bytes, wants);
    }

    /// Labels by the bytes that they are read from.
    pub fn labels_of_bytes<E>(
        &self,
        bytes: &[u8],
        read: impl FnOnce() -> Result<BTreeMap<String, String>, E>,
    ) -> Result<Arc<LabelSet>, E> {
        if let Some(known) = self.tables.lock().labels_of_bytes.get(bytes) {
            return Ok(known);
        }
        let labels = self.labels(Some(&read()?));
        self.tables.lock().labels_of_bytes.link(bytes.to_vec(), &labels);
        Ok(labels)
    }

    /// A number for what pods want of a row, by a text that says it all.
    pub fn of_row(&self, text: Vec<u8>) -> Arc<u64> {
        let mut tables = self.tables.lock();
        if let Some(known) = tables.of_rows.get(&text) {
            return known;
        }
        let number = tables.number();
        tables.of_rows.put(text, number)
    }

    /// A name that occurs often, such as a namespace's or a node's.
    pub fn name(&self, name: &str) -> Arc<str> {
        let mut tables = self.tables.lock();
        if let Some((known, ())) = tables.names.get_key_value(name) {
            return known.clone();
        }
        if tables.names.len() >= 65_536 {
            tables.names.retain(|n, ()| Arc::strong_count(n) > 1);
        }
        let name: Arc<str> = name.into();
        tables.names.insert(name.clone(), ());
        name
    }

    pub fn matcher(&self, parts: Vec<Part>, alive: bool) -> Arc<Matcher> {
        let text = Matcher::text(&parts, alive);
        let mut tables = self.tables.lock();
        if let Some(known) = tables.matchers.get(&text) {
            return known;
        }
        let id = tables.number();
        tables.matchers.put(text, Matcher { id, parts, alive })
    }

    /// Pods of a namespace that a selector chooses and that are not about to go.
    pub fn in_namespace(&self, namespace: &str, selector: Selector) -> Arc<Matcher> {
        let part = Part {
            namespaces: vec![namespace.to_string()],
            namespace_selector: Selector::nothing(),
            selector,
        };
        self.matcher(vec![part], true)
    }
}
