//! The kubelet, as far as the answers need it.

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::broadcast;

use super::hub::Event;
use super::server::Node;
use super::view;
use crate::kubelet::Kubelet;
use crate::pod::view::PodView;

impl Node for Kubelet {
    fn is_complete(&self) -> bool {
        !self.runtime.devices.is_early()
    }

    fn pods(&self) -> Vec<Pod> {
        let one = |pod: &std::sync::Arc<Pod>| view::current(pod, self.status.get(pod.uid()).as_deref());
        self.pods.list().iter().map(one).collect()
    }

    fn pod(&self, uid: &str) -> Option<Pod> {
        let pod = self.pods.get(uid)?;
        Some(view::current(&pod, self.status.get(uid).as_deref()))
    }

    fn watch(&self) -> broadcast::Receiver<Event> {
        self.status.hub.watch()
    }
}
