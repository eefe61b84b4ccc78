//! Reading a data directory at start: the newest snapshot, then the log segments after it.
//!
//! The log may end in a frame that a crash left incomplete; it is cut off, because nothing in it had been acknowledged
//! (or was of the relaxed class). Damage anywhere else means that acknowledged writes are missing, and the start is
//! refused. The two are told apart by what follows the damage: an intact later frame that was written when the damaged
//! one was already durable proves that the damage came afterwards. Frames of one batch that reached the disk out of
//! order in a power cut carry no such claim and are cut off together.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::codec::{ALIGN, FRAME_MAGIC, Frame, get_frame};
use super::index::State;
use super::leases::Leases;
use super::record::Record;
use super::snapshot::{self, snapshot_number};
use super::wal::{SEGMENT_HEADER, SegmentHeader, segment_path};
use crate::error::{Error, Result};
use crate::store::{Event, EventKind, KeyValue, Revision};

/// What a start has found.
pub struct Replayed {
    /// The state.
    pub state: State,
    /// The leases with their keys.
    pub leases: Leases,
    /// The number for the next segment.
    pub next_number: u64,
    /// The sequence number for the next frame.
    pub next_seq: u64,
    /// Bytes of log read.
    pub log_bytes: u64,
    /// Size of the snapshot.
    pub snapshot_bytes: u64,
    /// How many segments that was.
    pub segments: u64,
    /// Whether the store had been closed, so that nothing can have been lost after the last frame.
    pub clean: bool,
}

/// Reads the directory, removing what an interrupted snapshot or clean-up left.
pub fn replay(dir: &Path, now: std::time::Instant) -> Result<Replayed> {
    let names = list(dir)?;
    let base = names.iter().filter_map(|name| snapshot_number(name)).max();
    clean_up(dir, &names, base.unwrap_or(0))?;
    let mut replayed = Replayed {
        next_number: base.unwrap_or(1),
        // Only an empty directory is clean without saying so: relaxed writes may be all that was lost.
        clean: base.is_none() && !names.iter().any(|name| segment_number(name).is_some()),
        ..Replayed::empty()
    };
    if let Some(number) = base {
        snapshot::load(dir, number, &mut replayed, now)?;
    }
    let mut segments: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    segments.retain(|number| *number >= replayed.next_number);
    segments.sort_unstable();
    replayed.segments = segments.len() as u64;
    for (at, number) in segments.iter().enumerate() {
        if *number != replayed.next_number {
            return Err(Error::Corrupt(format!(
                "the log segment {} is missing while a later one exists; restore the directory from a backup",
                segment_path(dir, replayed.next_number).display()
            )));
        }
        Segment::read(dir, *number, at + 1 == segments.len())?.replay(&mut replayed, now)?;
    }
    Ok(replayed)
}

/// The names of the directory's entries.
pub fn list(dir: &Path) -> Result<Vec<String>> {
    let read =
        || fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
    let names: std::io::Result<Vec<String>> = read();
    names.map_err(|error| Error::io("listing", dir, &error))
}

/// Whether a name is that of a finished snapshot or of a log segment.
pub fn is_data(name: &str) -> bool {
    snapshot_number(name).or_else(|| segment_number(name)).is_some()
}

/// The number in the name of a log segment.
pub fn segment_number(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("wal-")?, 16).ok()
}

/// Removes unfinished snapshots, and what a finished one has made superfluous.
fn clean_up(dir: &Path, names: &[String], base: u64) -> Result<()> {
    for name in names {
        let unfinished = name.starts_with("snapshot-") && name.ends_with(".tmp");
        let old = snapshot_number(name).or_else(|| segment_number(name)).is_some_and(|number| number < base);
        if unfinished || old {
            let path = dir.join(name);
            fs::remove_file(&path).map_err(|error| Error::io("removing", &path, &error))?;
        }
    }
    Ok(())
}

struct Segment {
    path: PathBuf,
    number: u64,
    last: bool,
    data: Vec<u8>,
}

impl Segment {
    fn read(dir: &Path, number: u64, last: bool) -> Result<Self> {
        let path = segment_path(dir, number);
        let data = fs::read(&path).map_err(|error| Error::io("reading", &path, &error))?;
        Ok(Self { path, number, last, data })
    }

    fn replay(self, into: &mut Replayed, now: std::time::Instant) -> Result<()> {
        let header = SegmentHeader::decode(&self.data, &self.path)?;
        let expected = SegmentHeader { number: self.number, first_seq: into.next_seq };
        if header.as_ref().is_some_and(|header| *header != expected) {
            return Err(self.damaged(0, "its header does not continue the segment before"));
        }
        if header.is_none() {
            return self.without_header(into);
        }
        let mut at = SEGMENT_HEADER;
        while let Some(frame) = self.data.get(at..).and_then(get_frame) {
            if frame.seq != into.next_seq {
                return Err(self.damaged(at, "a frame is out of sequence"));
            }
            let records = Record::decode_all(frame.payload)
                .map_err(|error| self.damaged(at, &format!("an intact frame cannot be read: {error}")))?;
            into.apply(records, now)?;
            into.next_seq += 1;
            at += frame.size;
        }
        self.end(at, into)
    }

    /// The first intact frame at or after `from`.
    fn next_intact(&self, from: usize) -> Option<(usize, Frame<'_>)> {
        let magic = FRAME_MAGIC.to_le_bytes();
        let starts = (from.next_multiple_of(ALIGN)..self.data.len()).step_by(ALIGN);
        let candidates = starts.filter(|at| self.data.get(*at..*at + 4) == Some(&magic[..]));
        candidates.filter_map(|at| Some((at, get_frame(self.data.get(at..)?)?))).next()
    }

    /// A segment whose header never reached the disk holds nothing.
    fn without_header(self, into: &mut Replayed) -> Result<()> {
        if !self.last || self.next_intact(0).is_some() {
            return Err(self.damaged(0, "its header is damaged"));
        }
        fs::remove_file(&self.path).map_err(|error| Error::io("removing", &self.path, &error))?;
        into.clean = false;
        Ok(())
    }

    /// Judges what follows the last intact frame.
    fn end(self, at: usize, into: &mut Replayed) -> Result<()> {
        let rest = self.data.get(at..).unwrap_or_default();
        let blank = rest.iter().all(|byte| *byte == 0);
        if !blank && !self.last {
            return Err(self.damaged(at, "a frame is damaged"));
        }
        if let Some((later, frame)) = self.proof(at, into.next_seq) {
            let why = format!(
                "a frame is damaged, and frame {} at offset {later} shows it had been durable",
                frame.seq
            );
            return Err(self.damaged(at, &why));
        }
        if !blank {
            tracing::warn!(file = %self.path.display(), offset = at, bytes = rest.len(),
                "cut off an incomplete write at the end of the log; nothing in it had been acknowledged as durable");
            into.clean = false;
        }
        into.log_bytes += at as u64;
        if self.last && at == SEGMENT_HEADER {
            // Empty: the number is used again, so that restarts do not pile up files.
            return fs::remove_file(&self.path).map_err(|error| Error::io("removing", &self.path, &error));
        }
        into.next_number = self.number + 1;
        if !rest.is_empty() {
            let file = File::options().write(true).open(&self.path);
            let cut = file.and_then(|file| file.set_len(at as u64).and_then(|()| file.sync_all()));
            cut.map_err(|error| Error::io("truncating", &self.path, &error))?;
        }
        Ok(())
    }

    /// A later frame that could only be written once frame `missing` was durable.
    fn proof(&self, at: usize, missing: u64) -> Option<(usize, Frame<'_>)> {
        let mut from = at;
        while let Some((found, frame)) = self.next_intact(from) {
            if frame.seq > missing && frame.synced >= missing {
                return Some((found, frame));
            }
            from = found + frame.size;
        }
        None
    }

    fn damaged(&self, at: usize, why: &str) -> Error {
        Error::Corrupt(format!(
            "{} is damaged at offset {at}: {why}. Acknowledged writes are missing, so the store does not start. Restore \
             the directory from a backup; or, to accept losing every write from this point on, cut this file to {at} \
             bytes and remove the segments with higher numbers",
            self.path.display()
        ))
    }
}

impl Replayed {
    /// Nothing read yet.
    pub fn empty() -> Self {
        Self {
            state: State::default(),
            leases: Leases::default(),
            next_number: 1,
            next_seq: 1,
            log_bytes: 0,
            snapshot_bytes: 0,
            segments: 0,
            clean: false,
        }
    }

    /// Applies the records of one frame.
    pub fn apply(&mut self, records: Vec<Record>, now: std::time::Instant) -> Result<()> {
        for record in records {
            self.clean = matches!(record, Record::Closed);
            match record {
                Record::Put { revision, key, value, lease } => self.put(revision, key, value, lease),
                Record::Delete { revision, key } => self.delete(revision, key),
                Record::Grant { id, ttl, remaining } => self.leases.grant(id, ttl, remaining, now),
                Record::Revoke { id } => self.leases.remove(id),
                Record::Compact { revision } => {
                    self.state.compact(revision);
                    while self.state.trim(usize::MAX) {}
                }
                Record::Jump { revision } => self.state.jump(revision),
                Record::Closed => {}
                Record::Live { .. } | Record::Base { .. } | Record::End { .. } => {
                    return Err(Error::Corrupt("a snapshot record in the log".into()));
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, revision: Revision, key: bytes::Bytes, value: bytes::Bytes, lease: i64) {
        let prev = self.state.latest(&key);
        self.leases.attach(&key, prev.as_ref().map_or(0, |kv| kv.lease), lease);
        let create_revision = prev.as_ref().map_or(revision, |kv| kv.create_revision);
        let version = prev.as_ref().map_or(1, |kv| kv.version + 1);
        let key = prev.as_ref().map_or(key, |kv| kv.key.clone());
        let kv = KeyValue { key, value, mod_revision: revision, create_revision, version, lease };
        self.state.apply(vec![Event { kind: EventKind::Put, kv, prev }]);
    }

    fn delete(&mut self, revision: Revision, key: bytes::Bytes) {
        let prev = self.state.latest(&key);
        self.leases.attach(&key, prev.as_ref().map_or(0, |kv| kv.lease), 0);
        self.state.apply(vec![Event { kind: EventKind::Delete, kv: tombstone(key, revision), prev }]);
    }
}

/// What an event says of a deleted key.
pub fn tombstone(key: bytes::Bytes, revision: Revision) -> KeyValue {
    KeyValue {
        key,
        value: bytes::Bytes::new(),
        mod_revision: revision,
        create_revision: 0,
        version: 0,
        lease: 0,
    }
}
