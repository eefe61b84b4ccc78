//! One metadata informer per resource that can be deleted, kept in step with what the server offers.
//! Upstream: garbagecollector.go Sync, GetDeletableResources; graph_builder.go syncMonitors.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::discovery::Discovered;
use client::{ApiResource, Gvr, PartialObjectMetadata};
use controller::{HasRelations, Related};
use informer::{Event, Factory, Informer, Name, Options, Subscription};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Shell;
use super::graph::{FOREGROUND, Identity, ORPHAN};
use crate::kept::{Item, Pod};

/// Resources by group version, then by kind.
#[derive(Default)]
pub struct Kinds(HashMap<String, HashMap<String, Arc<ApiResource>>>);

impl Kinds {
    fn of(found: &Discovered) -> Self {
        let mut kinds: HashMap<String, HashMap<String, Arc<ApiResource>>> = HashMap::new();
        for resource in &found.resources {
            let of_version = kinds.entry(resource.gvr.group_version()).or_default();
            of_version.entry(resource.kind.clone()).or_insert_with(|| Arc::new(resource.clone()));
        }
        Self(kinds)
    }

    /// The resource that serves a kind.
    pub fn get(&self, api_version: &str, kind: &str) -> Option<Arc<ApiResource>> {
        self.0.get(api_version)?.get(kind).cloned()
    }
}

/// Where a resource's objects come from.
#[derive(Clone)]
pub enum Source {
    Pods(Informer<Pod>),
    Other(Informer<Item>),
}

impl Source {
    fn has_synced(&self) -> bool {
        match self {
            Source::Pods(informer) => informer.has_synced(),
            Source::Other(informer) => informer.has_synced(),
        }
    }

    /// What the cache has of an object, as far as owners and finalizers go; nothing of another one of its name.
    pub fn metadata(&self, of: &Identity) -> Option<PartialObjectMetadata> {
        match self {
            Source::Pods(informer) => metadata(informer, of),
            Source::Other(informer) => metadata(informer, of),
        }
    }

    async fn wait_synced(&self, token: &CancellationToken) {
        match self {
            Source::Pods(informer) => informer.wait_synced(token).await,
            Source::Other(informer) => informer.wait_synced(token).await,
        };
    }
}

fn metadata<K: HasRelations>(informer: &Informer<K>, of: &Identity) -> Option<PartialObjectMetadata> {
    let found = informer.store().get_by(&of.namespace, &of.name)?;
    let (named, has) = (found.named(), found.relations());
    let finalizers =
        [FOREGROUND, ORPHAN].into_iter().filter(|f| has.has_finalizer(f)).map(ToString::to_string);
    let metadata = ObjectMeta {
        name: Some(named.name.to_string()),
        uid: Some(named.uid.to_string()),
        resource_version: Some(named.version.to_string()),
        owner_references: Some(has.owners().to_vec()),
        finalizers: Some(finalizers.collect()),
        ..ObjectMeta::default()
    };
    of.uid.is(named.uid).then(|| PartialObjectMetadata { metadata, ..PartialObjectMetadata::default() })
}

struct Monitor {
    source: Source,
    subscription: Subscription,
}

pub struct Monitors {
    factory: Factory,
    shell: Arc<Shell>,
}

/// Nothing that the graph knows has changed.
fn says_the_same<K: HasRelations>(old: &K, new: &K) -> bool {
    let (was, is) = (old.relations(), new.relations());
    let waits = |of: &K::Relations| [FOREGROUND, ORPHAN].map(|finalizer| of.has_finalizer(finalizer));
    was.uid() == is.uid()
        && was.is_dying() == is.is_dying()
        && waits(was) == waits(is)
        && (std::ptr::eq(was.owners(), is.owners()) || was.owners() == is.owners())
}

/// What can be collected: preferred versions that can be deleted and watched, but no events.
fn deletable(found: &Discovered) -> Vec<&ApiResource> {
    let is_event = |g: &Gvr| g.resource == "events" && matches!(g.group.as_str(), "" | "events.k8s.io");
    let mut all = found.preferred();
    all.retain(|r| r.supports(&["delete", "list", "watch"]) && !is_event(&r.gvr));
    all
}

/// The monitors to end: what is no longer offered, unless its group's server only fails to answer.
fn lost<'a>(have: impl Iterator<Item = &'a Gvr>, wanted: &HashSet<&Gvr>, found: &Discovered) -> Vec<Gvr> {
    let failed = |g: &Gvr| found.failed.iter().any(|(version, _)| *version == g.group_version());
    have.filter(|g| !wanted.contains(g) && !failed(g)).cloned().collect()
}

impl Monitors {
    pub fn new(factory: Factory, shell: Arc<Shell>) -> Self {
        Self { factory, shell }
    }

    /// Follows discovery until the token ends; tells `synced` when all monitors have their first state.
    pub async fn run(self, period: Duration, token: CancellationToken, synced: Arc<Notify>) {
        let mut monitors: HashMap<Gvr, Monitor> = HashMap::new();
        loop {
            match self.shell.client.discover().await {
                Ok(found) if !found.resources.is_empty() => {
                    self.sync(&mut monitors, &found, &token);
                    let all = async {
                        for monitor in monitors.values() {
                            monitor.source.wait_synced(&token).await;
                            monitor.subscription.wait_synced(&token).await;
                        }
                    };
                    if tokio::time::timeout(period, all).await.is_err() {
                        let late: Vec<String> = monitors
                            .iter()
                            .filter(|(_, m)| !m.source.has_synced())
                            .map(|(g, _)| g.to_string())
                            .collect();
                        tracing::warn!(
                            resources = late.join(","),
                            "Waiting for informers of the garbage collector"
                        );
                    } else {
                        synced.notify_one();
                    }
                }
                Ok(_) => {
                    tracing::info!("Discovery reported no resources, leaving the garbage collector as it is")
                }
                Err(error) => tracing::warn!(%error, "Discovering what can be collected failed"),
            }
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(period) => {}
            }
        }
    }

    fn sync(&self, monitors: &mut HashMap<Gvr, Monitor>, found: &Discovered, token: &CancellationToken) {
        *self.shell.kinds.write() = Arc::new(Kinds::of(found));
        let wanted = deletable(found);
        let names: HashSet<&Gvr> = wanted.iter().map(|r| &r.gvr).collect();
        for gone in lost(monitors.keys(), &names, found) {
            if let Some(monitor) = monitors.remove(&gone) {
                monitor.subscription.cancel();
                self.shell.sources.write().remove(&gone);
                self.factory.forget(&gone);
            }
        }
        for resource in wanted {
            if !monitors.contains_key(&resource.gvr) {
                let monitor = self.start(resource, token);
                self.shell.sources.write().insert(resource.gvr.clone(), monitor.source.clone());
                monitors.insert(resource.gvr.clone(), monitor);
            }
        }
    }

    fn start(&self, resource: &ApiResource, token: &CancellationToken) -> Monitor {
        let (source, subscription) = if resource.gvr == Gvr::of::<Pod>() {
            // There are many of them, and the other controllers watch them anyway.
            let pods = self.factory.informer::<Pod>(Options::default());
            pods.start(token);
            (Source::Pods(pods.clone()), self.follow(&pods, resource))
        } else {
            let informer = self.factory.metadata::<Item>(&resource.gvr, Options::default());
            informer.start(token);
            (Source::Other(informer.clone()), self.follow(&informer, resource))
        };
        Monitor { source, subscription }
    }

    fn follow<K: HasRelations>(&self, informer: &Informer<K>, resource: &ApiResource) -> Subscription {
        let shell = self.shell.clone();
        let (kind, version): (Name, Name) =
            (resource.kind.as_str().into(), resource.gvr.group_version().into());
        informer.subscribe(move |event| {
            let named = event.object().named();
            if let Event::Updated { old, new } = &event
                && says_the_same(&**old, &**new)
                && shell.graph.lock().has_observed(&named.uid.into())
            {
                return;
            }
            let identity = Identity {
                kind: kind.clone(),
                api_version: version.clone(),
                namespace: named.namespace.into(),
                name: named.name.into(),
                uid: named.uid.into(),
            };
            let mut graph = shell.graph.lock();
            let work = match &event {
                Event::Added(new) => graph.seen(&identity, None, new.relations()),
                Event::Updated { old, new } if old.named().uid != new.named().uid => {
                    let before = Identity { uid: old.named().uid.into(), ..identity.clone() };
                    let mut work = graph.gone(&before, false);
                    work.extend(graph.seen(&identity, None, new.relations()));
                    work
                }
                Event::Updated { old, new } => graph.seen(&identity, Some(old.relations()), new.relations()),
                Event::Deleted(_) => graph.gone(&identity, false),
            };
            drop(graph);
            shell.queue(work);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(group: &str, name: &str, verbs: &[&str]) -> ApiResource {
        ApiResource {
            gvr: Gvr::new(group, "v1", name),
            kind: name.to_string(),
            singular: String::new(),
            namespaced: true,
            verbs: verbs.iter().map(ToString::to_string).collect(),
            short_names: Vec::new(),
            categories: Vec::new(),
            subresources: Vec::new(),
        }
    }

    #[test]
    fn what_can_be_deleted_and_watched_is_collected_except_events() {
        let all = &["delete", "list", "watch", "get"];
        let found = Discovered {
            resources: vec![
                resource("", "pods", all),
                resource("", "events", all),
                resource("events.k8s.io", "events", all),
                resource("", "bindings", &["create"]),
                resource("x.io", "events", all),
            ],
            failed: Vec::new(),
        };
        let names: Vec<String> = deletable(&found).iter().map(|r| r.gvr.to_string()).collect();
        assert_eq!(names, ["v1/pods", "x.io/v1/events"]);
    }

    #[test]
    fn a_group_that_only_fails_to_answer_keeps_its_monitors() {
        let have = [Gvr::new("a.io", "v1", "as"), Gvr::new("b.io", "v1", "bs")];
        let found =
            Discovered { resources: Vec::new(), failed: vec![("a.io/v1".to_string(), "down".to_string())] };
        assert_eq!(lost(have.iter(), &HashSet::new(), &found), [have[1].clone()]);
    }
}
