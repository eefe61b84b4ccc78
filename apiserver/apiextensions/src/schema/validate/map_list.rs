//! The items of a list whose items have keys (`x-kubernetes-list-type: map`), found by them.
//! Upstream: `k8s.io/apiserver/pkg/cel/common/maplist.go`.

use std::collections::HashMap;
use std::fmt::Write;

use machinery::{List, Value};

/// Items by their keys; of several with the same, the first.
#[derive(Clone, Debug)]
pub struct MapList<'a> {
    keys: Vec<&'a str>,
    by_key: HashMap<String, &'a Value>,
}

impl<'a> MapList<'a> {
    /// The items of a list, told apart by the fields named.
    pub fn new(list: &'a List, keys: impl IntoIterator<Item = &'a str>) -> Self {
        let keys: Vec<&str> = keys.into_iter().collect();
        let mut by_key = HashMap::new();
        for item in list.iter() {
            if let Some(key) = composite(item, &keys) {
                by_key.entry(key).or_insert(item);
            }
        }
        MapList { keys, by_key }
    }

    /// The item with the same keys.
    pub fn get(&self, item: &Value) -> Option<&'a Value> {
        self.by_key.get(&composite(item, &self.keys)?).copied()
    }
}

/// All keys in one text; `None` where one is missing or no scalar.
fn composite(item: &Value, keys: &[&str]) -> Option<String> {
    let map = item.as_map().filter(|_| !keys.is_empty())?;
    let mut out = String::new();
    for key in keys {
        // Writing to a string does not fail.
        let _ = match map.get(key)? {
            Value::Bool(flag) => write!(out, "b{flag};"),
            Value::Int(number) => write!(out, "i{number};"),
            Value::Float(number) => write!(out, "f{number};"),
            Value::Str(text) => write!(out, "s{}:{text}", text.len()),
            _ => return None,
        };
    }
    Some(out)
}
