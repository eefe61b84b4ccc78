//! Labels and annotations: few, so they are searched one after the other.

use std::collections::BTreeMap;
use std::fmt;

use informer::Name;
use machinery::labels::Labels;
use machinery::proto::read;
use machinery::proto::wire::{Result as WireResult, Wire};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use smallvec::SmallVec;

/// Keys and values, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSet(Box<[(Name, Name)]>);

impl LabelSet {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

impl Labels for LabelSet {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
}

impl FromIterator<(Name, Name)> for LabelSet {
    fn from_iter<I: IntoIterator<Item = (Name, Name)>>(pairs: I) -> Self {
        let mut all: Vec<(Name, Name)> = pairs.into_iter().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Self(all.into())
    }
}

impl From<BTreeMap<String, String>> for LabelSet {
    fn from(map: BTreeMap<String, String>) -> Self {
        map.iter().map(|(k, v)| (Name::from(k.as_str()), Name::from(v.as_str()))).collect()
    }
}

/// Reads the pairs whose keys are wanted.
struct Pairs(fn(&str) -> bool);

impl<'de> Visitor<'de> for Pairs {
    type Value = LabelSet;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LabelSet, A::Error> {
        let mut all = Vec::with_capacity(4);
        while let Some(Key(key)) = map.next_key_seed(Wanted(self.0))? {
            match key {
                Some(key) => all.push((key, map.next_value()?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(all.into_iter().collect())
    }
}

/// A key, if it is wanted.
struct Key(Option<Name>);
struct Wanted(fn(&str) -> bool);

impl<'de> serde::de::DeserializeSeed<'de> for Wanted {
    type Value = Key;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Key, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Wanted {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Key, E> {
        Ok(Key((self.0)(text).then(|| text.into())))
    }
}

impl<'de> Deserialize<'de> for LabelSet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(Pairs(|_| true))
    }
}

type Read = SmallVec<[(Name, Name); 8]>;

/// A label.
pub fn label(to: &mut Read, wire: u8, from: &mut Wire<'_>) -> WireResult<()> {
    let (key, value) = read::entry(wire, from, read::text)?;
    to.push(((&*key).into(), (&*value).into()));
    Ok(())
}

/// An annotation, if it is one that is read.
pub fn annotation(to: &mut Read, wire: u8, from: &mut Wire<'_>) -> WireResult<()> {
    let (key, value) = read::entry(wire, from, read::text)?;
    if ANNOTATIONS.contains(&&*key) {
        to.push(((&*key).into(), (&*value).into()));
    }
    Ok(())
}

/// Annotations that somebody reads: what a job notes on its pods, and what a pod says it costs to delete.
const ANNOTATIONS: [&str; 4] = [
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/job-index-failure-count",
    "batch.kubernetes.io/job-index-ignored-failure-count",
    "controller.kubernetes.io/pod-deletion-cost",
];

/// Those of an object's annotations that are read; nothing if there are none.
pub fn annotations<'de, D: Deserializer<'de>>(d: D) -> Result<Option<informer::Shared<LabelSet>>, D::Error> {
    struct Optional;
    impl<'de> Visitor<'de> for Optional {
        type Value = Option<LabelSet>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of texts, or nothing")
        }
        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
            d.deserialize_map(Pairs(|key| ANNOTATIONS.contains(&key))).map(Some)
        }
    }
    let found = d.deserialize_option(Optional)?;
    Ok(found.filter(|set| !set.0.is_empty()).map(informer::Shared::new))
}
