//! Who has which memory. Upstream: pkg/kubelet/cm/memorymanager/state, v1.37.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::topologymanager::hint::Mask;

/// One kind of memory on one node; bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryTable {
    /// What there is.
    pub total: u64,
    /// What the system keeps.
    pub system_reserved: u64,
    /// What containers may have.
    pub allocatable: u64,
    /// What they have.
    pub reserved: u64,
    /// What they may still have.
    pub free: u64,
}

/// One NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeState {
    /// How many blocks are on it.
    pub number_of_assignments: i64,
    /// Memory by resource.
    pub memory_map: BTreeMap<String, MemoryTable>,
    /// The nodes that blocks on this one are spread over, this one among them.
    pub cells: Vec<u32>,
}

impl NodeState {
    /// One kind of memory; none at all if the node does not have it.
    pub fn table(&self, resource: &str) -> MemoryTable {
        self.memory_map.get(resource).copied().unwrap_or_default()
    }
}

/// Memory of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Block {
    /// The nodes that it is from.
    pub numa_affinity: Vec<u32>,
    /// The resource.
    pub r#type: String,
    /// Bytes.
    pub size: u64,
}

/// Nodes by number.
pub type Machine = BTreeMap<u32, NodeState>;

/// Blocks by pod and container.
pub type Assignments = BTreeMap<String, BTreeMap<String, Vec<Block>>>;

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The nodes; none before the policy has begun.
    pub machine: Machine,
    /// What containers have.
    pub assignments: Assignments,
    /// Blocks of whole pods, of which their containers have parts.
    pub pods: BTreeMap<String, Vec<Block>>,
}

impl State {
    /// A container's blocks.
    pub fn get(&self, uid: &str, container: &str) -> Option<&Vec<Block>> {
        self.assignments.get(uid)?.get(container)
    }

    /// What there is for containers, by node and kind.
    pub fn usable(&self) -> Vec<Block> {
        let of_node = |(id, node): (&u32, &NodeState)| -> Vec<Block> {
            let some = node.memory_map.iter().filter(|(_, table)| table.allocatable > 0);
            let block = |(kind, table): (&String, &MemoryTable)| Block {
                numa_affinity: vec![*id],
                r#type: kind.clone(),
                size: table.allocatable,
            };
            some.map(block).collect()
        };
        self.machine.iter().flat_map(of_node).collect()
    }

    /// Gives a container blocks.
    pub fn set(&mut self, uid: &str, container: &str, blocks: Vec<Block>) {
        self.assignments.entry(uid.to_owned()).or_default().insert(container.to_owned(), blocks);
    }

    /// Forgets a container; its blocks, if it had some.
    pub fn remove(&mut self, uid: &str, container: &str) -> Option<Vec<Block>> {
        let of_pod = self.assignments.get_mut(uid)?;
        let blocks = of_pod.remove(container);
        if of_pod.is_empty() {
            self.assignments.remove(uid);
        }
        blocks
    }
}

/// Takes memory from nodes, from lower ones first, as far as there is some.
pub fn take(machine: &mut Machine, nodes: &[u32], resource: &str, mut size: u64) {
    for node in nodes {
        let Some(node) = machine.get_mut(node) else { continue };
        node.number_of_assignments = node.number_of_assignments.saturating_add(1);
        node.cells = nodes.to_vec();
        let Some(table) = node.memory_map.get_mut(resource) else { continue };
        let part = size.min(table.free);
        table.reserved = table.reserved.saturating_add(part);
        table.free -= part;
        size -= part;
    }
}

/// Gives memory back to the nodes that it is from.
pub fn release(machine: &mut Machine, block: &Block) {
    let mut size = block.size;
    for id in &block.numa_affinity {
        let Some(node) = machine.get_mut(id) else { continue };
        node.number_of_assignments = node.number_of_assignments.saturating_sub(1);
        if node.number_of_assignments == 0 {
            node.cells = vec![*id];
        }
        let Some(table) = node.memory_map.get_mut(&block.r#type) else { continue };
        let part = size.min(table.reserved);
        table.free = table.free.saturating_add(part);
        table.reserved -= part;
        size -= part;
    }
}

/// True if both name the same nodes.
pub fn same_group(a: &[u32], b: &[u32]) -> bool {
    a.len() == b.len() && Mask::of(a) == Mask::of(b)
}
