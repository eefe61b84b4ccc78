//! Metadata, as far as it is read.

use controller::Related;
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
