//! ControllerRevisions: past templates of an object, byte for byte as upstream keeps them. A byte of difference would
//! make every stateful and daemon set roll once when one controller manager takes over from the other.
//! Upstream: pkg/controller/history/controller_history.go, getPatch of pkg/controller/{daemon,statefulset}.

use std::cmp::Ordering;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use machinery::value::{Map, Value};
use machinery::{json, value};

/// Index over revisions by namespace and controller, orphans by namespace: see [`controller_index`].
pub const BY_CONTROLLER: &str = "controllerRevisionController";

/// Letters that make no words. Upstream: apimachinery/pkg/util/rand SafeEncodeString.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Values of [`BY_CONTROLLER`].
pub fn controller_index(revision: &ControllerRevision) -> Vec<String> {
    let namespace = revision.metadata.namespace.as_deref().unwrap_or_default();
    vec![match controller::controller_of(&revision.metadata) {
        Some(o) => crate::pods::controller_key(namespace, &o.kind, &o.name, &o.uid),
        None => namespace.to_string(),
    }]
}

/// The patch that brings a template back: what a revision holds.
///
/// # Errors
/// The template is no template, which the API server excludes.
pub fn patch(template: &PodTemplateSpec) -> Result<Value, String> {
    let of = |e: &dyn std::fmt::Display| format!("writing the pod template down: {e}");
    let id = api::types().by_name("core/v1.PodTemplateSpec").ok_or("no type of pod templates")?;
    let text = serde_json::to_vec(template).map_err(|e| of(&e))?;
    let mut tree = json::decode(api::types(), id, &text, false).map_err(|e| of(&e))?.value;
    if let Some(fields) = tree.as_map_mut() {
        fields.insert("$patch", "replace");
    }
    let mut spec = Map::new();
    spec.insert("template", tree);
    let mut patch = Map::new();
    patch.insert("spec", Value::Map(spec));
    Ok(Value::Map(patch))
}

/// The bytes that upstream stores for a patch.
pub fn bytes(patch: &Value) -> Vec<u8> {
    json::encode_any(patch)
}

/// A patch as part of a revision.
///
/// # Errors
/// A tree that is no JSON, which [`patch`] does not make.
pub fn data(patch: &Value) -> Result<RawExtension, String> {
    value::from_value(patch).map(RawExtension).map_err(|e| format!("reading the revision's data: {e}"))
}

/// The bytes of a stored revision.
pub fn stored_bytes(revision: &ControllerRevision) -> Vec<u8> {
    let text = serde_json::to_vec(&revision.data.0).unwrap_or_default();
    json::parse(&text).map(|tree| json::encode_any(&tree)).unwrap_or_default()
}

/// Upstream: SafeEncodeString of a number.
pub fn safe_encode(number: u32) -> String {
    number.to_string().bytes().map(|b| char::from(LETTERS[usize::from(b) % 27])).collect()
}

/// Hash of a revision's data: FNV-1. Upstream: HashControllerRevision.
pub fn hash(data: &[u8], collisions: Option<i32>) -> String {
    let collisions = collisions.map(|c| c.to_string()).unwrap_or_default();
    let all = data.iter().chain(collisions.as_bytes());
    safe_encode(all.fold(0x811c_9dc5, |hash: u32, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(*byte)))
}

/// Name of a revision; long names of owners are cut. Upstream: ControllerRevisionName.
pub fn name(owner: &str, hash: &str) -> String {
    let owner = owner.get(..223).unwrap_or(owner);
    format!("{owner}-{hash}")
}

/// By number, then age, then name. Upstream: byRevision.
pub fn order(a: &ControllerRevision, b: &ControllerRevision) -> Ordering {
    let key = |r: &ControllerRevision| {
        (r.revision, r.metadata.creation_timestamp.as_ref().map(|t| t.0), r.metadata.name.clone())
    };
    key(a).cmp(&key(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded by `make oracle-workloads`: template, revision data, and hashes, as upstream makes them.
    const RECORDED: &str = include_str!("testdata/revisions.txt");

    #[test]
    fn data_and_hashes_are_upstreams() {
        for (at, line) in RECORDED.lines().enumerate() {
            let parts: Vec<&str> = line.split('\t').collect();
            let [template, expected, of_data, _, of_data_3, _] = parts[..] else { panic!("line {at}") };
            let template: PodTemplateSpec = serde_json::from_str(template).expect("a template");
            let tree = patch(&template).expect("a patch");
            let written = String::from_utf8(bytes(&tree)).expect("text");
            assert_eq!(written, expected, "line {at}");
            assert_eq!(hash(written.as_bytes(), None), of_data, "line {at}");
            assert_eq!(hash(written.as_bytes(), Some(3)), of_data_3, "line {at}");
        }
    }

    #[test]
    fn data_survives_the_way_to_the_server_and_back() {
        for line in RECORDED.lines() {
            let expected = line.split('\t').nth(1).expect("data");
            let template =
                serde_json::from_str(line.split('\t').next().expect("a template")).expect("a template");
            let data = data(&patch(&template).expect("a patch")).expect("data");
            let revision = ControllerRevision { data, ..ControllerRevision::default() };
            assert_eq!(String::from_utf8(stored_bytes(&revision)).expect("text"), expected);
            let wire = api::encode(api::MediaType::Protobuf, &revision).expect("protobuf");
            let found = wire.windows(expected.len()).any(|w| w == expected.as_bytes());
            assert!(found, "the wire must carry exactly upstream's bytes");
            let back: ControllerRevision = api::decode(api::MediaType::Protobuf, &wire).expect("a revision");
            assert_eq!(String::from_utf8(stored_bytes(&back)).expect("text"), expected);
        }
    }

    #[test]
    fn names_are_cut() {
        assert_eq!(name("web", "abc"), "web-abc");
        assert_eq!(name(&"x".repeat(300), "abc").len(), 223 + 4);
    }
}
