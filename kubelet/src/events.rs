//! Events about pods, containers and the node. Upstream: pkg/kubelet/events and pkg/kubelet/container/ref.go, v1.37.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use controller::{EventRecorder, NORMAL, WARNING};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};

use crate::pod::view::{ContainerRef, PodView};

/// Writes events; without an API server they only go to the log.
#[derive(Clone, Default)]
pub struct Events {
    recorder: Option<EventRecorder>,
    /// The id of the node's object, once it is known.
    node: Arc<OnceLock<String>>,
}

impl Events {
    /// Events go through this recorder.
    pub fn new(recorder: Option<EventRecorder>) -> Self {
        Self { recorder, node: Arc::default() }
    }

    fn write(&self, object: &ObjectReference, kind: &str, reason: &str, message: &str) {
        self.annotated(object, BTreeMap::new(), kind, reason, message);
    }

    fn annotated(
        &self,
        object: &ObjectReference,
        annotations: BTreeMap<String, String>,
        kind: &str,
        reason: &str,
        message: &str,
    ) {
        match &self.recorder {
            // Logs it, too.
            Some(recorder) => recorder.annotated(object, annotations, kind, reason, message),
            None => tracing::debug!(object = object.name, kind, reason, message, "Event occurred"),
        }
    }

    /// Something normal about a pod.
    pub fn normal(&self, pod: &Pod, reason: &str, message: &str) {
        self.write(&reference(pod, None), NORMAL, reason, message);
    }

    /// Something wrong with a pod.
    pub fn warning(&self, pod: &Pod, reason: &str, message: &str) {
        self.write(&reference(pod, None), WARNING, reason, message);
    }

    /// Something wrong with a pod, with annotations for programs.
    pub fn warning_with(
        &self,
        pod: &Pod,
        annotations: BTreeMap<String, String>,
        reason: &str,
        message: &str,
    ) {
        self.annotated(&reference(pod, None), annotations, WARNING, reason, message);
    }

    /// Something normal about a container.
    pub fn container_normal(&self, pod: &Pod, container: &str, reason: &str, message: &str) {
        self.write(&reference(pod, Some(container)), NORMAL, reason, message);
    }

    /// Something wrong with a container.
    pub fn container_warning(&self, pod: &Pod, container: &str, reason: &str, message: &str) {
        self.write(&reference(pod, Some(container)), WARNING, reason, message);
    }

    /// From now on events about the node name its object, as the first one found it.
    pub fn know_node(&self, uid: &str) {
        self.node.get_or_init(|| uid.to_owned());
    }

    /// Something about the node.
    pub fn node(&self, name: &str, warning: bool, reason: &str, message: &str) {
        let object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            // The name stands for the id until that is known: `kubectl describe` looks for both.
            uid: Some(self.node.get().cloned().unwrap_or_else(|| name.to_owned())),
            ..ObjectReference::default()
        };
        self.write(&object, if warning { WARNING } else { NORMAL }, reason, message);
    }
}

fn reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let field_path = container.map(|name| {
        pod.find_container(name).map_or_else(
            || format!("implicitly required container {name}"),
            |c: ContainerRef<'_>| c.field_path(),
        )
    });
    // Events about a static pod go to its mirror: it is the one that users see.
    let uid = pod.annotation(crate::pod::view::CONFIG_MIRROR_ANNOTATION).unwrap_or_else(|| pod.uid());
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: Some(uid.to_owned()),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}
