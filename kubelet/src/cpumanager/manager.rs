//! The policy with its state on disk, and the runtime told about changes.
//!
//! Upstream: pkg/kubelet/cm/cpumanager/cpu_manager.go and the containerManagerImpl around it, v1.37.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use component::features::{Gate, Gates};
use cri::v1::{LinuxContainerResources, UpdateContainerResourcesRequest};
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::checkpoint;
use super::cpuset::CpuSet;
use super::discover;
use super::options::StaticOptions;
use super::policy_static::StaticPolicy;
use super::state::State;
use super::topology::{Level, Topology};
use super::whole_pods::is_fixed;
use crate::admission::Rejection;
use crate::config::Settings;
use crate::kubelet::Kubelet;
use crate::metrics::{cpus as metrics, managed};
use crate::pod::view::{PodView, init_containers};
use crate::topologymanager::hint::Hint;
use crate::topologymanager::policy::Kind;
use crate::topologymanager::{Manager as TopologyManager, Provider, Scope};

/// Who has which processors, and who decides.
#[derive(Debug)]
pub struct CpuManager {
    inner: Mutex<Inner>,
    alignment: TopologyManager,
    file: PathBuf,
    /// Set once all pods are known: what others hold is taken back only then.
    complete: AtomicBool,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    /// Absent under the policy `none`.
    policy: Option<StaticPolicy>,
    state: State,
    /// What the runtime was told last.
    told: State,
}

/// A running container whose processors are not those that the runtime was told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    uid: String,
    container: String,
    id: String,
    cpus: CpuSet,
}

impl CpuManager {
    /// Reads the machine and the state file in the folder `root`.
    ///
    /// # Errors
    /// If the configuration, the machine and the file do not fit each other: the kubelet does not start then.
    pub fn new(settings: &Settings, gates: &Gates, root: &Path) -> Result<Self, String> {
        let managed =
            settings.topology_manager_policy != "none" && !settings.topology_manager_policy.is_empty();
        let is_static = settings.cpu_manager_policy == "static";
        let machine = match is_static || managed || !settings.reserved_system_cpus.is_empty() {
            true => discover::discover(Path::new(discover::SYSTEM))?,
            false => Topology::default(),
        };
        let alignment = TopologyManager::new(
            &settings.topology_manager_policy,
            &settings.topology_manager_scope,
            &settings.topology_manager_policy_options,
            &machine,
        )?
        .with_whole_pods(gates.enabled(Gate::PodLevelResourceManagers));
        let reserved = reserved_cpus(&settings.reserved_system_cpus, &machine)?;
        let policy = match settings.cpu_manager_policy.as_str() {
            "static" => Some(static_policy(settings, gates, machine, &reserved, alignment.kind())?),
            "none" | "" if settings.cpu_manager_policy_options.is_empty() => None,
            "none" | "" => {
                return Err("new none policy error: None policy: received unsupported options".to_owned());
            }
            other => return Err(format!("unknown policy: {other:?}")),
        };
        let file = root.join(checkpoint::FILE);
        let name = if policy.is_some() { "static" } else { "none" };
        let mut state = restore(&file, name, gates.enabled(Gate::PodLevelResourceManagers))?;
        if let Some(policy) = &policy {
            policy.start(&mut state).map_err(|e| {
                format!("start cpu manager error: {e}, please drain node and remove policy state file")
            })?;
        }
        let inner = Inner { policy, state, told: State::default() };
        inner.store(&file);
        inner.show();
        Ok(Self {
            inner: Mutex::new(inner),
            alignment,
            file,
            complete: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    /// True if containers may get processors of their own.
    pub fn is_static(&self) -> bool {
        self.inner.lock().policy.is_some()
    }

    /// All sources of pods have spoken: what is held for other pods is taken back from now on.
    pub fn sources_ready(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Gives a pod's containers their processors, and what `others` give them near to those.
    ///
    /// # Errors
    /// Why the node does not take the pod.
    pub fn admit(
        &self,
        pod: &Pod,
        active: &[Arc<Pod>],
        others: Option<&mut dyn Provider>,
    ) -> Result<(), Rejection> {
        let begin = Instant::now();
        let mut others: Vec<&mut dyn Provider> = others.into_iter().collect();
        let result = self.with(active, &mut others, |alignment, providers| alignment.admit(pod, providers));
        self.admitted(pod, begin, result.is_ok());
        result
    }

    /// One step of an admission that waits for others in between: what `step` does with all providers.
    pub fn with<T>(
        &self,
        active: &[Arc<Pod>],
        others: &mut [&mut dyn Provider],
        step: impl FnOnce(&TopologyManager, &mut [&mut dyn Provider]) -> T,
    ) -> T {
        let mut inner = self.inner.lock();
        let before = inner.state.clone();
        if self.complete.load(Ordering::Acquire) {
            inner.remove_stale(active);
        }
        let mut providers: Vec<&mut dyn Provider> = vec![&mut *inner];
        providers.extend(others.iter_mut().map(|other| &mut **other as &mut dyn Provider));
        let result = step(&self.alignment, &mut providers);
        self.keep(&inner, &before);
        result
    }

    /// Counts what came of the admission that began at `begin`.
    pub fn admitted(&self, pod: &Pod, begin: Instant, well: bool) {
        let guaranteed = self.alignment.kind() == Kind::SingleNumaNode;
        metrics::admitted(begin.elapsed(), !well && self.alignment.kind() != Kind::None);
        if guaranteed {
            let containers = init_containers(pod.spec()).len() + pod.spec().containers.len();
            let (scope, count) = match self.alignment.scope() {
                Scope::Pod => ("pod", 1),
                Scope::Container => ("container", containers),
            };
            metrics::aligned(scope, "numa_node", well, count);
        }
    }

    fn keep(&self, inner: &Inner, before: &State) {
        if inner.state != *before {
            inner.store(&self.file);
            inner.show();
            self.changed.notify_one();
        }
    }

    /// Processors of a new container, as the runtime takes them; absent if it may have all.
    pub fn cpus_of(&self, uid: &str, container: &str) -> Option<String> {
        let inner = self.inner.lock();
        Some(inner.state.get_or_shared(uid, container))
            .filter(|cpus| !cpus.is_empty())
            .map(ToString::to_string)
    }

    /// A container's own processors.
    pub fn own(&self, uid: &str, container: &str) -> CpuSet {
        self.inner.lock().state.get(uid, container).cloned().unwrap_or_default()
    }

    /// A whole pod's own processors. Upstream: GetPodCPUs.
    pub fn of_whole(&self, uid: &str) -> CpuSet {
        self.inner.lock().state.pods.get(uid).cloned().unwrap_or_default()
    }

    /// Processors that containers may have for themselves. Upstream: GetAllocatableCPUs.
    pub fn usable(&self) -> CpuSet {
        self.inner.lock().policy.as_ref().map(StaticPolicy::usable).unwrap_or_default()
    }

    /// True if a container has processors of its own, which it shares with no other of its pod.
    pub fn is_exclusive(&self, pod: &Pod, container: &Container) -> bool {
        self.inner.lock().is_exclusive(pod, container)
    }

    /// True if a container of the pod has processors of its own; each of them, if the pod has its own as a whole.
    /// Upstream: PodHasExclusiveCPUs in pkg/kubelet/cm/container_manager_linux.go.
    pub fn has_exclusive(&self, pod: &Pod) -> bool {
        let inner = self.inner.lock();
        let mut all = init_containers(pod.spec()).iter().chain(&pod.spec().containers);
        match inner.policy.as_ref().is_some_and(|policy| policy.is_whole(pod)) {
            true => all.all(|container| inner.is_exclusive(pod, container)),
            false => all.any(|container| inner.is_exclusive(pod, container)),
        }
    }

    /// Keeps running containers on the processors that they are to have: at every change and every `period`.
    pub async fn reconcile(
        self: Arc<Self>,
        kubelet: Arc<Kubelet>,
        period: Duration,
        stop: CancellationToken,
    ) {
        if !self.is_static() {
            return;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(period) => {}
            }
            for change in self.changes(&kubelet) {
                self.tell(&kubelet, change).await;
            }
        }
    }

    fn changes(&self, kubelet: &Kubelet) -> Vec<Change> {
        let active = kubelet.active_pods();
        let mut inner = self.inner.lock();
        let before = inner.state.clone();
        if self.complete.load(Ordering::Acquire) {
            inner.remove_stale(&active);
        }
        self.keep(&inner, &before);
        let of_pod = |pod: &Arc<Pod>| {
            let status = kubelet.status.get(pod.uid()).unwrap_or_default();
            inner.outdated(pod.uid(), &status)
        };
        active.iter().flat_map(of_pod).collect()
    }

    async fn tell(&self, kubelet: &Kubelet, change: Change) {
        let Change { uid, container, id, cpus } = change;
        let linux = LinuxContainerResources { cpuset_cpus: cpus.to_string(), ..Default::default() };
        let request = UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(linux),
            ..Default::default()
        };
        match kubelet.runtime.cri.update_container_resources(request).await {
            Ok(_) => self.inner.lock().told.set(&uid, &container, cpus),
            Err(error) => {
                tracing::error!(container_id = id, %cpus, %error, "Failed to update the processors of a container");
            }
        }
    }
}

impl Inner {
    fn is_exclusive(&self, pod: &Pod, container: &Container) -> bool {
        let shares = |policy: &StaticPolicy| {
            policy.is_whole(pod) && !(is_fixed(container) && policy.exclusive(pod, container) > 0)
        };
        let own = self.state.get(pod.uid(), &container.name);
        own.is_some_and(|cpus| !cpus.is_empty()) && !self.policy.as_ref().is_some_and(shares)
    }

    fn remove_stale(&mut self, active: &[Arc<Pod>]) {
        let Some(policy) = self.policy.as_ref() else { return };
        let wanted: BTreeSet<(&str, &str)> = (active.iter())
            .flat_map(|pod| {
                let containers = init_containers(pod.spec()).iter().chain(&pod.spec().containers);
                containers.map(|c| (pod.uid(), c.name.as_str()))
            })
            .collect();
        let held =
            self.state.assignments.iter().flat_map(|(pod, of_pod)| of_pod.keys().map(move |c| (pod, c)));
        let stale: Vec<(String, String)> = held
            .filter(|(pod, container)| !wanted.contains(&(pod.as_str(), container.as_str())))
            .map(|(pod, container)| (pod.clone(), container.clone()))
            .collect();
        for (pod, container) in stale {
            policy.remove(&mut self.state, &pod, &container);
        }
        for (pod, of_pod) in &mut self.told.assignments {
            of_pod.retain(|container, _| wanted.contains(&(pod.as_str(), container.as_str())));
        }
        self.told.assignments.retain(|_, of_pod| !of_pod.is_empty());
    }

    /// Running containers of a pod whose processors the runtime was not told.
    fn outdated(&self, uid: &str, status: &PodStatus) -> Vec<Change> {
        let lists = [&status.init_container_statuses, &status.container_statuses];
        let running = lists
            .into_iter()
            .flatten()
            .flatten()
            .filter(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()));
        running
            .filter_map(|c| {
                let (_, id) = c.container_id.as_deref()?.split_once("://")?;
                let cpus = self.state.get_or_shared(uid, &c.name);
                let known = self.told.get(uid, &c.name) == Some(cpus) || cpus.is_empty();
                (!known).then(|| Change {
                    uid: uid.to_owned(),
                    container: c.name.clone(),
                    id: id.to_owned(),
                    cpus: cpus.clone(),
                })
            })
            .collect()
    }

    fn store(&self, file: &Path) {
        let name = if self.policy.is_some() { "static" } else { "none" };
        if let Err(error) = checkpoint::replace(file, &checkpoint::write(name, &self.state)) {
            tracing::error!(%error, file = %file.display(), "Failed to save checkpoint");
        }
    }

    fn show(&self) {
        let Some(policy) = &self.policy else { return };
        let exclusive = self.state.exclusive();
        let details = &policy.topology().details;
        let nodes = details.groups(Level::Numa).into_iter();
        let per_node =
            nodes.map(|node| (node, details.cpus_in(Level::Numa, node).intersection(&exclusive).len()));
        metrics::pool(policy.available(&self.state).len(), exclusive.len(), &per_node.collect::<Vec<_>>());
    }
}

impl Provider for Inner {
    fn hints(&mut self, pod: &Pod, container: &Container) -> Vec<Vec<Hint>> {
        let policy = self.policy.as_ref();
        policy.and_then(|policy| policy.hints(&self.state, pod, container)).into_iter().collect()
    }

    fn pod_hints(&mut self, pod: &Pod) -> Vec<Vec<Hint>> {
        self.policy.as_ref().and_then(|policy| policy.pod_hints(&self.state, pod)).into_iter().collect()
    }

    fn allocate(&mut self, pod: &Pod, container: &Container, agreed: Hint) -> Result<(), Rejection> {
        let Some(policy) = &mut self.policy else { return Ok(()) };
        let wanted = policy.exclusive(pod, container) > 0 && !policy.leaves_out(pod);
        let known = self.state.get(pod.uid(), &container.name).is_some();
        let result = policy.allocate(&mut self.state, pod, container, agreed.affinity);
        if wanted {
            metrics::pinned(1, result.is_err());
            if policy.full_cores() {
                metrics::aligned("container", "physical_cpu", result.is_ok(), 1);
            }
            let near = |cpus: &CpuSet| policy.topology().is_uncore_aligned(cpus);
            if !known && self.state.get(pod.uid(), &container.name).is_some_and(near) {
                metrics::aligned("container", "uncore_cache", true, 1);
            }
            managed::of_node("cpu", 1, !known, result.is_ok());
        }
        result
    }

    fn allocate_pod(&mut self, pod: &Pod, agreed: Hint) -> Result<(), Rejection> {
        let Some(policy) = &self.policy else { return Ok(()) };
        if policy.pod_exclusive(pod) == 0 {
            return Ok(());
        }
        let known = self.state.pods.contains_key(pod.uid());
        let result = policy.allocate_pod(&mut self.state, pod, agreed.affinity);
        if known && result.is_ok() {
            return result;
        }
        let containers: Vec<_> = init_containers(pod.spec()).iter().chain(&pod.spec().containers).collect();
        let own = containers.iter().filter(|c| policy.exclusive(pod, c) > 0).count();
        metrics::pinned(if result.is_ok() { own } else { 0 }, result.is_err());
        let whole = self.state.pods.get(pod.uid());
        if whole.is_some_and(|cpus| policy.topology().is_uncore_aligned(cpus)) {
            metrics::aligned("container", "uncore_cache", true, 1);
        }
        managed::of_pod("cpu", own, containers.len() - own, result.is_ok());
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
            "could not restore state from checkpoint: {error}, please drain this node and delete the CPU manager checkpoint file {:?} before restarting Kubelet",
            file.display().to_string()
        )
    })
}

/// Upstream: getReservedCPUs in cmd/kubelet/app/server.go.
fn reserved_cpus(list: &str, machine: &Topology) -> Result<CpuSet, String> {
    let cpus = CpuSet::parse(list).map_err(|e| format!("unable to parse reserved-cpus list: {e}"))?;
    let all = machine.details.cpus();
    match cpus.is_subset(&all) {
        true => Ok(cpus),
        false => Err(format!("reserved-cpus: {list} is not a subset of online-cpus: {all}")),
    }
}

fn static_policy(
    settings: &Settings,
    gates: &Gates,
    machine: Topology,
    reserved: &CpuSet,
    alignment: Kind,
) -> Result<StaticPolicy, String> {
    if gates.enabled(Gate::InPlacePodVerticalScalingExclusiveCPUs) {
        return Err("the feature gate InPlacePodVerticalScalingExclusiveCPUs is not supported together with cpuManagerPolicy static".to_owned());
    }
    let milli = settings.reserved_milli("cpu");
    build_static(machine, milli, reserved, &settings.cpu_manager_policy_options, gates, alignment)
}

/// The static policy with so many thousandths of a processor reserved.
///
/// # Errors
/// What does not fit.
pub(crate) fn build_static(
    machine: Topology,
    reserved_milli: i64,
    reserved: &CpuSet,
    options: &std::collections::BTreeMap<String, String>,
    gates: &Gates,
    alignment: Kind,
) -> Result<StaticPolicy, String> {
    if reserved_milli <= 0 {
        return Err("[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero".to_owned());
    }
    let count = usize::try_from(reserved_milli).unwrap_or_default().div_ceil(1000);
    let failed = |e: String| format!("new static policy error: {e}");
    let options = StaticOptions::parse(options, gates).map_err(failed)?;
    options.validate(&machine, alignment).map_err(failed)?;
    let mut policy = StaticPolicy::new(machine, count, reserved, options).map_err(failed)?;
    policy.whole_pods = gates.enabled(Gate::PodLevelResourceManagers);
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tells_what_changed() {
        let mut state = State { shared: CpuSet::parse("0-1").unwrap(), ..State::default() };
        state.set("u", "own", CpuSet::parse("2").unwrap());
        let mut inner = Inner { policy: None, state, told: State::default() };
        inner.told.set("u", "known", CpuSet::parse("0-1").unwrap());
        let one = |name: &str, state: &str| {
            json!({"name": name, "containerID": format!("containerd://{name}-id"),
            "state": {state: {}}, "image": "", "imageID": "", "ready": true, "restartCount": 0})
        };
        let status: PodStatus = serde_json::from_value(json!({"containerStatuses": [
            one("own", "running"), one("other", "running"), one("known", "running"), one("gone", "terminated")]}))
        .unwrap();
        let found = inner.outdated("u", &status);
        let found: Vec<_> = found.iter().map(|c| (c.id.as_str(), c.cpus.to_string())).collect();
        assert_eq!(found, [("own-id", "2".to_owned()), ("other-id", "0-1".to_owned())]);
    }

    #[test]
    fn state_file() {
        let dir = tempfile::tempdir().unwrap();
        let settings = |policy: &str| Settings { cpu_manager_policy: policy.into(), ..Settings::default() };
        let made = CpuManager::new(&settings("none"), &Gates::default(), dir.path()).unwrap();
        assert!(!made.is_static() && made.cpus_of("u", "c").is_none());
        let text = fs::read_to_string(dir.path().join(checkpoint::FILE)).unwrap();
        // As every upstream kubelet with the default policy writes it.
        assert!(
            text.starts_with(r#"{"policyName":"none","defaultCpuSet":"","checksum":1353318690,"data":"{"#),
            "{text}"
        );
        let error = CpuManager::new(&settings("static"), &Gates::default(), dir.path()).unwrap_err();
        assert!(error.contains("greater than zero"), "{error}");
        let reserve = std::collections::BTreeMap::from([("cpu".to_owned(), "100m".to_owned())]);
        let with_reserve = Settings { kube_reserved: reserve, ..settings("static") };
        let error = CpuManager::new(&with_reserve, &Gates::default(), dir.path()).unwrap_err();
        assert!(
            error.contains("configured policy \"static\" differs from state checkpoint policy \"none\""),
            "{error}"
        );
        fs::remove_file(dir.path().join(checkpoint::FILE)).unwrap();
        let made = CpuManager::new(&with_reserve, &Gates::default(), dir.path()).unwrap();
        assert!(made.is_static() && made.cpus_of("u", "c").is_some() && !made.has_exclusive(&Pod::default()));
    }
}
