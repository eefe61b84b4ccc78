//! Carries out what [`super::actions`] decided: sandboxes, containers, in upstream's order.
//!
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go SyncPod, v1.37.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cri::v1;
use informer::Store;
use k8s_openapi::api::core::v1::{Container, Pod, Secret, Service};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::actions::{self, KillReason, PodActions, Probes};
use super::model::{ContainerState, PodStatus};
use super::resize::{self, Plan};
use crate::allocation::state::State;
use crate::backoff::{Backoff, go_seconds};
use crate::cgroup::manager::CgroupManager;
use crate::container::sandbox;
use crate::container::security::describe;
use crate::devicemanager::DeviceManager;
use crate::dra::DraManager;
use crate::events::Events;
use crate::image::manager::ImageManager;
use crate::logs::pod_log_directory;
use crate::metrics::{pods, work};
use crate::network::{dns, hostname};
use crate::node_facts::NodeFacts;
use crate::paths::{Paths, make_dir};
use crate::pod::view::{PodView, ephemeral_as_container, ephemeral_containers, init_containers, is_sidecar};
use crate::status::generate::StartFailure;
use crate::userns::UserNamespaces;
use crate::volume::manager::{VolumeManager, Volumes};

/// First pause between restarts of a container that keeps ending.
const RESTART_PAUSE: Duration = Duration::from_secs(10);

/// Answers with the runtime handler of a runtime class, or with what is wrong.
pub type Handlers = Arc<dyn Fn(&str) -> Result<String, String> + Send + Sync>;

/// Everything needed to run pods on the runtime.
pub struct Runtime {
    /// The runtime.
    pub cri: cri::Client,
    /// Its name, as container ids show it.
    pub name: String,
    /// Events about pods.
    pub events: Events,
    /// Images.
    pub images: ImageManager,
    /// Volumes.
    pub volumes: Arc<VolumeManager>,
    /// Control groups.
    pub cgroups: CgroupManager,
    /// Resources that pods have been given.
    pub actuated: Mutex<State>,
    /// Devices of plugins.
    pub devices: Arc<DeviceManager>,
    /// Claims of devices.
    pub dra: Arc<DraManager>,
    /// Ranges of ids for pods with user namespaces.
    pub userns: UserNamespaces,
    /// The node.
    pub node: Arc<NodeFacts>,
    /// Where things are.
    pub paths: Paths,
    /// Services that pods are told about; absent without an API server.
    pub services: Option<Store<Service>>,
    /// Runtime handlers of runtime classes, by class name.
    pub handlers: Handlers,
    /// Pauses between restarts.
    pub backoff: Mutex<Backoff>,
}

/// What came of carrying out a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For each container whose start was tried: why it failed, if it did.
    pub starts: HashMap<String, Option<StartFailure>>,
    /// What went wrong otherwise.
    pub errors: Vec<String>,
    /// When the first container that is held back may be started.
    pub held_until: Option<Timestamp>,
    /// True if anything was changed on the runtime.
    pub acted: bool,
    /// True if limits of running containers were changed. Not `acted`: nothing else waits for it, and a runtime that
    /// reports other limits than it was given must not keep the worker busy.
    pub resized: bool,
    /// Why limits could not be changed.
    pub resize_error: Option<String>,
    /// True if containers were removed for a restart of the whole pod.
    pub reset: bool,
}

impl Outcome {
    /// True if the pod has to be looked at again soon.
    pub fn failed(&self) -> bool {
        !self.errors.is_empty() || self.resize_error.is_some() || self.starts.values().any(Option::is_some)
    }
}

/// One pod being brought to its desired state.
pub struct PodSync<'a> {
    /// The runtime and all that belongs to it.
    pub runtime: &'a Runtime,
    /// The pod.
    pub pod: &'a Arc<Pod>,
    /// The pod on the runtime.
    pub status: &'a PodStatus,
    /// The pod's volumes.
    pub volumes: &'a Volumes,
    /// The pod's pull secrets.
    pub secrets: &'a [Arc<Secret>],
}

/// A container's start that is under way.
pub(super) struct Start<'a> {
    pub container: Container,
    pub sandbox_id: &'a str,
    pub sandbox: &'a v1::PodSandboxConfig,
    pub pod_ips: &'a [String],
    pub target: Option<String>,
}

impl Runtime {
    /// Restart pauses up to `longest`.
    pub fn restart_backoff(longest: Duration) -> Mutex<Backoff> {
        Mutex::new(Backoff::new(RESTART_PAUSE.min(longest), longest))
    }

    /// The runtime handler of a pod's class.
    ///
    /// # Errors
    /// If the class does not exist.
    pub fn handler(&self, pod: &Pod) -> Result<String, String> {
        match pod.spec().runtime_class_name.as_deref().filter(|name| !name.is_empty()) {
            None => Ok(String::new()),
            Some(class) => (self.handlers)(class),
        }
    }

    /// True if the pod's handler can make mounts read-only recursively.
    pub fn recursive_read_only(&self, pod: &Pod) -> bool {
        self.handler(pod).is_ok_and(|handler| self.node.recursive_read_only.read().contains(&handler))
    }

    /// The pod's user namespace.
    ///
    /// # Errors
    /// If it cannot have the one it asks for.
    pub fn user_namespace(&self, pod: &Pod) -> Result<v1::UserNamespace, String> {
        let handler = self.handler(pod)?;
        let supported = self.node.user_namespaces.read().contains(&handler);
        self.userns.of(pod, &handler, supported)
    }

    /// The message that creates the pod's sandbox.
    ///
    /// # Errors
    /// If the pod's names, user namespace or security settings cannot be applied.
    pub fn sandbox_config(&self, pod: &Pod, attempt: u32) -> Result<v1::PodSandboxConfig, String> {
        let settings = self.node.dns_now();
        let (dns, warnings) = dns::pod_dns(pod, &settings);
        for warning in warnings {
            match warning {
                dns::Warning::Limits(text) => self.events.warning(pod, "DNSConfigForming", &text),
                dns::Warning::MissingClusterDns => {
                    let text = format!(
                        "pod: {:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using {:?} policy. Falling back to {:?} policy.",
                        describe(pod),
                        "ClusterFirst",
                        "Default"
                    );
                    self.events.warning(pod, "MissingClusterDNS", &text);
                }
            }
        }
        let kernel_name = if pod.is_host_network() {
            String::new()
        } else {
            let (name, domain) = hostname::hostname_and_domain(pod, &self.node.dns.cluster_domain)
                .map_err(|e| e.to_string())?;
            hostname::kernel_name(pod, &name, &domain).map_err(|e| e.to_string())?
        };
        sandbox::sandbox_config(sandbox::Inputs {
            pod,
            attempt,
            dns,
            hostname: kernel_name,
            log_directory: pod_log_directory(&self.paths.pod_logs, pod.namespace(), pod.name(), pod.uid()),
            cgroup_parent: self.cgroups.parent(pod),
            userns: Some(self.user_namespace(pod)?),
            sysctls: &self.node.pod_sysctls,
            node: &self.node.limits,
        })
        .map_err(|e| e.to_string())
    }
}

impl PodSync<'_> {
    /// Brings the pod to its desired state, as far as one step can. Steps that are rarely taken are boxed: a pod that is as
    /// it should be, which is looked at again and again, needs no room for them.
    pub async fn run(&self, probes: &(dyn Probes + Sync), restart_all: bool) -> Outcome {
        let mut plan = actions::plan(self.pod, self.status, probes, restart_all);
        let mut changes = match plan.kill_pod || restart_all {
            true => Plan::default(),
            false => resize::plan(self.pod, self.status, &plan, &self.runtime.actuated.lock()),
        };
        resize::add_restarts(&changes.restarts, &mut plan);
        let mut outcome = Outcome::default();
        if plan.create_sandbox && !plan.sandbox_id.is_empty() {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.runtime.events.normal(self.pod, "SandboxChanged", message);
        }
        if let Err(error) = Box::pin(self.stop(&plan, &mut outcome)).await {
            outcome.errors.push(error);
            return outcome;
        }
        self.prune_init_containers().await;
        let mut sandbox = (plan.sandbox_id.clone(), self.status.ips.clone());
        if plan.create_sandbox {
            outcome.acted = true;
            match Box::pin(self.create_sandbox(plan.attempt)).await {
                Ok(Some(made)) => sandbox = made,
                // Its claims are not prepared: the next look at the pod comes as late as if all were well, as upstream.
                Ok(None) => {
                    outcome.acted = false;
                    return outcome;
                }
                Err(error) => {
                    outcome.errors.push(error);
                    return outcome;
                }
            }
        }
        if !changes.is_empty() {
            outcome.resized = true;
            outcome.resize_error =
                Box::pin(self.runtime.resize(self.pod, &sandbox.0, &mut changes)).await.err();
        }
        if plan.start.is_empty() && plan.start_init.is_empty() && plan.start_ephemeral.is_empty() {
            return outcome;
        }
        match self.runtime.sandbox_config(self.pod, plan.attempt) {
            Ok(config) => {
                Box::pin(self.start_all(&plan, &sandbox.0, &config, &sandbox.1, &mut outcome)).await;
            }
            Err(error) => {
                let pod = describe(self.pod);
                outcome.errors.push(format!("GeneratePodSandboxConfig for pod {pod:?} failed: {error}"));
            }
        }
        outcome
    }

    /// Stops what must not run any more.
    async fn stop(&self, plan: &PodActions, outcome: &mut Outcome) -> Result<(), String> {
        if plan.kill_pod {
            outcome.acted |= !self.status.is_empty();
            self.runtime.kill_pod(Some(self.pod), self.status, None).await?;
            if plan.create_sandbox {
                self.purge_init_containers().await;
            }
            return Ok(());
        }
        for kill in &plan.kill {
            outcome.acted = true;
            self.runtime
                .kill_container(Some(self.pod), &kill.id, &kill.name, &kill.message, kill.reason, None, None)
                .await?;
        }
        for reset in &plan.reset {
            outcome.acted = true;
            outcome.reset = true;
            if reset.kill {
                let reason = KillReason::RestartAllContainers;
                self.runtime
                    .kill_container(Some(self.pod), &reset.id, &reset.name, "killing", reason, Some(0), None)
                    .await?;
            }
            self.runtime.remove_container(&reset.id.id).await?;
        }
        Ok(())
    }

    /// Only the last run of each init container is worth keeping.
    async fn prune_init_containers(&self) {
        for container in init_containers(self.pod.spec()) {
            let ended = self.status.containers.iter().filter(|c| {
                c.name == container.name
                    && matches!(c.state, ContainerState::Exited | ContainerState::Unknown)
            });
            for old in ended.skip(1) {
                if let Err(error) = self.runtime.remove_container(&old.id.id).await {
                    tracing::warn!(
                        pod = self.pod.log_name(),
                        container = old.name,
                        error,
                        "Failed to remove init container"
                    );
                }
            }
        }
    }

    /// A new sandbox starts from the beginning, so no trace of earlier initialization may remain.
    async fn purge_init_containers(&self) {
        for container in init_containers(self.pod.spec()) {
            for old in self.status.containers.iter().filter(|c| c.name == container.name) {
                if let Err(error) = self.runtime.remove_container(&old.id.id).await {
                    tracing::warn!(
                        pod = self.pod.log_name(),
                        container = old.name,
                        error,
                        "Failed to remove init container"
                    );
                }
            }
        }
    }

    /// Makes a sandbox; its id and addresses. None if the pod's claims cannot be prepared.
    async fn create_sandbox(&self, attempt: u32) -> Result<Option<(String, Vec<String>)>, String> {
        let pod = self.pod;
        work::pod_starts();
        if pod.spec().host_users == Some(false) {
            pods::starts_in_namespace();
        }
        if let Err(error) = self.runtime.dra.prepare(pod).await {
            let message = format!("Failed to prepare dynamic resources: {error}");
            self.runtime.events.warning(pod, "FailedPrepareDynamicResources", &message);
            tracing::error!(pod = pod.log_name(), error, "Failed to prepare dynamic resources");
            return Ok(None);
        }
        let made = self.try_create_sandbox(attempt).await;
        let id = made.map_err(|error| {
            work::pod_failed();
            if pod.spec().host_users == Some(false) {
                pods::failed_in_namespace();
            }
            let message = format!("Failed to create pod sandbox: {error}");
            self.runtime.events.warning(pod, "FailedCreatePodSandBox", &message);
            format!(
                "failed to {:?} for {:?} with CreatePodSandboxError: {message:?}",
                "CreatePodSandbox",
                describe(pod)
            )
        })?;
        if pod.is_host_network() {
            return Ok(Some((id, self.node_ips())));
        }
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
        let status = self.runtime.cri.pod_sandbox_status(request).await.map_err(|error| {
            let message = format!("Unable to get pod sandbox status: {error}");
            self.runtime.events.warning(pod, "FailedPodSandBoxStatus", &message);
            message
        })?;
        let ips = status.status.and_then(|s| s.network).map(|network| {
            let more = network.additional_ips.into_iter().map(|ip| ip.ip);
            std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect()
        });
        Ok(Some((id, ips.unwrap_or_default())))
    }

    fn node_ips(&self) -> Vec<String> {
        self.runtime.node.host_ips.read().to_vec()
    }

    async fn try_create_sandbox(&self, attempt: u32) -> Result<String, String> {
        let config = self.runtime.sandbox_config(self.pod, attempt)?;
        make_dir(std::path::Path::new(&config.log_directory), 0o755)
            .map_err(|e| format!("cannot create {}: {e}", config.log_directory))?;
        let runtime_handler = self.runtime.handler(self.pod)?;
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler };
        self.runtime
            .cri
            .run_pod_sandbox(request)
            .await
            .map(|answer| answer.pod_sandbox_id)
            .map_err(|e| e.to_string())
    }

    async fn start_all(
        &self,
        plan: &PodActions,
        sandbox_id: &str,
        sandbox: &v1::PodSandboxConfig,
        pod_ips: &[String],
        outcome: &mut Outcome,
    ) {
        let spec = self.pod.spec();
        let host_ips;
        let pod_ips = if self.pod.is_host_network() && pod_ips.is_empty() {
            host_ips = self.node_ips();
            &host_ips
        } else {
            pod_ips
        };
        let start = |container: Container| Start { container, sandbox_id, sandbox, pod_ips, target: None };
        for index in &plan.start_ephemeral {
            let Some(ephemeral) = ephemeral_containers(spec).get(*index) else { continue };
            let mut start = start(ephemeral_as_container(ephemeral));
            start.target = ephemeral.target_container_name.clone().filter(|t| !t.is_empty());
            self.start_one(start, outcome).await;
        }
        for index in &plan.start_init {
            let Some(container) = init_containers(spec).get(*index) else { continue };
            let started = self.start_one(start(container.clone()), outcome).await;
            if !started && !is_sidecar(container) {
                return;
            }
        }
        for index in &plan.start {
            let Some(container) = spec.containers.get(*index) else { continue };
            self.start_one(start(container.clone()), outcome).await;
        }
    }

    /// What a container is to its pod, as the metrics call it.
    fn kind_of(&self, name: &str) -> &'static str {
        let spec = self.pod.spec();
        if spec.containers.iter().any(|c| c.name == name) {
            "container"
        } else if init_containers(spec).iter().any(|c| c.name == name) {
            "init_container"
        } else {
            "ephemeral_container"
        }
    }

    /// Starts one container unless it is held back; true if it was started.
    async fn start_one(&self, start: Start<'_>, outcome: &mut Outcome) -> bool {
        let name = start.container.name.clone();
        if let Some((failure, until)) = self.held_back(&start.container, Timestamp::now()) {
            outcome.starts.insert(name, Some(failure));
            outcome.held_until = Some(outcome.held_until.map_or(until, |at| at.min(until)));
            return false;
        }
        outcome.acted = true;
        let kind = self.kind_of(&name);
        work::container_starts(kind);
        let result = self.start_container(start).await;
        if let Err(failure) = &result {
            work::container_failed(kind, &failure.reason);
        }
        let started = result.is_ok();
        outcome.starts.insert(name, result.err());
        started
    }

    /// A container that keeps ending is started after growing pauses only.
    fn held_back(&self, container: &Container, now: Timestamp) -> Option<(StartFailure, Timestamp)> {
        let mut ended = self.status.containers.iter().filter(|c| c.name == container.name);
        let last = ended.find(|c| c.state == ContainerState::Exited)?;
        let since = Timestamp::from_nanosecond(i128::from(last.finished_at)).ok()?;
        let pod = describe(self.pod);
        let key = format!("{pod}_{}_{:x}", container.name, super::hash::container_hash(container));
        let mut backoff = self.runtime.backoff.lock();
        if !backoff.is_in_backoff_since(&key, since, now) {
            backoff.next(&key, since);
            backoff.collect(now);
            return None;
        }
        let pause = backoff.get(&key);
        let message = format!("Back-off restarting failed container {} in pod {pod}", container.name);
        self.runtime.events.container_warning(self.pod, &container.name, "BackOff", &message);
        let message = format!(
            "back-off {} restarting failed container={} pod={pod}",
            go_seconds(pause),
            container.name
        );
        let failure = StartFailure { reason: "CrashLoopBackOff".to_owned(), message };
        let until = SignedDuration::try_from(pause).ok().and_then(|pause| since.checked_add(pause).ok());
        Some((failure, until.unwrap_or(now)))
    }
}
