//! Namespace: empties a namespace that is being deleted, then lets it go.
//!
//! Pods go first and alone: what guards them (network policies, quotas) must outlive them. Then every other resource
//! that the server offers, built in or not. What keeps an object is told in the namespace's conditions. Start reading at
//! [`plan`].
//! Upstream: pkg/controller/namespace/deletion/namespaced_resources_deleter.go.

mod conditions;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, DeleteParams, Gvr, ListParams, Meta, PartialObjectMetadata, Propagation, WriteParams};
use component::app::Error;
use controller::WorkQueue;
use controller::limiter::ItemExponential;
use informer::{Event, Options};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;

use self::conditions::Findings;
use self::plan::{Left, Next, what_is_left};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;

/// API servers that have not seen the deletion yet may still let objects in; waiting catches these.
const GRACE: Duration = Duration::from_secs(5);

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
            && !plan::is_finalized(&namespace)
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

struct Deleter {
    client: Client,
}

impl Deleter {
    async fn sync(&self, name: &str) -> Result<Option<Duration>, String> {
        let api = self.client.all::<Namespace>();
        let context = |what: &str, e: client::Error| format!("{what} namespace {name}: {e}");
        let Some(namespace) = api.get_opt(name).await.map_err(|e| context("reading", e))? else {
            return Ok(None);
        };
        if namespace.metadata.deletion_timestamp.is_none() || plan::is_finalized(&namespace) {
            return Ok(None);
        }
        let namespace = self.mark_terminating(namespace).await.map_err(|e| context("marking", e))?;
        let left = self.empty(name, &namespace).await;
        self.tell(&namespace, &left.findings).await;
        match left.next() {
            Next::Fail(failures) => return Err(failures),
            Next::LookAgain(pause) => return Ok(Some(pause)),
            Next::Finalize => {}
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
        plan::pods_grace(&pods.items, deleted_at, Timestamp::now())
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
            plan::let_go(&mut namespace);
            match api.replace_with(&namespace, "finalize", &WriteParams::default()).await {
                Err(error) if error.is_conflict() => {}
                Err(error) if error.is_not_found() => return Ok(()),
                other => return other.map(drop),
            }
        }
    }
}
