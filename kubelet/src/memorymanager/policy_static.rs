//! Containers of guaranteed pods get memory of their own on as few NUMA nodes as possible.
//!
//! Pure: the state goes in and comes out changed. Upstream: policy_static.go, v1.37.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::discover::NodeMemory;
use super::hints::{self, Requests};
use super::reserved::Reserved;
use super::state::{Block, Machine, MemoryTable, NodeState, State, release, same_group, take};
use crate::admission::Rejection;
use crate::cpumanager::policy_static::unexpected;
use crate::cpumanager::whole_pods::is_fixed;
use crate::node::status::binary;
use crate::pod::qos::{QosClass, qos_class};
use crate::pod::resources::{Amounts, has_pod_level};
use crate::pod::view::{PodView, init_containers, is_sidecar};
use crate::topologymanager::hint::{Hint, Mask};

pub(super) const MEMORY: &str = "memory";

/// Bytes by nodes and resource.
type Reusable = BTreeMap<(Mask, String), u64>;

/// The policy on one machine.
#[derive(Clone, Debug)]
pub struct StaticPolicy {
    nodes: BTreeMap<u32, NodeMemory>,
    reserved: Reserved,
    /// Memory of a pod's init containers, which others of the same pod may have after them.
    reuse: Option<(String, Reusable)>,
    /// True if pods with resources of their own get memory as a whole (the gate PodLevelResourceManagers).
    pub(super) whole_pods: bool,
}

impl StaticPolicy {
    /// A policy that leaves the reserve alone.
    ///
    /// # Errors
    /// If there is no reserve.
    pub fn new(nodes: BTreeMap<u32, NodeMemory>, reserved: Reserved) -> Result<Self, String> {
        if reserved.values().all(|of_node| of_node.get(MEMORY).is_none_or(|size| *size == 0)) {
            return Err("[memorymanager] you should specify the system reserved memory".to_owned());
        }
        Ok(Self { nodes, reserved, reuse: None, whole_pods: false })
    }

    /// The machine with nothing given yet.
    fn idle(&self) -> Machine {
        let one = |(id, memory): (&u32, &NodeMemory)| {
            let kept = |resource: &str| {
                self.reserved.get(id).and_then(|of_node| of_node.get(resource)).copied().unwrap_or_default()
            };
            let table = |resource: &str, total: u64, other: u64| {
                let system_reserved = kept(resource);
                let allocatable = total.saturating_sub(system_reserved).saturating_sub(other);
                MemoryTable { total, system_reserved, allocatable, free: allocatable, reserved: 0 }
            };
            let mut node = NodeState { cells: vec![*id], ..NodeState::default() };
            let mut pages = 0u64;
            for (size, count) in &memory.huge_pages {
                let (name, total) = (huge_page_resource(*size), size.saturating_mul(*count));
                pages = pages.saturating_add(total);
                let own = table(&name, total, 0);
                node.memory_map.insert(name, own);
            }
            node.memory_map.insert(MEMORY.to_owned(), table(MEMORY, memory.bytes, pages));
            (*id, node)
        };
        self.nodes.iter().map(one).collect()
    }

    /// Begins with an empty state, or checks the one that was read.
    ///
    /// # Errors
    /// If the state does not fit the machine or the reserve.
    pub fn start(&self, state: &mut State) -> Result<(), String> {
        let mut expected = self.idle();
        if state.machine.is_empty() {
            if !state.assignments.is_empty() {
                return Err("[memorymanager] machine state can not be empty when it has memory assignments"
                    .to_owned());
            }
            state.machine = expected;
            return Ok(());
        }
        let mut count = |pod: &str, container: &str, blocks: &[Block]| {
            for block in blocks {
                check(&expected, block).map_err(|missing| {
                    format!("[memorymanager] (pod: {pod}, container: {container}) the memory assignment uses {missing} that does not exist")
                })?;
                take(&mut expected, &block.numa_affinity, &block.r#type, block.size);
            }
            Ok::<(), String>(())
        };
        for (pod, containers) in &state.assignments {
            if let Some(blocks) = state.pods.get(pod).filter(|blocks| !blocks.is_empty()) {
                count(pod, "", blocks)?;
                continue;
            }
            for (container, blocks) in containers {
                count(pod, container, blocks)?;
            }
        }
        match same(&state.machine, &expected) {
            true => Ok(()),
            false => {
                Err("[memorymanager] the expected machine state is different from the real one".to_owned())
            }
        }
    }

    /// Where a container's memory could come from; nothing if it gets none of its own.
    pub fn hints(&self, state: &State, pod: &Pod, container: &Container) -> Vec<Vec<Hint>> {
        let Ok(requests) = self.wanted(pod, container) else { return Vec::new() };
        if requests.is_empty() {
            return Vec::new();
        }
        match state.get(pod.uid(), &container.name) {
            Some(blocks) => hints::regenerate(blocks, &requests),
            None => self.generate(state, pod, &requests),
        }
    }

    /// The same for all containers of a pod together.
    pub fn pod_hints(&self, state: &State, pod: &Pod) -> Vec<Vec<Hint>> {
        let Ok(requests) = self.pod_wanted(pod) else { return Vec::new() };
        if self.is_whole(pod) && self.check_share(pod, &requests).is_err() {
            return requests.keys().map(|_| Vec::new()).collect();
        }
        if requests.is_empty() {
            return Vec::new();
        }
        if let Some(blocks) = state.pods.get(pod.uid()) {
            return hints::regenerate(blocks, &requests);
        }
        let spec = pod.spec();
        let mut all = init_containers(spec).iter().chain(&spec.containers);
        match all.find_map(|c| state.get(pod.uid(), &c.name)) {
            Some(blocks) => hints::regenerate(blocks, &requests),
            None => self.generate(state, pod, &requests),
        }
    }

    fn generate(&self, state: &State, pod: &Pod, requests: &Requests) -> Vec<Vec<Hint>> {
        let choices =
            hints::calculate(&state.machine, requests, |mask, resource| self.reusable(pod, mask, resource));
        hints::of_all(&choices, requests)
    }

    fn reusable(&self, pod: &Pod, mask: Mask, resource: &str) -> u64 {
        let own = self.reuse.as_ref().filter(|(uid, _)| uid == pod.uid());
        own.and_then(|(_, all)| all.get(&(mask, resource.to_owned()))).copied().unwrap_or_default()
    }

    /// True if a container gets memory of its own.
    pub fn pins(&self, pod: &Pod, container: &Container) -> bool {
        self.wanted(pod, container).is_ok_and(|requests| !requests.is_empty())
    }

    /// Gives a container its memory, from the nodes that were agreed on if possible.
    ///
    /// # Errors
    /// If there is not enough.
    pub fn allocate(
        &mut self,
        state: &mut State,
        pod: &Pod,
        container: &Container,
        agreed: Hint,
    ) -> Result<(), Rejection> {
        let requests = self.wanted(pod, container).map_err(|e| unexpected(&e))?;
        if requests.is_empty() {
            return Ok(());
        }
        if let Some(blocks) = state.get(pod.uid(), &container.name).cloned() {
            self.update_reuse(pod, container, &blocks);
            return Ok(());
        }
        let reusable = |mask: Mask, resource: &str| self.reusable(pod, mask, resource);
        let mask = hints::choose(&state.machine, &requests, agreed, reusable).map_err(|e| unexpected(&e))?;
        let nodes = mask.bits();
        let mut blocks = Vec::new();
        for (resource, size) in requests {
            let more = size.saturating_sub(self.reusable(pod, mask, &resource));
            take(&mut state.machine, &nodes, &resource, more);
            blocks.push(Block { numa_affinity: nodes.clone(), r#type: resource, size });
        }
        self.update_reuse(pod, container, &blocks);
        state.set(pod.uid(), &container.name, blocks.clone());
        shrink_init_containers(state, pod, container, &blocks);
        Ok(())
    }

    /// What a container of the pod got: free again for the next one if it ends before that one starts.
    fn update_reuse(&mut self, pod: &Pod, container: &Container, blocks: &[Block]) {
        let before = self.reuse.take().filter(|(uid, _)| uid == pod.uid());
        let mut all = before.map(|(_, all)| all).unwrap_or_default();
        let ends = init_containers(pod.spec()).iter().any(|c| c.name == container.name && !is_sidecar(c));
        for block in blocks {
            let key = (Mask::of(&block.numa_affinity), block.r#type.clone());
            if ends {
                let entry = all.entry(key).or_default();
                *entry = block.size.max(*entry);
            } else if let Some(entry) = all.get_mut(&key) {
                *entry = entry.saturating_sub(block.size);
            }
        }
        self.reuse = Some((pod.uid().to_owned(), all));
    }

    /// Takes a container's memory back; that of a whole pod with its last container.
    pub fn remove(state: &mut State, uid: &str, container: &str) {
        if state.pods.contains_key(uid) {
            state.remove(uid, container);
            let whole = (!state.assignments.contains_key(uid)).then(|| state.pods.remove(uid)).flatten();
            for block in whole.unwrap_or_default() {
                release(&mut state.machine, &block);
            }
            return;
        }
        for block in state.remove(uid, container).unwrap_or_default() {
            release(&mut state.machine, &block);
        }
    }
}

fn huge_page_resource(size: u64) -> String {
    format!("hugepages-{}", binary(i64::try_from(size).unwrap_or(i64::MAX)).0)
}

/// What a block is on that the machine does not have.
fn check(machine: &Machine, block: &Block) -> Result<(), &'static str> {
    for node in &block.numa_affinity {
        let node = machine.get(node).ok_or("the NUMA")?;
        if !node.memory_map.contains_key(&block.r#type) {
            return Err("memory resource");
        }
    }
    Ok(())
}

/// True if two states of a machine mean the same: which node of a group gave how much does not matter.
/// Upstream: areMachineStatesEqual.
fn same(a: &Machine, b: &Machine) -> bool {
    let sum = |machine: &Machine, cells: &[u32], resource: &str| {
        let tables = cells.iter().filter_map(|node| machine.get(node)).map(|node| node.table(resource));
        tables.fold((0u64, 0u64), |(free, reserved), t| {
            (free.saturating_add(t.free), reserved.saturating_add(t.reserved))
        })
    };
    let node = |(id, one): (&u32, &NodeState)| {
        let Some(other) = b.get(id) else { return false };
        one.number_of_assignments == other.number_of_assignments
            && same_group(&one.cells, &other.cells)
            && one.memory_map.len() == other.memory_map.len()
            && one.memory_map.iter().all(|(resource, own)| {
                let fixed = |t: &MemoryTable| (t.total, t.system_reserved, t.allocatable);
                other.memory_map.get(resource).is_some_and(|theirs| fixed(own) == fixed(theirs))
                    && sum(a, &one.cells, resource) == sum(b, &one.cells, resource)
            })
    };
    a.len() == b.len() && a.iter().all(node)
}

/// What is asked for of memory and huge pages.
fn memory_of(requests: Amounts) -> Result<Requests, String> {
    let is_memory = |name: &str| name == MEMORY || name.starts_with("hugepages-");
    let one = |(name, milli): (String, i128)| {
        let bytes = if milli % 1000 == 0 { i64::try_from(milli / 1000).ok() } else { None };
        let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
        bytes.map(|bytes| (name, bytes)).ok_or("[memorymanager] failed to represent quantity as int64")
    };
    let memory = requests.0.into_iter().filter(|(name, _)| is_memory(name));
    memory.map(one).collect::<Result<_, _>>().map_err(str::to_owned)
}

impl StaticPolicy {
    /// What a container asks for, if it gets that for itself. Upstream: getContainerRequestedResources.
    pub(super) fn wanted(&self, pod: &Pod, container: &Container) -> Result<Requests, String> {
        let shares = has_pod_level(pod) && !(self.whole_pods && is_fixed(container));
        if qos_class(pod) != QosClass::Guaranteed || shares {
            return Ok(Requests::new());
        }
        memory_of(Amounts::of(container.resources.as_ref().and_then(|r| r.requests.as_ref())))
    }

    /// What the pod asks for, if it gets that as a whole; else what its containers have at the same time, at most.
    pub(super) fn pod_wanted(&self, pod: &Pod) -> Result<Requests, String> {
        match self.is_whole(pod) {
            true if qos_class(pod) != QosClass::Guaranteed => Ok(Requests::new()),
            true => {
                let requests = pod.spec().resources.as_ref().and_then(|r| r.requests.as_ref());
                let mut out = memory_of(Amounts::of(requests))?;
                out.retain(|_, size| *size > 0);
                Ok(out)
            }
            false => self.at_most(pod),
        }
    }

    /// Upstream: getPodRequestedResources.
    fn at_most(&self, pod: &Pod) -> Result<Requests, String> {
        let spec = pod.spec();
        let (mut most, mut sidecars, mut out) = (Requests::new(), Requests::new(), Requests::new());
        for container in init_containers(spec) {
            for (resource, size) in self.wanted(pod, container)? {
                let beside = sidecars.entry(resource.clone()).or_default();
                if is_sidecar(container) {
                    *beside = beside.saturating_add(size);
                } else {
                    let entry = most.entry(resource).or_default();
                    *entry = beside.saturating_add(size).max(*entry);
                }
            }
        }
        for container in &spec.containers {
            for (resource, size) in self.wanted(pod, container)? {
                let entry = out.entry(resource).or_default();
                *entry = entry.saturating_add(size);
            }
        }
        for (resource, size) in &mut out {
            let of = |all: &Requests| all.get(resource).copied().unwrap_or_default();
            *size = size.saturating_add(of(&sidecars)).max(of(&most));
        }
        Ok(out)
    }
}

/// Memory that a container took over from init containers is no longer theirs.
fn shrink_init_containers(state: &mut State, pod: &Pod, container: &Container, blocks: &[Block]) {
    for block in blocks {
        let mut left = block.size;
        let earlier = init_containers(pod.spec()).iter().take_while(|c| c.name != container.name);
        for init in earlier.filter(|c| !is_sidecar(c)) {
            let all = state.assignments.get_mut(pod.uid());
            let own = all.and_then(|of_pod| of_pod.get_mut(&init.name));
            let same_kind = |b: &&mut Block| {
                b.r#type == block.r#type && Mask::of(&b.numa_affinity) == Mask::of(&block.numa_affinity)
            };
            for other in own.into_iter().flatten().filter(same_kind) {
                let part = left.min(other.size);
                other.size -= part;
                left -= part;
            }
        }
    }
}
