//! ReplicaSet: keeps the number of matching pods equal to `spec.replicas`.
//!
//! Does not look at roll-outs (those are the Deployment's) nor at health beyond readiness. Start reading at [`plan`].
//! Upstream: pkg/controller/replicaset/replica_set.go.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams};
use component::app::Error;
use controller::{
    EventRecorder, NORMAL, RefManager, UidExpectations, WARNING, WorkQueue, batch, controller_of, pods,
    reference, slow_start,
};
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::Mutex;

use self::plan::{Action, View};
use super::shared::{key, selector};
use crate::context::Context;
use crate::descriptor::Running;

const KIND: &str = "ReplicaSet";
/// Pods by their controller, or by their namespace when they have none.
const BY_CONTROLLER: &str = "podController";
/// Sets by their owner's uid.
const BY_OWNER: &str = "controllerUID";

struct Shell {
    client: Client,
    sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    queue: WorkQueue<String>,
    expected: UidExpectations,
    recorder: EventRecorder,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let sets =
        context.factory.informer::<ReplicaSet>(Options::default().index(BY_OWNER, |set: &ReplicaSet| {
            controller_of(&set.metadata).map(|owner| owner.uid.clone()).into_iter().collect()
        }));
    let all_pods =
        context.factory.informer::<Pod>(Options::default().index(BY_CONTROLLER, pods::controller_index));
    let shell = Arc::new(Shell {
        client: context.client(),
        sets: sets.store(),
        pods: all_pods.store(),
        queue: WorkQueue::new("replicaset"),
        expected: UidExpectations::new(),
        recorder: context.recorder("replicaset-controller"),
    });
    let of_sets = shell.clone();
    sets.subscribe(move |event| of_sets.set_changed(&event));
    let of_pods = shell.clone();
    all_pods.subscribe(move |event| of_pods.pod_changed(&event));
    let (workers, token) = (context.workers("concurrent-replicaset-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        if !(sets.wait_synced(&token).await && all_pods.wait_synced(&token).await) {
            return;
        }
        let queue = shell.queue.clone();
        queue
            .run(workers, &token, move |key: String| {
                let shell = shell.clone();
                async move { shell.sync(&key).await }
            })
            .await;
    }))
}

impl Shell {
    fn set_changed(&self, event: &Event<ReplicaSet>) {
        let set_key = key(&**event.object());
        let replaced = match event {
            Event::Updated { old, new } => old.metadata.uid != new.metadata.uid,
            Event::Deleted(_) => true,
            Event::Added(_) => false,
        };
        if replaced {
            self.expected.delete(&set_key);
        }
        self.queue.add(set_key);
    }

    fn pod_changed(&self, event: &Event<Pod>) {
        match event {
            Event::Added(pod) if pods::is_deleted(pod) => self.pod_deleted(pod),
            Event::Added(pod) => match controller_of(&pod.metadata) {
                Some(owner) => {
                    if let Some(set_key) = self.set_of(pod, owner) {
                        self.expected.creation_observed(&set_key);
                        self.queue.add(set_key);
                    }
                }
                None => self.wake_matching(pod),
            },
            Event::Updated { old, new } => self.pod_updated(old, new),
            Event::Deleted(pod) => self.pod_deleted(pod),
        }
    }

    fn pod_updated(&self, old: &Pod, new: &Pod) {
        let relabelled = old.metadata.labels != new.metadata.labels;
        if pods::is_deleted(new) {
            self.pod_deleted(new);
            if relabelled {
                self.pod_deleted(old);
            }
            return;
        }
        let (was, is) = (controller_of(&old.metadata), controller_of(&new.metadata));
        if let Some(owner) = was.filter(|_| was != is) {
            self.set_of(old, owner).into_iter().for_each(|set_key| self.queue.add(set_key));
        }
        let Some(owner) = is else {
            if relabelled || was.is_some() {
                self.wake_matching(new);
            }
            return;
        };
        let Some(set_key) = self.set_of(new, owner) else { return };
        let wait = self.sets.get(&set_key).map_or(0, |set| plan::min_ready_seconds(&set));
        if wait > 0 && !pods::is_ready(old) && pods::is_ready(new) {
            self.queue.add_after(set_key.clone(), Duration::from_secs(u64::try_from(wait).unwrap_or(0)));
        }
        self.queue.add(set_key);
    }

    fn pod_deleted(&self, pod: &Pod) {
        let owner = controller_of(&pod.metadata);
        if let Some(set_key) = owner.and_then(|owner| self.set_of(pod, owner)) {
            self.expected.deletion_observed(&set_key, &key(pod));
            self.queue.add(set_key);
        }
    }

    /// The key of the set that a reference means, if it is still the same set.
    fn set_of(&self, pod: &Pod, owner: &OwnerReference) -> Option<String> {
        if owner.kind != KIND {
            return None;
        }
        let set = self.sets.get_by(pod.metadata.namespace.as_deref()?, &owner.name)?;
        (set.metadata.uid.as_ref() == Some(&owner.uid)).then(|| key(&*set))
    }

    /// An orphan may be adopted by any set that selects it.
    fn wake_matching(&self, pod: &Pod) {
        for set in self.sets.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default()) {
            let matches = selector(&set.spec.selector).ok();
            if matches.is_some_and(|s| !s.is_empty() && s.matches(&pod.metadata.labels.as_ref())) {
                self.queue.add(key(&*set));
            }
        }
    }

    async fn sync(&self, set_key: &str) -> Result<Option<Duration>, String> {
        let Some(set) = self.sets.get(set_key) else {
            self.expected.delete(set_key);
            return Ok(None);
        };
        let settled = self.expected.satisfied(set_key);
        let Ok(matches) = selector(&set.spec.selector) else {
            tracing::error!(set = set_key, "The selector is malformed, the set is left alone");
            return Ok(None);
        };
        let (active, terminating) = self.claim(&set, &matches).await?;
        let view = View { set: &set, active: &active, terminating, related: &self.related(&set), settled };
        let failure = self.act(set_key, &view).await.err();
        self.write_status(&view, failure.as_deref()).await?;
        match failure {
            Some(message) => Err(message),
            None => Ok(Self::next_check(&view)),
        }
    }

    /// The set's pods: active ones, adopted or released as the selector says, and the number of terminating ones.
    async fn claim(
        &self,
        set: &ReplicaSet,
        matches: &machinery::labels::Selector,
    ) -> Result<(Vec<Arc<Pod>>, usize), String> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let meta = &set.metadata;
        let (name, uid) = (meta.name.as_deref().unwrap_or_default(), meta.uid.as_deref().unwrap_or_default());
        let own = self.pods.by_index(BY_CONTROLLER, &pods::controller_key(namespace, KIND, name, uid));
        let terminating = own.iter().filter(|p| pods::is_terminating(p)).count();
        let orphans = self.pods.by_index(BY_CONTROLLER, namespace);
        let candidates = own.into_iter().chain(orphans).filter(|p| pods::is_active(p));
        let manager = RefManager::new(
            self.client.namespaced(namespace),
            self.client.namespaced(namespace),
            set,
            |labels| matches.matches(labels),
        );
        let active = manager.claim(candidates, |_| true).await.map_err(|e| e.to_string())?;
        Ok((active, terminating))
    }

    /// Active pods of the sets with the same owner.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let Some(owner) = controller_of(&set.metadata) else { return Vec::new() };
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        self.sets
            .by_index(BY_OWNER, &owner.uid)
            .iter()
            .flat_map(|sibling| {
                let meta = &sibling.metadata;
                let (name, uid) =
                    (meta.name.as_deref().unwrap_or_default(), meta.uid.as_deref().unwrap_or_default());
                self.pods.by_index(BY_CONTROLLER, &pods::controller_key(namespace, KIND, name, uid))
            })
            .collect()
    }

    async fn act(&self, set_key: &str, view: &View<'_>) -> Result<(), String> {
        match plan::plan(view, Timestamp::now()) {
            Action::Nothing => Ok(()),
            Action::Create(count) => self.create(set_key, view.set, count).await,
            Action::Delete(names) => self.delete(set_key, view.set, names).await,
        }
    }

    async fn create(&self, set_key: &str, set: &ReplicaSet, count: usize) -> Result<(), String> {
        let template = set.spec.template.as_ref();
        let Some(template) = template else { return Err("the set has no template".to_string()) };
        self.expected.expect_creations(set_key, count);
        let api = self.client.namespaced::<Pod>(set.metadata.namespace.as_deref().unwrap_or_default());
        let pod = pods::from_template(template, set);
        let (made, failure) = slow_start(count, batch::INITIAL_BATCH, |_| {
            let (api, pod) = (api.clone(), &pod);
            async move {
                match api.create(pod).await {
                    Ok(made) => {
                        let name = made.metadata.name.unwrap_or_default();
                        self.recorder.event(
                            &reference(set),
                            NORMAL,
                            "SuccessfulCreate",
                            &format!("Created pod: {name}"),
                        );
                        Ok(())
                    }
                    // Pods of a namespace that is going away will never be made: nothing to try again.
                    Err(error) if error.is_namespace_terminating() => Ok(()),
                    Err(error) => {
                        self.recorder.event(
                            &reference(set),
                            WARNING,
                            "FailedCreate",
                            &format!("Error creating: {error}"),
                        );
                        Err(format!("creating a pod of {set_key}: {error}"))
                    }
                }
            }
        })
        .await;
        (made..count).for_each(|_| self.expected.creation_observed(set_key));
        failure.map_or(Ok(()), Err)
    }

    async fn delete(&self, set_key: &str, set: &ReplicaSet, names: Vec<String>) -> Result<(), String> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let pod_key = |name: &str| format!("{namespace}/{name}");
        self.expected.expect_deletions(set_key, names.iter().map(|n| pod_key(n)));
        let api = self.client.namespaced::<Pod>(namespace);
        let failure = Mutex::new(None);
        futures::future::join_all(names.iter().map(|name| {
            let (api, failure) = (api.clone(), &failure);
            async move {
                match api.delete(name, &DeleteParams::default()).await {
                    Ok(()) => {
                        self.recorder.event(
                            &reference(set),
                            NORMAL,
                            "SuccessfulDelete",
                            &format!("Deleted pod: {name}"),
                        );
                    }
                    Err(error) => {
                        self.expected.deletion_observed(set_key, &pod_key(name));
                        if !error.is_not_found() {
                            let message = format!("Error deleting: {error}");
                            self.recorder.event(&reference(set), WARNING, "FailedDelete", &message);
                            failure.lock().get_or_insert(format!("deleting pod {namespace}/{name}: {error}"));
                        }
                    }
                }
            }
        }))
        .await;
        failure.into_inner().map_or(Ok(()), Err)
    }

    /// Writes the status if it says something new; a conflict is met with one fresh read.
    async fn write_status(&self, view: &View<'_>, failure: Option<&str>) -> Result<(), String> {
        let mut status = plan::status(view, failure, Timestamp::now());
        status.observed_generation = view.set.metadata.generation;
        if !plan::differs(&view.set.status.clone().unwrap_or_default(), &status) {
            return Ok(());
        }
        let api =
            self.client.namespaced::<ReplicaSet>(view.set.metadata.namespace.as_deref().unwrap_or_default());
        let name = view.set.metadata.name.as_deref().unwrap_or_default();
        let mut set = view.set.clone();
        set.status = Some(status.clone());
        let first = match api.replace_status(&set).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if first.is_not_found() {
            return Ok(());
        }
        let mut fresh = api.get(name).await.map_err(|e| format!("reading replica set {name}: {e}"))?;
        fresh.status = Some(status);
        api.replace_status(&fresh)
            .await
            .map(drop)
            .map_err(|e| format!("writing the status of replica set {name}: {e}"))
    }

    /// When the next pod will have been ready for long enough.
    fn next_check(view: &View<'_>) -> Option<Duration> {
        let seconds = plan::min_ready_seconds(view.set);
        let now = Timestamp::now();
        view.active.iter().filter_map(|pod| pods::until_available(pod, seconds, now)).min()
    }
}
