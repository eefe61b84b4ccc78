//! One informer per kind and options, shared by everybody in the process.

use std::any::{Any, TypeId};
use std::sync::Arc;

use client::{Api, Client, DynamicObject, Form, Gvr, Kept};
use hashbrown::HashMap;
use k8s_openapi::Resource;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::informer::{Informer, Options};

#[derive(PartialEq, Eq, Hash)]
struct Id {
    kind: TypeId,
    /// The type says which resource it is of.
    typed: bool,
    gvr: Gvr,
    namespace: String,
    labels: String,
    fields: String,
}

struct Entry {
    informer: Box<dyn Any + Send + Sync>,
    handle: Arc<dyn Handle>,
}

/// What a factory does with informers of any kind.
trait Handle: Send + Sync {
    fn start(&self, token: &CancellationToken);
    fn stop(&self);
    fn wait<'a>(&'a self, token: &'a CancellationToken) -> futures::future::BoxFuture<'a, bool>;
    fn describe(&self) -> (String, bool, usize);
    fn lag(&self) -> futures::future::BoxFuture<'_, CacheState>;
}

/// A cache at one moment, beside the server's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheState {
    /// `group/version/resource`.
    pub resource: String,
    /// Objects in the cache.
    pub objects: usize,
    /// A complete state has been received.
    pub synced: bool,
    /// Version the cache has reached.
    pub version: String,
    /// Version the server's store is at, or why that could not be found out.
    pub server: Result<String, String>,
}

impl CacheState {
    /// Versions between the cache and the store; those of other resources count too. A quiet cache learns of them by
    /// bookmarks, once a minute.
    pub fn behind(&self) -> Option<u64> {
        let server: u64 = self.server.as_ref().ok()?.parse().ok()?;
        Some(server.saturating_sub(self.version.parse().ok()?))
    }
}

impl<K: Kept> Handle for Informer<K> {
    fn start(&self, token: &CancellationToken) {
        Informer::start(self, token);
    }
    fn stop(&self) {
        Informer::stop(self);
    }
    fn wait<'a>(&'a self, token: &'a CancellationToken) -> futures::future::BoxFuture<'a, bool> {
        Box::pin(self.wait_synced(token))
    }
    fn describe(&self) -> (String, bool, usize) {
        (self.gvr().to_string(), self.has_synced(), self.store().len())
    }
    fn lag(&self) -> futures::future::BoxFuture<'_, CacheState> {
        Box::pin(async {
            // Read before the server is asked, so that it is never ahead.
            let version = self.resource_version();
            CacheState {
                resource: self.gvr().to_string(),
                objects: self.store().len(),
                synced: self.has_synced(),
                version,
                server: self.server_version().await.map_err(|e| e.to_string()),
            }
        })
    }
}

type Handles = Vec<Arc<dyn Handle>>;

/// Makes and shares informers. Clones share.
#[derive(Clone)]
pub struct Factory {
    client: Client,
    entries: Arc<Mutex<HashMap<Id, Entry>>>,
    /// What was asked for through this one, if that is followed.
    used: Option<Arc<Mutex<Handles>>>,
}

impl Factory {
    /// A factory without informers.
    pub fn new(client: Client) -> Self {
        Self { client, entries: Arc::default(), used: None }
    }

    /// The same factory for one user: [`Factory::lags`] tells of that user's informers only.
    #[must_use]
    pub fn for_user(&self) -> Self {
        Self { used: Some(Arc::default()), ..self.clone() }
    }

    /// How far each cache is behind the server, which is asked. Those of this user, or all.
    pub async fn lags(&self) -> Vec<CacheState> {
        let handles = match &self.used {
            Some(used) => used.lock().clone(),
            None => self.handles(),
        };
        futures::future::join_all(handles.iter().map(|h| h.lag())).await
    }

    fn note(&self, handle: &Arc<dyn Handle>) {
        if let Some(used) = &self.used {
            let mut used = used.lock();
            if !used.iter().any(|h| Arc::ptr_eq(h, handle)) {
                used.push(handle.clone());
            }
        }
    }

    /// The client the informers use.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The informer of a kind. The same namespace and selectors give the same informer; indexes of all callers are
    /// added, the first caller's transform counts.
    pub fn informer<K: Kept + Resource>(&self, options: Options<K>) -> Informer<K> {
        self.shared(Gvr::of::<K>(), Form::Full, true, options)
    }

    /// The informer of a resource known only at run time.
    pub fn dynamic(&self, gvr: &Gvr, options: Options<DynamicObject>) -> Informer<DynamicObject> {
        self.shared(gvr.clone(), Form::Full, false, options)
    }

    /// The informer of the metadata of a resource known only at run time: `PartialObjectMetadata`, or what is kept of it.
    pub fn metadata<K: Kept>(&self, gvr: &Gvr, options: Options<K>) -> Informer<K> {
        self.shared(gvr.clone(), Form::Metadata, false, options)
    }

    fn shared<K: Kept>(&self, gvr: Gvr, form: Form, typed: bool, options: Options<K>) -> Informer<K> {
        let id = Id {
            kind: TypeId::of::<K>(),
            typed,
            gvr: gvr.clone(),
            namespace: options.namespace.clone(),
            labels: options.label_selector.clone(),
            fields: options.field_selector.clone(),
        };
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get(&id)
            && let Some(found) = entry.informer.downcast_ref::<Informer<K>>()
        {
            self.note(&entry.handle);
            for (name, function) in options.indexes {
                found.store().add_index(name, function);
            }
            return found.clone();
        }
        let api = Api::new(self.client.clone(), gvr, &options.namespace, form);
        let informer = Informer::new(api, options);
        let entry = Entry { informer: Box::new(informer.clone()), handle: Arc::new(informer.clone()) };
        self.note(&entry.handle);
        entries.insert(id, entry);
        informer
    }

    /// Stops and forgets the informers of a resource known only at run time, which is no longer offered.
    pub fn forget(&self, gvr: &Gvr) {
        self.entries.lock().retain(|id, entry| {
            let keep = id.typed || id.gvr != *gvr;
            if !keep {
                entry.handle.stop();
            }
            keep
        });
    }

    /// Starts what is not running yet; everything ends with the token.
    pub fn start(&self, token: &CancellationToken) {
        self.handles().iter().for_each(|h| h.start(token));
    }

    /// Waits until every informer has a complete state; `false` if the token ends first.
    pub async fn wait_synced(&self, token: &CancellationToken) -> bool {
        for handle in self.handles() {
            if !handle.wait(token).await {
                return false;
            }
        }
        true
    }

    /// (resource, synced, objects) of every informer, for status pages.
    pub fn describe(&self) -> Vec<(String, bool, usize)> {
        self.handles().iter().map(|h| h.describe()).collect()
    }

    fn handles(&self) -> Handles {
        self.entries.lock().values().map(|e| e.handle.clone()).collect()
    }
}
