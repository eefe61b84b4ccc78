//! The recent changes of one resource, for watches that start in the past and for lists at a past revision.
//!
//! Sizes are upstream's (`pkg/storage/cacher/watch_cache_history.go`): at least 100 changes, at least 75 seconds, at most
//! 102,400; and a bound in bytes, because objects differ in size by five orders of magnitude.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::object::Object;
use crate::store::Revision;

/// Kept however old.
const LEAST: usize = 100;
/// Never more.
const MOST: usize = 102_400;
/// Kept this long, within the bounds.
pub const WINDOW: Duration = Duration::from_secs(75);
/// Bytes of superseded versions kept per resource.
const BYTES: usize = 96 << 20;

/// One change, shared by everyone who is told about it.
#[derive(Debug)]
pub struct Change {
    /// Position among all changes this cache has seen; never reused.
    pub seq: u64,
    /// The revision of the change.
    pub revision: Revision,
    /// The new version; for a deletion the last one, as of the revision of the deletion.
    pub object: Arc<Object>,
    /// Whether it is a deletion.
    pub deleted: bool,
    /// The version before.
    pub previous: Option<Arc<Object>>,
    recorded: Instant,
    left: OnceLock<Arc<Object>>,
}

impl Change {
    /// A change to record.
    pub fn new(
        seq: u64,
        revision: Revision,
        object: Arc<Object>,
        deleted: bool,
        previous: Option<Arc<Object>>,
        now: Instant,
    ) -> Self {
        Self { seq, revision, object, deleted, previous, recorded: now, left: OnceLock::new() }
    }

    /// What a watch shows whose selection the object has left by this change: the last matching content, as of the
    /// revision of the change. Made once for all such watches.
    pub fn left(&self) -> Option<Arc<Object>> {
        let previous = self.previous.as_ref()?;
        Some(Arc::clone(self.left.get_or_init(|| Arc::new(previous.at(self.revision)))))
    }

    fn weight(&self) -> usize {
        self.previous.as_ref().map_or(200, |previous| previous.weight() + 200)
    }
}

/// The changes, oldest first.
#[derive(Debug, Default)]
pub struct Ring {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Every change after this revision is here.
    since: Revision,
    next_seq: u64,
}

impl Ring {
    /// An empty ring after a list at `revision`. Sequence numbers go on from `next_seq`.
    pub fn after_list(revision: Revision, next_seq: u64) -> Self {
        Self { since: revision, next_seq, ..Self::default() }
    }

    /// The number the next change gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Every change after this revision is known.
    pub fn since(&self) -> Revision {
        self.since
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Records a change and lets old ones go.
    pub fn push(&mut self, change: Arc<Change>) {
        self.next_seq = change.seq + 1;
        self.bytes += change.weight();
        let now = change.recorded;
        self.changes.push_back(change);
        while let Some(oldest) = self.changes.front() {
            let old = now.saturating_duration_since(oldest.recorded) > WINDOW;
            if !(self.changes.len() > MOST || self.bytes > BYTES || (self.changes.len() > LEAST && old)) {
                break;
            }
            self.bytes -= oldest.weight();
            self.since = oldest.revision;
            self.changes.pop_front();
        }
        if self.changes.capacity() > 4 * LEAST && self.changes.len() < self.changes.capacity() / 4 {
            self.changes.shrink_to(self.changes.len() * 2);
        }
    }

    /// The changes from number `seq` on; `None` when some of them are gone.
    pub fn changes_from(&self, seq: u64) -> Option<impl Iterator<Item = &Arc<Change>>> {
        let first = self.next_seq - self.changes.len() as u64;
        let skip = usize::try_from(seq.checked_sub(first)?).ok()?;
        Some(self.changes.iter().skip(skip))
    }

    /// The number of the first change after `revision`; `None` when changes after it are gone.
    pub fn seq_after(&self, revision: Revision) -> Option<u64> {
        if revision < self.since {
            return None;
        }
        let at = self.changes.partition_point(|change| change.revision <= revision);
        Some(self.next_seq - (self.changes.len() - at) as u64)
    }

    /// The changes after `revision`, newest first.
    pub fn newest_after(&self, revision: Revision) -> impl Iterator<Item = &Arc<Change>> {
        self.changes.iter().rev().take_while(move |change| change.revision > revision)
    }
}
