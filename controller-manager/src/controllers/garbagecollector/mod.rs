//! Garbage collector: deletes objects whose owners are all gone, and carries out foreground deletion and orphaning.
//!
//! [`graph`] holds who owns whom, fed by metadata informers of everything that can be deleted; [`plan`] judges one
//! object. Before anything is deleted the object and its owners are read from the server: the graph only says what is
//! worth looking at. An object of which every owner was found to be absent is not read first, it is deleted in the version
//! that the cache has: a server that has a newer one refuses, and only then it is read. Upstream reads it always.
//! Upstream: pkg/controller/garbagecollector/garbagecollector.go.

mod graph;
mod monitors;
mod nodes;
mod plan;
#[cfg(test)]
mod tests;
mod uid;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{
    ApiResource, Client, DeleteParams, Error as ClientError, Gvr, Meta, PartialObjectMetadata, Patch,
    PatchParams, Propagation,
};
use component::app::Error;
use controller::owner::release_patch;
use controller::{EventRecorder, Related, WARNING, WorkQueue};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::{Mutex, RwLock};

use self::graph::{FOREGROUND, Facts, Graph, Identity, ORPHAN, Uid, Work};
use self::monitors::{Kinds, Source};
use self::plan::{Standing, Verdict};
use crate::context::Context;
use crate::descriptor::Running;

/// How often discovery is asked for new and lost resources.
const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
/// Work starts after this time even if some informer has not synced.
const INITIAL_SYNC: Duration = Duration::from_secs(30);
/// Attempts to write a finalizer off.
const CONFLICTS: usize = 5;

struct Shell {
    client: Client,
    graph: Mutex<Graph>,
    kinds: RwLock<Arc<Kinds>>,
    sources: RwLock<HashMap<Gvr, Source>>,
    delete: WorkQueue<Uid>,
    orphan: WorkQueue<Uid>,
    recorder: EventRecorder,
}

/// Why an object could not be dealt with.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It does not exist; the graph is told.
    #[error("{0} does not exist")]
    Gone(Identity),
    /// Trying again would not help.
    #[error("cluster-scoped objects cannot refer to namespaced owners")]
    NamespacedOwner,
    #[error("the server does not offer {kind} of {version:?}")]
    UnknownKind { kind: String, version: String },
    #[error("{doing} {object}: {source}")]
    Call { doing: &'static str, object: Identity, source: ClientError },
    #[error("{0} is referred to, but has not been seen yet")]
    Unseen(Identity),
}

fn calling(doing: &'static str, object: &Identity) -> impl FnOnce(ClientError) -> Failure {
    let object = object.clone();
    move |source| Failure::Call { doing, object, source }
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let shell = Arc::new(Shell {
        client: context.client(),
        graph: Mutex::default(),
        kinds: RwLock::default(),
        sources: RwLock::default(),
        delete: WorkQueue::new("garbage_collector_attempt_to_delete"),
        orphan: WorkQueue::new("garbage_collector_attempt_to_orphan"),
        recorder: context.recorder("garbage-collector-controller"),
    });
    if !context.flags.bool("enable-garbage-collector") {
        let token = context.token.clone();
        return Ok(Box::pin(async move { token.cancelled().await }));
    }
    let workers = context.workers("concurrent-gc-syncs");
    let monitors = monitors::Monitors::new(context.factory.clone(), shell.clone());
    let token = context.token.clone();
    Ok(Box::pin(async move {
        let synced = Arc::new(tokio::sync::Notify::new());
        let discovery = monitors.run(DISCOVERY_PERIOD, token.clone(), synced.clone());
        let work = async {
            tokio::select! {
                () = token.cancelled() => return,
                _ = tokio::time::timeout(INITIAL_SYNC, synced.notified()) => {}
            }
            tracing::info!(objects = shell.graph.lock().len(), "Proceeding to collect garbage");
            let (deleting, orphaning) = (shell.clone(), shell.clone());
            tokio::join!(
                shell.delete.run(workers, &token, move |uid: Uid| {
                    let shell = deleting.clone();
                    async move { shell.attempt_to_delete(&uid).await.map(|()| None) }
                }),
                shell.orphan.run(workers, &token, move |uid: Uid| {
                    let shell = orphaning.clone();
                    async move { shell.attempt_to_orphan(&uid).await.map(|()| None) }
                }),
            );
        };
        tokio::join!(discovery, work);
    }))
}

impl Shell {
    /// Queues what a change of the graph asks for.
    fn queue(&self, work: Vec<Work>) {
        for item in work {
            match item {
                Work::Delete(uid) => self.delete.add(uid),
                Work::DeleteLater(uid) => self.delete.add_rate_limited(uid),
                Work::Orphan(uid) => self.orphan.add(uid),
                Work::Misplaced(dependent, owner) => self.tell_misplaced(&dependent, &owner),
            }
        }
    }

    fn tell_misplaced(&self, dependent: &Identity, owner: &Uid) {
        let Some(facts) = self.graph.lock().facts(&dependent.uid) else { return };
        let Some(reference) = facts.owners.iter().find(|r| owner.is(&r.uid)) else { return };
        let object = ObjectReference {
            api_version: Some(dependent.api_version.to_string()),
            kind: Some(dependent.kind.to_string()),
            namespace: Some(dependent.namespace.to_string()),
            name: Some(dependent.name.to_string()),
            uid: Some(dependent.uid.to_string()),
            ..ObjectReference::default()
        };
        let OwnerReference { api_version, kind, name, uid, .. } = reference;
        let message = format!(
            "ownerRef [{api_version}/{kind}, namespace: {0}, name: {name}, uid: {uid}] does not exist in namespace {0:?}",
            &*dependent.namespace
        );
        self.recorder.event(&object, WARNING, "OwnerRefInvalidNamespace", &message);
    }

    async fn attempt_to_delete(&self, uid: &Uid) -> Result<(), Failure> {
        let Some(facts) = self.graph.lock().facts(uid) else { return Ok(()) };
        match self.try_delete(&facts).await {
            Err(Failure::Gone(identity)) => {
                let work = self.graph.lock().gone(&identity, true);
                self.queue(work);
                Ok(())
            }
            Err(Failure::NamespacedOwner) => Ok(()),
            Err(failure) => Err(failure),
            Ok(()) if facts.observed => Ok(()),
            // An owner that appeared and went while a watch was interrupted would stay in the graph for ever.
            Ok(()) => {
                let seen = self.graph.lock().facts(uid).is_none_or(|f| f.observed);
                if seen { Ok(()) } else { Err(Failure::Unseen(facts.identity)) }
            }
        }
    }

    async fn try_delete(&self, facts: &Facts) -> Result<(), Failure> {
        if plan::is_settled(facts) {
            return Ok(());
        }
        if let Some(cached) = self.abandoned(facts) {
            let references = cached.metadata.owner_references.as_ref().map_or(0, Vec::len);
            let verdict = plan::judge(facts, &cached.metadata, &vec![Standing::Dangling; references]);
            if let Verdict::Delete(propagation) = verdict {
                tracing::debug!(item = %facts.identity, ?propagation, "Deleting what lost all its owners");
                return self.delete_item(facts, Some(&cached), propagation).await;
            }
        }
        let latest = self.latest(&facts.identity).await?;
        let verdict = if facts.deleting_dependents {
            plan::judge_waiting(facts)
        } else {
            let mut standings = Vec::new();
            for reference in latest.metadata.owner_references.iter().flatten() {
                standings.push(self.standing(reference, &facts.identity).await?);
            }
            plan::judge(facts, &latest.metadata, &standings)
        };
        tracing::debug!(item = %facts.identity, ?verdict, "Judged");
        match verdict {
            Verdict::Keep => Ok(()),
            Verdict::Look(dependents) => {
                dependents.into_iter().for_each(|d| self.delete.add(d));
                Ok(())
            }
            Verdict::Finish => self.drop_finalizer(&facts.identity, FOREGROUND).await,
            Verdict::DropOwners(owners) => self.drop_owners(&facts.identity, &owners).await,
            Verdict::Foreground { unblock } => {
                if unblock {
                    let (strategic, merge) = plan::unblock(facts, &latest.metadata);
                    self.patch(&facts.identity, &strategic, || merge).await?;
                    // The patch made a new version.
                    return self.delete_item(facts, None, Propagation::Foreground).await;
                }
                self.delete_item(facts, Some(&latest), Propagation::Foreground).await
            }
            Verdict::Delete(propagation) => self.delete_item(facts, Some(&latest), propagation).await,
        }
    }

    /// The object as the cache has it, if every owner it names there was found to be absent.
    fn abandoned(&self, facts: &Facts) -> Option<PartialObjectMetadata> {
        if facts.deleting_dependents {
            return None;
        }
        let of = &facts.identity;
        let gvr = &self.resource(&of.api_version, &of.kind).ok()?.gvr;
        let cached = self.sources.read().get(gvr)?.metadata(of)?;
        let graph = self.graph.lock();
        let owners = cached.metadata.owner_references.as_deref().unwrap_or_default();
        let absent = |r: &OwnerReference| graph.is_verified_absent(r, &of.namespace);
        (!owners.is_empty() && owners.iter().all(absent)).then_some(cached)
    }

    fn resource(&self, api_version: &str, kind: &str) -> Result<Arc<ApiResource>, Failure> {
        self.kinds
            .read()
            .get(api_version, kind)
            .ok_or_else(|| Failure::UnknownKind { kind: kind.to_string(), version: api_version.to_string() })
    }

    fn api(&self, of: &Identity) -> Result<client::Api<PartialObjectMetadata>, Failure> {
        let resource = self.resource(&of.api_version, &of.kind)?;
        if resource.namespaced && of.namespace.is_empty() {
            return Err(Failure::NamespacedOwner);
        }
        let namespace = if resource.namespaced { &*of.namespace } else { "" };
        Ok(self.client.metadata(&resource.gvr, namespace).without_managed_fields())
    }

    /// The object as the server has it; [`Failure::Gone`] if it is another one of that name.
    async fn latest(&self, of: &Identity) -> Result<PartialObjectMetadata, Failure> {
        let found = self.api(of)?.get_opt(&of.name).await.map_err(calling("reading", of))?;
        found.filter(|o| of.uid.is(o.uid())).ok_or_else(|| Failure::Gone(of.clone()))
    }

    async fn standing(&self, reference: &OwnerReference, item: &Identity) -> Result<Standing, Failure> {
        if self.graph.lock().is_verified_absent(reference, &item.namespace) {
            return Ok(Standing::Dangling);
        }
        let resource = self.resource(&reference.api_version, &reference.kind)?;
        let owner = Identity::referred(reference, if resource.namespaced { &item.namespace } else { "" });
        match self.latest(&owner).await {
            Ok(found) => {
                let waits =
                    found.metadata.deletion_timestamp.is_some() && found.metadata.has_finalizer(FOREGROUND);
                Ok(if waits { Standing::Waiting } else { Standing::Solid })
            }
            Err(Failure::Gone(_)) => {
                self.graph.lock().note_absent(owner);
                Ok(Standing::Dangling)
            }
            Err(other) => Err(other),
        }
    }

    /// Deletes in the version that was judged. A newer one with the same owners is deleted as well, so that busy
    /// objects do not escape; one that its dependents are to outlive or to go before since then is judged again.
    async fn delete_item(
        &self,
        facts: &Facts,
        judged: Option<&PartialObjectMetadata>,
        propagation: Propagation,
    ) -> Result<(), Failure> {
        let identity = &facts.identity;
        let api = self.api(identity)?;
        let params = DeleteParams {
            uid: Some(identity.uid.to_string()),
            resource_version: judged.and_then(|j| j.metadata.resource_version.clone()),
            propagation: Some(propagation),
            ..DeleteParams::default()
        };
        let result = match (api.delete(&identity.name, &params).await, judged) {
            (Err(error), Some(judged)) if error.is_conflict() => {
                let now = self.latest(identity).await?;
                let has_same = |f| now.metadata.has_finalizer(f) == judged.metadata.has_finalizer(f);
                let owners = now.metadata.owner_references == judged.metadata.owner_references;
                if owners && [FOREGROUND, ORPHAN].into_iter().all(has_same) {
                    let params = DeleteParams { resource_version: None, ..params };
                    api.delete(&identity.name, &params).await
                } else {
                    Err(error)
                }
            }
            (other, _) => other,
        };
        match result {
            Err(error) if error.is_not_found() => Err(Failure::Gone(identity.clone())),
            other => other.map_err(calling("deleting", identity)),
        }
    }

    /// Patches; a server that knows no strategic merge patch of the kind gets the other form.
    async fn patch(
        &self,
        item: &Identity,
        strategic: &Patch,
        merge: impl FnOnce() -> Patch,
    ) -> Result<(), Failure> {
        let api = self.api(item)?;
        let params = PatchParams::default();
        let result = match api.patch(&item.name, strategic, &params).await {
            Err(error) if error.is_unsupported_media_type() => api.patch(&item.name, &merge(), &params).await,
            other => other,
        };
        result.map(drop).map_err(calling("patching", item))
    }

    async fn drop_owners(&self, item: &Identity, owners: &[String]) -> Result<(), Failure> {
        let uids: Vec<&str> = owners.iter().map(String::as_str).collect();
        let strategic = release_patch(&item.uid.to_string(), &uids, &[]);
        let api = self.api(item)?;
        match api.patch(&item.name, &strategic, &PatchParams::default()).await {
            Err(error) if error.is_unsupported_media_type() => {
                let latest = self.latest(item).await?;
                self.patch(item, &plan::drop_owners_merge(&latest.metadata, owners), || strategic).await
            }
            other => other.map(drop).map_err(calling("dropping owners of", item)),
        }
    }

    async fn drop_finalizer(&self, item: &Identity, finalizer: &str) -> Result<(), Failure> {
        let api = self.api(item)?;
        for attempt in 1.. {
            let latest = match self.latest(item).await {
                Err(Failure::Gone(_)) => return Ok(()),
                other => other?,
            };
            let Some(patch) = plan::drop_finalizer(&latest.metadata, finalizer) else { return Ok(()) };
            match api.patch(&item.name, &patch, &PatchParams::default()).await {
                Err(error) if error.is_conflict() && attempt < CONFLICTS => {}
                Err(error) if error.is_not_found() => return Ok(()),
                other => return other.map(drop).map_err(calling("finalizing", item)),
            }
        }
        Ok(())
    }

    async fn attempt_to_orphan(&self, uid: &Uid) -> Result<(), Failure> {
        let Some(facts) = self.graph.lock().facts(uid) else { return Ok(()) };
        let owners = [uid.to_string()];
        let results =
            futures::future::join_all(facts.dependents.iter().map(|d| self.drop_owners(d, &owners))).await;
        for result in results {
            match result {
                Err(Failure::Gone(_)) | Ok(()) => {}
                Err(Failure::Call { source, .. }) if source.is_not_found() => {}
                Err(other) => return Err(other),
            }
        }
        self.drop_finalizer(&facts.identity, ORPHAN).await
    }
}
