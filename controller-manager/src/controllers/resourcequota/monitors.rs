//! The objects that quotas may count: one informer per resource, kept in step with what the server offers.
//!
//! Pods, services and claims are read whole, as their evaluators look into them; of the others only metadata, shared with
//! the garbage collector. Upstream: resource_quota_monitor.go, resource_quota_controller.go Sync.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::discovery::Discovered;
use client::{ApiResource, Client, Gvr, Kept};
use informer::{Event, Factory, Informer, NAMESPACE_INDEX, Options, Subscription};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ResourceQuota, Service};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim};
use parking_lot::RwLock;
use tokio::sync::RwLockWriteGuard;
use tokio_util::sync::CancellationToken;

use super::evaluators::{self, Classes, Evaluator, Kind, Objects};
use crate::kept::{Item, Pod};

/// How often upstream asks what is offered.
pub const PERIOD: Duration = Duration::from_secs(30);

enum Source {
    Pods(Informer<Pod>),
    Services(Informer<Service>),
    Claims(Informer<PersistentVolumeClaim>),
    ResourceClaims(Informer<ResourceClaim>),
    /// Those that the controller works on: a quota that it knows counts itself.
    Quotas(Informer<ResourceQuota>),
    Other(Informer<Item>),
}

impl Source {
    fn has_synced(&self) -> bool {
        match self {
            Source::Pods(i) => i.has_synced(),
            Source::Services(i) => i.has_synced(),
            Source::Claims(i) => i.has_synced(),
            Source::ResourceClaims(i) => i.has_synced(),
            Source::Quotas(i) => i.has_synced(),
            Source::Other(i) => i.has_synced(),
        }
    }

    /// Another user of the shared informer may have stopped it.
    fn has_ended(&self) -> bool {
        matches!(self, Source::Other(informer) if informer.has_ended())
    }

    async fn wait(&self, token: &CancellationToken) -> bool {
        match self {
            Source::Pods(i) => i.wait_synced(token).await,
            Source::Services(i) => i.wait_synced(token).await,
            Source::Claims(i) => i.wait_synced(token).await,
            Source::ResourceClaims(i) => i.wait_synced(token).await,
            Source::Quotas(i) => i.wait_synced(token).await,
            Source::Other(i) => i.wait_synced(token).await,
        }
    }
}

struct Monitor {
    gvr: Gvr,
    evaluator: Evaluator,
    source: Source,
    subscription: Subscription,
}

/// Called with the evaluator and the namespace in which there may be room now.
type Replenish = Arc<dyn Fn(&Evaluator, &Classes, &str) + Send + Sync>;
type ClassInformer = Arc<RwLock<Option<Informer<DeviceClass>>>>;

/// All that is counted.
pub struct Monitors {
    factory: Factory,
    replenish: Replenish,
    all: RwLock<BTreeMap<String, Arc<Monitor>>>,
    classes: ClassInformer,
}

/// What quotas may count: preferred versions of what lives in namespaces and can be made and deleted, but no events.
fn quotable(found: &Discovered) -> Vec<&ApiResource> {
    let is_event = |g: &Gvr| g.resource == "events" && matches!(g.group.as_str(), "" | "events.k8s.io");
    let mut all = found.preferred();
    all.retain(|r| r.namespaced && r.supports(&["create", "list", "watch", "delete"]) && !is_event(&r.gvr));
    all
}

impl Monitors {
    pub fn new(
        factory: Factory,
        replenish: impl Fn(&Evaluator, &Classes, &str) + Send + Sync + 'static,
    ) -> Self {
        Self { factory, replenish: Arc::new(replenish), all: RwLock::default(), classes: Arc::default() }
    }

    /// All evaluators there are now.
    pub fn evaluators(&self) -> Vec<Evaluator> {
        self.all.read().values().map(|m| m.evaluator.clone()).collect()
    }

    /// Device classes as they are now.
    pub fn classes(&self) -> Classes {
        read_classes(&self.classes)
    }

    /// The objects of a resource in a namespace.
    ///
    /// # Errors
    /// They are not known yet.
    pub fn objects(&self, evaluator: &Evaluator, namespace: &str) -> Result<Objects, String> {
        let all = self.all.read();
        let monitor = all.get(evaluator.name()).filter(|m| m.source.has_synced());
        let Some(monitor) = monitor else { return Err(format!("{} not yet synced", evaluator.name())) };
        Ok(match &monitor.source {
            Source::Pods(i) => Objects::Pods(sorted(i.store().list_namespace(namespace))),
            Source::Services(i) => Objects::Services(sorted(i.store().list_namespace(namespace))),
            Source::Claims(i) => Objects::Claims(sorted(i.store().list_namespace(namespace))),
            Source::ResourceClaims(i) => {
                let pods = all.values().find_map(|m| match &m.source {
                    Source::Pods(pods) => Some(pods.store().list_namespace(namespace)),
                    _ => None,
                });
                Objects::ResourceClaims(sorted(i.store().list_namespace(namespace)), pods.unwrap_or_default())
            }
            Source::Quotas(i) => Objects::Counted(i.store().list_namespace(namespace).len()),
            Source::Other(i) => {
                // Only where there are quotas is the index worth its memory.
                i.add_index(NAMESPACE_INDEX, |o: &Item| vec![o.named().namespace.to_string()]);
                Objects::Counted(i.store().index_keys(NAMESPACE_INDEX, namespace).len())
            }
        })
    }

    /// Takes over what is offered now; says whether anything changed.
    pub fn sync(&self, found: &Discovered, token: &CancellationToken) -> bool {
        let wanted = quotable(found);
        let failed = |g: &Gvr| found.failed.iter().any(|(version, _)| *version == g.group_version());
        let mut all = self.all.write();
        let before = all.len();
        all.retain(|_, monitor| {
            let offered = wanted.iter().any(|r| r.gvr == monitor.gvr) || failed(&monitor.gvr);
            let keep = offered && !monitor.source.has_ended();
            if !keep {
                monitor.subscription.cancel();
            }
            keep
        });
        let mut changed = all.len() != before;
        for resource in wanted {
            let evaluator = Evaluator::new(&resource.gvr.group, &resource.gvr.resource);
            if !all.contains_key(evaluator.name()) {
                let monitor = self.start(&resource.gvr, evaluator, token);
                all.insert(monitor.evaluator.name().to_string(), Arc::new(monitor));
                changed = true;
            }
        }
        changed
    }

    fn start(&self, gvr: &Gvr, evaluator: Evaluator, token: &CancellationToken) -> Monitor {
        let now = Timestamp::now;
        let (source, subscription) = match evaluator.kind {
            Kind::Pods => {
                let informer = self.factory.informer(Options::default());
                informer.start(token);
                let matters = move |a: &Pod, b: &Pod| evaluators::pod_matters(a, b, now());
                (Source::Pods(informer.clone()), self.follow(&informer, &evaluator, matters))
            }
            Kind::Services => {
                let informer = self.factory.informer(Options::default());
                informer.start(token);
                (
                    Source::Services(informer.clone()),
                    self.follow(&informer, &evaluator, evaluators::service_matters),
                )
            }
            Kind::Claims => {
                let informer = self.factory.informer(Options::default());
                informer.start(token);
                (
                    Source::Claims(informer.clone()),
                    self.follow(&informer, &evaluator, evaluators::claim_matters),
                )
            }
            Kind::ResourceClaims => {
                let classes = self.factory.informer(Options::default());
                classes.start(token);
                *self.classes.write() = Some(classes);
                let informer = self.factory.informer(Options::default());
                informer.start(token);
                (Source::ResourceClaims(informer.clone()), self.follow(&informer, &evaluator, |_, _| false))
            }
            Kind::Count if gvr.group.is_empty() && gvr.resource == "resourcequotas" => {
                let informer = self.factory.informer(Options::default());
                informer.start(token);
                (Source::Quotas(informer.clone()), self.follow(&informer, &evaluator, |_, _| false))
            }
            Kind::Count => {
                let informer = self.factory.metadata::<Item>(gvr, Options::default());
                informer.start(token);
                (Source::Other(informer.clone()), self.follow(&informer, &evaluator, |_, _| false))
            }
        };
        Monitor { gvr: gvr.clone(), evaluator, source, subscription }
    }

    /// Additions are charged by admission; what makes room is told.
    fn follow<K: Kept>(
        &self,
        informer: &Informer<K>,
        evaluator: &Evaluator,
        matters: impl Fn(&K, &K) -> bool + Send + Sync + 'static,
    ) -> Subscription {
        let (to, evaluator, classes) = (self.replenish.clone(), evaluator.clone(), self.classes.clone());
        let replenish = move |namespace: &str| to(&evaluator, &read_classes(&classes), namespace);
        informer.subscribe(move |event| match &event {
            Event::Added(_) => {}
            Event::Deleted(object) => replenish(object.named().namespace),
            Event::Updated { old, new } => {
                if matters(old, new) {
                    replenish(new.named().namespace);
                }
            }
        })
    }

    /// Waits until all are known, for a while; says whether they are.
    pub async fn wait(&self, token: &CancellationToken) -> bool {
        let all: Vec<Arc<Monitor>> = self.all.read().values().cloned().collect();
        let ready = async {
            for monitor in &all {
                if !monitor.source.wait(token).await {
                    return false;
                }
            }
            !all.is_empty()
        };
        tokio::time::timeout(PERIOD, ready).await.unwrap_or(false)
    }

    /// Follows discovery until the token ends. Workers pause (`pause` is held) while new informers fill.
    pub async fn run(&self, client: &Client, pause: &tokio::sync::RwLock<()>, token: &CancellationToken) {
        let mut held: Option<RwLockWriteGuard<'_, ()>> = Some(pause.write().await);
        let mut started = false;
        loop {
            match client.discover().await {
                Ok(found) if !found.resources.is_empty() => {
                    let changed = self.sync(&found, token);
                    if changed && held.is_none() {
                        held = Some(pause.write().await);
                    }
                    // At the start everything must be known; later a resource whose server fails holds up nobody else.
                    if held.is_some() && (self.wait(token).await || started) {
                        started = true;
                        held = None;
                    }
                }
                Ok(_) => tracing::info!("Discovery reported no resources, quotas count what they did"),
                Err(error) => tracing::warn!(%error, "Discovering what quotas may count failed"),
            }
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }
}

fn read_classes(informer: &ClassInformer) -> Classes {
    informer.read().as_ref().map(|i| Classes::new(&i.store().list())).unwrap_or_default()
}

/// In one order, so that sums look the same each time.
fn sorted<K: Kept>(mut objects: Vec<Arc<K>>) -> Vec<Arc<K>> {
    objects.sort_by(|a, b| a.named().name.cmp(b.named().name));
    objects
}
