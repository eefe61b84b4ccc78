//! What events say about changes of resources. Upstream: pkg/kubelet/events/resize.go, v1.37.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::Serialize;

use super::checkpoint::Requirements;
use super::resources::{of_container, settled};
use crate::pod::view::{PodView, init_containers};

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    resources: Requirements<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Named<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Named<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

/// What begins so, followed by what the pod's containers ask for.
fn text(what: &str, pod: &Pod, generation: Option<i64>, error: &str) -> String {
    let spec = pod.spec();
    let all = |list: &[Container]| -> Vec<ResourceRequirements> {
        list.iter().map(|container| settled(&of_container(container))).collect()
    };
    let (of_init, of_regular) = (all(init_containers(spec)), all(&spec.containers));
    let named = |(container, resources)| -> Named<'_> {
        let (container, resources): (&Container, &ResourceRequirements) = (container, resources);
        Named { name: &container.name, resources: resources.into() }
    };
    let summary = Summary {
        init_containers: init_containers(spec).iter().zip(&of_init).map(named).collect(),
        containers: spec.containers.iter().zip(&of_regular).map(named).collect(),
        generation: generation.unwrap_or_default(),
        error,
    };
    match serde_json::to_string(&summary) {
        // Go writes these so.
        Ok(json) => format!(
            "{what}: {}",
            json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
        ),
        Err(_) => what.to_owned(),
    }
}

/// The pod has the resources that it was promised.
pub fn completed(pod: &Pod, generation: Option<i64>) -> String {
    text("Pod resize completed", pod, generation, "")
}

/// The pod was promised what it asks for.
pub fn started(pod: &Pod) -> String {
    text("Pod resize started", pod, pod.metadata.generation, "")
}

/// What was promised could not be put in force.
pub fn failed(pod: &Pod, generation: Option<i64>, error: &str) -> String {
    text("Pod resize error", pod, generation, error)
}

/// The pod was not promised what it asks for. The reason is the handler's own.
pub fn pending(pod: &Pod, reason: &str, message: &str) -> String {
    text(&format!("Pod resize {reason}"), pod, pod.metadata.generation, message)
}
