//! Objects whose kind is known only at run time (garbage collector, namespace controller, quota, scale targets).
//!
//! A resource is addressed by its [`Gvr`](crate::Gvr); see [`Client::dynamic`](crate::Client::dynamic) and
//! [`Client::metadata`](crate::Client::metadata). [`crate::discovery`] finds out which exist.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::object::Meta;

/// An object of any kind: typed metadata, the rest as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DynamicObject {
    /// `group/version`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Kind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// `spec`, `status` and whatever else there is.
    #[serde(flatten)]
    pub data: Map<String, Value>,
}

impl DynamicObject {
    /// The value at a path of field names.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.data.get(*first)?, |value, name| value.get(name))
    }
}

impl Meta for DynamicObject {
    const TYPE: Option<(&'static str, &'static str)> = None;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
