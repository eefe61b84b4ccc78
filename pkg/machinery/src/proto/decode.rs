//! Protobuf to trees in canonical form: the same tree that reading the object's JSON gives.

use super::wire::{BYTES, Error, FIXED64, Result, VARINT, Wire};
use crate::golang;
use crate::json::{Met, choice_schema, lossy_str};
use crate::quantity::Quantity;
use crate::schema::{Choice, Field, Shape, TypeId, TypeTable};
use crate::time::{self, Instant};
use crate::value::{List, MAX_DEPTH, Map, Str, Value};
use smallvec::SmallVec;

/// Messages of struct fields, which may come in several occurrences: rank, type and parts.
type Parts<'a> = SmallVec<[(usize, TypeId, SmallVec<[&'a [u8]; 1]>); 8]>;

/// Decodes the message of a struct, without envelope.
pub fn decode_message(table: &TypeTable, id: TypeId, data: &[u8]) -> Result<Value> {
    structure(table, id, &[data], 0)
}

/// Several occurrences of one message merge, in order.
fn structure(table: &TypeTable, id: TypeId, parts: &[&[u8]], depth: usize) -> Result<Value> {
    if depth >= MAX_DEPTH {
        return Err(Error::Depth(MAX_DEPTH));
    }
    if table.get(id).choice.is_some() {
        return choice(table, id, parts, depth);
    }
    let mut met = Met::new();
    let mut merged = Parts::new();
    for data in parts {
        read(table, id, id, data, &mut met, &mut merged, depth)?;
    }
    for (rank, inner, parts) in merged {
        met.put(rank, structure(table, inner, &parts, depth + 1)?);
    }
    Ok(table.canonical(id, &mut met))
}

/// Reads the fields of `id` (the struct itself or one embedded in it) into what `outer` met.
fn read<'a>(
    table: &TypeTable,
    outer: TypeId,
    id: TypeId,
    data: &'a [u8],
    met: &mut Met,
    merged: &mut Parts<'a>,
    depth: usize,
) -> Result<()> {
    if depth >= MAX_DEPTH {
        return Err(Error::Depth(MAX_DEPTH));
    }
    let mut w = Wire::new(data);
    while !w.is_empty() {
        let (tag, wire) = w.tag()?;
        let Some(found) = table.by_tag(id, tag) else {
            w.skip(wire)?;
            continue;
        };
        let index = table.wire_fields(id)[found];
        let f = table.field_at(index);
        match f.shape {
            Shape::Struct(inner) if f.flags.inline => {
                read(table, outer, inner, part(&mut w, wire, f)?, met, merged, depth + 1)?;
            }
            _ => {
                let at = if id == outer {
                    table.own_position(index)
                } else {
                    table.position(outer, &f.name, usize::MAX)
                };
                let Some(at) = at else {
                    w.skip(wire)?;
                    continue;
                };
                let rank = table.rank(outer, at);
                match f.shape {
                    Shape::Struct(inner) => {
                        let bytes = part(&mut w, wire, f)?;
                        match merged.iter_mut().find(|(r, ..)| *r == rank) {
                            Some((_, _, parts)) => parts.push(bytes),
                            None => merged.push((rank, inner, SmallVec::from_buf([bytes]))),
                        }
                    }
                    _ => field(table, f, &mut w, wire, met.place(rank), depth)?,
                }
            }
        }
    }
    Ok(())
}

/// Decodes one field of a message and skips the others. `None` if it does not occur.
pub(super) fn single(table: &TypeTable, f: &Field, message: &[u8]) -> Result<Option<Value>> {
    let mut w = Wire::new(message);
    let mut found = None;
    while !w.is_empty() {
        match w.tag()? {
            (tag, wire) if tag == f.tag => {
                field(table, f, &mut w, wire, found.get_or_insert(Value::Null), 0)?;
            }
            (_, wire) => w.skip(wire)?,
        }
    }
    Ok(found)
}

fn part<'a>(w: &mut Wire<'a>, wire: u8, f: &Field) -> Result<&'a [u8]> {
    if wire != BYTES {
        return Err(Error::WireType { wire, field: f.name.to_string() });
    }
    w.bytes()
}

fn field(
    table: &TypeTable,
    f: &Field,
    w: &mut Wire<'_>,
    wire: u8,
    place: &mut Value,
    depth: usize,
) -> Result<()> {
    match f.shape {
        Shape::List(e) => {
            let v = value(table, table.elem(e), f, w, wire, depth + 1)?;
            match place {
                Value::List(l) => l.push(v),
                _ => *place = Value::List(List::from(vec![v])),
            }
        }
        Shape::Map(e) => {
            let (k, v) = entry(table, table.elem(e), f, part(w, wire, f)?, depth + 1)?;
            match place {
                Value::Map(m) => {
                    m.insert(k, v);
                }
                _ => *place = Value::Map(Map::from_iter([(k, v)])),
            }
        }
        shape => *place = value(table, shape, f, w, wire, depth)?,
    }
    Ok(())
}

fn entry(table: &TypeTable, elem: Shape, f: &Field, data: &[u8], depth: usize) -> Result<(Str, Value)> {
    let mut w = Wire::new(data);
    let (mut key, mut found) = (Str::default(), None);
    while !w.is_empty() {
        match w.tag()? {
            (1, BYTES) => key = lossy_str(w.bytes()?),
            (2, wire) => found = Some(value(table, elem, f, &mut w, wire, depth)?),
            (_, wire) => w.skip(wire)?,
        }
    }
    let missing = || if elem == Shape::Bytes { Value::Str(Str::const_new("")) } else { table.zero_of(elem) };
    Ok((key, found.unwrap_or_else(missing)))
}

fn value(
    table: &TypeTable,
    shape: Shape,
    f: &Field,
    w: &mut Wire<'_>,
    wire: u8,
    depth: usize,
) -> Result<Value> {
    let want = match shape {
        Shape::Bool | Shape::Int32 | Shape::Int64 => VARINT,
        Shape::Double => FIXED64,
        _ => BYTES,
    };
    if wire != want {
        return Err(Error::WireType { wire, field: f.name.to_string() });
    }
    Ok(match shape {
        Shape::Bool => Value::Bool(w.varint()? != 0),
        Shape::Int32 => Value::Int(i64::from(w.varint()? as i32)),
        Shape::Int64 => Value::Int(w.varint()? as i64),
        Shape::Double => float(w.fixed64()?),
        _ => part_value(table, shape, f, w.bytes()?, depth)?,
    })
}

/// A value that is a part of its own on the wire.
pub(super) fn part_value(
    table: &TypeTable,
    shape: Shape,
    f: &Field,
    data: &[u8],
    depth: usize,
) -> Result<Value> {
    Ok(match shape {
        Shape::String => Value::Str(lossy_str(data)),
        Shape::Bytes => Value::from(golang::encode_base64(data)),
        Shape::Struct(id) => structure(table, id, &[data], depth + 1)?,
        Shape::Wrapped(e) | Shape::List(e) => {
            let mut inner = Wire::new(data);
            let mut out = Vec::new();
            while !inner.is_empty() {
                match inner.tag()? {
                    (1, wire) => out.push(value(table, table.elem(e), f, &mut inner, wire, depth + 1)?),
                    (_, wire) => inner.skip(wire)?,
                }
            }
            Value::List(List::from(out))
        }
        Shape::Time | Shape::MicroTime => match instant(data)? {
            t if t.is_zero() => Value::Null,
            // A year without four digits could not be read back from its text.
            t if !time::YEARS.contains(&t.seconds) => {
                return Err(Error::Part {
                    what: "a time",
                    why: format!("{} seconds are out of range", t.seconds),
                });
            }
            t if shape == Shape::MicroTime => time::format_micro(t).into(),
            t => time::format_rfc3339(t.seconds).into(),
        },
        Shape::Duration => time::format_duration(duration(data)?).into(),
        Shape::Quantity => Value::Str(quantity(data)?),
        Shape::IntOrString => match int_or_string(data)? {
            IntOrStr::Int(i) => Value::Int(i64::from(i)),
            IntOrStr::Str(s) => Value::Str(lossy_str(s)),
        },
        Shape::Raw => match raw(data)? {
            Some(b) => {
                // What is put into a document as it is must be one value. Upstream finds out when it writes the document.
                crate::json::check_syntax(b).map_err(|why| Error::Part {
                    what: "the JSON",
                    why: format!("field {}: {why}", f.name),
                })?;
                Value::Raw(b.into())
            }
            None => Value::Null,
        },
        Shape::Any | Shape::Map(_) => Value::Null,
        Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Double => {
            return Err(Error::WireType { wire: BYTES, field: f.name.to_string() });
        }
    })
}

/// JSON has no NaN and no infinity; upstream fails to write such an object, ours reads them as zero.
pub(super) fn float(bits: u64) -> Value {
    let f = f64::from_bits(bits);
    Value::Float(if f.is_finite() { f } else { 0.0 })
}

/// The message of a time: seconds and nanoseconds. An empty one is Go's zero time.
pub(super) fn instant(data: &[u8]) -> Result<Instant> {
    if data.is_empty() {
        return Ok(Instant::ZERO);
    }
    let mut w = Wire::new(data);
    let (mut seconds, mut nanos) = (0, 0);
    while !w.is_empty() {
        match w.tag()? {
            (1, VARINT) => seconds = w.varint()? as i64,
            (2, VARINT) => nanos = w.varint()? as i32,
            (_, wire) => w.skip(wire)?,
        }
    }
    // Nanoseconds beyond a second carry over, as time.Unix does.
    let nanos = i64::from(nanos) / 1000 * 1000;
    let carried = seconds.wrapping_add(nanos.div_euclid(1_000_000_000));
    Ok(Instant { seconds: carried, nanos: nanos.rem_euclid(1_000_000_000) as u32 })
}

pub(super) fn duration(data: &[u8]) -> Result<i64> {
    let mut w = Wire::new(data);
    let mut nanos = 0;
    while !w.is_empty() {
        match w.tag()? {
            (1, VARINT) => nanos = w.varint()? as i64,
            (_, wire) => w.skip(wire)?,
        }
    }
    Ok(nanos)
}

/// A quantity in canonical form, checked as upstream's reader does.
pub(super) fn quantity(data: &[u8]) -> Result<Str> {
    let mut w = Wire::new(data);
    let mut text: &[u8] = b"0";
    while !w.is_empty() {
        match w.tag()? {
            (1, BYTES) => text = w.bytes()?,
            (_, wire) => w.skip(wire)?,
        }
    }
    let part = |why: String| Error::Part { what: "a quantity", why };
    let text = std::str::from_utf8(text).map_err(|e| part(e.to_string()))?;
    if Quantity::is_settled(text) {
        return Ok(text.into());
    }
    let parsed = Quantity::parse(text).map_err(|e| part(e.to_string()))?;
    Ok(compact_str::ToCompactString::to_compact_string(&parsed))
}

pub(super) enum IntOrStr<'a> {
    Int(i32),
    Str(&'a [u8]),
}

pub(super) fn int_or_string(data: &[u8]) -> Result<IntOrStr<'_>> {
    let mut w = Wire::new(data);
    let (mut kind, mut int, mut text): (u64, i32, &[u8]) = (0, 0, b"");
    while !w.is_empty() {
        match w.tag()? {
            (1, VARINT) => kind = w.varint()?,
            (2, VARINT) => int = w.varint()? as i32,
            (3, BYTES) => text = w.bytes()?,
            (_, wire) => w.skip(wire)?,
        }
    }
    Ok(if kind == 0 { IntOrStr::Int(int) } else { IntOrStr::Str(text) })
}

/// The JSON inside a RawExtension and its likes, not looked at. No text reads as absent.
pub(super) fn raw(data: &[u8]) -> Result<Option<&[u8]>> {
    let mut w = Wire::new(data);
    let mut found = None;
    while !w.is_empty() {
        match w.tag()? {
            (1, BYTES) => found = Some(w.bytes()?),
            (_, wire) => w.skip(wire)?,
        }
    }
    Ok(found.filter(|b| !b.is_empty()))
}

fn choice(table: &TypeTable, id: TypeId, parts: &[&[u8]], depth: usize) -> Result<Value> {
    let (Some(kind), Some(schema)) = (table.get(id).choice, choice_schema(table, id)) else {
        return Ok(Value::Null);
    };
    let (mut schemas, mut list, mut allows) = (Vec::new(), Vec::new(), false);
    for data in parts {
        let mut w = Wire::new(data);
        while !w.is_empty() {
            match (kind, w.tag()?) {
                (Choice::Bool, (1, VARINT)) => allows = w.varint()? != 0,
                (Choice::Bool, (2, BYTES)) | (_, (1, BYTES)) => schemas.push(w.bytes()?),
                (Choice::Array, (2, BYTES)) => {
                    list.push(structure(table, schema, &[w.bytes()?], depth + 2)?);
                }
                (Choice::StringArray, (2, BYTES)) => list.push(Value::Str(lossy_str(w.bytes()?))),
                (_, (_, wire)) => w.skip(wire)?,
            }
        }
    }
    Ok(match kind {
        _ if !list.is_empty() => Value::List(List::from(list)),
        _ if !schemas.is_empty() => structure(table, schema, &schemas, depth + 1)?,
        Choice::Bool => Value::Bool(allows),
        // Present and empty, which is not the same as absent.
        _ => Value::List(List::new()),
    })
}
