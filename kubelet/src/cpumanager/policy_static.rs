//! Guaranteed containers that ask for whole processors get processors that nothing else runs on.
//!
//! Pure: the state goes in and comes out changed. Upstream: pkg/kubelet/cm/cpumanager/policy_static.go, v1.37.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::assignment::{Manner, distributed, packed};
use super::cpuset::CpuSet;
use super::options::StaticOptions;
use super::state::State;
use super::topology::{Level, Topology};
use super::whole_pods::is_fixed;
use crate::admission::Rejection;
use crate::pod::qos::{QosClass, qos_class};
use crate::pod::resources::Amounts;
use crate::pod::view::{PodView, init_containers, is_sidecar};
use crate::topologymanager::hint::{Hint, Mask, masks};

/// The policy on one machine.
#[derive(Clone, Debug)]
pub struct StaticPolicy {
    topology: Topology,
    options: StaticOptions,
    /// Processors that are never given.
    pub reserved: CpuSet,
    /// The same with all threads of their cores.
    reserved_cores: CpuSet,
    /// Processors of init containers, which others of the same pod may have after them.
    reuse: Option<(String, CpuSet)>,
    /// True if pods with resources of their own get processors as a whole (the gate PodLevelResourceManagers).
    pub(super) whole_pods: bool,
}

/// Why a container cannot have what it asks for.
pub fn unexpected(error: &str) -> Rejection {
    Rejection {
        reason: "UnexpectedAdmissionError".to_owned(),
        message: format!("Allocate failed due to {error}, which is unexpected"),
    }
}

impl StaticPolicy {
    /// `count` processors are reserved: the given ones, else those that are lowest.
    ///
    /// # Errors
    /// If they cannot be.
    pub fn new(
        topology: Topology,
        count: usize,
        given: &CpuSet,
        options: StaticOptions,
    ) -> Result<Self, String> {
        let mut policy = Self {
            topology,
            options,
            reserved: CpuSet::default(),
            reserved_cores: CpuSet::default(),
            reuse: None,
            whole_pods: false,
        };
        let all = policy.topology.details.cpus();
        policy.reserved = match given.is_empty() {
            true => policy.take(&all, count).unwrap_or_default(),
            false => given.clone(),
        };
        if policy.reserved.len() != count {
            return Err(format!(
                "[cpumanager] unable to reserve the required amount of CPUs (size of {} did not equal {count})",
                policy.reserved
            ));
        }
        if let Some(unknown) = policy.reserved.difference(&all).0.first() {
            return Err(format!(
                "[cpumanager] unable to build the reserved physical CPUs from the reserved set: unknown CPU ID: {unknown}"
            ));
        }
        let details = &policy.topology.details;
        let cores: Vec<u32> = details.keep_only(&policy.reserved).groups(Level::Core).into_iter().collect();
        policy.reserved_cores = details.cpus_in_any(Level::Core, &cores);
        Ok(policy)
    }

    /// Processors that are not reserved.
    pub fn usable(&self) -> CpuSet {
        self.topology.details.cpus().difference(&self.reserved)
    }

    /// Begins with an empty state, or checks the one that was read.
    ///
    /// # Errors
    /// If the state does not fit the machine or the reserve.
    pub fn start(&self, state: &mut State) -> Result<(), String> {
        let mut all = self.topology.details.cpus();
        let strict = self.options.strict_reservation;
        if strict {
            all = all.difference(&self.reserved);
        }
        if state.shared.is_empty() {
            if !state.assignments.is_empty() {
                return Err("default cpuset cannot be empty".to_owned());
            }
            state.shared = all;
            return Ok(());
        }
        let both = self.reserved.intersection(&state.shared);
        if strict && !both.is_empty() {
            return Err(format!(
                "some of strictly reserved cpus: \"{both}\" are present in defaultCpuSet: \"{}\"",
                state.shared
            ));
        }
        if !strict && both != self.reserved {
            return Err(format!(
                "not all reserved cpus: \"{}\" are present in defaultCpuSet: \"{}\"",
                self.reserved, state.shared
            ));
        }
        for (pod, containers) in &state.assignments {
            let clash = containers.iter().find(|(_, cpus)| !cpus.intersection(&state.shared).is_empty());
            if let Some((container, cpus)) = clash {
                return Err(format!(
                    "pod: {pod}, container: {container} cpuset: \"{cpus}\" overlaps with default cpuset \"{}\"",
                    state.shared
                ));
            }
        }
        let known = state.shared.union(&state.exclusive());
        if known != all {
            return Err(format!(
                "current set of available CPUs \"{all}\" doesn't match with CPUs in state \"{known}\""
            ));
        }
        Ok(())
    }

    /// Processors that may still be given.
    pub fn available(&self, state: &State) -> CpuSet {
        state.shared.difference(&self.reserved)
    }

    pub(super) fn take(&self, available: &CpuSet, count: usize) -> Result<CpuSet, String> {
        let StaticOptions { across_cores, across_numa, by_socket, by_uncore, full_cores, .. } = self.options;
        let manner = Manner { spread: across_cores, uncore: by_uncore, by_socket };
        if !across_numa {
            return packed(&self.topology, available, count, manner);
        }
        let group = if full_cores { self.topology.cpus_per_core() } else { 1 };
        distributed(&self.topology, available, count, group, manner)
    }

    /// Gives a container its processors, from these NUMA nodes if possible.
    ///
    /// # Errors
    /// If there are not enough, or not enough whole cores where only those are given.
    pub fn allocate(
        &mut self,
        state: &mut State,
        pod: &Pod,
        container: &Container,
        affinity: Option<Mask>,
    ) -> Result<(), Rejection> {
        let count = self.exclusive(pod, container);
        if count == 0 || self.leaves_out(pod) {
            return Ok(());
        }
        if let Some(cpus) = state.get(pod.uid(), &container.name).cloned() {
            self.update_reuse(pod, container, &cpus);
            return Ok(());
        }
        self.check_cores(state, count)?;
        let reusable = self.reusable(pod);
        let cpus = self.choose(state, count, affinity, &reusable).map_err(|e| unexpected(&e))?;
        state.shared = state.shared.difference(&cpus);
        state.set(pod.uid(), &container.name, cpus.clone());
        self.update_reuse(pod, container, &cpus);
        Ok(())
    }

    pub(super) fn choose(
        &self,
        state: &State,
        count: usize,
        affinity: Option<Mask>,
        reusable: &CpuSet,
    ) -> Result<CpuSet, String> {
        let available = self.available(state).union(reusable);
        let mut cpus = CpuSet::default();
        if let Some(mask) = affinity {
            let near = self.aligned(mask, &available);
            cpus = self.take(&near, near.len().min(count))?;
        }
        let rest = self.take(&available.difference(&cpus), count.saturating_sub(cpus.len()))?;
        Ok(cpus.union(&rest))
    }

    fn aligned(&self, mask: Mask, available: &CpuSet) -> CpuSet {
        let details = &self.topology.details;
        let nodes = mask.bits();
        let near = match self.options.by_socket {
            true => {
                let sockets: Vec<u32> = details.sockets_of(&nodes).into_iter().collect();
                details.cpus_in_any(Level::Socket, &sockets)
            }
            false => details.cpus_in_any(Level::Numa, &nodes),
        };
        near.intersection(available)
    }

    pub(super) fn check_cores(&self, state: &State, count: usize) -> Result<(), Rejection> {
        if !self.options.full_cores {
            return Ok(());
        }
        let each = self.topology.cpus_per_core().max(1);
        let free = state.shared.difference(&self.reserved_cores).len();
        let message = if !count.is_multiple_of(each) {
            format!("SMT Alignment Error: requested {count} cpus not multiple cpus per core = {each}")
        } else if count > free {
            format!(
                "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = {free}, requested CPUs = {count}, CPUs per core = {each}"
            )
        } else {
            return Ok(());
        };
        Err(Rejection { reason: "SMTAlignmentError".to_owned(), message })
    }

    fn reusable(&self, pod: &Pod) -> CpuSet {
        let own = self.reuse.as_ref().filter(|(uid, _)| uid == pod.uid());
        own.map(|(_, cpus)| cpus.clone()).unwrap_or_default()
    }

    /// What a container of the pod got: free again for the next one if it ends before that one starts.
    fn update_reuse(&mut self, pod: &Pod, container: &Container, cpus: &CpuSet) {
        let before = self.reusable(pod);
        let ends = init_containers(pod.spec()).iter().any(|c| c.name == container.name && !is_sidecar(c));
        let after = if ends { before.union(cpus) } else { before.difference(cpus) };
        self.reuse = Some((pod.uid().to_owned(), after));
    }

    /// Takes a container's processors back, unless another one of its pod has them too; those of a whole pod with its last.
    pub fn remove(&self, state: &mut State, uid: &str, container: &str) {
        let Some(cpus) = state.remove(uid, container) else { return };
        if let Some(whole) = state.pods.get(uid) {
            if !state.assignments.contains_key(uid) {
                state.shared = state.shared.union(whole);
                state.pods.remove(uid);
            }
            return;
        }
        state.shared = state.shared.union(&cpus.difference(&state.of_pod(uid)));
    }

    /// Where a container's processors could come from; `None` if it gets none of its own.
    pub fn hints(&self, state: &State, pod: &Pod, container: &Container) -> Option<Vec<Hint>> {
        let count = self.exclusive(pod, container);
        if count == 0 || self.leaves_out(pod) {
            return None;
        }
        Some(match state.get(pod.uid(), &container.name) {
            Some(cpus) if cpus.len() != count => Vec::new(),
            Some(cpus) => self.generate(cpus, &CpuSet::default(), count),
            None => self.generate(&self.available(state), &self.reusable(pod), count),
        })
    }

    /// The same for all containers of a pod together.
    pub fn pod_hints(&self, state: &State, pod: &Pod) -> Option<Vec<Hint>> {
        let count = self.pod_exclusive(pod);
        if count == 0 || self.leaves_out(pod) {
            return None;
        }
        if self.is_whole(pod) {
            return Some(self.whole_hints(state, pod, count));
        }
        let spec = pod.spec();
        let mut assigned = CpuSet::default();
        for container in init_containers(spec).iter().chain(&spec.containers) {
            let Some(cpus) = state.get(pod.uid(), &container.name) else { continue };
            if cpus.len() != self.exclusive(pod, container) {
                return Some(Vec::new());
            }
            assigned = assigned.union(cpus);
        }
        if assigned.len() == count {
            return Some(self.generate(&assigned, &CpuSet::default(), count));
        }
        let reusable = self.reusable(pod).union(&assigned);
        Some(self.generate(&self.available(state), &reusable, count))
    }

    fn whole_hints(&self, state: &State, pod: &Pod, count: usize) -> Vec<Hint> {
        let none = CpuSet::default();
        match state.pods.get(pod.uid()) {
            _ if self.check_share(pod).is_err() => Vec::new(),
            Some(cpus) if cpus.len() != count => Vec::new(),
            Some(cpus) => self.generate(cpus, &none, count),
            None => self.generate(&self.available(state), &none, count),
        }
    }

    fn generate(&self, available: &CpuSet, reusable: &CpuSet, count: usize) -> Vec<Hint> {
        let details = &self.topology.details;
        let nodes: Vec<u32> = details.groups(Level::Numa).into_iter().collect();
        let mut narrowest = nodes.len();
        let mut out = Vec::new();
        let within = |mask: Mask, cpu: &u32| details.0.get(cpu).is_some_and(|info| mask.has(info.numa));
        for mask in masks(&nodes) {
            let size = mask.count();
            if size < narrowest && details.cpus_in_any(Level::Numa, &mask.bits()).len() >= count {
                narrowest = size;
            }
            let found = available.0.iter().filter(|cpu| within(mask, cpu)).count();
            let fits = reusable.0.iter().all(|cpu| within(mask, cpu)) && reusable.len() + found >= count;
            if fits {
                out.push(Hint { affinity: Some(mask), preferred: false });
            }
        }
        for hint in &mut out {
            let mask = hint.affinity.unwrap_or_default();
            hint.preferred = mask.count() == narrowest || self.is_socket_aligned(mask, narrowest);
        }
        out
    }

    fn is_socket_aligned(&self, mask: Mask, narrowest: usize) -> bool {
        let per_socket = self.topology.numa_nodes().checked_div(self.topology.sockets).unwrap_or_default();
        self.options.by_socket
            && per_socket > 0
            && self.topology.details.sockets_of(&mask.bits()).len() == narrowest.div_ceil(per_socket)
    }

    /// The machine.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// True if only whole cores are given.
    pub fn full_cores(&self) -> bool {
        self.options.full_cores
    }
}

/// The processors asked for, if they are whole ones.
fn whole_cpus(requests: &Amounts) -> usize {
    let milli = requests.milli("cpu");
    if milli % 1000 == 0 { usize::try_from(milli / 1000).unwrap_or_default() } else { 0 }
}

impl StaticPolicy {
    /// How many processors a container gets for itself; zero if it shares.
    pub fn exclusive(&self, pod: &Pod, container: &Container) -> usize {
        if qos_class(pod) != QosClass::Guaranteed || (self.is_whole(pod) && !is_fixed(container)) {
            return 0;
        }
        let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        whole_cpus(&Amounts::of(requests))
    }

    /// How many the pod's containers have at the same time, at most; what the pod asks for, if it gets that as a whole.
    pub fn pod_exclusive(&self, pod: &Pod) -> usize {
        let spec = pod.spec();
        if self.is_whole(pod) {
            let requests = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
            let guaranteed = qos_class(pod) == QosClass::Guaranteed;
            return if guaranteed { whole_cpus(&Amounts::of(requests)) } else { 0 };
        }
        let (mut init, mut sidecars) = (0usize, 0usize);
        for container in init_containers(spec) {
            let count = self.exclusive(pod, container);
            if is_sidecar(container) {
                sidecars = sidecars.saturating_add(count);
            } else {
                init = init.max(sidecars.saturating_add(count));
            }
        }
        let counts = spec.containers.iter().map(|c| self.exclusive(pod, c));
        counts.fold(sidecars, usize::saturating_add).max(init)
    }
}
