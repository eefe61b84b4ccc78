//! Equal parts of pods are kept once: what they want, their labels, which other pods a term means.

use std::collections::BTreeMap;
use std::hash::Hash as HashTrait;
use std::sync::{Arc, Weak};

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
    fn get(&self, key: &K) -> Option<Arc<V>> {
        self.entries.get(key)?.upgrade()
    }

    fn put(&mut self, key: K, value: V) -> Arc<V> {
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, v| v.strong_count() > 0);
            self.sweep_at = 2 * self.entries.len() + 256;
        }
        let value = Arc::new(value);
        self.entries.insert(key, Arc::downgrade(&value));
        value
    }
}

#[derive(Default)]
struct Tables {
    next: u64,
    wants: Table<Vec<u8>, Wants>,
    of_rows: Table<Vec<u8>, u64>,
    labels: Table<BTreeMap<String, String>, LabelSet>,
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
