//! Labels and annotations that the kubelet leaves on sandboxes and containers, and reads back after a restart.
//!
//! They are the kubelet's memory: names and encodings equal upstream's, so that either kubelet can take over the
//! other's pods. Upstream: pkg/kubelet/kuberuntime/labels.go, v1.37.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Container, ContainerPort, LifecycleHandler, Pod};

use super::hash::container_hash;
use crate::pod::view::PodView;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const POD_DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
const POD_TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
const HASH: &str = "io.kubernetes.container.hash";
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
const PORTS: &str = "io.kubernetes.container.ports";

/// Labels of a pod's sandbox: the pod's own, then the kubelet's.
pub fn sandbox_labels(pod: &Pod) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> =
        pod.metadata.labels.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.extend(pod_identity(pod));
    labels
}

/// Annotations of a pod's sandbox: the pod's.
pub fn sandbox_annotations(pod: &Pod) -> HashMap<String, String> {
    pod.metadata.annotations.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Labels of a container.
pub fn container_labels(container: &Container, pod: &Pod) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = pod_identity(pod).into_iter().collect();
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    labels
}

fn pod_identity(pod: &Pod) -> [(String, String); 3] {
    [
        (POD_NAME.to_owned(), pod.name().to_owned()),
        (POD_NAMESPACE.to_owned(), pod.namespace().to_owned()),
        (POD_UID.to_owned(), pod.uid().to_owned()),
    ]
}

/// Annotations of a container: all that is needed to stop it when its pod's spec is gone.
pub fn container_annotations(
    container: &Container,
    pod: &Pod,
    restart_count: u32,
) -> HashMap<String, String> {
    let mut out = HashMap::from([
        (HASH.to_owned(), format!("{:x}", container_hash(container))),
        (RESTART_COUNT.to_owned(), restart_count.to_string()),
        (MESSAGE_PATH.to_owned(), container.termination_message_path.clone().unwrap_or_default()),
        (MESSAGE_POLICY.to_owned(), container.termination_message_policy.clone().unwrap_or_default()),
    ]);
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        out.insert(POD_DELETION_GRACE.to_owned(), seconds.to_string());
    }
    if let Some(seconds) = pod.spec().termination_grace_period_seconds {
        out.insert(POD_TERMINATION_GRACE.to_owned(), seconds.to_string());
    }
    if let Some(handler) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref())
        && let Ok(json) = serde_json::to_string(handler)
    {
        out.insert(PRE_STOP.to_owned(), json);
    }
    if let Some(ports) = container.ports.as_ref().filter(|ports| !ports.is_empty())
        && let Ok(json) = serde_json::to_string(ports)
    {
        out.insert(PORTS.to_owned(), json);
    }
    out
}

/// What a container's annotations tell about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerInfo {
    /// Hash of the spec it was made from; zero if absent.
    pub hash: u64,
    /// Containers of the same name before it.
    pub restart_count: u32,
    /// Seconds to stop, from a deletion that was under way when it was made.
    pub deletion_grace: Option<i64>,
    /// Seconds to stop, from the spec.
    pub termination_grace: Option<i64>,
    /// Where in the container the termination message is written.
    pub message_path: String,
    /// Whether logs may replace a missing termination message.
    pub message_policy: String,
    /// Hook to run before it is stopped.
    pub pre_stop: Option<LifecycleHandler>,
    /// Ports, for hooks that name one.
    pub ports: Vec<ContainerPort>,
}

/// Reads a container's annotations; anything unreadable counts as absent.
pub fn container_info(annotations: &BTreeMap<String, String>) -> ContainerInfo {
    let text = |key: &str| annotations.get(key).cloned();
    ContainerInfo {
        hash: text(HASH).and_then(|v| u64::from_str_radix(&v, 16).ok()).unwrap_or_default(),
        restart_count: text(RESTART_COUNT).and_then(|v| v.parse().ok()).unwrap_or_default(),
        deletion_grace: text(POD_DELETION_GRACE).and_then(|v| v.parse().ok()),
        termination_grace: text(POD_TERMINATION_GRACE).and_then(|v| v.parse().ok()),
        message_path: text(MESSAGE_PATH).unwrap_or_default(),
        message_policy: text(MESSAGE_POLICY).unwrap_or_default(),
        pre_stop: text(PRE_STOP).and_then(|v| serde_json::from_str(&v).ok()),
        ports: text(PORTS).and_then(|v| serde_json::from_str(&v).ok()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn annotations_round_trip() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "x"}},
            "spec": {"terminationGracePeriodSeconds": 5, "containers": [{
                "name": "c", "image": "busybox:1",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "lifecycle": {"preStop": {"exec": {"command": ["sleep", "1"]}}},
                "ports": [{"name": "web", "containerPort": 80, "protocol": "TCP"}]}]}}))
        .unwrap();
        let container = &pod.spec().containers[0];
        let written: BTreeMap<_, _> = container_annotations(container, &pod, 3).into_iter().collect();
        assert_eq!(written["io.kubernetes.container.hash"], "1aaabc84");
        assert_eq!(
            written["io.kubernetes.container.ports"],
            r#"[{"containerPort":80,"name":"web","protocol":"TCP"}]"#
        );
        let read = container_info(&written);
        assert_eq!((read.hash, read.restart_count, read.termination_grace), (0x1aaa_bc84, 3, Some(5)));
        assert_eq!(read.pre_stop, container.lifecycle.clone().unwrap().pre_stop);
        assert_eq!(sandbox_labels(&pod)["app"], "x");
        assert_eq!(container_labels(container, &pod).len(), 4);
    }
}
