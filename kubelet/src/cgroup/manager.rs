//! The kubelet's own part of the tree: the groups of all pods, of service classes and of each pod.
//!
//! Start reading at [`CgroupManager::create_tree`]. Upstream: pkg/kubelet/cm/{cgroup,node_container,qos_container,
//! pod_container}_manager_linux.go, v1.37.

use std::collections::HashSet;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;

use super::classes::{self, Limited, Requests};
use super::fs::{self, Hierarchy};
use super::in_force::InForce;
use super::name::CgroupName;
use super::systemd::{self, Systemd};
use super::{property, tree};
use crate::container::limits::{CgroupLimits, DEFAULT_PERIOD_US, MIN_SHARES, NodeLimits};
use crate::metrics::{self, work};
use crate::pod::qos::{QosClass, qos_class};
use crate::pod::view::PodView;

const CLASSES: [QosClass; 3] = [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort];

/// A group that could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// On the file system.
    #[error(transparent)]
    Fs(#[from] fs::Error),
    /// By systemd.
    #[error("unit {0:?}: {1}")]
    Systemd(String, systemd::Error),
    /// A limit that systemd cannot be told.
    #[error("{0}")]
    Limit(String),
}

/// Who makes the groups.
#[derive(Debug)]
pub enum Driver {
    /// The kubelet itself.
    Cgroupfs,
    /// systemd, as slices.
    Systemd(Systemd),
}

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
    /// How service classes are treated.
    pub classes: classes::Policy,
}

/// Makes and removes the groups.
#[derive(Debug)]
pub struct CgroupManager {
    hierarchy: Hierarchy,
    driver: Driver,
    root: CgroupName,
    settings: Settings,
}

impl CgroupManager {
    /// Uses what is mounted on this machine.
    pub fn new(hierarchy: Hierarchy, driver: Driver, settings: Settings) -> Self {
        let root = CgroupName::from_cgroupfs(&settings.root);
        Self { hierarchy, driver, root, settings }
    }

    /// The hierarchies of this machine.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Absolute path of a group below the mount.
    fn absolute(&self, name: &CgroupName) -> String {
        match self.driver {
            Driver::Cgroupfs => name.to_cgroupfs(),
            Driver::Systemd(_) => name.to_systemd(),
        }
    }

    fn path(&self, name: &CgroupName) -> String {
        self.absolute(name).trim_start_matches('/').to_owned()
    }

    /// The group at an absolute path.
    fn name(&self, path: &str) -> CgroupName {
        match self.driver {
            Driver::Cgroupfs => CgroupName::from_cgroupfs(path),
            Driver::Systemd(_) => CgroupName::from_systemd(path),
        }
    }

    /// Makes a group and limits it. A limit that is refused is logged, as upstream: the group is there all the same.
    async fn create(&self, name: &CgroupName, limits: &CgroupLimits) -> Result<(), Error> {
        let begin = Instant::now();
        let result = self.do_create(name, limits).await;
        work::cgroup("create", begin.elapsed());
        result
    }

    async fn do_create(&self, name: &CgroupName, limits: &CgroupLimits) -> Result<(), Error> {
        if let Driver::Systemd(systemd) = &self.driver {
            let (unit, parent) = (name.slice(), name.parent().unwrap_or_default().slice());
            let properties = property::new_slice(&unit, &parent, self.hierarchy.is_v2());
            systemd.start(&unit, &properties).await.map_err(|e| Error::Systemd(unit, e))?;
        }
        self.hierarchy.create(&self.path(name))?;
        if let Err(error) = self.limit(name, limits).await {
            tracing::error!(cgroup = self.path(name), %error, "Failed to limit a new cgroup");
        }
        Ok(())
    }

    async fn limit(&self, name: &CgroupName, limits: &CgroupLimits) -> Result<(), Error> {
        let begin = Instant::now();
        let result = self.do_limit(name, limits).await;
        work::cgroup("update", begin.elapsed());
        result
    }

    async fn do_limit(&self, name: &CgroupName, limits: &CgroupLimits) -> Result<(), Error> {
        let mut limits = limits.clone();
        if let Driver::Systemd(systemd) = &self.driver {
            let version = systemd.version().await;
            let properties =
                property::resources(&mut limits, self.hierarchy.is_v2(), version).map_err(Error::Limit)?;
            let unit = name.slice();
            systemd.set(&unit, &properties).await.map_err(|e| Error::Systemd(unit, e))?;
        }
        Ok(self.hierarchy.set(&self.path(name), &limits)?)
    }

    async fn remove(&self, name: &CgroupName) -> Result<(), Error> {
        let path = self.path(name);
        if !self.hierarchy.is_present(&path) {
            return Ok(());
        }
        let begin = Instant::now();
        if let Driver::Systemd(systemd) = &self.driver {
            self.hierarchy.kill(&path);
            let unit = name.slice();
            systemd.stop(&unit).await.map_err(|e| Error::Systemd(unit, e))?;
        }
        let result = self.hierarchy.remove(&path);
        work::cgroup("destroy", begin.elapsed());
        Ok(result?)
    }

    /// Makes the groups of all pods and of the service classes.
    ///
    /// # Errors
    /// If the configured root is missing, or the kernel or systemd refuses.
    pub async fn create_tree(&self) -> Result<(), String> {
        if !self.settings.per_qos {
            return Ok(());
        }
        // The root is given as a path, whatever the driver.
        let root = self.root.to_cgroupfs();
        let found = match self.driver {
            Driver::Systemd(_) => self.hierarchy.validate(self.root.to_systemd().trim_start_matches('/')),
            Driver::Cgroupfs => self.hierarchy.validate(root.trim_start_matches('/')),
        };
        found.map_err(|error| format!("invalid configuration: {error}"))?;
        let pods = tree::pods(&self.root);
        if !self.hierarchy.exists(&self.path(&pods)) {
            self.create(&pods, &self.settings.allocatable).await.map_err(|e| e.to_string())?;
        }
        self.hierarchy
            .validate(&self.path(&pods))
            .map_err(|error| format!("error validating root container {:?} : {error}", self.path(&pods)))?;
        for (class, limits) in classes::first(&self.settings.classes) {
            let name = tree::class(&self.root, class);
            let (made, what) = match self.hierarchy.exists(&self.path(&name)) {
                true => (self.limit(&name, &limits).await, "update"),
                false => (self.create(&name, &limits).await, "create"),
            };
            made.map_err(|e| format!("failed to {what} top level {} QOS cgroup : {e}", class.as_str()))?;
        }
        Ok(())
    }

    /// Limits the group of all pods to what pods may have.
    ///
    /// # Errors
    /// If the kernel or systemd refuses; the pods may use more than that until some are evicted.
    pub async fn enforce_allocatable(&self) -> Result<(), Error> {
        if !self.settings.per_qos {
            return Ok(());
        }
        let mut limits = self.settings.allocatable.clone();
        if !self.settings.classes.protects_memory {
            // What an earlier kubelet protected.
            limits.unified = ["memory.min", "memory.low"].map(|file| (file, "0".to_owned())).into();
        }
        self.limit(&tree::pods(&self.root), &limits).await
    }

    /// Limits a group of others that exists already.
    ///
    /// # Errors
    /// If it does not exist, or the kernel or systemd refuses.
    pub async fn limit_reserved(&self, path: &str, limits: &CgroupLimits) -> Result<(), String> {
        let name = self.name(path);
        self.hierarchy.validate(&self.path(&name))?;
        self.limit(&name, limits).await.map_err(|e| e.to_string())
    }

    /// Gives the classes what their pods ask for.
    ///
    /// # Errors
    /// If the kernel or systemd refuses.
    pub async fn update_classes<'a>(&self, pods: impl Iterator<Item = &'a Pod>) -> Result<(), Error> {
        if !self.settings.per_qos {
            return Ok(());
        }
        let (policy, requests) = (&self.settings.classes, Requests::of(pods));
        if policy.protects_memory {
            metrics::memory::kept(requests.guaranteed, requests.burstable);
        }
        let mut all = classes::limits(policy, requests);
        let first = self.limit_classes(&all).await;
        if first.is_err() && policy.reserve.is_some() {
            // A class that has more than it may cannot be limited to less.
            let usage = |class| self.hierarchy.memory_usage(&self.path(&tree::class(&self.root, class)));
            classes::yield_to(usage, &mut all);
            return self.limit_classes(&all).await;
        }
        first
    }

    /// All of them, as far as possible.
    async fn limit_classes(&self, all: &[Limited]) -> Result<(), Error> {
        let mut result = Ok(());
        for (class, limits) in all {
            let done = self.limit(&tree::class(&self.root, *class), limits).await;
            result = result.and(done);
        }
        result
    }

    fn pod_name(&self, pod: &Pod) -> CgroupName {
        tree::pod(&self.root, qos_class(pod), pod.uid())
    }

    /// Path of the group of all pods below the mount.
    pub fn all_pods_path(&self) -> String {
        self.path(&tree::pods(&self.root))
    }

    /// Path of a pod's group below the mount.
    pub fn pod_path(&self, pod: &Pod) -> String {
        self.path(&self.pod_name(pod))
    }

    /// Paths of the groups of a pod's containers below the mount, in no order. The runtime names them.
    pub fn container_paths(&self, pod: &Pod) -> Vec<String> {
        let parent = self.pod_path(pod);
        self.hierarchy.children(&parent).into_iter().map(|name| format!("{parent}/{name}")).collect()
    }

    /// What the runtime is told as parent of a pod's containers.
    pub fn parent(&self, pod: &Pod) -> String {
        if self.settings.per_qos { self.absolute(&self.pod_name(pod)) } else { String::new() }
    }

    /// True if the pod's group exists (or none is needed).
    pub fn exists(&self, pod: &Pod) -> bool {
        !self.settings.per_qos || self.hierarchy.exists(&self.pod_path(pod))
    }

    /// Makes the pod's group.
    ///
    /// # Errors
    /// If the kernel or systemd refuses.
    pub async fn create_pod(&self, pod: &Pod, node: &NodeLimits) -> Result<(), Error> {
        if !self.settings.per_qos {
            return Ok(());
        }
        let limits = CgroupLimits { pids: self.settings.pod_pids, ..node.new_pod_cgroup(pod) };
        self.create(&self.pod_name(pod), &limits).await
    }

    /// Changes limits of the pod's group.
    ///
    /// # Errors
    /// If the kernel or systemd refuses.
    pub async fn set_pod(&self, pod: &Pod, limits: &CgroupLimits) -> Result<(), Error> {
        if self.settings.per_qos { self.limit(&self.pod_name(pod), limits).await } else { Ok(()) }
    }

    /// Limits of the pod's group as they are.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn in_force(&self, pod: &Pod) -> Result<InForce, String> {
        match self.settings.per_qos {
            true => self.hierarchy.in_force(&self.pod_path(pod)),
            false => Ok(InForce { shares: MIN_SHARES, quota: -1, period: DEFAULT_PERIOD_US, memory: -1 }),
        }
    }

    /// Removes the group of a pod, in whichever class it is.
    ///
    /// # Errors
    /// If the kernel or systemd refuses.
    pub async fn remove_pod(&self, uid: &str) -> Result<(), Error> {
        if !self.settings.per_qos {
            return Ok(());
        }
        for class in CLASSES {
            self.remove(&tree::pod(&self.root, class, uid)).await?;
        }
        Ok(())
    }

    /// Ids of all pods that have a group.
    pub fn pods(&self) -> HashSet<String> {
        if !self.settings.per_qos {
            return HashSet::new();
        }
        CLASSES
            .into_iter()
            .flat_map(|class| self.hierarchy.children(&self.path(&tree::class(&self.root, class))))
            .filter_map(|name| tree::pod_of(self.name(&name).last()).map(str::to_owned))
            .collect()
    }
}

#[cfg(test)]
mod tests;
