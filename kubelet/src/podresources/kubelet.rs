//! The kubelet, as far as the answers need it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::Node;
use crate::devicemanager::state::Held;
use crate::dra::claims::ClaimInfo;
use crate::kubelet::Kubelet;
use crate::memorymanager::state::Block;
use crate::pod::view::PodView;

impl Node for Kubelet {
    fn active(&self) -> Vec<Arc<Pod>> {
        self.active_pods()
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods.list()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.active_pods().into_iter().find(|pod| pod.namespace() == namespace && pod.name() == name)
    }

    fn refresh(&self) {
        self.runtime.devices.refresh();
    }

    fn devices(&self, uid: &str, container: &str) -> Vec<Held> {
        self.runtime.devices.held_by(uid, container)
    }

    fn all_devices(&self) -> Vec<Held> {
        self.runtime.devices.usable()
    }

    fn cpus(&self, uid: &str, container: &str) -> Vec<i64> {
        let cpus = self.node.limits.cpus.as_ref();
        cpus.map(|cpus| cpus.own(uid, container)).into_iter().flat_map(|set| set.0).map(i64::from).collect()
    }

    fn pod_cpus(&self, uid: &str) -> Vec<i64> {
        let cpus = self.node.limits.cpus.as_ref();
        cpus.map(|cpus| cpus.of_whole(uid)).into_iter().flat_map(|set| set.0).map(i64::from).collect()
    }

    fn pod_memory(&self, uid: &str) -> Vec<Block> {
        self.node.limits.memory.as_ref().map(|memory| memory.of_whole(uid)).unwrap_or_default()
    }

    fn all_cpus(&self) -> Vec<i64> {
        let cpus = self.node.limits.cpus.as_ref();
        cpus.map(|cpus| cpus.usable()).into_iter().flat_map(|set| set.0).map(i64::from).collect()
    }

    fn memory(&self, uid: &str, container: &str) -> Vec<Block> {
        self.node.limits.memory.as_ref().map(|memory| memory.own(uid, container)).unwrap_or_default()
    }

    fn all_memory(&self) -> Vec<Block> {
        self.node.limits.memory.as_ref().map(|memory| memory.usable()).unwrap_or_default()
    }

    fn claims(&self, pod: &Pod, container: &Container) -> Vec<ClaimInfo> {
        self.runtime.dra.claims_of(pod, container).unwrap_or_else(|error| {
            tracing::error!(pod = pod.log_name(), error, "Unable to get container claim info state");
            Vec::new()
        })
    }
}
