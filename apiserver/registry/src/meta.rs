//! Reading and writing `metadata` in a tree. All reads give the zero value for what is absent, as Go's accessors do.

use jiff::Timestamp;
use machinery::{List, Map, Value};

const METADATA: &str = "metadata";

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.str_at(&[METADATA, field]).unwrap_or("")
}

/// Sets `metadata.<field>`, creating `metadata`. A `metadata` that is not an object (decoding refuses it) is replaced.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    let value = value.into();
    if object.get(METADATA).is_none_or(|m| m.as_map().is_none())
        && let Value::Map(map) = object
    {
        map.insert(METADATA, Map::new());
    }
    if let Some(Value::Map(metadata)) = object.get_mut(METADATA) {
        if matches!(&value, Value::Null) {
            metadata.remove(field);
        } else {
            metadata.insert(field, value);
        }
    }
}

/// Removes `metadata.<field>`.
pub fn remove(object: &mut Value, field: &str) {
    object.remove_path(&[METADATA, field]);
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.generateName`.
pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// `metadata.resourceVersion`.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// `metadata.generation`.
pub fn generation(object: &Value) -> i64 {
    object.i64_at(&[METADATA, "generation"]).unwrap_or(0)
}

/// `metadata.deletionTimestamp`, empty when the object is not being deleted.
pub fn deletion_timestamp(object: &Value) -> &str {
    text(object, "deletionTimestamp")
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    object.i64_at(&[METADATA, "deletionGracePeriodSeconds"])
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    object
        .list_at(&[METADATA, "finalizers"])
        .into_iter()
        .flat_map(|l| l.iter())
        .filter_map(Value::as_str)
        .collect()
}

/// Replaces `metadata.finalizers`; an empty list removes the field.
pub fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    if finalizers.is_empty() {
        remove(object, "finalizers");
    } else {
        set(object, "finalizers", finalizers);
    }
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.str_at(&[METADATA, "labels", key])
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.str_at(&[METADATA, "annotations", key])
}

/// All labels.
pub fn labels(object: &Value) -> Option<&Map> {
    object.map_at(&[METADATA, "labels"])
}

/// A timestamp as the API prints it: UTC, whole seconds.
pub fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Clears what only the server sets (`rest.WipeObjectMetaSystemFields`).
pub fn wipe_system_fields(object: &mut Value) {
    for field in ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        remove(object, field);
    }
}

/// Sets what the server sets on create (`rest.FillObjectMetaSystemFields`).
pub fn fill_system_fields(object: &mut Value, now: Timestamp) {
    set(object, "creationTimestamp", rfc3339(now));
    set(object, "uid", uuid::Uuid::new_v4().to_string());
}

/// The alphabet of generated names: no vowels, so no words.
const ALPHANUMS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const MAX_GENERATED_BASE: usize = 63 - 5;

/// Upstream's `SimpleNameGenerator`: base cut to 58 bytes, then five random characters.
pub fn generated_name(base: &str) -> String {
    use rand::RngExt;
    let mut out = base[..base.floor_char_boundary(MAX_GENERATED_BASE)].to_owned();
    let mut rng = rand::rng();
    for _ in 0..5 {
        out.push(ALPHANUMS[rng.random_range(0..ALPHANUMS.len())] as char);
    }
    out
}

/// Drops repeated owner references and returns the uids dropped (`dedupOwnerReferences`).
pub fn dedup_owner_references(object: &mut Value) -> Vec<String> {
    let Some(owners) = object.list_at(&[METADATA, "ownerReferences"]) else { return Vec::new() };
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut dropped = Vec::new();
    for owner in owners.iter() {
        if kept.iter().any(|k| k.semantic_eq(owner)) {
            dropped.push(owner.str_at(&["uid"]).unwrap_or("").to_owned());
        } else {
            kept.push(owner.clone());
        }
    }
    if !dropped.is_empty() {
        set(object, "ownerReferences", Value::List(List::from(kept)));
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_reads() {
        let mut object = Value::Map(Map::new());
        set(&mut object, "name", "a");
        set_finalizers(&mut object, vec!["x".into()]);
        assert_eq!((name(&object), finalizers(&object)), ("a", vec!["x"]));
        set_finalizers(&mut object, Vec::new());
        assert_eq!(object.to_string(), r#"{"metadata":{"name":"a"}}"#);
    }

    #[test]
    fn generates_names() {
        let name = generated_name(&"x".repeat(100));
        assert_eq!(name.len(), 63);
        assert!(generated_name("web-").starts_with("web-"));
    }

    #[test]
    fn dedups_owners() {
        let owner = serde_json::json!({"uid": "1", "name": "a"});
        let mut object =
            Value::from(serde_json::json!({"metadata": {"ownerReferences": [owner, owner, {"uid": "2"}]}}));
        assert_eq!(dedup_owner_references(&mut object), ["1"]);
        assert_eq!(object.list_at(&["metadata", "ownerReferences"]).map(|l| l.len()), Some(2));
    }
}
