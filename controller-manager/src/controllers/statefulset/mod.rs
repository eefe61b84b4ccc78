//! StatefulSet: pods with names that stay, each with its own claims, brought up and replaced in order.
//!
//! Start reading at [`plan`]; [`identity`] says who the pods are, [`claims`] who owns their claims, [`revisions`] which
//! template each has. Upstream: pkg/controller/statefulset/stateful_set.go.

mod claims;
mod control;
mod identity;
mod metrics;
mod plan;
mod revisions;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Meta};
use component::app::Error;
use component::features::{self, Gate};
use controller::{EventRecorder, RefManager, WARNING, WorkQueue, controller_of, reference};
use hashbrown::HashSet;
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use machinery::labels::Selector;
use parking_lot::Mutex;

use self::plan::View;
use super::shared::own_writes::OwnWrites;
use super::shared::pod_changes::{Change, Owners};
use super::shared::{self, key, selector};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

const KIND: &str = "StatefulSet";
/// Conflicts met with a fresh read before the round is given up. Upstream: client-go/util/retry DefaultRetry.
const CONFLICTS: usize = 5;

struct Shell {
    client: Client,
    sets: Store<StatefulSet>,
    pods: Store<Pod>,
    claims: Store<PersistentVolumeClaim>,
    revisions: Store<ControllerRevision>,
    owners: Owners<StatefulSet>,
    queue: WorkQueue<String>,
    writes: OwnWrites,
    /// Sets and revisions that mean the same: see `means_the_same`.
    same: Mutex<HashSet<String>>,
    recorder: EventRecorder,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    use shared::revisions::{BY_CONTROLLER, controller_index};
    let sets = context.factory.informer::<StatefulSet>(Options::default());
    let history = context
        .factory
        .informer::<ControllerRevision>(Options::default().index(BY_CONTROLLER, controller_index));
    let all_pods = context
        .factory
        .informer::<Pod>(Options::default().index(pods::CONTROLLER_INDEX, pods::controller_index));
    let claims = context.factory.informer::<PersistentVolumeClaim>(Options::default());
    let shell = Arc::new(Shell {
        client: context.client(),
        sets: sets.store(),
        pods: all_pods.store(),
        claims: claims.store(),
        revisions: history.store(),
        owners: Owners::new(sets.store(), |set: &StatefulSet| Some(&set.spec.selector)),
        queue: WorkQueue::new("statefulset"),
        writes: OwnWrites::new()
            .cache("pods", all_pods.store())
            .cache("persistentvolumeclaims", claims.store())
            .cache("statefulsets.apps", sets.store()),
        same: Mutex::default(),
        recorder: context.recorder("statefulset-controller"),
    });
    let to = shell.clone();
    sets.subscribe(move |event| to.queue.add(key(&**event.object())));
    let to = shell.clone();
    all_pods.subscribe(move |event| to.pod_changed(&event));
    let (workers, token) = (context.workers("concurrent-statefulset-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        let synced = sets.wait_synced(&token).await
            && history.wait_synced(&token).await
            && all_pods.wait_synced(&token).await
            && claims.wait_synced(&token).await;
        if !synced {
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
    fn pod_changed(&self, event: &Event<Pod>) {
        for change in self.owners.changes(event, false) {
            match change {
                Change::Created(set) | Change::Deleted(set) | Change::Wake(set) => {
                    self.queue.add(key(&*set));
                }
                Change::Updated { owner, old, new } => {
                    self.queue.add(key(&*owner));
                    let wait = min_ready(&owner);
                    if wait > 0 && !pods::is_ready(old) && pods::is_ready(new) {
                        let pause = Duration::from_secs(u64::try_from(wait).unwrap_or(0));
                        self.queue.add_after(key(&*owner), pause);
                    }
                }
            }
        }
    }

    async fn sync(&self, set_key: &str) -> Result<Option<Duration>, String> {
        self.writes.seen(set_key)?;
        let Some(set) = self.sets.get(set_key) else {
            self.writes.forget(set_key);
            return Ok(None);
        };
        let Ok(matches) = selector(&set.spec.selector) else {
            tracing::error!(set = set_key, "The selector is malformed, the set is left alone");
            return Ok(None);
        };
        let revisions = self.own_revisions(&set, &matches).await?;
        let own = self.claim(&set, &matches).await?;
        self.update(&set, &own, revisions).await
    }

    /// The set's revisions; orphans that the selector matches are adopted.
    async fn own_revisions(
        &self,
        set: &StatefulSet,
        matches: &Selector,
    ) -> Result<Vec<Arc<ControllerRevision>>, String> {
        use shared::revisions::BY_CONTROLLER;
        let namespace = set.namespace();
        let own_key = pods::controller_key(namespace, KIND, set.name(), set.uid());
        let own = self.revisions.by_index(BY_CONTROLLER, &own_key);
        let orphans = self.revisions.by_index(BY_CONTROLLER, namespace);
        let all: Vec<_> = own
            .into_iter()
            .chain(orphans)
            .filter(|r| matches.matches(&r.metadata.labels.as_ref()))
            .filter(|r| controller_of(&r.metadata).is_none_or(|o| o.uid == set.uid()))
            .collect();
        let manager = RefManager::new(
            self.client.namespaced(namespace),
            self.client.namespaced(namespace),
            set,
            |labels| matches.matches(labels),
        );
        manager.claim(all, |_| true).await.map_err(|e| e.to_string())
    }

    async fn claim(&self, set: &StatefulSet, matches: &Selector) -> Result<Vec<Arc<Pod>>, String> {
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
        let all = own.into_iter().chain(orphans);
        manager.claim(all, |pod| identity::is_member(set, pod)).await.map_err(|e| e.to_string())
    }

    async fn update(
        &self,
        set: &StatefulSet,
        own: &[Arc<Pod>],
        revisions: Vec<Arc<ControllerRevision>>,
    ) -> Result<Option<Duration>, String> {
        let now = Timestamp::now();
        let revisions = self.find_revisions(set, revisions).await?;
        self.refuse_unknown_strategy(set)?;
        let claim = |name: &str| self.claims.get_by(set.namespace(), name);
        let view = View {
            set,
            pods: own,
            current: &revisions.current,
            update: &revisions.update,
            collisions: revisions.collisions,
            claim: &claim,
            now,
        };
        let plan = plan::plan(&view)?;
        let serves =
            |p: &&Arc<Pod>| identity::is_wanted(set, &***p) && view.is_available(p) && !pods::is_deleted(p);
        let up = super::shared::count(own.iter().filter(serves).count());
        metrics::tell(set, identity::replicas(set) - up, plan::max_unavailable(set)?);
        let (replaced, outcome) = self.carry_out(set, &plan).await;
        let mut status = plan.status;
        status.current_replicas = status.current_replicas.map(|n| n - replaced);
        status::complete(set, &mut status, now);
        let look_again = look_again(set, own, &status, now);
        let written = self.write_status(set, status).await;
        let truncated = self.truncate(set, own, &revisions).await;
        outcome.and(written).and(truncated)?;
        Ok(look_again)
    }

    fn refuse_unknown_strategy(&self, set: &StatefulSet) -> Result<(), String> {
        let strategy = set.spec.update_strategy.as_ref();
        let recreates = strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate");
        if !recreates || features::enabled(Gate::StatefulSetRecreateStrategy) {
            return Ok(());
        }
        let message = format!(
            "statefulset {}/{} uses Recreate strategy but feature gate StatefulSetRecreateStrategy is disabled",
            set.namespace(),
            set.name()
        );
        self.recorder.event(&reference(set), WARNING, "UnknownStrategy", &message);
        Err(message)
    }

    async fn write_status(&self, set: &StatefulSet, status: StatefulSetStatus) -> Result<(), String> {
        if !status::differs(&set.status.clone().unwrap_or_default(), &status) {
            return Ok(());
        }
        let api = self.client.namespaced::<StatefulSet>(set.namespace());
        let about = |e: client::Error| format!("writing the status of stateful set {}: {e}", key(set));
        let mut new = set.clone();
        for attempt in 1.. {
            new.status = Some(status.clone());
            match api.replace_status_for_receipt(&new).await {
                Ok(written) => {
                    self.writes.wrote(&key(set), "statefulsets.apps", &written);
                    break;
                }
                Err(e) if e.is_conflict() && attempt < CONFLICTS => {
                    new = api.get(set.name()).await.map_err(about)?;
                }
                Err(e) => return Err(about(e)),
            }
        }
        Ok(())
    }
}

fn min_ready(set: &StatefulSet) -> i32 {
    set.spec.min_ready_seconds.unwrap_or(0)
}

/// When the next pod will have been ready for long enough.
fn look_again(
    set: &StatefulSet,
    own: &[Arc<Pod>],
    status: &StatefulSetStatus,
    now: Timestamp,
) -> Option<Duration> {
    let wait = min_ready(set);
    if wait <= 0 || status.ready_replicas == status.available_replicas {
        return None;
    }
    let next = own.iter().filter_map(|p| pods::until_available(p, wait, now)).min();
    Some(next.unwrap_or_else(|| Duration::from_secs(u64::try_from(wait).unwrap_or(0))))
}
