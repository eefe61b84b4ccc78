//! The records inside log and snapshot frames. The format is ours and versioned by the file headers.

use bytes::Bytes;

use super::codec::{Reader, put_bytes, put_int, put_uint};
use crate::error::{Error, Result};
use crate::store::Revision;

/// One change of state, as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A new version of a key. Creation revision and version count follow from replay.
    Put { revision: Revision, key: Bytes, value: Bytes, lease: i64 },
    /// The end of a key.
    Delete { revision: Revision, key: Bytes },
    /// A lease begins; `remaining` is what is left of `ttl` seconds (they differ in snapshots only).
    Grant { id: i64, ttl: i64, remaining: i64 },
    /// A lease ends; the deletions of its keys are records of their own.
    Revoke { id: i64 },
    /// Everything superseded before this revision is forgotten.
    Compact { revision: Revision },
    /// The revision counter continues from here: written by a start after a crash (see `replay`).
    Jump { revision: Revision },
    /// The store was closed: nothing follows that could have been lost.
    Closed,
    /// A key's current version, in snapshots.
    Live {
        key: Bytes,
        value: Bytes,
        mod_revision: Revision,
        create_revision: Revision,
        version: i64,
        lease: i64,
    },
    /// The state a snapshot describes: revision, and the last log frame it contains.
    Base { revision: Revision, seq: u64 },
    /// The end of a snapshot with the number of `Live` records before it.
    End { keys: u64 },
}

impl Record {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Put { revision, key, value, lease } => {
                out.push(1);
                put_int(out, *revision);
                put_bytes(out, key);
                put_bytes(out, value);
                put_int(out, *lease);
            }
            Self::Delete { revision, key } => {
                out.push(2);
                put_int(out, *revision);
                put_bytes(out, key);
            }
            Self::Grant { id, ttl, remaining } => {
                out.push(3);
                [*id, *ttl, *remaining].iter().for_each(|n| put_int(out, *n));
            }
            Self::Revoke { id } => tagged(out, 4, *id),
            Self::Compact { revision } => tagged(out, 5, *revision),
            Self::Jump { revision } => tagged(out, 6, *revision),
            Self::Closed => out.push(7),
            Self::Live { key, value, mod_revision, create_revision, version, lease } => {
                out.push(8);
                put_bytes(out, key);
                put_bytes(out, value);
                [*mod_revision, *create_revision, *version, *lease].iter().for_each(|n| put_int(out, *n));
            }
            Self::Base { revision, seq } => {
                tagged(out, 9, *revision);
                put_uint(out, *seq);
            }
            Self::End { keys } => {
                out.push(10);
                put_uint(out, *keys);
            }
        }
    }

    /// Reads one record. Keys and values are copied out, so that they do not keep the whole file in memory.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self> {
        Ok(match r.byte()? {
            1 => Self::Put {
                revision: r.int()?,
                key: Bytes::copy_from_slice(r.bytes()?),
                value: Bytes::copy_from_slice(r.bytes()?),
                lease: r.int()?,
            },
            2 => Self::Delete { revision: r.int()?, key: Bytes::copy_from_slice(r.bytes()?) },
            3 => Self::Grant { id: r.int()?, ttl: r.int()?, remaining: r.int()? },
            4 => Self::Revoke { id: r.int()? },
            5 => Self::Compact { revision: r.int()? },
            6 => Self::Jump { revision: r.int()? },
            7 => Self::Closed,
            8 => Self::Live {
                key: Bytes::copy_from_slice(r.bytes()?),
                value: Bytes::copy_from_slice(r.bytes()?),
                mod_revision: r.int()?,
                create_revision: r.int()?,
                version: r.int()?,
                lease: r.int()?,
            },
            9 => Self::Base { revision: r.int()?, seq: r.uint()? },
            10 => Self::End { keys: r.uint()? },
            tag => return Err(Error::Corrupt(format!("unknown record type {tag}"))),
        })
    }

    /// Reads all records of a frame.
    pub fn decode_all(payload: &[u8]) -> Result<Vec<Self>> {
        let mut reader = Reader(payload);
        let mut records = Vec::new();
        while !reader.is_empty() {
            records.push(Self::decode(&mut reader)?);
        }
        Ok(records)
    }
}

fn tagged(out: &mut Vec<u8>, tag: u8, n: i64) {
    out.push(tag);
    put_int(out, n);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_record_comes_back() {
        let bytes = |s: &'static str| Bytes::from_static(s.as_bytes());
        let records = vec![
            Record::Put { revision: 5, key: bytes("/a"), value: bytes("v"), lease: 9 },
            Record::Delete { revision: 6, key: bytes("/a") },
            Record::Grant { id: -3, ttl: 10, remaining: 4 },
            Record::Revoke { id: i64::MAX },
            Record::Compact { revision: 4 },
            Record::Jump { revision: 10_000 },
            Record::Closed,
            Record::Live {
                key: bytes("k"),
                value: bytes(""),
                mod_revision: 3,
                create_revision: 2,
                version: 2,
                lease: 0,
            },
            Record::Base { revision: 7, seq: 80 },
            Record::End { keys: 1 },
        ];
        let mut out = Vec::new();
        records.iter().for_each(|r| r.encode(&mut out));
        assert_eq!(Record::decode_all(&out).unwrap(), records);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(data: Vec<u8>) {
            let _ = Record::decode_all(&data);
        }
    }
}
