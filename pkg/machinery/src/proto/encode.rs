//! Trees to protobuf, byte for byte as upstream's generated code.
//!
//! Messages are written back to front, as upstream does: then the length of a part is known when its prefix is
//! due, and nothing is measured first.

use super::wire::{BYTES, FIXED64, VARINT};
use crate::json::choice_schema;
use crate::schema::lookup::{Sparse, descending};
use crate::schema::{Choice, Field, Shape, TypeId, TypeTable};
use crate::value::{Map, Value};
use crate::{golang, json, quantity::Quantity, time};

/// A buffer that grows at its front.
pub(super) struct Back {
    buf: Vec<u8>,
    at: usize,
}

impl Back {
    pub fn new(capacity: usize) -> Self {
        Back { buf: vec![0; capacity], at: capacity }
    }

    #[inline]
    fn reserve(&mut self, n: usize) {
        if self.at < n {
            self.grow(n);
        }
    }

    #[cold]
    fn grow(&mut self, n: usize) {
        let used = self.buf.len() - self.at;
        let size = (self.buf.len() * 2).max(used + n + 64);
        let mut bigger = vec![0; size];
        bigger[size - used..].copy_from_slice(&self.buf[self.at..]);
        self.at = size - used;
        self.buf = bigger;
    }

    pub fn bytes(&mut self, part: &[u8]) {
        self.reserve(part.len());
        self.at -= part.len();
        self.buf[self.at..self.at + part.len()].copy_from_slice(part);
    }

    #[inline]
    pub fn varint(&mut self, v: u64) {
        if v < 0x80 {
            self.reserve(1);
            self.at -= 1;
            self.buf[self.at] = v as u8;
            return;
        }
        self.long_varint(v);
    }

    fn long_varint(&mut self, v: u64) {
        let mut text = [0; 10];
        let mut rest = v;
        let mut n = 0;
        while rest >= 0x80 {
            text[n] = rest as u8 | 0x80;
            rest >>= 7;
            n += 1;
        }
        text[n] = rest as u8;
        self.bytes(&text[..=n]);
    }

    pub fn len(&self) -> usize {
        self.buf.len() - self.at
    }

    pub fn tag(&mut self, tag: u32, wire: u8) {
        self.varint(u64::from(tag) << 3 | u64::from(wire));
    }

    /// Closes a part that was begun when the buffer had `end` bytes: writes its length and tag.
    pub fn close(&mut self, tag: u32, end: usize) {
        self.varint((self.len() - end) as u64);
        self.tag(tag, BYTES);
    }

    #[inline]
    pub fn field(&mut self, tag: u32, part: &[u8]) {
        // Most tags and lengths take one byte.
        if tag < 16 && part.len() < 0x80 {
            self.reserve(part.len() + 2);
            self.at -= part.len() + 2;
            let to = &mut self.buf[self.at..self.at + part.len() + 2];
            to[0] = (tag << 3) as u8 | BYTES;
            to[1] = part.len() as u8;
            to[2..].copy_from_slice(part);
            return;
        }
        self.bytes(part);
        self.varint(part.len() as u64);
        self.tag(tag, BYTES);
    }

    pub fn finish(mut self) -> Vec<u8> {
        let used = self.len();
        self.buf.copy_within(self.at.., 0);
        self.buf.truncate(used);
        self.buf
    }
}

/// Encodes the message of a struct, without envelope.
pub fn encode_message(table: &TypeTable, id: TypeId, value: &Value) -> Vec<u8> {
    let mut out = Back::new(4096);
    message(table, id, value, &mut out);
    out.finish()
}

fn message(table: &TypeTable, id: TypeId, value: &Value, out: &mut Back) {
    if let Some(choice) = table.get(id).choice {
        return choice_message(table, id, choice, value, out);
    }
    let empty = Map::new();
    let m = value.as_map().unwrap_or(&empty);
    // Values by position among the wire fields; embedded structs look theirs up themselves.
    let wire = table.wire_fields(id);
    let (first, last) = table.get(id).fields;
    let flat = table.flat_ids(id);
    let mut met = Sparse::new();
    table.join(id, m, |at, v| {
        let i = flat[at];
        if (first..last).contains(&i) && table.field_at(i).tag > 0 {
            met.put(table.wire_position(id, (i - first) as usize), v);
        }
    });
    for position in descending(met.set() | table.written(id)) {
        let f = table.field_at(wire[position]);
        if f.flags.inline {
            inline(table, f, value, m, out);
        } else {
            field(table, f, met.get(position).unwrap_or(&&Value::Null), out);
        }
    }
}

/// An embedded struct: its fields stand in the same map.
fn inline(table: &TypeTable, f: &Field, value: &Value, m: &Map, out: &mut Back) {
    let Shape::Struct(id) = f.shape else { return };
    let present = || table.fields(id).any(|f| m.get(&f.name).is_some_and(|v| !v.is_null()));
    if f.flags.pointer && !present() {
        return;
    }
    let end = out.len();
    message(table, id, value, out);
    out.close(f.tag, end);
}

fn field(table: &TypeTable, f: &Field, v: &Value, out: &mut Back) {
    if v.is_null() && f.flags.pointer {
        return;
    }
    match (f.shape, v) {
        (Shape::List(e), Value::List(l)) => {
            let e = table.elem(e);
            for v in l.iter().rev() {
                shape(table, f.tag, e, v, out);
            }
        }
        (Shape::Map(e), Value::Map(m)) => {
            let e = table.elem(e);
            let entries: Vec<_> = m.iter().collect();
            for (k, v) in entries.into_iter().rev() {
                let end = out.len();
                // A nil byte string is the one value that upstream leaves out of an entry.
                if e != Shape::Bytes || !v.is_null() {
                    shape(table, 2, e, v, out);
                }
                out.field(1, k.as_bytes());
                out.close(f.tag, end);
            }
        }
        (Shape::List(_) | Shape::Map(_) | Shape::Wrapped(_) | Shape::Bytes | Shape::Any, Value::Null) => {}
        (s, v) => shape(table, f.tag, s, v, out),
    }
}

/// One value with its tag. `Null` is the shape's zero value.
fn shape(table: &TypeTable, tag: u32, shape: Shape, v: &Value, out: &mut Back) {
    let number = |v: &Value| v.as_i64().unwrap_or(0);
    match shape {
        Shape::String => out.field(tag, v.as_str().unwrap_or_default().as_bytes()),
        Shape::Bool => {
            out.varint(u64::from(v.as_bool().unwrap_or(false)));
            out.tag(tag, VARINT);
        }
        Shape::Int32 => {
            out.varint(i64::from(number(v) as i32) as u64);
            out.tag(tag, VARINT);
        }
        Shape::Int64 => {
            out.varint(number(v) as u64);
            out.tag(tag, VARINT);
        }
        Shape::Double => {
            out.bytes(&v.as_f64().unwrap_or(0.0).to_le_bytes());
            out.tag(tag, FIXED64);
        }
        Shape::Bytes => {
            // Trees from outside may hold text that is no base64; reading refuses it, this writes nothing.
            let bytes = golang::decode_base64(v.as_str().unwrap_or_default().as_bytes()).unwrap_or_default();
            out.field(tag, &bytes);
        }
        Shape::Struct(id) => {
            let end = out.len();
            message(table, id, v, out);
            out.close(tag, end);
        }
        Shape::Wrapped(e) => {
            let (end, e) = (out.len(), table.elem(e));
            for v in v.as_list().into_iter().flat_map(|l| l.iter().rev()) {
                self::shape(table, 1, e, v, out);
            }
            out.close(tag, end);
        }
        _ => special(tag, shape, v, out),
    }
}

/// The types with a wire form of their own.
fn special(tag: u32, shape: Shape, v: &Value, out: &mut Back) {
    let end = out.len();
    match shape {
        Shape::Time | Shape::MicroTime => {
            let text = v.as_str().unwrap_or_default();
            let parsed = time::parse_rfc3339(text).unwrap_or(time::Instant::ZERO);
            if !parsed.is_zero() {
                let nanos = if shape == Shape::MicroTime { parsed.nanos / 1000 * 1000 } else { 0 };
                out.varint(u64::from(nanos));
                out.tag(2, VARINT);
                out.varint(parsed.seconds as u64);
                out.tag(1, VARINT);
            }
        }
        Shape::Duration => {
            let nanos = v.as_str().and_then(|t| time::parse_duration(t).ok()).unwrap_or(0);
            out.varint(nanos as u64);
            out.tag(1, VARINT);
        }
        Shape::Quantity => match v.as_str() {
            Some(text) if Quantity::is_settled(text) => out.field(1, text.as_bytes()),
            Some(text) => match Quantity::parse(text) {
                Ok(q) => out.field(1, q.to_string().as_bytes()),
                Err(_) => out.field(1, text.as_bytes()),
            },
            None => out.field(1, b"0"),
        },
        Shape::IntOrString => {
            let text = v.as_str();
            out.field(3, text.unwrap_or_default().as_bytes());
            out.varint(i64::from(v.as_i64().unwrap_or(0) as i32) as u64);
            out.tag(2, VARINT);
            out.varint(u64::from(text.is_some()));
            out.tag(1, VARINT);
        }
        Shape::Raw => match v {
            Value::Null => {}
            Value::Raw(b) => out.field(1, b),
            other => out.field(1, &json::encode_any(other)),
        },
        _ => return,
    }
    out.close(tag, end);
}

fn choice_message(table: &TypeTable, id: TypeId, choice: Choice, v: &Value, out: &mut Back) {
    let Some(schema) = choice_schema(table, id) else { return };
    let inner = Shape::Struct(schema);
    match (choice, v) {
        (Choice::Bool, Value::Map(_)) => {
            shape(table, 2, inner, v, out);
            shape(table, 1, Shape::Bool, &Value::Bool(true), out);
        }
        (Choice::Bool, v) => shape(table, 1, Shape::Bool, v, out),
        (_, Value::Map(_)) => shape(table, 1, inner, v, out),
        (Choice::Array, Value::List(l)) => l.iter().rev().for_each(|v| shape(table, 2, inner, v, out)),
        (Choice::StringArray, Value::List(l)) => {
            l.iter().rev().for_each(|v| shape(table, 2, Shape::String, v, out));
        }
        _ => {}
    }
}
