//! JSON as upstream reads and writes it.
//!
//! [`decode`] reads bytes as a type of the table into a canonical tree: exactly the entries Go would write for the
//! object, quantities, times and base64 in their one spelling, unknown fields dropped. [`decode_any`] reads without a
//! type. [`encode`] and [`encode_any`] produce Go's bytes. Error texts are those of Go and upstream.

mod any;
mod changed;
mod errors;
mod lex;
mod meta;
mod plain;
mod read;
mod scan;
#[cfg(test)]
mod tests;
mod write;

use crate::schema::{TypeId, TypeTable};
use crate::value::{Str, Value};
use errors::{Abort, Path, Strict};
use lex::Cursor;
use read::Reader;

pub use changed::decode_changed;
pub use errors::Error;
pub(crate) use lex::lossy;
pub use meta::{header, watch_event, with_resource_version};
pub(crate) use read::Met;
pub use scan::check as check_syntax;
pub(crate) use write::{choice_schema, is_kept, is_omitted, lossy_str, write_name, zero_text};
pub use write::{
    write_any, write_bytes_str, write_compact, write_f64, write_i64, write_shape, write_str, write_typed,
};

/// A document that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// Unknown and duplicate fields, in upstream's words; empty unless asked for. At most 100.
    pub strict: Vec<String>,
}

impl Decoded {
    /// `strict decoding error: ...`, if there is anything to say.
    pub fn strict_error(&self) -> Option<String> {
        (!self.strict.is_empty()).then(|| format!("strict decoding error: {}", self.strict.join(", ")))
    }
}

fn explain(data: &[u8], abort: Abort) -> Error {
    Error::Invalid(match abort {
        Abort::Failed(text) => text,
        Abort::Depth => match scan::check(data) {
            Err(e) => e,
            Ok(()) => "exceeded max depth".to_owned(),
        },
        Abort::Syntax => match scan::check(data) {
            Err(e) => e,
            Ok(()) => "malformed JSON".to_owned(),
        },
    })
}

/// Reads a document as the struct `id`. With `strict`, unknown and duplicate fields are collected.
pub fn decode(table: &TypeTable, id: TypeId, data: &[u8], strict: bool) -> Result<Decoded, Error> {
    let mut c = Cursor::whole(data);
    let mut r = Reader { table, strict: Strict::new(strict), saved: None };
    let read = r.root(&mut c, id).and_then(|v| if c.peek().is_none() { Ok(v) } else { Err(Abort::Syntax) });
    let value = match read {
        Ok(v) => v,
        // Upstream checks the whole text before it looks at any value.
        Err(abort @ Abort::Failed(_)) => {
            scan::check(data).map_err(Error::Invalid)?;
            return Err(explain(data, abort));
        }
        Err(abort) => return Err(explain(data, abort)),
    };
    match r.saved {
        Some(text) => Err(Error::Invalid(text)),
        None => Ok(Decoded { value, strict: r.strict.finish() }),
    }
}

/// Reads a document without a type. With `strict`, duplicate fields are collected.
pub fn decode_any(data: &[u8], strict: bool) -> Result<Decoded, Error> {
    let mut c = Cursor::whole(data);
    let strict = Strict::new(strict);
    let mut r = any::AnyReader { strict: &strict, overflow: None };
    let read = r.value(&mut c, &Path::Root, 0);
    let read = read.and_then(|v| if c.peek().is_none() { Ok(v) } else { Err(Abort::Syntax) });
    let value = read.map_err(|abort| explain(data, abort))?;
    match r.overflow {
        Some(text) => {
            Err(Error::Invalid(format!("json: cannot unmarshal number {text} into Go value of type float64")))
        }
        None => Ok(Decoded { value, strict: strict.finish() }),
    }
}

/// Reads a trusted document without a type.
pub fn parse(data: &[u8]) -> Result<Value, Error> {
    Ok(decode_any(data, false)?.value)
}

/// The document's `apiVersion` and `kind`, empty where absent. Checks the whole text, as upstream does first.
pub fn type_meta(data: &[u8]) -> Result<(Str, Str), Error> {
    scan::check(data).map_err(Error::TypeMeta)?;
    let mut c = Cursor::new(data);
    let mut found = [Str::default(), Str::default()];
    let wrong = |what: &str| {
        Error::TypeMeta(format!(
            "json: cannot unmarshal {what} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        ))
    };
    match c.peek() {
        Some(b'{') => c.at += 1,
        Some(b'n') => return Ok((Str::default(), Str::default())),
        Some(b'[') => return Err(wrong("array")),
        Some(b'"') => return Err(wrong("string")),
        Some(b't' | b'f') => return Err(wrong("bool")),
        _ => return Err(wrong("number")),
    }
    while c.peek() == Some(b'"') {
        let broken = || Error::TypeMeta("malformed JSON".to_owned());
        let key = c.string().ok_or_else(broken)?;
        c.expect(b':').ok_or_else(broken)?;
        // Go's own reader, used here, ignores case.
        let slot = match &*key {
            k if k.eq_ignore_ascii_case("apiVersion") => Some((0, "apiVersion")),
            k if k.eq_ignore_ascii_case("kind") => Some((1, "kind")),
            _ => None,
        };
        let raw = c.raw().ok_or_else(broken)?;
        if let Some((slot, name)) = slot {
            match raw.first() {
                Some(b'"') => {
                    let text = Cursor::new(raw).string().ok_or_else(broken)?;
                    found[slot] = text.as_ref().into();
                }
                Some(b'n') => {}
                first => {
                    let what = match first {
                        Some(b'{') => "object",
                        Some(b'[') => "array",
                        Some(b't' | b'f') => "bool",
                        _ => "number",
                    };
                    return Err(Error::TypeMeta(format!(
                        "json: cannot unmarshal {what} into Go struct field .{name} of type string"
                    )));
                }
            }
        }
        if c.peek() == Some(b',') {
            c.at += 1;
            c.peek();
        }
    }
    let [api_version, kind] = found;
    Ok((api_version, kind))
}

/// `kind` and `apiVersion` if they stand first, as every writer of canonical JSON puts them.
fn leading_type_meta(data: &[u8]) -> Option<(Str, Str)> {
    let mut c = Cursor::new(data);
    c.expect(b'{')?;
    let (mut api_version, mut kind) = (None, None);
    for _ in 0..2 {
        let key = c.string()?;
        c.expect(b':')?;
        c.peek()?;
        let slot = match &*key {
            "apiVersion" => &mut api_version,
            "kind" => &mut kind,
            _ => return None,
        };
        *slot = Some(Str::from(c.string()?));
        if c.peek()? == b',' {
            c.at += 1;
        }
    }
    Some((api_version?, kind?))
}

/// Reads a document as the type its own `apiVersion` and `kind` name.
pub fn decode_kind(table: &TypeTable, data: &[u8], strict: bool) -> Result<(TypeId, Decoded), Error> {
    // The usual case needs no pass of its own for the two names. It counts only if nothing later contradicts them;
    // everything odd, errors included, takes the long way.
    if let Some((api_version, kind)) = leading_type_meta(data)
        && let Some(id) = table.kind(&api_version, &kind)
        && let Ok(decoded) = decode(table, id, data, true)
        && decoded.value.get("kind").and_then(Value::as_str) == Some(&kind)
        && decoded.value.get("apiVersion").and_then(Value::as_str) == Some(&api_version)
        && decoded.strict.is_empty()
    {
        return Ok((id, decoded));
    }
    let (api_version, kind) = type_meta(data)?;
    let text = || String::from_utf8_lossy(data).into_owned();
    if kind.is_empty() {
        return Err(Error::MissingKind(text()));
    }
    if api_version.is_empty() {
        return Err(Error::MissingVersion(text()));
    }
    if api_version.matches('/').count() > 1 {
        return Err(Error::GroupVersion(api_version.into()));
    }
    let unknown = || Error::Unknown { kind: kind.to_string(), version: api_version.to_string() };
    let id = table.kind(&api_version, &kind).ok_or_else(unknown)?;
    Ok((id, decode(table, id, data, strict)?))
}

/// The tree in Go's bytes, as the struct `id`, without the newline that upstream's serializer adds.
pub fn encode(table: &TypeTable, id: TypeId, value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write_typed(table, id, value, &mut out);
    out
}

/// The tree in Go's bytes without a type.
pub fn encode_any(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write_any(value, &mut out);
    out
}
