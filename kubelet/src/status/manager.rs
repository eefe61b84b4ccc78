//! Sends statuses to the API server. Upstream: pkg/kubelet/status/status_manager.go, v1.37.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Patch, PatchParams};
use k8s_openapi::api::core::v1::{Pod, PodStatus as ApiPodStatus};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::cache::{Entry, StatusCache, can_be_deleted, merge, patch};
use crate::pod::store::PodStore;
use crate::pod::view::PodView;

/// Everything is compared with the API server so often, as upstream.
const RECONCILE: Duration = Duration::from_secs(10);

/// Keeps the API server's statuses up to date.
pub struct StatusManager {
    client: Option<Client>,
    pods: Arc<PodStore>,
    cache: Mutex<StatusCache>,
    /// What the API server last answered, which may be newer than what the watch has brought.
    answered: Mutex<HashMap<String, Arc<Pod>>>,
    sent: Mutex<HashMap<String, u64>>,
    wake: Notify,
}

impl StatusManager {
    /// Without a client statuses are only kept.
    pub fn new(client: Option<Client>, pods: Arc<PodStore>) -> Self {
        Self {
            client,
            pods,
            cache: Mutex::default(),
            answered: Mutex::default(),
            sent: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// The latest status of a pod.
    pub fn get(&self, uid: &str) -> Option<Arc<ApiPodStatus>> {
        self.cache.lock().get(uid).map(|entry| entry.status.clone())
    }

    /// Takes a pod's next status.
    pub fn set(&self, pod: &Pod, status: ApiPodStatus) {
        let mirror = self.pods.mirror_of(pod);
        let mirror = mirror.as_ref().map(|m| m.api_status());
        if self.cache.lock().set(pod, status, mirror, Timestamp::now()) {
            self.wake.notify_one();
        }
    }

    /// Takes note that nothing of the pod is left on the node.
    pub fn terminate(&self, pod: &Pod) {
        let mirror = self.pods.mirror_of(pod);
        let mirror = mirror.as_ref().map(|m| m.api_status());
        self.cache.lock().terminate(pod, mirror, Timestamp::now());
        self.wake.notify_one();
    }

    /// Forgets a pod.
    pub fn forget(&self, uid: &str) {
        self.cache.lock().remove(uid);
        self.answered.lock().remove(uid);
        self.sent.lock().remove(uid);
    }

    /// Looks at all pods again soon, because one changed on the API server.
    pub fn reconcile(&self) {
        self.wake.notify_one();
    }

    /// Sends until `stop`. `may_run` tells whether a pod may still have running containers.
    pub async fn run(&self, may_run: impl Fn(&str) -> bool, stop: CancellationToken) {
        if self.client.is_none() {
            return;
        }
        let mut tick = tokio::time::interval(RECONCILE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let all = tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => false,
                _ = tick.tick() => true,
            };
            let due: Vec<(String, Entry)> = {
                let (cache, sent) = (self.cache.lock(), self.sent.lock());
                (cache.iter())
                    .filter(|(uid, entry)| {
                        all || entry.finished || sent.get(*uid).is_none_or(|v| *v < entry.version)
                    })
                    .map(|(uid, entry)| (uid.clone(), entry.clone()))
                    .collect()
            };
            for (uid, entry) in due {
                self.send(&uid, &entry, may_run(&uid)).await;
            }
        }
    }

    async fn send(&self, uid: &str, entry: &Entry, may_run: bool) {
        let Some(client) = &self.client else { return };
        let known = self.newest(uid);
        let pods = client.namespaced::<Pod>(&entry.namespace);
        let pod = match known {
            Some(pod) => pod,
            // A pod that the watch no longer shows, or a static one without mirror: nothing to tell.
            None => return,
        };
        let merged = merge(&pod, &entry.status, may_run);
        let mut pod = pod;
        if let Some(change) = patch(pod.uid(), pod.api_status(), &merged) {
            match pods.patch_status(&entry.name, &Patch::Strategic(change), &PatchParams::default()).await {
                Ok(answer) => {
                    pod = Arc::new(answer);
                    self.answered.lock().insert(uid.to_owned(), pod.clone());
                }
                Err(error) if error.is_not_found() || error.is_conflict() => {
                    tracing::debug!(pod = pod.log_name(), %error, "Pod does not exist on the server any more");
                    return;
                }
                Err(error) => {
                    tracing::error!(pod = pod.log_name(), %error, "Failed to update status for pod");
                    return;
                }
            }
        }
        self.sent.lock().insert(uid.to_owned(), entry.version);
        if can_be_deleted(&pod, entry.finished) {
            let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::with_uid(pod.uid()) };
            match pods.delete(&entry.name, &params).await {
                Ok(()) => self.forget(uid),
                Err(error) if error.is_not_found() => self.forget(uid),
                Err(error) => tracing::info!(pod = pod.log_name(), %error, "Failed to delete pod"),
            }
        }
    }

    /// The newest of what the watch and the last answer show.
    fn newest(&self, uid: &str) -> Option<Arc<Pod>> {
        let watched = self.pods.api_pod(uid)?;
        let version = |pod: &Pod| {
            pod.metadata.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok()).unwrap_or_default()
        };
        let answered = self.answered.lock().get(uid).cloned();
        match answered.filter(|a| a.uid() == watched.uid() && version(a) > version(&watched)) {
            Some(answered) => Some(answered),
            None => {
                self.answered.lock().remove(uid);
                Some(watched)
            }
        }
    }
}
