//! Storage version garbage collection: what API servers said of the versions they store goes once they are gone.
//!
//! A server is there while its identity lease is. Off by default (feature StorageVersionAPI).
//! Upstream: pkg/controller/storageversiongc/gc_controller.go.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use client::{Client, DeleteParams, Meta};
use component::app::Error;
use controller::WorkQueue;
use informer::{Event, Options};
use jiff::Timestamp;
use k8s_openapi::api::apiserverinternal::v1alpha1::StorageVersion;
use k8s_openapi::api::coordination::v1::Lease;

use self::plan::{Plan, servers};
use crate::context::Context;
use crate::descriptor::Running;

const NAMESPACE: &str = "kube-system";
/// Storage versions by the servers they are of.
const BY_SERVER: &str = "api-server-id";

fn by_server(of: &StorageVersion) -> Vec<String> {
    let all: BTreeSet<&str> = servers(of).collect();
    all.into_iter().map(str::to_owned).collect()
}

/// Whether a lease is that of an API server.
fn is_identity(lease: &Lease) -> bool {
    let labels = lease.metadata.labels.as_ref();
    let label = labels.and_then(|l| l.get("apiserver.kubernetes.io/identity"));
    lease.namespace() == NAMESPACE && label.is_some_and(|l| l == "kube-apiserver")
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let leases = context.factory.informer::<Lease>(Options::default());
    let versions = context.factory.informer::<StorageVersion>(Options::default().index(BY_SERVER, by_server));
    let queue: WorkQueue<String> = WorkQueue::new("storage_version_garbage_collector_storageversions");
    let (to, known) = (queue.clone(), leases.store());
    versions.subscribe(move |event| {
        if let Event::Added(of) | Event::Updated { new: of, .. } = event
            && !servers(&of).all(|id| known.get_by(NAMESPACE, id).is_some_and(|l| is_identity(&l)))
        {
            to.add(of.name().to_owned());
        }
    });
    let (to, known) = (queue.clone(), versions.store());
    leases.subscribe(move |event| {
        if let Event::Deleted(lease) = event
            && is_identity(&lease)
        {
            known.index_keys(BY_SERVER, lease.name()).iter().for_each(|k| to.add(k.to_string()));
        }
    });
    let (client, token) = (context.client(), context.token.clone());
    Ok(Box::pin(async move {
        if !(leases.wait_synced(&token).await && versions.wait_synced(&token).await) {
            return;
        }
        queue
            .run(1, &token, move |name: String| {
                let client = client.clone();
                async move {
                    sync(&client, &name)
                        .await
                        .map(|()| None)
                        .map_err(|e| format!("storage version {name}: {e}"))
                }
            })
            .await;
    }))
}

/// Asks the server itself: what the caches say may be old, and what is forgotten does not come back by itself.
async fn sync(client: &Client, name: &str) -> client::Result<()> {
    let api = client.all::<StorageVersion>();
    let Some(of) = api.get_opt(name).await? else { return Ok(()) };
    let leases = client.namespaced::<Lease>(NAMESPACE);
    let mut there = BTreeSet::new();
    for id in by_server(&of) {
        if leases.get_opt(&id).await?.is_some_and(|l| is_identity(&l)) {
            there.insert(id);
        }
    }
    let done = match plan::plan(&of, |id| there.contains(id), Timestamp::now()) {
        Plan::Nothing => Ok(()),
        Plan::Delete => api.delete(name, &DeleteParams::with_uid(of.uid())).await,
        Plan::Update(new) => api.replace_status(&new).await.map(drop),
    };
    match done {
        Err(e) if e.is_not_found() => Ok(()),
        other => other,
    }
}
