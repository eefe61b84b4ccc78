//! Checkpoints of containers, written by the runtime. Upstream: checkpoint in pkg/kubelet/server/server.go, v1.37.

use std::sync::Arc;
use std::time::Duration;

use component::serving::body::{self, Body};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::jiff::Zoned;

use super::streams::Query;
use crate::kubelet::Kubelet;
use crate::paths::make_dir;
use crate::pod::view::PodView;
use crate::runtime::query;

/// Writes a checkpoint of `/checkpoint/{namespace}/{pod}/{container}` and answers with its path.
pub(super) async fn create(
    kubelet: &Arc<Kubelet>,
    request: &Request<Incoming>,
    parts: &[String],
) -> Response<Body> {
    let [namespace, name, container] = parts else { return body::not_found() };
    let Some(pod) = kubelet.pods.find(namespace, name) else {
        return body::error(StatusCode::NOT_FOUND, "pod does not exist");
    };
    if pod.find_container(container).is_none() {
        return body::error(StatusCode::NOT_FOUND, &format!("container {container} does not exist"));
    }
    let timeout = match Query::of(request).get("timeout").map(str::parse::<u64>) {
        None => Duration::ZERO,
        Some(Ok(seconds)) => Duration::from_secs(seconds),
        Some(Err(_)) => {
            return body::error(StatusCode::NOT_FOUND, "cannot parse value of timeout parameter");
        }
    };
    let found = query::pod_status(&kubelet.runtime.cri, &kubelet.runtime.name, pod.uid()).await;
    let failed = |error: String| {
        let text = format!("checkpointing of {namespace}/{name}/{container} failed ({error})");
        body::error(StatusCode::INTERNAL_SERVER_ERROR, &text)
    };
    let status = match found {
        Ok(status) => status,
        Err(error) => return failed(error.to_string()),
    };
    let Some(running) = status.running().find(|c| c.name == *container) else {
        return failed(format!("container {container} not found"));
    };
    let folder = kubelet.paths.root.join("checkpoints");
    if let Err(error) = make_dir(&folder, 0o700) {
        return failed(format!("cannot create {}: {error}", folder.display()));
    }
    let time = Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    let file =
        folder.join(format!("checkpoint-{name}_{namespace}-{container}-{time}.tar")).display().to_string();
    match kubelet.runtime.cri.checkpoint_container(&running.id.id, &file, timeout).await {
        Ok(()) => body::json(StatusCode::OK, &serde_json::json!({"items": [file]})),
        Err(error) => failed(error.to_string()),
    }
}
