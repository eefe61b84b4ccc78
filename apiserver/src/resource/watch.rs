//! Lists and watches. A watch is a stream of framed events; it ends with its timeout, with the client, with an error
//! event, or when the server drains.
//! Upstream: `k8s.io/apiserver/pkg/endpoints/handlers/{get,watch}.go`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderValue};
use registry::api::{Format, ListOptions, MediaType, ObjectRef, WatchEvent, WatchStream};
use registry::errors::ApiError;
use tokio_util::sync::WaitForCancellationFutureOwned;
use traces::Span;

use super::{Target, context, encode, framing};
use crate::chain::spans;
use crate::flowcontrol::controller::Watching;
use crate::flowcontrol::filter::Initializing;
use crate::lifecycle::{Lifecycle, OpenWatch};
use crate::metrics::Labels;
use crate::server::{Call, Server};
use crate::tables;
use crate::web::body::{self, BodyError};
use crate::web::negotiate::{self, Output, Transform};
use crate::web::{Response, query};

/// `GET` of a collection, or of one object through `?watch`.
pub(super) async fn list_or_watch(
    server: &Arc<Server>,
    call: &Call,
    target: &Target,
) -> Result<Response, ApiError> {
    let output = negotiate::output(&call.parts.headers, &call.query, target.restrictions(), false)?;
    let force_watch = call.info.verb == "watch";
    let (mut options, watch) = query::list_options(&call.query, force_watch)?;
    select_name(call, &mut options)?;
    if !watch {
        let list = server.registry.list(&context(call), &options).await?;
        return encode::list(call, &output, list);
    }
    if !target.row.verbs.iter().any(|v| v == "watch") {
        return Err(ApiError::method_not_supported(&call.info.api_group, &call.info.resource, "watch"));
    }
    let stream_output = negotiate::output(&call.parts.headers, &call.query, target.restrictions(), true)
        // Upstream looks at what a stream is to be once it has begun to watch.
        .or_else(|error| server.registry.check_selectors(&context(call), &options).and(Err(error)))?;
    let timeout = timeout(server, &options);
    options.timeout_seconds = i64::try_from(timeout.as_secs()).ok();
    let events = server.registry.watch(&context(call), &options).await?;
    respond(server, call, stream_output, events)
}

/// A name in the path of a watch is a selector on that name.
fn select_name(call: &Call, options: &mut ListOptions) -> Result<(), ApiError> {
    let name = &call.info.name;
    if name.is_empty() {
        return Ok(());
    }
    let selector = &options.field_selector;
    let same =
        |term: &str| term.strip_prefix("metadata.name=").map(|v| v.trim_start_matches('=')) == Some(name);
    if selector.is_empty() {
        options.field_selector = format!("metadata.name={name}");
    } else if !selector.split(',').any(same) {
        return Err(ApiError::bad_request("fieldSelector metadata.name doesn't match requested name"));
    }
    Ok(())
}

/// The client's timeout, or a random one above the minimum so that watches do not all end together.
fn timeout(server: &Server, options: &ListOptions) -> Duration {
    match options.timeout_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0) {
        Some(seconds) => Duration::from_secs(seconds),
        None => server.limits.min_request_timeout.mul_f64(1.0 + rand::random::<f64>()),
    }
}

/// Turns events into frames. What a watch sends of an object is made by the first watch that needs it, and shared with
/// all that want the same form.
struct Framer {
    output: Output,
    table: Option<tables::Options>,
    sent: Arc<component::metrics::Counter>,
    _running: crate::metrics::Running,
    query: query::Query,
}

impl Framer {
    fn frame(&mut self, event: &WatchEvent) -> Result<Bytes, ApiError> {
        self.sent.inc();
        let (kind, object) = match event {
            WatchEvent::Added(object) => (Kind::Added, object),
            WatchEvent::Modified(object) => (Kind::Modified, object),
            WatchEvent::Deleted(object) => (Kind::Deleted, object),
            WatchEvent::Bookmark(object) => (Kind::Bookmark, object),
            WatchEvent::Error(error) => return Ok(self.join("ERROR", &[&self.error(error)])),
        };
        let slot = self.slot(kind);
        let frame = object.frame(slot, &mut || self.make(kind.name(), object))?;
        if let Some(options) = &mut self.table {
            // Column definitions go out with the first table only.
            options.no_headers = true;
        }
        Ok(frame)
    }

    /// A number for everything that makes frames of one object differ.
    fn slot(&self, kind: Kind) -> u32 {
        let media = u32::from(self.output.media == MediaType::Protobuf);
        let newest = |version: &str| u32::from(version == "v1");
        let form = match (&self.output.transform, &self.table) {
            (Some(Transform::Table(version)), Some(options)) => {
                16 + newest(version) + 2 * u32::from(options.no_headers) + 4 * options.include as u32
            }
            (Some(Transform::Partial(version)), _) => 2 + newest(version),
            _ => 0,
        };
        form << 4 | media << 3 | kind as u32
    }

    fn make(&self, kind: &str, object: &ObjectRef) -> Result<Bytes, ApiError> {
        if let (Some(options), Some(Transform::Table(version))) = (&self.table, &self.output.transform) {
            let table = tables::Renderer::new(version, options.clone(), object.gvk(), object.columns())
                .one(object)?;
            return Ok(self.join(kind, &[&table]));
        }
        if self.output.transform.is_some() {
            return Ok(self.join(kind, &[&encode::bytes_for(&self.output, &self.query, object)?]));
        }
        let protobuf = self.output.media == MediaType::Protobuf;
        let wire = object.wire(if protobuf { Format::Protobuf } else { Format::Json }, false)?;
        Ok(self.join(kind, &[&wire.head, &wire.body]))
    }

    fn join(&self, kind: &str, object: &[&[u8]]) -> Bytes {
        match self.output.media {
            MediaType::Protobuf => framing::protobuf_event(kind, object),
            MediaType::Json | MediaType::Yaml => framing::json_event(kind, object),
        }
    }

    fn error(&self, error: &ApiError) -> Bytes {
        match self.output.media {
            MediaType::Protobuf => error.to_protobuf().into(),
            MediaType::Json | MediaType::Yaml => error.to_json().into(),
        }
    }
}

/// The type of an event about an object.
#[derive(Clone, Copy)]
enum Kind {
    Added,
    Modified,
    Deleted,
    Bookmark,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
        }
    }
}

fn respond(
    server: &Arc<Server>,
    call: &Call,
    output: Output,
    events: WatchStream,
) -> Result<Response, ApiError> {
    let table = match &output.transform {
        Some(Transform::Table(_)) => Some(tables::Options::from_query(&call.query)?),
        _ => None,
    };
    let media = output.media;
    let sent = crate::metrics::watch_events(&call.info);
    let _running = Labels::of(&call.info, &call.parts.method, false, false).running();
    let framer = Framer { output, table, sent, _running, query: call.query.clone() };
    let (initializing, life) = (call.claim.take(), Life::new(&server.lifecycle));
    let span = match traces::is_on().then(|| call.query.flag("sendInitialEvents")).flatten() {
        Some(true) => spans::response("WatchServer.HandleHTTP", call, framer.output.content_type()),
        _ => Span::none(),
    };
    span.event("About to start writing response", Vec::new);
    let frames = Frames { events, framer, life, ended: false, initializing, _watching: None, span };
    let mut response = Response::new(body::stream(frames));
    let content_type = match media {
        MediaType::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        MediaType::Json | MediaType::Yaml => negotiate::JSON,
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

/// How many bytes of ready events are joined into one chunk.
const BATCH_BYTES: usize = 32 << 10;

/// A watch in the life of the server: when the server drains nothing more is sent, and the watch ends when it is its turn.
struct Life {
    open: OpenWatch,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    turn: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Life {
    fn new(lifecycle: &Lifecycle) -> Self {
        Self {
            open: lifecycle.watches.enter(),
            draining: Box::pin(lifecycle.draining.clone().cancelled_owned()),
            turn: None,
        }
    }

    /// Whether the watch ends now; `None` while the server does not drain.
    fn leaves(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        if self.turn.is_none() {
            if self.draining.as_mut().poll(cx).is_pending() {
                return None;
            }
            self.turn = Some(Box::pin(self.open.turn()));
        }
        self.turn.as_mut().map(|turn| turn.as_mut().poll(cx))
    }
}

/// The body of a watch: what is ready, joined into chunks. A chunk of one event is the frame shared with other watches.
struct Frames {
    events: WatchStream,
    framer: Framer,
    life: Life,
    ended: bool,
    /// Seats, until the events there are have been sent: nothing more is ready then.
    initializing: Option<Initializing>,
    _watching: Option<Watching>,
    /// Of the events there are, until they have been sent.
    span: Span,
}

impl Frames {
    /// The frame of an event. What cannot be encoded ends the watch with an error event.
    fn frame(&mut self, event: &WatchEvent) -> Bytes {
        self.ended |= matches!(event, WatchEvent::Error(_));
        self.framer.frame(event).unwrap_or_else(|error| {
            tracing::error!(err = %error, "Unable to encode watch object");
            self.ended = true;
            self.framer.join("ERROR", &[&self.framer.error(&error)])
        })
    }
}

impl Stream for Frames {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(left) = this.life.leaves(cx) {
            return left.map(|()| None);
        }
        let next = this.events.poll_next_unpin(cx);
        if next.is_pending()
            && let Some(initializing) = this.initializing.take()
        {
            this._watching = initializing.initialized();
        }
        if next.is_pending() && this.span.is_recording() {
            this.span.event("Writing initial events done", Vec::new);
            this.span = Span::none();
        }
        let Some(event) = ready!(next) else { return Poll::Ready(None) };
        let first = this.frame(&event);
        let mut chunk = BytesMut::new();
        while !this.ended && first.len().max(chunk.len()) < BATCH_BYTES {
            match this.events.poll_next_unpin(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => this.ended = true,
                Poll::Ready(Some(event)) => {
                    if chunk.is_empty() {
                        chunk.reserve(BATCH_BYTES);
                        chunk.extend_from_slice(&first);
                    }
                    chunk.extend_from_slice(&this.frame(&event));
                }
            }
        }
        Poll::Ready(Some(Ok(if chunk.is_empty() { first } else { chunk.freeze() })))
    }
}
