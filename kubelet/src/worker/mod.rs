//! One task per pod, which carries it from its first sync to its last trace on the node.
//!
//! A worker always acts on the latest pod it was given; updates in between coalesce. The three phases are one-way.
//! Upstream: pkg/kubelet/pod_workers.go, v1.37.

mod mailbox;
mod phase;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use traces::Span;

pub use mailbox::Kill;
use mailbox::Mailbox;
pub use phase::Phase;

use crate::metrics::{pods, work};
use crate::pod::view::PodView;
use crate::spans::{self, Spans};
use crate::status::generate::Eviction;

/// After an error, plus up to half of it.
const RETRY: Duration = Duration::from_secs(10);

/// What came of a sync.
#[derive(Debug, Default)]
pub struct Synced {
    /// True if the pod has ended by itself.
    pub ended: bool,
    /// When to look again; `None` for the usual time.
    pub again: Option<Duration>,
}

/// The steps that a worker takes. Errors are retried.
#[async_trait]
pub trait Steps: Send + Sync + 'static {
    /// Brings a pod to its desired state. May be dropped half way when the pod is to be stopped.
    async fn sync(&self, pod: &Arc<Pod>) -> Result<Synced, String>;
    /// Stops everything that runs of a pod.
    async fn stop(
        &self,
        pod: &Arc<Pod>,
        grace: Option<i64>,
        eviction: Option<Eviction>,
    ) -> Result<(), String>;
    /// Removes what a stopped pod holds.
    async fn clean_up(&self, pod: &Arc<Pod>) -> Result<(), String>;
    /// Called once nothing is left to do for a pod.
    async fn finished(&self, uid: &str);
}

struct Entry {
    mailbox: Arc<Mailbox>,
    phase: Phase,
    full_name: String,
    is_static: bool,
    /// A static pod whose file came again while it was being stopped.
    again: bool,
}

/// All workers.
pub struct Workers {
    steps: Arc<dyn Steps>,
    /// A pod without events is looked at again after this time, plus up to half of it.
    resync: Duration,
    spans: Spans,
    entries: Mutex<HashMap<String, Entry>>,
    /// A pod is in another phase.
    moved: Notify,
    stop: CancellationToken,
}

impl Workers {
    /// Workers end with `stop`; what they stopped half way is taken up after the next start.
    pub fn new(steps: Arc<dyn Steps>, resync: Duration, spans: Spans, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { steps, resync, spans, entries: Mutex::default(), moved: Notify::new(), stop })
    }

    /// A pod is new or has changed.
    pub fn update(self: &Arc<Self>, pod: Arc<Pod>) {
        let mut entries = self.entries.lock();
        let uid = pod.uid().to_owned();
        let mut again = false;
        if let Some(entry) = entries.get_mut(&uid) {
            let comes = entry.is_static && !pod.is_deleted();
            if !comes || entry.phase != Phase::Finished {
                entry.again |= comes && (entry.phase != Phase::Syncing || entry.mailbox.is_killed());
                entry.mailbox.update(pod);
                return;
            }
            again = true;
        }
        if again {
            pods::came_again(pod.is_static());
        }
        let mailbox = Arc::new(Mailbox::new(pod.clone()));
        let entry = Entry {
            mailbox: mailbox.clone(),
            phase: Phase::Syncing,
            full_name: pod.full_name(),
            is_static: pod.is_static(),
            again: false,
        };
        entries.insert(uid.clone(), entry);
        drop(entries);
        let (workers, stop, made) = (self.clone(), self.stop.clone(), Instant::now());
        tokio::spawn(async move {
            tokio::select! {
                () = workers.run(&uid, &mailbox, made) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Something about the pod changed on the runtime; look at it now.
    pub fn poke(&self, uid: &str) {
        if let Some(entry) = self.entries.lock().get(uid) {
            entry.mailbox.poke();
        }
    }

    /// The pod is to be stopped, whatever its spec says.
    pub fn kill(&self, uid: &str, kill: Kill) {
        if let Some(entry) = self.entries.lock().get(uid) {
            entry.mailbox.kill(kill);
        }
    }

    /// Where the pod is in its life; `None` if there is no worker.
    pub fn phase(&self, uid: &str) -> Option<Phase> {
        self.entries.lock().get(uid).map(|entry| entry.phase)
    }

    /// True if containers of the pod may run or be started.
    pub fn may_run(&self, uid: &str) -> bool {
        matches!(self.phase(uid), Some(Phase::Syncing | Phase::Terminating))
    }

    /// True if the pod is being stopped or has been.
    pub fn is_terminating(&self, uid: &str) -> bool {
        self.phase(uid).is_some_and(|phase| phase != Phase::Syncing)
    }

    /// All pods with workers, as metrics show them; `is_wanted` tells whether anybody wants a pod.
    pub fn working(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<pods::Working> {
        let entries = self.entries.lock();
        let one = |(uid, entry): (&String, &Entry)| pods::Working {
            phase: entry.phase,
            is_wanted: is_wanted(uid),
            is_static: entry.is_static,
        };
        entries.iter().map(one).collect()
    }

    /// Ids of all pods with a worker.
    pub fn known(&self) -> Vec<String> {
        self.entries.lock().keys().cloned().collect()
    }

    /// The pod as its worker last saw it.
    pub fn pod(&self, uid: &str) -> Option<Arc<Pod>> {
        self.entries.lock().get(uid).map(|entry| entry.mailbox.pod())
    }

    /// True if a finished static pod is to begin anew.
    pub fn comes_again(&self, uid: &str) -> bool {
        self.entries.lock().get(uid).is_some_and(|entry| entry.again && entry.phase == Phase::Finished)
    }

    /// True if a static pod of that name still has a worker.
    pub fn has_static(&self, full_name: &str) -> bool {
        let entries = self.entries.lock();
        entries.values().any(|e| e.is_static && e.full_name == full_name && e.phase != Phase::Finished)
    }

    /// Forgets a finished worker; true if it was finished (or there was none).
    pub fn forget_finished(&self, uid: &str) -> bool {
        let mut entries = self.entries.lock();
        match entries.get(uid) {
            Some(entry) if entry.phase != Phase::Finished => false,
            Some(_) => entries.remove(uid).is_some(),
            None => true,
        }
    }

    /// Static pods of one name run one after the other.
    fn has_turn(&self, uid: &str, pod: &Pod) -> bool {
        if !pod.is_static() {
            return true;
        }
        let name = pod.full_name();
        !(self.entries.lock().iter()).any(|(other, e)| {
            other != uid && e.is_static && e.full_name == name && e.phase != Phase::Finished
        })
    }

    fn set_phase(&self, uid: &str, phase: Phase) {
        if let Some(entry) = self.entries.lock().get_mut(uid) {
            entry.phase = phase;
        }
        self.moved.notify_waiters();
    }

    /// Waits until nothing is left to do for these pods.
    pub async fn until_finished(&self, uids: &[String]) {
        self.until(|| uids.iter().all(|uid| matches!(self.phase(uid), None | Some(Phase::Finished)))).await;
    }

    /// Waits until no container of these pods may run.
    pub async fn until_stopped(&self, uids: &[String]) {
        self.until(|| !uids.iter().any(|uid| self.may_run(uid))).await;
    }

    /// Waits until something about phases is true.
    async fn until(&self, is_true: impl Fn() -> bool) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Before the look, so that nothing is missed between it and the wait.
            moved.as_mut().enable();
            if is_true() {
                return;
            }
            moved.await;
        }
    }

    async fn run(&self, uid: &str, mailbox: &Mailbox, made: Instant) {
        let mut phase = Phase::Syncing;
        let mut pause = Duration::ZERO;
        let mut last: Option<Arc<Pod>> = None;
        while phase != Phase::Finished {
            mailbox.wait(pause).await;
            let (pod, kill, interrupt) = mailbox.take();
            phase = phase.next(&pod, kill.as_ref());
            self.set_phase(uid, phase);
            let (begin, operation) = (Instant::now(), operation(phase, last.as_ref(), &pod));
            if last.is_none() {
                pods::begins(pod.spec().containers.len(), begin.duration_since(made));
            }
            last = Some(pod.clone());
            pause = match phase {
                Phase::Syncing => self.sync(uid, mailbox, &pod, operation, interrupt).await,
                Phase::Terminating => {
                    let grace = kill.as_ref().and_then(|k| k.grace).or(deletion_grace(&pod));
                    let eviction = kill.and_then(|k| k.eviction);
                    let span = self.spans.pod("syncTerminatingPod", &pod, None);
                    let stop = span.run(self.steps.stop(&pod, grace, eviction));
                    tokio::select! {
                        result = stop => match told(&span, result) {
                            Ok(()) => {
                                phase = Phase::Terminated;
                                self.set_phase(uid, phase);
                                Duration::ZERO
                            }
                            Err(error) => retry(&pod, &error),
                        },
                        // A shorter grace period came: stop again with that.
                        () = interrupt.cancelled() => Duration::ZERO,
                    }
                }
                Phase::Terminated => match self.clean_up(&pod).await {
                    Ok(()) => {
                        phase = Phase::Finished;
                        self.set_phase(uid, phase);
                        Duration::ZERO
                    }
                    Err(error) => retry(&pod, &error),
                },
                Phase::Finished => Duration::ZERO,
            };
            work::worked(operation, begin.elapsed());
        }
        self.steps.finished(uid).await;
    }

    async fn clean_up(&self, pod: &Arc<Pod>) -> Result<(), String> {
        let span = self.spans.pod("syncTerminatedPod", pod, None);
        span.run(self.steps.clean_up(pod)).await
    }

    async fn sync(
        &self,
        uid: &str,
        mailbox: &Mailbox,
        pod: &Arc<Pod>,
        operation: &'static str,
        interrupt: CancellationToken,
    ) -> Duration {
        if !self.has_turn(uid, pod) {
            return Duration::from_secs(1);
        }
        let span = self.spans.pod("syncPod", pod, Some(operation));
        let result = tokio::select! {
            result = span.run(self.steps.sync(pod)) => told(&span, result),
            () = interrupt.cancelled() => return Duration::ZERO,
        };
        match result {
            Ok(Synced { ended: true, .. }) => {
                mailbox.kill(Kill::default());
                Duration::ZERO
            }
            Ok(Synced { again, .. }) => again.unwrap_or_else(|| spread(self.resync)),
            Err(error) => retry(pod, &error),
        }
    }
}

/// Tells a span how its step ended.
fn told<T>(span: &Span, result: Result<T, String>) -> Result<T, String> {
    spans::ended(span, &result);
    result
}

/// What a worker does now, as the metrics call it.
fn operation(phase: Phase, last: Option<&Arc<Pod>>, pod: &Arc<Pod>) -> &'static str {
    match (phase, last) {
        (Phase::Terminating, _) => "kill",
        (Phase::Terminated | Phase::Finished, _) => "terminated",
        (Phase::Syncing, None) => "create",
        (Phase::Syncing, Some(last)) if Arc::ptr_eq(last, pod) => "sync",
        (Phase::Syncing, Some(_)) => "update",
    }
}

/// Seconds that the deletion allows; a deletion without grace still gives one second.
fn deletion_grace(pod: &Pod) -> Option<i64> {
    pod.metadata.deletion_grace_period_seconds.map(|seconds| seconds.max(1))
}

fn retry(pod: &Pod, error: &str) -> Duration {
    tracing::error!(pod = pod.log_name(), pod_uid = pod.uid(), err = error, "Error syncing pod, skipping");
    spread(RETRY)
}

/// Up to half as much again, so that pods do not all come at once.
fn spread(base: Duration) -> Duration {
    base.mul_f64(1.0 + rand::random::<f64>() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Default)]
    struct Recorder {
        steps: Mutex<Vec<String>>,
        done: Notify,
    }

    #[async_trait]
    impl Steps for Recorder {
        async fn sync(&self, pod: &Arc<Pod>) -> Result<Synced, String> {
            self.steps.lock().push(format!("sync {}", pod.metadata.generation.unwrap_or(0)));
            self.done.notify_one();
            Ok(Synced::default())
        }
        async fn stop(&self, _: &Arc<Pod>, grace: Option<i64>, _: Option<Eviction>) -> Result<(), String> {
            self.steps.lock().push(format!("stop {grace:?}"));
            Ok(())
        }
        async fn clean_up(&self, _: &Arc<Pod>) -> Result<(), String> {
            self.steps.lock().push("clean up".into());
            Ok(())
        }
        async fn finished(&self, _: &str) {
            self.steps.lock().push("finished".into());
            self.done.notify_one();
        }
    }

    fn pod(generation: i64, deleted: bool) -> Arc<Pod> {
        let mut pod =
            json!({"metadata": {"uid": "u", "name": "p", "namespace": "n", "generation": generation}});
        if deleted {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[tokio::test]
    async fn static_pods_come_again() {
        let recorder = Arc::new(Recorder::default());
        let workers = Workers::new(
            recorder.clone(),
            Duration::from_secs(60),
            Spans::default(),
            CancellationToken::new(),
        );
        let from_file = || {
            let mut pod = Pod::clone(&pod(1, false));
            let source = (crate::pod::view::CONFIG_SOURCE_ANNOTATION.to_owned(), "file".to_owned());
            pod.metadata.annotations = Some([source].into());
            Arc::new(pod)
        };
        workers.update(from_file());
        recorder.done.notified().await;
        assert!(workers.has_static("p_n") && !workers.has_static("q_n"));
        workers.kill("u", Kill::default());
        workers.update(from_file());
        recorder.done.notified().await;
        assert!(workers.comes_again("u") && !workers.has_static("p_n"));
        workers.update(from_file());
        recorder.done.notified().await;
        assert!(!workers.comes_again("u") && workers.phase("u") == Some(Phase::Syncing));
        // One that ended by itself, or was stopped for another reason, does not.
        workers.kill("u", Kill::default());
        recorder.done.notified().await;
        assert!(!workers.comes_again("u"));
    }

    #[tokio::test]
    async fn from_sync_to_finish() {
        let recorder = Arc::new(Recorder::default());
        let workers = Workers::new(
            recorder.clone(),
            Duration::from_secs(60),
            Spans::default(),
            CancellationToken::new(),
        );
        workers.update(pod(1, false));
        recorder.done.notified().await;
        workers.poke("u");
        recorder.done.notified().await;
        workers.update(pod(2, true));
        workers.until_stopped(&["u".to_owned(), "unknown".to_owned()]).await;
        assert!(!workers.may_run("u"));
        recorder.done.notified().await;
        let expected = ["sync 1", "sync 1", "stop Some(1)", "clean up", "finished"];
        assert_eq!(*recorder.steps.lock(), expected);
        assert_eq!(workers.phase("u"), Some(Phase::Finished));
        assert!(workers.forget_finished("u"));
        assert_eq!(workers.phase("u"), None);
    }
}
