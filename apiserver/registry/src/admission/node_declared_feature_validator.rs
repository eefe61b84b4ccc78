//! NodeDeclaredFeatureValidator: a pod that runs is changed only in ways that its node declares it can follow.
//!
//! Not checked: resource slices, whose feature (DRANodeAllocatableResources) is off.
//! Upstream: `plugin/pkg/admission/nodedeclaredfeatures/admission.go`, `component-helpers/nodedeclaredfeatures/features`.

use async_trait::async_trait;
use machinery::{Quantity, Value};

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;

/// The plugin.
pub struct NodeDeclaredFeatureValidator;

#[async_trait]
impl Plugin for NodeDeclaredFeatureValidator {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatureValidator"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if !a.is_resource("", "pods") || !matches!(a.subresource(), "" | "resize") {
            return Ok(());
        }
        let (Some(pod), Some(old)) = (&a.object, &a.old) else { return Ok(()) };
        let name = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
        // The generation grows with each change of what is wanted.
        if name.is_empty() || meta::generation(pod) == meta::generation(old) {
            return Ok(());
        }
        let mut missing = required(old, pod);
        if missing.is_empty() {
            return Ok(());
        }
        let node = a.call.core.find("", "nodes", "", name).await?;
        let node = node.ok_or_else(|| a.forbidden(format!("node {name:?} not found")))?;
        let declared = node.list_at(&["status", "declaredFeatures"]);
        let declares =
            |feature: &str| declared.is_some_and(|all| all.iter().any(|d| d.as_str() == Some(feature)));
        missing.retain(|feature| !declares(feature));
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(", ");
        Err(a.forbidden(format!(
            "pod update requires features {missing} which are not available on node {name:?}"
        )))
    }
}

/// What the change needs, in the order of upstream's registry.
fn required(old: &Value, new: &Value) -> Vec<&'static str> {
    let mut features = Vec::new();
    if !same(old.get_path(&["spec", "resources"]), new.get_path(&["spec", "resources"])) {
        features.push("InPlacePodLevelResourcesVerticalScaling");
    }
    if pairs(old, new, "initContainers").any(|(old, new)| {
        old.str_at(&["restartPolicy"]) != Some("Always") && !same(old.get("resources"), new.get("resources"))
    }) {
        features.push("InPlacePodVerticalScalingInitContainers");
    }
    if pairs(old, new, "volumes").any(|(old, new)| resizes_memory(old, new)) {
        features.push("InPlacePodVerticalScalingMemoryBackedVolumes");
    }
    features
}

/// Entries at the same place of both lists.
fn pairs<'a>(old: &'a Value, new: &'a Value, list: &'a str) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    let of = move |pod: &'a Value| pod.list_at(&["spec", list]).into_iter().flat_map(|list| list.iter());
    of(old).zip(of(new))
}

/// Whether two sets of resources are of the same amounts.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    let flat = |resources: Option<&Value>| {
        let mut all = std::collections::BTreeMap::new();
        for list in ["limits", "requests"] {
            let map = resources.and_then(|r| r.map_at(&[list]));
            for (name, amount) in map.into_iter().flat_map(|map| map.iter()) {
                let amount = amount.as_str().and_then(|text| Quantity::parse(text).ok());
                all.insert((list, name.to_string()), amount);
            }
        }
        all
    };
    let present = |resources: Option<&Value>| resources.is_some_and(|r| !r.is_null());
    present(a) == present(b) && flat(a) == flat(b)
}

/// Whether the size of a volume in memory changes; other changes of volumes are refused elsewhere.
fn resizes_memory(old: &Value, new: &Value) -> bool {
    let limit = |volume: &Value| {
        volume.str_at(&["emptyDir", "sizeLimit"]).and_then(|text| Quantity::parse(text).ok())
    };
    old.str_at(&["name"]) == new.str_at(&["name"])
        && new.str_at(&["emptyDir", "medium"]) == Some("Memory")
        && matches!((limit(old), limit(new)), (Some(old), Some(new)) if old != new)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_need_features() {
        let pod = |resources: serde_json::Value, init: &str, policy: &str, size: &str| {
            Value::from(json!({"spec": {"resources": resources,
                "initContainers": [{"name": "i", "restartPolicy": policy, "resources": {"requests": {"cpu": init}}}],
                "volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": size}}]}}))
        };
        let level = |cpu: &str| json!({"limits": {"cpu": cpu}});
        let plain = pod(json!(null), "1", "", "1Gi");
        let all = [
            "InPlacePodLevelResourcesVerticalScaling",
            "InPlacePodVerticalScalingInitContainers",
            "InPlacePodVerticalScalingMemoryBackedVolumes",
        ];
        let cases = [
            (plain.clone(), plain.clone(), &all[..0]),
            (plain.clone(), pod(json!(null), "1000m", "", "1024Mi"), &all[..0]),
            (plain.clone(), pod(level("1"), "1", "", "1Gi"), &all[..1]),
            (pod(level("1"), "1", "", "1Gi"), pod(level("1000m"), "1", "", "1Gi"), &all[..0]),
            (plain.clone(), pod(json!(null), "2", "", "1Gi"), &all[1..2]),
            (pod(json!(null), "1", "Always", "1Gi"), pod(json!(null), "2", "Always", "1Gi"), &all[..0]),
            (plain.clone(), pod(level("1"), "2", "", "2Gi"), &all[..]),
        ];
        for (old, new, want) in cases {
            assert_eq!(required(&old, &new), want);
        }
    }
}
