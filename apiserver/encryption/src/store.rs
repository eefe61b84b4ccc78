//! A store before another that encrypts what is written and decrypts what is read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use storage::error::{Error, Result};
use storage::store::{
    Event, Get, KeyValue, ListOptions, Page, Revision, Store, Watch, WatchItem, WatchOptions,
};

use crate::provider::Plain;
use crate::reload::Current;
use crate::resources::Places;

/// The store.
pub struct Encrypted {
    inner: Arc<dyn Store>,
    decoder: Decoder,
}

#[derive(Clone)]
struct Decoder {
    places: Arc<Places>,
    current: Current,
}

impl Encrypted {
    /// Stands before `inner`, whose keys begin with `prefix`.
    pub fn new(inner: Arc<dyn Store>, prefix: &str, current: Current) -> Self {
        Self { inner, decoder: Decoder { places: Arc::new(Places::new(prefix)), current } }
    }

    /// What is to be stored under a key.
    fn seal(&self, key: &str, value: Bytes) -> Result<Bytes> {
        let Some(resource) = self.decoder.places.resource(key) else { return Ok(value) };
        let written = self.decoder.current.get().write(&resource, value, key.as_bytes());
        written.map_err(|why| Error::Transform { key: key.to_owned(), why })
    }

    /// A failed write, with the current version of the key in the clear.
    async fn explain(&self, error: Error) -> Error {
        match error {
            Error::AlreadyExists { key, current } => match self.decoder.clear(*current).await {
                Ok(current) => Error::AlreadyExists { key, current: Box::new(current) },
                Err(error) => error,
            },
            Error::Conflict { key, expected, current: Some(current) } => {
                match self.decoder.clear(*current).await {
                    Ok(current) => Error::Conflict { key, expected, current: Some(Box::new(current)) },
                    Err(error) => error,
                }
            }
            other => other,
        }
    }
}

impl Decoder {
    async fn plain(&self, kv: &KeyValue) -> Result<Option<Plain>> {
        let key = kv.key_str();
        let Some(resource) = self.places.resource(&key) else { return Ok(None) };
        let read = self.current.get().read(&resource, kv.value.clone(), &kv.key).await;
        match read {
            Ok(plain) => Ok(Some(plain)),
            Err(why) => {
                tracing::error!(key = %key, err = why, "failed to decrypt data");
                Err(Error::Transform { key: key.into_owned(), why })
            }
        }
    }

    async fn clear(&self, mut kv: KeyValue) -> Result<KeyValue> {
        // Deletions and keys without values.
        if kv.value.is_empty() {
            return Ok(kv);
        }
        if let Some(plain) = self.plain(&kv).await? {
            kv.value = plain.bytes;
        }
        Ok(kv)
    }

    async fn event(&self, mut event: Event) -> Result<Event> {
        event.kv = self.clear(event.kv).await?;
        if let Some(prev) = event.prev.take() {
            event.prev = Some(self.clear(prev).await?);
        }
        Ok(event)
    }

    async fn item(&self, item: WatchItem) -> Result<WatchItem> {
        let WatchItem::Events(events) = item else { return Ok(item) };
        let mut out = Vec::with_capacity(events.len());
        for event in events {
            out.push(self.event(event).await?);
        }
        Ok(WatchItem::Events(out))
    }
}

#[async_trait::async_trait]
impl Store for Encrypted {
    async fn get(&self, key: &str, revision: Revision) -> Result<Get> {
        let mut got = self.inner.get(key, revision).await?;
        if let Some(kv) = got.kv.take() {
            got.kv = Some(self.decoder.clear(kv).await?);
        }
        Ok(got)
    }

    async fn list(&self, options: ListOptions) -> Result<Page> {
        let mut page = self.inner.list(options).await?;
        for kv in &mut page.kvs {
            let clear = self.decoder.clear(kv.clone()).await?;
            *kv = clear;
        }
        Ok(page)
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision> {
        match self.inner.create(key, self.seal(key, value)?, ttl).await {
            Ok(revision) => Ok(revision),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn update(
        &self,
        key: &str,
        value: Bytes,
        expected: Revision,
        ttl: Option<Duration>,
    ) -> Result<Revision> {
        match self.inner.update(key, self.seal(key, value)?, expected, ttl).await {
            Ok(revision) => Ok(revision),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision> {
        match self.inner.delete(key, expected).await {
            Ok(revision) => Ok(revision),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn watch(&self, options: WatchOptions) -> Result<Watch> {
        let watch = self.inner.watch(options).await?;
        let (progress, decoder) = (watch.progress(), self.decoder.clone());
        // What cannot be read ends the watch, as every error does.
        let items = stream::unfold(Some(watch), move |watch| {
            let decoder = decoder.clone();
            async move {
                let mut watch = watch?;
                match watch.next().await? {
                    Ok(item) => match decoder.item(item).await {
                        Ok(item) => Some((Ok(item), Some(watch))),
                        Err(error) => Some((Err(error), None)),
                    },
                    Err(error) => Some((Err(error), None)),
                }
            }
        });
        Ok(Watch::new(items, progress))
    }

    async fn is_stale(&self, key: &str) -> Result<bool> {
        let Some(kv) = self.inner.get(key, 0).await?.kv else { return Ok(false) };
        Ok(self.decoder.plain(&kv).await?.is_some_and(|plain| plain.stale))
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.inner.compact(revision).await
    }

    fn compacted(&self) -> Revision {
        self.inner.compacted()
    }

    async fn current_revision(&self) -> Result<Revision> {
        self.inner.current_revision().await
    }

    async fn health(&self) -> Result<()> {
        self.inner.health().await
    }

    fn progress_interval(&self) -> Option<Duration> {
        self.inner.progress_interval()
    }

    async fn size(&self) -> Result<Option<u64>> {
        self.inner.size().await
    }

    fn part(&self, prefix: &str) -> Option<Arc<dyn Store>> {
        let inner = self.inner.part(prefix)?;
        Some(Arc::new(Self { inner, decoder: self.decoder.clone() }))
    }

    fn others(&self) -> Vec<Arc<dyn Store>> {
        self.inner.others()
    }
}
