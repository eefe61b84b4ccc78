//! DaemonSet: one pod on every node that it fits.
//!
//! Pods are bound by the scheduler, to the one node their affinity names. Start reading at [`plan`]; [`rolling`]
//! replaces pods of old templates, [`history`] keeps these. Upstream: pkg/controller/daemon/daemon_controller.go.

mod history;
mod node;
mod plan;
mod rolling;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Meta};
use component::app::Error;
use controller::{
    Expectations, NORMAL, RefManager, WARNING, WorkQueue, batch, controller_of, reference, slow_start,
};
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::Node;
use machinery::labels::Selector;
use parking_lot::Mutex;

use self::history::History;
use self::node::{Fit, Placement};
use self::plan::{ByNode, Plan, View};
use super::shared::backoff::Backoff;
use super::shared::own_writes::OwnWrites;
use super::shared::pod_changes::{Change, Owners};
use super::shared::pod_control::PodControl;
use super::shared::{key, revisions, selector};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

const KIND: &str = "DaemonSet";
/// Failed pods are replaced after a second, then two, up to a quarter of an hour.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15 * 60);

struct Shell {
    client: Client,
    sets: Store<DaemonSet>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    revisions: Store<ControllerRevision>,
    owners: Owners<DaemonSet>,
    queue: WorkQueue<String>,
    node_queue: WorkQueue<String>,
    expected: Expectations,
    writes: OwnWrites,
    backoff: Mutex<Backoff>,
    control: PodControl,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let sets = context.factory.informer::<DaemonSet>(Options::default());
    let history = context.factory.informer::<ControllerRevision>(
        Options::default().index(revisions::BY_CONTROLLER, revisions::controller_index),
    );
    let all_pods = context.factory.informer::<Pod>(
        Options::default()
            .index(pods::CONTROLLER_INDEX, pods::controller_index)
            .index(pods::NODE_INDEX, pods::node_index),
    );
    let nodes = context.factory.informer::<Node>(Options::default());
    let recorder = context.recorder("daemonset-controller");
    let shell = Arc::new(Shell {
        client: context.client(),
        sets: sets.store(),
        pods: all_pods.store(),
        nodes: nodes.store(),
        revisions: history.store(),
        owners: Owners::new(sets.store(), |set: &DaemonSet| Some(&set.spec.selector)),
        queue: WorkQueue::new("daemonset"),
        node_queue: WorkQueue::new("daemonset-node-updates"),
        expected: Expectations::new(),
        writes: OwnWrites::new().cache("pods", all_pods.store()).cache("daemonsets.apps", sets.store()),
        backoff: Mutex::new(Backoff::new(Duration::from_secs(1), LONGEST_BACKOFF)),
        control: PodControl { client: context.client(), recorder },
    });
    let to = shell.clone();
    sets.subscribe(move |event| to.set_changed(&event));
    let to = shell.clone();
    history.subscribe(move |event| to.revision_changed(&event));
    let to = shell.clone();
    all_pods.subscribe(move |event| to.pod_changed(&event));
    let to = shell.clone();
    nodes.subscribe(move |event| to.node_changed(&event));
    let (workers, token) = (context.workers("concurrent-daemonset-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        let synced = sets.wait_synced(&token).await
            && history.wait_synced(&token).await
            && all_pods.wait_synced(&token).await
            && nodes.wait_synced(&token).await;
        if !synced {
            return;
        }
        let (queue, node_queue) = (shell.queue.clone(), shell.node_queue.clone());
        let of_nodes = shell.clone();
        tokio::join!(
            queue.run(workers, &token, move |key: String| {
                let shell = shell.clone();
                async move { shell.sync(&key).await }
            }),
            node_queue.run(workers, &token, move |name: String| {
                of_nodes.sync_node(&name);
                async { Ok::<_, String>(None) }
            }),
        );
    }))
}

impl Shell {
    fn set_changed(&self, event: &Event<DaemonSet>) {
        let set_key = key(&**event.object());
        let replaced = match event {
            Event::Updated { old, new } => old.metadata.uid != new.metadata.uid,
            Event::Deleted(_) => true,
            Event::Added(_) => false,
        };
        if replaced {
            self.expected.delete(&set_key);
            self.writes.forget(&set_key);
        }
        self.queue.add(set_key);
    }

    fn revision_changed(&self, event: &Event<ControllerRevision>) {
        let (old, new) = match event {
            // Made by this controller, which knows already; or there before it started.
            Event::Added(new) if controller_of(&new.metadata).is_some() => return,
            Event::Added(new) | Event::Deleted(new) => (None, new),
            Event::Updated { old, new } => (Some(old), new),
        };
        for meta in old.map(|o| &o.metadata).into_iter().chain([&new.metadata]) {
            self.owners.controller(meta).into_iter().for_each(|set| self.queue.add(key(&*set)));
        }
        if controller_of(&new.metadata).is_none() && !matches!(event, Event::Deleted(_)) {
            self.owners.matching(&new.metadata).iter().for_each(|set| self.queue.add(key(&**set)));
        }
    }

    fn pod_changed(&self, event: &Event<Pod>) {
        for change in self.owners.changes(event, true) {
            match change {
                Change::Created(set) => {
                    self.expected.creation_observed(&key(&*set));
                    self.queue.add(key(&*set));
                }
                Change::Deleted(set) => {
                    self.expected.deletion_observed(&key(&*set));
                    self.queue.add(key(&*set));
                }
                Change::Wake(set) => self.queue.add(key(&*set)),
                Change::Updated { owner, old, new } => {
                    self.queue.add(key(&*owner));
                    let wait = owner.spec.min_ready_seconds.unwrap_or(0);
                    if wait > 0 && !pods::is_ready(old) && pods::is_ready(new) {
                        // A second more: clocks are compared in whole seconds.
                        let pause = u64::try_from(wait).unwrap_or(0) + 1;
                        self.queue.add_after(key(&*owner), Duration::from_secs(pause));
                    }
                }
            }
        }
    }

    fn node_changed(&self, event: &Event<Node>) {
        let taints = |node: &Node| node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
        let labels = |node: &Node| node.metadata.labels.clone().unwrap_or_default();
        let matters = match event {
            Event::Added(_) => true,
            Event::Updated { old, new } => labels(old) != labels(new) || taints(old) != taints(new),
            Event::Deleted(_) => false,
        };
        if matters {
            self.node_queue.add(event.object().name().to_string());
        }
    }

    /// Wakes the sets to which a node's change matters.
    fn sync_node(&self, name: &str) {
        let Some(node) = self.nodes.get(name) else { return };
        let here = self.pods.by_index(pods::NODE_INDEX, name);
        for set in self.sets.list() {
            let scheduled = here.iter().any(|pod| {
                pod.namespace() == set.namespace()
                    && controller_of(&pod.metadata).is_some_and(|o| o.kind == KIND && o.name == set.name())
            });
            let misplaced = set.status.as_ref().map_or(0, |s| s.number_misscheduled) > 0;
            let matters = match Placement::new(&set).fit(&node) {
                Fit::Run => !scheduled || misplaced,
                Fit::Keep => scheduled && misplaced,
                Fit::Never => scheduled,
            };
            if matters {
                self.queue.add(key(&*set));
            }
        }
    }

    async fn sync(&self, set_key: &str) -> Result<Option<Duration>, String> {
        self.writes.seen(set_key)?;
        self.backoff.lock().forget_old(Timestamp::now());
        let Some(set) = self.sets.get(set_key) else {
            self.expected.delete(set_key);
            self.writes.forget(set_key);
            return Ok(None);
        };
        let matches = selector(&set.spec.selector).map_err(|e| format!("the selector of {set_key}: {e}"))?;
        if matches.is_empty() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.control.recorder.event(&reference(&*set), WARNING, "SelectingAll", message);
            return Ok(None);
        }
        // Of a set that is going away it is unknown which revisions are left, so nothing true can be said.
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let history = self
            .history(&set, &matches)
            .await
            .map_err(|e| format!("failed to construct revisions of DaemonSet: {e}"))?;
        let settled = self.expected.satisfied(set_key);
        let mut look_again = None;
        let failure = if settled {
            self.update(set_key, &set, &matches, &history, &mut look_again).await.err()
        } else {
            None
        };
        let written = self.write_status(set_key, &set, &matches, &history, settled).await;
        match failure {
            Some(failure) => Err(failure),
            None => written.map(|wait| look_again.into_iter().chain(wait).min()),
        }
    }

    async fn update(
        &self,
        set_key: &str,
        set: &DaemonSet,
        matches: &Selector,
        history: &History,
        look_again: &mut Option<Duration>,
    ) -> Result<(), String> {
        let hash = history::hash_of(&history.current.metadata);
        let nodes = self.nodes.list();
        let own = by_node(&self.claim(set, matches).await?);
        let view = View { set, nodes: &nodes, pods: &own, hash, now: Timestamp::now() };
        let first = plan::plan(&view, &self.backoff.lock());
        *look_again = first.look_again;
        self.carry_out(set_key, set, hash, first).await?;
        if self.expected.satisfied(set_key) && plan::rolls(set) {
            let own = by_node(&self.claim(set, matches).await?);
            let next = rolling::plan(&View { pods: &own, now: Timestamp::now(), ..view })?;
            self.carry_out(set_key, set, hash, next).await?;
        }
        self.clean_up(set, &history.old, &self.claim(set, matches).await?).await
    }

    /// The set's pods, adopted or released as the selector says.
    async fn claim(&self, set: &DaemonSet, matches: &Selector) -> Result<Vec<Arc<Pod>>, String> {
        let namespace = set.namespace();
        let own_key = pods::controller_key(namespace, KIND, set.name(), set.uid());
        let own = self.pods.by_index(pods::CONTROLLER_INDEX, &own_key);
        let orphans = self.pods.by_index(pods::CONTROLLER_INDEX, namespace);
        let manager = RefManager::new(
            self.client.namespaced(namespace),
            self.client.namespaced(namespace),
            set,
            |labels| matches.matches(labels),
        );
        manager.claim(own.into_iter().chain(orphans), |_| true).await.map_err(|e| e.to_string())
    }

    async fn carry_out(&self, set_key: &str, set: &DaemonSet, hash: &str, plan: Plan) -> Result<(), String> {
        for (warning, reason, message) in &plan.events {
            let kind = if *warning { WARNING } else { NORMAL };
            self.control.recorder.event(&reference(set), kind, reason, message);
        }
        for node in &plan.failed {
            self.backoff.lock().next(&plan::backoff_key(set, node), Timestamp::now());
        }
        let creations = plan.create.len().min(plan::BURST);
        let deletions = plan.delete.len().min(plan::BURST);
        self.expected.set(set_key, creations, deletions);
        let failed = self.create(set_key, set, hash, &plan.create[..creations]).await;
        let deleted = plan.delete[..deletions].iter().map(|name| self.delete(set_key, set, name));
        let errors = futures::future::join_all(deleted).await;
        let all: Vec<String> = failed.into_iter().chain(errors.into_iter().flatten()).collect();
        if all.is_empty() { Ok(()) } else { Err(machinery::golang::aggregate(&all)) }
    }

    async fn create(&self, set_key: &str, set: &DaemonSet, hash: &str, nodes: &[String]) -> Option<String> {
        let template = node::template(set, hash);
        let (made, failure) = slow_start(nodes.len(), batch::INITIAL_BATCH, |at| {
            let mut template = template.clone();
            async move {
                node::pin(&mut template, &nodes[at]);
                match self.control.create(set, &pods::from_template(&template, set)).await {
                    Ok(made) => {
                        self.writes.wrote(set_key, "pods", &made);
                        Ok(())
                    }
                    // Pods of a namespace that is going away will never be made: nothing to try again.
                    Err(error) if error.is_namespace_terminating() => Ok(()),
                    Err(error) => Err(format!("creating a pod of {set_key} for node {}: {error}", nodes[at])),
                }
            }
        })
        .await;
        (made..nodes.len()).for_each(|_| self.expected.creation_observed(set_key));
        failure
    }

    async fn delete(&self, set_key: &str, set: &DaemonSet, name: &str) -> Option<String> {
        let error = self.control.delete(set, name).await.err()?;
        self.expected.deletion_observed(set_key);
        (!error.is_not_found()).then(|| format!("deleting pod {name} of {set_key}: {error}"))
    }

    /// Writes the status if it says something new; a conflict is met with one fresh read.
    async fn write_status(
        &self,
        set_key: &str,
        set: &DaemonSet,
        matches: &Selector,
        history: &History,
        processed: bool,
    ) -> Result<Option<Duration>, String> {
        let (nodes, own) = (self.nodes.list(), by_node(&self.claim(set, matches).await?));
        let hash = history::hash_of(&history.current.metadata);
        let view = View { set, nodes: &nodes, pods: &own, hash, now: Timestamp::now() };
        let status = status::status(&view, processed);
        // As a last resort against clocks that disagree, availability is looked at once more.
        let wait = view.min_ready_seconds();
        let unripe = wait > 0 && Some(status.number_ready) != status.number_available;
        let look_again = unripe.then(|| Duration::from_secs(u64::try_from(wait).unwrap_or(0)));
        if !status::differs(&view, &status) {
            return Ok(look_again);
        }
        let api = self.client.namespaced::<DaemonSet>(set.namespace());
        let mut new = set.clone();
        new.status = Some(status.clone());
        let written = match api.replace_status_for_receipt(&new).await {
            Ok(written) => Ok(written),
            Err(_) => {
                let mut fresh =
                    api.get(set.name()).await.map_err(|e| format!("reading daemon set {set_key}: {e}"))?;
                let collisions = fresh.status.as_ref().and_then(|s| s.collision_count);
                fresh.status = Some(status);
                fresh.status.get_or_insert_default().collision_count = collisions;
                api.replace_status_for_receipt(&fresh).await
            }
        };
        let written = written.map_err(|e| format!("error storing status for daemon set {set_key}: {e}"))?;
        self.writes.wrote(set_key, "daemonsets.apps", &written);
        Ok(look_again)
    }
}

/// Groups pods; ended ones that are being deleted are somebody else's business.
fn by_node(all: &[Arc<Pod>]) -> ByNode {
    let mut out = ByNode::new();
    for pod in all.iter().filter(|p| !(pods::is_terminal(p) && pods::is_deleted(p))) {
        if let Some(node) = node::target(pod) {
            out.entry(node.to_string()).or_default().push(pod.clone());
        }
    }
    out
}
