//! What pods ask for, against which use is measured. Pure.
//! Upstream: pkg/controller/podautoscaler/replica_calculator.go calculateRequests, component-helpers/resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use component::features::{self, Gate};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::Quantity;

use crate::kept::{Container, Pod};

type List = BTreeMap<String, Text>;

/// A quantity in thousandths; malformed ones, which the API server refuses, are zero.
pub fn milli(quantity: &Text) -> i64 {
    Quantity::parse(&quantity.0).map_or(0, |q| q.milli_value())
}

/// Requests of a resource in thousandths, by pod. `container`: of that container only, "" = of the whole pod.
///
/// # Errors
/// A pod that asks for nothing.
pub fn requests(pods: &[Arc<Pod>], container: &str, resource: &str) -> Result<BTreeMap<String, i64>, String> {
    let mut out = BTreeMap::new();
    for pod in pods {
        let whole = pod_level(pod).filter(|_| container.is_empty());
        let request = match whole {
            Some(list) => of_pod(pod, list, resource)?,
            None => of_containers(pod, container, resource)?,
        };
        out.insert(name(pod).to_string(), request);
    }
    Ok(out)
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The pod's own requests, if it has any.
fn pod_level(pod: &Pod) -> Option<&List> {
    let list = pod.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    let counts = |name: &String| name == "cpu" || name == "memory" || name.starts_with("hugepages-");
    (features::enabled(Gate::PodLevelResources) && list.keys().any(counts)).then_some(list)
}

fn of_pod(pod: &Pod, list: &List, resource: &str) -> Result<i64, String> {
    let overhead = pod.spec.as_ref().and_then(|s| s.overhead.as_ref()).and_then(|o| o.get(resource));
    let own = match list.get(resource) {
        Some(own) => Some(milli(own)),
        None => of_containers(pod, "", resource).ok(),
    };
    let missing = || format!("missing pod-level request for {resource} in Pod {}", name(pod));
    own.map(|own| own + overhead.map_or(0, milli)).ok_or_else(missing)
}

/// Regular containers and sidecars.
fn of_containers(pod: &Pod, container: &str, resource: &str) -> Result<i64, String> {
    let spec = pod.spec.as_ref();
    let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let inits = spec.into_iter().flat_map(|s| s.init_containers.iter().flatten()).filter(sidecar);
    let all = spec.into_iter().flat_map(|s| s.containers.iter()).chain(inits);
    let mut sum = 0;
    for c in all.filter(|c| container.is_empty() || c.name == container) {
        let request = c.resources.as_ref().and_then(|r| r.requests.as_ref()).and_then(|r| r.get(resource));
        let missing =
            || format!("missing request for {resource} in container {} of Pod {}", c.name, name(pod));
        sum += request.map(milli).ok_or_else(missing)?;
        if c.name == container {
            return Ok(sum);
        }
    }
    if container.is_empty() {
        Ok(sum)
    } else {
        Err(format!("container {container} not found in Pod {}", name(pod)))
    }
}
