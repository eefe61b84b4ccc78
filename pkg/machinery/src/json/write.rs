//! Writes JSON byte for byte as Go's `encoding/json` does, HTML characters escaped.

use super::lex::lossy;
use super::plain::{before_escape, is_compact};
use crate::schema::lookup::{Sparse, ascending};
use crate::schema::{Choice, Field, Shape, TypeId, TypeTable};
use crate::value::{Map, Value};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes a string with quotes.
#[inline]
pub fn write_str(s: &str, out: &mut Vec<u8>) {
    let plain = before_escape(s.as_bytes());
    if plain == s.len() {
        return quoted(s.as_bytes(), out);
    }
    out.push(b'"');
    escape(s.as_bytes(), plain, out);
    out.push(b'"');
}

/// Writes bytes that ought to be UTF-8 as a string; each invalid byte becomes `\ufffd`.
#[inline]
pub fn write_bytes_str(bytes: &[u8], out: &mut Vec<u8>) {
    let plain = before_escape(bytes);
    if plain == bytes.len() {
        return quoted(bytes, out);
    }
    write_odd(bytes, plain, out);
}

/// A string of which nothing is escaped.
#[inline]
fn quoted(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    out.extend_from_slice(bytes);
    out.push(b'"');
}

fn write_odd(bytes: &[u8], plain: usize, out: &mut Vec<u8>) {
    out.push(b'"');
    if std::str::from_utf8(&bytes[plain..]).is_ok() {
        escape(bytes, plain, out);
    } else {
        for chunk in bytes.utf8_chunks() {
            let valid = chunk.valid().as_bytes();
            escape(valid, before_escape(valid), out);
            for _ in chunk.invalid() {
                out.extend_from_slice(b"\\ufffd");
            }
        }
    }
    out.push(b'"');
}

/// `bytes` must be valid UTF-8, and the first `plain` of them need no escape.
fn escape(bytes: &[u8], plain: usize, out: &mut Vec<u8>) {
    let mut start = 0;
    let mut i = plain;
    while i < bytes.len() {
        let b = bytes[i];
        if b < 0x80 {
            out.extend_from_slice(&bytes[start..i]);
            escape_ascii(b, out);
            i += 1;
            start = i;
        } else if b == 0xe2
            && bytes.get(i + 1) == Some(&0x80)
            && matches!(bytes.get(i + 2), Some(0xa8 | 0xa9))
        {
            // U+2028 and U+2029, which JavaScript takes for line ends.
            out.extend_from_slice(&bytes[start..i]);
            out.extend_from_slice(b"\\u202");
            out.push(HEX[usize::from(bytes[i + 2] & 0xf)]);
            i += 3;
            start = i;
        } else {
            i += 1;
        }
        i += before_escape(&bytes[i..]);
    }
    out.extend_from_slice(&bytes[start..]);
}

fn escape_ascii(b: u8, out: &mut Vec<u8>) {
    let short = match b {
        b'"' => b'"',
        b'\\' => b'\\',
        8 => b'b',
        12 => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(b >> 4)]);
            out.push(HEX[usize::from(b & 0xf)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

pub fn write_i64(i: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes());
}

/// Writes a float as Go: shortest digits, an exponent only below 1e-6 and from 1e21 on.
pub fn write_f64(f: f64, out: &mut Vec<u8>) {
    let size = f.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{f:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        out.extend_from_slice(digits.as_bytes());
        out.push(b'e');
        if !exponent.starts_with('-') {
            out.push(b'+');
        }
        out.extend_from_slice(exponent.as_bytes());
    } else {
        out.extend_from_slice(format!("{f}").as_bytes());
    }
}

/// Writes JSON text without its spaces and with HTML characters escaped, as Go re-emits raw messages.
pub fn write_compact(raw: &[u8], out: &mut Vec<u8>) {
    if is_compact(raw) {
        return out.extend_from_slice(raw);
    }
    let mut in_string = false;
    let (mut start, mut i) = (0, 0);
    while i < raw.len() {
        match raw[i] {
            b'"' => {
                in_string = !in_string;
                i += 1;
            }
            b'\\' if in_string => i += 2,
            b' ' | b'\t' | b'\r' | b'\n' if !in_string => {
                out.extend_from_slice(&raw[start..i]);
                i += 1;
                start = i;
            }
            b @ (b'<' | b'>' | b'&') => {
                out.extend_from_slice(&raw[start..i]);
                escape_ascii(b, out);
                i += 1;
                start = i;
            }
            0xe2 if raw.get(i + 1) == Some(&0x80) && matches!(raw.get(i + 2), Some(0xa8 | 0xa9)) => {
                out.extend_from_slice(&raw[start..i]);
                out.extend_from_slice(b"\\u202");
                out.push(HEX[usize::from(raw[i + 2] & 0xf)]);
                i += 3;
                start = i;
            }
            _ => i += 1,
        }
    }
    out.extend_from_slice(&raw[start..]);
}

/// Writes a tree without a type: keys in byte order, as Go writes maps.
pub fn write_any(v: &Value, out: &mut Vec<u8>) {
    match v {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(i) => write_i64(*i, out),
        Value::Float(f) => write_f64(*f, out),
        Value::Str(s) => write_str(s, out),
        Value::Raw(b) => write_compact(b, out),
        Value::List(l) => write_list(l, out, write_any),
        Value::Map(m) => write_map(m, out, write_any),
    }
}

fn write_list(items: &[Value], out: &mut Vec<u8>, mut each: impl FnMut(&Value, &mut Vec<u8>)) {
    out.push(b'[');
    for (i, v) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        each(v, out);
    }
    out.push(b']');
}

fn write_map(m: &Map, out: &mut Vec<u8>, mut each: impl FnMut(&Value, &mut Vec<u8>)) {
    out.push(b'{');
    for (i, (k, v)) in m.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_str(k, out);
        out.push(b':');
        each(v, out);
    }
    out.push(b'}');
}

/// Writes a tree as its type: declared order, zero values where Go writes them, unknown entries dropped.
pub fn write_typed(table: &TypeTable, id: TypeId, v: &Value, out: &mut Vec<u8>) {
    if table.get(id).choice.is_some() {
        return write_choice(table, id, v, out);
    }
    let empty = Map::new();
    let m = v.as_map().unwrap_or(&empty);
    let flat = table.flat_ids(id);
    // Positions in the declared order; the map itself is sorted by name.
    let mut met = Sparse::new();
    table.join(id, m, |at, v| met.put(at, v));
    out.push(b'{');
    let mut first = true;
    for at in ascending(met.set() | table.shown_flat(id)) {
        let (index, v) = (flat[at], *met.get(at).unwrap_or(&&Value::Null));
        let f = table.field_at(index);
        if is_omitted(f, v) {
            continue;
        }
        let name = table.name_text(index as usize);
        out.extend_from_slice(&name[usize::from(std::mem::replace(&mut first, false))..]);
        write_field(table, f, v, out);
    }
    out.push(b'}');
}

/// A field name needs no escaping: the table's names are plain.
pub(crate) fn write_name(name: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Whether Go leaves the field out: empty under omitempty, zero under omitzero.
pub(crate) fn is_omitted(f: &Field, v: &Value) -> bool {
    if f.flags.omit_zero && is_zero(f, v) {
        return true;
    }
    f.flags.omit_empty && is_empty(f, v)
}

/// Whether canonical trees hold the value: what JSON shows, empty byte strings, which the wire tells from absent ones,
/// and what is empty in a field that tells it.
pub(crate) fn is_kept(f: &Field, v: &Value) -> bool {
    !is_omitted(f, v) || ((f.shape == Shape::Bytes || f.flags.tells_empty) && !v.is_null())
}

fn is_zero(f: &Field, v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::Str(s) => !f.flags.pointer && s.is_empty(),
        _ => is_empty(f, v),
    }
}

fn is_empty(f: &Field, v: &Value) -> bool {
    if f.flags.pointer {
        return v.is_null();
    }
    match (f.shape, v) {
        (Shape::List(_) | Shape::Wrapped(_), Value::List(l)) => l.is_empty(),
        (Shape::Map(_), Value::Map(m)) => m.is_empty(),
        (Shape::String | Shape::Bytes, Value::Str(s)) => s.is_empty(),
        (Shape::Bool, Value::Bool(b)) => !b,
        (Shape::Int32 | Shape::Int64, Value::Int(i)) => *i == 0,
        (Shape::Double, v) => v.as_f64().is_none_or(|f| f == 0.0),
        // Structs are never empty.
        (
            Shape::Struct(_)
            | Shape::Time
            | Shape::MicroTime
            | Shape::Duration
            | Shape::Quantity
            | Shape::Raw
            | Shape::IntOrString,
            _,
        ) => false,
        (_, v) => v.is_null(),
    }
}

pub(crate) fn write_field(table: &TypeTable, f: &Field, v: &Value, out: &mut Vec<u8>) {
    if v.is_null() && f.flags.pointer {
        out.extend_from_slice(b"null");
    } else {
        write_shape(table, f.shape, v, out);
    }
}

/// Writes a value of a given shape; `Null` is the shape's zero value.
pub fn write_shape(table: &TypeTable, shape: Shape, v: &Value, out: &mut Vec<u8>) {
    match (shape, v) {
        (Shape::Struct(id), Value::Map(_) | Value::Null) => write_typed(table, id, v, out),
        (Shape::Struct(id), _) if table.get(id).choice.is_some() => write_choice(table, id, v, out),
        (Shape::List(e) | Shape::Wrapped(e), Value::List(l)) => {
            let e = table.elem(e);
            write_list(l, out, |v, out| write_shape(table, e, v, out));
        }
        (Shape::Map(e), Value::Map(m)) => {
            let e = table.elem(e);
            write_map(m, out, |v, out| write_shape(table, e, v, out));
        }
        (shape, Value::Null) => out.extend_from_slice(zero_text(shape)),
        // Sub-second digits and other spellings are dropped by reading, not here.
        (_, v) => write_any(v, out),
    }
}

/// What Go writes for the zero value.
pub(crate) fn zero_text(shape: Shape) -> &'static [u8] {
    match shape {
        Shape::String => b"\"\"",
        Shape::Bool => b"false",
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => b"0",
        Shape::Duration => b"\"0s\"",
        Shape::Quantity => b"\"0\"",
        Shape::Struct(_) => b"{}",
        Shape::Bytes
        | Shape::Time
        | Shape::MicroTime
        | Shape::Raw
        | Shape::Any
        | Shape::List(_)
        | Shape::Map(_)
        | Shape::Wrapped(_) => b"null",
    }
}

fn write_choice(table: &TypeTable, id: TypeId, v: &Value, out: &mut Vec<u8>) {
    let schema = choice_schema(table, id);
    match (v, schema) {
        (Value::Map(_), Some(s)) => write_typed(table, s, v, out),
        (Value::List(l), Some(s)) if !l.is_empty() && table.get(id).choice == Some(Choice::Array) => {
            write_list(l, out, |v, out| write_shape(table, Shape::Struct(s), v, out));
        }
        (Value::List(l), _) if l.is_empty() => out.extend_from_slice(b"null"),
        (Value::Null, _) if table.get(id).choice == Some(Choice::Bool) => out.extend_from_slice(b"false"),
        _ => write_any(v, out),
    }
}

/// The schema type of a choice.
pub(crate) fn choice_schema(table: &TypeTable, id: TypeId) -> Option<TypeId> {
    table.own_fields(id).iter().find_map(|f| match f.shape {
        Shape::Struct(s) => Some(s),
        _ => None,
    })
}

/// A string that came from bytes of unknown encoding.
pub(crate) fn lossy_str(bytes: &[u8]) -> crate::value::Str {
    match lossy(bytes) {
        std::borrow::Cow::Borrowed(s) => s.into(),
        std::borrow::Cow::Owned(s) => s.into(),
    }
}
