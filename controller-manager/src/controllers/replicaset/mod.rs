//! ReplicaSet: keeps the number of matching pods equal to `spec.replicas`.
//!
//! Does not look at roll-outs (those are the Deployment's) nor at health beyond readiness. Start reading at [`plan`].
//! Replication controllers are the same under another name: see [`Set`] and `controllers/replication.rs`.
//! Upstream: pkg/controller/replicaset/replica_set.go.

pub mod plan;
mod tally;
#[cfg(test)]
pub mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, DeleteParams, Kept, Object};
use component::app::Error;
use component::features::{self, Gate};
use controller::{
    EventRecorder, NORMAL, RefManager, UidExpectations, WARNING, WorkQueue, batch, controller_of, reference,
    slow_start,
};
use informer::{Event, Options, Store, Tally};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod as WholePod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use machinery::labels::Selector;
use parking_lot::Mutex;

use self::plan::{Action, Count, View};
use self::tally::Sort;
use super::shared::own_writes::{BEHIND, OwnWrites};
use super::shared::pace::Pace;
use super::shared::{key, selector};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

/// A kind that keeps a number of pods: ReplicaSet, and ReplicationController.
pub trait Set: Object {
    /// Name of the work queue.
    const QUEUE: &'static str;
    /// Name under which events are recorded.
    const COMPONENT: &'static str;
    /// Flag with the number of workers.
    const WORKERS: &'static str;
    /// `resource.group`, as errors name it.
    const RESOURCE: &'static str;

    /// The object as a set.
    fn as_set(&self) -> Cow<'_, ReplicaSet>;

    /// The object with another status.
    #[must_use]
    fn with_status(&self, status: ReplicaSetStatus) -> Self;

    /// Its status tells of pods that are being deleted.
    fn tells_terminating() -> bool;
}

impl Set for ReplicaSet {
    const QUEUE: &'static str = "replicaset";
    const COMPONENT: &'static str = "replicaset-controller";
    const WORKERS: &'static str = "concurrent-replicaset-syncs";
    const RESOURCE: &'static str = "replicasets.apps";

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        ReplicaSet { status: Some(status), ..self.clone() }
    }

    fn tells_terminating() -> bool {
        features::enabled(Gate::DeploymentReplicaSetTerminatingReplicas)
    }
}

/// Pods by their controller, or by their namespace when they have none.
const BY_CONTROLLER: &str = "podController";
/// Sets by their owner's uid.
const BY_OWNER: &str = "controllerUID";

struct Shell<K> {
    client: Client,
    sets: Store<K>,
    pods: Store<Pod>,
    queue: WorkQueue<String>,
    /// The pods of each set.
    tally: Tally<Sort>,
    expected: UidExpectations,
    pace: Pace,
    writes: OwnWrites,
    recorder: EventRecorder,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    Ok(start::<ReplicaSet>(context))
}

/// Builds the controller of a kind.
pub fn start<K: Set>(context: &Context) -> Running {
    let sets = context.factory.informer::<K>(Options::default().index(BY_OWNER, |set: &K| {
        controller_of(set.meta()).map(|owner| owner.uid.clone()).into_iter().collect()
    }));
    let all_pods =
        context.factory.informer::<Pod>(Options::default().index(BY_CONTROLLER, pods::controller_index));
    let shell = Arc::new(Shell {
        client: context.client(),
        sets: sets.store(),
        pods: all_pods.store(),
        queue: WorkQueue::new(K::QUEUE),
        tally: tally::start::<K>(&all_pods.store()),
        expected: UidExpectations::new(),
        pace: Pace::default(),
        writes: OwnWrites::new().cache("pods", all_pods.store()).cache(K::RESOURCE, sets.store()),
        recorder: context.recorder(K::COMPONENT),
    });
    let of_sets = shell.clone();
    sets.subscribe(move |event| of_sets.set_changed(&event));
    let of_pods = shell.clone();
    all_pods.subscribe(move |event| of_pods.pod_changed(&event));
    let (workers, token) = (context.workers(K::WORKERS), context.token.clone());
    Box::pin(async move {
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
    })
}

impl<K: Set> Shell<K> {
    /// Asks for a round, after the set's rest: each pod's change asks, and a worker is not to be told each time to wait.
    fn wake(&self, set_key: String) {
        match self.pace.rest(&set_key, Instant::now()) {
            Some(rest) => self.queue.add_after(set_key, rest),
            None => self.queue.add(set_key),
        }
    }

    fn set_changed(&self, event: &Event<K>) {
        let set_key = key(&**event.object());
        let replaced = match event {
            Event::Updated { old, new } => old.uid() != new.uid(),
            Event::Deleted(_) => true,
            Event::Added(_) => false,
        };
        if replaced {
            self.expected.delete(&set_key);
            self.writes.forget(&set_key);
        }
        self.wake(set_key);
    }

    fn pod_changed(&self, event: &Event<Pod>) {
        match event {
            Event::Added(pod) if pods::is_deleted(pod) => self.pod_deleted(pod),
            Event::Added(pod) => match controller_of(&pod.metadata) {
                Some(owner) => {
                    if let Some(set_key) = self.set_of(pod, owner) {
                        self.expected.creation_observed(&set_key);
                        self.wake(set_key);
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
        if let Some(owner) = was.filter(|_| !pods::is_same_owner(was, is)) {
            self.set_of(old, owner).into_iter().for_each(|set_key| self.wake(set_key));
        }
        let Some(owner) = is else {
            if relabelled || was.is_some() {
                self.wake_matching(new);
            }
            return;
        };
        let Some(set_key) = self.set_of(new, owner) else { return };
        let wait = self.sets.get(&set_key).map_or(0, |set| plan::min_ready_seconds(&set.as_set()));
        if wait > 0 && !pods::is_ready(old) && pods::is_ready(new) {
            self.queue.add_after(set_key.clone(), Duration::from_secs(u64::try_from(wait).unwrap_or(0)));
        }
        self.wake(set_key);
    }

    fn pod_deleted(&self, pod: &Pod) {
        let owner = controller_of(&pod.metadata);
        if let Some(set_key) = owner.and_then(|owner| self.set_of(pod, owner)) {
            self.expected.deletion_observed(&set_key, &key(pod));
            self.wake(set_key);
        }
    }

    /// The key of the set that a reference means, if it is still the same set.
    fn set_of(&self, pod: &Pod, owner: &OwnerReference) -> Option<String> {
        if owner.kind != K::KIND {
            return None;
        }
        let set = self.sets.get_by(pod.metadata.namespace.as_deref()?, &owner.name)?;
        (set.uid() == owner.uid).then(|| key(&*set))
    }

    /// An orphan may be adopted by any set that selects it.
    fn wake_matching(&self, pod: &Pod) {
        for set in self.sets.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default()) {
            let matches = selector(&set.as_set().spec.selector).ok();
            if matches.is_some_and(|s| !s.is_empty() && s.matches(&pod.metadata.labels.as_ref())) {
                self.wake(key(&*set));
            }
        }
    }

    async fn sync(&self, set_key: &str) -> Result<Option<Duration>, String> {
        if let Some(rest) = self.pace.rest(set_key, Instant::now()) {
            return Ok(Some(rest));
        }
        if let Err(behind) = self.writes.seen(set_key) {
            // The event that shows the write asks for a round, too.
            tracing::debug!(set = set_key, %behind, "A cache does not show the last write yet");
            return Ok(Some(BEHIND));
        }
        let Some(object) = self.sets.get(set_key) else {
            self.expected.delete(set_key);
            self.pace.forget(set_key);
            self.writes.forget(set_key);
            return Ok(None);
        };
        let set = object.as_set();
        let settled = self.expected.satisfied(set_key);
        let Ok(matches) = selector(&set.spec.selector) else {
            tracing::error!(set = set_key, "The selector is malformed, the set is left alone");
            return Ok(None);
        };
        let (count, active) = match self.count(&object, &set, &matches) {
            Some(count) => (count, Vec::new()),
            None => {
                let (active, terminating) = self.claim(&object, &matches).await?;
                (Count::of(&set, &active, terminating, Timestamp::now()), active)
            }
        };
        self.pace.looked(set_key, count.active + count.terminating, Instant::now());
        // Who goes is asked when there are too many.
        let too_many = count.active > plan::replicas(&set);
        let related = if too_many { self.related(&*object) } else { Vec::new() };
        let view = View { set: &set, count, active: &active, related: &related, settled };
        let failure = self.act(set_key, &object, &view).await.err();
        self.write_status(set_key, &object, &view, failure.as_deref()).await?;
        match failure {
            Some(message) => Err(message),
            None => Ok(Self::next_check(&view)),
        }
    }

    /// How many pods the set has, if no single one matters: none has to be adopted, released, deleted, or waited for.
    fn count(&self, set: &K, as_set: &ReplicaSet, matches: &Selector) -> Option<Count> {
        if plan::min_ready_seconds(as_set) > 0 {
            return None;
        }
        let count = tally::count(&self.tally, set, matches, &plan::template_labels(as_set))?;
        if count.active > plan::replicas(as_set) {
            return None;
        }
        let orphans = self.pods.by_index(BY_CONTROLLER, set.namespace());
        let mut candidates = orphans.iter().filter(|p| pods::is_active(p));
        candidates.all(|p| !matches.matches(&p.metadata.labels)).then_some(count)
    }

    /// The set's pods: active ones, adopted or released as the selector says, and the number of terminating ones.
    async fn claim(&self, set: &K, matches: &Selector) -> Result<(Vec<Arc<Pod>>, usize), String> {
        let namespace = set.namespace();
        let own_key = pods::controller_key(namespace, K::KIND, set.name(), set.uid());
        let own = self.pods.by_index(BY_CONTROLLER, &own_key);
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
    fn related(&self, set: &K) -> Vec<Arc<Pod>> {
        let Some(owner) = controller_of(set.meta()) else { return Vec::new() };
        self.sets
            .by_index(BY_OWNER, &owner.uid)
            .iter()
            .flat_map(|sibling| {
                let of_sibling =
                    pods::controller_key(set.namespace(), K::KIND, sibling.name(), sibling.uid());
                self.pods.by_index(BY_CONTROLLER, &of_sibling)
            })
            .collect()
    }

    async fn act(&self, set_key: &str, set: &K, view: &View<'_>) -> Result<(), String> {
        match plan::plan(view, Timestamp::now()) {
            Action::Nothing => Ok(()),
            Action::Create(count) => self.create(set_key, set, count).await,
            Action::Delete(names) => self.delete(set_key, set, names).await,
        }
    }

    async fn create(&self, set_key: &str, set: &K, count: usize) -> Result<(), String> {
        let as_set = set.as_set();
        let Some(template) = as_set.spec.template.as_ref() else {
            return Err("the set has no template".to_string());
        };
        let api = self.client.namespaced::<WholePod>(set.namespace());
        let pod = pods::from_template(template, set);
        let prepared = api.prepare(&pod).map_err(|e| format!("writing down a pod of {set_key}: {e}"))?;
        self.expected.expect_creations(set_key, count);
        let (made, failure) = slow_start(count, batch::INITIAL_BATCH, |_| {
            let (api, prepared) = (api.clone(), &prepared);
            async move {
                match api.create_prepared(prepared).await {
                    Ok(made) => {
                        self.writes.wrote(set_key, "pods", &made);
                        self.recorder.event(
                            &reference(set),
                            NORMAL,
                            "SuccessfulCreate",
                            &format!("Created pod: {}", made.named().name),
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

    async fn delete(&self, set_key: &str, set: &K, names: Vec<String>) -> Result<(), String> {
        let namespace = set.namespace();
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
    async fn write_status(
        &self,
        set_key: &str,
        object: &K,
        view: &View<'_>,
        failure: Option<&str>,
    ) -> Result<(), String> {
        let mut status = plan::status(view, failure, Timestamp::now());
        status.observed_generation = view.set.metadata.generation;
        if !K::tells_terminating() {
            status.terminating_replicas = None;
        }
        if !plan::differs(&view.set.status.clone().unwrap_or_default(), &status) {
            return Ok(());
        }
        let api = self.client.namespaced::<K>(object.namespace());
        let name = object.name();
        let first = api.replace_status_for_receipt(&object.with_status(status.clone())).await;
        let written = match first {
            Ok(written) => written,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(_) => {
                let fresh = api.get(name).await.map_err(|e| format!("reading {} {name}: {e}", K::KIND))?;
                let again = api.replace_status_for_receipt(&fresh.with_status(status)).await;
                again.map_err(|e| format!("writing the status of {} {name}: {e}", K::KIND))?
            }
        };
        self.writes.wrote(set_key, K::RESOURCE, &written);
        Ok(())
    }

    /// When the next pod will have been ready for long enough.
    fn next_check(view: &View<'_>) -> Option<Duration> {
        let seconds = plan::min_ready_seconds(view.set);
        let now = Timestamp::now();
        view.active.iter().filter_map(|pod| pods::until_available(pod, seconds, now)).min()
    }
}
