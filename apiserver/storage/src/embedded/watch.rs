//! Watches on the embedded store: each is a cursor into the shared log of changes. Nothing is queued per watcher, so a
//! slow one costs nothing and falls behind alone, until history is compacted under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::index::KeyRange;
use super::writer::Shared;
use crate::error::{Error, Result};
use crate::store::{ProgressHandle, Revision, Watch, WatchItem};

/// Changes per item at most (all changes of one revision stay together).
const ITEM: usize = 500;
/// Changes looked at per hold of the state's lock.
const SCAN: usize = 5000;

struct Watcher {
    range: KeyRange,
    wake: Notify,
    progress: AtomicBool,
}

/// The running watches.
#[derive(Default)]
pub struct Watchers(Mutex<Vec<std::sync::Weak<Watcher>>>);

impl Watchers {
    fn add(&self, watcher: &Arc<Watcher>) {
        let mut all = self.0.lock();
        if all.len() == all.capacity() {
            all.retain(|weak| weak.strong_count() > 0);
        }
        all.push(Arc::downgrade(watcher));
    }

    /// Wakes the watchers that any of `keys` concerns.
    pub fn wake(&self, keys: &[Bytes]) {
        if keys.is_empty() {
            return;
        }
        self.0.lock().retain(|weak| {
            let Some(watcher) = weak.upgrade() else { return false };
            if keys.iter().any(|key| watcher.range.contains(key)) {
                watcher.wake.notify_one();
            }
            true
        });
    }

    /// Wakes everyone: the store is closing.
    pub fn wake_all(&self) {
        self.0
            .lock()
            .iter()
            .filter_map(std::sync::Weak::upgrade)
            .for_each(|watcher| watcher.wake.notify_one());
    }
}

/// Starts a watch of `range` from revision `from` (0: after now).
pub fn start(
    shared: Arc<Shared>,
    closed: Arc<AtomicBool>,
    range: KeyRange,
    from: Revision,
    prev: bool,
) -> Result<Watch> {
    let from = {
        let state = shared.state.read();
        let from = if from == 0 { state.current() + 1 } else { from };
        // Only to refuse at once what has been compacted.
        state.changes(&range, from, 0, 0)?;
        from
    };
    let watcher = Arc::new(Watcher { range, wake: Notify::new(), progress: AtomicBool::new(false) });
    shared.watchers.add(&watcher);
    let handle = Arc::downgrade(&watcher);
    let progress = ProgressHandle::new(move || {
        if let Some(watcher) = handle.upgrade() {
            watcher.progress.store(true, Ordering::Release);
            watcher.wake.notify_one();
        }
    });
    let cursor = Cursor { shared, closed, watcher, from, prev, ended: false };
    Ok(Watch::new(futures::stream::unfold(cursor, Cursor::next), progress))
}

struct Cursor {
    shared: Arc<Shared>,
    closed: Arc<AtomicBool>,
    watcher: Arc<Watcher>,
    from: Revision,
    prev: bool,
    ended: bool,
}

impl Cursor {
    async fn next(mut self) -> Option<(Result<WatchItem>, Self)> {
        if self.ended {
            return None;
        }
        loop {
            match self.read() {
                Ok(Some(item)) => return Some((Ok(item), self)),
                Ok(None) => {}
                Err(error) => {
                    self.ended = true;
                    return Some((Err(error), self));
                }
            }
            if self.closed.load(Ordering::Acquire) {
                self.ended = true;
                return Some((Err(Error::Unavailable("the store has been closed".into())), self));
            }
            self.watcher.wake.notified().await;
        }
    }

    /// The next item if there is one. Progress is reported only from the end of the log, so never ahead of changes.
    fn read(&mut self) -> Result<Option<WatchItem>> {
        loop {
            // Taken before reading: a request made from here on gets an answer of its own.
            let asked = self.watcher.progress.swap(false, Ordering::AcqRel);
            let (changes, current) = {
                let state = self.shared.state.read();
                (state.changes(&self.watcher.range, self.from, ITEM, SCAN)?, state.current())
            };
            self.from = changes.next;
            let mut events = changes.events;
            if !events.is_empty() || !changes.at_end {
                // Not answered yet: again when the changes are out.
                self.watcher.progress.fetch_or(asked, Ordering::AcqRel);
                if events.is_empty() {
                    continue;
                }
                if !self.prev {
                    events.iter_mut().for_each(|event| event.prev = None);
                }
                return Ok(Some(WatchItem::Events(events)));
            }
            return Ok(asked.then_some(WatchItem::Progress(current)));
        }
    }
}
