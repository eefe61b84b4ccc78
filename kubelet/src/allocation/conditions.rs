//! What is said about changes of pods' resources: that one waits, and why, or that one is under way.
//!
//! Upstream: pkg/kubelet/status/status_manager.go SetPodResizePendingCondition and those beside it, v1.37.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::pod::view::PodView;

/// The condition of a change that is not promised.
pub const PENDING: &str = "PodResizePending";
/// The condition of a change that is promised and not yet in force.
pub const IN_PROGRESS: &str = "PodResizeInProgress";
/// Why a change waits for room, or for anything else that may pass.
pub const DEFERRED: &str = "Deferred";
/// Why a change will never be taken as it is.
pub const INFEASIBLE: &str = "Infeasible";
/// Why a change that is promised is not in force: it was tried and failed.
pub const ERROR: &str = "Error";

/// The conditions of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pair {
    /// Of the change that is not promised.
    pub pending: Option<PodCondition>,
    /// Of the one that is being put in force.
    pub in_progress: Option<PodCondition>,
}

/// The conditions of all pods that have some.
#[derive(Debug, Default)]
pub struct Conditions(HashMap<String, Pair>);

/// A reason and a message, either may be empty.
pub type Why<'a> = (&'a str, &'a str);

fn condition(
    kind: &str,
    old: Option<&PodCondition>,
    (reason, message): Why<'_>,
    generation: Option<i64>,
    now: Timestamp,
) -> PodCondition {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let since = old.filter(|old| old.reason == text(reason)).and_then(|old| old.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        last_probe_time: Some(Time(now)),
        last_transition_time: since.or(Some(Time(now))),
        observed_generation: generation,
        reason: text(reason),
        message: text(message),
    }
}

impl Conditions {
    /// The conditions of a pod.
    pub fn get(&self, uid: &str) -> Pair {
        self.0.get(uid).cloned().unwrap_or_default()
    }

    /// The conditions of a pod as its status shows them.
    pub fn list(&self, uid: &str) -> Vec<PodCondition> {
        let Pair { pending, in_progress } = self.get(uid);
        pending.into_iter().chain(in_progress).collect()
    }

    /// All pods that have conditions.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Pair)> {
        self.0.iter()
    }

    /// A change is not promised; true if that is new or about another version of the pod. Whatever the reason, other than
    /// that it can never be, it may pass.
    pub fn set_pending(&mut self, pod: &Pod, (reason, message): Why<'_>, now: Timestamp) -> bool {
        let reason = if reason == INFEASIBLE { INFEASIBLE } else { DEFERRED };
        let generation = pod.metadata.generation;
        let pair = self.0.entry(pod.uid().to_owned()).or_default();
        let new = condition(PENDING, pair.pending.as_ref(), (reason, message), generation, now);
        let is_new = (pair.pending.as_ref())
            .is_none_or(|old| old.reason != new.reason || old.observed_generation != generation);
        pair.pending = Some(new);
        is_new
    }

    /// A change is under way; the version of the pod that it is of, and true if something new is said. What was said about
    /// an error stays until the change is done or another one begins.
    pub fn set_in_progress(&mut self, pod: &Pod, why: Why<'_>, now: Timestamp) -> (Option<i64>, bool) {
        let pair = self.0.entry(pod.uid().to_owned()).or_default();
        let old = pair.in_progress.take();
        let kept = |text: &Option<String>| text.clone().unwrap_or_default();
        let (reason, message) = match (&old, why) {
            (Some(old), ("", "")) => (kept(&old.reason), kept(&old.message)),
            (_, (reason, message)) => (reason.to_owned(), message.to_owned()),
        };
        let generation = old.as_ref().map_or(pod.metadata.generation, |old| old.observed_generation);
        let new = condition(IN_PROGRESS, old.as_ref(), (&reason, &message), generation, now);
        let is_new = old.is_none_or(|old| old.reason != new.reason || old.message != new.message);
        pair.in_progress = Some(new);
        (generation, is_new)
    }

    /// Nothing waits any more; what was said.
    pub fn clear_pending(&mut self, uid: &str) -> Option<PodCondition> {
        let gone = self.0.get_mut(uid)?.pending.take();
        self.tidy(uid);
        gone
    }

    /// Nothing is under way any more; what was said.
    pub fn clear_in_progress(&mut self, uid: &str) -> Option<PodCondition> {
        let gone = self.0.get_mut(uid)?.in_progress.take();
        self.tidy(uid);
        gone
    }

    fn tidy(&mut self, uid: &str) {
        if self.0.get(uid).is_some_and(|pair| *pair == Pair::default()) {
            self.0.remove(uid);
        }
    }

    /// The pod is gone; what was said.
    pub fn remove(&mut self, uid: &str) -> Option<Pair> {
        self.0.remove(uid)
    }

    /// Takes what a former kubelet said. Its times are not known any more, as upstream.
    pub fn backfill(&mut self, pod: &Pod, now: Timestamp) {
        for old in pod.api_status().conditions.iter().flatten() {
            let why = (old.reason.as_deref().unwrap_or_default(), old.message.as_deref().unwrap_or_default());
            let new = |kind| Some(condition(kind, None, why, old.observed_generation, now));
            match old.type_.as_str() {
                PENDING => self.0.entry(pod.uid().to_owned()).or_default().pending = new(PENDING),
                IN_PROGRESS => self.0.entry(pod.uid().to_owned()).or_default().in_progress = new(IN_PROGRESS),
                _ => {}
            }
        }
    }

    fn waits_for(&self, uid: &str, reason: &str) -> bool {
        let pending = self.0.get(uid).and_then(|pair| pair.pending.as_ref());
        pending.is_some_and(|pending| pending.reason.as_deref() == Some(reason))
    }

    /// True if a change waits.
    pub fn is_deferred(&self, uid: &str) -> bool {
        self.waits_for(uid, DEFERRED)
    }

    /// True if a change can never be.
    pub fn is_infeasible(&self, uid: &str) -> bool {
        self.waits_for(uid, INFEASIBLE)
    }
}
