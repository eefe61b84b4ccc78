//! WATCH, straight from the store: one store watch per client. The watch cache replaces this for shared fan-out.
//!
//! Each change is looked at twice, as it was and as it is, because a selector turns a change into an addition or a
//! deletion for those who select by it.

use futures::{Stream, StreamExt, stream};
use machinery::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use storage::store::{Event, EventKind, WatchItem, WatchOptions};

use super::read;
use crate::api::{ListOptions, ObjectRef, WatchEvent, WatchStream};
use crate::codec;
use crate::core::{Core, Resource};
use crate::errors::ApiError;
use crate::filter::Filter;
use crate::meta;
use crate::object::Owned;
use crate::store_errors;
use crate::strategy::Call;
use ::api::validation::field::{Error as FieldError, Path};

/// `validateWatchOptions`.
fn validate(options: &ListOptions) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    let path = Path::new("resourceVersionMatch");
    let forbid = |text: &str| FieldError::forbidden(&path, text);
    let matching = options.resource_version_match.as_str();
    if options.send_initial_events.is_some() && matching != "NotOlderThan" {
        errors.push(forbid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    if !matching.is_empty() {
        if options.send_initial_events.is_none() {
            errors.push(forbid(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        if matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(&path, matching, &["NotOlderThan"]));
        }
        if !options.continue_token.is_empty() {
            errors.push(forbid("resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    read::refuse(&errors)
}

/// One client's view of the store watch.
struct View {
    core: Arc<Core>,
    resource: Arc<Resource>,
    filter: Filter,
    bookmarks: bool,
}

/// Starts a watch.
pub async fn watch(
    core: Arc<Core>,
    resource: Arc<Resource>,
    call: &Call<'_>,
    options: &ListOptions,
) -> Result<WatchStream, ApiError> {
    validate(options)?;
    let row = resource.row;
    let filter = Filter::parse(row, &options.label_selector, &options.field_selector)?;
    let version = read::parse_version(&options.resource_version)?;
    let namespace = if row.namespaced { call.request.info.namespace.as_str() } else { "" };
    let prefix = core.key_root(row, namespace)?;
    let initial = options.send_initial_events.unwrap_or(version == 0);
    let view = View {
        core: core.clone(),
        resource: resource.clone(),
        filter,
        bookmarks: options.allow_watch_bookmarks,
    };
    let (first, from) = if initial {
        let (events, revision) = initial_events(call, options, &view, version).await?;
        (events, revision + 1)
    } else if version == 0 {
        let now = core.store.current_revision().await.map_err(|e| store_errors::list(e, row))?;
        (Vec::new(), now + 1)
    } else {
        (Vec::new(), version + 1)
    };
    let store_watch = core
        .store
        .watch(WatchOptions { prefix, from, prev: true, progress: options.allow_watch_bookmarks })
        .await
        .map_err(|e| watch_error(&e))?;
    let changes = store_watch.flat_map(move |item| stream::iter(view.events(item)));
    let all = stream::iter(first).chain(changes);
    Ok(until(all, options.timeout_seconds).boxed())
}

/// Ends a stream after an error event or the client's timeout.
fn until(
    events: impl Stream<Item = WatchEvent> + Send + 'static,
    seconds: Option<i64>,
) -> impl Stream<Item = WatchEvent> + Send + 'static {
    let mut failed = false;
    let events = events.take_while(move |event| {
        let go = !failed;
        failed |= matches!(event, WatchEvent::Error(_));
        futures::future::ready(go)
    });
    let limit = seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    let timer = async move {
        match limit {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    events.take_until(Box::pin(timer))
}

async fn initial_events(
    call: &Call<'_>,
    options: &ListOptions,
    view: &View,
    minimum: i64,
) -> Result<(Vec<WatchEvent>, i64), ApiError> {
    let list_options = ListOptions {
        label_selector: options.label_selector.clone(),
        field_selector: options.field_selector.clone(),
        ..Default::default()
    };
    let (items, list) = read::list(call, &list_options).await?;
    let revision = read::parse_version(&list.resource_version)?;
    if minimum > revision {
        return Err(store_errors::too_large_resource_version(minimum, revision));
    }
    let mut events: Vec<_> = items.into_iter().map(|v| WatchEvent::Added(view.handle(v))).collect();
    if options.send_initial_events == Some(true) && options.allow_watch_bookmarks {
        events.push(WatchEvent::Bookmark(view.bookmark(revision, true)));
    }
    Ok((events, revision))
}

impl View {
    fn handle(&self, value: Value) -> ObjectRef {
        Owned::handle(value, self.resource.row.kind)
    }

    fn bookmark(&self, revision: i64, initial_end: bool) -> ObjectRef {
        let mut object = Value::Map(Map::new());
        codec::stamp(&mut object, crate::conversion::hub(self.resource.row.kind));
        meta::set(&mut object, "resourceVersion", revision.to_string());
        if initial_end {
            let annotations: Map = [("k8s.io/initial-events-end", Value::from("true"))].into_iter().collect();
            meta::set(&mut object, "annotations", annotations);
        }
        self.handle(object)
    }

    fn events(&self, item: storage::Result<WatchItem>) -> Vec<WatchEvent> {
        match item {
            Ok(WatchItem::Events(events)) => events
                .iter()
                .filter_map(|e| self.event(e).unwrap_or_else(|e| Some(WatchEvent::Error(e))))
                .collect(),
            Ok(WatchItem::Progress(revision)) if self.bookmarks => {
                vec![WatchEvent::Bookmark(self.bookmark(revision, false))]
            }
            Ok(WatchItem::Progress(_)) => Vec::new(),
            Err(error) => vec![WatchEvent::Error(watch_error(&error))],
        }
    }

    fn event(&self, event: &Event) -> Result<Option<WatchEvent>, ApiError> {
        let row = self.resource.row;
        let old = match &event.prev {
            Some(kv) => Some(self.core.decode(&self.resource, kv)?),
            None => None,
        };
        let was = old.as_ref().is_some_and(|o| self.filter.matches(row, o));
        let gone = |old: Option<Value>| {
            old.map(|mut object| {
                meta::set(&mut object, "resourceVersion", event.revision().to_string());
                WatchEvent::Deleted(self.handle(object))
            })
        };
        if event.kind == EventKind::Delete {
            return Ok(if was { gone(old) } else { None });
        }
        let new = self.core.decode(&self.resource, &event.kv)?;
        let is = self.filter.matches(row, &new);
        Ok(match (was, is) {
            (false, true) => Some(WatchEvent::Added(self.handle(new))),
            (true, true) => Some(WatchEvent::Modified(self.handle(new))),
            (true, false) => gone(old),
            (false, false) => None,
        })
    }
}

fn watch_error(error: &storage::Error) -> ApiError {
    match error {
        storage::Error::Compacted { requested, oldest } => {
            // The client names the revision before the first one it wants.
            ApiError::expired(format!("too old resource version: {} ({oldest})", requested - 1))
        }
        other => ApiError::internal(other),
    }
}
