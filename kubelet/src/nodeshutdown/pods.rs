//! The kubelet's part in a shutdown.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Notify;

use super::Pods;
use crate::kubelet::Kubelet;
use crate::status::generate::Eviction;
use crate::worker::Workers;

/// The node's pods, and who reports its status.
pub struct NodePods {
    /// The kubelet.
    pub kubelet: Arc<Kubelet>,
    /// Its workers.
    pub workers: Arc<Workers>,
    /// Wakes the reporter of the node's status.
    pub report: Arc<Notify>,
}

#[async_trait]
impl Pods for NodePods {
    fn active(&self) -> Vec<Arc<Pod>> {
        self.kubelet.active_pods()
    }

    fn kill(&self, uid: &str, grace: i64, eviction: Eviction) {
        self.kubelet.evict(uid, Some(grace), eviction);
    }

    async fn gone(&self, uids: &[String]) {
        self.workers.until_finished(uids).await;
    }

    fn tell(&self, message: &str) {
        self.kubelet.events.node(&self.kubelet.node.name, false, "Shutdown", message);
        self.report.notify_one();
    }
}
