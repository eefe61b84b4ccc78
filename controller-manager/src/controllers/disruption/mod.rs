//! Disruption: says how many pods of each budget may be evicted, and takes back marks of evictions that did not happen.
//!
//! Start reading at [`plan`]. Upstream: pkg/controller/disruption/disruption.go.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Meta};
use component::app::Error;
use controller::{EventRecorder, NORMAL, WARNING, WorkQueue, controller_of, reference};
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

pub use self::plan::show as show_selector;
use super::shared::scales::{Scales, group_version};
use super::shared::{fail_pod, key, selector};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;

struct Shell {
    client: Client,
    pods: Store<Pod>,
    budgets: Store<PodDisruptionBudget>,
    replication: Store<ReplicationController>,
    sets: Store<ReplicaSet>,
    deployments: Store<Deployment>,
    stateful: Store<StatefulSet>,
    scales: Scales,
    queue: WorkQueue<String>,
    marked: WorkQueue<String>,
    recorder: EventRecorder,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let factory = &context.factory;
    let pods = factory.informer::<Pod>(Options::default());
    let budgets = factory.informer::<PodDisruptionBudget>(Options::default());
    let replication = factory.informer::<ReplicationController>(Options::default());
    let sets = factory.informer::<ReplicaSet>(Options::default());
    let deployments = factory.informer::<Deployment>(Options::default());
    let stateful = factory.informer::<StatefulSet>(Options::default());
    let shell = Arc::new(Shell {
        client: context.client(),
        pods: pods.store(),
        budgets: budgets.store(),
        replication: replication.store(),
        sets: sets.store(),
        deployments: deployments.store(),
        stateful: stateful.store(),
        scales: Scales::new(context.client()),
        queue: WorkQueue::new("disruption"),
        marked: WorkQueue::new("stale_pod_disruption"),
        recorder: context.recorder("controllermanager"),
    });
    let to = shell.clone();
    pods.subscribe(move |event| to.pod_changed(&event));
    let to = shell.clone();
    budgets.subscribe(move |event| to.queue.add(key(&**event.object())));
    let (workers, token) = (context.workers("concurrent-disruption-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        let synced = pods.wait_synced(&token).await
            && budgets.wait_synced(&token).await
            && replication.wait_synced(&token).await
            && sets.wait_synced(&token).await
            && deployments.wait_synced(&token).await
            && stateful.wait_synced(&token).await;
        if !synced {
            return;
        }
        let (queue, marked, of_marked) = (shell.queue.clone(), shell.marked.clone(), shell.clone());
        tokio::join!(
            queue.run(workers, &token, move |key: String| {
                let shell = shell.clone();
                async move { shell.sync(&key).await }
            }),
            marked.run(1, &token, move |key: String| {
                let shell = of_marked.clone();
                async move { shell.sync_mark(&key).await }
            }),
        );
    }))
}

/// The sum of controllers' sizes, and pods that have none.
#[derive(Default)]
struct Scale {
    sum: i32,
    unmanaged: Vec<String>,
}

impl Shell {
    fn pod_changed(&self, event: &Event<Pod>) {
        let pod = event.object();
        if let Some(budget) = self.budget_of(pod) {
            self.queue.add(key(&*budget));
        }
        if !matches!(event, Event::Deleted(_))
            && let Some(wait) = plan::stale_after(pod, Timestamp::now())
        {
            self.marked.add_after(key(&**pod), wait);
        }
    }

    /// An empty selector selects every pod, an absent one none.
    fn budget_of(&self, pod: &Pod) -> Option<Arc<PodDisruptionBudget>> {
        let selects = |budget: &Arc<PodDisruptionBudget>| {
            let wanted = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
            let wanted = wanted.and_then(|s| selector(s).ok());
            wanted.is_some_and(|s| s.matches(&pod.metadata.labels.as_ref()))
        };
        let mut found = self.budgets.list_namespace(pod.namespace()).into_iter().filter(selects);
        let (first, second) = (found.next(), found.next());
        if let (Some(first), Some(_)) = (&first, second) {
            let message = format!(
                "Pod {:?}/{:?} matches multiple PodDisruptionBudgets.  Chose {:?} arbitrarily.",
                pod.namespace(),
                pod.name(),
                first.name()
            );
            self.recorder.event(&reference(pod), WARNING, "MultiplePodDisruptionBudgets", &message);
        }
        first
    }

    async fn sync(&self, budget_key: &str) -> Result<Option<Duration>, String> {
        let Some(budget) = self.budgets.get(budget_key) else { return Ok(None) };
        let now = Timestamp::now();
        match self.try_sync(&budget, now).await {
            Ok(again) => Ok(again),
            // Somebody else wrote: the next round sees it.
            Err(Failure::Write(e)) if e.is_conflict() => Err(e.to_string()),
            Err(failure) => {
                let why = failure.to_string();
                tracing::error!(budget = budget_key, error = why, "The budget allows nothing for now");
                let mut new = (*budget).clone();
                new.status = Some(plan::fail_safe(&budget, &why, now));
                self.write(&new).await.map(|()| None).map_err(|e| e.to_string())
            }
        }
    }

    async fn try_sync(
        &self,
        budget: &PodDisruptionBudget,
        now: Timestamp,
    ) -> Result<Option<Duration>, Failure> {
        let spec = budget.spec.clone().unwrap_or_default();
        let pods = self.pods_of(budget, &spec)?;
        let scale = if plan::needs_scale(&spec) { self.scale(&pods).await } else { Ok(Scale::default()) };
        let wanted = scale.and_then(|s| plan::wanted(&spec, pods.len(), s.sum).map(|w| (s, w)));
        let (scale, wanted) = wanted.map_err(|e| {
            let message = format!("Failed to calculate the number of expected pods: {e}");
            self.recorder.event(&reference(budget), WARNING, "CalculateExpectedPodCountFailed", &message);
            Failure::Plan(e)
        })?;
        if !scale.unmanaged.is_empty() {
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
                plan::show(spec.selector.as_ref())
            );
            self.recorder.event(&reference(budget), WARNING, "UnmanagedPods", &message);
        }
        let disrupted = plan::disrupted(budget, &pods, now);
        for pod in &disrupted.survivors {
            let namespace = budget.namespace();
            let message =
                format!("Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't");
            self.recorder.event(&reference(&**pod), WARNING, "NotDeleted", &message);
        }
        let healthy = plan::healthy(&pods, &disrupted);
        if let Some(status) = plan::status(budget, wanted, healthy, disrupted.pods, now) {
            let mut new = budget.clone();
            new.status = Some(status);
            self.write(&new).await.map_err(Failure::Write)?;
        }
        Ok(disrupted.look_again)
    }

    fn pods_of(
        &self,
        budget: &PodDisruptionBudget,
        spec: &PodDisruptionBudgetSpec,
    ) -> Result<Vec<Arc<Pod>>, Failure> {
        let Some(wanted) = &spec.selector else { return Ok(Vec::new()) };
        let wanted = selector(wanted).map_err(|e| {
            let message = format!("Failed to get pods: {e}");
            self.recorder.event(&reference(budget), WARNING, "NoPods", &message);
            Failure::Plan(e.to_string())
        })?;
        let all = self.pods.list_namespace(budget.namespace());
        let pods: Vec<_> = all.into_iter().filter(|p| wanted.matches(&p.metadata.labels.as_ref())).collect();
        if pods.is_empty() {
            self.recorder.event(&reference(budget), NORMAL, "NoPods", "No matching pods found");
        }
        Ok(pods)
    }

    /// Adds the sizes of the pods' controllers up, each once. Upstream: getExpectedScale.
    async fn scale(&self, pods: &[Arc<Pod>]) -> Result<Scale, String> {
        let (mut sizes, mut unmanaged) = (BTreeMap::<String, i32>::new(), Vec::new());
        for pod in pods {
            let Some(owner) = controller_of(&pod.metadata) else {
                unmanaged.push(pod.name().to_string());
                continue;
            };
            if sizes.contains_key(&owner.uid) {
                continue;
            }
            let found = match self.cached_size(pod.namespace(), owner)? {
                Some(found) => Some(found),
                None => self.asked_size(pod.namespace(), owner).await?,
            };
            let (uid, size) =
                found.ok_or_else(|| format!("found no controllers for pod {:?}", pod.name()))?;
            sizes.insert(uid, size);
        }
        Ok(Scale { sum: sizes.values().sum(), unmanaged })
    }

    /// The size of a controller of a kind that is watched anyway. A set of a Deployment counts as the Deployment.
    fn cached_size(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>, String> {
        let (group, _) = group_version(&owner.api_version)?;
        let same = |uid: &str| uid == owner.uid;
        let found = match (group, owner.kind.as_str()) {
            ("", "ReplicationController") => self
                .replication
                .get_by(namespace, &owner.name)
                .filter(|c| same(c.uid()))
                .map(|c| c.spec.as_ref().and_then(|s| s.replicas)),
            ("apps", "StatefulSet") => self
                .stateful
                .get_by(namespace, &owner.name)
                .filter(|s| same(s.uid()))
                .map(|s| s.spec.replicas),
            ("apps" | "extensions", "ReplicaSet") => {
                let set = self.sets.get_by(namespace, &owner.name).filter(|s| same(s.uid()));
                return Ok(set.and_then(|set| self.set_size(namespace, &set)));
            }
            _ => None,
        };
        Ok(found.map(|size| (owner.uid.clone(), size.unwrap_or(1))))
    }

    fn set_size(&self, namespace: &str, set: &ReplicaSet) -> Option<(String, i32)> {
        match controller_of(&set.metadata).filter(|o| o.kind == "Deployment") {
            None => Some((set.uid().to_string(), set.spec.replicas.unwrap_or(1))),
            Some(owner) => {
                let deployment = self.deployments.get_by(namespace, &owner.name)?;
                let size = deployment.spec.replicas.unwrap_or(1);
                (deployment.uid() == owner.uid).then(|| (owner.uid.clone(), size))
            }
        }
    }

    /// The size of a controller of any other kind, by its `scale`. Upstream: getScaleController.
    async fn asked_size(
        &self,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Option<(String, i32)>, String> {
        let (group, version) = group_version(&owner.api_version)?;
        let found = self.scales.resources(group, Some(version), &owner.kind).await?;
        let Some(resource) = found.into_iter().next() else { return Ok(None) };
        match self.scales.get(&resource.gvr, namespace, &owner.name).await {
            Ok(scale) if scale.uid() == owner.uid => {
                let size = scale.spec.and_then(|s| s.replicas).unwrap_or(0);
                Ok(Some((owner.uid.clone(), size)))
            }
            Ok(_) => Ok(None),
            Err(e) if e.is_not_found() => {
                if resource.subresources.iter().any(|(name, _)| name == "scale") {
                    return Ok(None);
                }
                let dot = if group.is_empty() { "" } else { "." };
                let name = format!("{}{dot}{group}", resource.gvr.resource);
                Err(format!("{name} does not implement the scale subresource"))
            }
            Err(e) => Err(e.to_string()),
        }
    }

    async fn write(&self, budget: &PodDisruptionBudget) -> client::Result<()> {
        self.client
            .namespaced::<PodDisruptionBudget>(budget.namespace())
            .replace_status(budget)
            .await
            .map(drop)
    }

    /// Takes the mark of an eviction back that did not happen.
    async fn sync_mark(&self, pod_key: &str) -> Result<Option<Duration>, String> {
        let Some(pod) = self.pods.get(pod_key) else { return Ok(None) };
        let now = Timestamp::now();
        match plan::stale_after(&pod, now) {
            None => return Ok(None),
            Some(wait) if !wait.is_zero() => return Ok(Some(wait)),
            Some(_) => {}
        }
        let Some(cleared) = plan::clear_mark(&pod, now) else { return Ok(None) };
        let api = self.client.namespaced::<Pod>(pod.namespace());
        match fail_pod::patch(&api, &pod, json!({"conditions": [cleared]}), true).await {
            Ok(()) => Ok(None),
            Err(e) => Err(format!("clearing the DisruptionTarget condition of pod {pod_key}: {e}")),
        }
    }
}

/// Why a budget's status could not be brought up to date.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Plan(String),
    #[error("{0}")]
    Write(client::Error),
}
