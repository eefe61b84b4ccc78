//! Metadata, as far as it is read.

use client::{Kept, Named, PartialObjectMetadata};
use controller::{HasRelations, Related};
use informer::{Name, Shared, pooled, settle};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use machinery::labels::Labels;
use machinery::message;
use machinery::proto::read;
use machinery::proto::wire::{Result, Wire};
use serde::Deserialize;
use smallvec::SmallVec;

use super::foreign;
use super::labels::{self, LabelSet, annotations};
use super::second::Second;
use super::unread::Bytes;

pooled!(by hash LabelSet);

/// A pod's metadata.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeptMeta {
    pub name: Option<Box<str>>,
    pub namespace: Option<Name>,
    pub uid: Option<Box<str>>,
    pub resource_version: Option<Box<str>>,
    pub generation: Option<i64>,
    pub creation_timestamp: Option<Second>,
    pub deletion_timestamp: Option<Second>,
    pub deletion_grace_period_seconds: Option<i64>,
    pub labels: Option<Shared<LabelSet>>,
    /// Only those that somebody reads.
    #[serde(deserialize_with = "annotations")]
    pub annotations: Option<Shared<LabelSet>>,
    pub owner_references: Option<Shared<Vec<OwnerReference>>>,
    #[expect(clippy::box_collection, reason = "most objects have none: one word instead of three")]
    pub finalizers: Option<Box<Vec<Name>>>,
    /// Of labels, annotations and owners.
    #[serde(skip)]
    from: Bytes,
}

impl KeptMeta {
    pub fn settle(&mut self, old: Option<&Self>) {
        settle(&mut self.labels, old.map(|o| &o.labels));
        settle(&mut self.annotations, old.map(|o| &o.annotations));
        settle(&mut self.owner_references, old.map(|o| &o.owner_references));
    }
}

impl Related for KeptMeta {
    fn uid(&self) -> &str {
        self.uid.as_deref().unwrap_or("")
    }
    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("")
    }
    fn labels(&self) -> &dyn Labels {
        &self.labels
    }
    fn owners(&self) -> &[OwnerReference] {
        self.owner_references.as_ref().map_or(&[], |owners| owners)
    }
    fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.as_ref().is_some_and(|all| all.iter().any(|f| f == name))
    }
    fn is_dying(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

/// Labels or annotations that are being read.
type Pairs = SmallVec<[(Name, Name); 8]>;

/// Metadata that is being read, without what is shared.
#[derive(Default)]
struct Reading {
    meta: KeptMeta,
    finalizers: Vec<Name>,
}

/// What objects of one owner share, which is not complete yet.
#[derive(Default)]
struct Sharing {
    labels: Pairs,
    annotations: Pairs,
    owner_references: Vec<OwnerReference>,
}

message!(Reading, "meta/v1.ObjectMeta" {
    1 meta.name (shown value),
    3 meta.namespace (shown value),
    5 meta.uid (shown value),
    6 meta.resource_version (shown value),
    7 meta.generation (shown value),
    8 meta.creation_timestamp (by foreign::time),
    9 meta.deletion_timestamp (by foreign::time),
    10 meta.deletion_grace_period_seconds (some value),
    14 finalizers (values),
});

message!(Sharing, "meta/v1.ObjectMeta" {
    11 labels (by labels::label),
    12 annotations (by labels::annotation),
    13 owner_references (by foreign::owner),
});

/// Numbers of the fields of [`Sharing`].
const SHARED: std::ops::RangeInclusive<u32> = 11..=13;

/// The fields of metadata that are shared, as they lie in the message.
fn shared_parts(message: &[u8]) -> Result<SmallVec<[&[u8]; 8]>> {
    let (mut fields, mut parts) = (Wire::new(message), SmallVec::new());
    while !fields.is_empty() {
        let start = fields.at;
        let (tag, wire) = fields.tag()?;
        fields.skip(wire)?;
        if SHARED.contains(&tag) {
            parts.push(&message[start..fields.at]);
        }
    }
    Ok(parts)
}

impl KeptMeta {
    /// Reads a message. What is shared is taken from an earlier state of the object, if it is as it was.
    pub fn of(message: &[u8], old: Option<&Self>) -> Result<Self> {
        let Reading { meta, finalizers } = read::message(message)?;
        let from = Bytes::of(shared_parts(message)?);
        let finalizers = (!finalizers.is_empty()).then(|| finalizers.into());
        if let Some(old) = old.filter(|old| old.from.are(from)) {
            let (labels, annotations) = (old.labels.clone(), old.annotations.clone());
            let owner_references = old.owner_references.clone();
            return Ok(Self { labels, annotations, owner_references, finalizers, from, ..meta });
        }
        let Sharing { labels, annotations, owner_references: owners } = read::message(message)?;
        let set = |pairs: Pairs| (!pairs.is_empty()).then(|| Shared::new(pairs.into_iter().collect()));
        Ok(Self {
            labels: set(labels),
            annotations: set(annotations),
            owner_references: (!owners.is_empty()).then(|| owners.into()),
            finalizers,
            from,
            ..meta
        })
    }
}

/// Metadata of an object of any kind, as far as owners and counts go.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ItemMeta {
    pub name: Box<str>,
    pub namespace: Name,
    pub uid: Box<str>,
    pub resource_version: Box<str>,
    pub deletion_timestamp: Option<Second>,
    pub owner_references: Option<Shared<Vec<OwnerReference>>>,
    #[expect(clippy::box_collection, reason = "most objects have none: one word instead of three")]
    pub finalizers: Option<Box<Vec<Name>>>,
}

impl Related for ItemMeta {
    fn uid(&self) -> &str {
        &self.uid
    }
    fn namespace(&self) -> &str {
        &self.namespace
    }
    /// None: they are not kept.
    fn labels(&self) -> &dyn Labels {
        &None::<LabelSet>
    }
    fn owners(&self) -> &[OwnerReference] {
        self.owner_references.as_ref().map_or(&[], |owners| owners)
    }
    fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.as_ref().is_some_and(|all| all.iter().any(|f| f == name))
    }
    fn is_dying(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

/// An object of any kind, reduced to that.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Item {
    pub metadata: ItemMeta,
}

message!(Item, "meta/v1.PartialObjectMetadata" { 1 metadata (struct) });
message!(ItemMeta, "meta/v1.ObjectMeta" {
    1 name (value),
    3 namespace (value),
    5 uid (value),
    6 resource_version (value),
    9 deletion_timestamp (by foreign::time),
    13 owner_references (by foreign::shared_owner),
    14 finalizers (some values),
});

impl Kept for Item {
    const TYPE: Option<(&'static str, &'static str)> = PartialObjectMetadata::TYPE_OF;

    fn from_message(message: &[u8]) -> Option<Self> {
        read::message(message).ok()
    }

    fn named(&self) -> Named<'_> {
        let ItemMeta { namespace, name, uid, resource_version, .. } = &self.metadata;
        Named { namespace, name, uid, version: resource_version }
    }

    fn settle(&mut self, old: Option<&Self>) {
        settle(&mut self.metadata.owner_references, old.map(|o| &o.metadata.owner_references));
    }
}

impl HasRelations for Item {
    type Relations = ItemMeta;
    fn relations(&self) -> &ItemMeta {
        &self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    numbered_as_the_table!(Reading, Sharing, Item, ItemMeta);
}
