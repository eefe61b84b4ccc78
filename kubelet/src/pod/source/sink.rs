//! Where pods from all sources come together: what is new is admitted, what has changed goes to its worker.
//!
//! Upstream: HandlePodAdditions and its like in pkg/kubelet/kubelet.go, v1.37.

use std::sync::Arc;

use informer::Event;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::kubelet::Kubelet;
use crate::pod::store::{from_api, is_mirror_of};
use crate::pod::view::{CONFIG_SOURCE_ANNOTATION, PodView};
use crate::podsapi;
use crate::worker::Workers;

/// Where the sources put their pods.
#[derive(Clone)]
pub struct Sink {
    /// All that a pod needs.
    pub kubelet: Arc<Kubelet>,
    /// Who takes it from there.
    pub workers: Arc<Workers>,
}

impl Sink {
    /// What the API server told.
    pub fn handle(&self, event: Event<Pod>) {
        match event {
            Event::Added(pod) | Event::Updated { new: pod, .. } => self.set(from_api(pod)),
            Event::Deleted(pod) => self.remove(&pod),
        }
    }

    fn set(&self, pod: Arc<Pod>) {
        let old = match pod.is_mirror() {
            true => self.kubelet.pods.mirror_of(&pod),
            false => self.kubelet.pods.get(pod.uid()),
        };
        let known = old.is_some();
        if !known && !pod.is_mirror() {
            self.kubelet.allocations.backfill(&pod, Timestamp::now());
        }
        if !known && !pod.is_mirror() && !pod.is_deleted() && !pod.is_api_terminal() {
            self.kubelet.pods.set(pod.clone());
            if self.kubelet.runtime.devices.is_asked_by(&pod) || self.kubelet.preempts(&pod) {
                self.kubelet.admitting.lock().insert(pod.uid().to_owned());
                let early = self.kubelet.runtime.devices.is_early();
                tokio::spawn(self.clone().admit_with_devices(pod, early));
                return;
            }
            if let Err(rejection) = self.kubelet.admit(&pod) {
                self.kubelet.reject(&pod, &rejection);
                return;
            }
            self.kubelet.allocations.added(&pod, self.kubelet.as_ref());
        }
        let before = self.kubelet.pods.get(pod.uid()).filter(|_| known);
        self.kubelet.pods.set(pod.clone());
        if before.is_some_and(|old| podsapi::view::differs(&old, &pod)) {
            self.kubelet.status.changed(&pod);
        }
        if let Some(old) = old.filter(|_| !pod.is_mirror()) {
            self.kubelet.allocations.changed(&old, &pod, self.kubelet.as_ref());
        }
        if !self.kubelet.admitting.lock().contains(pod.uid()) {
            self.set_known(pod, !known);
        }
    }

    /// The pod's worker begins, if at all, once its devices are there; with what the pod has become meanwhile.
    async fn admit_with_devices(self, pod: Arc<Pod>, early: bool) {
        let result = self.kubelet.admit_with_devices(&pod, early).await;
        self.kubelet.admitting.lock().remove(pod.uid());
        let Some(now) = self.kubelet.pods.get(pod.uid()) else { return };
        match result {
            Err(rejection) => self.kubelet.reject(&now, &rejection),
            Ok(()) => {
                self.kubelet.allocations.added(&now, self.kubelet.as_ref());
                self.set_known(now, true);
            }
        }
    }

    fn set_known(&self, pod: Arc<Pod>, first: bool) {
        if let Some(certificates) = self.kubelet.certificates.as_ref().filter(|_| first && !pod.is_mirror()) {
            certificates.track(&pod);
        }
        let status = self.kubelet.status.get(pod.uid());
        let rejected = status.is_some_and(|s| s.phase.as_deref() == Some("Failed"))
            && self.workers.phase(pod.uid()).is_none();
        // Not even when the API server shows what became of it: its worker would add containers that never were.
        if rejected && !pod.is_deleted() {
            return;
        }
        if pod.is_mirror() {
            let source = self.kubelet.pods.source_of(&pod);
            let shows = pod.api_status().container_statuses.as_ref().is_some_and(|all| !all.is_empty());
            if let Some(source) =
                source.as_ref().filter(|source| first && shows && is_mirror_of(&pod, source))
            {
                // After a restart the mirror tells what had started and was ready; what was found out without it
                // does not count.
                self.kubelet.status.forget(source.uid());
            }
            self.kubelet.status.reconcile();
            if let Some(source) = source {
                self.workers.poke(source.uid());
            }
            return;
        }
        self.workers.update(pod);
    }

    fn remove(&self, pod: &Pod) {
        self.kubelet.pods.remove(pod);
        if pod.is_mirror() {
            if let Some(source) = self.kubelet.pods.source_of(pod) {
                self.workers.poke(source.uid());
            }
            return;
        }
        let uid = pod.uid().to_owned();
        self.kubelet.allocations.removed(&uid, self.kubelet.as_ref());
        if let Some(certificates) = &self.kubelet.certificates {
            certificates.forget(&uid);
        }
        if self.workers.forget_finished(&uid) {
            let kubelet = self.kubelet.clone();
            tokio::spawn(async move { kubelet.remove_traces(&uid).await });
        } else {
            self.workers.kill(&uid, crate::worker::Kill::default());
        }
    }

    /// Puts all pods of a source (`file` or `http`) in the place of those that it had.
    pub fn replace_static(&self, source: &str, pods: Vec<Arc<Pod>>) {
        let of_source = |pod: &Pod| pod.annotation(CONFIG_SOURCE_ANNOTATION) == Some(source);
        let gone: Vec<Arc<Pod>> = (self.kubelet.pods.list().into_iter())
            .filter(|old| {
                of_source(old) && !old.is_mirror() && !pods.iter().any(|new| new.uid() == old.uid())
            })
            .collect();
        for pod in gone {
            self.remove(&pod);
        }
        for pod in pods {
            if self.kubelet.pods.get(pod.uid()).is_none() {
                self.set(pod);
            }
        }
    }
}
