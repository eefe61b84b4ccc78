//! What a `google.protobuf.Any` packs, as its bytes tell. Fields may be split and come in any order; the last counts.

use super::message::Message;
use super::native::Native;
use super::{Field, Kind, build, get};
use crate::eval::{EvalError, Res};
use crate::val::{MapBuilder, Val};
use machinery::proto::wire::{BYTES, FIXED64, VARINT, Wire};
use std::fmt::Write;
use std::sync::Arc;

const FIXED32: u8 = 5;
/// Messages within each other that are read (Go protowire `DefaultRecursionLimit` allows 10,000, which a stack may not).
const MAX_DEPTH: u32 = 1_000;

/// The value packed. What cannot be read says no more than that, with the message's text.
pub(super) fn unpack<'a>(fields: &[Field]) -> Res<'a> {
    let url = get(fields, "type_url").and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    let bytes = match get(fields, "value") {
        Some(Val::Bytes(b)) => b,
        _ => [].into(),
    };
    packed(&url, &bytes, MAX_DEPTH).unwrap_or_else(|| {
        Err(EvalError::new(format!(
            "unsupported conversion to ref.Val: (*dynamicpb.Message){}",
            text(&url, &bytes, MAX_DEPTH)
        )))
    })
}

fn packed<'a>(url: &str, bytes: &[u8], depth: u32) -> Option<Res<'a>> {
    read(named(url)?, bytes, depth.checked_sub(1)?)
}

/// The message a URL names.
fn named(url: &str) -> Option<Kind> {
    let name = url.rsplit('/').next().unwrap_or_default();
    super::kind(name).filter(|kind| *kind != Kind::StructEntry)
}

/// A message of a kind; nothing if its bytes are none.
fn read<'a>(kind: Kind, bytes: &[u8], depth: u32) -> Option<Res<'a>> {
    match kind {
        Kind::Any => {
            let (url, bytes) = read_any(bytes)?;
            return packed(&url, &bytes, depth);
        }
        Kind::Empty => return Some(Ok(Val::object(Message::empty(unknown(bytes)?)))),
        Kind::Struct => return Some(Ok(structure(bytes, depth)?)),
        Kind::Value => return Some(Ok(value(bytes, depth)?)),
        Kind::ListValue => return Some(Ok(list(bytes, depth)?)),
        _ => {}
    }
    let (names, natives): (&[&str], &[Native]) = match kind {
        Kind::Duration | Kind::Timestamp => (&["seconds", "nanos"], &[Native::Int64, Native::Int32]),
        Kind::Wrapper(native) => (&["value"], &[native]),
        _ => return None,
    };
    let mut fields: Vec<Field> = Vec::new();
    each(bytes, |number, wire, from| {
        let at = (number as usize).wrapping_sub(1);
        let Some(native) = natives.get(at).filter(|native| wire_type(**native) == wire) else {
            return Some(false);
        };
        fields.push((names[at].into(), scalar(*native, from)?));
        Some(true)
    })?;
    Some(build(kind, &fields))
}

fn read_any(bytes: &[u8]) -> Option<(String, Arc<[u8]>)> {
    let mut url = String::new();
    let mut packed: Arc<[u8]> = [].into();
    each(bytes, |number, wire, from| {
        match (number, wire) {
            (1, BYTES) => url = std::str::from_utf8(from.bytes().ok()?).ok()?.to_owned(),
            (2, BYTES) => packed = from.bytes().ok()?.into(),
            _ => return Some(false),
        }
        Some(true)
    })?;
    Some((url, packed))
}

/// Goes over fields; `known` answers whether it took the value, nothing if that is broken.
fn each<'b>(bytes: &'b [u8], mut known: impl FnMut(u32, u8, &mut Wire<'b>) -> Option<bool>) -> Option<()> {
    let mut from = Wire::new(bytes);
    while !from.is_empty() {
        let (number, wire) = from.tag().ok()?;
        if !known(number, wire, &mut from)? {
            from.skip(wire).ok()?;
        }
    }
    Some(())
}

fn unknown(bytes: &[u8]) -> Option<Vec<(u32, Vec<u8>)>> {
    let mut out = Vec::new();
    let mut from = Wire::new(bytes);
    while !from.is_empty() {
        let start = from.at;
        let (number, wire) = from.tag().ok()?;
        from.skip(wire).ok()?;
        out.push((number, bytes[start..from.at].to_vec()));
    }
    Some(out)
}

fn wire_type(native: Native) -> u8 {
    match native {
        Native::Float64 => FIXED64,
        Native::Float32 => FIXED32,
        Native::String | Native::Bytes => BYTES,
        _ => VARINT,
    }
}

fn scalar(native: Native, from: &mut Wire<'_>) -> Option<Val<'static>> {
    Some(match native {
        Native::Bool => Val::Bool(from.varint().ok()? != 0),
        Native::Int64 => Val::Int(from.varint().ok()? as i64),
        Native::Int32 => Val::Int(i64::from(from.varint().ok()? as i32)),
        Native::Uint64 => Val::Uint(from.varint().ok()?),
        Native::Uint32 => Val::Uint(u64::from(from.varint().ok()? as u32)),
        Native::Float64 => Val::Double(f64::from_bits(from.fixed64().ok()?)),
        Native::Float32 => {
            let part = from.data.get(from.at..from.at.checked_add(4)?)?;
            from.at += 4;
            Val::Double(f32::from_le_bytes(part.try_into().ok()?).into())
        }
        Native::String => Val::str(std::str::from_utf8(from.bytes().ok()?).ok()?),
        Native::Bytes => Val::Bytes(from.bytes().ok()?.into()),
        _ => return None,
    })
}

fn structure(bytes: &[u8], depth: u32) -> Option<Val<'static>> {
    let depth = depth.checked_sub(1)?;
    let mut map = MapBuilder::default();
    each(bytes, |number, wire, from| {
        if (number, wire) != (1, BYTES) {
            return Some(false);
        }
        let (mut key, mut held) = (Val::from(""), Val::Null);
        each(from.bytes().ok()?, |number, wire, from| {
            match (number, wire) {
                (1, BYTES) => key = scalar(Native::String, from)?,
                (2, BYTES) => held = value(from.bytes().ok()?, depth)?,
                _ => return Some(false),
            }
            Some(true)
        })?;
        map.set(key, held);
        Some(true)
    })?;
    Some(map.build())
}

fn list(bytes: &[u8], depth: u32) -> Option<Val<'static>> {
    let depth = depth.checked_sub(1)?;
    let mut items = Vec::new();
    each(bytes, |number, wire, from| {
        if (number, wire) != (1, BYTES) {
            return Some(false);
        }
        items.push(value(from.bytes().ok()?, depth)?);
        Some(true)
    })?;
    Some(Val::list(items))
}

fn value(bytes: &[u8], depth: u32) -> Option<Val<'static>> {
    let depth = depth.checked_sub(1)?;
    let mut out = Val::Null;
    each(bytes, |number, wire, from| {
        out = match (number, wire) {
            (1, VARINT) => {
                from.varint().ok()?;
                Val::Null
            }
            (2, FIXED64) => scalar(Native::Float64, from)?,
            (3, BYTES) => scalar(Native::String, from)?,
            (4, VARINT) => scalar(Native::Bool, from)?,
            (5, BYTES) => structure(from.bytes().ok()?, depth)?,
            (6, BYTES) => list(from.bytes().ok()?, depth)?,
            _ => return Some(false),
        };
        Some(true)
    })?;
    Some(out)
}

/// The message as Go prints it (protobuf-go encoding/prototext): what it packs in full if that can be read, which
/// only an `Any` can and be of no use.
fn text(url: &str, bytes: &[u8], depth: u32) -> String {
    let inner = (depth > 0).then(|| named(url)).flatten().filter(|kind| *kind == Kind::Any);
    if let Some((url_inside, inside)) = inner.and_then(|_| read_any(bytes)) {
        return format!("[{url}]:{{{}}}", text(&url_inside, &inside, depth - 1));
    }
    let mut out = String::new();
    if !url.is_empty() {
        let _ = write!(out, "type_url:{}", quote(url.as_bytes()));
    }
    if !bytes.is_empty() {
        let _ = write!(out, "{}value:{}", if out.is_empty() { "" } else { " " }, quote(bytes));
    }
    out
}

fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let _ = match c {
                '"' | '\\' => write!(out, "\\{c}"),
                '\n' => write!(out, "\\n"),
                '\r' => write!(out, "\\r"),
                '\t' => write!(out, "\\t"),
                '\0'..' ' | '\x7f' => write!(out, "\\x{:02x}", c as u32),
                '\u{80}'..'\u{a0}' => write!(out, "\\u{:04x}", c as u32),
                c => write!(out, "{c}"),
            };
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out.push('"');
    out
}
