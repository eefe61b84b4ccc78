//! When changes of resources are tried: as pods come, change and go.
//!
//! Upstream: HandlePodAdditions, HandlePodUpdates, HandlePodReconcile and HandlePodRemoves in pkg/kubelet/kubelet.go, v1.37.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::changes;
use super::manager::{Allocations, Around};
use crate::metrics::resizes::{self, Resolution};
use crate::pod::view::PodView;

impl Allocations {
    /// The node has taken a pod that it saw for the first time: a change that a former kubelet had not promised waits again.
    pub fn added(&self, pod: &Arc<Pod>, around: &dyn Around) {
        if self.promised(pod).1 {
            self.push(pod.uid());
            self.retry(around, resizes::PODS_ADDED);
        }
    }

    /// A pod that the node has taken has become another.
    pub fn changed(&self, old: &Arc<Pod>, pod: &Arc<Pod>, around: &dyn Around) {
        let (level, of_containers) = (changes::pod_level(old, pod), changes::of_containers(old, pod));
        if level || !of_containers.is_empty() {
            if !self.has(pod.uid()) {
                return;
            }
            of_containers.into_iter().for_each(resizes::requested);
            if self.promised(pod).1 {
                self.push(pod.uid());
                self.retry(around, resizes::POD_UPDATED);
            } else {
                self.clear_pending(pod.uid(), Resolution::Reverted, around.now());
            }
            return;
        }
        if !self.has_waiting() {
            return;
        }
        if changes::gave_back(&self.promised(old).0, &self.promised(pod).0) {
            self.retry(around, resizes::POD_RESIZED);
        } else if pod.is_api_terminal() && !old.is_api_terminal() {
            self.retry(around, resizes::POD_TERMINATED);
        }
    }

    /// A pod is not wanted any more.
    pub fn removed(&self, uid: &str, around: &dyn Around) {
        self.forget(uid);
        self.retry(around, resizes::PODS_REMOVED);
    }
}
