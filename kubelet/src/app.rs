//! Assembly of kubelet: options to running parts, in the order in which they start.
//! Upstream: cmd/kubelet/app/server.go run, pkg/kubelet/kubelet.go NewMainKubelet and Run, v1.37.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use client::limiter::Bucket;
use client::{Client, ContentType};
use component::app::{Daemon as Shell, Error, Process};
use component::features::Gate;
use component::flags::{Command, FlagSet};
use component::health::Check;
use component::{features, logs, metrics};
use controller::EventRecorder;
use cri::v1;
use informer::{Factory, Options as InformerOptions, Store};
use k8s_openapi::api::core::v1::{Node, Pod, Service, Taint};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::allocation::manager::Allocations;
use crate::allocation::state::{ACTUATED, State};
use crate::certificate::bootstrap;
use crate::cgroup::daemons::Daemons;
use crate::cgroup::fs::Hierarchy;
use crate::cgroup::{allocatable as reserve, detect};
use crate::config::{self, Settings};
use crate::container::limits::{NodeLimits, page_size_name};
use crate::cpumanager::CpuManager;
use crate::devicemanager::manager::Around;
use crate::devicemanager::registry::Registry;
use crate::devicemanager::{self, DeviceManager};
use crate::dra::manager::{Api, Cluster};
use crate::dra::resolve::Gates as ClaimGates;
use crate::dra::{DraManager, wipe};
use crate::events::Events;
use crate::eviction::Signal;
use crate::eviction::manager::EvictionManager;
use crate::housekeeping;
use crate::image::collect::Collector;
use crate::image::manager::ImageManager;
use crate::image::provider::Providers;
use crate::image::pullmanager::policy::Policy;
use crate::image::pullmanager::{Listed, PullManager};
use crate::kubelet::{Kubelet, WorkerSteps};
use crate::lockfile;
use crate::memorymanager::MemoryManager;
use crate::network::{self, dns};
use crate::node::features::declared;
use crate::node::health::{RuntimeHealth, next_look, runtime_health};
use crate::node::lease;
use crate::node::machine::{self, Machine, disk};
use crate::node::manager::{NodeManager, Told, allocatable, update_pod_cidr};
use crate::node::tunables;
use crate::node::version;
use crate::node_facts::NodeFacts;
use crate::nodeshutdown::NodeShutdown;
use crate::nodeshutdown::pods::NodePods;
use crate::options::{COMMAND, Options};
use crate::paths::{Paths, make_dir, share};
use crate::pleg::Pleg;
use crate::pluginmanager::manager::PluginManager;
use crate::pluginmanager::{DEVICE_PLUGIN, DRA_PLUGIN, Handler, Handlers as PluginHandlers};
use crate::pod::resources::Amounts;
use crate::pod::source::sink::Sink;
use crate::pod::source::{file, url};
use crate::pod::store::PodStore;
use crate::pod::view::PodView;
use crate::podcertificate::manager::PodCertificates;
use crate::podresources;
use crate::podsapi;
use crate::probe::manager::ProbeManager;
use crate::runtime::manager::{Handlers, Runtime};
use crate::runtime::query;
use crate::server;
use crate::spans::Spans;
use crate::status::manager::StatusManager;
use crate::sysctl::Allowlist;
use crate::userns::{self, UserNamespaces};
use crate::volume::manager::VolumeManager;
use crate::volume::mounter;
use crate::volume::objects::{self, Strategy};
use crate::volume::trust_bundle::TrustBundles;
use crate::worker::Workers;

/// Answer to every question about runtime classes without an API server.
const NO_CLIENT: &str = "no API server is configured, so runtime classes are unknown";

/// The daemon, configured and not yet running.
#[derive(Debug)]
pub struct Daemon {
    options: Options,
}

impl Shell for Daemon {
    const COMMAND: &'static Command = &COMMAND;

    fn configure(flags: &FlagSet) -> Result<Self, Vec<String>> {
        Options::from_flags(flags).map(|options| Daemon { options })
    }

    fn logging(&self) -> logs::Options {
        self.options.logging.clone()
    }

    async fn run(self, process: Process) -> Result<(), Error> {
        features::install(self.options.gates);
        metrics::default_registry().configure(self.options.metrics.clone());
        metrics::register_process(metrics::default_registry(), self.options.gates);
        metrics::rest_client::install();
        if let Some(wanted) = &self.options.lock_file
            && !take_lock(wanted, &process).await?
        {
            return Ok(());
        }
        adjust_oom_score(self.options.settings.oom_score_adj);
        tracing::info!(
            config = config::shown::text(&self.options.document),
            "Effective KubeletConfiguration"
        );
        crate::config::support::remark(&self.options.document, &process.flags);
        prepare_node(&self.options.settings)?;
        if let Some(mounter) = &self.options.mounter {
            mounter::set_up(mounter, &self.options.settings.cluster_dns, &self.options.settings.resolv_conf);
        }
        let spans = Spans::start(&self.options.settings, &host_name(&self.options))?;
        let built = Parts::build(&self.options, &process, &spans).await?;
        built.start(&self.options, &process).await?;
        process.notifier.ready();
        process.shutdown.cancelled().await;
        spans.finish().await;
        Ok(())
    }
}

/// The kubelet's folders, in which mounts are seen from outside.
fn make_dirs(paths: &Paths) -> Result<(), Error> {
    for (dir, mode) in paths.base_dirs() {
        make_dir(&dir, mode).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    }
    if let Err(error) = share(&paths.root) {
        let root = paths.root.display();
        tracing::error!(%error, %root, "Failed to make mounts below the kubelet's folder propagate");
    }
    Ok(())
}

/// The name of this host, as its node has it.
fn host_name(options: &Options) -> String {
    options.hostname.clone().unwrap_or_else(machine::hostname).trim().to_lowercase()
}

/// Makes this the only kubelet, which ends when another one comes if that is wanted; false if it is to end before.
async fn take_lock((path, exit): &(String, bool), process: &Process) -> Result<bool, Error> {
    let Some(lock) = lockfile::acquire(path, &process.shutdown).await? else { return Ok(false) };
    // Kept until the process has gone: what it drains may still be at work.
    std::mem::forget(lock);
    if *exit {
        let watch = lockfile::Watch::new(path)
            .map_err(|error| format!("unable to watch lock file {path:?}: {error}"))?;
        let shutdown = process.shutdown.clone();
        process.tasks.spawn("lock-file", async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = watch.contended() => shutdown.cancel(),
            }
        });
    }
    Ok(true)
}

/// A low score keeps the kubelet alive when memory is short; without the right to set it, that is said once.
fn adjust_oom_score(score: i64) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::warn!(%error, score, "Failed to set the kubelet's own oom_score_adj");
    }
}

/// Writes events, at a rate of its own.
fn recorder(client: &Client, settings: &Settings, hostname: &str, stop: &CancellationToken) -> EventRecorder {
    let limited = client.with_options(&event_options(settings)).unwrap_or_else(|_| client.clone());
    EventRecorder::new(&limited.named("events"), "kubelet", hostname, stop)
}

/// The first comparison with the runtime may take so long before the node counts as not ready.
const START: Duration = Duration::from_secs(10);

/// Takes note of what the runtime can do, before the first pod is judged by it.
async fn note_runtime(cri: &cri::Client, options: &Options, node: &NodeFacts) -> RuntimeHealth {
    let status = cri.status(v1::StatusRequest::default()).await;
    let able = status.as_ref().ok().and_then(|status| status.features.as_ref());
    let declared = declared(|gate| options.gates.enabled(gate), able);
    node.declared_features.get_or_init(|| declared);
    let health = runtime_health(status).0;
    node.note(&health);
    health
}

/// What the event says about control groups of version 1.
const OLD_GROUPS: &str = "cgroup v1 detected. cgroup v1 support is deprecated and will be removed in a future release. Please \
    migrate to cgroup v2. More information at https://git.k8s.io/enhancements/keps/sig-node/5573-remove-cgroup-v1";

/// What the event says about volumes in memory that may be swapped out.
const SWAPPED: &str = "The tmpfs noswap option is not supported. Memory-backed volumes (e.g. secrets, emptyDirs, etc.) might be \
    swapped to disk and should no longer be considered secure.";

/// Events about what an administrator should know of the machine: secrets may end up in swap space, its groups are of a
/// version that upstream will drop.
fn tell_of_machine(paths: &Paths, events: &Events, node: &str, hierarchy: &Hierarchy) {
    crate::metrics::cgroup_version(if hierarchy.is_v2() { 2 } else { 1 });
    if !hierarchy.is_v2() {
        tracing::info!(warning = OLD_GROUPS, "Warning: cgroup check");
        events.node(node, true, "CgroupV1", OLD_GROUPS);
    }
    if tunables::swaps_memory_volumes(&paths.root) {
        events.node(node, true, "PossibleMemoryBackedVolumesOnDisk", SWAPPED);
    }
}

/// Brings the kernel and this process into the state that pods need, or says what is not as it must be.
fn prepare_node(settings: &Settings) -> Result<(), Error> {
    if settings.fail_swap_on && tunables::swap_is_on() {
        return Err(
            "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false"
                .into(),
        );
    }
    tunables::set(settings.protect_kernel_defaults)?;
    tunables::allow_open_files(settings.max_open_files);
    Ok(())
}

/// Everything built, nothing running.
struct Parts {
    kubelet: Arc<Kubelet>,
    workers: Arc<Workers>,
    factory: Option<Factory>,
    pleg: Arc<Pleg>,
    daemons: Daemons,
    machine: Machine,
    hostname: String,
    runtime_version: String,
    health: Arc<RwLock<RuntimeHealth>>,
}

impl Parts {
    async fn build(options: &Options, process: &Process, spans: &Spans) -> Result<Self, Error> {
        let settings = &options.settings;
        let stop = process.shutdown.clone();
        let paths = Paths { root: PathBuf::from(&options.root_dir), pod_logs: settings.pod_logs_dir.clone() };
        make_dirs(&paths)?;
        let cri = cri::Client::connect_both(
            &settings.container_runtime_endpoint,
            &settings.image_service_endpoint,
            settings.runtime_request_timeout.to_std(),
            spans.traces(),
        )?;
        let version = wait_for_runtime(&cri, &stop).await?;
        let hostname = host_name(options);
        let client = match &options.kubeconfig {
            Some(path) => Some(connect(path, options, &hostname, process).await?.traced(spans.tracer())),
            None => None,
        };
        crate::metrics::install(&hostname);
        let events = Events::new(client.as_ref().map(|c| recorder(c, settings, &hostname, &stop)));
        let machine = Machine::read();
        let hierarchy = Hierarchy::detect()?;
        tell_of_machine(&paths, &events, &hostname, &hierarchy);
        let daemons = Daemons::new(hierarchy.clone(), settings)?;
        // Before anything is limited: its own group may be one of those that Kubernetes' daemons are limited by.
        daemons.place_kubelet();
        let node = Arc::new(facts(options, &machine, &hostname, &hierarchy, &paths)?);
        let health = note_runtime(&cri, options, &node).await;
        let driver = detect::driver(&cri, &settings.cgroup_driver).await?;
        let cgroups = reserve::build(hierarchy, driver, settings, &node, &machine, &events).await?;
        let factory = client.clone().map(Factory::new);
        let services = factory.as_ref().map(|f| f.informer::<Service>(InformerOptions::default()).store());
        let pods = Arc::new(PodStore::default());
        let allocations = Arc::new(Allocations::open(&paths.root, pods.clone())?);
        let node_object = node_object(factory.as_ref(), &hostname);
        let known = (hostname.as_str(), node_object.clone());
        let certificates = certificates(options, client.clone(), pods.clone(), &events, known, &stop);
        let objects = object_settings(settings, client.as_ref(), node_object.as_ref(), &stop)?;
        let volumes = volumes(options, &paths, objects, certificates.clone(), &stop);
        let runtime = Arc::new(Runtime {
            images: images(options, &paths, &cri, &events).await?,
            cri: cri.clone(),
            name: version.runtime_name.clone(),
            events: events.clone(),
            volumes,
            cgroups,
            actuated: Mutex::new(State::open(&paths.root, ACTUATED)?),
            dra: claims(options, &paths, client.as_ref(), node_object.as_ref(), &stop)?,
            devices: DeviceManager::new(Path::new(devicemanager::FOLDER), numa_nodes(), Instant::now()),
            userns: user_namespaces(settings, &paths)?,
            node: node.clone(),
            paths: paths.clone(),
            services,
            handlers: handlers(factory.as_ref()),
            backoff: Runtime::restart_backoff(settings.longest_restart_pause()),
        });
        if client.is_none() && !settings.pod_cidr.is_empty() {
            update_pod_cidr(&cri, &settings.pod_cidr).await?;
        }
        let kubelet = Arc::new(Kubelet {
            spans: spans.clone(),
            certificates,
            probes: Arc::new(ProbeManager::new(cri.clone(), events.clone(), Timestamp::now())),
            status: Arc::new(StatusManager::new(client.clone(), pods.clone())),
            runtime,
            node,
            pods,
            events,
            shutdown: NodeShutdown::new(settings, &options.gates, &paths.root).map(Arc::new),
            paths,
            client,
            node_object,
            max_pods: settings.max_pods,
            sysctls: Allowlist::new(&settings.allowed_unsafe_sysctls)?,
            garbage: options.garbage,
            image_garbage: Collector::new(settings.image_policy(), Timestamp::now()),
            network_error: RwLock::new(None),
            stop: stop.clone(),
            start_failures: Mutex::new(HashMap::new()),
            allocations,
            admitting: Mutex::default(),
            workers: RwLock::new(None),
        });
        let steps = Arc::new(WorkerSteps(kubelet.clone()));
        let workers = Workers::new(steps, settings.sync_frequency.to_std(), spans.clone(), stop);
        *kubelet.workers.write() = Some(workers.clone());
        Ok(Self {
            kubelet,
            workers,
            factory,
            pleg: Arc::new(Pleg::new(cri)),
            daemons,
            machine,
            hostname,
            runtime_version: format!(
                "{}://{}",
                version.runtime_name,
                version::shown(&version.runtime_version)
            ),
            health: Arc::new(RwLock::new(health)),
        })
    }

    async fn start(self, options: &Options, process: &Process) -> Result<(), Error> {
        let stop = process.shutdown.clone();
        let (kubelet, tasks) = (self.kubelet.clone(), &process.tasks);
        let wake = Arc::new(Notify::new());
        self.watch_runtime_status(process, wake.clone());
        if options.settings.make_iptables_util_chains {
            for program in ["iptables", "ip6tables"] {
                tasks.spawn("iptables", network::iptables::run(program, stop.clone()));
            }
        }
        let pleg = self.pleg.clone();
        let loop_check = Check::new("syncloop", move || pleg.problem().map_or(Ok(()), Err));
        let devices = kubelet.runtime.devices.clone();
        let device_check = Check::new("device-plugin", move || devices.problem().map_or(Ok(()), Err));
        let checks = vec![Check::ping(), Check::log(), loop_check, device_check];
        server::start(&kubelet, options, process, checks)?;
        self.start_devices(process, wake.clone()).await?;
        self.start_plugins(process);
        self.start_pod_resources(options, process)?;
        if options.gates.enabled(Gate::PodsAPI) {
            podsapi::server::start(&kubelet.paths.pods_api(), kubelet.clone(), process)?;
        }
        let settings = &options.settings;
        let (address, headers) = (&settings.static_pod_url, &settings.static_pod_url_header);
        let url = match address.is_empty() {
            true => None,
            false => Some(url::Source::new(address, headers, &kubelet.node.name)?),
        };
        let sources_ready = self.start_sources(options, url, process);
        let workers = self.workers.clone();
        tasks.spawn("pleg", self.pleg.clone().run(move |uid| workers.poke(uid), stop.clone()));
        let (status, workers) = (kubelet.status.clone(), self.workers.clone());
        let claims = kubelet.runtime.dra.clone();
        let status_stop = stop.clone();
        tasks.spawn("status", async move {
            let may_run = |uid: &str| workers.may_run(uid) || claims.has_pod(uid);
            status.run(may_run, status_stop).await;
        });
        if let Some(certificates) = &kubelet.certificates {
            certificates.show();
            let workers = self.workers.clone();
            tasks.spawn("pod-certificates", certificates.clone().run(move |uid| workers.poke(uid)));
        }
        let cpus = kubelet.node.limits.cpus.clone();
        if let Some(cpus) = &cpus {
            let period = options.settings.reconcile_period();
            tasks.spawn("cpu-manager", cpus.clone().reconcile(kubelet.clone(), period, stop.clone()));
        }
        let (volumes, period) = (kubelet.runtime.volumes.stats.clone(), settings.volume_stats_agg_period);
        metrics::default_registry().register_collector(volumes.clone());
        tasks.spawn("volume-stats", volumes.run(period.to_std(), stop.clone()));
        let resizes = kubelet.allocations.clone().run(kubelet.clone(), stop.clone());
        tasks.spawn("resizes", resizes);
        tasks.spawn("daemon-groups", self.daemons.clone().run(stop.clone()));
        tasks.spawn("node-allocatable", reserve::enforce(kubelet.clone(), stop.clone()));
        let evictions =
            EvictionManager::new(kubelet.clone(), self.pleg.clone(), &options.settings, wake.clone());
        tasks.spawn("oom-watcher", crate::oom::run(kubelet.clone(), stop.clone()));
        tasks.spawn("eviction", evictions.run(stop.clone()));
        if let Some(shutdown) = &kubelet.shutdown {
            let pods =
                NodePods { kubelet: kubelet.clone(), workers: self.workers.clone(), report: wake.clone() };
            tasks.spawn("node-shutdown", shutdown.clone().run(Arc::new(pods), stop.clone()));
        }
        if let Some(client) = &kubelet.client {
            self.start_node(client, options, process, wake);
        }
        let (pleg, settings) = (self.pleg.clone(), options.settings.clone());
        tasks.spawn("housekeeping", async move {
            // Until all sources have spoken, everything on the runtime would look unwanted.
            if sources_ready.await {
                if let Some(cpus) = &cpus {
                    cpus.sources_ready();
                }
                if let Some(memory) = &kubelet.node.limits.memory {
                    memory.sources_ready();
                }
                kubelet.sources_ready();
                kubelet.runtime.devices.sources_ready();
                kubelet.runtime.dra.sources_ready();
                housekeeping::run(kubelet, pleg, settings, stop).await;
            }
        });
        Ok(())
    }

    /// Lets plugins of devices register.
    async fn start_devices(&self, process: &Process, report: Arc<Notify>) -> Result<(), Error> {
        let workers = self.workers.clone();
        let around = Around {
            active: Box::new(active(&self.kubelet)),
            changed: Box::new(move |uid| workers.poke(uid)),
            report,
            running: query::running(&self.kubelet.runtime.cri).await,
        };
        let served = self.kubelet.runtime.devices.start(around, process.shutdown.clone());
        let served = served.map_err(|e| format!("failed to start device manager: {e}"))?;
        process.tasks.spawn("device-plugins", served);
        Ok(())
    }

    /// Lets plugins register by sockets of their own.
    fn start_plugins(&self, process: &Process) {
        let devices = Registry::new(self.kubelet.runtime.devices.clone(), process.shutdown.clone());
        let claims = self.kubelet.runtime.dra.clone();
        let handlers: PluginHandlers = [
            (DEVICE_PLUGIN.to_owned(), Arc::new(devices) as Arc<dyn Handler>),
            (DRA_PLUGIN.to_owned(), claims.registry()),
        ]
        .into();
        let plugins = PluginManager::new(self.kubelet.paths.plugins_registry(), handlers);
        plugins.show();
        process.tasks.spawn("plugins", plugins.run(process.shutdown.clone()));
        claims.show();
        let workers = self.workers.clone();
        claims.tell(move |uid| workers.poke(uid));
        let active = active(&self.kubelet);
        process.tasks.spawn("claims", claims.run(active, process.shutdown.clone()));
    }

    /// Tells agents on the node what containers were given.
    fn start_pod_resources(&self, options: &Options, process: &Process) -> Result<(), Error> {
        let failed = |e| format!("failed to create listener for podResources endpoint: {e}");
        let listener =
            podresources::server::open(&self.kubelet.paths.pod_resources(), podresources::server::SOCKET)
                .map_err(failed)?;
        let (node, stop) = (self.kubelet.clone(), process.shutdown.clone());
        let only_active = options.gates.enabled(Gate::KubeletPodResourcesListUseActivePods);
        process.tasks.spawn("pod-resources", podresources::server::serve(node, only_active, listener, stop));
        Ok(())
    }

    /// Reads the runtime's report again and again; wakes the reporter of the node's status when it is ready at last.
    fn watch_runtime_status(&self, process: &Process, wake: Arc<Notify>) {
        let (kubelet, health, pleg) = (self.kubelet.clone(), self.health.clone(), self.pleg.clone());
        let stop = process.shutdown.clone();
        process.tasks.spawn("runtime-status", async move {
            let (begin, mut once) = (Instant::now(), false);
            loop {
                let answer = kubelet.runtime.cri.status(v1::StatusRequest::default()).await;
                let (mut now, network) = runtime_health(answer);
                // That nothing was compared yet is no news while the kubelet starts: a node that is well would be shown as
                // not ready at each restart, and its pods with it.
                now.errors.extend(pleg.problem().filter(|_| pleg.has_compared() || begin.elapsed() > START));
                kubelet.node.note(&now);
                *kubelet.network_error.write() = network;
                let ready = now.errors.is_empty();
                *health.write() = now;
                let pause = next_look(ready, once, begin.elapsed());
                if ready && !once {
                    once = true;
                    wake.notify_one();
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    /// Starts all sources of pods; the answer tells when all of them have spoken (or the process ends first).
    fn start_sources(
        &self,
        options: &Options,
        url: Option<url::Source>,
        process: &Process,
    ) -> impl Future<Output = bool> + Send + 'static {
        let settings = &options.settings;
        let stop = process.shutdown.clone();
        let file_ready = Arc::new(Notify::new());
        let with_files = !settings.static_pod_path.is_empty();
        if with_files {
            let (sink, ready) =
                (Sink { kubelet: self.kubelet.clone(), workers: self.workers.clone() }, file_ready.clone());
            let deliver = move |pods| {
                sink.replace_static("file", pods);
                ready.notify_one();
            };
            let (path, node) = (PathBuf::from(&settings.static_pod_path), self.kubelet.node.name.clone());
            let period = settings.file_check_frequency.to_std();
            process.tasks.spawn("file-source", file::run(path, node, period, deliver, stop.clone()));
        }
        let url_ready = Arc::new(Notify::new());
        let with_url = url.is_some();
        if let Some(source) = url {
            let sink = Sink { kubelet: self.kubelet.clone(), workers: self.workers.clone() };
            let ready = url_ready.clone();
            let deliver = move |pods| {
                sink.replace_static("http", pods);
                ready.notify_one();
            };
            process.tasks.spawn(
                "url-source",
                source.run(settings.http_check_frequency.to_std(), deliver, stop.clone()),
            );
        }
        let mut subscription = None;
        if let Some(factory) = &self.factory {
            let sink = Sink { kubelet: self.kubelet.clone(), workers: self.workers.clone() };
            let selector = format!("spec.nodeName={}", self.kubelet.node.name);
            let informer = factory.informer::<Pod>(InformerOptions::default().fields(&selector));
            subscription = Some(informer.subscribe(move |event| sink.handle(event)));
            factory.start(&stop);
        }
        async move {
            if with_files {
                file_ready.notified().await;
            }
            if with_url {
                tokio::select! {
                    () = url_ready.notified() => {}
                    () = stop.cancelled() => return false,
                }
            }
            match subscription {
                Some(subscription) => {
                    let ready = subscription.wait_synced(&stop).await;
                    // Dropping the subscription would end it.
                    tokio::spawn(async move {
                        stop.cancelled().await;
                        subscription.cancel();
                    });
                    ready
                }
                None => true,
            }
        }
    }

    fn start_node(&self, client: &Client, options: &Options, process: &Process, wake: Arc<Notify>) {
        let taints: Vec<Taint> =
            serde_json::from_value(options.settings.register_with_taints.clone()).unwrap_or_default();
        let manager = NodeManager {
            kubelet: self.kubelet.clone(),
            client: client.clone(),
            settings: options.settings.clone(),
            machine: self.machine.clone(),
            hostname: self.hostname.clone(),
            runtime_version: self.runtime_version.clone(),
            version: component::version::reported(),
            labels: options.labels.clone(),
            taints,
            root: PathBuf::from(&options.root_dir),
            health: self.health.clone(),
            events: self.kubelet.events.clone(),
            external_cloud: options.external_cloud,
            given_ips: options.node_ips.clone(),
            pod_cidrs: RwLock::default(),
            wake,
            told: Told::default(),
        };
        let stop = process.shutdown.clone();
        process.tasks.spawn("node-status", async move { manager.run(stop).await });
        let seconds = options.settings.node_lease_duration_seconds;
        let name = self.kubelet.node.name.clone();
        process
            .tasks
            .spawn("node-lease", lease::run(client.named("lease"), name, seconds, process.shutdown.clone()));
    }
}

/// Tells the uids of pods that count.
fn active(kubelet: &Arc<Kubelet>) -> impl Fn() -> BTreeSet<String> + Send + Sync + 'static {
    let kubelet = Arc::downgrade(kubelet);
    move || {
        let pods = kubelet.upgrade().map(|kubelet| kubelet.active_pods()).unwrap_or_default();
        pods.iter().map(|pod| pod.uid().to_owned()).collect()
    }
}

/// Waits for the runtime's first answer.
async fn wait_for_runtime(cri: &cri::Client, stop: &CancellationToken) -> Result<v1::VersionResponse, Error> {
    let mut pause = Duration::from_millis(100);
    let mut said = false;
    loop {
        let request = v1::VersionRequest { version: "0.1.0".to_owned() };
        match cri.version(request).await {
            Ok(version) => return Ok(version),
            Err(error) if !said => {
                said = true;
                tracing::error!(%error, "The container runtime does not answer yet; waiting for it");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Err("stopped while waiting for the container runtime".into()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = pause.saturating_mul(2).min(Duration::from_secs(5));
    }
}

/// The client, with credentials that are first obtained or kept fresh as configured.
async fn connect(
    kubeconfig: &str,
    options: &Options,
    node: &str,
    process: &Process,
) -> Result<Client, Error> {
    let settings = &options.settings;
    let client_options = client::Options {
        #[expect(clippy::cast_precision_loss, reason = "a small number of requests per second")]
        qps: if settings.kube_api_qps == 0 { -1.0 } else { settings.kube_api_qps as f32 },
        burst: settings.kube_api_burst,
        user_agent: user_agent(),
        content_type: content_type(settings),
        ..client::Options::default()
    };
    let places = bootstrap::Places {
        kubeconfig: Path::new(kubeconfig),
        bootstrap: options.bootstrap_kubeconfig.as_deref().map(Path::new),
        cert_dir: Path::new(&options.cert_dir),
        node,
    };
    if settings.rotate_certificates {
        tracing::info!("Client rotation is on, will bootstrap in background");
        let (client, manager) = bootstrap::rotating(&places, &client_options)?;
        let stop = process.shutdown.clone();
        process.tasks.spawn("client-certificate", manager.clone().run(stop.clone()));
        process.tasks.spawn_critical("client-certificate-watch", manager.watch_over(stop));
        return Ok(client);
    }
    bootstrap::obtain(&places, &client_options, &process.shutdown).await?;
    Ok(Client::new(client::Config::from_kubeconfig(kubeconfig)?, client_options)?)
}

fn user_agent() -> String {
    let version = component::version::info();
    client::user_agent("kubelet", component::version::reported(), &version.git_commit)
}

fn content_type(settings: &Settings) -> ContentType {
    if settings.content_type == "application/json" { ContentType::Json } else { ContentType::Protobuf }
}

/// Events have a rate of their own, so that many of them delay nothing else.
fn event_options(settings: &Settings) -> client::Options {
    client::Options {
        #[expect(clippy::cast_precision_loss, reason = "a small number of requests per second")]
        qps: if settings.event_record_qps == 0 { -1.0 } else { settings.event_record_qps as f32 },
        burst: u32::try_from(settings.event_burst).unwrap_or(u32::MAX),
        user_agent: user_agent(),
        content_type: content_type(settings),
        ..client::Options::default()
    }
}

/// Pulls per second and at once; `None` for no limit.
fn pull_rate(settings: &Settings) -> Option<Bucket> {
    let burst = u32::try_from(settings.registry_burst).unwrap_or(u32::MAX);
    #[expect(clippy::cast_precision_loss, reason = "a small number of pulls per second")]
    (settings.registry_pull_qps > 0).then(|| Bucket::new(settings.registry_pull_qps as f64, burst))
}

/// Memory that pods may not have, in thousandths of bytes. Upstream: GetNodeAllocatableReservation.
fn reserved_memory(settings: &Settings, machine: &Machine) -> Amounts {
    let kept = settings.kept_free(Signal::Memory, machine.memory).saturating_mul(1000);
    let whole = settings.reserved_milli("memory").saturating_add(kept);
    let named = (whole != 0).then(|| ("memory".to_owned(), i128::from(whole)));
    Amounts(named.into_iter().collect())
}

fn facts(
    options: &Options,
    machine: &Machine,
    hostname: &str,
    hierarchy: &Hierarchy,
    paths: &Paths,
) -> Result<NodeFacts, Error> {
    let settings = &options.settings;
    let cpus = CpuManager::new(settings, &options.gates, &paths.root)
        .map_err(|e| format!("failed to initialize cpu manager: {e}"))?;
    let whole = reserved_memory(settings, machine);
    let memory = MemoryManager::new(settings, &options.gates, &whole, &paths.root)
        .map_err(|e| format!("failed to initialize memory manager: {e}"))?;
    let storage = disk(&paths.root).unwrap_or_default().capacity;
    let given: Vec<String> = (options.node_ips.iter())
        .filter(|ip| !matches!(ip.as_str(), "" | "0.0.0.0" | "::"))
        .cloned()
        .collect();
    let ips = if given.is_empty() { machine::default_address().into_iter().collect() } else { given };
    let (v2, memsw) = match hierarchy.controller_dir("memory", "") {
        Some(dir) => (hierarchy.is_v2(), dir.join("memory.memsw.limit_in_bytes").exists()),
        None => (hierarchy.is_v2(), false),
    };
    let swap_v2 = v2 && machine.swap > 0;
    let allocatable = allocatable(settings, machine, storage);
    let period = i64::try_from(settings.cpu_cfs_quota_period.to_std().as_micros()).unwrap_or(100_000);
    Ok(NodeFacts {
        name: hostname.to_owned(),
        pod_sysctls: settings.default_pod_sysctls.clone(),
        limits: NodeLimits {
            cgroup_v2: v2,
            cpu_cfs_quota: settings.cpu_cfs_quota,
            cpu_period_us: if period > 0 { period } else { 100_000 },
            memory_capacity: machine.memory,
            single_process_oom_kill: settings.single_process_oom_kill.unwrap_or(!v2),
            swap_controller: memsw || swap_v2,
            huge_page_sizes: machine.huge_pages.iter().map(|(size, _)| page_size_name(*size)).collect(),
            limited_swap: (settings.memory_swap.swap_behavior == "LimitedSwap").then_some(machine.swap),
            memory_qos: v2 && options.gates.enabled(Gate::MemoryQoS),
            protects_memory: v2
                && options.gates.enabled(Gate::MemoryQoS)
                && settings.memory_reservation_policy == "TieredReservation",
            throttling: settings.memory_throttling_factor,
            allocatable_memory: allocatable.memory,
            cpus: Some(Arc::new(cpus)),
            memory: Some(Arc::new(memory)),
        },
        allocatable,
        isolates_storage: settings.local_storage_capacity_isolation,
        seccomp_default: settings.seccomp_default,
        seccomp_root: paths.seccomp().display().to_string(),
        dns: dns::Settings {
            host: None,
            cluster_dns: settings.cluster_dns.clone(),
            cluster_domain: settings.cluster_domain.clone(),
            node_ips: ips.clone(),
        },
        resolv_conf: Some(settings.resolv_conf.clone()).filter(|path| !path.is_empty()),
        host_ips: RwLock::new(Arc::new(ips)),
        recursive_read_only: RwLock::default(),
        user_namespaces: RwLock::default(),
        pressure: RwLock::default(),
        groups_policy: RwLock::default(),
        declared_features: OnceLock::new(),
    })
}

/// The programs that know registry credentials, if there are some.
fn providers(options: &Options) -> Result<Providers, Error> {
    match &options.credential_providers {
        Some((config, bin)) => Providers::load(Path::new(config), Path::new(bin))
            .map_err(|e| format!("failed to register CRI auth plugins: {}", e.join(", ")).into()),
        None => Ok(Providers::default()),
    }
}

/// What pulls images, as fast as configured.
async fn images(
    options: &Options,
    paths: &Paths,
    cri: &cri::Client,
    events: &Events,
) -> Result<ImageManager, Error> {
    let settings = &options.settings;
    Ok(ImageManager::new(
        cri.clone(),
        events.clone(),
        settings.parallel_pulls(),
        pull_rate(settings),
        providers(options)?,
        paths.root.clone(),
        pull_manager(options, paths, cri).await?,
    ))
}

/// The memory of who pulled what, if that matters.
async fn pull_manager(
    options: &Options,
    paths: &Paths,
    cri: &cri::Client,
) -> Result<Option<PullManager>, Error> {
    if !options.gates.enabled(Gate::KubeletEnsureSecretPulledImages) {
        return Ok(None);
    }
    let settings = &options.settings;
    let allowlist = &settings.preloaded_images_verification_allowlist;
    let policy = Policy::new(&settings.image_pull_credentials_verification_policy, allowlist)?;
    let manager = PullManager::open(&paths.root, policy)
        .map_err(|e| format!("failed to setup the FSPullRecordsAccessor: {e}"))?;
    if manager.is_interrupted() {
        match cri.list_images(v1::ListImagesRequest::default()).await {
            Ok(answer) => manager
                .adopt(&answer.images.into_iter().map(Listed::from).collect::<Vec<_>>(), Timestamp::now()),
            Err(error) => tracing::error!(%error, "Failed to list images"),
        }
    }
    Ok(Some(manager))
}

fn numa_nodes() -> Vec<u32> {
    crate::memorymanager::discover::discover(Path::new(crate::cpumanager::discover::SYSTEM))
        .into_keys()
        .collect()
}

fn user_namespaces(settings: &Settings, paths: &Paths) -> Result<UserNamespaces, Error> {
    let length = u32::try_from(settings.user_namespaces.ids_per_pod.unwrap_or(65_536)).unwrap_or_default();
    let pods = u32::try_from(settings.max_pods).unwrap_or_default();
    let failed = |e: String| format!("create user namespace manager: {e}");
    let ids = userns::available_ids(length).map_err(failed)?;
    Ok(UserNamespaces::new(paths.clone(), length, ids, pods).map_err(failed)?)
}

/// The node's own object, for its labels.
fn node_object(factory: Option<&Factory>, name: &str) -> Option<Store<Node>> {
    let options = InformerOptions::default().fields(&format!("metadata.name={name}"));
    factory.map(|f| f.informer::<Node>(options).store())
}

/// What asks for certificates of pods; absent without an API server.
fn certificates(
    options: &Options,
    client: Option<Client>,
    pods: Arc<PodStore>,
    events: &Events,
    node: (&str, Option<Store<Node>>),
    stop: &CancellationToken,
) -> Option<Arc<PodCertificates>> {
    let client = client.filter(|_| options.gates.enabled(Gate::PodCertificateRequest))?;
    Some(Arc::new(PodCertificates::new(client, pods, events.clone(), node, stop.clone())))
}

/// How ConfigMaps and Secrets are read; not at all without an API server.
fn object_settings(
    settings: &Settings,
    client: Option<&Client>,
    node: Option<&Store<Node>>,
    stop: &CancellationToken,
) -> Result<Option<objects::Settings>, Error> {
    let Some((client, node)) = client.zip(node) else { return Ok(None) };
    let strategy = Strategy::parse(&settings.config_map_and_secret_change_detection_strategy)?;
    Ok(Some(objects::Settings {
        client: client.clone(),
        strategy,
        node: node.clone(),
        stop: stop.child_token(),
    }))
}

fn volumes(
    options: &Options,
    paths: &Paths,
    objects: Option<objects::Settings>,
    certificates: Option<Arc<PodCertificates>>,
    stop: &CancellationToken,
) -> Arc<VolumeManager> {
    let bundled = options.gates.enabled(Gate::ClusterTrustBundleProjection);
    let client = objects.as_ref().map(|objects| objects.client.clone());
    let bundles = TrustBundles::new(client.filter(|_| bundled), stop.clone());
    Arc::new(VolumeManager::new(paths.clone(), objects, bundles, certificates, options.mounter.clone()))
}

/// What knows of claimed devices.
fn claims(
    options: &Options,
    paths: &Paths,
    client: Option<&Client>,
    node: Option<&Store<Node>>,
    stop: &CancellationToken,
) -> Result<Arc<DraManager>, Error> {
    let gates = ClaimGates {
        groups: options.gates.enabled(Gate::DRAWorkloadResourceClaims),
        optional: options.gates.enabled(Gate::DRAOptionalNodeOperations),
        health: options.gates.enabled(Gate::ResourceHealthStatus),
        messages: options.gates.enabled(Gate::ResourceHealthStatusMessage),
    };
    let api = client.zip(node).map(|(client, node)| -> Arc<dyn Api> {
        Arc::new(Cluster { client: client.clone(), node: node.clone() })
    });
    Ok(DraManager::new(&paths.root, api, gates, wipe::DELAY, stop.clone())?)
}

/// Looks up the runtime handlers of runtime classes.
fn handlers(factory: Option<&Factory>) -> Handlers {
    let Some(factory) = factory else { return Arc::new(|_| Err(NO_CLIENT.to_owned())) };
    let classes = factory.informer::<RuntimeClass>(InformerOptions::default()).store();
    Arc::new(move |name| {
        let class = classes.get(name).or_else(|| classes.get_by("", name));
        class.map(|c| c.handler.clone()).ok_or_else(|| {
            format!("failed to get sandbox runtime: no RuntimeClass {name:?} is known on this node")
        })
    })
}
