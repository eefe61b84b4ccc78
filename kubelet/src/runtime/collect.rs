//! Removing dead containers and sandboxes of the whole node: regularly, and before pods are evicted for want of disk.
//!
//! What goes is decided in [`super::garbage`]. Upstream: GarbageCollect in pkg/kubelet/kuberuntime/kuberuntime_gc.go, v1.37.

use std::collections::HashSet;

use k8s_openapi::jiff::Timestamp;

use super::garbage::{self, Dead};
use crate::kubelet::{Kubelet, nanoseconds};
use crate::pleg::Pleg;
use crate::worker::Phase;

/// What is worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// What people may want to look at.
    Regular,
    /// Nothing of pods that have ended: disk is short.
    Little,
}

/// Removes what need not be kept. Pods that are not wanted are dealt with where orphans are.
pub async fn collect(kubelet: &Kubelet, pleg: &Pleg, keep: Keep) {
    let is_gone = |uid: &str| is_evicted(kubelet, uid) || (keep == Keep::Little && has_ended(kubelet, uid));
    let is_wanted = |uid: &str| kubelet.pods.get(uid).is_some();
    let mut dead = Vec::new();
    pleg.each(|uid, pod| {
        if is_wanted(uid) {
            dead.extend(Dead::of(uid, pod));
        }
    });
    let mut removed = HashSet::new();
    for dead in garbage::containers(dead, is_gone, &kubelet.garbage, nanoseconds(Timestamp::now())) {
        match kubelet.runtime.collect(&dead).await {
            Ok(()) => drop(removed.insert(dead.id)),
            Err(error) => tracing::warn!(error, "Failed to collect container"),
        }
    }
    let mut sandboxes = Vec::new();
    pleg.each(|uid, pod| {
        if is_wanted(uid) {
            sandboxes.extend(garbage::sandboxes(pod, is_gone(uid), |id| removed.contains(id)));
        }
    });
    for id in sandboxes {
        kubelet.runtime.remove_sandbox(&id).await;
    }
}

/// True if the pod was evicted and has stopped: its containers tell nothing that its status does not.
fn is_evicted(kubelet: &Kubelet, uid: &str) -> bool {
    let status = kubelet.status.get(uid);
    let evicted = status.is_some_and(|s| s.reason.as_deref() == Some("Evicted"));
    evicted && kubelet.workers().is_some_and(|workers| !workers.may_run(uid))
}

/// True if nothing of the pod will run again here.
fn has_ended(kubelet: &Kubelet, uid: &str) -> bool {
    let phase = kubelet.workers().and_then(|workers| workers.phase(uid));
    matches!(phase, Some(Phase::Terminated | Phase::Finished))
}
