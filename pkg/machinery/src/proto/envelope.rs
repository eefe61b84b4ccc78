//! The envelope of a stored or sent protobuf object: four magic bytes, then the message `runtime.Unknown`.

use super::wire::{Error, Result, Wire, push_field, push_varint, varint_len};

/// First bytes of every protobuf object.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// What an envelope says about its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Envelope<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    /// The object's message.
    pub raw: &'a [u8],
    pub content_encoding: &'a str,
    pub content_type: &'a str,
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|e| Error::Part { what: "the envelope", why: e.to_string() })
}

impl<'a> Envelope<'a> {
    /// Opens an envelope. Unknown fields are skipped.
    pub fn open(data: &'a [u8]) -> Result<Self> {
        let mut w = Wire::new(data.strip_prefix(&MAGIC).ok_or(Error::NotProtobuf)?);
        let mut out = Envelope::default();
        while !w.is_empty() {
            match w.tag()? {
                (1, 2) => {
                    let mut meta = Wire::new(w.bytes()?);
                    while !meta.is_empty() {
                        match meta.tag()? {
                            (1, 2) => out.api_version = text(meta.bytes()?)?,
                            (2, 2) => out.kind = text(meta.bytes()?)?,
                            (_, wire) => meta.skip(wire)?,
                        }
                    }
                }
                (2, 2) => out.raw = w.bytes()?,
                (3, 2) => out.content_encoding = text(w.bytes()?)?,
                (4, 2) => out.content_type = text(w.bytes()?)?,
                (_, wire) => w.skip(wire)?,
            }
        }
        Ok(out)
    }

    /// Bytes of the sealed envelope.
    pub fn sealed_len(&self) -> usize {
        let part = |n: usize| 1 + varint_len(n as u64) + n;
        let meta = part(self.api_version.len()) + part(self.kind.len());
        MAGIC.len()
            + part(meta)
            + part(self.raw.len())
            + part(self.content_encoding.len())
            + part(self.content_type.len())
    }

    /// Appends the sealed envelope; all fields are always written.
    pub fn seal_into(&self, out: &mut Vec<u8>) {
        out.reserve(self.sealed_len());
        out.extend_from_slice(&MAGIC);
        let part = |n: usize| 1 + varint_len(n as u64) + n;
        push_varint(out, 1 << 3 | 2);
        push_varint(out, (part(self.api_version.len()) + part(self.kind.len())) as u64);
        push_field(out, 1, self.api_version.as_bytes());
        push_field(out, 2, self.kind.as_bytes());
        push_field(out, 2, self.raw);
        push_field(out, 3, self.content_encoding.as_bytes());
        push_field(out, 4, self.content_type.as_bytes());
    }
}

/// Puts a message into an envelope.
pub fn seal(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Envelope { api_version, kind, raw, ..Default::default() }.seal_into(&mut out);
    out
}
