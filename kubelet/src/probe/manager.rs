//! One task per probe, and the results. Upstream: pkg/kubelet/prober/prober_manager.go and worker.go, v1.37.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus as ApiPodStatus, Probe};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
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

/// Where probes find pods and statuses, and whom they tell about changes.
pub trait Surroundings: Send + Sync {
    /// A pod as its worker knows it.
    fn pod(&self, uid: &str) -> Option<Arc<Pod>>;
    /// The latest status of a pod.
    fn status(&self, uid: &str) -> Option<Arc<ApiPodStatus>>;
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
                if probe.is_none() {
                    continue;
                }
                let key = (pod.uid().to_owned(), container.name.clone(), kind);
                let mut workers = self.workers.lock();
                if workers.contains_key(&key) {
                    continue;
                }
                let worker = Worker { stop: stop.child_token(), trigger: Arc::new(Notify::new()) };
                let task = Task {
                    manager: self.clone(),
                    around: around.clone(),
                    pod: [pod.name(), pod.namespace(), pod.uid()].map(str::to_owned),
                    container: container.name.clone(),
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
        let has_probe = worker.is_some() || Asked::find(pod, &status.name, kind).is_some();
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

/// Lives as long as its container may run, so it holds names only: a pod that it held would soon be an outdated one.
struct Task {
    manager: Arc<ProbeManager>,
    around: Arc<dyn Surroundings>,
    /// Name, namespace and id.
    pod: [String; 3],
    container: String,
    kind: Kind,
    trigger: Arc<Notify>,
}

/// Whom a task asks, and how, as the pod has it now.
#[derive(Clone, Copy)]
struct Asked<'a> {
    pod: &'a Pod,
    container: &'a Container,
    probe: &'a Probe,
}

impl<'a> Asked<'a> {
    fn find(pod: &'a Pod, name: &str, kind: Kind) -> Option<Self> {
        let spec = pod.spec();
        let container = spec.containers.iter().chain(init_containers(spec)).find(|c| c.name == name)?;
        let probe = match kind {
            Kind::Startup => &container.startup_probe,
            Kind::Liveness => &container.liveness_probe,
            Kind::Readiness => &container.readiness_probe,
        };
        Some(Self { pod, container, probe: probe.as_ref()? })
    }

    fn period(&self) -> Duration {
        Duration::from_secs(self.probe.period_seconds.unwrap_or(10).max(1).unsigned_abs().into())
    }
}

impl Task {
    fn uid(&self) -> &str {
        let [_, _, uid] = &self.pod;
        uid
    }

    async fn run(&self) {
        let up =
            Duration::try_from(Timestamp::now().duration_since(self.manager.started)).unwrap_or_default();
        let (mut memory, mut first) = (Memory::default(), true);
        let mut next = Instant::now();
        loop {
            let Some(pod) = self.around.pod(self.uid()) else { return };
            let Some(asked) = Asked::find(&pod, &self.container, self.kind) else { return };
            let period = asked.period();
            if std::mem::take(&mut first) && up < period {
                // After a restart all probes would otherwise ask at the same moment.
                drop(pod);
                tokio::time::sleep(period.mul_f64(rand::random::<f64>())).await;
                next = Instant::now();
                continue;
            }
            let status = self.around.status(self.uid());
            match self.tick(asked, &mut memory, status.as_deref(), Timestamp::now()) {
                Tick::End => return,
                Tick::Wait => {}
                Tick::Ask => self.ask(asked, &mut memory, &status.unwrap_or_default()).await,
            }
            drop(pod);
            // Missed ticks are not made up for.
            next = (next + period).max(Instant::now());
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.trigger.notified() => next = Instant::now(),
            }
        }
    }

    fn whom(&self) -> Probed<'_> {
        let [name, namespace, uid] = &self.pod;
        Probed { kind: self.kind.as_str(), container: &self.container, pod: (name, namespace, uid) }
    }

    fn end(&self) {
        crate::metrics::forget_probes(self.whom());
        let key = (self.uid().to_owned(), self.container.clone(), self.kind);
        self.manager.workers.lock().remove(&key);
        // Results of containers that no worker looks after any more.
        let status = self.around.status(self.uid()).unwrap_or_default();
        if let Some(id) =
            self.own_status(&status).and_then(|s| ContainerId::parse(s.container_id.as_deref()?))
        {
            self.manager.results.lock().remove(&(id, self.kind));
        }
    }

    fn own_status<'a>(&self, status: &'a ApiPodStatus) -> Option<&'a ContainerStatus> {
        let lists = [&status.container_statuses, &status.init_container_statuses];
        lists.into_iter().flatten().flatten().find(|s| s.name == self.container)
    }

    /// Decides what to do now; sets the first result of a new container.
    fn tick(
        &self,
        asked: Asked<'_>,
        memory: &mut Memory,
        status: Option<&ApiPodStatus>,
        now: Timestamp,
    ) -> Tick {
        let Some(status) = status else { return Tick::Wait };
        if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
            return Tick::End;
        }
        let Some(own) = self.own_status(status) else { return Tick::Wait };
        let Some(id) = own.container_id.as_deref().and_then(ContainerId::parse) else { return Tick::Wait };
        if memory.container.as_ref() != Some(&id) {
            self.new_container(asked.container, memory, &id, own);
        }
        if memory.on_hold {
            return Tick::Wait;
        }
        let state = own.state.as_ref();
        let Some(running) = state.and_then(|state| state.running.as_ref()) else {
            self.tell(&id, ProbeResult::Failure);
            let Some(ended) = state.and_then(|state| state.terminated.as_ref()) else { return Tick::Wait };
            let again = restarts_after(asked.container, asked.pod.spec(), ended.exit_code);
            return if again { Tick::Wait } else { Tick::End };
        };
        if asked.pod.is_deleted() && self.kind != Kind::Readiness {
            self.tell(&id, ProbeResult::Success);
            return Tick::End;
        }
        let delay = i64::from(asked.probe.initial_delay_seconds.unwrap_or(0));
        if running.started_at.as_ref().is_some_and(|at| now.duration_since(at.0).as_secs() < delay) {
            return Tick::Wait;
        }
        let started = own.started == Some(true);
        if started == (self.kind == Kind::Startup) { Tick::Wait } else { Tick::Ask }
    }

    fn new_container(
        &self,
        container: &Container,
        memory: &mut Memory,
        id: &ContainerId,
        own: &ContainerStatus,
    ) {
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
        if self.kind == Kind::Startup && is_sidecar(container) && own.started == Some(true) {
            // Whether the pod is initialized depends on it.
            self.tell(id, ProbeResult::Success);
        } else if !inherited {
            self.tell(id, initial);
        }
    }

    fn tell(&self, id: &ContainerId, result: ProbeResult) {
        if self.manager.set(id, self.kind, result) {
            self.around.changed(self.uid());
        }
    }

    async fn ask(&self, asked: Asked<'_>, memory: &mut Memory, status: &ApiPodStatus) {
        let Some(id) = memory.container.clone() else { return };
        let ip = status.pod_ip.as_deref().unwrap_or_default();
        let begin = Instant::now();
        let mut found = Found::Unasked(String::new());
        for _ in 0..TRIES {
            // Large, so a task that waits for its next question does not keep room for it.
            found = Box::pin(check(&self.manager.cri, asked.probe, asked.container, &id.id, ip)).await;
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
            self.manager.events.container_warning(asked.pod, &self.container, reason, &message);
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
        if let Some(result) = self.count(asked.probe, memory, result) {
            self.tell(&id, result);
        }
    }

    /// Counts answers in a row; a result once they reach the threshold.
    fn count(&self, probe: &Probe, memory: &mut Memory, result: ProbeResult) -> Option<ProbeResult> {
        if memory.last == Some(result) {
            memory.in_a_row = memory.in_a_row.saturating_add(1);
        } else {
            memory.last = Some(result);
            memory.in_a_row = 1;
        }
        let threshold = match result {
            ProbeResult::Success => probe.success_threshold.unwrap_or(1),
            _ => probe.failure_threshold.unwrap_or(3),
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Around {
        pod: Mutex<Option<Arc<Pod>>>,
        status: ApiPodStatus,
    }

    impl Surroundings for Around {
        fn pod(&self, _: &str) -> Option<Arc<Pod>> {
            self.pod.lock().clone()
        }
        fn status(&self, _: &str) -> Option<Arc<ApiPodStatus>> {
            Some(Arc::new(self.status.clone()))
        }
        fn changed(&self, _: &str) {}
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_hold_no_pod_and_end_with_it() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"uid": "u", "name": "p", "namespace": "n"},
            "spec": {"containers": [{"name": "c",
                "readinessProbe": {"tcpSocket": {"port": 1, "host": "127.0.0.1"}, "failureThreshold": 1}}]}}))
        .unwrap();
        let status = serde_json::from_value(json!({"phase": "Running", "containerStatuses": [{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "started": true,
            "containerID": "r://1", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}))
        .unwrap();
        let pod = Arc::new(pod);
        let around = Arc::new(Around { pod: Mutex::new(Some(pod.clone())), status });
        let cri = cri::Client::connect("unix:///nonexistent/x.sock", Duration::from_secs(1)).unwrap();
        let manager = Arc::new(ProbeManager::new(cri, Events::default(), Timestamp::UNIX_EPOCH));
        let surroundings: Arc<dyn Surroundings> = around.clone();
        let stop = CancellationToken::new();
        manager.add(&pod, &surroundings, &stop);
        let id = ContainerId::parse("r://1").unwrap();
        while manager.result(&id, Kind::Readiness).is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(manager.result(&id, Kind::Readiness), Some(ProbeResult::Failure));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!((Arc::strong_count(&pod), manager.workers.lock().len()), (2, 1));
        *around.pod.lock() = None;
        while !manager.workers.lock().is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(manager.result(&id, Kind::Readiness), None);
    }
}
