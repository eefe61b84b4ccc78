//! What the log of a data directory holds, change by change, in the order in which the changes were made: for those who
//! judge the store by its history, and for operators who ask what was written.
//!
//! The log reaches back to the newest snapshot. What it does not do: tell transactions from single writes, name who
//! wrote, or cut off an incomplete end (a start does; here the reading ends before it). Start at [`changes`].

use std::fs;
use std::path::Path;

use bytes::Bytes;

use super::codec::get_frame;
use super::record::Record;
use super::replay;
use super::wal::{SEGMENT_HEADER, SegmentHeader, segment_path};
use crate::error::{Error, Result};
use crate::store::Revision;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new version of a key; `lease` is 0 without one.
    Put { revision: Revision, key: Bytes, value: Bytes, lease: i64 },
    /// The end of a key.
    Delete { revision: Revision, key: Bytes },
    /// A lease of `ttl` seconds begins.
    Grant { id: i64, ttl: i64 },
    /// A lease ends; the deletions of its keys come before, as changes of their own.
    Revoke { id: i64 },
    /// Everything superseded before this revision is forgotten.
    Compact { revision: Revision },
    /// The revision counter continues from here: a start after a crash, when writes of the relaxed class may be lost.
    Jump { revision: Revision },
}

/// Tells `visit` of each change of the log in `dir`; a server may go on writing meanwhile.
///
/// # Errors
/// When `dir` holds no log or one that cannot be read, and what `visit` returns.
pub fn changes(dir: &Path, mut visit: impl FnMut(Change) -> Result<()>) -> Result<()> {
    let mut numbers: Vec<u64> = replay::list(dir)?.iter().filter_map(|n| replay::segment_number(n)).collect();
    numbers.sort_unstable();
    if numbers.is_empty() {
        return Err(Error::Invalid(format!("{} holds no log", dir.display())));
    }
    for number in numbers {
        segment(&segment_path(dir, number), &mut visit)?;
    }
    Ok(())
}

fn segment(path: &Path, visit: &mut impl FnMut(Change) -> Result<()>) -> Result<()> {
    let data = fs::read(path).map_err(|error| Error::io("reading", path, &error))?;
    if SegmentHeader::decode(&data, path)?.is_none() {
        return Ok(());
    }
    let mut at = SEGMENT_HEADER;
    while let Some(frame) = data.get(at..).and_then(get_frame) {
        let records = Record::decode_all(frame.payload);
        let records = records.map_err(|error| {
            Error::Corrupt(format!("{} cannot be read at offset {at}: {error}", path.display()))
        })?;
        records.into_iter().filter_map(change).try_for_each(&mut *visit)?;
        at += frame.size;
    }
    Ok(())
}

/// The change that a record of the log stands for.
fn change(record: Record) -> Option<Change> {
    Some(match record {
        Record::Put { revision, key, value, lease } => Change::Put { revision, key, value, lease },
        Record::Delete { revision, key } => Change::Delete { revision, key },
        Record::Grant { id, ttl, .. } => Change::Grant { id, ttl },
        Record::Revoke { id } => Change::Revoke { id },
        Record::Compact { revision } => Change::Compact { revision },
        Record::Jump { revision } => Change::Jump { revision },
        Record::Closed | Record::Live { .. } | Record::Base { .. } | Record::End { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{Embedded, Options};
    use crate::store::Store;

    #[tokio::test]
    async fn a_store_tells_what_was_done_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(Options::new(dir.path())).unwrap();
        let name = "/registry/pods/a";
        let key = Bytes::from_static(name.as_bytes());
        let made = store.create(name, Bytes::from_static(b"1"), None).await.unwrap();
        let changed = store.update(name, Bytes::from_static(b"2"), made, None).await.unwrap();
        let ended = store.delete(name, changed).await.unwrap();
        store.close();
        let mut all = Vec::new();
        changes(dir.path(), |change| {
            all.push(change);
            Ok(())
        })
        .unwrap();
        let put = |revision, value: &'static str| Change::Put {
            revision,
            key: key.clone(),
            value: Bytes::from_static(value.as_bytes()),
            lease: 0,
        };
        assert_eq!(
            all,
            [put(made, "1"), put(changed, "2"), Change::Delete { revision: ended, key: key.clone() }]
        );
        assert!(changes(&dir.path().join("none"), |_| Ok(())).is_err());
    }
}
