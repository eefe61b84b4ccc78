//! How a machine's processors hang together. Upstream: pkg/kubelet/cm/cpumanager/topology, v1.37.

use std::collections::{BTreeMap, BTreeSet};

use super::cpuset::CpuSet;

/// Where a processor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuInfo {
    /// Its core: the lowest processor in it.
    pub core: u32,
    /// Its socket.
    pub socket: u32,
    /// Its NUMA node.
    pub numa: u32,
    /// The last cache that it shares with some others only, else its socket.
    pub uncore: u32,
}

/// What processors are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Hardware threads of one core.
    Core,
    /// One last-level cache.
    Uncore,
    /// One socket.
    Socket,
    /// One NUMA node.
    Numa,
}

impl CpuInfo {
    /// The group that the processor is in.
    pub fn at(&self, level: Level) -> u32 {
        match level {
            Level::Core => self.core,
            Level::Uncore => self.uncore,
            Level::Socket => self.socket,
            Level::Numa => self.numa,
        }
    }
}

/// Processors and where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details(pub BTreeMap<u32, CpuInfo>);

impl Details {
    /// Only these processors.
    #[must_use]
    pub fn keep_only(&self, cpus: &CpuSet) -> Self {
        Self(self.0.iter().filter(|(cpu, _)| cpus.0.contains(cpu)).map(|(cpu, info)| (*cpu, *info)).collect())
    }

    /// All processors.
    pub fn cpus(&self) -> CpuSet {
        self.0.keys().copied().collect()
    }

    /// All groups of a level.
    pub fn groups(&self, level: Level) -> BTreeSet<u32> {
        self.0.values().map(|info| info.at(level)).collect()
    }

    /// Groups of level `inner` that have a processor in one group of level `outer`.
    pub fn groups_in(&self, inner: Level, outer: Level, id: u32) -> BTreeSet<u32> {
        self.0.values().filter(|info| info.at(outer) == id).map(|info| info.at(inner)).collect()
    }

    /// Processors of one group.
    pub fn cpus_in(&self, level: Level, id: u32) -> CpuSet {
        self.0.iter().filter(|(_, info)| info.at(level) == id).map(|(cpu, _)| *cpu).collect()
    }

    /// How many processors one group has.
    pub fn count_in(&self, level: Level, id: u32) -> usize {
        self.0.values().filter(|info| info.at(level) == id).count()
    }

    /// Processors of several groups.
    pub fn cpus_in_any(&self, level: Level, ids: &[u32]) -> CpuSet {
        self.0.iter().filter(|(_, info)| ids.contains(&info.at(level))).map(|(cpu, _)| *cpu).collect()
    }

    /// Sockets of several NUMA nodes.
    pub fn sockets_of(&self, nodes: &[u32]) -> BTreeSet<u32> {
        self.0.values().filter(|info| nodes.contains(&info.numa)).map(|info| info.socket).collect()
    }

    /// True if all nodes exist and are in one socket.
    pub fn share_socket(&self, nodes: &[u32]) -> bool {
        let all = self.groups(Level::Numa);
        nodes.iter().all(|node| all.contains(node)) && self.sockets_of(nodes).len() <= 1
    }
}

/// A machine's processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Where each processor is.
    pub details: Details,
    /// How many cores there are.
    pub cores: usize,
    /// How many sockets there are.
    pub sockets: usize,
    /// NUMA nodes, also those without processors, and how far it is from each to all of them (empty if not known).
    pub nodes: BTreeMap<u32, Vec<u64>>,
}

impl Topology {
    fn per(&self, groups: usize) -> usize {
        self.details.0.len().checked_div(groups).unwrap_or_default()
    }

    /// Processors in a core.
    pub fn cpus_per_core(&self) -> usize {
        self.per(self.cores)
    }

    /// Processors in a socket.
    pub fn cpus_per_socket(&self) -> usize {
        self.per(self.sockets)
    }

    /// Processors that share a last-level cache.
    pub fn cpus_per_uncore(&self) -> usize {
        self.per(self.details.groups(Level::Uncore).len())
    }

    /// NUMA nodes with processors.
    pub fn numa_nodes(&self) -> usize {
        self.details.groups(Level::Numa).len()
    }

    /// True if all processors share one last-level cache.
    pub fn is_uncore_aligned(&self, cpus: &CpuSet) -> bool {
        cpus.len() <= 1
            || (cpus.is_subset(&self.details.cpus())
                && self.details.keep_only(cpus).groups(Level::Uncore).len() == 1)
    }
}
