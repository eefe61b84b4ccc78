//! The log: numbered segment files of frames, written by one thread.
//!
//! A segment is begun only after the one before is durable, so that only the last one can have a torn tail. Space is
//! reserved ahead: a write either fits in what the file system has already promised or is refused while nothing of it
//! is on disk yet, and the last [`RESERVE`] bytes of the promise are for deletions.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codec::put_frame;
use super::disk::{Disk, LogFile, sync_dir};
use crate::error::{Error, Result};

/// Begins every segment, followed by the format version.
pub const SEGMENT_MAGIC: &[u8; 8] = b"CORTWAL\0";
/// The format this code writes and reads.
pub const FORMAT: u32 = 1;
/// Bytes before the first frame.
pub const SEGMENT_HEADER: usize = 32;
/// A segment is closed when it is larger.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Space is reserved in these steps: what the write that needs it waits for.
const CHUNK: u64 = 1 << 20;
/// What creates and updates leave free for deletes when the disk is full.
const RESERVE: u64 = 256 << 10;

/// Why an append failed.
#[derive(Debug)]
pub enum AppendError {
    /// No space; nothing was written, a later append may succeed.
    Full,
    /// The state of the file is unknown: nothing may be acknowledged any more.
    Broken(String),
}

/// The header of a segment.
#[derive(Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's number, as in its name.
    pub number: u64,
    /// The sequence number of its first frame.
    pub first_seq: u64,
}

impl SegmentHeader {
    /// The bytes of the header.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut out = [0; SEGMENT_HEADER];
        out[..8].copy_from_slice(SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..].copy_from_slice(&self.first_seq.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..12]), &out[16..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; `Ok(None)` when it is damaged, an error when another version of the program wrote it.
    pub fn decode(data: &[u8], path: &Path) -> Result<Option<Self>> {
        let Some(header) = data.get(..SEGMENT_HEADER) else { return Ok(None) };
        let word = |at: usize| header.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let long = |at: usize| header.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..]);
        if header.get(..8) != Some(SEGMENT_MAGIC) || word(12) != Some(crc) {
            return Ok(None);
        }
        if word(8) != Some(FORMAT) {
            let found = word(8).unwrap_or(0);
            return Err(Error::Corrupt(format!(
                "{} has format {found}, this program reads format {FORMAT}; start the program version that wrote it",
                path.display()
            )));
        }
        Ok(long(16).zip(long(24)).map(|(number, first_seq)| Self { number, first_seq }))
    }
}

/// The name of a segment file.
pub fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("wal-{number:016x}"))
}

struct Segment {
    file: Box<dyn LogFile>,
    offset: u64,
    allocated: u64,
}

/// The log being written. Files appear with the first append.
pub struct Wal {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    segment: Option<Segment>,
    next_number: u64,
    next_seq: u64,
    synced: u64,
    bytes: u64,
}

impl Wal {
    /// A log that goes on at segment `number` and frame `seq`; `bytes` of log exist since the last snapshot.
    pub fn new(dir: PathBuf, disk: Arc<dyn Disk>, number: u64, seq: u64, bytes: u64) -> Self {
        Self {
            dir,
            disk,
            segment: None,
            next_number: number,
            next_seq: seq,
            synced: seq.saturating_sub(1),
            bytes,
        }
    }

    /// Bytes of log since the last snapshot.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number the next segment will have.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// The sequence number of the last frame written.
    pub fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Whether frames have been written that are not durable yet.
    pub fn unsynced(&self) -> bool {
        self.synced + 1 < self.next_seq
    }

    /// Writes one frame. `into_reserve` allows it to use the space kept for deletions.
    pub fn append(&mut self, payload: &[u8], into_reserve: bool) -> Result<(), AppendError> {
        if self.segment.as_ref().is_some_and(|segment| segment.offset > SEGMENT_BYTES) {
            self.rotate()?;
        }
        let mut frame = Vec::with_capacity(payload.len() + 64);
        put_frame(&mut frame, self.next_seq, self.synced, payload)
            .map_err(|error| AppendError::Broken(error.to_string()))?;
        if self.segment.is_none() {
            let header = SegmentHeader { number: self.next_number, first_seq: self.next_seq };
            self.segment = Some(Segment::begin(&self.dir, &*self.disk, &header)?);
            self.next_number += 1;
        }
        let Some(segment) = &mut self.segment else { return Err(AppendError::Full) };
        segment.append(&frame, into_reserve)?;
        self.bytes += frame.len() as u64;
        self.next_seq += 1;
        Ok(())
    }

    /// Makes every frame durable. After an error nothing more may be acknowledged: the kernel may have dropped the pages
    /// it failed to write, so that a second attempt would report success without them.
    pub fn sync(&mut self) -> Result<(), AppendError> {
        if let Some(segment) = self.segment.as_mut().filter(|_| self.synced + 1 < self.next_seq) {
            segment.file.sync().map_err(|error| AppendError::Broken(format!("fdatasync: {error}")))?;
            self.synced = self.next_seq - 1;
        }
        Ok(())
    }

    /// Makes the current segment durable and closes it; the next append begins another.
    pub fn rotate(&mut self) -> Result<(), AppendError> {
        self.sync()?;
        if let Some(mut segment) = self.segment.take() {
            let cut = segment.file.truncate(segment.offset);
            cut.map_err(|error| AppendError::Broken(format!("closing a segment: {error}")))?;
        }
        Ok(())
    }

    /// Forgets `bytes` of log that a snapshot has made superfluous.
    pub fn forget(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Segment {
    fn begin(dir: &Path, disk: &dyn Disk, header: &SegmentHeader) -> Result<Self, AppendError> {
        let path = segment_path(dir, header.number);
        let file = disk.create(&path).map_err(|error| refused("creating a segment", &error))?;
        let mut segment = Self { file, offset: 0, allocated: 0 };
        let begun = segment.append(&header.encode(), false).and_then(|()| {
            let synced = segment.file.sync().and_then(|()| sync_dir(dir));
            synced.map_err(|error| AppendError::Broken(format!("fsync of a new segment: {error}")))
        });
        if let Err(error) = begun {
            // Nothing in it yet: without this a retry would find the name taken.
            return match std::fs::remove_file(&path) {
                Ok(()) => Err(error),
                Err(gone) => Err(AppendError::Broken(format!("removing an empty segment: {gone}"))),
            };
        }
        Ok(segment)
    }

    fn append(&mut self, data: &[u8], into_reserve: bool) -> Result<(), AppendError> {
        self.make_room(data.len() as u64, into_reserve)?;
        if let Err(error) = self.file.write_at(data, self.offset) {
            // Take back whatever part was written, so that no later frame can follow a broken one.
            self.file
                .truncate(self.offset)
                .map_err(|second| AppendError::Broken(format!("write: {error}; then truncate: {second}")))?;
            self.allocated = self.offset;
            return Err(refused("writing the log", &error));
        }
        self.offset += data.len() as u64;
        Ok(())
    }

    fn make_room(&mut self, size: u64, into_reserve: bool) -> Result<(), AppendError> {
        let room = self.allocated - self.offset;
        if room >= size + RESERVE {
            return Ok(());
        }
        let least = size + RESERVE - room;
        let mut outcome = Ok(());
        for step in [least.max(CHUNK), least] {
            outcome = self.file.allocate(self.allocated, step);
            if outcome.is_ok() {
                self.allocated += step;
                return Ok(());
            }
        }
        match outcome {
            Err(error) if !(into_reserve && room >= size) => Err(refused("reserving space", &error)),
            _ => Ok(()),
        }
    }
}

/// A full disk is survivable when the failed call has left nothing behind; anything else is not.
fn refused(doing: &str, error: &io::Error) -> AppendError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            AppendError::Full
        }
        _ => AppendError::Broken(format!("{doing}: {error}")),
    }
}
