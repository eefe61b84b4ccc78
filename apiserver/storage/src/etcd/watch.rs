//! Watches that survive lost connections: after an error the watch goes on at the revision after the last one seen.
//!
//! Each watch has a stream of its own, so that progress on it speaks of nothing else (upstream separates its streams by
//! resource for the same reason). Only compaction and refusal end a watch.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::PbEvent;
use etcd_client::{WatchClient, WatchRequestSender, WatchResponse, WatchResponseStream};
use tokio::sync::Notify;

use super::error::{interpret, status_error};
use super::key_value;
use crate::error::{Error, Result};
use crate::store::{Event, EventKind, ProgressHandle, Revision, Watch, WatchItem, WatchOptions};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

struct Running {
    client: WatchClient,
    options: WatchOptions,
    /// The next revision to ask for; 0 until known.
    next: Revision,
    stream: Option<(WatchRequestSender, WatchResponseStream)>,
    asked: Arc<Notify>,
    pause: Duration,
    ended: bool,
}

/// Starts a watch. The first connection is tried at once, so that it begins at the present revision when none is given.
pub async fn start(client: WatchClient, options: WatchOptions) -> Watch {
    let asked = Arc::new(Notify::new());
    let handle = Arc::clone(&asked);
    let next = options.from;
    let mut running =
        Running { client, options, next, stream: None, asked, pause: FIRST_PAUSE, ended: false };
    if let Err(error) = running.open().await {
        tracing::debug!(%error, "etcd watch: first attempt failed");
    }
    Watch::new(
        futures::stream::unfold(running, Running::item),
        ProgressHandle::new(move || handle.notify_one()),
    )
}

impl Running {
    async fn item(mut self) -> Option<(Result<WatchItem>, Self)> {
        if self.ended {
            return None;
        }
        loop {
            match self.step().await {
                Ok(Some(item)) => return Some((Ok(item), self)),
                Ok(None) => {}
                Err(Error::Unavailable(why) | Error::Timeout(why)) => {
                    tracing::debug!(prefix = self.options.prefix, why, "etcd watch interrupted; resuming");
                    self.stream = None;
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => {
                    self.ended = true;
                    return Some((Err(error), self));
                }
            }
        }
    }

    async fn open(&mut self) -> Result<()> {
        let mut options = etcd_client::WatchOptions::new().with_prefix().with_start_revision(self.next);
        if self.options.prev {
            options = options.with_prev_key();
        }
        if self.options.progress {
            options = options.with_progress_notify();
        }
        let stream =
            self.client.watch(self.options.prefix.as_str(), Some(options)).await.map_err(interpret)?;
        self.stream = Some(stream.split());
        Ok(())
    }

    /// Waits for one message or one progress request.
    async fn step(&mut self) -> Result<Option<WatchItem>> {
        let Some((requests, responses)) = &mut self.stream else {
            self.open().await?;
            return Ok(None);
        };
        let message = tokio::select! {
            message = responses.message() => message.map_err(interpret)?,
            () = self.asked.notified() => {
                requests.request_progress().await.map_err(interpret)?;
                return Ok(None);
            }
        };
        let message = message.ok_or_else(|| Error::Unavailable("etcd ended the watch stream".into()))?;
        self.pause = FIRST_PAUSE;
        self.take(message)
    }

    fn take(&mut self, response: WatchResponse) -> Result<Option<WatchItem>> {
        let response = response.0;
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.compact_revision > 0 {
            return Err(Error::Compacted { requested: self.next, oldest: response.compact_revision });
        }
        if response.canceled {
            return Err(canceled(&response.cancel_reason));
        }
        if response.created {
            if self.next == 0 {
                self.next = revision + 1;
            }
            return Ok(None);
        }
        if response.events.is_empty() {
            // A server that lags behind the one before must not move us back.
            let reached = self.next - 1;
            self.next = self.next.max(revision + 1);
            return Ok((revision >= reached).then_some(WatchItem::Progress(revision)));
        }
        let from = self.next;
        let events: Vec<Event> =
            response.events.into_iter().filter_map(event).filter(|event| event.revision() >= from).collect();
        if let Some(last) = events.last() {
            self.next = last.revision() + 1;
        }
        Ok((!events.is_empty()).then_some(WatchItem::Events(events)))
    }
}

fn canceled(reason: &str) -> Error {
    if reason.contains("permission denied") {
        return Error::Invalid(reason.to_owned());
    }
    match status_error(tonic::Code::OutOfRange, reason) {
        error @ Error::Compacted { .. } => error,
        _ => Error::Unavailable(format!("etcd canceled the watch: {reason}")),
    }
}

fn event(event: PbEvent) -> Option<Event> {
    let kind = if event.r#type == 1 { EventKind::Delete } else { EventKind::Put };
    Some(Event { kind, kv: key_value(event.kv?), prev: event.prev_kv.map(key_value) })
}
