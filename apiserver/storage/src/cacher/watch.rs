//! Watches: a bounded queue while the reader keeps up, a cursor into the ring when it does not.
//!
//! A watch begins with its initial objects (walked from a snapshot as the reader asks), then catches up from the ring,
//! then gets changes pushed. When its queue is full it goes back to catching up; only when the ring has moved past its
//! cursor does it end, and the client resumes by its last resource version. No watch ever holds up another.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use compact_str::CompactString;
use futures::Stream;
use parking_lot::Mutex;
use tokio::time::Sleep;

use super::error::{Error, Result};
use super::object::{Filter, Object};
use super::request::{Scope, WatchRequest};
use super::ring::Change;
use super::tree::Tree;
use super::{Cacher, Shared};
use crate::store::Revision;

/// Changes queued per watch before it falls back to the ring.
const QUEUE: usize = 256;
/// Changes read from the ring at a time.
const REFILL: usize = 128;
/// A bookmark is sent this long before the server ends the watch.
const BEFORE_DEADLINE: Duration = Duration::from_secs(2);

/// The type of a watch event about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WatchKind {
    /// It is new, or has entered the selection.
    Added,
    /// It has changed within the selection.
    Modified,
    /// It is gone, or has left the selection.
    Deleted,
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// About an object; the encodings of the object are shared with every other watch.
    Object(WatchKind, Arc<Object>),
    /// Everything up to this revision has been sent.
    Bookmark {
        /// The revision.
        revision: Revision,
        /// Whether it ends the initial events: the annotation `k8s.io/initial-events-end`.
        initial_events_end: bool,
    },
}

/// Which changes can concern a watch: it is told of those in its bucket only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Bucket {
    All,
    Namespace(CompactString),
    Key(Bytes),
    Index(CompactString),
}

#[derive(Debug, Default)]
struct Inbox {
    queue: VecDeque<(WatchKind, Arc<Object>)>,
    /// The changes below this number have been queued or are of no interest.
    next_seq: u64,
    /// Nothing is queued any more: read the ring from `next_seq`.
    behind: bool,
    ended: bool,
    waker: Option<Waker>,
}

struct Watcher {
    bucket: Bucket,
    scope: Scope,
    filter: Option<Filter>,
    /// Changes up to this revision are not shown: a watch may start at a revision the cache has yet to reach.
    after: Revision,
    inbox: Mutex<Inbox>,
}

impl Watcher {
    fn selects(&self, object: &Object) -> bool {
        self.scope.contains(object) && self.filter.as_ref().is_none_or(|filter| filter(object))
    }

    /// What this watch shows of a change, if anything: entering and leaving the selection count as creation and
    /// deletion.
    fn view(&self, change: &Change) -> Option<(WatchKind, Arc<Object>)> {
        if change.revision <= self.after {
            return None;
        }
        let is = !change.deleted && self.selects(&change.object);
        let was = change.previous.as_ref().is_some_and(|previous| self.selects(previous));
        match (was, is) {
            (false, false) => None,
            (false, true) => Some((WatchKind::Added, Arc::clone(&change.object))),
            (true, true) => Some((WatchKind::Modified, Arc::clone(&change.object))),
            (true, false) if change.deleted => Some((WatchKind::Deleted, Arc::clone(&change.object))),
            (true, false) => change.left().map(|object| (WatchKind::Deleted, object)),
        }
    }

    fn push(&self, change: &Change) {
        let mut inbox = self.inbox.lock();
        if change.seq < inbox.next_seq && !inbox.behind {
            return;
        }
        if !inbox.behind {
            if inbox.queue.len() >= QUEUE {
                inbox.behind = true;
            } else if let Some(view) = self.view(change) {
                inbox.next_seq = change.seq + 1;
                inbox.queue.push_back(view);
            } else {
                inbox.next_seq = change.seq + 1;
                return;
            }
        }
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

/// Hands changes to the watches they concern.
#[derive(Default)]
pub struct Dispatch {
    buckets: Mutex<HashMap<Bucket, Vec<Arc<Watcher>>>>,
    count: AtomicUsize,
}

impl Dispatch {
    /// The number of watches.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Hands one change over. Called in the order of changes, by the feed only.
    pub fn send(&self, change: &Change, index: Option<usize>) {
        let buckets = self.buckets.lock();
        if buckets.is_empty() {
            return;
        }
        let header = &change.object.header;
        let tell = |bucket: &Bucket| {
            buckets.get(bucket).into_iter().flatten().for_each(|watcher| watcher.push(change));
        };
        tell(&Bucket::All);
        if !header.namespace.is_empty() {
            tell(&Bucket::Namespace(header.namespace.clone()));
        }
        tell(&Bucket::Key(change.object.key.clone()));
        let Some(index) = index else { return };
        let value = |object: &Object| object.header.fields.get(index).cloned().unwrap_or_default();
        let now = value(&change.object);
        let before = change.previous.as_ref().map(|previous| value(previous)).filter(|before| *before != now);
        tell(&Bucket::Index(now));
        if let Some(before) = before {
            tell(&Bucket::Index(before));
        }
    }

    /// Ends every watch: the cache is being filled again.
    pub fn end_all(&self) {
        for watcher in std::mem::take(&mut *self.buckets.lock()).into_values().flatten() {
            self.count.fetch_sub(1, Ordering::Relaxed);
            let mut inbox = watcher.inbox.lock();
            inbox.ended = true;
            if let Some(waker) = inbox.waker.take() {
                waker.wake();
            }
        }
    }

    fn add(&self, watcher: &Arc<Watcher>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.buckets.lock().entry(watcher.bucket.clone()).or_default().push(Arc::clone(watcher));
    }

    fn remove(&self, watcher: &Arc<Watcher>) {
        let mut buckets = self.buckets.lock();
        if let Some(bucket) = buckets.get_mut(&watcher.bucket) {
            let before = bucket.len();
            bucket.retain(|other| !Arc::ptr_eq(other, watcher));
            // A watch that was ended with all others is no longer here, and no longer counted.
            self.count.fetch_sub(before - bucket.len(), Ordering::Relaxed);
            if bucket.is_empty() {
                buckets.remove(&watcher.bucket);
            }
        }
    }
}

/// The objects a watch begins with.
struct Initial {
    tree: Tree<Object>,
    /// Where to go on.
    next: Vec<u8>,
    prefix: Bytes,
    single: bool,
}

/// A running watch: a stream that ends when the client has to resume by itself. Dropping it ends the watch.
pub struct WatchStream {
    shared: Arc<Shared>,
    watcher: Arc<Watcher>,
    /// Objects to send first, in pieces.
    initial: Option<Initial>,
    ready: VecDeque<WatchEvent>,
    /// A bookmark owed after the initial objects.
    end_bookmark: Option<Revision>,
    /// The newest revision the client is known to have: no bookmark goes below or repeats the start.
    start: Revision,
    /// The newest revision sent. Changes are queued before they count as dispatched, so a bookmark could fall behind it.
    sent: Revision,
    bookmarks: bool,
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
    /// Keeps the feed alive.
    _cacher: Cacher,
}

impl Cacher {
    /// Starts a watch. [`Error::NotReady`] is an answer to the request; the other errors are to be sent as the watch's
    /// first event, of type ERROR, as upstream does.
    pub async fn watch(&self, request: WatchRequest) -> Result<WatchStream> {
        self.ready().await?;
        let initial_events = request.send_initial_events == Some(true);
        let required = match (request.from, request.send_initial_events) {
            (Some(from), _) => from,
            (None, None) => 0,
            (None, Some(_)) => self.shared.config.store.current_revision().await?,
        };
        if initial_events && !self.caught_up(required).await {
            let current = self.revision();
            return Err(Error::TooLargeRevision { requested: required, current });
        }
        let bucket = match (&request.scope, &request.index_value) {
            (Scope::Key(key), _) => Bucket::Key(key.clone()),
            (_, Some(value)) if self.shared.config.index.is_some() => Bucket::Index(value.clone()),
            (Scope::Namespace(namespace), _) => Bucket::Namespace(namespace.clone()),
            (Scope::All, _) => Bucket::All,
        };
        let from_snapshot = initial_events || (required == 0 && request.send_initial_events.is_none());
        let inbox = Inbox { behind: true, ..Inbox::default() };
        let after = if from_snapshot { 0 } else { required };
        let (scope, filter) = (request.scope, request.filter);
        let watcher = Watcher { bucket, scope, filter, after, inbox: Mutex::new(inbox) };
        let mut stream = WatchStream {
            shared: Arc::clone(&self.shared),
            watcher: Arc::new(watcher),
            initial: None,
            ready: VecDeque::new(),
            end_bookmark: None,
            start: required,
            sent: 0,
            bookmarks: request.bookmarks,
            deadline: request.deadline,
            timer: None,
            ended: false,
            _cacher: self.clone(),
        };
        stream.begin(required, from_snapshot, initial_events)?;
        Ok(stream)
    }
}

impl WatchStream {
    /// Fixes where the watch starts and enters it, under one hold of the state.
    fn begin(&mut self, required: Revision, from_snapshot: bool, end_bookmark: bool) -> Result<()> {
        let state = self.shared.state.read();
        let seq = if from_snapshot {
            let (prefix, single) = self.watcher.scope.prefix(&self.shared.config.prefix);
            self.initial = Some(Initial { tree: state.tree.clone(), next: prefix.to_vec(), prefix, single });
            self.end_bookmark = (end_bookmark && self.bookmarks).then_some(state.revision);
            self.start = state.revision;
            state.ring.next_seq()
        } else if required == 0 {
            self.start = state.revision;
            state.ring.next_seq()
        } else {
            let since = state.ring.since();
            state.ring.seq_after(required).ok_or_else(|| Error::Expired {
                message: format!("too old resource version: {required} ({since})"),
                continue_token: None,
            })?
        };
        self.watcher.inbox.lock().next_seq = seq;
        // Inside the hold: when the cache is filled again, that ends either this watch or comes before it.
        self.shared.dispatch.add(&self.watcher);
        Ok(())
    }

    /// Waits for at least one event and takes up to `max` that are there; `None` at the end. May be dropped and called
    /// again without losing events.
    pub async fn next_batch(&mut self, max: usize) -> Option<Vec<WatchEvent>> {
        std::future::poll_fn(|cx| self.poll_batch(cx, max)).await
    }

    /// The polling form of [`WatchStream::next_batch`].
    pub fn poll_batch(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Option<Vec<WatchEvent>>> {
        let mut batch = Vec::new();
        while batch.len() < max {
            match self.poll_event(cx) {
                Poll::Ready(Some(event)) => batch.push(event),
                Poll::Ready(None) if batch.is_empty() => return Poll::Ready(None),
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                _ => break,
            }
        }
        Poll::Ready(Some(batch))
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(event) = self.ready.pop_front() {
                if let WatchEvent::Object(_, object) = &event {
                    self.sent = self.sent.max(object.revision);
                }
                return Poll::Ready(Some(event));
            }
            if self.initial.is_some() {
                self.read_initial();
                continue;
            }
            if let Some(revision) = self.end_bookmark.take() {
                return Poll::Ready(Some(WatchEvent::Bookmark { revision, initial_events_end: true }));
            }
            // Read before the queue is looked at: what was dispatched up to here has been queued.
            let dispatched = self.shared.dispatched.load(Ordering::Acquire);
            let mut inbox = self.watcher.inbox.lock();
            if inbox.ended {
                drop(inbox);
                self.ended = true;
                continue;
            }
            if !inbox.queue.is_empty() {
                let queued = std::mem::take(&mut inbox.queue);
                drop(inbox);
                self.ready.extend(queued.into_iter().map(|(kind, object)| WatchEvent::Object(kind, object)));
                continue;
            }
            if inbox.behind {
                drop(inbox);
                self.catch_up();
                continue;
            }
            inbox.waker = Some(cx.waker().clone());
            drop(inbox);
            return self.poll_bookmark(cx, dispatched);
        }
    }

    /// A bookmark when one is due; the queue was empty when `dispatched` had been handed over.
    fn poll_bookmark(&mut self, cx: &mut Context<'_>, dispatched: Revision) -> Poll<Option<WatchEvent>> {
        if !self.bookmarks {
            return Poll::Pending;
        }
        let every = self.shared.config.bookmark_every;
        let due = next_bookmark(Instant::now(), every, self.deadline);
        if self.timer.is_none() {
            self.timer = due.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.shared.nudge();
        match due {
            Some(at) => {
                timer.as_mut().reset(at.into());
                // Registers the timer with this task.
                let _ = timer.as_mut().poll(cx);
            }
            None => self.bookmarks = false,
        }
        if dispatched <= self.start || dispatched < self.sent {
            return Poll::Pending;
        }
        Poll::Ready(Some(WatchEvent::Bookmark { revision: dispatched, initial_events_end: false }))
    }

    /// Puts the next piece of the initial objects out.
    fn read_initial(&mut self) {
        let Some(mut initial) = self.initial.take() else { return };
        let mut next = None;
        for (seen, object) in initial.tree.iter_from(&initial.next).enumerate() {
            let inside = if initial.single {
                object.key == initial.prefix
            } else {
                object.key.starts_with(&initial.prefix)
            };
            if !inside {
                break;
            }
            if seen == REFILL {
                next = Some(object.key.to_vec());
                break;
            }
            if self.watcher.selects(object) {
                self.ready.push_back(WatchEvent::Object(WatchKind::Added, Arc::clone(object)));
            }
        }
        if let Some(next) = next {
            initial.next = next;
            self.initial = Some(initial);
        }
    }

    /// Reads the ring from the cursor. Under the state's lock, so that no change comes between the end of the ring and
    /// the first one pushed.
    fn catch_up(&mut self) {
        let state = self.shared.state.read();
        let mut inbox = self.watcher.inbox.lock();
        let Some(changes) = state.ring.changes_from(inbox.next_seq) else {
            tracing::info!(
                prefix = self.shared.config.prefix,
                "ended a watch that fell behind the kept history"
            );
            self.ended = true;
            return;
        };
        for (seen, change) in changes.enumerate() {
            if seen == REFILL * 8 || self.ready.len() >= REFILL {
                return;
            }
            inbox.next_seq = change.seq + 1;
            if let Some((kind, object)) = self.watcher.view(change) {
                self.ready.push_back(WatchEvent::Object(kind, object));
            }
        }
        inbox.behind = false;
    }
}

impl Stream for WatchStream {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.poll_event(cx)
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.shared.dispatch.remove(&self.watcher);
    }
}

/// When the next bookmark is due: after the interval or shortly before the deadline; never when that has passed.
fn next_bookmark(now: Instant, every: Duration, deadline: Option<Instant>) -> Option<Instant> {
    let regular = now + every;
    let Some(last) = deadline.map(|deadline| deadline.checked_sub(BEFORE_DEADLINE).unwrap_or(now)) else {
        return Some(regular);
    };
    let next = regular.min(last);
    (next > now).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cacher::object::{Decode, Decoded, Header};

    fn change(seq: u64) -> Change {
        let kv = crate::store::KeyValue {
            key: Bytes::from_static(b"/a"),
            value: Bytes::new(),
            mod_revision: 10,
            create_revision: 10,
            version: 1,
            lease: 0,
        };
        let decode: Decode = Arc::new(|_| Ok(Decoded { header: Header::default(), payload: Bytes::new() }));
        let object = Object::decode(&decode, kv).unwrap();
        Change::new(seq, 10, Arc::new(object), false, None, Instant::now())
    }

    #[test]
    fn a_change_already_read_from_the_ring_is_not_queued_again() {
        let inbox = Mutex::new(Inbox { next_seq: 5, ..Inbox::default() });
        let watcher = Watcher { bucket: Bucket::All, scope: Scope::All, filter: None, after: 0, inbox };
        [3, 4, 5, 5, 6, 6].into_iter().for_each(|seq| watcher.push(&change(seq)));
        assert_eq!(watcher.inbox.lock().queue.len(), 2);
    }

    #[test]
    fn a_full_queue_puts_the_watch_behind_at_the_first_change_that_did_not_fit() {
        let watcher = Watcher {
            bucket: Bucket::All,
            scope: Scope::All,
            filter: None,
            after: 0,
            inbox: Mutex::default(),
        };
        let full = QUEUE as u64;
        (0..full + 10).for_each(|seq| watcher.push(&change(seq)));
        let inbox = watcher.inbox.lock();
        assert_eq!((inbox.behind, inbox.queue.len(), inbox.next_seq), (true, QUEUE, full));
    }

    #[test]
    fn bookmarks_come_regularly_and_before_the_deadline() {
        let now = Instant::now();
        let s = Duration::from_secs;
        let table = [
            (None, Some(60)),
            (Some(300), Some(60)),
            (Some(61), Some(59)),
            (Some(30), Some(28)),
            (Some(2), None),
            (Some(1), None),
        ];
        for (deadline, expected) in table {
            let due = next_bookmark(now, s(60), deadline.map(|n| now + s(n)));
            assert_eq!(due, expected.map(|n| now + s(n)), "{deadline:?}");
        }
    }
}
