//! Protobuf to JSON without a tree: the path of every LIST, GET and WATCH of JSON clients.
//!
//! JSON wants fields in declared order, the wire has them by tag. So each message is passed over once to note where
//! its fields are, and then written in order; nothing is copied but what goes out.

use super::decode::{self, IntOrStr, instant};
use super::wire::{BYTES, Error, FIXED64, Result, VARINT, Wire};
use super::{Envelope, type_of};
use crate::json::{write_bytes_str, write_compact, write_f64, write_i64, write_name, zero_text};
use crate::schema::{Field, Shape, TypeId, TypeTable};
use crate::time;
use crate::value::{MAX_DEPTH, Value};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::io::Write;

/// Where the records of one field are.
#[derive(Clone, Copy, Default)]
struct Span {
    first: u32,
    last: u32,
    count: u32,
}

/// Appends the JSON of an object in its envelope.
pub fn to_json(table: &TypeTable, data: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let e = Envelope::open(data)?;
    let id = type_of(table, &e)?;
    message_to_json(table, id, e.raw, Some((e.api_version, e.kind)), out)
}

/// Appends the JSON of a bare message; `head` is `apiVersion` and `kind`, which items of lists do not have.
pub fn message_to_json(
    table: &TypeTable,
    id: TypeId,
    message: &[u8],
    head: Option<(&str, &str)>,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.push(b'{');
    let mut first = true;
    if let Some((api_version, kind)) = head {
        for (name, text) in [("kind", kind), ("apiVersion", api_version)] {
            if !text.is_empty() {
                separator(&mut first, out);
                write_name(name, out);
                write_bytes_str(text.as_bytes(), out);
            }
        }
    }
    Writer { table }.fields(id, message, &mut first, 1, out)?;
    out.push(b'}');
    Ok(())
}

fn separator(first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::replace(first, false) {
        out.push(b',');
    }
}

struct Writer<'t> {
    table: &'t TypeTable,
}

impl Writer<'_> {
    fn object(&self, id: TypeId, message: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(Error::Depth(MAX_DEPTH));
        }
        if self.table.get(id).choice.is_some() {
            let tree = super::decode_message(self.table, id, message)?;
            crate::json::write_shape(self.table, Shape::Struct(id), &tree, out);
            return Ok(());
        }
        out.push(b'{');
        self.fields(id, message, &mut true, depth + 1, out)?;
        out.push(b'}');
        Ok(())
    }

    /// The fields of a message without braces: embedded structs continue their parent's object.
    fn fields(
        &self,
        id: TypeId,
        message: &[u8],
        first: &mut bool,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if depth >= MAX_DEPTH || message.len() > u32::MAX as usize {
            return Err(Error::Depth(MAX_DEPTH));
        }
        let spans = self.index(id, message)?;
        for (i, f) in self.table.own_fields(id).iter().enumerate() {
            if f.tag == 0 || f.name == "-" {
                continue;
            }
            let span = spans[self.table.wire_position(id, i)];
            match f.shape {
                Shape::Struct(inner) if f.flags.inline => {
                    if span.count > 0 || !f.flags.pointer {
                        let part = merged(message, f, span)?;
                        self.fields(inner, &part, first, depth + 1, out)?;
                    }
                }
                _ if span.count == 0 => self.absent(f, first, depth, out)?,
                _ => self.present(f, message, span, first, depth, out)?,
            }
        }
        Ok(())
    }

    fn index(&self, id: TypeId, message: &[u8]) -> Result<SmallVec<[Span; 24]>> {
        let mut spans: SmallVec<[Span; 24]> = SmallVec::new();
        spans.resize(self.table.wire_fields(id).len(), Span::default());
        let mut w = Wire::new(message);
        let mut guess = 0;
        while !w.is_empty() {
            let at = w.at as u32;
            let (tag, wire) = w.tag()?;
            if let Some(found) = self.table.by_tag(id, tag, guess) {
                guess = found;
                let span = &mut spans[found];
                if span.count == 0 {
                    span.first = at;
                }
                span.last = at;
                span.count += 1;
            }
            w.skip(wire)?;
        }
        Ok(spans)
    }

    fn absent(&self, f: &Field, first: &mut bool, depth: usize, out: &mut Vec<u8>) -> Result<()> {
        if f.flags.omit_zero || (f.flags.omit_empty && !self.table.always_written(f)) {
            return Ok(());
        }
        separator(first, out);
        write_name(&f.name, out);
        match f.shape {
            _ if f.flags.pointer => out.extend_from_slice(b"null"),
            Shape::Struct(id) => self.object(id, &[], depth, out)?,
            shape => out.extend_from_slice(zero_text(shape)),
        }
        Ok(())
    }

    fn present(
        &self,
        f: &Field,
        message: &[u8],
        span: Span,
        first: &mut bool,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let start = (out.len(), *first);
        separator(first, out);
        write_name(&f.name, out);
        match f.shape {
            Shape::List(e) => self.list(f, self.table.elem(e), message, span, depth, out)?,
            Shape::Map(e) => self.map(f, self.table.elem(e), message, span, depth, out)?,
            Shape::Struct(id) => {
                let part = merged(message, f, span)?;
                self.object(id, &part, depth, out)?;
            }
            shape => {
                let mut w = Wire { data: message, at: span.last as usize };
                let (_, wire) = w.tag()?;
                let value = out.len();
                self.value(f, shape, &mut w, wire, depth, out)?;
                if omitted(f, &out[value..]) {
                    out.truncate(start.0);
                    *first = start.1;
                }
            }
        }
        Ok(())
    }

    fn list(
        &self,
        f: &Field,
        elem: Shape,
        message: &[u8],
        span: Span,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut w = Wire { data: message, at: span.first as usize };
        let mut left = span.count;
        out.push(b'[');
        while left > 0 {
            let (tag, wire) = w.tag()?;
            if tag != f.tag {
                w.skip(wire)?;
                continue;
            }
            if left < span.count {
                out.push(b',');
            }
            left -= 1;
            self.value(f, elem, &mut w, wire, depth + 1, out)?;
        }
        out.push(b']');
        Ok(())
    }

    fn map(
        &self,
        f: &Field,
        elem: Shape,
        message: &[u8],
        span: Span,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut w = Wire { data: message, at: span.first as usize };
        let mut entries: SmallVec<[(&[u8], &[u8]); 16]> = SmallVec::new();
        while entries.len() < span.count as usize {
            let (tag, wire) = w.tag()?;
            if tag != f.tag {
                w.skip(wire)?;
                continue;
            }
            if wire != BYTES {
                return Err(Error::WireType { wire, field: f.name.to_string() });
            }
            let entry = w.bytes()?;
            let mut e = Wire::new(entry);
            let mut key: &[u8] = b"";
            while !e.is_empty() {
                match e.tag()? {
                    (1, BYTES) => key = e.bytes()?,
                    (_, wire) => e.skip(wire)?,
                }
            }
            entries.push((key, entry));
        }
        // Upstream writes entries by key; anyone else's order is put right, the last of equal keys stays.
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            entries.sort_by(|a, b| a.0.cmp(b.0));
            entries.reverse();
            entries.dedup_by(|a, b| a.0 == b.0);
            entries.reverse();
        }
        out.push(b'{');
        for (i, (key, entry)) in entries.into_iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_bytes_str(key, out);
            out.push(b':');
            self.entry(f, elem, entry, depth + 1, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn entry(&self, f: &Field, elem: Shape, entry: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut e = Wire::new(entry);
        let mut last = None;
        while !e.is_empty() {
            let at = e.at;
            let (tag, wire) = e.tag()?;
            if tag == 2 {
                last = Some(at);
            }
            e.skip(wire)?;
        }
        match (last, elem) {
            (Some(at), _) => {
                let mut w = Wire { data: entry, at };
                let (_, wire) = w.tag()?;
                self.value(f, elem, &mut w, wire, depth, out)
            }
            (None, Shape::Struct(id)) => self.object(id, &[], depth, out),
            (None, Shape::Bytes) => {
                out.extend_from_slice(b"\"\"");
                Ok(())
            }
            (None, elem) => {
                out.extend_from_slice(zero_text(elem));
                Ok(())
            }
        }
    }

    fn value(
        &self,
        f: &Field,
        shape: Shape,
        w: &mut Wire<'_>,
        wire: u8,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let want = match shape {
            Shape::Bool | Shape::Int32 | Shape::Int64 => VARINT,
            Shape::Double => FIXED64,
            _ => BYTES,
        };
        if wire != want {
            return Err(Error::WireType { wire, field: f.name.to_string() });
        }
        match shape {
            Shape::String => write_bytes_str(w.bytes()?, out),
            Shape::Bool if w.varint()? != 0 => out.extend_from_slice(b"true"),
            Shape::Bool => out.extend_from_slice(b"false"),
            Shape::Int32 => write_i64(i64::from(w.varint()? as i32), out),
            Shape::Int64 => write_i64(w.varint()? as i64, out),
            Shape::Double => match decode::float(w.fixed64()?) {
                Value::Float(x) => write_f64(x, out),
                _ => out.push(b'0'),
            },
            Shape::Struct(id) => self.object(id, w.bytes()?, depth, out)?,
            Shape::Wrapped(e) | Shape::List(e) => {
                self.wrapped(f, self.table.elem(e), w.bytes()?, depth, out)?
            }
            _ => special(shape, w.bytes()?, out)?,
        }
        Ok(())
    }

    fn wrapped(&self, f: &Field, elem: Shape, part: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut w = Wire::new(part);
        out.push(b'[');
        let mut first = true;
        while !w.is_empty() {
            match w.tag()? {
                (1, wire) => {
                    separator(&mut first, out);
                    self.value(f, elem, &mut w, wire, depth + 1, out)?;
                }
                (_, wire) => w.skip(wire)?,
            }
        }
        out.push(b']');
        Ok(())
    }
}

/// All occurrences of a message field as one message: concatenation is how protobuf merges.
fn merged<'a>(message: &'a [u8], f: &Field, span: Span) -> Result<Cow<'a, [u8]>> {
    let mut w = Wire { data: message, at: span.first as usize };
    let mut out: Cow<'a, [u8]> = Cow::Borrowed(&[]);
    let mut left = span.count;
    while left > 0 {
        let (tag, wire) = w.tag()?;
        if tag != f.tag {
            w.skip(wire)?;
            continue;
        }
        if wire != BYTES {
            return Err(Error::WireType { wire, field: f.name.to_string() });
        }
        let part = w.bytes()?;
        if left == span.count {
            out = Cow::Borrowed(part);
        } else {
            out.to_mut().extend_from_slice(part);
        }
        left -= 1;
    }
    Ok(out)
}

/// Whether Go leaves the field out, judged by its JSON.
fn omitted(f: &Field, json: &[u8]) -> bool {
    if f.flags.omit_zero && json == b"null" {
        return true;
    }
    if !f.flags.omit_empty || f.flags.pointer {
        return false;
    }
    match f.shape {
        Shape::String | Shape::Bytes => json == b"\"\"",
        Shape::Bool => json == b"false",
        Shape::Int32 | Shape::Int64 => json == b"0",
        Shape::Double => json == b"0" || json == b"-0",
        Shape::Wrapped(_) => json == b"[]",
        _ => false,
    }
}

fn special(shape: Shape, part: &[u8], out: &mut Vec<u8>) -> Result<()> {
    match shape {
        Shape::Bytes => {
            use base64::Engine;
            out.push(b'"');
            let at = out.len();
            out.resize(at + part.len().div_ceil(3) * 4, 0);
            let written = base64::engine::general_purpose::STANDARD.encode_slice(part, &mut out[at..]);
            out.truncate(at + written.unwrap_or(0));
            out.push(b'"');
        }
        Shape::Time | Shape::MicroTime => {
            let t = instant(part)?;
            if t.is_zero() {
                out.extend_from_slice(b"null");
                return Ok(());
            }
            out.push(b'"');
            match shape {
                Shape::Time => time::push_rfc3339(out, t.seconds),
                _ => time::push_micro(out, t),
            }
            out.push(b'"');
        }
        Shape::Duration => write_bytes_str(time::format_duration(decode::duration(part)?).as_bytes(), out),
        Shape::Quantity => {
            // Writing to a Vec cannot fail.
            let _ = write!(out, "\"{}\"", decode::quantity(part)?);
        }
        Shape::IntOrString => match decode::int_or_string(part)? {
            IntOrStr::Int(i) => write_i64(i64::from(i), out),
            IntOrStr::Str(s) => write_bytes_str(s, out),
        },
        Shape::Raw => match decode::raw(part)? {
            Some(raw) => write_compact(raw, out),
            None => out.extend_from_slice(b"null"),
        },
        _ => out.extend_from_slice(b"null"),
    }
    Ok(())
}
