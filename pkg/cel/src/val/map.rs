//! Maps: of an object tree, computed, or asked for key by key.

use super::bulk::Bulk;
use super::object::Identity;
use super::{Res, Text, Val, tree};
use crate::escape;
use crate::eval::EvalError;
use crate::schema::Schema;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Map<'a>(Repr<'a>);

#[derive(Clone)]
enum Repr<'a> {
    Tree(&'a machinery::Map, Option<&'a Schema>),
    Own(Arc<Owned<'a>>),
    Lazy(&'a dyn Lazy),
}

/// Values computed when asked for, and then the same each time: variables that other expressions define.
pub trait Lazy: Send + Sync {
    /// The value of a key, or `None` if there is no such key.
    fn get<'a>(&'a self, key: &str) -> Option<Res<'a>>;
}

impl fmt::Debug for Repr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Repr::Tree(map, _) => map.fmt(f),
            Repr::Own(map) => map.entries.fmt(f),
            Repr::Lazy(_) => f.write_str("Lazy"),
        }
    }
}

#[derive(Clone, Default)]
struct Owned<'a> {
    entries: Vec<(Val<'a>, Val<'a>)>,
    index: HashMap<Key<'a>, usize>,
    /// What every key without an entry maps to, while `in` and `has` find it too (device attributes' domains).
    default: Option<Val<'a>>,
    bulk: Bulk,
}

/// Keys that can be looked up; `1`, `1u` and `1.0` are told apart when stored, and found by each other.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(u64),
    Str(StrKey<'a>),
    /// Types, durations, timestamps, addresses and null by their text.
    Other(&'static str, String),
    /// What is a key by where it stands: lists, maps, optionals, objects.
    Place(usize),
}

#[derive(Clone)]
struct StrKey<'a>(Text<'a>);

impl PartialEq for StrKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl Eq for StrKey<'_> {}

impl std::hash::Hash for StrKey<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Below so many entries a map is searched from front to back.
const INDEXED: usize = 9;

fn key<'a>(v: &Val<'a>) -> Option<Key<'a>> {
    Some(match v {
        Val::Bool(b) => Key::Bool(*b),
        Val::Int(i) => Key::Int(*i),
        Val::Uint(u) => Key::Uint(*u),
        Val::Double(d) if *d == 0.0 => Key::Double(0),
        Val::Double(d) => Key::Double(d.to_bits()),
        Val::Str(s) => Key::Str(StrKey(s.clone())),
        Val::Null => Key::Other("null", String::new()),
        Val::Duration(d) => Key::Other("duration", d.to_string()),
        Val::Timestamp(t) => Key::Other("timestamp", format!("{t:?}")),
        Val::Type(t) => Key::Other("type", t.runtime_name().to_owned()),
        Val::List(list) => Key::Place(list.place()?),
        Val::Map(map) => Key::Place(map.place()?),
        Val::Made(made) => place(made),
        Val::Optional(Some(inner)) => place(inner),
        Val::Optional(None) => Key::Other("optional", String::new()),
        Val::Object(o) => match o.identity() {
            Identity::Text(kind) => Key::Other(kind, o.text()?),
            Identity::Place => place(o),
            Identity::None => return None,
        },
        _ => return None,
    })
}

fn place<T: ?Sized>(shared: &Arc<T>) -> Key<'static> {
    Key::Place(Arc::as_ptr(shared).addr())
}

/// What is stored for a key. A list or map of a tree gets a place of its own each time, as upstream wraps it anew.
fn stored(k: Val<'_>) -> Val<'_> {
    match &k {
        Val::List(list) if list.is_tree() => list.to_vec().map_or(k, Val::list),
        Val::Map(map) if map.as_tree().is_some() => {
            let mut own = MapBuilder::default();
            for key in map.keys() {
                if let Some(Ok(value)) = map.find(&key) {
                    own.set(key, value);
                }
            }
            own.build()
        }
        _ => k,
    }
}

/// Keys that equal the number, of the other numeric types (upstream's refValMapAccessor.Find).
fn alike(v: &Val<'_>) -> [Option<Key<'static>>; 2] {
    match v {
        Val::Int(i) => [u64::try_from(*i).ok().map(Key::Uint), None],
        Val::Uint(u) => [i64::try_from(*u).ok().map(Key::Int), None],
        Val::Double(d) => [
            super::convert::double_to_int(*d).filter(|i| *i as f64 == *d).map(Key::Int),
            super::convert::double_to_uint(*d).filter(|u| *u as f64 == *d).map(Key::Uint),
        ],
        _ => [None, None],
    }
}

impl<'a> Owned<'a> {
    fn position(&self, k: &Key<'_>) -> Option<usize> {
        if self.entries.len() < INDEXED {
            return self.entries.iter().position(|(e, _)| key(e).is_some_and(|e| e == *k));
        }
        // The index is covariant in its keys' lifetime, so a shorter-lived key may be looked up.
        let index: &HashMap<Key<'_>, usize> = &self.index;
        index.get(k).copied()
    }

    fn find(&self, v: &Val<'_>) -> Option<&Val<'a>> {
        if let Val::Str(s) = v
            && self.entries.len() < INDEXED
        {
            let found = self.entries.iter().find(|(k, _)| matches!(k, Val::Str(k) if **k == **s));
            return found.map(|(_, v)| v).or(self.default.as_ref());
        }
        let at = key(v)
            .and_then(|k| self.position(&k))
            .or_else(|| alike(v).iter().flatten().find_map(|k| self.position(k)));
        at.map(|i| &self.entries[i].1).or(self.default.as_ref())
    }

    fn insert(&mut self, k: Key<'a>, entry: (Val<'a>, Val<'a>)) {
        self.bulk.add(Bulk::all([&entry.0, &entry.1]));
        self.entries.push(entry);
        match self.entries.len() {
            0..INDEXED => {}
            INDEXED => {
                let keys = self.entries.iter().enumerate().filter_map(|(i, (k, _))| Some((key(k)?, i)));
                self.index = keys.collect();
            }
            n => {
                self.index.insert(k, n - 1);
            }
        }
    }
}

/// Builds a map entry by entry.
#[derive(Default)]
pub struct MapBuilder<'a>(Owned<'a>);

impl<'a> MapBuilder<'a> {
    /// Sets an entry; a later one of the same key replaces the former. Answers whether the value can be a key.
    pub fn set(&mut self, k: Val<'a>, v: Val<'a>) -> bool {
        let k = stored(k);
        let Some(id) = key(&k) else { return false };
        match self.0.position(&id) {
            Some(at) => {
                self.0.bulk.add(v.bulk());
                self.0.entries[at].1 = v;
            }
            None => self.0.insert(id, (k, v)),
        }
        true
    }

    pub(crate) fn remove(&mut self, k: &Val<'a>) {
        let entries = std::mem::take(&mut self.0.entries);
        self.0.index.clear();
        let gone = key(k);
        for (k, v) in entries {
            if let Some(id) = key(&k).filter(|id| gone.as_ref() != Some(id)) {
                self.0.insert(id, (k, v));
            }
        }
    }

    /// What keys without an entry map to.
    pub fn set_default(&mut self, v: Val<'a>) {
        self.0.default = Some(v);
    }

    pub fn build(self) -> Val<'a> {
        Val::Map(Map(Repr::Own(Arc::new(self.0))))
    }
}

impl<'a> Map<'a> {
    pub(crate) fn tree(map: &'a machinery::Map, schema: Option<&'a Schema>) -> Self {
        Map(Repr::Tree(map, schema))
    }

    pub fn lazy(values: &'a dyn Lazy) -> Self {
        Map(Repr::Lazy(values))
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Tree(map, _) => map.len(),
            Repr::Own(map) => map.entries.len(),
            Repr::Lazy(_) => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn as_tree(&self) -> Option<(&'a machinery::Map, Option<&'a Schema>)> {
        match self.0 {
            Repr::Tree(map, schema) => Some((map, schema)),
            _ => None,
        }
    }

    /// Where it stands, if it is not of a tree.
    fn place(&self) -> Option<usize> {
        match &self.0 {
            Repr::Own(own) => Some(Arc::as_ptr(own).addr()),
            Repr::Tree(..) | Repr::Lazy(_) => None,
        }
    }

    /// Of what is in it, more if entries were replaced; of a tree only its own entries.
    pub(crate) fn bulk(&self) -> Bulk {
        match &self.0 {
            Repr::Own(map) => map.bulk,
            Repr::Tree(map, _) => Bulk::flat(map.len()),
            Repr::Lazy(_) => Bulk::default(),
        }
    }

    /// Whether an expression made it.
    pub(crate) fn is_computed(&self) -> bool {
        matches!(self.0, Repr::Own(_))
    }

    pub(crate) fn is_typed_tree(&self) -> bool {
        matches!(self.0, Repr::Tree(_, Some(_)))
    }

    /// The value of a key; `None` if there is none.
    pub fn find(&self, k: &Val<'_>) -> Option<Res<'a>> {
        match (&self.0, k) {
            (Repr::Own(map), _) => map.find(k).map(|v| Ok(v.clone())),
            (Repr::Tree(map, None), Val::Str(s)) => map.get(s).map(|v| Ok(tree::plain(v))),
            (Repr::Tree(map, Some(schema)), Val::Str(s)) => typed_field(map, schema, s),
            (Repr::Tree(_, Some(_)), _) => Some(Err(EvalError::new("no such overload"))),
            (Repr::Tree(_, None), _) => None,
            (Repr::Lazy(values), Val::Str(s)) => values.get(s),
            (Repr::Lazy(_), _) => None,
        }
    }

    /// Keys as iteration sees them, in the order stored.
    pub fn keys(&self) -> Vec<Val<'a>> {
        match &self.0 {
            Repr::Own(map) => map.entries.iter().map(|(k, _)| k.clone()).collect(),
            Repr::Tree(map, None) => map.keys().map(|k| Val::from(k.as_str())).collect(),
            Repr::Tree(map, Some(schema)) => {
                let known = map.keys().filter(|k| schema.property(k).is_some());
                known
                    .map(|k| match escape::escape(k) {
                        Some(escaped) if schema.is_object() && escaped != k.as_str() => Val::str(escaped),
                        _ => Val::from(k.as_str()),
                    })
                    .collect()
            }
            Repr::Lazy(_) => Vec::new(),
        }
    }

    /// Adds an entry, in place where nobody else holds the map (upstream's `InsertMapKeyValue`).
    pub(crate) fn insert(&mut self, k: Val<'a>, v: Val<'a>) -> Result<(), EvalError> {
        if self.find(&k).is_some() {
            return Err(EvalError::new(format!("insert failed: key {} already exists", k.display())));
        }
        if !matches!(self.0, Repr::Own(_)) {
            let mut owned = MapBuilder::default();
            for key in self.keys() {
                if let Some(value) = self.find(&key) {
                    owned.set(key, value?);
                }
            }
            self.0 = Repr::Own(Arc::new(owned.0));
        }
        if let Repr::Own(map) = &mut self.0 {
            let k = stored(k);
            let id = key(&k).ok_or_else(|| unhashable(&k))?;
            Arc::make_mut(map).insert(id, (k, v));
        }
        Ok(())
    }
}

/// What upstream's panic on such a key becomes.
pub(crate) fn unhashable(k: &Val<'_>) -> EvalError {
    EvalError::new(format!("unsupported map key type: {}", k.type_name()))
}

fn typed_field<'a>(map: &'a machinery::Map, schema: &'a Schema, name: &str) -> Option<Res<'a>> {
    let unescaped = if schema.is_object() { escape::unescape(name)? } else { name.into() };
    let value = map.get(&unescaped)?;
    if schema.is_object() && value.is_null() {
        return None;
    }
    Some(tree::typed(value, Some(schema.property(&unescaped)?)))
}
