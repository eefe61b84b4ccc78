//! What the fuzz targets need of this module.

use std::path::Path;

use super::codec::{get_frame, put_frame};
use super::record::Record;
use super::wal::SegmentHeader;

/// Reads a segment header, a frame and records; what is read must survive being written.
#[allow(clippy::unwrap_used, reason = "a failure is a finding")]
pub fn log(data: &[u8]) {
    let _ = SegmentHeader::decode(data, Path::new("segment"));
    if let Some(frame) = get_frame(data) {
        let _ = Record::decode_all(frame.payload);
    }
    if let Ok(records) = Record::decode_all(data) {
        let mut out = Vec::new();
        records.iter().for_each(|r| r.encode(&mut out));
        assert_eq!(Record::decode_all(&out).unwrap(), records);
        let mut framed = Vec::new();
        put_frame(&mut framed, 1, 0, &out).unwrap();
        assert_eq!(get_frame(&framed).unwrap().payload, out);
    }
}
