//! What events mean to jobs: which one to look at, what was waited for, and which pods nobody counts any more.
//! Upstream: pkg/controller/job/job_controller.go addPod, updatePod, deletePod, updateJob, deleteJob, syncOrphanPod.

use std::sync::Arc;
use std::time::Duration;

use client::{Meta, Patch, PatchParams};
use controller::controller_of;
use informer::Event;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

use super::Shell;
use super::spec::{FINALIZER, Facts, has_finalizer};
use super::work::uid;
use crate::controllers::shared::{key, selector};
use crate::kept::Pod;
use crate::pods;

/// Pod events and status writes come in swarms: a job is looked at once a second.
pub const BATCH: Duration = Duration::from_secs(1);

/// Pods that may have a finalizer that nobody removes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Orphans {
    /// Namespace and name.
    Pod(String, String),
    /// Namespace and a label selector as JSON.
    Selector(String, String),
}

/// The patch that lets a pod go.
pub fn release_patch() -> Patch {
    Patch::Strategic(json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}))
}

impl Shell {
    fn later(&self, job: &Job) {
        self.queue.add_after(key(job), BATCH);
    }

    fn orphan(&self, pod: &Pod) {
        self.orphans.add(Orphans::Pod(pod.namespace().to_string(), pod.name().to_string()));
    }

    fn orphans_of(&self, job: &Job) {
        let Some(text) = job.of().selector.as_ref().and_then(|s| serde_json::to_string(s).ok()) else {
            return;
        };
        self.orphans.add(Orphans::Selector(job.namespace().to_string(), text));
    }

    pub(super) fn pod_changed(&self, event: &Event<Pod>) {
        super::metrics::pod_changed(event);
        match event {
            Event::Added(pod) | Event::Updated { new: pod, .. } if pods::is_deleted(pod) => {
                self.pod_deleted(pod, false);
            }
            Event::Added(pod) => match controller_of(&pod.metadata) {
                Some(_) => {
                    if let Some(job) = self.owners.controller(&pod.metadata) {
                        self.expected.creation_observed(&key(&*job));
                        self.later(&job);
                    }
                }
                None => self.orphan_changed(pod),
            },
            Event::Updated { old, new } => self.pod_updated(old, new),
            Event::Deleted(pod) => self.pod_deleted(pod, true),
        }
    }

    fn orphan_changed(&self, pod: &Pod) {
        if has_finalizer(pod) {
            self.orphan(pod);
        }
        self.owners.matching(&pod.metadata).iter().for_each(|job| self.later(job));
    }

    fn pod_updated(&self, old: &Pod, new: &Pod) {
        let (was, is) = (controller_of(&old.metadata), controller_of(&new.metadata));
        let concerned = [
            self.owners.controller(&old.metadata).filter(|_| was != is),
            self.owners.controller(&new.metadata),
        ];
        for job in concerned.into_iter().flatten() {
            if !has_finalizer(new) {
                self.release_observed(&key(&*job), uid(new));
            }
            self.later(&job);
        }
        if is.is_some() {
            return;
        }
        if has_finalizer(new) {
            self.orphan(new);
        }
        if was != is || old.metadata.labels != new.metadata.labels {
            self.owners.matching(&new.metadata).iter().for_each(|job| self.later(job));
        }
    }

    /// `gone`: for good, not only asked to go.
    fn pod_deleted(&self, pod: &Pod, gone: bool) {
        let job = self.owners.controller(&pod.metadata).filter(|job| !job.is_finished());
        let Some(job) = job else {
            if has_finalizer(pod) {
                self.orphan(pod);
            }
            return;
        };
        self.expected.deletion_observed(&key(&*job));
        if gone || !has_finalizer(pod) {
            self.release_observed(&key(&*job), uid(pod));
        }
        self.later(&job);
    }

    pub(super) fn job_changed(&self, event: &Event<Job>) {
        match event {
            Event::Added(job) => {
                self.queue.add(key(&**job));
                if let Some(manager) = job.manager() {
                    super::metrics::get().by_others.with(&[manager]).inc();
                }
            }
            Event::Updated { old, new } if old.uid() != new.uid() => {
                self.forget(old);
                self.queue.add(key(&**new));
            }
            Event::Updated { old, new } => self.job_updated(old, new),
            Event::Deleted(job) => {
                self.queue.add(key(&**job));
                self.forget(job);
            }
        }
    }

    fn job_updated(&self, old: &Job, new: &Arc<Job>) {
        if new.is_finished() {
            self.queue.add_after(key(&**new), BATCH);
            self.orphans_of(new);
            return;
        }
        if old.metadata.generation == new.metadata.generation {
            self.later(new);
        } else {
            self.queue.add(key(&**new));
        }
        let (before, seconds) = (old.of().active_deadline_seconds, new.of().active_deadline_seconds);
        let started = new.state().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
        if let (Some(started), Some(seconds)) = (started, seconds)
            && before != Some(seconds)
        {
            let total = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            let passed = Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default();
            self.queue.add_after(key(&**new), total.saturating_sub(passed));
        }
    }

    /// The job is gone: a namesake starts clean, and its pods are let go.
    fn forget(&self, job: &Job) {
        let job_key = key(job);
        self.writes.forget(&job_key);
        self.finished.lock().remove(job.uid());
        self.expected.delete(&job_key);
        self.backoffs.lock().remove(&job_key);
        self.orphans_of(job);
    }

    /// Lets pods go that no living job counts.
    pub(super) async fn sync_orphans(&self, orphans: &Orphans) -> Result<(), String> {
        match orphans {
            Orphans::Pod(namespace, name) => match self.pods.get_by(namespace, name) {
                Some(pod) => self.release_orphan(&pod).await,
                None => Ok(()),
            },
            Orphans::Selector(namespace, text) => {
                let wanted: LabelSelector =
                    serde_json::from_str(text).map_err(|e| format!("invalid label selector: {e}"))?;
                let wanted = selector(&wanted).map_err(|e| format!("invalid label selector: {e}"))?;
                for pod in self.pods.list_namespace(namespace) {
                    if has_finalizer(&pod)
                        && wanted.matches(&pod.metadata.labels.as_ref())
                        && let Err(error) = self.release_orphan(&pod).await
                    {
                        tracing::warn!(pod = pod.key(), error, "An orphan pod keeps its finalizer for now");
                        let (namespace, name) = (pod.namespace().to_string(), pod.name().to_string());
                        self.orphans.add_rate_limited(Orphans::Pod(namespace, name));
                    }
                }
                Ok(())
            }
        }
    }

    async fn release_orphan(&self, pod: &Pod) -> Result<(), String> {
        if let Some(owner) = controller_of(&pod.metadata) {
            if owner.kind != "Job" || owner.api_version != "batch/v1" {
                return Ok(());
            }
            let job = self.owners.controller(&pod.metadata);
            if job.is_some_and(|job| job.manager().is_some() || !job.is_finished()) {
                return Ok(());
            }
        }
        if !has_finalizer(pod) {
            return Ok(());
        }
        let api = self.client.namespaced::<Pod>(pod.namespace());
        match api.patch_unread(pod.name(), "", &release_patch(), &PatchParams::default()).await {
            Err(e) if !e.is_not_found() => Err(format!("removing the finalizer of pod {}: {e}", pod.key())),
            _ => Ok(()),
        }
    }
}
