//! Keeps promises, and tries again what could not be promised.
//!
//! Who decides what fits, and where events go, is an argument ([`Around`]). Upstream: allocation_manager.go and the parts of
//! status_manager.go that it uses, v1.37.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::changes;
use super::conditions::{Conditions, DEFERRED, INFEASIBLE, Why};
use super::messages;
use super::order::{self, Waiting};
use super::resources::PodResources;
use super::state::{ALLOCATED, State};
use crate::admission::Rejection;
use crate::metrics::resizes::{self, Resolution};
use crate::pod::qos::qos_class;
use crate::pod::store::PodStore;
use crate::pod::view::PodView;

/// While not all sources of pods have spoken, waiting changes are tried again so often.
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// Nothing else having happened, waiting changes are tried again so often.
const RETRY: Duration = Duration::from_secs(180);

/// What the manager needs of the rest of the kubelet.
pub trait Around: Send + Sync {
    /// Whether the pod may have what it asks for beside all others.
    ///
    /// # Errors
    /// The first reason against it.
    fn admit(&self, pod: &Pod, promised: &Pod) -> Result<(), Rejection>;
    /// The pod's worker is to look at it now.
    fn sync(&self, uid: &str);
    /// Something happened to the pod; `warning` if it is not what was asked for.
    fn event(&self, pod: &Pod, warning: bool, reason: &str, message: &str);
    /// The time.
    fn now(&self) -> Timestamp;
}

/// Promises to pods.
pub struct Allocations {
    promised: Mutex<State>,
    conditions: Mutex<Conditions>,
    waiting: Mutex<Vec<String>>,
    pods: Arc<PodStore>,
    /// One decision at a time: each depends on what was promised before.
    turn: Mutex<()>,
    ready: AtomicBool,
    tried: Notify,
}

impl Allocations {
    /// Goes on with what a former kubelet promised.
    ///
    /// # Errors
    /// If that is not known any more.
    pub fn open(folder: &Path, pods: Arc<PodStore>) -> Result<Self, String> {
        Ok(Self {
            promised: Mutex::new(State::open(folder, ALLOCATED)?),
            conditions: Mutex::default(),
            waiting: Mutex::default(),
            pods,
            turn: Mutex::default(),
            ready: AtomicBool::new(false),
            tried: Notify::new(),
        })
    }

    /// Held while it is decided whether a pod fits, until that is recorded.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// All sources of pods have spoken: pods that did not come are gone.
    pub fn sources_ready(&self) {
        self.promised.lock().retain(|uid| self.pods.get(uid).is_some());
        self.ready.store(true, Ordering::Relaxed);
    }

    /// True if the pod was promised anything.
    pub fn has(&self, uid: &str) -> bool {
        self.promised.lock().get(uid).is_some()
    }

    /// The pod with what it was promised, and true if that is not what it asks for.
    pub fn promised(&self, pod: &Arc<Pod>) -> (Arc<Pod>, bool) {
        let known = self.promised.lock().get(pod.uid()).cloned();
        match known.and_then(|known| known.apply(pod)) {
            Some(changed) => (changed, true),
            None => (pod.clone(), false),
        }
    }

    /// Promises the pod what it asks for.
    ///
    /// # Errors
    /// If that cannot be written down.
    pub fn promise(&self, pod: &Pod) -> Result<(), String> {
        self.promised.lock().set(pod.uid(), Arc::new(PodResources::of(pod)))
    }

    /// The pod is not wanted any more: what it was promised is free.
    pub fn forget(&self, uid: &str) {
        self.promised.lock().remove(uid);
    }

    /// Nothing is left of the pod.
    pub fn gone(&self, uid: &str, now: Timestamp) {
        self.forget(uid);
        let gone = self.conditions.lock().remove(uid);
        if let Some(pair) = gone {
            self.resolved(uid, pair.pending.as_ref(), Resolution::Terminated, now);
            self.count();
        }
    }

    /// The pod asks for something else than it was promised.
    pub fn push(&self, uid: &str) {
        let _turn = self.turn();
        let mut waiting = self.waiting.lock();
        if waiting.iter().any(|known| known == uid) {
            return;
        }
        waiting.push(uid.to_owned());
        let mut all: Vec<Waiting> =
            waiting.iter().filter_map(|uid| self.pods.get(uid)).map(|pod| self.judge(&pod)).collect();
        order::sort(&mut all);
        *waiting = all.into_iter().map(|waiting| waiting.uid).collect();
    }

    fn judge(&self, pod: &Arc<Pod>) -> Waiting {
        let (promised, differs) = self.promised(pod);
        let pending = self.conditions.lock().get(pod.uid()).pending;
        Waiting {
            uid: pod.uid().to_owned(),
            asks_for_more: differs && changes::asks_for_more(&promised, pod),
            priority: pod.spec().priority.unwrap_or_default(),
            class: qos_class(pod),
            since: pending.and_then(|pending| pending.last_transition_time).map(|time| time.0),
        }
    }

    /// True if a pod waits for other resources.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.lock().is_empty()
    }

    /// Tries again what waits, in order. `trigger` says why it may fit now.
    pub fn retry(&self, around: &dyn Around, trigger: &str) {
        if !self.has_waiting() {
            return;
        }
        let _turn = self.turn();
        self.tried.notify_one();
        if !self.ready.load(Ordering::Relaxed) {
            return;
        }
        let all = std::mem::take(&mut *self.waiting.lock());
        let still = all
            .into_iter()
            .filter(|uid| self.pods.get(uid).is_some_and(|pod| self.try_one(&pod, around, trigger)));
        let still: Vec<String> = still.collect();
        *self.waiting.lock() = still;
    }

    /// Tries one pod; true if it is to be tried again.
    fn try_one(&self, pod: &Arc<Pod>, around: &dyn Around, trigger: &str) -> bool {
        let uid = pod.uid();
        let before = self.conditions.lock().get(uid);
        let waited = self.conditions.lock().is_deferred(uid);
        let (taken, failed) = match self.decide(pod, around) {
            Ok(taken) => (taken, false),
            Err(error) => {
                tracing::error!(pod = pod.log_name(), error, "Failed to handle pod resources resize");
                (false, true)
            }
        };
        let (again, never) = {
            let conditions = self.conditions.lock();
            (failed || conditions.is_deferred(uid), conditions.is_infeasible(uid))
        };
        if waited && !again && !never {
            resizes::accepted(trigger);
        }
        if taken || self.conditions.lock().get(uid) != before {
            around.sync(uid);
        }
        again
    }

    /// Upstream: handlePodResourcesResize. True if the pod was promised what it asks for.
    fn decide(&self, pod: &Arc<Pod>, around: &dyn Around) -> Result<bool, String> {
        let (promised, differs) = self.promised(pod);
        let now = around.now();
        if !differs {
            self.clear_pending(pod.uid(), Resolution::Reverted, now);
            return Ok(false);
        }
        match around.admit(pod, &promised) {
            Ok(()) => {
                self.promise(pod)?;
                self.clear_pending(pod.uid(), Resolution::Accepted, now);
                let mut conditions = self.conditions.lock();
                conditions.clear_in_progress(pod.uid());
                conditions.set_in_progress(pod, ("", ""), now);
                drop(conditions);
                self.count_progress();
                around.event(pod, false, "ResizeStarted", &messages::started(pod));
                Ok(true)
            }
            Err(Rejection { reason, message }) => {
                tracing::info!(
                    pod = pod.log_name(),
                    reason,
                    message,
                    operation = "resize",
                    "Pod admission denied"
                );
                let first = self.conditions.lock().get(pod.uid()).pending.is_none();
                let is_new = self.conditions.lock().set_pending(pod, (&reason, &message), now);
                // Not when only the reason is another, as upstream.
                if first {
                    self.count();
                }
                if is_new {
                    let event = if reason == INFEASIBLE { "ResizeInfeasible" } else { "ResizeDeferred" };
                    around.event(pod, true, event, &messages::pending(pod, &reason, &message));
                }
                Ok(false)
            }
        }
    }

    /// Nothing waits any more.
    pub fn clear_pending(&self, uid: &str, resolution: Resolution, now: Timestamp) {
        let gone = self.conditions.lock().clear_pending(uid);
        if gone.is_some() {
            self.resolved(uid, gone.as_ref(), resolution, now);
            self.count();
        }
    }

    /// A change is under way; see [`Conditions::set_in_progress`].
    pub fn set_in_progress(&self, pod: &Pod, why: Why<'_>, now: Timestamp) -> (Option<i64>, bool) {
        let said = self.conditions.lock().set_in_progress(pod, why, now);
        self.count_progress();
        said
    }

    /// Nothing is under way any more; what was said.
    pub fn clear_in_progress(&self, uid: &str) -> Option<PodCondition> {
        let gone = self.conditions.lock().clear_in_progress(uid);
        if gone.is_some() {
            self.count_progress();
        }
        gone
    }

    /// Takes what a former kubelet said of the pod.
    pub fn backfill(&self, pod: &Pod, now: Timestamp) {
        self.conditions.lock().backfill(pod, now);
        self.count();
    }

    /// What the pod's status is to say.
    pub fn conditions(&self, uid: &str) -> Vec<PodCondition> {
        self.conditions.lock().list(uid)
    }

    fn resolved(&self, uid: &str, pending: Option<&PodCondition>, how: Resolution, now: Timestamp) {
        let deferred = pending.filter(|pending| pending.reason.as_deref() == Some(DEFERRED));
        let Some(since) = deferred.and_then(|pending| pending.last_transition_time.as_ref()) else { return };
        let took = Duration::try_from(now.duration_since(since.0)).unwrap_or_default();
        resizes::resolved(how, self.pods.get(uid).as_deref(), took);
    }

    fn count(&self) {
        let conditions = self.conditions.lock();
        let known = conditions.iter().filter(|(_, pair)| pair.pending.is_some());
        let pending = known.filter_map(|(uid, pair)| {
            Some((pair.pending.as_ref()?.reason.clone().unwrap_or_default(), self.pods.get(uid)?))
        });
        resizes::pending(pending);
        drop(conditions);
        self.count_progress();
    }

    fn count_progress(&self) {
        let conditions = self.conditions.lock();
        resizes::in_progress(conditions.iter().filter(|(_, pair)| pair.in_progress.is_some()).count());
    }

    /// Tries again by and by what waits, until `stop`.
    pub async fn run(self: Arc<Self>, around: Arc<dyn Around>, stop: CancellationToken) {
        loop {
            let pause = if self.ready.load(Ordering::Relaxed) { RETRY } else { FIRST_RETRY };
            let waiting = self.has_waiting();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.tried.notified() => {}
                () = tokio::time::sleep(pause), if waiting => self.retry(around.as_ref(), resizes::PERIODIC),
            }
        }
    }
}
