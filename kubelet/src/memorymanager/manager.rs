//! The policy with its state on disk.
//!
//! What containers of pods that are gone hold is taken back before others are given something, once all pods are known.
//! Upstream: memory_manager.go, v1.37.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use component::features::{Gate, Gates};
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::{Mutex, MutexGuard};

use super::checkpoint;
use super::discover::discover;
use super::policy_static::StaticPolicy;
use super::reserved;
use super::state::{Block, State};
use crate::admission::Rejection;
use crate::config::Settings;
use crate::cpumanager::checkpoint::replace;
use crate::cpumanager::discover::SYSTEM;
use crate::metrics::{managed, memory as metrics};
use crate::pod::resources::Amounts;
use crate::pod::view::{PodView, init_containers, is_sidecar};
use crate::topologymanager::Provider;
use crate::topologymanager::hint::Hint;

/// Who has which memory.
#[derive(Debug)]
pub struct MemoryManager {
    inner: Mutex<Inner>,
    /// Set once all pods are known: what others hold is taken back only then.
    complete: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    /// Absent under the policy `None`.
    policy: Option<StaticPolicy>,
    state: State,
    /// What the file says.
    saved: State,
    file: PathBuf,
}

/// One admission: nobody else is given memory meanwhile. What was given is on disk when it ends.
pub struct Session<'a>(MutexGuard<'a, Inner>);

impl MemoryManager {
    /// Reads the machine and the state file in the folder `root`; `whole` is what the node as a whole reserves.
    ///
    /// # Errors
    /// If the configuration, the machine and the file do not fit each other: the kubelet does not start then.
    pub fn new(settings: &Settings, gates: &Gates, whole: &Amounts, root: &Path) -> Result<Self, String> {
        let whole_pods = gates.enabled(Gate::PodLevelResourceManagers);
        let policy = match settings.memory_manager_policy.as_str() {
            "Static" => {
                let nodes = discover(Path::new(SYSTEM));
                let ids: Vec<u32> = nodes.keys().copied().collect();
                let reserved = reserved::by_node(&ids, whole, &settings.reserved_memory)?;
                let mut policy = StaticPolicy::new(nodes, reserved)?;
                policy.whole_pods = whole_pods;
                Some(policy)
            }
            "None" | "" => None,
            "BestEffort" => {
                return Err("policy \"BestEffort\" is not available for platform \"linux\"".to_owned());
            }
            other => return Err(format!("unknown policy: {other:?}")),
        };
        let file = root.join(checkpoint::FILE);
        let name = if policy.is_some() { "Static" } else { "None" };
        let mut state = restore(&file, name, whole_pods)?;
        if let Some(policy) = &policy {
            policy.start(&mut state).map_err(|e| {
                format!("start memory manager error: {e}, please drain node and remove policy state file")
            })?;
        }
        let mut inner = Inner { policy, state, saved: State::default(), file };
        inner.store();
        Ok(Self { inner: Mutex::new(inner), complete: AtomicBool::new(false) })
    }

    /// True if containers may get memory of their own.
    pub fn is_static(&self) -> bool {
        self.inner.lock().policy.is_some()
    }

    /// All sources of pods have spoken: what is held for other pods is taken back from now on.
    pub fn sources_ready(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Begins to admit a pod beside the active ones.
    pub fn session(&self, active: &[Arc<Pod>]) -> Session<'_> {
        let mut inner = self.inner.lock();
        if self.complete.load(Ordering::Acquire) {
            inner.remove_stale(active);
        }
        Session(inner)
    }

    /// NUMA nodes of a container, as the runtime takes them; absent if it may have memory from all.
    pub fn nodes_of(&self, uid: &str, container: &str) -> Option<String> {
        let inner = self.inner.lock();
        let nodes: BTreeSet<u32> =
            inner.state.get(uid, container)?.iter().flat_map(|b| b.numa_affinity.clone()).collect();
        let text: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        (!text.is_empty()).then(|| text.join(","))
    }

    /// A container's own memory.
    pub fn own(&self, uid: &str, container: &str) -> Vec<Block> {
        self.inner.lock().state.get(uid, container).cloned().unwrap_or_default()
    }

    /// A whole pod's own memory. Upstream: GetPodMemory.
    pub fn of_whole(&self, uid: &str) -> Vec<Block> {
        self.inner.lock().state.pods.get(uid).cloned().unwrap_or_default()
    }

    /// Memory that containers may have for themselves. Upstream: GetAllocatableMemory.
    pub fn usable(&self) -> Vec<Block> {
        let inner = self.inner.lock();
        if inner.policy.is_some() { inner.state.usable() } else { Vec::new() }
    }

    /// A container starts, so the init containers before it have ended and need their memory no more.
    pub fn started(&self, pod: &Pod, container: &str) {
        let mut inner = self.inner.lock();
        if inner.policy.is_some() {
            end_init_containers(&mut inner.state, pod, container);
            inner.store();
        }
    }
}

/// Takes back what ended init containers before `container` have. Upstream: AddContainer.
pub(super) fn end_init_containers(state: &mut State, pod: &Pod, container: &str) {
    let before = init_containers(pod.spec()).iter().take_while(|c| c.name != container);
    for ended in before.filter(|c| !is_sidecar(c)) {
        StaticPolicy::remove(state, pod.uid(), &ended.name);
    }
}

/// Takes back what belongs to no container of the active pods.
pub(super) fn remove_stale(state: &mut State, active: &[Arc<Pod>]) {
    let wanted: BTreeSet<(&str, &str)> = (active.iter())
        .flat_map(|pod| {
            let containers = init_containers(pod.spec()).iter().chain(&pod.spec().containers);
            containers.map(|c| (pod.uid(), c.name.as_str()))
        })
        .collect();
    let held = state.assignments.iter().flat_map(|(pod, of_pod)| of_pod.keys().map(move |c| (pod, c)));
    let stale: Vec<(String, String)> = held
        .filter(|(pod, container)| !wanted.contains(&(pod.as_str(), container.as_str())))
        .map(|(pod, container)| (pod.clone(), container.clone()))
        .collect();
    for (pod, container) in stale {
        StaticPolicy::remove(state, &pod, &container);
    }
}

impl Inner {
    fn remove_stale(&mut self, active: &[Arc<Pod>]) {
        if self.policy.is_some() {
            remove_stale(&mut self.state, active);
            self.store();
        }
    }

    /// Writes what has changed.
    fn store(&mut self) {
        if self.state == self.saved && self.file.exists() {
            return;
        }
        let name = if self.policy.is_some() { "Static" } else { "None" };
        match replace(&self.file, &checkpoint::write(name, &self.state)) {
            Ok(()) => self.saved = self.state.clone(),
            Err(error) => {
                tracing::error!(%error, file = %self.file.display(), "Failed to save checkpoint");
            }
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.0.store();
    }
}

impl Provider for Session<'_> {
    fn hints(&mut self, pod: &Pod, container: &Container) -> Vec<Vec<Hint>> {
        let inner = &self.0;
        inner.policy.as_ref().map(|p| p.hints(&inner.state, pod, container)).unwrap_or_default()
    }

    fn pod_hints(&mut self, pod: &Pod) -> Vec<Vec<Hint>> {
        let inner = &self.0;
        inner.policy.as_ref().map(|p| p.pod_hints(&inner.state, pod)).unwrap_or_default()
    }

    fn allocate(&mut self, pod: &Pod, container: &Container, agreed: Hint) -> Result<(), Rejection> {
        let Inner { policy, state, .. } = &mut *self.0;
        let Some(policy) = policy else { return Ok(()) };
        let known = state.get(pod.uid(), &container.name).is_some();
        let result = policy.allocate(state, pod, container, agreed);
        if policy.pins(pod, container) {
            metrics::pinned(1, result.is_err());
            let parts = state.get(pod.uid(), &container.name).map_or(0, Vec::len);
            managed::of_node("memory", parts, !known, result.is_ok());
        }
        result
    }

    fn allocate_pod(&mut self, pod: &Pod, agreed: Hint) -> Result<(), Rejection> {
        let Inner { policy, state, .. } = &mut *self.0;
        let Some(policy) = policy else { return Ok(()) };
        let known = state.pods.contains_key(pod.uid());
        let result = policy.allocate_pod(state, pod, agreed);
        if (known && result.is_ok()) || (result.is_ok() && !state.pods.contains_key(pod.uid())) {
            return result;
        }
        let (init, containers) = (init_containers(pod.spec()), &pod.spec().containers);
        let own = |list: &[Container]| list.iter().filter(|c| policy.pins(pod, c)).count();
        // Upstream counts the pod, its init containers, and those that have something for themselves.
        let asked = if result.is_ok() { 1 + init.len() + own(containers) } else { 1 };
        metrics::pinned(asked, result.is_err());
        let exclusive = own(init) + own(containers);
        managed::of_pod("memory", exclusive, init.len() + containers.len() - exclusive, result.is_ok());
        result
    }
}

fn restore(file: &Path, policy: &str, whole_pods: bool) -> Result<State, String> {
    let text = match fs::read(file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(State::default()),
        Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
    };
    checkpoint::read(&text, policy, whole_pods).map_err(|error| {
        format!(
            "could not restore state from checkpoint: {error}, please drain this node and delete the memory manager checkpoint file {:?} before restarting Kubelet",
            file.display().to_string()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_file() {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            |policy: &str| Settings { memory_manager_policy: policy.into(), ..Settings::default() };
        let open = |policy: &str| {
            MemoryManager::new(&settings(policy), &Gates::default(), &Amounts::default(), dir.path())
        };
        let made = open("None").unwrap();
        assert!(!made.is_static() && made.nodes_of("u", "c").is_none());
        let file = dir.path().join(checkpoint::FILE);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with(r#"{"policyName":"None","machineState":{},"checksum":"#), "{text}");
        assert!(open("Static").unwrap_err().contains("should specify the system reserved memory"));
        assert!(open("BestEffort").unwrap_err().contains("not available"));
        fs::write(&file, text.replace("None", "Nine")).unwrap();
        assert!(open("None").unwrap_err().contains("please drain this node"));
    }
}
