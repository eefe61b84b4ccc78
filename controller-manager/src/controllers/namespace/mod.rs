//! Namespace: empties a namespace that is being deleted, then lets it go.
//!
//! Pods go first and alone: what guards them (network policies, quotas) must outlive them. Then every other resource
//! that the server offers, built in or not. What keeps an object is told in the namespace's conditions.
//! Upstream: pkg/controller/namespace/deletion/namespaced_resources_deleter.go.

mod conditions;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Gvr, ListParams, Meta, PartialObjectMetadata, Propagation, WriteParams};
use component::app::Error;
use controller::WorkQueue;
use controller::limiter::ItemExponential;
use informer::{Event, Options};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};

use self::conditions::Findings;
use crate::context::Context;
use crate::descriptor::Running;

/// The finalizer that this controller removes.
const FINALIZER: &str = "kubernetes";
/// API servers that have not seen the deletion yet may still let objects in; waiting catches these.
const GRACE: Duration = Duration::from_secs(5);
/// When to look again at objects that finalizers keep.
const FINALIZER_ESTIMATE: Duration = Duration::from_secs(15);

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let namespaces = context.factory.informer::<Namespace>(Options::default());
    let queue: WorkQueue<String> = WorkQueue::with_limiter(
        "namespace",
        ItemExponential::new(Duration::from_millis(5), Duration::from_secs(60)),
    );
    let to = queue.clone();
    namespaces.subscribe(move |event| {
        if let Event::Added(namespace) | Event::Updated { new: namespace, .. } = event
            && namespace.metadata.deletion_timestamp.is_some()
            && !is_finalized(&namespace)
        {
            to.add_after(namespace.metadata.name.clone().unwrap_or_default(), GRACE);
        }
    });
    let deleter = Arc::new(Deleter { client: context.client() });
    let (workers, token) = (context.workers("concurrent-namespace-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        if !namespaces.wait_synced(&token).await {
            return;
        }
        queue
            .run(workers, &token, move |name: String| {
                let deleter = deleter.clone();
                async move { deleter.sync(&name).await }
            })
            .await;
    }))
}

fn is_finalized(namespace: &Namespace) -> bool {
    namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref()).is_none_or(Vec::is_empty)
}

struct Deleter {
    client: Client,
}

/// What is left of one resource, and when to look again.
#[derive(Default)]
struct Left {
    look_again: Duration,
    findings: Findings,
}

impl Deleter {
    async fn sync(&self, name: &str) -> Result<Option<Duration>, String> {
        let api = self.client.all::<Namespace>();
        let context = |what: &str, e: client::Error| format!("{what} namespace {name}: {e}");
        let Some(namespace) = api.get_opt(name).await.map_err(|e| context("reading", e))? else {
            return Ok(None);
        };
        if namespace.metadata.deletion_timestamp.is_none() || is_finalized(&namespace) {
            return Ok(None);
        }
        let namespace = self.mark_terminating(namespace).await.map_err(|e| context("marking", e))?;
        let left = self.empty(name, &namespace).await;
        self.tell(&namespace, &left.findings).await;
        let failures: Vec<String> =
            left.findings.undiscovered.iter().chain(&left.findings.failures).cloned().collect();
        if !failures.is_empty() {
            return Err(failures.join(", "));
        }
        if !left.look_again.is_zero() {
            return Ok(Some(left.look_again / 2 + Duration::from_secs(1)));
        }
        self.finalize(name).await.map_err(|e| context("finalizing", e))?;
        Ok(None)
    }

    async fn mark_terminating(&self, namespace: Namespace) -> client::Result<Namespace> {
        if namespace.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Terminating") {
            return Ok(namespace);
        }
        let api = self.client.all::<Namespace>();
        let mut new = namespace;
        loop {
            new.status.get_or_insert_default().phase = Some("Terminating".to_string());
            match api.replace_status(&new).await {
                Err(error) if error.is_conflict() => new = api.get(new.name()).await?,
                other => return other,
            }
        }
    }

    /// Deletes what is in the namespace.
    async fn empty(&self, name: &str, namespace: &Namespace) -> Left {
        let mut all = Left::default();
        let discovered = match self.client.discover().await {
            Ok(discovered) => discovered,
            Err(error) => {
                all.findings.undiscovered.push(error.to_string());
                return all;
            }
        };
        all.findings
            .undiscovered
            .extend(discovered.failed.iter().map(|(group, why)| format!("{group}: {why}")));
        let pods = Gvr::of::<Pod>();
        let deleted_at = namespace.metadata.deletion_timestamp.as_ref().map(|t| t.0);
        let grace = self.pods_grace(name, deleted_at).await;
        all.add(self.empty_resource(&pods, true, name, grace).await);
        if !all.findings.remaining.is_empty() {
            return all;
        }
        for resource in discovered.preferred() {
            if resource.namespaced && resource.gvr != pods && resource.supports(&["delete"]) {
                let collection = resource.supports(&["deletecollection"]);
                let listable = resource.supports(&["list"]);
                if collection || listable {
                    all.add(self.empty_resource(&resource.gvr, collection, name, Duration::ZERO).await);
                }
            }
        }
        all
    }

    /// The longest time that a pod may still take to end.
    async fn pods_grace(&self, name: &str, deleted_at: Option<Timestamp>) -> Duration {
        let Ok(pods) = self.client.namespaced::<Pod>(name).list(&ListParams::default()).await else {
            return Duration::ZERO;
        };
        let unfinished = pods.items.iter().filter(|p| !controller::pods::is_terminal(p));
        let longest = unfinished
            .filter_map(|p| p.spec.as_ref()?.termination_grace_period_seconds)
            .filter_map(|s| u64::try_from(s).ok())
            .max()
            .map_or(Duration::ZERO, Duration::from_secs);
        let passed = deleted_at.map_or(Duration::ZERO, |t| Timestamp::now().duration_since(t).unsigned_abs());
        if passed >= longest { Duration::ZERO } else { longest }
    }

    async fn empty_resource(&self, gvr: &Gvr, collection: bool, namespace: &str, grace: Duration) -> Left {
        match self.try_empty(gvr, collection, namespace).await {
            Err(error) if error.is_not_found() || error.is_method_not_allowed() => Left::default(),
            Err(error) => {
                let failures = vec![format!("deleting {} of {namespace}: {error}", gvr.resource)];
                Left { look_again: grace, findings: Findings { failures, ..Findings::default() } }
            }
            Ok(items) => what_is_left(gvr, namespace, &items, grace),
        }
    }

    /// Deletes all objects of a resource and lists what stays.
    async fn try_empty(
        &self,
        gvr: &Gvr,
        collection: bool,
        namespace: &str,
    ) -> client::Result<Vec<PartialObjectMetadata>> {
        let api = self.client.metadata(gvr, namespace);
        let background =
            DeleteParams { propagation: Some(Propagation::Background), ..DeleteParams::default() };
        if collection {
            api.delete_collection(&background, &ListParams::default()).await?;
        } else {
            for item in api.list(&ListParams::default()).await?.items {
                match api.delete(item.name(), &background).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(api.list(&ListParams::default()).await?.items)
    }

    /// Writes the conditions. A failure is only logged: the next round says the same again.
    async fn tell(&self, namespace: &Namespace, findings: &Findings) {
        let mut new = namespace.clone();
        let conditions = new.status.get_or_insert_default().conditions.get_or_insert_default();
        if conditions::update(conditions, findings, Timestamp::now())
            && let Err(error) = self.client.all::<Namespace>().replace_status(&new).await
        {
            tracing::warn!(namespace = namespace.name(), %error, "Writing the conditions of a namespace failed");
        }
    }

    async fn finalize(&self, name: &str) -> client::Result<()> {
        let api = self.client.all::<Namespace>();
        loop {
            let Some(mut namespace) = api.get_opt(name).await? else { return Ok(()) };
            if let Some(finalizers) = namespace.spec.as_mut().and_then(|s| s.finalizers.as_mut()) {
                finalizers.retain(|f| f != FINALIZER);
            }
            match api.replace_with(&namespace, "finalize", &WriteParams::default()).await {
                Err(error) if error.is_conflict() => {}
                Err(error) if error.is_not_found() => return Ok(()),
                other => return other.map(drop),
            }
        }
    }
}

impl Left {
    fn add(&mut self, other: Left) {
        self.look_again = self.look_again.max(other.look_again);
        self.findings.failures.extend(other.findings.failures);
        self.findings.remaining.extend(other.findings.remaining);
        for (finalizer, count) in other.findings.finalizers {
            *self.findings.finalizers.entry(finalizer).or_default() += count;
        }
    }
}

/// Judges the objects that stayed: they end by themselves, wait for finalizers, or should not be there. Pure.
fn what_is_left(gvr: &Gvr, namespace: &str, items: &[PartialObjectMetadata], grace: Duration) -> Left {
    let mut left = Left::default();
    if items.is_empty() {
        return left;
    }
    left.findings.remaining.insert(format!("{}.{}", gvr.resource, gvr.group), items.len());
    for finalizer in items.iter().flat_map(|i| i.metadata.finalizers.iter().flatten()) {
        *left.findings.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    left.look_again = match (grace.is_zero(), left.findings.finalizers.is_empty()) {
        (false, _) => grace,
        (true, false) => FINALIZER_ESTIMATE,
        (true, true) => {
            let failure = format!("unexpected items still remain in namespace: {namespace} for gvr: {gvr}");
            left.findings.failures.push(failure);
            Duration::ZERO
        }
    };
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(finalizers: &[&str]) -> Vec<PartialObjectMetadata> {
        let mut item = PartialObjectMetadata::default();
        item.metadata.finalizers = Some(finalizers.iter().map(ToString::to_string).collect());
        vec![item]
    }

    #[test]
    fn objects_that_stay_are_judged() {
        let pods = Gvr::new("", "v1", "pods");
        assert_eq!(what_is_left(&pods, "n", &[], Duration::ZERO).findings, Findings::default());
        assert_eq!(what_is_left(&pods, "n", &items(&["f"]), Duration::ZERO).look_again, FINALIZER_ESTIMATE);
        assert_eq!(
            what_is_left(&pods, "n", &items(&[]), Duration::from_secs(30)).look_again,
            Duration::from_secs(30)
        );
        assert_eq!(what_is_left(&pods, "n", &items(&[]), Duration::ZERO).findings.failures.len(), 1);
    }
}
