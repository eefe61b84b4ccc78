//! Labels of a node: few, and most nodes have the same keys and values, so names are kept once and searched one after the
//! other.

use std::collections::BTreeMap;

use informer::Name;
use machinery::labels::Labels;
use serde::{Deserialize, Deserializer};

/// Keys and values, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLabels(Box<[(Name, Name)]>);

/// What a row without a node has.
pub static NO_LABELS: std::sync::LazyLock<NodeLabels> = std::sync::LazyLock::new(NodeLabels::default);

impl NodeLabels {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }
}

impl Labels for NodeLabels {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
}

impl From<BTreeMap<String, String>> for NodeLabels {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl<'de> Deserialize<'de> for NodeLabels {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let map = Option::<BTreeMap<String, String>>::deserialize(d)?;
        Ok(map.unwrap_or_default().into())
    }
}
