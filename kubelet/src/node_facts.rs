//! What the rest of the kubelet needs to know about its node.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use k8s_openapi::api::core::v1::{NodeRuntimeHandler, NodeRuntimeHandlerFeatures};
use parking_lot::RwLock;

use crate::container::downward::{Addresses, NodeAllocatable};
use crate::container::limits::NodeLimits;
use crate::network::dns;
use crate::node::health::RuntimeHealth;
use crate::node::status::Pressure;

/// Facts that do not change while the kubelet runs, and the few that do.
#[derive(Debug)]
pub struct NodeFacts {
    /// The node's name.
    pub name: String,
    /// How limits are turned into what the kernel takes.
    pub limits: NodeLimits,
    /// What the node has for pods.
    pub allocatable: NodeAllocatable,
    /// True if pods' local storage is counted and limited.
    pub isolates_storage: bool,
    /// Kernel parameters of pods that do not set them.
    pub pod_sysctls: BTreeMap<String, String>,
    /// Containers without a seccomp profile get the runtime's.
    pub seccomp_default: bool,
    /// Folder of localhost seccomp profiles.
    pub seccomp_root: String,
    /// Resolver settings of the cluster.
    pub dns: dns::Settings,
    /// File with the node's own resolver settings; read for each pod because it may change.
    pub resolv_conf: Option<String>,
    /// Addresses of the node, primary first.
    pub host_ips: RwLock<Arc<Vec<String>>>,
    /// Runtime handlers that can make mounts read-only recursively; "" is the default one.
    pub recursive_read_only: RwLock<Vec<String>>,
    /// Runtime handlers that can make user namespaces; "" is the default one.
    pub user_namespaces: RwLock<Vec<String>>,
    /// What it declares that it can do, once the runtime has said what it can.
    pub declared_features: OnceLock<Vec<&'static str>>,
    /// What the node is short of.
    pub pressure: RwLock<Pressure>,
    /// Whether the runtime keeps to a pod's supplemental groups; `None` if it has not said.
    pub groups_policy: RwLock<Option<bool>>,
}

impl NodeFacts {
    /// What the node declares that it can do; nothing before the runtime has said what it can.
    pub fn declared(&self) -> &[&'static str] {
        self.declared_features.get().map_or(&[], Vec::as_slice)
    }

    /// Takes note of what the runtime says it can do.
    pub fn note(&self, health: &RuntimeHealth) {
        let able = |can: fn(&NodeRuntimeHandlerFeatures) -> Option<bool>| -> Vec<String> {
            let can = |h: &&NodeRuntimeHandler| h.features.as_ref().and_then(can).unwrap_or(false);
            health.handlers.iter().filter(can).filter_map(|h| h.name.clone()).collect()
        };
        *self.recursive_read_only.write() = able(|f| f.recursive_read_only_mounts);
        *self.user_namespaces.write() = able(|f| f.user_namespaces);
        if let Some(keeps) = health.supplemental_groups_policy {
            *self.groups_policy.write() = Some(keeps);
        }
    }

    /// Addresses for the downward API.
    pub fn addresses(&self, pod_ips: &[String]) -> Addresses {
        Addresses { host_ips: self.host_ips.read().to_vec(), pod_ips: pod_ips.to_vec() }
    }

    /// Resolver settings with the node's file as it is now.
    pub fn dns_now(&self) -> dns::Settings {
        let mut settings = self.dns.clone();
        settings.host = self.resolv_conf.as_ref().map(|path| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            dns::parse_resolv_conf(&text)
        });
        settings.node_ips = self.host_ips.read().to_vec();
        settings
    }
}
