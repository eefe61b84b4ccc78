//! Bytes on disk: variable-length integers and checksummed frames, shared by log segments and snapshots.
//!
//! A frame is the unit of atomicity: all of it counts or none. It names the last frame known to be durable when it was
//! written; that is what tells a torn tail (nothing acknowledged is missing) from damage in the middle (see `replay`).

use crate::error::{Error, Result};

/// Marks the start of a frame.
pub const FRAME_MAGIC: u32 = 0x314d_5246; // "FRM1"
/// Bytes of a frame before its payload.
pub const FRAME_HEADER: usize = 32;
/// Frames start at multiples of this.
pub const ALIGN: usize = 8;
/// No frame payload is larger; a length above it is damage.
pub const MAX_PAYLOAD: usize = 64 << 20;

/// A decoded frame header and payload.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Position in the sequence of frames.
    pub seq: u64,
    /// Every frame up to this one was durable when this one was written.
    pub synced: u64,
    /// The records.
    pub payload: &'a [u8],
    /// Bytes the frame occupies, padding included.
    pub size: usize,
}

/// Appends a frame to `out`.
pub fn put_frame(out: &mut Vec<u8>, seq: u64, synced: u64, payload: &[u8]) -> Result<()> {
    let len = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD);
    let len = len.ok_or(Error::TooLarge)?;
    let mut rest = [0u8; 20];
    rest[..4].copy_from_slice(&len.to_le_bytes());
    rest[4..12].copy_from_slice(&seq.to_le_bytes());
    rest[12..].copy_from_slice(&synced.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&rest), payload);
    out.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&rest);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    Ok(())
}

/// Decodes the frame at the start of `data`; `None` when there is no intact frame.
pub fn get_frame(data: &[u8]) -> Option<Frame<'_>> {
    let header = data.get(..FRAME_HEADER)?;
    let word = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(header.get(at..at + 8)?.try_into().ok()?));
    if word(0)? != FRAME_MAGIC || word(28)? != 0 {
        return None;
    }
    let len = usize::try_from(word(8)?).ok().filter(|len| *len <= MAX_PAYLOAD)?;
    let payload = data.get(FRAME_HEADER..FRAME_HEADER + len)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(header.get(8..28)?), payload);
    if word(4)? != crc {
        return None;
    }
    let size = (FRAME_HEADER + len).next_multiple_of(ALIGN);
    Some(Frame { seq: long(12)?, synced: long(20)?, payload, size })
}

/// Appends an unsigned LEB128 integer.
pub fn put_uint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a signed integer that is usually positive (as its two's complement).
pub fn put_int(out: &mut Vec<u8>, n: i64) {
    put_uint(out, n.cast_unsigned());
}

/// Appends length and bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads back what the `put_` functions wrote; every method fails on truncated input.
#[derive(Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.0.split_first().ok_or_else(truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    /// An unsigned integer.
    pub fn uint(&mut self) -> Result<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(Error::Corrupt("an integer in a record is longer than 64 bits".into()))
    }

    /// A signed integer.
    pub fn int(&mut self) -> Result<i64> {
        self.uint().map(u64::cast_signed)
    }

    /// Length and bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = usize::try_from(self.uint()?).map_err(|_| truncated())?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or_else(truncated)?;
        self.0 = rest;
        Ok(bytes)
    }
}

fn truncated() -> Error {
    Error::Corrupt("a record ends before its fields do".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_and_bytes_come_back(n: u64, i: i64, b: Vec<u8>) {
            let mut out = Vec::new();
            put_uint(&mut out, n);
            put_int(&mut out, i);
            put_bytes(&mut out, &b);
            let mut r = Reader(&out);
            prop_assert_eq!((r.uint().unwrap(), r.int().unwrap(), r.bytes().unwrap()), (n, i, &b[..]));
            prop_assert!(r.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_panic(data: Vec<u8>) {
            let mut r = Reader(&data);
            while !r.is_empty() {
                if r.bytes().is_err() { break; }
            }
            let _ = get_frame(&data);
        }

        #[test]
        fn a_damaged_frame_is_no_frame(payload: Vec<u8>, at: proptest::sample::Index, bit in 0u8..8) {
            let mut out = Vec::new();
            put_frame(&mut out, 3, 2, &payload).unwrap();
            let frame = get_frame(&out).unwrap();
            prop_assert_eq!((frame.seq, frame.synced, frame.payload, frame.size), (3, 2, &payload[..], out.len()));
            let at = at.index(FRAME_HEADER + payload.len());
            out[at] ^= 1 << bit;
            prop_assert!(get_frame(&out).is_none());
        }
    }
}
