//! Taking processors one group after the other, fullest groups first. Upstream: cpuAccumulator in cpu_assignment.go.

use super::cpuset::CpuSet;
use super::topology::{Details, Level, Topology};

/// What is taken so far.
pub struct Accumulator<'a> {
    topology: &'a Topology,
    /// Processors that may be taken.
    pub free: Details,
    /// How many are still needed.
    pub needed: i64,
    /// The taken ones.
    pub result: CpuSet,
    /// NUMA nodes are above sockets, or the same.
    numa_first: bool,
    spread: bool,
}

fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl<'a> Accumulator<'a> {
    /// Takes `wanted` of the available ones; with `spread`, threads of one core are not kept together.
    pub fn new(topology: &'a Topology, available: &CpuSet, wanted: usize, spread: bool) -> Self {
        Self {
            topology,
            free: topology.details.keep_only(available),
            needed: signed(wanted),
            result: CpuSet::default(),
            numa_first: topology.sockets >= topology.numa_nodes(),
            spread,
        }
    }

    /// True once there are enough.
    pub fn is_satisfied(&self) -> bool {
        self.needed < 1
    }

    /// True if there cannot be enough.
    pub fn is_failed(&self) -> bool {
        self.needed > signed(self.free.0.len())
    }

    fn needs_at_least(&self, n: usize) -> bool {
        self.needed >= signed(n)
    }

    fn sorted(&self, ids: impl IntoIterator<Item = u32>, level: Level) -> Vec<u32> {
        let mut ids: Vec<u32> = ids.into_iter().collect();
        ids.sort_by_cached_key(|id| (self.free.count_in(level, *id), *id));
        ids
    }

    fn sorted_within(&self, outer: Level, ids: &[u32], inner: Level) -> Vec<u32> {
        ids.iter().flat_map(|id| self.sorted(self.free.groups_in(inner, outer, *id), inner)).collect()
    }

    /// NUMA nodes with free processors.
    pub fn numa_nodes(&self) -> Vec<u32> {
        if self.numa_first {
            return self.sorted(self.free.groups(Level::Numa), Level::Numa);
        }
        self.sorted_within(Level::Socket, &self.sockets(), Level::Numa)
    }

    fn sockets(&self) -> Vec<u32> {
        if self.numa_first {
            return self.sorted_within(Level::Numa, &self.numa_nodes(), Level::Socket);
        }
        self.sorted(self.free.groups(Level::Socket), Level::Socket)
    }

    fn cores(&self) -> Vec<u32> {
        match self.numa_first {
            true => self.sorted_within(Level::Socket, &self.sockets(), Level::Core),
            false => self.sorted_within(Level::Numa, &self.numa_nodes(), Level::Core),
        }
    }

    fn cpus(&self) -> Vec<u32> {
        let (level, groups) = match self.spread {
            true => (Level::Socket, self.sockets()),
            false => (Level::Core, self.cores()),
        };
        groups.into_iter().flat_map(|id| self.free.cpus_in(level, id).0).collect()
    }

    fn groups(&self, level: Level) -> Vec<u32> {
        match level {
            Level::Numa => self.numa_nodes(),
            Level::Socket => self.sockets(),
            Level::Uncore => self.sorted_within(Level::Numa, &self.numa_nodes(), Level::Uncore),
            Level::Core => self.cores(),
        }
    }

    fn is_whole(&self, level: Level, id: u32) -> bool {
        let all = match level {
            Level::Numa | Level::Uncore => self.topology.details.count_in(level, id),
            Level::Socket => self.topology.cpus_per_socket(),
            Level::Core => self.topology.cpus_per_core(),
        };
        self.free.count_in(level, id) == all
    }

    /// Takes these.
    pub fn take(&mut self, cpus: &CpuSet) {
        self.result = self.result.union(cpus);
        self.free.0.retain(|cpu, _| !self.result.0.contains(cpu));
        self.needed -= signed(cpus.len());
    }

    /// Takes groups that are wholly free, as long as a whole one is needed.
    pub fn take_whole(&mut self, level: Level) {
        let whole: Vec<u32> = self.groups(level).into_iter().filter(|id| self.is_whole(level, *id)).collect();
        for id in whole {
            let cpus = self.topology.details.cpus_in(level, id);
            if self.needs_at_least(cpus.len()) {
                self.take(&cpus);
            }
        }
    }

    /// Takes whole groups of the two highest levels.
    pub fn take_highest(&mut self) {
        let levels =
            if self.numa_first { [Level::Numa, Level::Socket] } else { [Level::Socket, Level::Numa] };
        for level in levels {
            if !self.is_satisfied() {
                self.take_whole(level);
            }
        }
    }

    /// Takes whole caches, then what is left from one cache if it fits.
    pub fn take_uncore(&mut self) {
        let each = self.topology.cpus_per_uncore();
        for id in self.groups(Level::Uncore) {
            if self.needs_at_least(each) {
                self.take_whole(Level::Uncore);
            }
            if !self.is_satisfied() {
                self.take_part_of_uncore(id);
            }
            if self.is_satisfied() {
                return;
            }
        }
    }

    fn take_part_of_uncore(&mut self, id: u32) {
        let per_core = self.topology.cpus_per_core().max(1);
        let needed = usize::try_from(self.needed).unwrap_or_default();
        let mut cores: Vec<u32> = self.free.groups_in(Level::Core, Level::Uncore, id).into_iter().collect();
        cores.truncate(needed.div_ceil(per_core));
        let mut cpus = self.free.cpus_in_any(Level::Core, &cores);
        // The last core gives one thread only.
        if needed % 2 != 0 && per_core > 1 && cpus.len() > needed {
            cpus.0.pop_last();
        }
        if cpus.len() == needed {
            self.take(&cpus);
        }
    }

    /// Takes single processors.
    pub fn take_remaining(&mut self) {
        for cpu in self.cpus() {
            self.take(&CpuSet::from_iter([cpu]));
            if self.is_satisfied() {
                return;
            }
        }
    }

    /// Least and greatest number of NUMA nodes that can give what is needed, in groups of `group` processors.
    pub fn numa_range(&self, group: usize) -> (usize, usize) {
        let (all, nodes) = (self.topology.details.0.len(), self.topology.numa_nodes());
        let per_node = all.div_ceil(group).div_ceil(nodes.max(1)).max(1);
        let needed = usize::try_from(self.needed).unwrap_or_default().div_ceil(group);
        (needed.div_ceil(per_node), needed.min(self.free.groups(Level::Numa).len()))
    }
}
