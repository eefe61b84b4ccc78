//! ExtendedResourceToleration: a pod that asks for an extended resource tolerates the taint of its name, which keeps all
//! others off the nodes that have it. Upstream: `plugin/pkg/admission/extendedresourcetoleration/admission.go`.

use std::collections::BTreeSet;

use ::api::validation::content;
use async_trait::async_trait;
use machinery::{List, Value};
use serde_json::json;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;

/// The plugin.
pub struct ExtendedResourceToleration;

#[async_trait]
impl Plugin for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if !a.is("", "pods") {
            return Ok(());
        }
        let Some(pod) = a.object.as_mut() else { return Ok(()) };
        let wanted = extended_resources(pod);
        if wanted.is_empty() {
            return Ok(());
        }
        let mut tolerations: List = pod.list_at(&["spec", "tolerations"]).cloned().unwrap_or_default();
        for name in &wanted {
            tolerate(&mut tolerations, name);
        }
        pod.set_path(&["spec", "tolerations"], tolerations).map(drop).map_err(ApiError::internal)
    }
}

/// Whether the name is of a resource that somebody else defined. Upstream: `IsExtendedResourceName`.
fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native
        && !name.starts_with("requests.")
        && content::qualified_name(&format!("requests.{name}")).is_empty()
}

fn extended_resources(pod: &Value) -> BTreeSet<String> {
    let lists = ["containers", "initContainers"].into_iter().filter_map(|f| pod.list_at(&["spec", f]));
    let requests = lists.flat_map(|l| l.iter()).filter_map(|c| c.map_at(&["resources", "requests"]));
    let names = requests.flat_map(|map| map.keys());
    names.filter(|name| is_extended(name)).map(|name| name.to_string()).collect()
}

/// Adds the toleration of a resource, or puts it in the place of one with the same key, effect, operator and value,
/// which then loses its seconds. Upstream: `AddOrUpdateTolerationInPod`.
fn tolerate(tolerations: &mut List, name: &str) {
    let toleration = Value::from(json!({"key": name, "operator": "Exists", "effect": "NoSchedule"}));
    let same = |other: &Value| {
        ["key", "operator", "effect", "value"]
            .iter()
            .all(|f| other.str_at(&[f]).unwrap_or_default() == toleration.str_at(&[f]).unwrap_or_default())
    };
    let mut found = false;
    for other in tolerations.iter_mut().filter(|other| same(other)) {
        *other = toleration.clone();
        found = true;
    }
    if !found {
        tolerations.push(toleration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_of_others_are_extended() {
        let pod = Value::from(json!({"spec": {
            "containers": [
                {"resources": {"requests": {"cpu": "1", "example.com/device": "1", "kubernetes.io/x": "1"}}},
                {"resources": {"limits": {"example.com/limit": "1"}}}],
            "initContainers": [{"resources": {"requests": {"example.com/early": "1", "hugepages-2Mi": "1"}}}]}}));
        let all: Vec<String> = extended_resources(&pod).into_iter().collect();
        assert_eq!(all, ["example.com/device", "example.com/early"]);
    }

    #[test]
    fn tolerations_are_added_once() {
        let mut all = List::default();
        all.push(Value::from(
            json!({"key": "a/b", "operator": "Equal", "value": "x", "effect": "NoSchedule"}),
        ));
        all.push(Value::from(
            json!({"key": "a/b", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5}),
        ));
        tolerate(&mut all, "a/b");
        tolerate(&mut all, "a/c");
        tolerate(&mut all, "a/c");
        let keys: Vec<_> = all.iter().map(|t| t.str_at(&["key"]).unwrap()).collect();
        assert_eq!(keys, ["a/b", "a/b", "a/c"]);
        assert_eq!(all[1].get("tolerationSeconds"), None);
    }
}
