//! Lists of pods. Upstream: getPods and getRunningPods in pkg/kubelet/server/server.go, v1.37.

use std::sync::Arc;

use component::serving::body::{self, Body};
use http::{Response, StatusCode};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use crate::kubelet::Kubelet;
use crate::pod::view::PodView;
use crate::runtime::sketch::sketch;
use cri::v1;

fn list_of(items: Vec<Value>) -> Response<Body> {
    body::json(
        StatusCode::OK,
        &json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}),
    )
}

fn plain(pod: &Pod) -> Value {
    let mut value = serde_json::to_value(pod).unwrap_or_default();
    if let Value::Object(map) = &mut value {
        // Items of a list carry no kind.
        map.remove("kind");
        map.remove("apiVersion");
    }
    value
}

/// The pods that this node should run, with the latest statuses.
pub(super) fn list(kubelet: &Arc<Kubelet>) -> Response<Body> {
    let pods = kubelet.pods.list();
    let items = pods.iter().map(|pod| {
        let mut pod = Pod::clone(pod);
        if let Some(status) = kubelet.status.get(pod.uid()) {
            pod.status = Some(status.as_ref().clone());
        }
        plain(&pod)
    });
    list_of(items.collect())
}

/// The pods that run on the runtime, wanted or not.
pub(super) async fn running(kubelet: &Kubelet) -> Response<Body> {
    let pods = match sketch(&kubelet.runtime.cri).await {
        Ok(pods) => pods,
        Err(error) => return body::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    let items = pods.into_iter().filter_map(|(uid, found)| {
        let running = i32::from(v1::ContainerState::ContainerRunning);
        let containers: Vec<Container> = (found.containers.iter())
            .filter(|c| c.state == running)
            .map(|c| Container { name: c.name.clone(), image: Some(c.image.clone()), ..Container::default() })
            .collect();
        if containers.is_empty() {
            return None;
        }
        let mut pod = Pod::default();
        pod.metadata.name = Some(found.name);
        pod.metadata.namespace = Some(found.namespace);
        pod.metadata.uid = Some(uid);
        pod.spec.get_or_insert_default().containers = containers;
        Some(plain(&pod))
    });
    list_of(items.collect())
}
