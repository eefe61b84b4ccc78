//! The contract of a store: a flat, ordered, multi-version key space with one revision counter, as etcd v3 has.
//!
//! Reads without a revision are linearizable: they see every write acknowledged before them. A write is acknowledged
//! after it is durable (the embedded store relaxes that for the key prefixes named in its options). Every write takes
//! one new revision; a failed write takes none.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;

use crate::error::Result;

/// A point in the store's history. Positive; 0 stands for "now" in requests.
pub type Revision = i64;

/// One version of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The complete key.
    pub key: Bytes,
    /// The stored bytes; clones share the allocation. Empty for a deletion.
    pub value: Bytes,
    /// The revision of the write that made this version: the API's resourceVersion.
    pub mod_revision: Revision,
    /// The revision of the write that created the key.
    pub create_revision: Revision,
    /// The number of writes since the key was created, from 1.
    pub version: i64,
    /// The lease that ends this key's life; 0 for none.
    pub lease: i64,
}

impl KeyValue {
    /// The key as text, with anything that is not UTF-8 replaced.
    pub fn key_str(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// The answer to a get.
#[derive(Clone, Debug)]
pub struct Get {
    /// The version found, or `None`.
    pub kv: Option<KeyValue>,
    /// The store's current revision when it answered.
    pub revision: Revision,
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Every key that starts with this; it should end in `/` so that `/pods/a` does not match `/pods/ab`.
    pub prefix: String,
    /// Begin at this key (inclusive) instead of at the prefix.
    pub start: Option<String>,
    /// At most this many keys; 0 for all.
    pub limit: usize,
    /// Read as of this revision; 0 for now.
    pub revision: Revision,
    /// Return keys without values.
    pub keys_only: bool,
    /// Return no keys, only the count.
    pub count_only: bool,
}

impl ListOptions {
    /// Everything below `prefix`, now.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }
}

/// The answer to a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The keys in byte order.
    pub kvs: Vec<KeyValue>,
    /// How many keys the range (from `start` on) holds, whatever the limit.
    pub count: i64,
    /// The store's current revision when it answered; a paged list reads its further pages at this revision.
    pub revision: Revision,
}

impl Page {
    /// How many keys of the range did not fit.
    pub fn remaining(&self) -> i64 {
        self.count - i64::try_from(self.kvs.len()).unwrap_or(i64::MAX)
    }

    /// Whether keys of the range did not fit.
    pub fn more(&self) -> bool {
        self.remaining() > 0
    }

    /// The key at which the next page starts, if there is one.
    pub fn next_start(&self) -> Option<Vec<u8>> {
        let last = self.kvs.last().filter(|_| self.more())?;
        let mut key = last.key.to_vec();
        key.push(0);
        Some(key)
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Created or updated: `prev` is `None` exactly when it was created (and previous values were asked for).
    Put,
    /// Deleted, or its lease ended.
    Delete,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The new version; for a deletion only key and mod revision are set.
    pub kv: KeyValue,
    /// The version before the change.
    pub prev: Option<KeyValue>,
}

impl Event {
    /// The revision of the change.
    pub fn revision(&self) -> Revision {
        self.kv.mod_revision
    }

    /// Whether this put created the key.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }
}

/// What to watch.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// Every key that starts with this.
    pub prefix: String,
    /// The first revision to report; 0 for changes after now.
    pub from: Revision,
    /// Whether events carry the previous version.
    pub prev: bool,
    /// Whether the store reports progress by itself from time to time.
    pub progress: bool,
}

/// One item of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// Changes in revision order. Changes of one revision are never split over two items.
    Events(Vec<Event>),
    /// Every change up to and including this revision has been delivered.
    Progress(Revision),
}

/// A running watch: a stream that ends only after an error item. Dropping it ends the watch.
pub struct Watch {
    stream: Pin<Box<dyn Stream<Item = Result<WatchItem>> + Send>>,
    progress: ProgressHandle,
}

impl Watch {
    /// Wraps a stream and the way to ask it for progress.
    pub fn new(
        stream: impl Stream<Item = Result<WatchItem>> + Send + 'static,
        progress: ProgressHandle,
    ) -> Self {
        Self { stream: Box::pin(stream), progress }
    }

    /// The handle by which others ask this watch for progress.
    pub fn progress(&self) -> ProgressHandle {
        self.progress.clone()
    }
}

impl Stream for Watch {
    type Item = Result<WatchItem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(cx)
    }
}

/// Asks one watch to report its progress soon. Cheap to clone; asking twice before the answer counts once.
#[derive(Clone)]
pub struct ProgressHandle(Arc<dyn Fn() + Send + Sync>);

impl ProgressHandle {
    /// A handle that calls `ask`.
    pub fn new(ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Asks for a [`WatchItem::Progress`].
    pub fn request(&self) {
        (self.0)();
    }
}

/// A store. All methods may be called concurrently.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads one key, as of `revision` (0 for now).
    async fn get(&self, key: &str, revision: Revision) -> Result<Get>;

    /// Reads a range.
    async fn list(&self, options: ListOptions) -> Result<Page>;

    /// Writes a key that must not exist; returns the revision. `AlreadyExists` otherwise. With `ttl` the key is deleted
    /// some time after that long.
    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision>;

    /// Replaces the version `expected` (0: the key must not exist) of a key; `Conflict` otherwise, with the current
    /// version. `ttl: None` also ends a previous TTL.
    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision>;

    /// Deletes the version `expected` of a key; returns the revision of the deletion. `Conflict` otherwise, with the
    /// current version (`NotFound` when there is none).
    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision>;

    /// Reports changes from a revision on. `Compacted` (here or as the last item) when the revision is gone.
    async fn watch(&self, options: WatchOptions) -> Result<Watch>;

    /// Forgets what was superseded before `revision`; reading as of `revision` itself stays possible.
    async fn compact(&self, revision: Revision) -> Result<()>;

    /// What was superseded before this revision is known to be gone; 0 when nothing is known.
    fn compacted(&self) -> Revision;

    /// The revision of the newest acknowledged write.
    async fn current_revision(&self) -> Result<Revision>;

    /// Whether the store answers, within upstream's 2 s.
    async fn health(&self) -> Result<()>;

    /// How closely progress may be asked for; `None` when the answer cannot be relied on (etcd servers before 3.4.31 and
    /// 3.5.13 lose requests).
    fn progress_interval(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    /// Whether the stored bytes of a key are to be written anew though the object is the same: encrypted by a key that
    /// is no longer the first.
    async fn is_stale(&self, _key: &str) -> Result<bool> {
        Ok(false)
    }

    /// Bytes the store occupies, for `apiserver_storage_size_bytes`; `None` when unknown.
    async fn size(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// The store that the keys of a prefix are in, where that may be another one; revisions are that one's.
    fn part(&self, _prefix: &str) -> Option<Arc<dyn Store>> {
        None
    }

    /// The stores besides this one that keys may be in, each once.
    fn others(&self) -> Vec<Arc<dyn Store>> {
        Vec::new()
    }
}

/// The smallest key greater than every key starting with `prefix`; empty when there is none (as in etcd requests).
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    end
}
