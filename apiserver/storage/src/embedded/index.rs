//! The visible state in memory: versions of every key, and the recent changes in order.
//!
//! Only durable changes get here (or changes of the relaxed class), so whatever a reader sees survives. One writer
//! thread mutates it; readers hold the lock for at most one bounded page.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use smallvec::SmallVec;

use super::record::Record;
use crate::error::{Error, Result};
use crate::store::{Event, EventKind, KeyValue, Page, Revision};

/// A version of a key; a deletion has no value.
#[derive(Clone, Debug)]
struct Version {
    mod_revision: Revision,
    create_revision: Revision,
    version: i64,
    lease: i64,
    value: Option<Bytes>,
}

impl Version {
    fn to_kv(&self, key: &Bytes) -> Option<KeyValue> {
        Some(KeyValue {
            key: key.clone(),
            value: self.value.clone()?,
            mod_revision: self.mod_revision,
            create_revision: self.create_revision,
            version: self.version,
            lease: self.lease,
        })
    }
}

/// Oldest first. Nearly always one version.
type Versions = SmallVec<[Version; 1]>;

/// A half-open range of keys; an empty `end` means "to the last key".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub start: Bytes,
    /// The first key after the range, or empty.
    pub end: Bytes,
}

impl KeyRange {
    /// Exactly one key.
    pub fn key(key: &[u8]) -> Self {
        let mut end = key.to_vec();
        end.push(0);
        Self { start: Bytes::copy_from_slice(key), end: end.into() }
    }

    /// Every key starting with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: Bytes::copy_from_slice(prefix), end: crate::store::prefix_end(prefix).into() }
    }

    /// Whether the range holds `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key < &self.end[..])
    }

    /// The bounds for an ordered map; `None` for an empty range, which maps refuse.
    fn bounds(&self) -> Option<(Bound<&Bytes>, Bound<&Bytes>)> {
        if self.end.is_empty() {
            return Some((Bound::Included(&self.start), Bound::Unbounded));
        }
        (self.start < self.end).then_some((Bound::Included(&self.start), Bound::Excluded(&self.end)))
    }
}

/// How much of a range to return.
#[derive(Clone, Copy, Debug, Default)]
pub struct Select {
    /// At most this many keys; 0 for all.
    pub limit: usize,
    /// As of this revision; 0 for now.
    pub revision: Revision,
    /// Leave the values out.
    pub keys_only: bool,
    /// Leave everything out but the count.
    pub count_only: bool,
}

/// Changes read for a watcher.
#[derive(Debug)]
pub struct Changes {
    /// The matching changes.
    pub events: Vec<Event>,
    /// Where to go on: every matching change below this revision has been returned.
    pub next: Revision,
    /// Whether that is the end of what exists.
    pub at_end: bool,
}

/// The visible state.
#[derive(Debug)]
pub struct State {
    keys: BTreeMap<Bytes, Versions>,
    live: usize,
    /// Every change from revision `log_start` on.
    log: VecDeque<Event>,
    log_start: Revision,
    log_bytes: usize,
    current: Revision,
    oldest: Revision,
    trimmed: Revision,
    /// A snapshot being written needs the versions of this revision.
    pinned: Option<Revision>,
}

impl Default for State {
    /// The empty store. Its revision is 1, as etcd's.
    fn default() -> Self {
        Self {
            keys: BTreeMap::new(),
            live: 0,
            log: VecDeque::new(),
            log_start: 1,
            log_bytes: 0,
            current: 1,
            oldest: 0,
            trimmed: 0,
            pinned: None,
        }
    }
}

impl State {
    /// The newest revision.
    pub fn current(&self) -> Revision {
        self.current
    }

    /// The oldest revision that can be read.
    pub fn oldest(&self) -> Revision {
        self.oldest
    }

    /// The number of keys.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Changes kept as history, and the bytes of values that only history still holds.
    pub fn history(&self) -> (usize, usize) {
        (self.log.len(), self.log_bytes)
    }

    /// The revision of the change `back` changes before the newest.
    pub fn revision_back(&self, back: usize) -> Revision {
        let at = self.log.len().checked_sub(back + 1);
        at.and_then(|at| self.log.get(at)).map_or(self.log_start, Event::revision)
    }

    fn check_readable(&self, revision: Revision) -> Result<Revision> {
        match revision {
            0 => Ok(self.current),
            r if r < self.oldest => Err(Error::Compacted { requested: r, oldest: self.oldest }),
            r if r > self.current => Err(Error::FutureRevision { requested: r, current: self.current }),
            r => Ok(r),
        }
    }

    /// The current version of a key.
    pub fn latest(&self, key: &[u8]) -> Option<KeyValue> {
        let (key, versions) = self.keys.get_key_value(key)?;
        versions.last()?.to_kv(key)
    }

    /// The version of a key as of `revision` (0 for now).
    pub fn get(&self, key: &[u8], revision: Revision) -> Result<Option<KeyValue>> {
        let at = self.check_readable(revision)?;
        Ok(self.keys.get_key_value(key).and_then(|(key, versions)| version_at(versions, at)?.to_kv(key)))
    }

    /// Reads a range.
    pub fn range(&self, range: &KeyRange, select: Select) -> Result<Page> {
        let at = self.check_readable(select.revision)?;
        let mut page = Page { revision: self.current, ..Page::default() };
        let Some(bounds) = range.bounds() else { return Ok(page) };
        for (key, versions) in self.keys.range::<Bytes, _>(bounds) {
            let Some(version) = version_at(versions, at).filter(|v| v.value.is_some()) else { continue };
            page.count += 1;
            if select.count_only || (select.limit != 0 && page.kvs.len() >= select.limit) {
                continue;
            }
            let Some(mut kv) = version.to_kv(key) else { continue };
            if select.keys_only {
                kv.value = Bytes::new();
            }
            page.kvs.push(kv);
        }
        Ok(page)
    }

    /// Up to `max` keys after `after` with their versions as of the pinned `revision`, for a snapshot.
    pub fn snapshot_page(&self, after: Option<&Bytes>, revision: Revision, max: usize) -> Vec<KeyValue> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let versions = self.keys.range::<Bytes, _>((from, Bound::Unbounded));
        versions.filter_map(|(key, v)| version_at(v, revision)?.to_kv(key)).take(max).collect()
    }

    /// Reads changes in `range` from revision `from` on: at most about `max`, looking at no more than `scan` of all.
    /// Changes of one revision stay together.
    pub fn changes(&self, range: &KeyRange, from: Revision, max: usize, scan: usize) -> Result<Changes> {
        if from < self.log_start {
            return Err(Error::Compacted { requested: from, oldest: self.log_start });
        }
        let first = self.log.partition_point(|event| event.revision() < from);
        let mut events = Vec::new();
        let mut last = from - 1;
        for (seen, event) in self.log.range(first..).enumerate() {
            if event.revision() != last && (events.len() >= max || seen >= scan) {
                return Ok(Changes { events, next: event.revision(), at_end: false });
            }
            last = event.revision();
            if range.contains(&event.kv.key) {
                events.push(event.clone());
            }
        }
        Ok(Changes { events, next: from.max(self.current + 1), at_end: true })
    }

    /// Makes changes visible, in order; `current` becomes their newest revision.
    pub fn apply(&mut self, events: Vec<Event>) {
        for event in events {
            self.current = self.current.max(event.revision());
            self.set(&event);
            self.log_bytes += event.prev.as_ref().map_or(0, |kv| kv.value.len());
            self.log.push_back(event);
        }
    }

    fn set(&mut self, event: &Event) {
        let versions = self.keys.entry(event.kv.key.clone()).or_default();
        let was = versions.last().is_some_and(|v| v.value.is_some());
        let is = event.kind == EventKind::Put;
        self.live = self.live + usize::from(is) - usize::from(was);
        versions.push(Version {
            mod_revision: event.kv.mod_revision,
            create_revision: event.kv.create_revision,
            version: event.kv.version,
            lease: event.kv.lease,
            value: is.then(|| event.kv.value.clone()),
        });
    }

    /// Continues at a later revision, keeping no history from before: after a crash, or a load from a snapshot.
    pub fn jump(&mut self, revision: Revision) {
        self.current = self.current.max(revision);
        self.compact(self.current);
        while self.trim(usize::MAX) {}
        self.log.clear();
        self.log_bytes = 0;
        self.log_start = self.current + 1;
    }

    /// Puts a version from a snapshot in place.
    pub fn load(&mut self, record: Record) {
        let Record::Live { key, value, mod_revision, create_revision, version, lease } = record else {
            return;
        };
        let loaded = Version { mod_revision, create_revision, version, lease, value: Some(value) };
        self.live += 1;
        self.keys.insert(key, smallvec::smallvec![loaded]);
    }

    /// Refuses reads before `revision` from now on; [`State::trim`] frees the memory.
    pub fn compact(&mut self, revision: Revision) {
        self.oldest = self.oldest.max(revision.min(self.current));
        self.log_start = self.log_start.max(self.oldest);
    }

    /// Keeps the versions of `revision` until unpinned with `None`.
    pub fn pin(&mut self, revision: Option<Revision>) {
        self.pinned = revision;
    }

    /// Frees what compaction superseded, at most `max` changes at a time; whether there is more to do.
    pub fn trim(&mut self, max: usize) -> bool {
        let to = self.pinned.map_or(self.oldest, |pin| pin.min(self.oldest));
        for _ in 0..max {
            let Some(event) = self.log.front().filter(|event| event.revision() < to) else { break };
            let key = event.kv.key.clone();
            self.log_bytes -= event.prev.as_ref().map_or(0, |kv| kv.value.len());
            self.log.pop_front();
            self.trim_key(&key, to);
        }
        let more = self.log.front().is_some_and(|event| event.revision() < to);
        if !more && to > self.trimmed {
            // The changes made at exactly `to` stay in the log, but what they superseded goes.
            let at =
                self.log.iter().take_while(|event| event.revision() == to).map(|event| event.kv.key.clone());
            for key in at.collect::<Vec<_>>() {
                self.trim_key(&key, to);
            }
            self.trimmed = to;
        }
        more
    }

    fn trim_key(&mut self, key: &Bytes, to: Revision) {
        let Some(versions) = self.keys.get_mut(key) else { return };
        let at = versions.partition_point(|v| v.mod_revision <= to);
        let dead = versions.get(at.wrapping_sub(1)).is_some_and(|v| v.value.is_none());
        versions.drain(..if dead { at } else { at.saturating_sub(1) });
        if versions.is_empty() {
            self.keys.remove(key);
        } else if versions.len() == 1 {
            versions.shrink_to_fit();
        }
    }
}

fn version_at(versions: &Versions, revision: Revision) -> Option<&Version> {
    let at = versions.partition_point(|v| v.mod_revision <= revision);
    versions.get(at.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::replay::tombstone;

    fn put(state: &mut State, key: &'static str) {
        let key = Bytes::from_static(key.as_bytes());
        let prev = state.latest(&key);
        let revision = state.current() + 1;
        let kv = KeyValue {
            key,
            value: Bytes::from(revision.to_string()),
            mod_revision: revision,
            create_revision: prev.as_ref().map_or(revision, |kv| kv.create_revision),
            version: prev.as_ref().map_or(1, |kv| kv.version + 1),
            lease: 0,
        };
        state.apply(vec![Event { kind: EventKind::Put, kv, prev }]);
    }

    #[test]
    fn a_pinned_revision_survives_compaction() {
        let mut state = State::default();
        ["/a", "/b", "/a"].into_iter().for_each(|key| put(&mut state, key));
        let pinned = state.current();
        state.pin(Some(pinned));
        let expected = state.snapshot_page(None, pinned, 10);
        ["/a", "/b", "/c", "/b"].into_iter().for_each(|key| put(&mut state, key));
        let prev = state.latest(b"/a");
        let kv = tombstone(Bytes::from_static(b"/a"), state.current() + 1);
        state.apply(vec![Event { kind: EventKind::Delete, kv, prev }]);
        state.compact(state.current());
        while state.trim(2) {}
        assert_eq!(state.snapshot_page(None, pinned, 10), expected);
        state.pin(None);
        while state.trim(2) {}
        assert_eq!(state.snapshot_page(None, pinned, 10), []);
        assert_eq!(
            state.range(&KeyRange::prefix(b"/"), Select::default()).map(|page| page.kvs.len()).ok(),
            Some(2)
        );
    }
}
