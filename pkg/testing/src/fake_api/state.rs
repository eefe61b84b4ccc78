//! Objects, versions and the event log.

use std::collections::BTreeMap;

use serde_json::{Value, json};

#[derive(Clone)]
pub(super) struct Event {
    pub version: u64,
    pub collection: String,
    pub kind: &'static str,
    pub object: Value,
}

pub(super) struct State {
    pub version: u64,
    /// Watches may start from this version or later.
    pub compacted: u64,
    pub log: Vec<Event>,
    collections: BTreeMap<String, BTreeMap<String, Value>>,
    pub streaming: bool,
    pub bookmarks: u64,
    pub cuts: u64,
    pub closes: u64,
    next_uid: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: 1,
            compacted: 1,
            log: Vec::new(),
            collections: BTreeMap::new(),
            streaming: true,
            bookmarks: 0,
            cuts: 0,
            closes: 0,
            next_uid: 1,
        }
    }
}

/// `namespace/name` or `name`.
pub(super) fn key(object: &Value) -> String {
    let meta = &object["metadata"];
    let name = meta["name"].as_str().unwrap_or("");
    match meta["namespace"].as_str().unwrap_or("") {
        "" => name.to_string(),
        ns => format!("{ns}/{name}"),
    }
}

impl State {
    pub fn objects(&self, collection: &str) -> BTreeMap<String, Value> {
        self.collections.get(collection).cloned().unwrap_or_default()
    }

    pub fn get(&self, collection: &str, key: &str) -> Option<&Value> {
        self.collections.get(collection)?.get(key)
    }

    pub fn put(&mut self, collection: &str, mut object: Value) -> Value {
        self.version += 1;
        let key = key(&object);
        let all = self.collections.entry(collection.to_string()).or_default();
        let old = all.get(&key);
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object["metadata"]["uid"] = match old {
            Some(old) => old["metadata"]["uid"].clone(),
            None => {
                self.next_uid += 1;
                json!(format!("uid-{}", self.next_uid))
            }
        };
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        all.insert(key, object.clone());
        self.record(collection, kind, object.clone());
        object
    }

    pub fn remove(&mut self, collection: &str, key: &str) -> Option<Value> {
        let mut object = self.collections.get_mut(collection)?.remove(key)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.record(collection, "DELETED", object.clone());
        Some(object)
    }

    fn record(&mut self, collection: &str, kind: &'static str, object: Value) {
        self.log.push(Event { version: self.version, collection: collection.to_string(), kind, object });
    }

    pub fn compact(&mut self) {
        // The log stays: watches that are open already get what happened before.
        self.compacted = self.version;
    }
}

/// RFC 7386; also stands in for strategic merge, which tests that need it must not rely on.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(map) = target.as_object_mut() else { return };
    for (name, value) in fields {
        if value.is_null() {
            map.remove(name);
        } else {
            merge(map.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
