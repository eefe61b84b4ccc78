//! LimitPodHardAntiAffinityTopology: hard anti-affinity keeps pods off a host, never off a zone, which would keep all
//! others out of it. Upstream: `plugin/pkg/admission/antiaffinity/admission.go`.

use async_trait::async_trait;
use machinery::Value;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;

const HOSTNAME: &str = "kubernetes.io/hostname";

/// The plugin.
pub struct LimitPodHardAntiAffinityTopology;

#[async_trait]
impl Plugin for LimitPodHardAntiAffinityTopology {
    fn name(&self) -> &'static str {
        "LimitPodHardAntiAffinityTopology"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        let Some(pod) = a.object.as_ref().filter(|_| a.is("", "pods")) else { return Ok(()) };
        match other_key(pod) {
            None => Ok(()),
            Some(key) => Err(ApiError::forbidden(
                "",
                "pods",
                meta::name(pod),
                format!(
                    "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOSTNAME} is allowed"
                ),
            )),
        }
    }
}

/// The first topology key of a hard anti-affinity that is not the host's.
fn other_key(pod: &Value) -> Option<&str> {
    let path = ["spec", "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
    let terms = pod.list_at(&path).into_iter().flat_map(|list| list.iter());
    terms.map(|term| term.str_at(&["topologyKey"]).unwrap_or_default()).find(|key| *key != HOSTNAME)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_host() {
        let pod = |kind: &str, keys: &[&str]| {
            let terms: Vec<_> = keys.iter().map(|key| json!({"topologyKey": key})).collect();
            Value::from(json!({"spec": {"affinity": {"podAntiAffinity": {kind: terms}}}}))
        };
        let hard = "requiredDuringSchedulingIgnoredDuringExecution";
        assert_eq!(other_key(&pod(hard, &[])), None);
        assert_eq!(other_key(&pod(hard, &[HOSTNAME])), None);
        assert_eq!(other_key(&pod(hard, &[HOSTNAME, "az"])), Some("az"));
        assert_eq!(other_key(&pod(hard, &[""])), Some(""));
        assert_eq!(other_key(&pod("preferredDuringSchedulingIgnoredDuringExecution", &["az"])), None);
    }
}
