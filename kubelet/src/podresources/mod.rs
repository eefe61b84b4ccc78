//! What containers were given - processors, memory, devices, claimed devices - for agents on the node, by a socket.
//!
//! [`answer`] makes the answers from what a [`Node`] knows, [`kubelet`] is the real one, [`server`] serves them.
//! Upstream: pkg/kubelet/apis/podresources, v1.37.

pub mod answer;
mod kubelet;
pub mod server;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::devicemanager::state::Held;
use crate::dra::claims::ClaimInfo;
use crate::memorymanager::state::Block;

/// What the answers are made from.
pub trait Node: Send + Sync {
    /// Pods that have not ended, or of which something may still run.
    fn active(&self) -> Vec<Arc<Pod>>;
    /// All pods.
    fn pods(&self) -> Vec<Arc<Pod>>;
    /// An active pod.
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;
    /// Takes devices back from pods that are over.
    fn refresh(&self);
    /// A container's devices.
    fn devices(&self, uid: &str, container: &str) -> Vec<Held>;
    /// All devices that work.
    fn all_devices(&self) -> Vec<Held>;
    /// A container's own processors.
    fn cpus(&self, uid: &str, container: &str) -> Vec<i64>;
    /// A whole pod's own processors.
    fn pod_cpus(&self, uid: &str) -> Vec<i64>;
    /// A whole pod's own memory.
    fn pod_memory(&self, uid: &str) -> Vec<Block>;
    /// All processors that containers may have.
    fn all_cpus(&self) -> Vec<i64>;
    /// A container's own memory.
    fn memory(&self, uid: &str, container: &str) -> Vec<Block>;
    /// All memory that containers may have.
    fn all_memory(&self) -> Vec<Block>;
    /// A container's claims.
    fn claims(&self, pod: &Pod, container: &Container) -> Vec<ClaimInfo>;
}
