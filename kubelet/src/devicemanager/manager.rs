//! The state with its file, and plugins asked for what it says.
//!
//! Upstream: pkg/kubelet/cm/devicemanager/manager.go, v1.37.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use deviceplugin::v1beta1::Device;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::choose::{Next, Wish, begin};
use super::plugin::{self, Plugin};
use super::settings::{DeviceSettings, settings};
use super::state::{Held, Ids, State};
use super::{checkpoint, hints};
use crate::admission::Rejection;
use crate::cpumanager::checkpoint::replace;
use crate::dra::resolve::is_claimed;
use crate::metrics::devices as metrics;
use crate::pod::resources::container_limits;
use crate::pod::view::{PodView, init_containers, is_sidecar};
use crate::topologymanager::Provider;
use crate::topologymanager::hint::{Hint, Mask};

/// Who has which devices, and whose they are.
pub struct DeviceManager {
    folder: PathBuf,
    /// NUMA nodes of the machine.
    nodes: Vec<u32>,
    inner: Mutex<Inner>,
    /// One pod after the other is given devices, because plugins are asked in the middle.
    turn: tokio::sync::Mutex<()>,
    around: OnceLock<Around>,
    /// Set once all pods are known: what others hold is taken back only then.
    complete: AtomicBool,
    /// Why nobody can register, if so.
    problem: Mutex<Option<String>>,
}

/// What the manager needs of the kubelet.
pub struct Around {
    /// Pods that count, by uid.
    pub active: Box<dyn Fn() -> BTreeSet<String> + Send + Sync>,
    /// Called with pods whose devices changed.
    pub changed: Box<dyn Fn(&str) + Send + Sync>,
    /// The node's status is not as it was.
    pub report: Arc<Notify>,
    /// Pod and name of containers that ran before the kubelet started.
    pub running: HashSet<(String, String)>,
}

#[derive(Default)]
struct Inner {
    state: State,
    /// The plugin that counts, by resource.
    plugins: BTreeMap<String, Plugin>,
    /// All that are connected, by resource and socket.
    connected: BTreeMap<String, BTreeMap<PathBuf, Plugin>>,
}

/// What the node has of devices.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// All, by resource.
    pub all: BTreeMap<String, usize>,
    /// Those that work.
    pub healthy: BTreeMap<String, usize>,
    /// Resources that the node no longer has.
    pub removed: BTreeSet<String>,
}

fn unexpected(error: &str) -> Rejection {
    Rejection {
        reason: "UnexpectedAdmissionError".to_owned(),
        message: format!("Allocate failed due to {error}, which is unexpected"),
    }
}

impl DeviceManager {
    /// Reads what containers were given before, from the file in `folder`.
    pub fn new(folder: &Path, nodes: Vec<u32>, now: Instant) -> Arc<Self> {
        let mut inner = Inner::default();
        match fs::read(folder.join(checkpoint::FILE)) {
            Ok(bytes) => match checkpoint::read(&String::from_utf8_lossy(&bytes)) {
                Ok(state) => inner.state = state,
                Err(error) => tracing::error!(
                    error,
                    "Continue after failing to read checkpoint file. Device allocation info may NOT be up-to-date"
                ),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(%error, "Failed to read data from checkpoint"),
        }
        let gone = |resource: &String| (resource.clone(), Plugin::gone(now));
        inner.plugins = inner.state.healthy.keys().map(gone).collect();
        Arc::new(Self {
            folder: folder.to_owned(),
            nodes,
            inner: Mutex::new(inner),
            turn: tokio::sync::Mutex::new(()),
            around: OnceLock::new(),
            complete: AtomicBool::new(false),
            problem: Mutex::new(None),
        })
    }

    /// Lets plugins register from now on. Call it once.
    ///
    /// # Errors
    /// If there can be no socket for that.
    pub fn start(
        self: &Arc<Self>,
        around: Around,
        stop: CancellationToken,
    ) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
        let listener = plugin::open(&self.folder)?;
        let _ = self.around.set(around);
        Ok(plugin::serve(self.clone(), listener, stop))
    }

    /// Folder of sockets.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Why nobody can register, if so.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    pub(super) fn broken(&self, error: String) {
        let text = "device registration error: device plugin registration gRPC server failed and no device plugins can register";
        *self.problem.lock() = Some(format!("{text}: {error}"));
    }

    /// All sources of pods have spoken: what is held for other pods is taken back from now on.
    pub fn sources_ready(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// True if the node was here before, with or without devices.
    pub fn has_file(&self) -> bool {
        self.folder.join(checkpoint::FILE).exists()
    }

    /// A plugin has registered.
    ///
    /// # Errors
    /// If it has already.
    pub(super) fn connected(&self, resource: &str, plugin: &Plugin) -> Result<(), String> {
        let mut inner = self.inner.lock();
        let all = inner.connected.entry(resource.to_owned()).or_default();
        if all.contains_key(&plugin.socket) {
            return Err(format!("device plugin already connected: {}", plugin.socket.display()));
        }
        all.insert(plugin.socket.clone(), plugin.clone());
        inner.plugins.insert(resource.to_owned(), plugin.clone());
        tracing::info!(resource, "Device plugin connected");
        Ok(())
    }

    /// A plugin is gone.
    pub(super) fn disconnected(&self, resource: &str, socket: &Path) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some(all) = inner.connected.get_mut(resource) else { return };
        all.remove(socket);
        if let Some(next) = plugin::successor(all) {
            inner.plugins.insert(resource.to_owned(), next.clone());
        } else {
            inner.connected.remove(resource);
            if let Some(plugin) = inner.plugins.get_mut(resource) {
                plugin.stopped = Some(Instant::now());
            }
            inner.state.lost(resource);
            tracing::info!(resource, "Last device plugin for this resource disconnected");
        }
        drop(guard);
        self.report();
    }

    /// A plugin says what it has.
    pub(super) fn offered(&self, resource: &str, devices: Vec<Device>) {
        let mut inner = self.inner.lock();
        let pods = inner.state.offered(resource, devices);
        self.store(&inner.state);
        drop(inner);
        if let Some(around) = self.around.get() {
            pods.iter().for_each(|uid| (around.changed)(uid));
        }
        self.report();
    }

    fn report(&self) {
        if let Some(around) = self.around.get() {
            around.report.notify_one();
        }
    }

    /// What the node has. Resources whose plugin is gone for long are forgotten by that.
    pub fn capacity(&self, now: Instant) -> Capacity {
        let mut guard = self.inner.lock();
        let Inner { state, plugins, .. } = &mut *guard;
        let known = state.healthy.keys().chain(state.unhealthy.keys());
        let removed = plugin::over(known, plugins, now);
        for resource in &removed {
            plugins.remove(resource);
            state.healthy.remove(resource);
            state.unhealthy.remove(resource);
        }
        if !removed.is_empty() {
            self.store(state);
        }
        let count = |all: &BTreeMap<String, Ids>| -> BTreeMap<String, usize> {
            all.iter().map(|(name, ids)| (name.clone(), ids.len())).collect()
        };
        let healthy = count(&state.healthy);
        let mut all = healthy.clone();
        for (name, sick) in count(&state.unhealthy) {
            *all.entry(name).or_default() += sick;
        }
        Capacity { all, healthy, removed }
    }

    /// How many devices of each resource are in use, if this pod has some: as many it must seem to have at least.
    pub fn in_use_by(&self, uid: &str) -> BTreeMap<String, usize> {
        let inner = self.inner.lock();
        let has_some = inner.state.pods.contains_key(uid);
        let used = inner.state.allocated.iter().filter(|_| has_some);
        used.map(|(name, ids)| (name.clone(), ids.len())).collect()
    }

    /// Takes devices back from pods that are over.
    pub fn refresh(&self) {
        self.take_back(&mut self.inner.lock().state);
    }

    /// All that a container holds.
    pub fn held_by(&self, uid: &str, container: &str) -> Vec<Held> {
        self.inner.lock().state.held_by(uid, container)
    }

    /// All devices that work.
    pub fn usable(&self) -> Vec<Held> {
        self.inner.lock().state.usable()
    }

    /// Says of a pod's containers whether their devices work.
    pub fn show_health(&self, uid: &str, status: &mut PodStatus) {
        self.inner.lock().state.show_health(uid, status);
    }

    /// True if a container of the pod asks for devices of plugins.
    pub fn is_asked_by(&self, pod: &Pod) -> bool {
        let inner = self.inner.lock();
        let spec = pod.spec();
        let mut containers = init_containers(spec).iter().chain(&spec.containers);
        containers.any(|c| container_limits(c).0.keys().any(|name| inner.state.is_known(name)))
    }

    /// Waits until no other pod is being given devices.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Says where devices could come from, for the choice of NUMA nodes.
    pub fn session(&self) -> Session<'_> {
        let mut inner = self.inner.lock();
        self.take_back(&mut inner.state);
        Session { inner, nodes: &self.nodes }
    }

    fn take_back(&self, state: &mut State) {
        if let Some(around) = self.around.get().filter(|_| self.complete.load(Ordering::Acquire)) {
            state.keep_only(&(around.active)());
        }
    }

    /// Gives a container the devices that it asks for. Containers come in the order of the pod, init containers first, and
    /// the caller has the [`Self::turn`].
    ///
    /// # Errors
    /// Why it cannot have them.
    pub async fn allocate(
        &self,
        pod: &Pod,
        container: &Container,
        affinity: Option<Mask>,
        early: bool,
    ) -> Result<(), Rejection> {
        {
            let mut inner = self.inner.lock();
            if inner.state.reusable.0 != pod.uid() {
                inner.state.reusable = (pod.uid().to_owned(), BTreeMap::new());
            }
        }
        let limits = container_limits(container);
        let mut changed = false;
        for resource in limits.0.keys().filter(|name| !is_claimed(pod, &container.name, name)) {
            let count = usize::try_from(limits.whole(resource)).unwrap_or_default();
            let wish = Wish {
                uid: pod.uid(),
                container: &container.name,
                resource,
                count,
                affinity,
                runs: early && self.ran(pod.uid(), &container.name),
            };
            changed |= self.allocate_one(&wish).await.map_err(|e| unexpected(&e))?;
        }
        let mut inner = self.inner.lock();
        let init = init_containers(pod.spec()).iter().find(|c| c.name == container.name);
        let ends = init.is_some_and(|c| !is_sidecar(c));
        inner.state.pass_on(pod.uid(), &container.name, ends);
        if changed {
            self.store(&inner.state);
        }
        Ok(())
    }

    /// True as long as not all pods are known. Containers that ran before the kubelet started keep then what they have.
    pub fn is_early(&self) -> bool {
        !self.complete.load(Ordering::Acquire)
    }

    /// True if the container ran before the kubelet started.
    fn ran(&self, uid: &str, container: &str) -> bool {
        let before = |around: &Around| around.running.contains(&(uid.to_owned(), container.to_owned()));
        self.around.get().is_some_and(before)
    }

    async fn allocate_one(&self, wish: &Wish<'_>) -> Result<bool, String> {
        let (next, plugin) = {
            let mut inner = self.inner.lock();
            if !inner.state.is_known(wish.resource) {
                return Ok(false);
            }
            self.take_back(&mut inner.state);
            (begin(&inner.state, wish)?, inner.plugins.get(wish.resource).cloned())
        };
        let known = || plugin.as_ref().ok_or_else(|| format!("unknown Device Plugin {}", wish.resource));
        let ids = match next {
            Next::Nothing => return Ok(false),
            Next::Take(ids) => ids,
            Next::Ask(question) => {
                let answer = known()?.preferred(&question).await?;
                question.finish(&answer)?
            }
        };
        let start = Instant::now();
        let answer = known()?.allocate(&ids).await;
        metrics::allocated(wish.resource, start.elapsed());
        let answer = answer?;
        let mut inner = self.inner.lock();
        inner.state.give((wish.uid, wish.container), wish.resource, &ids, answer);
        inner.state.recount();
        Ok(true)
    }

    /// What a container that is about to start gets for its devices; plugins that want to know of the start are told.
    ///
    /// # Errors
    /// If a plugin objects.
    pub async fn settings(&self, pod: &Pod, container: &Container) -> Result<DeviceSettings, String> {
        let (uid, name) = (pod.uid(), container.name.as_str());
        let limits = container_limits(container);
        let mut missing = false;
        for resource in limits.0.keys().filter(|resource| limits.whole(resource) > 0) {
            let (held, plugin) = {
                let inner = self.inner.lock();
                if !inner.state.is_known(resource) {
                    continue;
                }
                (
                    inner.state.given(uid, name, resource).map(|g| g.ids()),
                    inner.plugins.get(resource).cloned(),
                )
            };
            let plugin = plugin.ok_or_else(|| {
                format!("endpoint not found in cache for a registered resource: {resource}")
            })?;
            if plugin.options.pre_start_required {
                let held = held.as_ref().ok_or_else(|| {
                    format!("no devices found allocated in local cache for pod {uid}, container {name}, resource {resource}")
                })?;
                plugin.before_start(held).await?;
            }
            missing |= held.is_none();
        }
        if missing {
            // It was admitted while the plugin was not there, because it ran already.
            let _turn = self.turn().await;
            self.allocate(pod, container, None, self.is_early())
                .await
                .map_err(|rejection| rejection.message)?;
        }
        let inner = self.inner.lock();
        let given = inner.state.pods.get(uid).and_then(|all| all.get(name));
        Ok(settings(given.into_iter().flat_map(BTreeMap::values)))
    }

    fn store(&self, state: &State) {
        let file = self.folder.join(checkpoint::FILE);
        if let Err(error) = replace(&file, &checkpoint::write(state)) {
            tracing::error!(%error, file = %file.display(), "Failed to write checkpoint file");
        }
    }
}

impl std::fmt::Debug for DeviceManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceManager").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Nothing is given away while it lasts.
pub struct Session<'a> {
    inner: MutexGuard<'a, Inner>,
    nodes: &'a [u32],
}

impl Provider for Session<'_> {
    fn hints(&mut self, pod: &Pod, container: &Container) -> Vec<Vec<Hint>> {
        hints::of_container(&self.inner.state, self.nodes, pod, container)
    }

    fn pod_hints(&mut self, pod: &Pod) -> Vec<Vec<Hint>> {
        hints::of_pod(&self.inner.state, self.nodes, pod)
    }

    /// Plugins are asked later, which takes time.
    fn allocate(&mut self, _: &Pod, _: &Container, _: Hint) -> Result<(), Rejection> {
        Ok(())
    }

    /// As upstream, pods as a whole are given no devices.
    fn allocate_pod(&mut self, _: &Pod, _: Hint) -> Result<(), Rejection> {
        Ok(())
    }
}
