//! One task per probe, and the results. Upstream: pkg/kubelet/prober/prober_manager.go and worker.go, v1.37.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus as ApiPodStatus, Probe};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rand::RngExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Kind;
use super::check::{Found, check};
use crate::events::Events;
use crate::metrics::Probed;
use crate::pod::restart::restarts_after;
use crate::pod::view::{PodView, init_containers, is_sidecar};
use crate::runtime::actions::{ProbeResult, Probes};
use crate::runtime::model::ContainerId;
use crate::status::generate::{ProbeState, ProbeStates};

/// A container that started this long before the kubelet was there before it.
const INHERITED_MARGIN: SignedDuration = SignedDuration::from_secs(10);
/// A question that could not be put is put again so often at once.
const TRIES: usize = 3;

type WorkerKey = (String, String, Kind);

struct Worker {
    stop: CancellationToken,
    trigger: Arc<Notify>,
}

/// Where probes find statuses, and whom they tell about changes.
pub trait Surroundings: Send + Sync {
    /// The latest status of a pod.
    fn status(&self, uid: &str) -> Option<ApiPodStatus>;
    /// A result changed; the pod has to be looked at.
    fn changed(&self, uid: &str);
}

/// Probes of all pods.
pub struct ProbeManager {
    cri: cri::Client,
    events: Events,
    started: Timestamp,
    results: Mutex<HashMap<(ContainerId, Kind), ProbeResult>>,
    workers: Mutex<HashMap<WorkerKey, Worker>>,
}

/// What a worker knows between questions.
#[derive(Debug, Default)]
struct Memory {
    container: Option<ContainerId>,
    /// Nothing is asked until there is a new container.
    on_hold: bool,
    last: Option<ProbeResult>,
    in_a_row: i32,
}

/// What to do at a tick.
#[derive(Debug, PartialEq)]
enum Tick {
    /// Wait for the next one.
    Wait,
    /// Ask the container.
    Ask,
    /// Never ask again.
    End,
}

impl ProbeManager {
    /// `started` is when this kubelet started.
    pub fn new(cri: cri::Client, events: Events, started: Timestamp) -> Self {
        Self { cri, events, started, results: Mutex::default(), workers: Mutex::default() }
    }

    /// Starts the pod's probes, unless they run.
    pub fn add(self: &Arc<Self>, pod: &Arc<Pod>, around: &Arc<dyn Surroundings>, stop: &CancellationToken) {
        let spec = pod.spec();
        let sidecars = init_containers(spec).iter().filter(|c| is_sidecar(c));
        for container in spec.containers.iter().chain(sidecars) {
            let probes = [
                (Kind::Startup, &container.startup_probe),
                (Kind::Readiness, &container.readiness_probe),
                (Kind::Liveness, &container.liveness_probe),
            ];
            for (kind, probe) in probes {
                let Some(probe) = probe else { continue };
                let key = (pod.uid().to_owned(), container.name.clone(), kind);
                let mut workers = self.workers.lock();
                if workers.contains_key(&key) {
                    continue;
                }
                let worker = Worker { stop: stop.child_token(), trigger: Arc::new(Notify::new()) };
                let task = Task {
                    manager: self.clone(),
                    around: around.clone(),
                    pod: pod.clone(),
                    container: container.clone(),
                    probe: probe.clone(),
                    kind,
                    trigger: worker.trigger.clone(),
                };
                let stop = worker.stop.clone();
                workers.insert(key, worker);
                tokio::spawn(async move {
                    tokio::select! {
                        () = task.run() => {}
                        () = stop.cancelled() => {}
                    }
                    task.end();
                });
            }
        }
    }

    /// Ends the probes that could restart containers, for a pod that is being stopped.
    pub fn stop_restarts(&self, uid: &str) {
        self.stop(|key| key.0 == uid && key.2 != Kind::Readiness);
    }

    /// Ends all probes of a pod.
    pub fn remove(&self, uid: &str) {
        self.stop(|key| key.0 == uid);
    }

    fn stop(&self, which: impl Fn(&WorkerKey) -> bool) {
        for (_, worker) in self.workers.lock().iter().filter(|(key, _)| which(key)) {
            worker.stop.cancel();
        }
    }

    fn result(&self, id: &ContainerId, kind: Kind) -> Option<ProbeResult> {
        self.results.lock().get(&(id.clone(), kind)).copied()
    }

    fn set(&self, id: &ContainerId, kind: Kind, result: ProbeResult) -> bool {
        self.results.lock().insert((id.clone(), kind), result) != Some(result)
    }

    fn state(&self, pod: &Pod, status: &ContainerStatus, kind: Kind) -> ProbeState {
        let id = status.container_id.as_deref().and_then(ContainerId::parse).unwrap_or_default();
        match self.result(&id, kind) {
            Some(ProbeResult::Success) => return ProbeState::Success,
            Some(ProbeResult::Failure) => return ProbeState::Failure,
            Some(ProbeResult::Unknown) => return ProbeState::Pending,
            None => {}
        }
        let key = (pod.uid().to_owned(), status.name.clone(), kind);
        let worker = self.workers.lock().get(&key).map(|w| w.trigger.clone());
        let has_probe = worker.is_some() || declares(pod, &status.name, kind);
        if let Some(trigger) = worker.filter(|_| kind == Kind::Readiness) {
            trigger.notify_one();
        }
        match has_probe {
            false => ProbeState::None,
            true if self.inherited(status) => ProbeState::Inherited,
            true => ProbeState::Pending,
        }
    }

    /// True if the container ran before this kubelet did.
    fn inherited(&self, status: &ContainerStatus) -> bool {
        let running = status.state.as_ref().and_then(|s| s.running.as_ref());
        let at = running.and_then(|r| r.started_at.as_ref()).map(|t| t.0);
        at.is_some_and(|at| self.started.checked_sub(INHERITED_MARGIN).is_ok_and(|margin| at < margin))
    }
}

fn declares(pod: &Pod, container: &str, kind: Kind) -> bool {
    let spec = pod.spec();
    let found = spec.containers.iter().chain(init_containers(spec)).find(|c| c.name == container);
    found.is_some_and(|c| match kind {
        Kind::Startup => c.startup_probe.is_some(),
        Kind::Liveness => c.liveness_probe.is_some(),
        Kind::Readiness => c.readiness_probe.is_some(),
    })
}

impl Probes for ProbeManager {
    fn liveness(&self, id: &ContainerId) -> Option<ProbeResult> {
        self.result(id, Kind::Liveness)
    }
    fn startup(&self, id: &ContainerId) -> Option<ProbeResult> {
        self.result(id, Kind::Startup)
    }
}

impl ProbeStates for ProbeManager {
    fn startup(&self, pod: &Pod, status: &ContainerStatus) -> ProbeState {
        self.state(pod, status, Kind::Startup)
    }
    fn readiness(&self, pod: &Pod, status: &ContainerStatus) -> ProbeState {
        self.state(pod, status, Kind::Readiness)
    }
}

struct Task {
    manager: Arc<ProbeManager>,
    around: Arc<dyn Surroundings>,
    pod: Arc<Pod>,
    container: Container,
    probe: Probe,
    kind: Kind,
    trigger: Arc<Notify>,
}

impl Task {
    async fn run(&self) {
        let period =
            Duration::from_secs(self.probe.period_seconds.unwrap_or(10).max(1).unsigned_abs().into());
        let up =
            Duration::try_from(Timestamp::now().duration_since(self.manager.started)).unwrap_or_default();
        if up < period {
            // After a restart all probes would otherwise ask at the same moment.
            let part = rand::rng().random::<f64>();
            tokio::time::sleep(period.mul_f64(part)).await;
        }
        let mut memory = Memory::default();
        let mut next = Instant::now();
        loop {
            let status = self.around.status(self.pod.uid());
            match self.tick(&mut memory, status.as_ref(), Timestamp::now()) {
                Tick::End => return,
                Tick::Wait => {}
                Tick::Ask => self.ask(&mut memory, status.unwrap_or_default()).await,
            }
            // Missed ticks are not made up for.
            next = (next + period).max(Instant::now());
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.trigger.notified() => next = Instant::now(),
            }
        }
    }

    fn whom(&self) -> Probed<'_> {
        let pod = (self.pod.name(), self.pod.namespace(), self.pod.uid());
        Probed { kind: self.kind.as_str(), container: &self.container.name, pod }
    }

    fn end(&self) {
        crate::metrics::forget_probes(self.whom());
        let key = (self.pod.uid().to_owned(), self.container.name.clone(), self.kind);
        self.manager.workers.lock().remove(&key);
        // Results of containers that no worker looks after any more.
        let status = self.around.status(self.pod.uid()).unwrap_or_default();
        if let Some(id) =
            self.own_status(&status).and_then(|s| ContainerId::parse(s.container_id.as_deref()?))
        {
            self.manager.results.lock().remove(&(id, self.kind));
        }
    }

    fn own_status<'a>(&self, status: &'a ApiPodStatus) -> Option<&'a ContainerStatus> {
        let lists = [&status.container_statuses, &status.init_container_statuses];
        lists.into_iter().flatten().flatten().find(|s| s.name == self.container.name)
    }

    /// Decides what to do now; sets the first result of a new container.
    fn tick(&self, memory: &mut Memory, status: Option<&ApiPodStatus>, now: Timestamp) -> Tick {
        let Some(status) = status else { return Tick::Wait };
        if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
            return Tick::End;
        }
        let Some(own) = self.own_status(status) else { return Tick::Wait };
        let Some(id) = own.container_id.as_deref().and_then(ContainerId::parse) else { return Tick::Wait };
        if memory.container.as_ref() != Some(&id) {
            self.new_container(memory, &id, own);
        }
        if memory.on_hold {
            return Tick::Wait;
        }
        let state = own.state.clone().unwrap_or_default();
        let Some(running) = state.running else {
            self.tell(&id, ProbeResult::Failure);
            let Some(ended) = state.terminated else { return Tick::Wait };
            let again = restarts_after(&self.container, self.pod.spec(), ended.exit_code);
            return if again { Tick::Wait } else { Tick::End };
        };
        if self.pod.is_deleted() && self.kind != Kind::Readiness {
            self.tell(&id, ProbeResult::Success);
            return Tick::End;
        }
        let delay = i64::from(self.probe.initial_delay_seconds.unwrap_or(0));
        if running.started_at.is_some_and(|at| now.duration_since(at.0).as_secs() < delay) {
            return Tick::Wait;
        }
        let started = own.started == Some(true);
        if started == (self.kind == Kind::Startup) { Tick::Wait } else { Tick::Ask }
    }

    fn new_container(&self, memory: &mut Memory, id: &ContainerId, own: &ContainerStatus) {
        if let Some(old) = &memory.container {
            self.manager.results.lock().remove(&(old.clone(), self.kind));
        }
        *memory = Memory { container: Some(id.clone()), ..Memory::default() };
        let initial = match self.kind {
            Kind::Readiness => ProbeResult::Failure,
            Kind::Liveness => ProbeResult::Success,
            Kind::Startup => ProbeResult::Unknown,
        };
        let inherited = self.manager.inherited(own);
        if self.kind == Kind::Startup && is_sidecar(&self.container) && own.started == Some(true) {
            // Whether the pod is initialized depends on it.
            self.tell(id, ProbeResult::Success);
        } else if !inherited {
            self.tell(id, initial);
        }
    }

    fn tell(&self, id: &ContainerId, result: ProbeResult) {
        if self.manager.set(id, self.kind, result) {
            self.around.changed(self.pod.uid());
        }
    }

    async fn ask(&self, memory: &mut Memory, status: ApiPodStatus) {
        let Some(id) = memory.container.clone() else { return };
        let ip = status.pod_ip.unwrap_or_default();
        let begin = Instant::now();
        let mut found = Found::Unasked(String::new());
        for _ in 0..TRIES {
            found = check(&self.manager.cri, &self.probe, &self.container, &id.id, &ip).await;
            if !matches!(found, Found::Unasked(_)) {
                break;
            }
        }
        let counted = match &found {
            Found::Success | Found::Warning(_) => "successful",
            Found::Failure(_) => "failed",
            Found::Unasked(_) => "unknown",
        };
        crate::metrics::probed(self.whom(), counted, begin.elapsed());
        let kind = self.kind.as_str();
        let warn = |reason: &str, message: String| {
            self.manager.events.container_warning(&self.pod, &self.container.name, reason, &message);
        };
        let result = match found {
            Found::Success => ProbeResult::Success,
            Found::Warning(text) => {
                warn("ProbeWarning", format!("{kind} probe warning: {text}"));
                ProbeResult::Success
            }
            Found::Failure(text) => {
                warn("Unhealthy", format!("{kind} probe failed: {text}"));
                ProbeResult::Failure
            }
            Found::Unasked(text) => {
                warn("Unhealthy", format!("{kind} probe errored and resulted in unknown state: {text}"));
                return;
            }
        };
        if let Some(result) = self.count(memory, result) {
            self.tell(&id, result);
        }
    }

    /// Counts answers in a row; a result once they reach the threshold.
    fn count(&self, memory: &mut Memory, result: ProbeResult) -> Option<ProbeResult> {
        if memory.last == Some(result) {
            memory.in_a_row = memory.in_a_row.saturating_add(1);
        } else {
            memory.last = Some(result);
            memory.in_a_row = 1;
        }
        let threshold = match result {
            ProbeResult::Success => self.probe.success_threshold.unwrap_or(1),
            _ => self.probe.failure_threshold.unwrap_or(3),
        };
        if memory.in_a_row < threshold {
            return None;
        }
        if self.kind == Kind::Startup || (self.kind == Kind::Liveness && result == ProbeResult::Failure) {
            // The container has started, or is going to be replaced: no more questions for this one.
            memory.on_hold = true;
            memory.in_a_row = 0;
        }
        Some(result)
    }
}
