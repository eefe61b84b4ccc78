//! Which processors to take. Upstream: takeByTopologyNUMAPacked and takeByTopologyNUMADistributed in cpu_assignment.go.

use std::collections::BTreeMap;

use super::accumulator::Accumulator;
use super::combinations::{Subset, combinations};
use super::cpuset::CpuSet;
use super::topology::{Level, Topology};

/// How to take processors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Threads of one core are not kept together.
    pub spread: bool,
    /// Whole last-level caches are preferred.
    pub uncore: bool,
    /// NUMA nodes of one socket are preferred (when distributed).
    pub by_socket: bool,
}

fn too_few(wanted: usize, available: &CpuSet) -> String {
    let available = available.len();
    format!("not enough cpus available to satisfy request: requested={wanted}, available={available}")
}

/// Takes processors that are close to each other and leave whole groups to others.
///
/// # Errors
/// If there are too few.
pub fn packed(
    topology: &Topology,
    available: &CpuSet,
    wanted: usize,
    manner: Manner,
) -> Result<CpuSet, String> {
    let mut taken = Accumulator::new(topology, available, wanted, manner.spread);
    if taken.is_satisfied() {
        return Ok(taken.result);
    }
    if taken.is_failed() {
        return Err(too_few(wanted, available));
    }
    taken.take_highest();
    if manner.uncore && !taken.is_satisfied() {
        taken.take_uncore();
    }
    if !manner.spread && !taken.is_satisfied() {
        taken.take_whole(Level::Core);
    }
    if !taken.is_satisfied() {
        taken.take_remaining();
    }
    if taken.is_satisfied() { Ok(taken.result) } else { Err("failed to allocate cpus".to_owned()) }
}

/// Takes the same number from each of as few NUMA nodes as possible, in groups of `group` processors.
///
/// # Errors
/// If there are too few, or if what was counted is not there.
pub fn distributed(
    topology: &Topology,
    available: &CpuSet,
    wanted: usize,
    group: usize,
    manner: Manner,
) -> Result<CpuSet, String> {
    let (group, manner) = (group.max(1), Manner { uncore: false, ..manner });
    if !wanted.is_multiple_of(group) {
        return packed(topology, available, wanted, manner);
    }
    let taken = Accumulator::new(topology, available, wanted, manner.spread);
    if taken.is_satisfied() {
        return Ok(taken.result);
    }
    if taken.is_failed() {
        return Err(too_few(wanted, available));
    }
    let request = Request { topology, wanted, group, by_socket: manner.by_socket, nodes: taken.numa_nodes() };
    let (least, most) = taken.numa_range(group);
    for size in least..=most {
        let best = request.best(&taken, size);
        if let Some(nodes) = best.nodes {
            return request.hand_out(taken, &nodes, best.remainder.as_ref(), manner);
        }
    }
    packed(topology, available, wanted, manner)
}

struct Request<'a> {
    topology: &'a Topology,
    wanted: usize,
    group: usize,
    by_socket: bool,
    /// NUMA nodes with free processors, in the order in which they are tried.
    nodes: Vec<u32>,
}

/// NUMA nodes to take from.
struct Choice {
    /// How unequal the nodes are afterwards.
    balance: f64,
    nodes: Option<Subset>,
    /// Those that give what cannot be taken from all alike.
    remainder: Option<Subset>,
    one_socket: bool,
}

impl Choice {
    fn none() -> Self {
        Self { balance: f64::MAX, nodes: None, remainder: None, one_socket: false }
    }
}

/// Processors left on each NUMA node.
type Left = BTreeMap<u32, usize>;

#[expect(clippy::cast_precision_loss, reason = "numbers of processors")]
fn standard_deviation(left: &Left) -> f64 {
    let rounded = |x: f64| (x * 1000.0).round() / 1000.0;
    let count = left.len() as f64;
    let mean = rounded(left.values().map(|n| *n as f64).sum::<f64>() / count);
    rounded((left.values().map(|n| (*n as f64 - mean).powi(2)).sum::<f64>() / count).sqrt())
}

impl Request<'_> {
    fn whole_groups(&self, n: usize) -> usize {
        n / self.group * self.group
    }

    /// What each node of a subset gives; `None` if they cannot give enough.
    fn share(&self, subset: &[u32], left: &Left) -> Option<usize> {
        let have = |node: &u32| left.get(node).copied().unwrap_or_default();
        if subset.iter().map(have).sum::<usize>() < self.wanted
            || subset.iter().map(|node| self.whole_groups(have(node))).sum::<usize>() < self.wanted
        {
            return None;
        }
        let mut share = self.whole_groups(self.wanted / subset.len().max(1));
        if self.by_socket {
            share = subset.iter().map(|node| self.whole_groups(have(node))).fold(share, usize::min);
        }
        subset.iter().all(|node| have(node) >= share).then_some(share)
    }

    fn best(&self, taken: &Accumulator<'_>, size: usize) -> Choice {
        let free: Left =
            self.nodes.iter().map(|node| (*node, taken.free.count_in(Level::Numa, *node))).collect();
        let mut best = Choice::none();
        combinations(&self.nodes, size, &mut |subset| {
            if best.balance == 0.0 && (!self.by_socket || best.one_socket) {
                return false;
            }
            let members = subset.members();
            let Some(share) = self.share(&members, &free) else { return true };
            let mut left = free.clone();
            for node in &members {
                left.entry(*node).and_modify(|n| *n -= share);
            }
            let remainder = self.wanted - share * members.len();
            let (balance, extra) = match remainder {
                0 => (standard_deviation(&left), None),
                _ => self.best_remainder(&members, &left, remainder),
            };
            let one_socket = self.by_socket && self.topology.details.share_socket(&members);
            let better = match self.by_socket && one_socket != best.one_socket {
                true => one_socket,
                false => balance < best.balance,
            };
            if better {
                best = Choice { balance, nodes: Some(subset.clone()), remainder: extra, one_socket };
            }
            true
        });
        best
    }

    /// Which nodes give the rest, so that all are as equal as can be; from as many of them as possible.
    fn best_remainder(&self, members: &[u32], left: &Left, remainder: usize) -> (f64, Option<Subset>) {
        let able: Vec<u32> =
            members.iter().copied().filter(|node| left.get(node).is_some_and(|n| *n >= self.group)).collect();
        let mut best = (f64::MAX, None);
        for size in (1..=able.len()).rev() {
            combinations(&able, size, &mut |subset| {
                if let Some(left) = self.without(left, &subset.members(), remainder) {
                    let balance = standard_deviation(&left);
                    if balance < best.0 {
                        best = (balance, Some(subset.clone()));
                    }
                }
                true
            });
        }
        best
    }

    /// What is left after these nodes have given the rest in turn. Where they have enough but not in whole groups, upstream
    /// would go round for ever; here they are passed over.
    fn without(&self, left: &Left, nodes: &[u32], mut remainder: usize) -> Option<Left> {
        let mut left = left.clone();
        if nodes.iter().filter_map(|node| left.get(node)).sum::<usize>() < remainder {
            return None;
        }
        while remainder > 0 {
            let before = remainder;
            for node in nodes {
                let Some(n) = left.get_mut(node).filter(|n| **n >= self.group && remainder > 0) else {
                    continue;
                };
                *n -= self.group;
                remainder = remainder.saturating_sub(self.group);
            }
            if remainder == before {
                return None;
            }
        }
        Some(left)
    }

    fn hand_out(
        &self,
        mut taken: Accumulator<'_>,
        nodes: &Subset,
        remainder: Option<&Subset>,
        manner: Manner,
    ) -> Result<CpuSet, String> {
        let nodes = nodes.members();
        let share = (nodes.iter())
            .map(|node| self.whole_groups(taken.free.count_in(Level::Numa, *node)))
            .fold(self.whole_groups(self.wanted / nodes.len().max(1)), usize::min);
        for node in &nodes {
            self.take(&mut taken, *node, share, manner);
        }
        let mut left = self.wanted.saturating_sub(share * nodes.len());
        let extra = remainder.map(Subset::members).unwrap_or_default();
        while left > 0 {
            let before = left;
            for node in &extra {
                if left == 0 {
                    break;
                }
                if taken.free.count_in(Level::Numa, *node) >= self.group {
                    self.take(&mut taken, *node, self.group, manner);
                    left = left.saturating_sub(self.group);
                }
            }
            if left == before {
                break;
            }
        }
        let problem =
            |what: &str| Err(format!("accounting error, {what} CPUs allocated, remaining: {}", taken.needed));
        match taken.needed {
            0 => Ok(taken.result),
            1.. => problem("not enough"),
            _ => problem("too many"),
        }
    }

    fn take(&self, taken: &mut Accumulator<'_>, node: u32, count: usize, manner: Manner) {
        let available = taken.free.cpus_in(Level::Numa, node);
        let cpus = packed(self.topology, &available, count, manner).unwrap_or_default();
        taken.take(&cpus);
    }
}
