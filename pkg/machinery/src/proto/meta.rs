//! Reads and edits an object's metadata in its protobuf bytes without decoding the rest.
//!
//! Every kind that has metadata has it as field 1, and the tags inside are those of meta/v1 ObjectMeta.

use super::decode::instant;
use super::envelope::{Envelope, MAGIC};
use super::wire::{BYTES, Error, Result, VARINT, Wire, push_field, push_varint};
use crate::json::lossy_str;
use crate::meta::{Header, OwnerReference};
use crate::schema::{Shape, TypeId, TypeTable};
use crate::value::{Str, Value};

const METADATA: u32 = 1;
const RESOURCE_VERSION: u32 = 6;

/// The message of `metadata` in an object's message.
pub fn metadata(message: &[u8]) -> Result<&[u8]> {
    let mut w = Wire::new(message);
    while !w.is_empty() {
        match w.tag()? {
            (METADATA, BYTES) => return w.bytes(),
            (_, wire) => w.skip(wire)?,
        }
    }
    Ok(&[])
}

/// Reads the metadata of an object in its envelope.
pub fn header(data: &[u8]) -> Result<Header> {
    message_header(Envelope::open(data)?.raw)
}

/// Reads the metadata of an object's bare message.
pub fn message_header(message: &[u8]) -> Result<Header> {
    let mut w = Wire::new(metadata(message)?);
    let mut h = Header::default();
    while !w.is_empty() {
        match w.tag()? {
            (1, BYTES) => h.name = lossy_str(w.bytes()?),
            (2, BYTES) => h.generate_name = lossy_str(w.bytes()?),
            (3, BYTES) => h.namespace = lossy_str(w.bytes()?),
            (5, BYTES) => h.uid = lossy_str(w.bytes()?),
            (6, BYTES) => h.resource_version = lossy_str(w.bytes()?),
            (7, VARINT) => h.generation = w.varint()? as i64,
            (8, BYTES) => h.creation_timestamp = seconds(w.bytes()?)?,
            (9, BYTES) => h.deletion_timestamp = seconds(w.bytes()?)?,
            (10, VARINT) => h.deletion_grace_period_seconds = Some(w.varint()? as i64),
            (11, BYTES) => h.labels.push(pair(w.bytes()?)?),
            (12, BYTES) => h.annotations.push(pair(w.bytes()?)?),
            (13, BYTES) => h.owner_references.push(owner(w.bytes()?)?),
            (14, BYTES) => h.finalizers.push(lossy_str(w.bytes()?)),
            (_, wire) => w.skip(wire)?,
        }
    }
    h.labels.sort();
    h.annotations.sort();
    Ok(h)
}

fn seconds(data: &[u8]) -> Result<Option<i64>> {
    let t = instant(data)?;
    Ok((!t.is_zero()).then_some(t.seconds))
}

fn pair(data: &[u8]) -> Result<(Str, Str)> {
    let mut w = Wire::new(data);
    let mut out = (Str::default(), Str::default());
    while !w.is_empty() {
        match w.tag()? {
            (1, BYTES) => out.0 = lossy_str(w.bytes()?),
            (2, BYTES) => out.1 = lossy_str(w.bytes()?),
            (_, wire) => w.skip(wire)?,
        }
    }
    Ok(out)
}

fn owner(data: &[u8]) -> Result<OwnerReference> {
    let mut w = Wire::new(data);
    let mut o = OwnerReference::default();
    while !w.is_empty() {
        match w.tag()? {
            (1, BYTES) => o.kind = lossy_str(w.bytes()?),
            (3, BYTES) => o.name = lossy_str(w.bytes()?),
            (4, BYTES) => o.uid = lossy_str(w.bytes()?),
            (5, BYTES) => o.api_version = lossy_str(w.bytes()?),
            (6, VARINT) => o.controller = w.varint()? != 0,
            (7, VARINT) => o.block_owner_deletion = w.varint()? != 0,
            (_, wire) => w.skip(wire)?,
        }
    }
    Ok(o)
}

/// The value at a path of JSON names in an object's bare message, nothing else decoded. `None` where Go's value is
/// zero or absent. Paths lead through structs only; the end may be anything.
pub fn pick(table: &TypeTable, id: TypeId, message: &[u8], path: &[&str]) -> Result<Option<Value>> {
    let Some((name, rest)) = path.split_first() else {
        return super::decode_message(table, id, message).map(Some);
    };
    for i in table.wire_fields(id) {
        let f = table.field_at(*i);
        let (inner, path) = match f.shape {
            Shape::Struct(inner) if f.flags.inline && table.field(inner, name).is_some() => (inner, path),
            Shape::Struct(inner) if f.name == *name && !f.flags.inline => (inner, rest),
            _ if f.name == *name && !f.flags.inline => {
                if !rest.is_empty() {
                    return Ok(None);
                }
                return super::decode::single(table, f, message);
            }
            _ => continue,
        };
        let mut w = Wire::new(message);
        let mut found = None;
        while !w.is_empty() {
            match w.tag()? {
                (tag, BYTES) if tag == f.tag => found = Some(w.bytes()?),
                (_, wire) => w.skip(wire)?,
            }
        }
        return match found {
            Some(part) => pick(table, inner, part, path),
            None => Ok(None),
        };
    }
    Ok(None)
}

/// An object's bare message with another resourceVersion.
pub fn message_with_resource_version(message: &[u8], version: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(message.len() + version.len() + 4);
    let mut w = Wire::new(message);
    let mut done = false;
    while !w.is_empty() {
        let from = w.at;
        let (tag, wire) = w.tag()?;
        if !done && tag == METADATA && wire == BYTES {
            push_field(&mut out, METADATA, &edit(w.bytes()?, version)?);
            done = true;
        } else {
            if !done && tag > METADATA {
                push_field(&mut out, METADATA, &edit(&[], version)?);
                done = true;
            }
            w.skip(wire)?;
            out.extend_from_slice(&message[from..w.at]);
        }
    }
    if !done {
        push_field(&mut out, METADATA, &edit(&[], version)?);
    }
    Ok(out)
}

/// ObjectMeta with the field replaced or put where it belongs.
fn edit(meta: &[u8], version: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(meta.len() + version.len() + 2);
    let mut w = Wire::new(meta);
    let mut done = false;
    while !w.is_empty() {
        let from = w.at;
        let (tag, wire) = w.tag()?;
        w.skip(wire)?;
        if !done && tag >= RESOURCE_VERSION {
            push_field(&mut out, RESOURCE_VERSION, version.as_bytes());
            done = true;
        }
        if tag != RESOURCE_VERSION {
            out.extend_from_slice(&meta[from..w.at]);
        }
    }
    if !done {
        push_field(&mut out, RESOURCE_VERSION, version.as_bytes());
    }
    Ok(out)
}

/// An object in its envelope with another resourceVersion.
pub fn with_resource_version(data: &[u8], version: &str) -> Result<Vec<u8>> {
    let e = Envelope::open(data)?;
    let raw = message_with_resource_version(e.raw, version)?;
    let mut out = Vec::new();
    Envelope { raw: &raw, ..e }.seal_into(&mut out);
    Ok(out)
}

/// An event of a watch as protobuf frames carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchEvent<'a> {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub event: &'a str,
    /// The object in its envelope.
    pub object: &'a [u8],
}

/// Bytes of a frame's length prefix.
const PREFIX: usize = 4;

impl<'a> WatchEvent<'a> {
    /// Reads the content of one frame.
    pub fn parse(frame: &'a [u8]) -> Result<Self> {
        let mut w = Wire::new(frame);
        let mut out = WatchEvent { event: "", object: &[] };
        while !w.is_empty() {
            match w.tag()? {
                (1, BYTES) => {
                    let part =
                        |e: std::str::Utf8Error| Error::Part { what: "the event type", why: e.to_string() };
                    out.event = std::str::from_utf8(w.bytes()?).map_err(part)?;
                }
                (2, BYTES) => out.object = super::decode::raw(w.bytes()?)?.unwrap_or_default(),
                (_, wire) => w.skip(wire)?,
            }
        }
        Ok(out)
    }

    /// Appends the frame: four bytes of length, most significant first, then a bare message.
    pub fn push_frame(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0; PREFIX]);
        push_field(out, 1, self.event.as_bytes());
        let mut tag = Vec::with_capacity(6);
        push_varint(&mut tag, 1 << 3 | u64::from(BYTES));
        push_varint(&mut tag, self.object.len() as u64);
        push_varint(out, 2 << 3 | u64::from(BYTES));
        push_varint(out, (tag.len() + self.object.len()) as u64);
        out.extend_from_slice(&tag);
        out.extend_from_slice(self.object);
        let len = (out.len() - at - PREFIX) as u32;
        out[at..at + PREFIX].copy_from_slice(&len.to_be_bytes());
    }
}

/// Splits one frame off the front of received bytes: its content and the bytes it took. `Ok(None)` if more bytes are
/// needed; an error if the frame would be longer than `limit`.
pub fn split_frame(received: &[u8], limit: usize) -> Result<Option<(&[u8], usize)>> {
    let Some((prefix, rest)) = received.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let len = u32::from_be_bytes(*prefix) as usize;
    if len > limit {
        let why = format!("{len} bytes, the limit is {limit}");
        return Err(Error::Part { what: "a watch frame", why });
    }
    Ok(rest.get(..len).map(|content| (content, PREFIX + len)))
}

/// Whether the bytes are a protobuf object.
pub fn is_protobuf(data: &[u8]) -> bool {
    data.starts_with(&MAGIC)
}
