//! PodResizeValidator: a pod that runs is not resized beyond what its node can give, nor on a node that cannot resize.
//! Upstream: `plugin/pkg/admission/podresize/admission.go`.

use async_trait::async_trait;
use machinery::{Quantity, Value};

use super::{Attributes, Operation, Plugin};
use crate::errors::{ApiError, Cause};
use crate::meta;
use crate::pod_resources;

/// The plugin.
pub struct PodResizeValidator;

#[async_trait]
impl Plugin for PodResizeValidator {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if !a.is_resource("", "pods") || a.subresource() != "resize" {
            return Ok(());
        }
        let (Some(pod), Some(old)) = (&a.object, &a.old) else { return Ok(()) };
        let name = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
        // The generation grows with each change of what is wanted.
        if name.is_empty() || meta::generation(pod) == meta::generation(old) {
            return Ok(());
        }
        let node = a.call.core.find("", "nodes", "", name).await?;
        let node = node.ok_or_else(|| a.forbidden(format!("node {name:?} not found")))?;
        check(pod, &node).map_err(|(why, cause)| {
            let mut error = a.forbidden(why);
            if let Some(details) = error.details.as_mut() {
                details.causes.push(Cause {
                    reason: cause.into(),
                    message: String::new(),
                    field: String::new(),
                });
            }
            error
        })
    }
}

/// The refusal and its cause.
fn check(pod: &Value, node: &Value) -> Result<(), (String, &'static str)> {
    if let Some(system) = meta::label(node, "kubernetes.io/os").filter(|system| *system != "linux") {
        let name = meta::name(node);
        let why = format!("pod resize is only supported on linux nodes, node {name:?} is {system:?}");
        return Err((why, "UnsupportedPlatform"));
    }
    let requests = pod_resources::total(pod, "requests");
    let allocatable = |resource: &str| {
        let text = node.str_at(&["status", "allocatable", resource]);
        text.and_then(|text| Quantity::parse(text).ok()).unwrap_or_else(Quantity::zero)
    };
    let mut texts = Vec::new();
    for (resource, amount) in
        [("cpu", Quantity::milli_value as fn(&Quantity) -> i64), ("memory", Quantity::value)]
    {
        let requested = requests.get(resource).cloned().unwrap_or_else(Quantity::zero);
        let available = allocatable(resource);
        if pod_resources::greater(&requested, &available) {
            let (requested, available) = (amount(&requested), amount(&available));
            texts.push(format!("{resource}, requested: {requested}, allocatable: {available}"));
        }
    }
    if texts.is_empty() {
        return Ok(());
    }
    let why = format!("node didn't have enough allocatable resources: {}", texts.join("; "));
    Err((why, "NodeCapacity"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_have_limits() {
        let pod = |cpu: &str, memory: &str| {
            let requests = json!({"cpu": cpu, "memory": memory});
            Value::from(json!({"spec": {"containers": [{"resources": {"requests": requests}}]}}))
        };
        let node = |system: &str| {
            Value::from(json!({"metadata": {"name": "n", "labels": {"kubernetes.io/os": system}},
                "status": {"allocatable": {"cpu": "1", "memory": "1Gi"}}}))
        };
        assert_eq!(check(&pod("1", "1Gi"), &node("linux")), Ok(()));
        assert_eq!(
            check(&pod("1001m", "2Gi"), &node("linux")).unwrap_err(),
            (
                "node didn't have enough allocatable resources: cpu, requested: 1001, allocatable: 1000; memory, \
                 requested: 2147483648, allocatable: 1073741824"
                    .to_owned(),
                "NodeCapacity"
            )
        );
        let (why, cause) = check(&pod("1", "1"), &node("windows")).unwrap_err();
        assert_eq!(why, "pod resize is only supported on linux nodes, node \"n\" is \"windows\"");
        assert_eq!(cause, "UnsupportedPlatform");
    }
}
