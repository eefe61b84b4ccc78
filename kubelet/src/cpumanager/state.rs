//! Who has which processors. Upstream: pkg/kubelet/cm/cpumanager/state, v1.37.

use std::collections::BTreeMap;

use super::cpuset::CpuSet;

/// Containers' processors, by pod and container.
pub type Assignments = BTreeMap<String, BTreeMap<String, CpuSet>>;

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Processors of all that have none of their own.
    pub shared: CpuSet,
    /// Processors of containers that have their own.
    pub assignments: Assignments,
    /// Processors of whole pods, of which their containers have parts.
    pub pods: BTreeMap<String, CpuSet>,
}

impl State {
    /// A container's own processors.
    pub fn get(&self, uid: &str, container: &str) -> Option<&CpuSet> {
        self.assignments.get(uid)?.get(container)
    }

    /// A container's own processors, else the shared ones.
    pub fn get_or_shared(&self, uid: &str, container: &str) -> &CpuSet {
        self.get(uid, container).unwrap_or(&self.shared)
    }

    /// Gives a container processors.
    pub fn set(&mut self, uid: &str, container: &str, cpus: CpuSet) {
        self.assignments.entry(uid.to_owned()).or_default().insert(container.to_owned(), cpus);
    }

    /// Forgets a container; its processors, if it had some.
    pub fn remove(&mut self, uid: &str, container: &str) -> Option<CpuSet> {
        let of_pod = self.assignments.get_mut(uid)?;
        let cpus = of_pod.remove(container);
        if of_pod.is_empty() {
            self.assignments.remove(uid);
        }
        cpus
    }

    /// Processors of all containers of a pod.
    pub fn of_pod(&self, uid: &str) -> CpuSet {
        let sets = self.assignments.get(uid).into_iter().flat_map(BTreeMap::values);
        sets.fold(CpuSet::default(), |all, cpus| all.union(cpus))
    }

    /// All processors that some pod or container has for itself.
    pub fn exclusive(&self) -> CpuSet {
        let sets = self.assignments.values().flat_map(BTreeMap::values).chain(self.pods.values());
        sets.fold(CpuSet::default(), |all, cpus| all.union(cpus))
    }
}
