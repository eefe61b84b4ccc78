//! The watch cache over a store that cannot be asked for progress, as etcd before 3.4.31.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use storage::cacher::{At, Config, Decoded, Header, ListRequest};
use storage::embedded::{Embedded, Options};
use storage::store::{Get, ListOptions, Page, Watch, WatchOptions};
use storage::{Cacher, Result, Revision, Store};

const PREFIX: &str = "/registry/pods/";

struct Silent(Embedded);

#[async_trait::async_trait]
impl Store for Silent {
    async fn get(&self, key: &str, revision: Revision) -> Result<Get> {
        self.0.get(key, revision).await
    }

    async fn list(&self, options: ListOptions) -> Result<Page> {
        self.0.list(options).await
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision> {
        self.0.create(key, value, ttl).await
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision> {
        self.0.update(key, value, expected, ttl).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision> {
        self.0.delete(key, expected).await
    }

    async fn watch(&self, options: WatchOptions) -> Result<Watch> {
        self.0.watch(WatchOptions { progress: false, ..options }).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.0.compact(revision).await
    }

    fn compacted(&self) -> Revision {
        self.0.compacted()
    }

    async fn current_revision(&self) -> Result<Revision> {
        self.0.current_revision().await
    }

    async fn health(&self) -> Result<()> {
        self.0.health().await
    }

    fn progress_interval(&self) -> Option<Duration> {
        None
    }
}

/// Upstream: `shouldDelegateExactRV` of k8s.io/apiserver/pkg/storage/cacher/cacher.go.
#[tokio::test]
async fn pages_go_on_where_writes_elsewhere_moved_the_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Silent(Embedded::open(Options::new(dir.path())).unwrap()));
    let decode = |kv: &storage::KeyValue| {
        let name = kv.key_str().rsplit('/').next().unwrap_or_default().into();
        let header = Header { name, ..Header::default() };
        Ok(Decoded { header, payload: kv.value.clone() })
    };
    let cacher = Cacher::new(Config::new(Arc::<Silent>::clone(&store), PREFIX, Arc::new(decode)));
    for name in ["a", "b", "c"] {
        store.create(&format!("{PREFIX}ns/{name}"), Bytes::from_static(b"x"), None).await.unwrap();
    }
    let list = |at| cacher.list(ListRequest { at, limit: 1, ..ListRequest::all() });
    // The cache has begun, and then something else is written.
    list(At::Any).await.unwrap();
    let elsewhere = store.create("/registry/leases/l", Bytes::from_static(b"x"), None).await.unwrap();
    let mut names = Vec::new();
    let mut at = At::MostRecent;
    loop {
        let page = list(at).await.unwrap();
        assert_eq!(page.revision, elsewhere);
        names.extend(page.items.iter().map(|object| object.header.name.to_string()));
        let Some(token) = page.continue_token else { break };
        at = At::Continue(token);
    }
    assert_eq!(names, ["a", "b", "c"]);
}
