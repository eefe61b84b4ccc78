//! What an evicted pod, and the event about it, say.
//!
//! Upstream: evictionMessage in pkg/kubelet/eviction/helpers.go, v1.37.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{Container, Pod};
use machinery::quantity::{Format, Quantity};

use super::{Level, Threshold};
use crate::pod::resources::has_pod_level;
use crate::pod::view::{PodView, init_containers};

/// What is known of the pod's use of what ran short, in bytes; of inodes and process ids nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Of the pod as a whole.
    pub pod: Option<i64>,
    /// Of containers, by name.
    pub containers: BTreeMap<String, i64>,
}

/// Text and annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// For the pod's status and the event.
    pub message: String,
    /// For the event, so that programs need not read the text.
    pub annotations: BTreeMap<String, String>,
}

/// What is told of a pod that goes because a threshold is crossed; `used` is absent if nothing is known of the pod.
pub fn told(threshold: &Threshold, level: &Level, pod: &Pod, used: Option<&Used>) -> Told {
    let resource = threshold.signal.resource();
    let quantity = threshold.value.shown(level.capacity);
    let available = Quantity::new(level.available, threshold.signal.format());
    let mut message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {quantity}, available: {available}. "
    );
    let mut annotations = BTreeMap::new();
    let Some(used) = used else { return Told { message, annotations } };
    let mut note = |key: &str, value: String| drop(annotations.insert(key.to_owned(), value));
    let bytes = |n: i64| Quantity::new(n, Format::BinarySI).to_string();
    if let Some((used, request)) = used.pod.zip(pod_request(pod, resource)) {
        let (name, used) = (pod.name(), bytes(used));
        _ = write!(
            message,
            "Pod {name} was using {used}, request is {request}, has larger consumption of {resource}. "
        );
        note("offending_pod", name.to_owned());
        note("offending_pod_usage", used);
    }
    let (mut names, mut amounts) = (Vec::new(), Vec::new());
    for container in pod.spec().containers.iter().chain(init_containers(pod.spec())) {
        let Some(used) = used.containers.get(&container.name) else { continue };
        let request = request(container, resource);
        if request.cmp_i64(*used).is_ge() {
            continue;
        }
        let (name, used) = (&container.name, bytes(*used));
        _ = write!(
            message,
            "Container {name} was using {used}, request is {request}, has larger consumption of {resource}. "
        );
        names.push(name.as_str());
        amounts.push(used);
    }
    note("offending_containers", names.join(","));
    note("offending_containers_usage", amounts.join(","));
    note("starved_resource", resource.to_owned());
    Told { message, annotations }
}

/// What the pod as a whole asked for of memory, if it asks as a whole.
fn pod_request(pod: &Pod, resource: &str) -> Option<Quantity> {
    if resource != "memory" || !has_pod_level(pod) {
        return None;
    }
    let requests = pod.spec().resources.as_ref()?.requests.as_ref()?;
    Quantity::parse(&requests.get(resource)?.0).ok()
}

fn request(container: &Container, resource: &str) -> Quantity {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let text = requests.and_then(|requests| requests.get(resource));
    text.and_then(|text| Quantity::parse(&text.0).ok()).unwrap_or_else(Quantity::zero)
}
