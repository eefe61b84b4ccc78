//! A reference model of a store (every version of every key in a plain map) and a driver that runs the same random
//! operations on it and on a real store, comparing every answer.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use proptest::prelude::*;
use storage::{Error, Event, EventKind, KeyValue, ListOptions, Revision, Store, WatchItem, WatchOptions};

/// One random operation. Keys are small numbers so that operations meet.
#[derive(Clone, Debug)]
pub enum Op {
    Create(u8, Vec<u8>),
    Update { key: u8, value: Vec<u8>, stale: bool },
    Delete { key: u8, stale: bool },
    Get { key: u8, back: u8 },
    List { start: Option<u8>, limit: usize, back: u8, group: bool },
    Compact { back: u8 },
    Watch { back: u8, group: bool },
    Reopen,
}

pub fn op() -> impl Strategy<Value = Op> {
    let key = 0u8..12;
    let value = proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        4 => (key.clone(), value.clone()).prop_map(|(k, v)| Op::Create(k, v)),
        4 => (key.clone(), value, proptest::bool::weighted(0.2))
            .prop_map(|(key, value, stale)| Op::Update { key, value, stale }),
        3 => (key.clone(), proptest::bool::weighted(0.2)).prop_map(|(key, stale)| Op::Delete { key, stale }),
        2 => (key.clone(), 0u8..10).prop_map(|(key, back)| Op::Get { key, back }),
        3 => (proptest::option::of(key), 0usize..6, 0u8..10, any::<bool>())
            .prop_map(|(start, limit, back, group)| Op::List { start, limit, back, group }),
        1 => (0u8..20).prop_map(|back| Op::Compact { back }),
        2 => (0u8..30, any::<bool>()).prop_map(|(back, group)| Op::Watch { back, group }),
        1 => Just(Op::Reopen),
    ]
}

/// The model: the whole history, never forgotten.
pub struct Model {
    pub prefix: String,
    /// Per key, in revision order; deletions without value.
    pub keys: BTreeMap<String, Vec<(Revision, Option<KeyValue>)>>,
    pub events: Vec<Event>,
    pub current: Revision,
    pub oldest: Revision,
    /// The first revision a watch may start from.
    pub watchable: Revision,
    /// What a change at the compacted revision superseded is gone, as in etcd (server/etcdserver/api/v3rpc/watch.go,
    /// sendLoop reads it at the revision before). The embedded store by itself still knows it.
    pub superseded_compacted: bool,
}

/// Brings a store in use by nobody else to a state the model knows, and makes a model of it.
pub async fn fresh_model(store: &dyn Store, prefix: &str) -> Model {
    let revision = store.create(&format!("{prefix}first"), Bytes::new(), None).await.unwrap();
    let last = store.delete(&format!("{prefix}first"), revision).await.unwrap();
    store.compact(last).await.unwrap();
    Model::new(prefix, last)
}

impl Model {
    pub fn new(prefix: &str, current: Revision) -> Self {
        Self {
            prefix: prefix.to_owned(),
            keys: BTreeMap::new(),
            events: Vec::new(),
            current,
            oldest: current,
            watchable: current + 1,
            superseded_compacted: false,
        }
    }

    pub fn key(&self, key: u8) -> String {
        let group = if key < 6 { "a" } else { "b" };
        format!("{}{group}/{key:02}", self.prefix)
    }

    pub fn at(&self, key: &str, revision: Revision) -> Option<KeyValue> {
        self.keys.get(key)?.iter().rev().find(|(r, _)| *r <= revision)?.1.clone()
    }

    pub fn latest(&self, key: &str) -> Option<KeyValue> {
        self.at(key, Revision::MAX)
    }

    pub fn put(&mut self, key: &str, value: &[u8]) -> Revision {
        let prev = self.latest(key);
        self.current += 1;
        let kv = KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value),
            mod_revision: self.current,
            create_revision: prev.as_ref().map_or(self.current, |kv| kv.create_revision),
            version: prev.as_ref().map_or(1, |kv| kv.version + 1),
            lease: 0,
        };
        self.keys.entry(key.to_owned()).or_default().push((self.current, Some(kv.clone())));
        self.events.push(Event { kind: EventKind::Put, kv, prev });
        self.current
    }

    pub fn delete(&mut self, key: &str) -> Revision {
        let prev = self.latest(key);
        self.current += 1;
        let kv = KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::new(),
            mod_revision: self.current,
            create_revision: 0,
            version: 0,
            lease: 0,
        };
        self.keys.entry(key.to_owned()).or_default().push((self.current, None));
        self.events.push(Event { kind: EventKind::Delete, kv, prev });
        self.current
    }

    pub fn list(&self, prefix: &str, start: &str, revision: Revision) -> Vec<KeyValue> {
        let keys = self.keys.keys().filter(|k| k.starts_with(prefix) && k.as_str() >= start);
        keys.filter_map(|key| self.at(key, revision)).collect()
    }

    fn scope(&self, group: bool) -> String {
        if group { format!("{}a/", self.prefix) } else { self.prefix.clone() }
    }
}

/// Runs one operation on both sides.
pub async fn step(store: &dyn Store, model: &mut Model, op: &Op) {
    match op {
        Op::Create(key, value) => {
            let key = model.key(*key);
            let outcome = store.create(&key, Bytes::copy_from_slice(value), None).await;
            match model.latest(&key) {
                None => assert_eq!(outcome.unwrap(), model.put(&key, value)),
                Some(kv) => match outcome {
                    Err(Error::AlreadyExists { current, .. }) => assert_eq!(*current, kv),
                    other => panic!("create of a taken key: {other:?}"),
                },
            }
        }
        Op::Update { key, value, stale } => {
            let key = model.key(*key);
            let now = model.latest(&key);
            let expected = now.as_ref().map_or(0, |kv| kv.mod_revision);
            let asked = if *stale { expected + 1 } else { expected };
            let outcome = store.update(&key, Bytes::copy_from_slice(value), asked, None).await;
            if *stale {
                match outcome {
                    Err(Error::Conflict { current, .. }) => assert_eq!(current.map(|kv| *kv), now),
                    other => panic!("update from a stale revision: {other:?}"),
                }
            } else {
                assert_eq!(outcome.unwrap(), model.put(&key, value));
            }
        }
        Op::Delete { key, stale } => {
            let key = model.key(*key);
            let now = model.latest(&key);
            let expected = now.as_ref().map_or(0, |kv| kv.mod_revision) + i64::from(*stale);
            match (store.delete(&key, expected).await, now) {
                (Err(Error::NotFound { .. }), None) => {}
                (Err(Error::Conflict { current, .. }), Some(kv)) if *stale => {
                    assert_eq!(*current.unwrap(), kv)
                }
                (Ok(revision), Some(_)) if !*stale => assert_eq!(revision, model.delete(&key)),
                other => panic!("delete {key}: {other:?}"),
            }
        }
        Op::Get { key, back } => {
            let key = model.key(*key);
            let (ask, at) = asked(model, *back);
            let outcome = store.get(&key, ask).await;
            if at < model.oldest {
                assert!(outcome.unwrap_err().is_compacted());
            } else {
                assert_eq!(outcome.unwrap().kv, model.at(&key, at));
            }
        }
        Op::List { start, limit, back, group } => list(store, model, *start, *limit, *back, *group).await,
        Op::Compact { back } => {
            let revision = (model.current - i64::from(*back)).max(1);
            let outcome = store.compact(revision).await;
            if revision <= model.oldest {
                assert!(outcome.unwrap_err().is_compacted());
            } else {
                outcome.unwrap();
                model.oldest = revision;
                model.watchable = model.watchable.max(revision);
            }
        }
        Op::Watch { back, group } => watch(store, model, model.current - i64::from(*back), *group).await,
        Op::Reopen => {}
    }
    assert_eq!(store.current_revision().await.unwrap(), model.current);
}

fn asked(model: &Model, back: u8) -> (Revision, Revision) {
    let at = (model.current - i64::from(back)).max(1);
    if back == 0 { (0, model.current) } else { (at, at) }
}

async fn list(store: &dyn Store, model: &Model, start: Option<u8>, limit: usize, back: u8, group: bool) {
    let (ask, at) = asked(model, back);
    let prefix = model.scope(group);
    let start = start.map(|key| model.key(key));
    let options = ListOptions {
        prefix: prefix.clone(),
        start: start.clone(),
        limit,
        revision: ask,
        ..ListOptions::default()
    };
    let outcome = store.list(options).await;
    if at < model.oldest {
        assert!(outcome.unwrap_err().is_compacted());
        return;
    }
    let page = outcome.unwrap();
    let expected = model.list(&prefix, start.as_deref().unwrap_or_default(), at);
    let cut = if limit == 0 { expected.len() } else { limit.min(expected.len()) };
    assert_eq!(page.kvs, expected[..cut]);
    assert_eq!(page.count, expected.len() as i64);
    assert_eq!(page.revision, model.current);
}

/// Reads a watch until it reports progress to the current revision.
pub async fn watch(store: &dyn Store, model: &Model, from: Revision, group: bool) {
    let prefix = model.scope(group);
    let from = from.max(1);
    let options = WatchOptions { prefix: prefix.clone(), from, prev: true, progress: false };
    let started = store.watch(options).await;
    let outcome = match started {
        Ok(watch) => collect(watch, model.current).await,
        Err(error) => Err(error),
    };
    if from < model.watchable {
        assert!(outcome.unwrap_err().is_compacted());
        return;
    }
    let events = outcome.unwrap();
    let expected: Vec<_> = model
        .events
        .iter()
        .filter(|event| event.revision() >= from && event.kv.key_str().starts_with(&prefix))
        .map(|event| {
            let gone = model.superseded_compacted && event.revision() <= model.oldest;
            Event { prev: event.prev.clone().filter(|_| !gone), ..event.clone() }
        })
        .collect();
    assert_eq!(events, expected);
}

/// Everything a watch reports up to a revision.
pub async fn collect(mut watch: storage::Watch, until: Revision) -> storage::Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    let handle = watch.progress();
    handle.request();
    let mut patience = 100;
    loop {
        let item = tokio::time::timeout(std::time::Duration::from_millis(100), watch.next()).await;
        let Ok(item) = item else {
            // etcd drops a request that comes before it has caught up.
            handle.request();
            patience -= 1;
            assert!(patience > 0, "a watch answers progress requests");
            continue;
        };
        match item.expect("a watch ends with an error only")? {
            WatchItem::Events(more) => {
                assert!(!more.is_empty());
                for event in more {
                    assert!(
                        events.last().is_none_or(|last| last.revision() <= event.revision()),
                        "out of order"
                    );
                    events.push(event);
                }
            }
            WatchItem::Progress(revision) if revision >= until => return Ok(events),
            WatchItem::Progress(_) => handle.request(),
        }
    }
}
