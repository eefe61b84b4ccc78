//! Metadata, as far as it is read.

use client::{Kept, Named, PartialObjectMetadata};
use controller::{HasRelations, Related};
use informer::{Name, Shared, pooled, settle};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use machinery::labels::Labels;
use serde::Deserialize;

use super::labels::{LabelSet, annotations};

pooled!(LabelSet);

/// A pod's metadata.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeptMeta {
    pub name: Option<Box<str>>,
    pub namespace: Option<Name>,
    pub uid: Option<Box<str>>,
    pub resource_version: Option<Box<str>>,
    pub generation: Option<i64>,
    pub creation_timestamp: Option<Time>,
    pub deletion_timestamp: Option<Time>,
    pub deletion_grace_period_seconds: Option<i64>,
    pub labels: Option<Shared<LabelSet>>,
    /// Only those that somebody reads.
    #[serde(deserialize_with = "annotations")]
    pub annotations: Option<Shared<LabelSet>>,
    pub owner_references: Option<Shared<Vec<OwnerReference>>>,
    pub finalizers: Option<Vec<Name>>,
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
        self.finalizers.iter().flatten().any(|f| f == name)
    }
    fn is_dying(&self) -> bool {
        self.deletion_timestamp.is_some()
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
    pub deletion_timestamp: Option<Time>,
    pub owner_references: Option<Shared<Vec<OwnerReference>>>,
    pub finalizers: Option<Vec<Name>>,
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
        self.finalizers.iter().flatten().any(|f| f == name)
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

impl Kept for Item {
    const TYPE: Option<(&'static str, &'static str)> = PartialObjectMetadata::TYPE_OF;

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
