//! The pods that this node should run, and the API server's images of static ones.
//!
//! Upstream: pkg/kubelet/pod/pod_manager.go, v1.37.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;

use super::view::{CONFIG_HASH_ANNOTATION, CONFIG_MIRROR_ANNOTATION, CONFIG_SOURCE_ANNOTATION, PodView};

#[derive(Default)]
struct Inner {
    pods: HashMap<String, Arc<Pod>>,
    mirrors: HashMap<String, Arc<Pod>>,
}

/// Desired pods by id, mirrors by full name.
#[derive(Default)]
pub struct PodStore(RwLock<Inner>);

impl PodStore {
    /// Adds or replaces a pod or a mirror.
    pub fn set(&self, pod: Arc<Pod>) {
        let mut inner = self.0.write();
        if pod.is_mirror() {
            inner.mirrors.insert(pod.full_name(), pod);
        } else {
            inner.pods.insert(pod.uid().to_owned(), pod);
        }
    }

    /// Removes a pod or a mirror.
    pub fn remove(&self, pod: &Pod) {
        let mut inner = self.0.write();
        if pod.is_mirror() {
            let name = pod.full_name();
            if inner.mirrors.get(&name).is_some_and(|m| m.uid() == pod.uid()) {
                inner.mirrors.remove(&name);
            }
        } else {
            inner.pods.remove(pod.uid());
        }
    }

    /// A pod by id.
    pub fn get(&self, uid: &str) -> Option<Arc<Pod>> {
        self.0.read().pods.get(uid).cloned()
    }

    /// A pod by namespace and name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let inner = self.0.read();
        let mut named = inner.pods.values().filter(|p| p.namespace() == namespace && p.name() == name);
        let first = named.next()?;
        // Two of the same name for a moment: the one that is not being deleted.
        Some(named.find(|p| !p.is_deleted()).unwrap_or(first).clone())
    }

    /// All pods.
    pub fn list(&self) -> Vec<Arc<Pod>> {
        self.0.read().pods.values().cloned().collect()
    }

    /// All mirrors.
    pub fn mirrors(&self) -> Vec<Arc<Pod>> {
        self.0.read().mirrors.values().cloned().collect()
    }

    /// The mirror of a static pod.
    pub fn mirror_of(&self, pod: &Pod) -> Option<Arc<Pod>> {
        self.0.read().mirrors.get(&pod.full_name()).cloned()
    }

    /// The static pod of a mirror.
    pub fn source_of(&self, mirror: &Pod) -> Option<Arc<Pod>> {
        let inner = self.0.read();
        inner.pods.values().find(|p| p.is_static() && p.full_name() == mirror.full_name()).cloned()
    }

    /// The pod whose status the API server keeps: the pod itself, or the mirror of a static one.
    pub fn api_pod(&self, uid: &str) -> Option<Arc<Pod>> {
        let pod = self.get(uid)?;
        if pod.is_static() { self.mirror_of(&pod) } else { Some(pod) }
    }
}

/// A pod of the API server is no static pod, whatever its annotations say. Upstream: podStorage.merge in
/// pkg/kubelet/config/config.go.
pub fn from_api(pod: Arc<Pod>) -> Arc<Pod> {
    if pod.is_mirror() || pod.annotation(CONFIG_SOURCE_ANNOTATION).is_none() {
        return pod;
    }
    let mut pod = Arc::unwrap_or_clone(pod);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(CONFIG_SOURCE_ANNOTATION.to_owned(), "api".to_owned());
    Arc::new(pod)
}

/// True if a mirror is the image of this version of the static pod.
pub fn is_mirror_of(mirror: &Pod, pod: &Pod) -> bool {
    let hash = pod.annotation(CONFIG_HASH_ANNOTATION);
    hash.is_some() && mirror.annotation(CONFIG_MIRROR_ANNOTATION) == hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_api_server_has_no_static_pods() {
        let pod = |annotations: serde_json::Value| -> Arc<Pod> {
            Arc::new(serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap())
        };
        let claims = pod(json!({CONFIG_SOURCE_ANNOTATION: "file"}));
        assert!(claims.is_static() && !from_api(claims).is_static());
        let mirror = pod(json!({CONFIG_SOURCE_ANNOTATION: "file", CONFIG_MIRROR_ANNOTATION: "h"}));
        assert_eq!(from_api(mirror.clone()), mirror);
        assert_eq!(from_api(pod(json!({"a": "b"}))), pod(json!({"a": "b"})));
    }
}
