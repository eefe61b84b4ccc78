//! Deployment: replaces pods of one template by pods of another, as many at a time as it may.
//!
//! Works through ReplicaSets, one per template; does not touch pods. Start reading at [`plan`].
//! Upstream: pkg/controller/deployment/deployment_controller.go.

mod plan;
mod revision;
mod rollback;
mod size;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Meta};
use component::app::Error;
use controller::{EventRecorder, NORMAL, RefManager, WARNING, WorkQueue, controller_of, reference};
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use self::plan::{Action, Plan, View};
use super::shared::own_writes::{BEHIND, OwnWrites};
use super::shared::{key, selector};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

const KIND: &str = "Deployment";
/// `resource.group`, as errors name it.
const RESOURCE: &str = "deployments.apps";
/// Pods by their controller.
const PODS_BY_CONTROLLER: &str = "podController";
/// Sets by their controller's uid, or by namespace when they have none.
const SETS_BY_OWNER: &str = "deploymentOwner";

struct Shell {
    client: Client,
    deployments: Store<Deployment>,
    sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    queue: WorkQueue<String>,
    recorder: EventRecorder,
    writes: OwnWrites,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let deployments = context.factory.informer::<Deployment>(Options::default());
    let sets = context.factory.informer::<ReplicaSet>(Options::default().index(
        SETS_BY_OWNER,
        |set: &ReplicaSet| {
            vec![match controller_of(&set.metadata) {
                Some(owner) => owner.uid.clone(),
                None => set.metadata.namespace.clone().unwrap_or_default(),
            }]
        },
    ));
    let all_pods =
        context.factory.informer::<Pod>(Options::default().index(PODS_BY_CONTROLLER, pods::controller_index));
    let shell = Arc::new(Shell {
        client: context.client(),
        deployments: deployments.store(),
        sets: sets.store(),
        pods: all_pods.store(),
        queue: WorkQueue::new("deployment"),
        recorder: context.recorder("deployment-controller"),
        writes: OwnWrites::new().cache(RESOURCE, deployments.store()),
    });
    let to = shell.clone();
    deployments.subscribe(move |event| to.queue.add(key(&**event.object())));
    let to = shell.clone();
    sets.subscribe(move |event| to.set_changed(&event));
    let to = shell.clone();
    all_pods.subscribe(move |event| to.pod_changed(&event));
    let (workers, token) = (context.workers("concurrent-deployment-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        let synced = deployments.wait_synced(&token).await
            && sets.wait_synced(&token).await
            && all_pods.wait_synced(&token).await;
        if synced {
            let queue = shell.queue.clone();
            queue
                .run(workers, &token, move |name: String| {
                    let shell = shell.clone();
                    async move { shell.sync(&name).await }
                })
                .await;
        }
    }))
}

impl Shell {
    fn set_changed(&self, event: &Event<ReplicaSet>) {
        let (old, new) = match event {
            Event::Added(set) | Event::Deleted(set) => (None, set),
            Event::Updated { old, new } => (Some(old), new),
        };
        let owners = [old.and_then(|o| controller_of(&o.metadata)), controller_of(&new.metadata)];
        for owner in owners.into_iter().flatten().filter(|o| o.kind == KIND) {
            let namespace = new.metadata.namespace.as_deref().unwrap_or_default();
            if let Some(deployment) = self.deployments.get_by(namespace, &owner.name)
                && deployment.metadata.uid.as_ref() == Some(&owner.uid)
            {
                self.queue.add(key(&*deployment));
            }
        }
        let orphan = controller_of(&new.metadata).is_none() && !matches!(event, Event::Deleted(_));
        if orphan {
            for deployment in
                self.deployments.list_namespace(new.metadata.namespace.as_deref().unwrap_or_default())
            {
                let matches = selector(&deployment.spec.selector).ok();
                if matches.is_some_and(|s| !s.is_empty() && s.matches(&new.metadata.labels.as_ref())) {
                    self.queue.add(key(&*deployment));
                }
            }
        }
    }

    /// With the strategy Recreate, the last old pod's end is what the new set waits for.
    fn pod_changed(&self, event: &Event<Pod>) {
        let pod = event.object();
        let ended = matches!(event, Event::Deleted(_)) || pods::is_terminal(pod);
        let Some(owner) = controller_of(&pod.metadata).filter(|o| ended && o.kind == "ReplicaSet") else {
            return;
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let set = self.sets.get_by(namespace, &owner.name);
        let deployment = set
            .as_ref()
            .and_then(|s| controller_of(&s.metadata))
            .filter(|o| o.kind == KIND)
            .and_then(|o| self.deployments.get_by(namespace, &o.name));
        if let Some(deployment) = deployment.filter(|d| !size::is_rolling(d)) {
            self.queue.add(key(&*deployment));
        }
    }

    async fn sync(&self, name: &str) -> Result<Option<Duration>, String> {
        let Some(deployment) = self.deployments.get(name) else {
            self.writes.forget(name);
            return Ok(None);
        };
        if let Err(behind) = self.writes.seen(name) {
            // A status made of an older one would only be refused. The event that shows the write asks for a round, too.
            tracing::debug!(deployment = name, %behind, "The cache does not show the last write yet");
            return Ok(Some(BEHIND));
        }
        let Ok(matches) = selector(&deployment.spec.selector) else {
            tracing::error!(deployment = name, "The selector is malformed, the Deployment is left alone");
            return Ok(None);
        };
        if matches.is_empty() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&reference(&*deployment), WARNING, "SelectingAll", message);
            return Ok(None);
        }
        let sets = self.claim(&deployment, &matches).await?;
        let old_pods_running = !size::is_rolling(&deployment) && self.old_pods_running(&deployment, &sets);
        let view = View { deployment: &deployment, sets: &sets, old_pods_running };
        if let Some(rollback) = rollback::plan(&view) {
            return self.roll_back(name, &deployment, rollback).await;
        }
        let plan = plan::plan(&view, Timestamp::now());
        self.carry_out(name, &deployment, plan).await
    }

    async fn claim(
        &self,
        deployment: &Deployment,
        matches: &machinery::labels::Selector,
    ) -> Result<Vec<Arc<ReplicaSet>>, String> {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let own = self.sets.by_index(SETS_BY_OWNER, deployment.metadata.uid.as_deref().unwrap_or_default());
        let orphans = self.sets.by_index(SETS_BY_OWNER, namespace);
        let manager = RefManager::new(
            self.client.namespaced(namespace),
            self.client.namespaced(namespace),
            deployment,
            |labels| matches.matches(labels),
        );
        manager.claim(own.into_iter().chain(orphans), |_| true).await.map_err(|e| e.to_string())
    }

    /// Unfinished pods of sets with another template.
    fn old_pods_running(&self, deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> bool {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let template = &deployment.spec.template;
        let old = sets
            .iter()
            .filter(|s| !s.spec.template.as_ref().is_some_and(|t| revision::same_template(t, template)));
        old.into_iter().any(|set| {
            let pods_key = pods::controller_key(namespace, "ReplicaSet", set.name(), set.uid());
            self.pods.by_index(PODS_BY_CONTROLLER, &pods_key).iter().any(|p| !pods::is_terminal(p))
        })
    }

    /// Writes the earlier template, and takes the request for it away so that it is met once.
    async fn roll_back(
        &self,
        name: &str,
        deployment: &Deployment,
        rollback: rollback::Rollback,
    ) -> Result<Option<Duration>, String> {
        let (warning, reason, message) = rollback.event;
        let api = self.client.namespaced::<Deployment>(deployment.namespace());
        api.replace(&rollback.deployment)
            .await
            .map_err(|e| format!("rolling deployment {name} back: {e}"))?;
        let kind = if warning { WARNING } else { NORMAL };
        self.recorder.event(&reference(deployment), kind, reason, &message);
        Ok(None)
    }

    /// Writes in order; the first failure ends the round, which is then tried again from a fresh view.
    async fn carry_out(
        &self,
        name: &str,
        deployment: &Deployment,
        plan: Plan,
    ) -> Result<Option<Duration>, String> {
        let about = reference(deployment);
        let api = self
            .client
            .namespaced::<ReplicaSet>(deployment.metadata.namespace.as_deref().unwrap_or_default());
        for action in plan.actions {
            match action {
                Action::Create(set) => self.create(deployment, &set).await?,
                Action::Update { set, event } => {
                    let set_name = set.name();
                    api.replace(&set)
                        .await
                        .map_err(|e| format!("updating replica set {set_name} of {name}: {e}"))?;
                    if let Some(event) = event {
                        self.recorder.event(&about, NORMAL, "ScalingReplicaSet", &event);
                    }
                }
                Action::Delete(set_name) => match api.delete(&set_name, &DeleteParams::default()).await {
                    Err(e) if !e.is_not_found() => {
                        return Err(format!("deleting replica set {set_name} of {name}: {e}"));
                    }
                    _ => {}
                },
            }
        }
        let mut new = deployment.clone();
        let renumbered = plan.revision.as_ref().is_some_and(|revision| {
            let annotations = new.metadata.annotations.get_or_insert_default();
            annotations.insert(revision::REVISION.to_string(), revision.clone()).as_ref() != Some(revision)
        });
        if renumbered || !status::same(&deployment.status.clone().unwrap_or_default(), &plan.status) {
            new.status = Some(plan.status);
            let api = self
                .client
                .namespaced::<Deployment>(deployment.metadata.namespace.as_deref().unwrap_or_default());
            match api.replace_status_for_receipt(&new).await {
                Ok(written) => self.writes.wrote(name, RESOURCE, &written),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(format!("writing the status of deployment {name}: {error}")),
            }
        }
        Ok(plan.look_again)
    }

    async fn create(&self, deployment: &Deployment, set: &ReplicaSet) -> Result<(), String> {
        let about = reference(deployment);
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let api = self.client.namespaced::<ReplicaSet>(namespace);
        let error = match api.create(set).await {
            Ok(made) => {
                if size::replicas(&made) > 0 {
                    let message =
                        format!("Scaled up replica set {} from 0 to {}", made.name(), size::replicas(&made));
                    self.recorder.event(&about, NORMAL, "ScalingReplicaSet", &message);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        if error.is_already_exists() {
            return self.collided(deployment, set, namespace).await;
        }
        let message = format!("Failed to create new replica set \"{}\": {error}", set.name());
        if !error.is_namespace_terminating() {
            self.recorder.event(&about, WARNING, "ReplicaSetCreateError", &message);
            if status::deadline(deployment).is_some() {
                let mut new = deployment.clone();
                let told =
                    status::progressing("False", "ReplicaSetCreateError", message.clone(), Timestamp::now());
                status::set(new.status.get_or_insert_default(), told);
                // The creation's failure is what is reported; the next round writes the status again.
                let _ = self.client.namespaced::<Deployment>(namespace).replace_status(&new).await;
            }
        }
        Err(message)
    }

    /// The name is taken: by our own set of an earlier round that the cache does not show yet, or by another template
    /// with the same hash, which another count of collisions avoids.
    async fn collided(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        namespace: &str,
    ) -> Result<(), String> {
        let api = self.client.namespaced::<ReplicaSet>(namespace);
        let found =
            api.get(set.name()).await.map_err(|e| format!("reading replica set {}: {e}", set.name()))?;
        let ours =
            controller_of(&found.metadata).is_some_and(|o| Some(&o.uid) == deployment.metadata.uid.as_ref());
        let same = found
            .spec
            .template
            .as_ref()
            .zip(set.spec.template.as_ref())
            .is_some_and(|(a, b)| revision::same_template(a, b));
        if ours && same {
            return Ok(());
        }
        let mut new = deployment.clone();
        let status = new.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        let api = self.client.namespaced::<Deployment>(namespace);
        let written = api.replace_status_for_receipt(&new).await;
        let told = written.map_or_else(|e| e.to_string(), |_| "the next name will differ".to_string());
        Err(format!("replica set {} exists with another template: {told}", set.name()))
    }
}
