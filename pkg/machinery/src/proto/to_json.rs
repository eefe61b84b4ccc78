//! Protobuf to JSON without a tree: the path of every LIST, GET and WATCH of JSON clients.
//!
//! JSON wants fields in declared order, the wire has them by tag. Where the two agree, a message is written in one pass;
//! otherwise it is passed over once to note where its fields are, and then written in order. Nothing is copied but what
//! goes out.

use super::decode::{self, IntOrStr, instant};
use super::wire::{BYTES, Error, FIXED64, Result, VARINT, Wire};
use super::{Envelope, type_of};
use crate::json::{write_bytes_str, write_compact, write_f64, write_i64, write_name, zero_text};
use crate::schema::lookup::ascending;
use crate::schema::{Field, Shape, TypeId, TypeTable};
use crate::time;
use crate::value::{MAX_DEPTH, Value};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;

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
    let start = (out.len(), first);
    let writer = Writer { table, trusting: true, disorder: Cell::new(false) };
    if let Err(e) = writer.fields(id, message, &mut first, 1, out) {
        if !writer.disorder.get() {
            return Err(e);
        }
        // Begun again as a whole, so that hostile nesting costs two passes and not a power of two.
        out.truncate(start.0);
        first = start.1;
        Writer { trusting: false, ..writer }.fields(id, message, &mut first, 1, out)?;
    }
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
    /// Messages are taken to keep to the order of tags, as upstream writes them.
    trusting: bool,
    /// Set if one does not; writing then fails.
    disorder: Cell<bool>,
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
        if self.trusting && self.table.is_ordered(id) {
            self.in_order(id, message, first, depth, out)
        } else {
            self.indexed(id, message, first, depth, out)
        }
    }

    /// The fields of a message whose declared order is that of the tags, in one pass. Fails with `disorder` if the
    /// message keeps to another order or repeats a field.
    fn in_order(
        &self,
        id: TypeId,
        message: &[u8],
        first: &mut bool,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let (begin, _) = self.table.get(id).fields;
        let wire = self.table.wire_fields(id);
        let shown = self.table.shown(id);
        // Own fields before this one, by declaration order, are done.
        let mut done = 0;
        let mut w = Wire::new(message);
        while !w.is_empty() {
            let at = w.at;
            let (tag, kind) = w.tag()?;
            let Some(found) = self.table.by_tag(id, tag) else {
                w.skip(kind)?;
                continue;
            };
            let own = (wire[found] - begin) as usize;
            if own < done {
                self.disorder.set(true);
                return Err(Error::UnexpectedEof);
            }
            self.gap(id, done..own, shown, first, depth, out)?;
            done = own + 1;
            let f = self.table.field_at(wire[found]);
            let index = wire[found] as usize;
            match f.shape {
                _ if f.name == "-" => w.skip(kind)?,
                Shape::List(_) | Shape::Map(_) => {
                    let mut span = Span { first: at as u32, last: at as u32, count: 0 };
                    w.at = at;
                    w = run(f, w, &mut span)?;
                    self.present(f, index, message, span, first, depth, out)?;
                }
                Shape::Struct(inner) if f.flags.inline => {
                    let part = bytes(&mut w, kind, f)?;
                    self.fields(inner, part, first, depth + 1, out)?;
                }
                Shape::Struct(inner) => {
                    let part = bytes(&mut w, kind, f)?;
                    self.name(index, first, out);
                    self.object(inner, part, depth, out)?;
                }
                _ => self.scalar(f, index, &mut w, kind, first, depth, out)?,
            }
        }
        self.gap(id, done..self.table.own_fields(id).len(), shown, first, depth, out)
    }

    /// The fields of a message in any order.
    fn indexed(
        &self,
        id: TypeId,
        message: &[u8],
        first: &mut bool,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let (spans, met) = self.index(id, message)?;
        let (begin, _) = self.table.get(id).fields;
        let shown = self.table.shown(id);
        for own in ascending(met | shown | self.table.embedded(id)) {
            let index = begin as usize + own;
            let f = self.table.field_at(index as u32);
            if f.name == "-" {
                continue;
            }
            let span = spans[self.table.wire_position(id, own)];
            match f.shape {
                Shape::Struct(inner) if f.flags.inline => {
                    if span.count > 0 || !f.flags.pointer {
                        let part = merged(message, f, span)?;
                        self.fields(inner, &part, first, depth + 1, out)?;
                    }
                }
                _ if span.count == 0 => self.absent(f, index, first, depth, out)?,
                _ => self.present(f, index, message, span, first, depth, out)?,
            }
        }
        Ok(())
    }

    /// Where the fields of a message are, by position among the wire fields; and which own fields it has, by
    /// declaration order.
    fn index(&self, id: TypeId, message: &[u8]) -> Result<(SmallVec<[Span; 32]>, u128)> {
        let wire = self.table.wire_fields(id);
        let (begin, _) = self.table.get(id).fields;
        let mut spans: SmallVec<[Span; 32]> = SmallVec::new();
        spans.resize(wire.len(), Span::default());
        let mut met = 0;
        let mut w = Wire::new(message);
        while !w.is_empty() {
            let at = w.at as u32;
            let (tag, kind) = w.tag()?;
            if let Some(found) = self.table.by_tag(id, tag) {
                let span = &mut spans[found];
                if span.count == 0 {
                    span.first = at;
                    met |= 1 << (wire[found] - begin);
                }
                span.last = at;
                span.count += 1;
            }
            w.skip(kind)?;
        }
        Ok((spans, met))
    }

    /// Comma and name of a field.
    #[inline]
    fn name(&self, index: usize, first: &mut bool, out: &mut Vec<u8>) {
        let text = self.table.name_text(index);
        out.extend_from_slice(&text[usize::from(std::mem::replace(first, false))..]);
    }

    /// Own fields that a message does not have, embedded structs by value among them.
    fn gap(
        &self,
        id: TypeId,
        range: Range<usize>,
        shown: u128,
        first: &mut bool,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let upto = |n: usize| 1_u128.checked_shl(n as u32).map_or(u128::MAX, |bit| bit - 1);
        let set = (shown | self.table.embedded(id)) & upto(range.end) & !upto(range.start);
        let (begin, _) = self.table.get(id).fields;
        for own in ascending(set) {
            let index = begin as usize + own;
            let f = self.table.field_at(index as u32);
            match f.shape {
                Shape::Struct(inner) if f.flags.inline => self.fields(inner, &[], first, depth + 1, out)?,
                _ => self.absent(f, index, first, depth, out)?,
            }
        }
        Ok(())
    }

    /// A field that JSON shows although the message does not have it.
    fn absent(
        &self,
        f: &Field,
        index: usize,
        first: &mut bool,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.name(index, first, out);
        match f.shape {
            _ if f.flags.pointer => out.extend_from_slice(b"null"),
            Shape::Struct(id) => self.object(id, &[], depth, out)?,
            shape => out.extend_from_slice(zero_text(shape)),
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the state of one pass, kept in registers")]
    fn present(
        &self,
        f: &Field,
        index: usize,
        message: &[u8],
        span: Span,
        first: &mut bool,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match f.shape {
            Shape::List(e) => {
                self.name(index, first, out);
                self.list(f, self.table.elem(e), message, span, depth, out)
            }
            Shape::Map(e) => {
                self.name(index, first, out);
                self.map(f, self.table.elem(e), message, span, depth, out)
            }
            Shape::Struct(id) => {
                let part = merged(message, f, span)?;
                self.name(index, first, out);
                self.object(id, &part, depth, out)
            }
            _ => {
                let mut w = Wire { data: message, at: span.last as usize };
                let (_, kind) = w.tag()?;
                self.scalar(f, index, &mut w, kind, first, depth, out)
            }
        }
    }

    /// A field of one record, left out where Go does so.
    #[expect(clippy::too_many_arguments, reason = "the state of one pass, kept in registers")]
    fn scalar(
        &self,
        f: &Field,
        index: usize,
        w: &mut Wire<'_>,
        kind: u8,
        first: &mut bool,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let start = (out.len(), *first);
        self.name(index, first, out);
        let value = out.len();
        self.value(f, f.shape, w, kind, depth, out)?;
        if omitted(f, &out[value..]) {
            out.truncate(start.0);
            *first = start.1;
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

/// Passes over the records of one field that follow each other.
fn run<'w>(f: &Field, mut w: Wire<'w>, span: &mut Span) -> Result<Wire<'w>> {
    while !w.is_empty() {
        let at = w.at;
        let (tag, kind) = w.tag()?;
        if tag != f.tag {
            w.at = at;
            break;
        }
        w.skip(kind)?;
        span.last = at as u32;
        span.count += 1;
    }
    Ok(w)
}

/// A length-delimited part, which a field must be.
fn bytes<'a>(w: &mut Wire<'a>, kind: u8, f: &Field) -> Result<&'a [u8]> {
    if kind != BYTES {
        return Err(Error::WireType { wire: kind, field: f.name.to_string() });
    }
    w.bytes()
}

/// All occurrences of a message field as one message: concatenation is how protobuf merges.
fn merged<'a>(message: &'a [u8], f: &Field, span: Span) -> Result<Cow<'a, [u8]>> {
    if span.count == 0 {
        return Ok(Cow::Borrowed(&[]));
    }
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
            out.push(b'"');
            out.extend_from_slice(decode::quantity(part)?.as_bytes());
            out.push(b'"');
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
