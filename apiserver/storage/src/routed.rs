//! Several stores as one: the keys of some resources are elsewhere (`--etcd-servers-overrides`).
//!
//! Revisions of different stores have nothing to do with each other, so who needs the revision of one (a watch cache)
//! works on [`Store::part`]; what is asked without a key is asked of the store of all other resources.
//! Upstream: `SetEtcdLocation` of apiserver/pkg/server/storage/storage_factory.go.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::Result;
use crate::store::{Get, ListOptions, Page, Revision, Store, Watch, WatchOptions};

/// The stores.
pub struct Routed {
    main: Arc<dyn Store>,
    /// With what their keys begin with, which ends in `/`.
    parts: Vec<(String, Arc<dyn Store>)>,
}

impl Routed {
    /// All keys are in `main` but those that begin with the prefix of a part. Prefixes end in `/`.
    pub fn new(main: Arc<dyn Store>, parts: Vec<(String, Arc<dyn Store>)>) -> Self {
        Self { main, parts }
    }

    fn at(&self, key: &str) -> &Arc<dyn Store> {
        let part = self.parts.iter().find(|(prefix, _)| key.starts_with(prefix.as_str()));
        part.map_or(&self.main, |(_, store)| store)
    }
}

#[async_trait::async_trait]
impl Store for Routed {
    async fn get(&self, key: &str, revision: Revision) -> Result<Get> {
        self.at(key).get(key, revision).await
    }

    async fn list(&self, options: ListOptions) -> Result<Page> {
        self.at(&options.prefix).list(options).await
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision> {
        self.at(key).create(key, value, ttl).await
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision> {
        self.at(key).update(key, value, expected, ttl).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision> {
        self.at(key).delete(key, expected).await
    }

    async fn watch(&self, options: WatchOptions) -> Result<Watch> {
        self.at(&options.prefix).watch(options).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.main.compact(revision).await
    }

    fn compacted(&self) -> Revision {
        self.main.compacted()
    }

    async fn current_revision(&self) -> Result<Revision> {
        self.main.current_revision().await
    }

    async fn health(&self) -> Result<()> {
        self.main.health().await
    }

    fn progress_interval(&self) -> Option<Duration> {
        self.main.progress_interval()
    }

    async fn is_stale(&self, key: &str) -> Result<bool> {
        self.at(key).is_stale(key).await
    }

    async fn size(&self) -> Result<Option<u64>> {
        self.main.size().await
    }

    fn part(&self, prefix: &str) -> Option<Arc<dyn Store>> {
        Some(Arc::clone(self.at(prefix)))
    }

    fn others(&self) -> Vec<Arc<dyn Store>> {
        let mut all: Vec<Arc<dyn Store>> = Vec::new();
        for (_, store) in &self.parts {
            if !all.iter().any(|known| Arc::ptr_eq(known, store)) {
                all.push(Arc::clone(store));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{Embedded, Options};

    #[tokio::test]
    async fn keys_are_where_they_belong() {
        let files = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [main, events] = files
            .each_ref()
            .map(|dir| -> Arc<dyn Store> { Arc::new(Embedded::open(Options::new(dir.path())).unwrap()) });
        let parts = vec![
            ("/registry/events/".to_owned(), Arc::clone(&events)),
            ("/registry/leases/".to_owned(), Arc::clone(&events)),
        ];
        let store = Routed::new(Arc::clone(&main), parts);
        for key in ["/registry/events/a/b", "/registry/pods/a/b", "/registry/pods/a/c"] {
            store.create(key, Bytes::from_static(b"x"), None).await.unwrap();
        }
        let count = async |store: &dyn Store, prefix: &str| {
            store.list(ListOptions::prefix(prefix)).await.unwrap().kvs.len()
        };
        assert_eq!(count(&*events, "/").await, 1);
        assert_eq!(count(&*main, "/").await, 2);
        assert_eq!(count(&store, "/registry/events/").await, 1);
        let part = store.part("/registry/events/").unwrap();
        assert!(part.current_revision().await.unwrap() < store.current_revision().await.unwrap());
        assert_eq!(store.others().len(), 1);
    }
}
