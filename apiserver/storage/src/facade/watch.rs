//! Watch: many watchers on one stream.
//!
//! A progress request is answered for the whole stream, with the least revision that all its watchers have reached
//! after it; so it never runs ahead of an event.

use std::collections::{BTreeSet, HashMap};

use etcd_client::proto::{PbEvent, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_stream::StreamMap;
use tonic::{Request, Response, Status, Streaming};

use super::Facade;
use super::convert::{header, range, to_wire};
use crate::error::Error;
use crate::store::{Event, EventKind, ProgressHandle, Revision, Watch, WatchItem};

/// The id of a response that is about all watchers.
const ALL: i64 = -1;

#[tonic::async_trait]
impl PbWatchService for Facade {
    type WatchStream = BoxStream<'static, Result<PbWatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let session = Session {
            facade: self.clone(),
            requests: request.into_inner(),
            watches: StreamMap::new(),
            watchers: HashMap::new(),
            next_id: 0,
            asked: None,
            answers: std::collections::VecDeque::new(),
            notify: tokio::time::interval_at(tokio::time::Instant::now() + self.notify, self.notify),
            over: false,
        };
        Ok(Response::new(futures::stream::unfold(session, Session::next).boxed()))
    }
}

struct Watcher {
    progress: ProgressHandle,
    wants_progress: bool,
    wants_prev: bool,
    no_put: bool,
    no_delete: bool,
    /// An unasked report is due with the next progress.
    notify: bool,
}

/// A progress request under way.
struct Asked {
    waiting: BTreeSet<i64>,
    least: Revision,
}

struct Session {
    facade: Facade,
    requests: Streaming<PbWatchRequest>,
    watches: StreamMap<i64, Watch>,
    watchers: HashMap<i64, Watcher>,
    next_id: i64,
    asked: Option<Asked>,
    answers: std::collections::VecDeque<PbWatchResponse>,
    notify: tokio::time::Interval,
    over: bool,
}

impl Session {
    async fn next(mut self) -> Option<(Result<PbWatchResponse, Status>, Self)> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Some((Ok(answer), self));
            }
            if self.over {
                return None;
            }
            let stop = self.facade.stop.clone();
            tokio::select! {
                () = stop.cancelled() => self.over = true,
                request = self.requests.next() => match request {
                    Some(Ok(request)) => self.request(request),
                    Some(Err(_)) | None => self.over = true,
                },
                Some((id, item)) = self.watches.next() => self.item(id, item),
                _ = self.notify.tick() => {
                    for watcher in self.watchers.values_mut().filter(|watcher| watcher.wants_progress) {
                        watcher.notify = true;
                        watcher.progress.request();
                    }
                }
            }
        }
    }

    fn revision(&self) -> Revision {
        self.facade.store.revisions().0
    }

    fn answer(&mut self, watch_id: i64, fill: impl FnOnce(&mut PbWatchResponse)) {
        let mut response =
            PbWatchResponse { header: header(self.revision()), watch_id, ..PbWatchResponse::default() };
        fill(&mut response);
        self.answers.push_back(response);
    }

    fn request(&mut self, request: PbWatchRequest) {
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(create)) => {
                let id = if create.watch_id != 0 { create.watch_id } else { self.free_id() };
                if self.watchers.contains_key(&id) {
                    let reason = "etcdserver: duplicate watch ID provided on the WatchStream";
                    self.refuse(ALL, reason);
                    return;
                }
                // An empty key stands for the first of all, as in etcd's server.
                let key = if create.key.is_empty() { vec![0] } else { create.key };
                // A client that gave no revision resumes after the one it is told here.
                let before = self.revision();
                let from = if create.start_revision == 0 { before + 1 } else { create.start_revision };
                let started = range(key, create.range_end)
                    .map_err(|status| Error::Invalid(status.message().to_owned()))
                    .and_then(|range| self.facade.store.watch_range(range, from, create.prev_kv));
                self.answer(id, |response| {
                    response.created = true;
                    response.header = header(before);
                });
                match started {
                    Ok(watch) => {
                        let watcher = Watcher {
                            progress: watch.progress(),
                            wants_progress: create.progress_notify,
                            wants_prev: create.prev_kv,
                            no_put: create.filters.contains(&0),
                            no_delete: create.filters.contains(&1),
                            notify: false,
                        };
                        self.watchers.insert(id, watcher);
                        self.watches.insert(id, watch);
                    }
                    Err(error) => self.fail(id, &error),
                }
            }
            Some(PbWatchRequestUnion::CancelRequest(cancel)) if self.remove(cancel.watch_id) => {
                self.answer(cancel.watch_id, |response| response.canceled = true);
            }
            Some(PbWatchRequestUnion::ProgressRequest(_)) => self.ask(),
            Some(PbWatchRequestUnion::CancelRequest(_)) | None => {}
        }
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn remove(&mut self, id: i64) -> bool {
        self.watches.remove(&id);
        let known = self.watchers.remove(&id).is_some();
        self.reached(id, Revision::MAX);
        known
    }

    fn refuse(&mut self, id: i64, reason: &str) {
        self.answer(id, |response| {
            response.created = true;
            response.canceled = true;
            response.cancel_reason = reason.to_owned();
        });
    }

    fn fail(&mut self, id: i64, error: &Error) {
        self.remove(id);
        let (compacted, reason) = match error {
            Error::Compacted { oldest, .. } => {
                (*oldest, "etcdserver: mvcc: required revision has been compacted".to_owned())
            }
            other => (0, other.to_string()),
        };
        self.answer(id, |response| {
            response.canceled = true;
            response.compact_revision = compacted;
            response.cancel_reason = reason;
        });
    }

    /// Starts to answer a progress request; one that is being answered counts for both.
    fn ask(&mut self) {
        let waiting: BTreeSet<i64> = self.watchers.keys().copied().collect();
        if waiting.is_empty() {
            self.answer(ALL, |_| {});
            return;
        }
        self.watchers.values().for_each(|watcher| watcher.progress.request());
        self.asked = Some(Asked { waiting, least: Revision::MAX });
    }

    fn reached(&mut self, id: i64, revision: Revision) {
        let Some(asked) = &mut self.asked else { return };
        if asked.waiting.remove(&id) {
            asked.least = asked.least.min(revision);
        }
        if asked.waiting.is_empty() {
            let least = asked.least;
            self.asked = None;
            let current = self.revision();
            self.answer(ALL, |response| response.header = header(least.min(current)));
        }
    }

    fn item(&mut self, id: i64, item: crate::error::Result<WatchItem>) {
        match item {
            Ok(WatchItem::Events(events)) => {
                let Some(watcher) = self.watchers.get(&id) else { return };
                let wanted = |event: &Event| match event.kind {
                    EventKind::Put => !watcher.no_put,
                    EventKind::Delete => !watcher.no_delete,
                };
                // As etcd: what a change at the compacted revision superseded is gone, though we may still know it.
                let (wants_prev, oldest) = (watcher.wants_prev, self.facade.store.revisions().1);
                let to_wire = |event: Event| {
                    let prev = wants_prev && event.revision() > oldest;
                    event_to_wire(event, prev)
                };
                let events: Vec<PbEvent> = events.into_iter().filter(wanted).map(to_wire).collect();
                if !events.is_empty() {
                    self.answer(id, |response| response.events = events);
                }
            }
            Ok(WatchItem::Progress(revision)) => {
                if self.watchers.get_mut(&id).is_some_and(|watcher| std::mem::take(&mut watcher.notify)) {
                    self.answer(id, |response| response.header = header(revision));
                }
                self.reached(id, revision);
            }
            Err(error) => self.fail(id, &error),
        }
    }
}

fn event_to_wire(event: Event, prev: bool) -> PbEvent {
    PbEvent {
        r#type: i32::from(event.kind == EventKind::Delete),
        kv: Some(to_wire(event.kv)),
        prev_kv: event.prev.filter(|_| prev).map(to_wire),
    }
}
