//! Watches of a resource that is not kept in memory: one watch on the store each, objects decoded per watch.
//!
//! For events alone, by default: they are written far more often than anyone reads them. Upstream's
//! `pkg/storage/etcd3/watcher.go` is what this answers like.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};

use super::Cacher;
use super::error::{Error, Result, WATCH_EXPIRED};
use super::list::not_older;
use super::object::{Filter, Object};
use super::request::{Scope, WatchRequest};
use super::watch::{WatchEvent, WatchKind};
use crate::error::Error as StoreError;
use crate::store::{Event, EventKind, Revision, WatchItem, WatchOptions};

/// Which objects one watch is about.
struct View {
    cacher: Cacher,
    scope: Scope,
    filter: Option<Filter>,
    bookmarks: bool,
}

impl Cacher {
    /// Starts a watch on the store itself. An error item is the last.
    pub async fn watch_store(&self, request: WatchRequest) -> Result<BoxStream<'static, Result<WatchEvent>>> {
        let required = request.from.unwrap_or(0);
        let initial = request.send_initial_events.unwrap_or(required == 0);
        let view = View {
            cacher: self.clone(),
            scope: request.scope,
            filter: request.filter,
            bookmarks: request.bookmarks,
        };
        let (first, revision) = if initial {
            let end = request.send_initial_events == Some(true);
            view.initial(required, end).await?
        } else if required == 0 {
            (Vec::new(), self.shared.config.store.current_revision().await?)
        } else {
            (Vec::new(), required)
        };
        let options = WatchOptions {
            prefix: String::from_utf8_lossy(&view.scope.prefix(&self.shared.config.prefix).0).into_owned(),
            from: revision + 1,
            prev: true,
            progress: request.bookmarks,
        };
        let changes = self.shared.config.store.watch(options).await.map_err(gone)?;
        Ok(stream::iter(first.into_iter().map(Ok)).chain(view.follow(changes)).boxed())
    }
}

impl View {
    async fn initial(&self, required: Revision, end: bool) -> Result<(Vec<WatchEvent>, Revision)> {
        let listed = self.cacher.list_scope(&self.scope, self.filter.as_ref()).await?;
        not_older(listed.revision, required)?;
        let mut events: Vec<_> =
            listed.items.into_iter().map(|o| WatchEvent::Object(WatchKind::Added, o)).collect();
        if end && self.bookmarks {
            events.push(WatchEvent::Bookmark { revision: listed.revision, initial_events_end: true });
        }
        Ok((events, listed.revision))
    }

    fn follow(
        self,
        changes: impl Stream<Item = crate::error::Result<WatchItem>> + Send + 'static,
    ) -> impl Stream<Item = Result<WatchEvent>> + Send {
        changes.flat_map(move |item| stream::iter(self.item(item)))
    }

    fn item(&self, item: crate::error::Result<WatchItem>) -> Vec<Result<WatchEvent>> {
        match item {
            Ok(WatchItem::Events(events)) => {
                events.into_iter().filter_map(|event| self.event(event).transpose()).collect()
            }
            Ok(WatchItem::Progress(revision)) if self.bookmarks => {
                vec![Ok(WatchEvent::Bookmark { revision, initial_events_end: false })]
            }
            Ok(WatchItem::Progress(_)) => Vec::new(),
            Err(error) => vec![Err(gone(error))],
        }
    }

    fn selects(&self, object: &Object) -> bool {
        self.scope.contains(object) && self.filter.as_ref().is_none_or(|filter| filter(object))
    }

    /// What the watch shows of a change: entering and leaving the selection count as creation and deletion.
    fn event(&self, event: Event) -> Result<Option<WatchEvent>> {
        let revision = event.revision();
        let before = event.prev.map(|kv| self.cacher.decode(kv)).transpose()?;
        let before = before.filter(|object| self.selects(object));
        let now = match event.kind {
            EventKind::Put => Some(self.cacher.decode(event.kv)?).filter(|object| self.selects(object)),
            EventKind::Delete => None,
        };
        Ok(match (before, now) {
            (None, None) => None,
            (None, Some(now)) => Some(WatchEvent::Object(WatchKind::Added, Arc::new(now))),
            (Some(_), Some(now)) => Some(WatchEvent::Object(WatchKind::Modified, Arc::new(now))),
            (Some(before), None) => {
                Some(WatchEvent::Object(WatchKind::Deleted, Arc::new(before.at(revision))))
            }
        })
    }
}

fn gone(error: StoreError) -> Error {
    match error {
        StoreError::Compacted { .. } => {
            Error::Expired { message: WATCH_EXPIRED.to_owned(), continue_token: None }
        }
        other => Error::Store(other),
    }
}
