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
use crate::podsapi::hub::{Hub, Kind};
use crate::podsapi::view;

/// Everything is compared with the API server so often, as upstream.
const RECONCILE: Duration = Duration::from_secs(10);

/// What was compared last for a pod, and has since been sent if it differed.
#[derive(Debug, PartialEq, Eq)]
struct Compared {
    /// Version of our status.
    version: u64,
    /// Version of the API server's pod.
    with: String,
    /// What [`merge`] was told about containers.
    may_run: bool,
}

/// Keeps the API server's statuses up to date.
pub struct StatusManager {
    client: Option<Client>,
    pods: Arc<PodStore>,
    cache: Mutex<StatusCache>,
    /// What the API server last answered where the watch has not brought it yet, without specs.
    answered: Mutex<HashMap<String, Arc<Pod>>>,
    compared: Mutex<HashMap<String, Compared>>,
    wake: Notify,
    /// Who hears of pods and statuses.
    pub hub: Hub,
}

impl StatusManager {
    /// Without a client statuses are only kept.
    pub fn new(client: Option<Client>, pods: Arc<PodStore>) -> Self {
        Self {
            client,
            pods,
            cache: Mutex::default(),
            answered: Mutex::default(),
            compared: Mutex::default(),
            wake: Notify::new(),
            hub: Hub::default(),
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
        let (known, changed) = {
            let mut cache = self.cache.lock();
            let known = cache.get(pod.uid()).is_some();
            (known, cache.set(pod, status, mirror, Timestamp::now()))
        };
        if changed {
            self.wake.notify_one();
            self.tell(if known || pod.is_deleted() { Kind::Modified } else { Kind::Added }, pod);
        }
    }

    /// A pod whose status is known is another one now.
    pub fn changed(&self, pod: &Pod) {
        self.tell(Kind::Modified, pod);
    }

    /// Tells who watches of a pod as it is now, if its status is known and something of it may be left.
    fn tell(&self, kind: Kind, pod: &Pod) {
        let entry = self.cache.lock().get(pod.uid()).filter(|entry| !entry.finished).cloned();
        let Some(entry) = entry else { return };
        // The newest version, lest one that is being deleted seems to come back.
        self.hub.tell(kind, || {
            let newest = self.pods.get(pod.uid());
            view::current(newest.as_deref().unwrap_or(pod), Some(&entry.status))
        });
    }

    /// Takes note that nothing of the pod is left on the node.
    pub fn terminate(&self, pod: &Pod) {
        let mirror = self.pods.mirror_of(pod);
        let mirror = mirror.as_ref().map(|m| m.api_status());
        let first = {
            let mut cache = self.cache.lock();
            let first = cache.get(pod.uid()).is_none_or(|entry| !entry.finished);
            cache.terminate(pod, mirror, Timestamp::now());
            first
        };
        self.wake.notify_one();
        if first {
            self.hub.tell(Kind::Deleted, || view::name_only(pod));
        }
    }

    /// Forgets a pod.
    pub fn forget(&self, uid: &str) {
        self.cache.lock().remove(uid);
        self.answered.lock().remove(uid);
        self.compared.lock().remove(uid);
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
                let (cache, compared) = (self.cache.lock(), self.compared.lock());
                (cache.iter())
                    .filter(|(uid, entry)| {
                        all || entry.finished || compared.get(*uid).is_none_or(|c| c.version < entry.version)
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
        // A pod that the watch no longer shows, or a static one without mirror: nothing to tell.
        let Some(mut pod) = self.newest(uid) else { return };
        let compared = Compared {
            version: entry.version,
            with: pod.metadata.resource_version.clone().unwrap_or_default(),
            may_run,
        };
        if !entry.finished && self.compared.lock().get(uid) == Some(&compared) {
            return;
        }
        let merged = merge(&pod, &entry.status, may_run);
        let pods = client.namespaced::<Pod>(&entry.namespace).without_managed_fields();
        if let Some(change) = patch(pod.uid(), pod.api_status(), &merged) {
            match pods.patch_status(&entry.name, &Patch::Strategic(change), &PatchParams::default()).await {
                Ok(answer) => {
                    self.observe_told(uid, entry.version);
                    pod = Arc::new(Pod { spec: None, ..answer });
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
        // If the API server made something else of it, its answer has another version, and that is compared next time.
        self.compared.lock().insert(uid.to_owned(), compared);
        if can_be_deleted(&pod, entry.finished) {
            let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::with_uid(pod.uid()) };
            match pods.delete(&entry.name, &params).await {
                Ok(()) => self.forget(uid),
                Err(error) if error.is_not_found() => self.forget(uid),
                Err(error) => tracing::info!(pod = pod.log_name(), %error, "Failed to delete pod"),
            }
        }
    }

    /// Measures how long the API server did not know of a change.
    fn observe_told(&self, uid: &str, version: u64) {
        if let Some(since) = self.cache.lock().told(uid, version) {
            let took = Timestamp::now().duration_since(since);
            crate::metrics::pods::told(took.try_into().unwrap_or_default());
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
            Some(answered) => {
                let spec = watched.spec.clone();
                Some(Arc::new(Pod { spec, ..answered.as_ref().clone() }))
            }
            None => {
                self.answered.lock().remove(uid);
                Some(watched)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::{Config, ContentType, Options};
    use serde_json::{Value, json};
    use testing::fake_api::FakeApi;

    const PODS: &str = "/api/v1/pods";

    fn client(server: &FakeApi) -> Client {
        let mut config = Config::new("http://fake");
        let server = server.clone();
        config.dialer = Some(Arc::new(move || {
            let io: Box<dyn client::transport::Io> = Box::new(server.connect());
            Box::pin(async move { Ok(io) })
        }));
        let options = Options { qps: -1.0, content_type: ContentType::Json, ..Options::default() };
        Client::new(config, options).unwrap()
    }

    fn patches(server: &FakeApi) -> usize {
        server.seen().iter().filter(|request| request.starts_with("patch ")).count()
    }

    #[tokio::test(start_paused = true)]
    async fn compares_again_what_changed_on_either_side() {
        let (server, store) = (FakeApi::new(), Arc::new(PodStore::default()));
        let with = |phase: &str| json!({"metadata": {"namespace": "n", "name": "p", "uid": "u"}, "spec": {"containers": []}, "status": {"phase": phase}});
        let watched = |object: Value| {
            let pod: Arc<Pod> = Arc::new(serde_json::from_value(object).unwrap());
            store.set(pod.clone());
            pod
        };
        let pod = watched(server.put(PODS, with("Pending")));
        let manager = Arc::new(StatusManager::new(Some(client(&server)), store.clone()));
        let stop = CancellationToken::new();
        let run = {
            let (manager, stop) = (manager.clone(), stop.clone());
            tokio::spawn(async move { manager.run(|_| true, stop).await })
        };
        let phase = || server.objects(PODS)["n/p"]["status"]["phase"].clone();
        let running: ApiPodStatus = serde_json::from_value(
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
        )
        .unwrap();
        manager.set(&pod, running.clone());
        tokio::time::sleep(Duration::from_secs(35)).await;
        assert_eq!((phase(), patches(&server)), (json!("Running"), 1));
        // The watch brings what was answered, and later what somebody else made of it.
        watched(server.objects(PODS)["n/p"].clone());
        tokio::time::sleep(Duration::from_secs(35)).await;
        assert_eq!((manager.answered.lock().len(), patches(&server)), (0, 1));
        watched(server.put(PODS, with("Pending")));
        tokio::time::sleep(Duration::from_secs(35)).await;
        assert_eq!((phase(), manager.answered.lock().len()), (json!("Running"), 1));
        assert_eq!(patches(&server), 2);
        manager.set(&pod, ApiPodStatus { message: Some("new".into()), ..running });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(patches(&server), 3);
        stop.cancel();
        run.await.unwrap();
    }
}
