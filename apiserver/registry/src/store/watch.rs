//! WATCH, from the watch cache; what is not cached is watched in the store.
//!
//! Events carry handles on shared objects; encoding happens in the server, once per event and form.
//! Upstream: `k8s.io/apiserver/pkg/storage/cacher/cacher.go`, `Watch`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, stream};
use machinery::{Map, Value};
use storage::cacher::{self, Cacher, WatchKind, WatchRequest};

use super::handle::Cached;
use super::read::{self, cache_error};
use crate::api::{ListOptions, ObjectRef, WatchEvent, WatchStream};
use crate::codec;
use crate::core::Resource;
use crate::errors::ApiError;
use crate::filter::Filter;
use crate::meta;
use crate::object::Owned;
use crate::spans;
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

/// The field by which watches of pods are indexed.
const INDEXED: &str = "spec.nodeName";

/// Starts a watch.
pub async fn watch(
    call: &Call<'_>,
    resource: &Arc<Resource>,
    options: &ListOptions,
) -> Result<WatchStream, ApiError> {
    validate(options)?;
    let row = resource.row;
    let source = resource.source()?;
    let filter = Filter::parse(row, &options.label_selector, &options.field_selector)?;
    let version = read::parse_version(&options.resource_version)?;
    let seconds = options.timeout_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
    let request = WatchRequest {
        scope: read::scope(call, &filter)?,
        from: (!options.resource_version.is_empty()).then_some(version),
        send_initial_events: options.send_initial_events,
        bookmarks: options.allow_watch_bookmarks,
        index_value: filter.requires(INDEXED).filter(|_| row.resource == "pods").map(Into::into),
        filter: filter.on_headers(&source.fields),
        deadline: seconds.map(|s| Instant::now() + Duration::from_secs(s)),
    };
    let started = spans::many("cacher.Watch", call).run(start(&source.cacher, resource, request)).await;
    let events = match started {
        Ok(events) => events,
        Err(error @ cacher::Error::NotReady { .. }) => return Err(refused(error, resource)),
        Err(error) => {
            // Upstream accepts the watch and says it in the first event.
            let error = refused(error, resource);
            return Ok(stream::iter([WatchEvent::Error(error)]).boxed());
        }
    };
    let events = until(events, options.timeout_seconds);
    match &resource.custom {
        // A changed definition ends the watches; clients come back to the new one.
        Some(custom) => Ok(events.take_until(custom.state.ended.clone().cancelled_owned()).boxed()),
        None => Ok(events.boxed()),
    }
}

fn refused(error: cacher::Error, resource: &Resource) -> ApiError {
    let row = resource.row;
    cache_error(error, row, |e| store_errors::list(e, row))
}

async fn start(
    cacher: &Cacher,
    resource: &Arc<Resource>,
    request: WatchRequest,
) -> cacher::error::Result<stream::BoxStream<'static, WatchEvent>> {
    let resource = Arc::clone(resource);
    if cacher.can_watch(&request) {
        let events = cacher.watch(request).await?;
        return Ok(events.map(move |event| convert(event, &resource)).boxed());
    }
    let events = cacher.watch_store(request).await?;
    let convert = move |event| match event {
        Ok(event) => convert(event, &resource),
        Err(error) => WatchEvent::Error(refused(error, &resource)),
    };
    Ok(events.map(convert).boxed())
}

fn convert(event: cacher::WatchEvent, resource: &Arc<Resource>) -> WatchEvent {
    match event {
        cacher::WatchEvent::Object(kind, object) => {
            let object = Cached::handle(object, resource);
            match kind {
                WatchKind::Added => WatchEvent::Added(object),
                WatchKind::Modified => WatchEvent::Modified(object),
                WatchKind::Deleted => WatchEvent::Deleted(object),
            }
        }
        cacher::WatchEvent::Bookmark { revision, initial_events_end } => {
            WatchEvent::Bookmark(bookmark(resource, revision, initial_events_end))
        }
    }
}

fn bookmark(resource: &Resource, revision: i64, initial_end: bool) -> ObjectRef {
    let mut object = Value::Map(Map::new());
    codec::stamp(&mut object, crate::conversion::hub(resource.row.kind));
    meta::set(&mut object, "resourceVersion", revision.to_string());
    if initial_end {
        let annotations: Map = [("k8s.io/initial-events-end", Value::from("true"))].into_iter().collect();
        meta::set(&mut object, "annotations", annotations);
    }
    Owned::handle(object, resource.row.kind)
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
