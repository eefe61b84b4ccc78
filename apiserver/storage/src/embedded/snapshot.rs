//! Snapshots: all live keys at one revision in a file, so that the log before it can go.
//!
//! `snapshot-N` holds everything that the segments before number N hold. It is written under a temporary name, made
//! durable, renamed, and only then are older files removed: at every moment the directory holds one complete state.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::RwLock;

use super::codec::{get_frame, put_frame};
use super::disk::sync_dir;
use super::index::State;
use super::record::Record;
use super::replay::Replayed;
use super::wal::{FORMAT, segment_path};
use crate::error::{Error, Result};
use crate::store::{KeyValue, Revision};

/// Begins every snapshot, followed by the format version and padding.
const MAGIC: &[u8; 8] = b"CORTSNAP";
const HEADER: usize = 16;
/// Frames are closed when larger.
const FRAME: usize = 1 << 20;
/// Keys read per hold of the state's lock.
const PAGE: usize = 512;

/// What a snapshot is to describe: fixed by the writer at the moment it rotated the log.
#[derive(Debug)]
pub struct Job {
    /// The data directory.
    pub dir: PathBuf,
    /// The first segment that is not contained.
    pub number: u64,
    /// The last frame that is contained.
    pub seq: u64,
    /// The state's revision; pinned in the state.
    pub revision: Revision,
    /// Leases: id, TTL, seconds left.
    pub leases: Vec<(i64, i64, i64)>,
}

/// The number in a snapshot's file name.
pub fn snapshot_number(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("snapshot-")?, 16).ok()
}

/// Where the snapshot with this number lies.
pub fn snapshot_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("snapshot-{number:016x}"))
}

/// Writes the snapshot and removes what it replaces; its size.
pub fn write(job: &Job, state: &RwLock<State>) -> Result<u64> {
    let target = snapshot_path(&job.dir, job.number);
    let temporary = target.with_extension("tmp");
    let written = write_file(&temporary, job, state);
    let size = written.inspect_err(|_| drop(std::fs::remove_file(&temporary)))?;
    std::fs::rename(&temporary, &target)
        .and_then(|()| sync_dir(&job.dir))
        .map_err(|error| Error::io("renaming", &temporary, &error))?;
    remove_older(&job.dir, job.number);
    Ok(size)
}

/// Writes a durable file that only its owner may read; its size.
pub fn write_file(path: &Path, job: &Job, state: &RwLock<State>) -> Result<u64> {
    let fail = |error: std::io::Error| Error::io("writing", path, &error);
    let file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(fail)?;
    let mut out = Frames { file, payload: Vec::new(), seq: 1, size: HEADER as u64 };
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    out.file.write_all(&header).map_err(fail)?;
    Record::Base { revision: job.revision, seq: job.seq }.encode(&mut out.payload);
    for (id, ttl, remaining) in &job.leases {
        Record::Grant { id: *id, ttl: *ttl, remaining: *remaining }.encode(&mut out.payload);
    }
    let mut keys = 0;
    let mut after: Option<Bytes> = None;
    loop {
        let page = state.read().snapshot_page(after.as_ref(), job.revision, PAGE);
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        keys += page.len() as u64;
        for kv in page {
            live(kv).encode(&mut out.payload);
            out.flush(FRAME, path)?;
        }
    }
    Record::End { keys }.encode(&mut out.payload);
    out.flush(0, path)?;
    out.file.sync_all().map_err(fail)?;
    Ok(out.size)
}

fn live(kv: KeyValue) -> Record {
    let KeyValue { key, value, mod_revision, create_revision, version, lease } = kv;
    Record::Live { key, value, mod_revision, create_revision, version, lease }
}

struct Frames {
    file: File,
    payload: Vec<u8>,
    seq: u64,
    size: u64,
}

impl Frames {
    fn flush(&mut self, above: usize, path: &Path) -> Result<()> {
        if self.payload.len() <= above {
            return Ok(());
        }
        let mut frame = Vec::with_capacity(self.payload.len() + 64);
        put_frame(&mut frame, self.seq, 0, &self.payload)?;
        self.file.write_all(&frame).map_err(|error| Error::io("writing", path, &error))?;
        self.seq += 1;
        self.size += frame.len() as u64;
        self.payload.clear();
        Ok(())
    }
}

/// Best effort: what stays is removed at the next start.
fn remove_older(dir: &Path, number: u64) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for name in entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        let segment = name.strip_prefix("wal-").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        if snapshot_number(&name).or(segment).is_some_and(|n| n < number)
            && let Err(error) = std::fs::remove_file(dir.join(&name))
        {
            tracing::warn!(name, %error, "could not remove a superseded storage file; the next start will");
        }
    }
}

/// Reads a snapshot into an empty state.
pub fn load(dir: &Path, number: u64, into: &mut Replayed, now: Instant) -> Result<()> {
    load_file(&snapshot_path(dir, number), into, now)?;
    if !segment_path(dir, number).exists() {
        tracing::debug!(dir = %dir.display(), number, "no log after the snapshot");
    }
    Ok(())
}

/// The same from any file.
pub fn load_file(path: &Path, into: &mut Replayed, now: Instant) -> Result<()> {
    let data = std::fs::read(path).map_err(|error| Error::io("reading", path, &error))?;
    let damaged = |why: &str| {
        let restore = "It is the only copy of older data, so the store does not start; restore the directory from a backup";
        Error::Corrupt(format!("the snapshot {} is damaged: {why}. {restore}", path.display()))
    };
    if data.get(..8) != Some(MAGIC) {
        return Err(damaged("it does not begin as a snapshot"));
    }
    if data.get(8..12) != Some(&FORMAT.to_le_bytes()[..]) {
        return Err(damaged("another version of the program wrote it"));
    }
    let mut at = HEADER;
    let mut loader = Loader { base: None, keys: 0, ended: false };
    for seq in 1.. {
        let Some(frame) = data.get(at..).and_then(get_frame) else { break };
        if frame.seq != seq {
            return Err(damaged("a frame is out of sequence"));
        }
        for record in Record::decode_all(frame.payload)? {
            loader.take(record, into, now).map_err(|why| damaged(&why))?;
        }
        at += frame.size;
    }
    let Some((revision, seq)) = loader.base.filter(|_| loader.ended && at == data.len()) else {
        return Err(damaged(&format!("no intact frame at offset {at}")));
    };
    into.state.jump(revision);
    into.next_seq = seq + 1;
    into.snapshot_bytes = data.len() as u64;
    Ok(())
}

struct Loader {
    base: Option<(Revision, u64)>,
    keys: u64,
    ended: bool,
}

impl Loader {
    fn take(&mut self, record: Record, into: &mut Replayed, now: Instant) -> Result<(), String> {
        match record {
            _ if self.ended => Err("records follow its end".into()),
            Record::Base { revision, seq } if self.base.is_none() => {
                self.base = Some((revision, seq));
                Ok(())
            }
            Record::Grant { id, ttl, remaining } => {
                into.leases.grant(id, ttl, remaining, now);
                Ok(())
            }
            Record::Live { ref key, lease, .. } => {
                into.leases.attach(key, 0, lease);
                into.state.load(record);
                self.keys += 1;
                Ok(())
            }
            Record::End { keys } if keys == self.keys => {
                self.ended = true;
                Ok(())
            }
            other => Err(format!("unexpected record {other:?}")),
        }
    }
}
