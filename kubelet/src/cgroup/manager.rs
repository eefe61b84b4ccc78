//! The kubelet's own part of the tree: the groups of all pods, of service classes and of each pod.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Pod;

use super::fs::{Error, Hierarchy};
use super::tree;
use crate::container::limits::{CgroupLimits, NodeLimits, milli_to_shares};
use crate::pod::qos::{QosClass, qos_class};
use crate::pod::resources::pod_requests;
use crate::pod::view::PodView;

/// Settings of the tree.
#[derive(Clone, Debug)]
pub struct Settings {
    /// True if there is a group per pod and service class.
    pub per_qos: bool,
    /// Group below which all others are; empty for the root.
    pub root: String,
    /// Limits of the group of all pods.
    pub allocatable: CgroupLimits,
    /// Most processes of one pod; `None` for no limit.
    pub pod_pids: Option<i64>,
}

/// Makes and removes the groups.
#[derive(Clone, Debug)]
pub struct CgroupManager {
    hierarchy: Hierarchy,
    settings: Settings,
}

impl CgroupManager {
    /// Uses what is mounted on this machine.
    pub fn new(hierarchy: Hierarchy, settings: Settings) -> Self {
        Self { hierarchy, settings }
    }

    /// The hierarchies of this machine.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    fn at(&self, path: &str) -> String {
        let root = self.settings.root.trim_matches('/');
        if root.is_empty() { path.to_owned() } else { format!("{root}/{path}") }
    }

    /// Makes the groups of all pods and of the service classes.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn create_tree(&self) -> Result<(), Error> {
        if !self.settings.per_qos {
            return Ok(());
        }
        self.hierarchy.create(&self.at(tree::PODS), &self.settings.allocatable)?;
        let least = CgroupLimits { shares: Some(milli_to_shares(0)), ..CgroupLimits::default() };
        self.hierarchy.create(&self.at(&tree::class(QosClass::BestEffort)), &least)?;
        self.hierarchy.create(&self.at(&tree::class(QosClass::Burstable)), &least)
    }

    /// Limits groups of others that exist already.
    ///
    /// # Errors
    /// If one does not exist, or the kernel refuses.
    pub fn limit_reserved(&self, groups: &[(String, CgroupLimits)]) -> Result<(), String> {
        for (path, limits) in groups {
            let inner = path.trim_matches('/');
            if !self.hierarchy.exists(inner) {
                return Err(format!(
                    "the cgroup {path:?} that is to be limited to what is reserved for it does not exist; create it first"
                ));
            }
            self.hierarchy.set(inner, limits).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Gives the burstable class the weight of what its pods ask for.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn update_classes<'a>(&self, pods: impl Iterator<Item = &'a Pod>) -> Result<(), Error> {
        if !self.settings.per_qos {
            return Ok(());
        }
        let requested = (pods.filter(|pod| qos_class(pod) == QosClass::Burstable))
            .fold(0i64, |sum, pod| sum.saturating_add(pod_requests(pod).milli("cpu")));
        let limits = CgroupLimits { shares: Some(milli_to_shares(requested)), ..CgroupLimits::default() };
        self.hierarchy.set(&self.at(&tree::class(QosClass::Burstable)), &limits)
    }

    /// Path of a pod's group below the mount.
    pub fn pod_path(&self, pod: &Pod) -> String {
        self.at(&tree::pod(qos_class(pod), pod.uid()))
    }

    /// What the runtime is told as parent of a pod's containers.
    pub fn parent(&self, pod: &Pod) -> String {
        if self.settings.per_qos { format!("/{}", self.pod_path(pod)) } else { String::new() }
    }

    /// True if the pod's group exists (or none is needed).
    pub fn exists(&self, pod: &Pod) -> bool {
        !self.settings.per_qos || self.hierarchy.exists(&self.pod_path(pod))
    }

    /// Makes the pod's group.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn create_pod(&self, pod: &Pod, node: &NodeLimits) -> Result<(), Error> {
        if !self.settings.per_qos {
            return Ok(());
        }
        let limits = CgroupLimits { pids: self.settings.pod_pids, ..node.pod_cgroup(pod) };
        self.hierarchy.create(&self.pod_path(pod), &limits)
    }

    /// Changes limits of the pod's group.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_pod(&self, pod: &Pod, limits: &CgroupLimits) -> Result<(), Error> {
        if self.settings.per_qos { self.hierarchy.set(&self.pod_path(pod), limits) } else { Ok(()) }
    }

    /// Removes the group of a pod, in whichever class it is.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn remove_pod(&self, uid: &str) -> Result<(), Error> {
        if !self.settings.per_qos {
            return Ok(());
        }
        [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort]
            .into_iter()
            .try_for_each(|class| self.hierarchy.remove(&self.at(&tree::pod(class, uid))))
    }

    /// Ids of all pods that have a group.
    pub fn pods(&self) -> HashSet<String> {
        if !self.settings.per_qos {
            return HashSet::new();
        }
        [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort]
            .into_iter()
            .flat_map(|class| self.hierarchy.children(&self.at(&tree::class(class))))
            .filter_map(|name| tree::pod_of(&name).map(str::to_owned))
            .collect()
    }
}
