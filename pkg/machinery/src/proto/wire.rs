//! The lowest level of protobuf: varints, tags and length-delimited parts.

/// Malformed protobuf. The texts are those of upstream's generated code where it has them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unexpected EOF")]
    UnexpectedEof,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: {message}: illegal tag {tag} (wire type {wire})")]
    IllegalTag { message: String, tag: u64, wire: u64 },
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WireType { wire: u8, field: String },
    #[error("proto: illegal wireType {0}")]
    IllegalWireType(u8),
    #[error("proto: nested deeper than {0} levels")]
    Depth(usize),
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NotProtobuf,
    #[error("unable to read {what} of a protobuf object: {why}")]
    Part { what: &'static str, why: String },
}

pub type Result<T> = std::result::Result<T, Error>;

pub const VARINT: u8 = 0;
pub const FIXED64: u8 = 1;
pub const BYTES: u8 = 2;
const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED32: u8 = 5;

/// Groups nest only in hostile input.
const MAX_GROUPS: usize = 64;

/// A position in bytes.
#[derive(Clone, Copy)]
pub struct Wire<'a> {
    pub data: &'a [u8],
    pub at: usize,
}

impl<'a> Wire<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Wire { data, at: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.at >= self.data.len()
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64> {
        match self.data.get(self.at) {
            Some(b) if *b < 0x80 => {
                self.at += 1;
                Ok(u64::from(*b))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let b = *self.data.get(self.at).ok_or(Error::UnexpectedEof)?;
            self.at += 1;
            value |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Overflow)
    }

    /// Field number and wire type.
    #[inline]
    pub fn tag(&mut self) -> Result<(u32, u8)> {
        let v = self.varint()?;
        let (tag, wire) = ((v >> 3) as i32, (v & 7) as u8);
        if tag <= 0 || wire == END_GROUP {
            return Err(Error::IllegalTag { message: String::new(), tag: v >> 3, wire: v });
        }
        Ok((tag as u32, wire))
    }

    /// A length-delimited part.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = usize::try_from(self.varint()?).map_err(|_| Error::Overflow)?;
        let end = self.at.checked_add(len).ok_or(Error::Overflow)?;
        let part = self.data.get(self.at..end).ok_or(Error::UnexpectedEof)?;
        self.at = end;
        Ok(part)
    }

    pub fn fixed64(&mut self) -> Result<u64> {
        let part = self.data.get(self.at..self.at + 8).ok_or(Error::UnexpectedEof)?;
        self.at += 8;
        Ok(u64::from_le_bytes(part.try_into().unwrap_or_default()))
    }

    /// Passes over a value of that wire type.
    pub fn skip(&mut self, wire: u8) -> Result<()> {
        self.skip_nested(wire, 0)
    }

    fn skip_nested(&mut self, wire: u8, depth: usize) -> Result<()> {
        match wire {
            VARINT => self.varint().map(|_| ()),
            FIXED64 => self.fixed64().map(|_| ()),
            BYTES => self.bytes().map(|_| ()),
            FIXED32 => {
                self.data.get(self.at..self.at + 4).ok_or(Error::UnexpectedEof)?;
                self.at += 4;
                Ok(())
            }
            START_GROUP if depth < MAX_GROUPS => loop {
                let v = self.varint()?;
                match (v & 7) as u8 {
                    END_GROUP => return Ok(()),
                    inner => self.skip_nested(inner, depth + 1)?,
                }
            },
            START_GROUP => Err(Error::Depth(MAX_GROUPS)),
            other => Err(Error::IllegalWireType(other)),
        }
    }
}

/// Writes a varint.
pub fn push_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Bytes a varint takes.
pub fn varint_len(v: u64) -> usize {
    (64 - (v | 1).leading_zeros() as usize).div_ceil(7)
}

/// Writes a length-delimited field.
pub fn push_field(out: &mut Vec<u8>, tag: u32, part: &[u8]) {
    push_varint(out, u64::from(tag) << 3 | u64::from(BYTES));
    push_varint(out, part.len() as u64);
    out.extend_from_slice(part);
}
