//! Revisions: which set is a Deployment's current one, and how sets are numbered. Pure.
//! Upstream: pkg/controller/deployment/util/deployment_util.go, pkg/controller/controller_utils.go ComputeHash.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::size::{DESIRED_REPLICAS, MAX_REPLICAS, max_surge, wanted};

/// Number of a roll-out.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier numbers of a set that came back.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Tells the pods of one set from those of another.
pub const HASH_LABEL: &str = "pod-template-hash";
/// Longest history kept.
const HISTORY_CHARS: usize = 2000;

/// Annotations that belong to a Deployment or to a set, not to both.
pub const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];

/// Templates are the same but for the hash label.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let labels = |t: &PodTemplateSpec| -> BTreeMap<String, String> {
        let all = t.metadata.iter().flat_map(|m| m.labels.iter().flatten());
        all.filter(|(k, _)| *k != HASH_LABEL).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    if labels(a) != labels(b) {
        return false;
    }
    let bare = |t: &PodTemplateSpec| {
        let mut meta = t.metadata.clone().unwrap_or_default();
        meta.labels = None;
        meta.annotations = meta.annotations.filter(|a| !a.is_empty());
        meta.creation_timestamp = None;
        meta
    };
    bare(a) == bare(b) && without_empty(a) == without_empty(b)
}

/// The spec as a tree without empty lists and maps, which mean the same as absent ones.
fn without_empty(template: &PodTemplateSpec) -> Option<serde_json::Value> {
    fn prune(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => {
                map.values_mut().for_each(prune);
                map.retain(|_, v| match v {
                    serde_json::Value::Array(items) => !items.is_empty(),
                    serde_json::Value::Null => false,
                    _ => true,
                });
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(prune),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(template.spec.as_ref()?).ok()?;
    prune(&mut value);
    Some(value)
}

/// The revision noted on an object; 0 = none.
pub fn of(annotations: Option<&BTreeMap<String, String>>) -> i64 {
    annotations.and_then(|a| a.get(REVISION)).and_then(|t| t.parse().ok()).unwrap_or(0)
}

/// Brings a set's annotations up to date; true when something changed.
/// Upstream: SetNewReplicaSetAnnotations.
pub fn annotate(deployment: &Deployment, set: &mut ReplicaSet, revision: i64, exists: bool) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN.contains(&key.as_str()) && annotations.get(key) != Some(value) {
            annotations.insert(key.clone(), value.clone());
            changed = true;
        }
    }
    let old = annotations.get(REVISION).cloned();
    let number: i64 = old.as_deref().unwrap_or("0").parse().unwrap_or(i64::MAX);
    if number < revision {
        annotations.insert(REVISION.to_string(), revision.to_string());
        changed = true;
        if let Some(old) = old {
            remember(annotations, &old);
        }
    }
    if !exists {
        let want = wanted(deployment);
        changed |= set_counts(annotations, want, want + max_surge(deployment));
    }
    changed
}

fn remember(annotations: &mut BTreeMap<String, String>, old: &str) {
    let mut history: Vec<String> =
        annotations.get(HISTORY).into_iter().flat_map(|h| h.split(',')).map(str::to_string).collect();
    history.retain(|h| !h.is_empty());
    history.push(old.to_string());
    while history.join(",").len() > HISTORY_CHARS {
        history.remove(0);
    }
    annotations.insert(HISTORY.to_string(), history.join(","));
}

/// Notes the Deployment's size on a set.
pub fn set_counts(annotations: &mut BTreeMap<String, String>, desired: i32, max: i32) -> bool {
    let mut changed = false;
    for (name, count) in [(DESIRED_REPLICAS, desired), (MAX_REPLICAS, max)] {
        changed |= annotations.insert(name.to_string(), count.to_string()) != Some(count.to_string());
    }
    changed
}
