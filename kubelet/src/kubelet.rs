//! The parts put together, and what a worker does with a pod.
//!
//! Start reading at [`Kubelet::sync`]. Upstream: pkg/kubelet/kubelet.go SyncPod, SyncTerminatingPod, SyncTerminatedPod.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use client::Client;
use component::features::Gate;
use informer::Store;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod, PodStatus as ApiPodStatus, Secret};
use k8s_openapi::jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use crate::admission::{self, Rejection};
use crate::allocation::manager::Allocations;
use crate::apparmor;
use crate::container::env::Fetched;
use crate::events::Events;
use crate::eviction;
use crate::image::collect::Collector;
use crate::node::{features, resources};
use crate::node_facts::NodeFacts;
use crate::nodeshutdown::{self, NodeShutdown};
use crate::paths::{Paths, make_dir};
use crate::pod::resources::whole;
use crate::pod::restart;
use crate::pod::store::PodStore;
use crate::pod::view::{PodView, grace_period_seconds, init_containers};
use crate::podcertificate::manager::PodCertificates;
use crate::preemption;
use crate::probe::manager::{ProbeManager, Surroundings};
use crate::runtime::garbage::{self, Policy};
use crate::runtime::manager::{Outcome, PodSync, Runtime};
use crate::runtime::model::PodStatus;
use crate::runtime::query;
use crate::spans::Spans;
use crate::status::generate::{Eviction, Inputs, StartFailure, pod_status};
use crate::status::manager::StatusManager;
use crate::sysctl::Allowlist;
use crate::topologymanager::{Manager as TopologyManager, Provider};
use crate::volume::manager::{Context, Volumes, remove_pod_dir};
use crate::worker::{Kill, Steps, Synced, Workers};

/// The kubelet's parts.
pub struct Kubelet {
    /// Where spans go.
    pub spans: Spans,
    /// The runtime and all that containers are made from.
    pub runtime: Arc<Runtime>,
    /// The node.
    pub node: Arc<NodeFacts>,
    /// Desired pods.
    pub pods: Arc<PodStore>,
    /// Statuses.
    pub status: Arc<StatusManager>,
    /// Probes.
    pub probes: Arc<ProbeManager>,
    /// Certificates of pods; absent without an API server.
    pub certificates: Option<Arc<PodCertificates>>,
    /// Events.
    pub events: Events,
    /// Where things are.
    pub paths: Paths,
    /// The API server, if there is one.
    pub client: Option<Client>,
    /// The node's own object; absent without an API server.
    pub node_object: Option<Store<Node>>,
    /// Most pods on this node.
    pub max_pods: i64,
    /// Kernel parameters that pods may set.
    pub sysctls: Allowlist,
    /// How many dead containers are kept.
    pub garbage: Policy,
    /// Removes images that nobody uses.
    pub image_garbage: Collector,
    /// Why the runtime's network is not ready, if so.
    pub network_error: RwLock<Option<String>>,
    /// What is done before the machine is shut down; absent if nothing is.
    pub shutdown: Option<Arc<NodeShutdown>>,
    /// Ends with the process.
    pub stop: CancellationToken,
    /// Why containers could not be started, by pod.
    pub start_failures: Mutex<HashMap<String, HashMap<String, StartFailure>>>,
    /// Resources promised to pods.
    pub allocations: Arc<Allocations>,
    /// Pods of which it is not yet known whether the node takes them.
    pub admitting: Mutex<HashSet<String>>,
    /// Workers; set once, right after construction.
    pub workers: RwLock<Option<Arc<Workers>>>,
}

/// Since 1970.
pub fn nanoseconds(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

impl Kubelet {
    /// The workers.
    pub fn workers(&self) -> Option<Arc<Workers>> {
        self.workers.read().clone()
    }

    async fn query(&self, uid: &str) -> Result<PodStatus, String> {
        query::pod_status(&self.runtime.cri, &self.runtime.name, uid).await.map_err(|error| {
            format!("cannot read the state of pod {uid} from the container runtime: {error}")
        })
    }

    /// The pod's next status.
    fn generate(
        &self,
        pod: &Pod,
        runtime: &PodStatus,
        terminal: bool,
        eviction: Option<Eviction>,
    ) -> ApiPodStatus {
        let old = self.status.get(pod.uid());
        let old = old.unwrap_or_else(|| {
            let mirror = if pod.is_static() { self.pods.mirror_of(pod) } else { None };
            Arc::new(mirror.map_or_else(|| pod.api_status().clone(), |mirror| told_by_mirror(&mirror)))
        });
        let failures = self.start_failures.lock().get(pod.uid()).cloned().unwrap_or_default();
        let eviction = eviction.or_else(|| self.past_deadline(pod, Timestamp::now()));
        let given = self.runtime.actuated.lock().get(pod.uid()).cloned();
        let mut status = pod_status(&Inputs {
            pod,
            runtime,
            old: &old,
            start_failures: &failures,
            probes: self.probes.as_ref(),
            host_ips: &self.node.host_ips.read().clone(),
            terminal,
            eviction,
            recursive_read_only: self.runtime.recursive_read_only(pod),
            given: given.as_deref(),
            group: self.group_in_force(pod),
            resize: self.resize_conditions(pod, terminal),
        });
        if component::features::enabled(Gate::ResourceHealthStatus) {
            self.runtime.devices.show_health(pod.uid(), &mut status);
            self.runtime.dra.show_health(pod, &mut status, Timestamp::now());
        }
        status
    }

    async fn sync_pod(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<Synced, String> {
        let (pod, _) = &self.allocations.promised(pod);
        let mut runtime = self.query(pod.uid()).await.inspect_err(|error| {
            self.events.warning(pod, "FailedSync", &format!("error determining status: {error}"));
        })?;
        self.note_progress(pod, &runtime);
        let now = Timestamp::now();
        let api = self.generate(pod, &runtime, false, None);
        runtime.ips = api.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
        let ended = matches!(api.phase.as_deref(), Some("Succeeded" | "Failed"));
        let restart_all = api
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "AllContainersRestarting" && c.status == "True");
        self.observe_start(pod, &api, now);
        self.status.set(pod, api);
        if ended {
            return Ok(Synced { ended, ..Synced::default() });
        }
        if let Some(reason) = self.network_error.read().clone().filter(|_| !pod.is_host_network()) {
            let message = format!("network is not ready: {reason}");
            self.events.warning(pod, "NetworkNotReady", &message);
            tracing::error!(pod = pod.log_name(), err = message, "Error syncing pod, skipping");
            return Ok(Synced { again: Some(Duration::from_secs(1)), ..Synced::default() });
        }
        self.runtime.volumes.register(pod);
        // Boxed, as is what follows: most of the time a sync waits for the runtime's state only, and many may wait at once.
        Box::pin(self.prepare_cgroup(pod, &runtime)).await?;
        Box::pin(self.reconcile_mirror(pod)).await;
        for dir in self.paths.pod_dirs(pod.uid()) {
            make_dir(&dir, 0o750).map_err(|error| {
                let message = format!("error making pod data directories: {error}");
                self.events.warning(pod, "FailedMakePodDataDirectories", &message);
                message
            })?;
        }
        let volumes = Box::pin(self.mount(pod, &runtime.ips, now)).await?;
        self.runtime.initialize(pod);
        let secrets = Box::pin(self.pull_secrets(pod)).await;
        let around: Arc<dyn Surroundings> = self.clone();
        self.probes.add(pod, &around, &self.stop);
        let sync =
            PodSync { runtime: &self.runtime, pod, status: &runtime, volumes: &volumes, secrets: &secrets };
        let outcome = Box::pin(sync.run(self.probes.as_ref(), restart_all)).await;
        Box::pin(self.remove_surplus(&runtime)).await;
        Box::pin(self.after_sync(pod, outcome, now)).await
    }

    /// Removes what dead containers there are beyond those that are kept.
    async fn remove_surplus(&self, status: &PodStatus) {
        for container in garbage::surplus(status, &self.garbage) {
            if let Err(error) = self.runtime.discard(&container.id.id, container.log_path.clone()).await {
                tracing::info!(error, "DeleteContainer returned error");
            }
        }
    }

    /// Notes how long a pod took until it ran, when it does for the first time.
    fn observe_start(&self, pod: &Pod, api: &ApiPodStatus, now: Timestamp) {
        let before = self.status.get(pod.uid());
        let before = before.as_ref().and_then(|status| status.phase.as_deref());
        if before != Some("Pending") || api.phase.as_deref() != Some("Running") {
            return;
        }
        let seen =
            api.start_time.as_ref().and_then(|start| Duration::try_from(now.duration_since(start.0)).ok());
        if let Some(took) = seen {
            crate::metrics::work::pod_runs(took);
        }
    }

    /// Counts the pods that are wanted and those that count.
    pub fn observe_pods(&self) {
        let split = |pods: &[Arc<Pod>]| {
            let from_files = pods.iter().filter(|pod| pod.is_static()).count();
            (pods.len() - from_files, from_files)
        };
        let all = self.pods.list();
        crate::metrics::work::pods(split(&all), split(&self.active_pods()));
        let ephemeral =
            all.iter().map(|pod| pod.spec().ephemeral_containers.as_ref().map_or(0, Vec::len)).sum();
        crate::metrics::pods::kinds(split(&all).1, ephemeral);
        if let Some(workers) = self.workers() {
            let working = workers.working(|uid| self.pods.get(uid).is_some());
            crate::metrics::pods::working(working.into_iter());
        }
    }

    /// Records what came of a sync and tells the API server at once.
    async fn after_sync(&self, pod: &Arc<Pod>, outcome: Outcome, now: Timestamp) -> Result<Synced, String> {
        {
            let mut all = self.start_failures.lock();
            let failures = all.entry(pod.uid().to_owned()).or_default();
            for (container, failure) in &outcome.starts {
                match failure {
                    Some(failure) => drop(failures.insert(container.clone(), failure.clone())),
                    None => drop(failures.remove(container)),
                }
            }
        }
        if let Some(error) = &outcome.resize_error {
            self.note_resize_error(pod, error);
        }
        if outcome.acted || outcome.resized || outcome.failed() {
            let runtime = self.query(pod.uid()).await?;
            if outcome.resized {
                self.note_progress(pod, &runtime);
            }
            let api = self.generate(pod, &runtime, false, None);
            self.status.set(pod, api);
        }
        if !outcome.errors.is_empty() {
            return Err(outcome.errors.join(", "));
        }
        if outcome.failed() {
            let retry = Duration::from_secs(10).mul_f64(1.0 + rand::random::<f64>() / 2.0);
            let held = outcome.held_until.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
            let others = outcome.starts.values().flatten().any(|f| f.reason != "CrashLoopBackOff");
            let again = match held {
                Some(held) if others => held.min(retry),
                Some(held) => held,
                None => retry,
            };
            return Ok(Synced { again: Some(again), ..Synced::default() });
        }
        // What was just started may be what something else waited for.
        let again = outcome.acted.then_some(Duration::ZERO);
        Ok(Synced { again: again.or_else(|| deadline_left(pod, now)), ..Synced::default() })
    }

    fn past_deadline(&self, pod: &Pod, now: Timestamp) -> Option<Eviction> {
        let limit = pod.spec().active_deadline_seconds?;
        let status = self.status.get(pod.uid());
        let known = status.as_ref().and_then(|status| status.start_time.as_ref());
        let start = known.or(pod.api_status().start_time.as_ref())?;
        if now.duration_since(start.0).as_secs() < limit {
            return None;
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        self.events.normal(pod, "DeadlineExceeded", &message);
        Some(Eviction { reason: "DeadlineExceeded".to_owned(), message, is_disruption: false })
    }

    /// Makes the pod's control group. Containers that run outside of it, from before it existed, are stopped first.
    async fn prepare_cgroup(&self, pod: &Arc<Pod>, runtime: &PodStatus) -> Result<(), String> {
        let cgroups = &self.runtime.cgroups;
        if cgroups.exists(pod) {
            return Ok(());
        }
        if runtime.running().next().is_some() {
            self.runtime.kill_pod(Some(pod), runtime, None).await?;
            let spec = pod.spec();
            if !spec.containers.iter().any(|c| restart::is_restartable(c, spec)) {
                return Ok(());
            }
        }
        if let Err(error) = self.update_cgroup_classes().await {
            tracing::info!(pod = pod.log_name(), %error, "Failed to update QoS cgroups while syncing pod");
        }
        let made = cgroups.create_pod(pod, &self.node.limits).await.map_err(|error| {
            let message = format!("unable to ensure pod container exists: {error}");
            self.events.warning(pod, "FailedCreatePodContainer", &message);
            format!(
                "failed to ensure that the pod: {} cgroups exist and are correctly applied: {error}",
                pod.uid()
            )
        });
        made.and_then(|()| self.runtime.gave_group(pod))
    }

    /// Gives the groups of the service classes what their pods ask for now.
    ///
    /// # Errors
    /// If the kernel or systemd refuses.
    pub async fn update_cgroup_classes(&self) -> Result<(), crate::cgroup::manager::Error> {
        let all = self.active_pods();
        self.runtime.cgroups.update_classes(all.iter().map(AsRef::as_ref)).await
    }

    async fn mount(&self, pod: &Arc<Pod>, ips: &[String], now: Timestamp) -> Result<Volumes, String> {
        let addresses = self.node.addresses(ips);
        let object = self.node_object.as_ref().and_then(|store| store.list().into_iter().next());
        let labels = object.as_ref().and_then(|node| node.metadata.labels.clone()).unwrap_or_default();
        let context = Context {
            addresses: &addresses,
            node: &self.node.allocatable,
            node_name: &self.node.name,
            node_labels: &labels,
            now,
        };
        self.runtime.volumes.mount(pod, &context).await.map_err(|error| {
            let message = error.to_string();
            self.events.warning(pod, "FailedMount", &message);
            message
        })
    }

    async fn pull_secrets(&self, pod: &Arc<Pod>) -> Vec<Arc<Secret>> {
        let mut out = Vec::new();
        for reference in pod.spec().image_pull_secrets.iter().flatten().filter(|r| !r.name.is_empty()) {
            match self.runtime.volumes.secret(pod, &reference.name).await {
                Fetched::Found(secret) => out.push(secret),
                Fetched::NotFound(error) | Fetched::Failed(error) => {
                    let message = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                        reference.name
                    );
                    tracing::info!(pod = pod.log_name(), error, "Unable to retrieve pull secret");
                    self.events.warning(pod, "FailedToRetrieveImagePullSecret", &message);
                }
            }
        }
        out
    }

    /// Keeps the API server's image of a static pod in place.
    async fn reconcile_mirror(&self, pod: &Pod) {
        let Some(client) = self.client.as_ref().filter(|_| pod.is_static()) else { return };
        if let Err(error) =
            crate::pod::mirror::reconcile(client, pod, self.pods.mirror_of(pod).as_deref(), &self.node.name)
                .await
        {
            tracing::error!(pod = pod.log_name(), error, "Failed creating a mirror pod");
        }
    }

    /// Pods that have not ended, or of which something may still run.
    pub fn active_pods(&self) -> Vec<Arc<Pod>> {
        let workers = self.workers();
        let active = |pod: &Arc<Pod>| {
            let status = self.status.get(pod.uid());
            let status = status.as_deref().unwrap_or(pod.api_status());
            let ended = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
            let stopping = workers.as_ref().is_some_and(|w| w.may_run(pod.uid()));
            !(ended || pod.is_api_terminal()) || stopping
        };
        self.pods.list().into_iter().filter(active).collect()
    }

    /// Whether the node takes a pod that it has not seen before.
    ///
    /// # Errors
    /// The reason why it does not.
    pub fn admit(&self, pod: &Arc<Pod>) -> Result<(), Rejection> {
        let _turn = self.allocations.turn();
        // What a former kubelet has promised it, it may have.
        let (pod, _) = &self.allocations.promised(pod);
        self.admit_first(pod)?;
        if let Some(cpus) = &self.node.limits.cpus {
            let active = self.active_pods();
            let mut memory = self.node.limits.memory.as_ref().map(|memory| memory.session(&active));
            cpus.admit(pod, &active, memory.as_mut().map(|memory| memory as &mut dyn Provider))?;
        }
        self.admit_rest(pod)?;
        self.promise(pod);
        Ok(())
    }

    /// As [`Self::admit`] for a pod that asks for devices, whose plugins are asked, or that others make room for: both take
    /// time. `early` pods came before all were known.
    ///
    /// # Errors
    /// The reason why the node does not take the pod.
    pub async fn admit_with_devices(&self, pod: &Arc<Pod>, early: bool) -> Result<(), Rejection> {
        let (pod, _) = &self.allocations.promised(pod);
        self.admit_first(pod)?;
        self.make_room(pod).await?;
        let _turn = self.runtime.devices.turn().await;
        let begin = Instant::now();
        let result = self.allocate_devices(pod, early).await;
        if let Some(cpus) = &self.node.limits.cpus {
            cpus.admitted(pod, begin, result.is_ok());
        }
        result?;
        let _turn = self.allocations.turn();
        self.admit_rest(pod)?;
        self.promise(pod);
        Ok(())
    }

    async fn allocate_devices(&self, pod: &Pod, early: bool) -> Result<(), Rejection> {
        let spec = pod.spec();
        let of_pod = self.aligned(|manager, all| manager.agree(pod, all))?;
        let whole = of_pod.filter(|_| self.aligned(|manager, _| manager.gives_whole(pod)));
        // Devices are not among what pods are given as a whole, as upstream.
        if let Some(agreed) = whole {
            return self.aligned(|_, all| all.iter_mut().try_for_each(|p| p.allocate_pod(pod, agreed)));
        }
        for container in init_containers(spec).iter().chain(&spec.containers) {
            let agreed = self.aligned(|manager, all| manager.agree_on(pod, container, of_pod, all))?;
            self.runtime.devices.allocate(pod, container, agreed.affinity, early).await?;
            self.aligned(|_, all| all.iter_mut().try_for_each(|p| p.allocate(pod, container, agreed)))?;
        }
        Ok(())
    }

    /// One step of an admission with everything that containers are given.
    fn aligned<T>(&self, step: impl FnOnce(&TopologyManager, &mut [&mut dyn Provider]) -> T) -> T {
        let active = self.active_pods();
        let mut memory = self.node.limits.memory.as_ref().map(|memory| memory.session(&active));
        let mut devices = self.runtime.devices.session();
        let mut others: Vec<&mut dyn Provider> = vec![&mut devices];
        others.extend(memory.as_mut().map(|memory| memory as &mut dyn Provider));
        match &self.node.limits.cpus {
            Some(cpus) => cpus.with(&active, &mut others, step),
            None => step(&TopologyManager::none(), &mut others),
        }
    }

    pub(crate) fn admit_first(&self, pod: &Pod) -> Result<(), Rejection> {
        eviction::admit::admit(pod, *self.node.pressure.read())?;
        self.sysctls.admit(pod)
    }

    pub(crate) fn admit_rest(&self, pod: &Pod) -> Result<(), Rejection> {
        if let Err(rejection) = self.has_room(pod) {
            // For a critical pod all others would have ended.
            self.preempted(pod)?;
            return Err(rejection);
        }
        apparmor::admit(pod, apparmor::is_enabled)?;
        features::admit(pod, self.node.declared())?;
        if self.shutdown.as_ref().is_some_and(|shutdown| shutdown.is_down()) {
            let (reason, message) = nodeshutdown::REJECTED;
            return Err(Rejection { reason: reason.to_owned(), message: message.to_owned() });
        }
        Ok(())
    }

    fn has_room(&self, pod: &Pod) -> Result<(), Rejection> {
        self.beside_others(pod, |others, node| admission::admit(pod, others, node))
    }

    /// The pods that end so that a critical pod has room.
    fn preempted(&self, pod: &Pod) -> Result<Vec<Pod>, Rejection> {
        self.beside_others(pod, |others, node| {
            admission::preempted(pod, others, node).map(|pods| pods.into_iter().cloned().collect())
        })
    }

    /// True if others have to end before the node takes a critical pod.
    pub fn preempts(&self, pod: &Pod) -> bool {
        pod.is_critical() && self.preempted(pod).is_ok_and(|others| !others.is_empty())
    }

    /// Ends pods that give way to a critical one, and waits until nothing of them runs.
    async fn make_room(&self, pod: &Pod) -> Result<(), Rejection> {
        let others = if pod.is_critical() { self.preempted(pod)? } else { Vec::new() };
        let mut longest = 0;
        for other in &others {
            tracing::info!(
                pod = other.log_name(),
                requesting_pod = pod.log_name(),
                "Preempting pod to free up resources"
            );
            self.events.warning(other, preemption::REASON, preemption::MESSAGE);
            let (reason, message) = (preemption::REASON.to_owned(), preemption::MESSAGE.to_owned());
            self.evict(other.uid(), None, Eviction { reason, message, is_disruption: true });
            longest = grace_period_seconds(other).max(longest);
        }
        let uids: Vec<String> = others.iter().map(|other| other.uid().to_owned()).collect();
        if !self.until_stopped(&uids, longest).await {
            tracing::error!(pod = pod.log_name(), "Pods that give way to it have not ended in time");
        }
        Ok(())
    }

    fn beside_others<T>(&self, pod: &Pod, look: impl FnOnce(&[&Pod], &admission::Node<'_>) -> T) -> T {
        let all = self.allocated_pods();
        let others: Vec<&Pod> =
            all.iter().map(AsRef::as_ref).filter(|other: &&Pod| other.uid() != pod.uid()).collect();
        let object = self.node_object.as_ref().and_then(|store| store.list().into_iter().next());
        let extended = self.extended(object.as_deref(), pod.uid());
        let mut allocatable = self.node.allocatable;
        if !self.node.isolates_storage {
            // What an earlier configuration, or an administrator, has said.
            allocatable.ephemeral_storage = object.as_deref().map_or(0, resources::shown_storage);
        }
        let taints = object.as_ref().and_then(|node| node.spec.as_ref()?.taints.as_deref());
        look(
            &others,
            &admission::Node {
                name: &self.node.name,
                labels: object.as_ref().and_then(|node| node.metadata.labels.as_ref()),
                taints: taints.unwrap_or_default(),
                allocatable: &allocatable,
                extended: &extended,
                max_pods: self.max_pods,
                keeps_groups: self.keeps_groups(object.as_deref()),
            },
        )
    }

    /// Whether the runtime keeps to a pod's supplemental groups; if it has not said, as the node's status shows.
    fn keeps_groups(&self, node: Option<&Node>) -> bool {
        let status = node.and_then(|node| node.status.as_ref()?.features.as_ref());
        let shown = || status.and_then(|features| features.supplemental_groups_policy);
        let said = *self.node.groups_policy.read();
        said.or_else(shown).unwrap_or(false)
    }

    /// What the node has of resources that plugins or administrators brought. A pod that has devices may keep them when
    /// their plugin is gone.
    fn extended(&self, node: Option<&Node>, uid: &str) -> BTreeMap<String, i64> {
        let status = node.and_then(|node| node.status.as_ref());
        let known = status.and_then(|status| status.allocatable.as_ref());
        let mut all: BTreeMap<String, i64> = (known.into_iter().flatten())
            .filter(|(name, _)| resources::is_extended(name))
            .map(|(name, amount)| (name.clone(), whole(amount)))
            .collect();
        for (name, count) in self.runtime.devices.in_use_by(uid) {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            all.entry(name).and_modify(|known| *known = count.max(*known)).or_insert(count);
        }
        all
    }

    /// Tells the API server that the node does not take a new pod.
    pub fn reject(&self, pod: &Pod, rejection: &Rejection) {
        crate::metrics::admission::rejected(&rejection.reason);
        self.events.warning(pod, &rejection.reason, &rejection.message);
        let status = ApiPodStatus {
            phase: Some("Failed".to_owned()),
            reason: Some(rejection.reason.clone()),
            message: Some(format!("Pod was rejected: {}", rejection.message)),
            qos_class: pod.api_status().qos_class.clone(),
            ..ApiPodStatus::default()
        };
        self.status.set(pod, status);
    }

    /// Stops a pod for a reason of the node's own.
    pub fn evict(&self, uid: &str, grace: Option<i64>, eviction: Eviction) {
        if let Some(workers) = self.workers() {
            workers.kill(uid, Kill { grace, eviction: Some(eviction) });
        }
    }

    /// Waits for pods that were stopped with a grace period of so many seconds, half as long again and at least ten seconds;
    /// false if something of them may still run. Upstream: killPodNow in pkg/kubelet/pod_workers.go.
    pub async fn until_stopped(&self, uids: &[String], grace: i64) -> bool {
        let Some(workers) = self.workers() else { return true };
        let limit = Duration::from_secs(grace.saturating_add(grace / 2).max(10).unsigned_abs());
        tokio::time::timeout(limit, workers.until_stopped(uids)).await.is_ok()
    }

    /// Removes every trace of a pod that is no longer wanted and whose worker is done.
    pub async fn remove_traces(&self, uid: &str) {
        match self.query(uid).await {
            Ok(status) => {
                // What is too young to go, and the sandboxes that it is in, are found again later.
                let now = nanoseconds(Timestamp::now());
                let (old, young): (Vec<_>, Vec<_>) =
                    status.containers.iter().partition(|c| self.garbage.is_old(c.created_at, now));
                for container in old {
                    if let Err(error) = self.runtime.remove_container(&container.id.id).await {
                        tracing::warn!(pod_uid = uid, error, "Failed to remove container");
                    }
                }
                let used = |id: &str| young.iter().any(|c| c.sandbox_id == id);
                for sandbox in status.sandboxes.iter().filter(|sandbox| !used(&sandbox.id)) {
                    self.runtime.remove_sandbox(&sandbox.id).await;
                }
                if !status.name.is_empty() {
                    let logs = crate::logs::pod_log_directory(
                        &self.paths.pod_logs,
                        &status.namespace,
                        &status.name,
                        uid,
                    );
                    // Nothing there is as good as removed.
                    let _ = std::fs::remove_dir_all(logs);
                }
            }
            Err(error) => tracing::warn!(pod_uid = uid, error, "Failed to look for remains of a pod"),
        }
        if let Err(error) = self.runtime.volumes.unmount(uid).await {
            tracing::error!(pod_uid = uid, %error, "Failed to unmount volumes of a pod");
            return;
        }
        if let Err(error) = self.runtime.cgroups.remove_pod(uid).await {
            tracing::warn!(pod_uid = uid, %error, "Failed to remove cgroups of a pod");
        }
        if let Err(error) = remove_pod_dir(&self.paths, uid) {
            tracing::error!(pod_uid = uid, %error, "Failed to remove the folder of a pod");
        }
        self.runtime.userns.release(uid);
        self.start_failures.lock().remove(uid);
        self.runtime.actuated.lock().remove(uid);
        self.status.forget(uid);
        self.allocations.gone(uid, Timestamp::now());
    }
}

fn deadline_left(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let limit = pod.spec().active_deadline_seconds?;
    let start = pod.api_status().start_time.as_ref()?.0;
    let left = limit.saturating_sub(now.duration_since(start).as_secs()).clamp(1, 60);
    Some(Duration::from_secs(left.unsigned_abs()))
}

impl Surroundings for Kubelet {
    fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        self.workers()?.pod(uid)
    }
    fn status(&self, uid: &str) -> Option<Arc<ApiPodStatus>> {
        self.status.get(uid)
    }
    fn changed(&self, uid: &str) {
        if let Some(workers) = self.workers() {
            workers.poke(uid);
        }
    }
}

/// Steps of the workers; a type of its own because workers belong to the kubelet.
pub struct WorkerSteps(pub Arc<Kubelet>);

#[async_trait]
impl Steps for WorkerSteps {
    async fn sync(&self, pod: &Arc<Pod>) -> Result<Synced, String> {
        self.0.sync_pod(pod).await
    }

    async fn stop(
        &self,
        pod: &Arc<Pod>,
        grace: Option<i64>,
        eviction: Option<Eviction>,
    ) -> Result<(), String> {
        let kubelet = &self.0;
        let (pod, _) = &kubelet.allocations.promised(pod);
        let runtime = kubelet.query(pod.uid()).await?;
        kubelet.status.set(pod, kubelet.generate(pod, &runtime, false, eviction.clone()));
        kubelet.probes.stop_restarts(pod.uid());
        kubelet.runtime.kill_pod(Some(pod), &runtime, grace).await.map_err(|error| {
            kubelet.events.warning(pod, "FailedKillPod", &format!("error killing pod: {error}"));
            format!("error killing terminating pod: {error}")
        })?;
        kubelet.probes.remove(pod.uid());
        let mut stopped = kubelet.query(pod.uid()).await?;
        // A stopped sandbox has no addresses, but the pod had them to the end.
        if stopped.ips.is_empty() {
            stopped.ips.clone_from(&runtime.ips);
        }
        let running: Vec<String> = stopped.running().map(|c| c.id.to_string()).collect();
        if !running.is_empty() {
            return Err(format!(
                "detected running containers after a successful KillPod, CRI violation: {running:?}"
            ));
        }
        // After all containers have stopped, and before the API server knows: then the claims may go to others.
        kubelet.runtime.dra.unprepare(pod).await?;
        kubelet.status.set(pod, kubelet.generate(pod, &stopped, true, eviction));
        Ok(())
    }

    async fn clean_up(&self, pod: &Arc<Pod>) -> Result<(), String> {
        let kubelet = &self.0;
        let uid = pod.uid();
        kubelet.runtime.volumes.unmount(uid).await.map_err(|e| format!("cannot unmount volumes: {e}"))?;
        kubelet.runtime.cgroups.remove_pod(uid).await.map_err(|e| e.to_string())?;
        kubelet.runtime.userns.release(uid);
        kubelet.status.terminate(pod);
        Ok(())
    }

    async fn finished(&self, uid: &str) {
        let (kubelet, Some(workers)) = (&self.0, self.0.workers()) else { return };
        match kubelet.pods.get(uid) {
            None if workers.forget_finished(uid) => kubelet.remove_traces(uid).await,
            // Its file came again meanwhile.
            Some(pod) if workers.comes_again(uid) => {
                kubelet.status.forget(uid);
                workers.update(pod);
            }
            _ => {}
        }
    }
}
/// The status of a static pod as a former kubelet left it. Of init containers that had ended the runtime tells, else they count
/// as ended without anything known, as upstream, which does not look at the mirror.
fn told_by_mirror(mirror: &Pod) -> ApiPodStatus {
    let mut status = mirror.api_status().clone();
    let runs = |s: &ContainerStatus| s.state.as_ref().is_some_and(|state| state.running.is_some());
    status.init_container_statuses.iter_mut().for_each(|all| all.retain(runs));
    status
}
