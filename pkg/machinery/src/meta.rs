//! An object's metadata without the object: what stores, watches, selectors and the garbage collector look at.
//!
//! [`crate::proto::header`] and [`crate::json::header`] read it from encoded objects and skip everything else.

use crate::labels::Labels;
use crate::value::{Str, Value};

/// A reference in `metadata.ownerReferences`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerReference {
    pub api_version: Str,
    pub kind: Str,
    pub name: Str,
    pub uid: Str,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

/// `metadata` without managed fields. Absent texts are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub name: Str,
    pub generate_name: Str,
    pub namespace: Str,
    pub uid: Str,
    pub resource_version: Str,
    pub generation: i64,
    /// Seconds since 1970; `None` if unset.
    pub creation_timestamp: Option<i64>,
    pub deletion_timestamp: Option<i64>,
    pub deletion_grace_period_seconds: Option<i64>,
    /// Sorted by key.
    pub labels: Vec<(Str, Str)>,
    /// Sorted by key.
    pub annotations: Vec<(Str, Str)>,
    pub owner_references: Vec<OwnerReference>,
    pub finalizers: Vec<Str>,
}

impl Header {
    /// The reference with `controller: true`.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|o| o.controller)
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_slice().label(key)
    }

    /// The header of an object tree.
    pub fn of(object: &Value) -> Header {
        let meta = object.get("metadata").unwrap_or(&Value::Null);
        let text =
            |v: &Value, key: &str| v.get(key).and_then(Value::as_str).map(Str::from).unwrap_or_default();
        let time = |key| {
            let t = crate::time::parse_rfc3339(meta.get(key)?.as_str()?).ok()?;
            Some(t.seconds)
        };
        let pairs = |key| {
            let entries = meta.get(key).and_then(Value::as_map).into_iter().flatten();
            entries.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().into())).collect()
        };
        let list = |key| meta.get(key).and_then(Value::as_list).into_iter().flatten();
        let owner = |v: &Value| OwnerReference {
            api_version: text(v, "apiVersion"),
            kind: text(v, "kind"),
            name: text(v, "name"),
            uid: text(v, "uid"),
            controller: v.get("controller").and_then(Value::as_bool).unwrap_or(false),
            block_owner_deletion: v.get("blockOwnerDeletion").and_then(Value::as_bool).unwrap_or(false),
        };
        Header {
            name: text(meta, "name"),
            generate_name: text(meta, "generateName"),
            namespace: text(meta, "namespace"),
            uid: text(meta, "uid"),
            resource_version: text(meta, "resourceVersion"),
            generation: meta.get("generation").and_then(Value::as_i64).unwrap_or(0),
            creation_timestamp: time("creationTimestamp"),
            deletion_timestamp: time("deletionTimestamp"),
            deletion_grace_period_seconds: meta.get("deletionGracePeriodSeconds").and_then(Value::as_i64),
            labels: pairs("labels"),
            annotations: pairs("annotations"),
            owner_references: list("ownerReferences").map(owner).collect(),
            finalizers: list("finalizers").filter_map(Value::as_str).map(Str::from).collect(),
        }
    }
}
