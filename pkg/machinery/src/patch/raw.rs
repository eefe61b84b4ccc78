//! Reading and writing the skeleton of JSON text: containers are split, everything else stays bytes.
//!
//! Accepts what Go's encoding/json accepts (invalid UTF-8 in strings included), except nesting beyond
//! [`MAX_DEPTH`].

use crate::value::MAX_DEPTH;
use bytes::Bytes;

/// Whether `data` is exactly one JSON value, as Go's `json.Valid` judges.
pub(super) fn valid(data: &[u8]) -> bool {
    let mut s = Scan { data, pos: 0 };
    s.value(0).is_some() && {
        s.space();
        s.pos == data.len()
    }
}

struct Scan<'a> {
    data: &'a [u8],
    pos: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.data.get(self.pos).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.pos += 1;
        }
    }

    fn expect(&mut self, b: u8) -> Option<()> {
        (self.peek()? == b).then(|| self.pos += 1)
    }

    fn word(&mut self, w: &str) -> Option<()> {
        self.data[self.pos..].starts_with(w.as_bytes()).then(|| self.pos += w.len())
    }

    /// Checks one value, leading space included. Recursion is bounded by [`MAX_DEPTH`].
    fn value(&mut self, depth: usize) -> Option<()> {
        self.space();
        match self.peek()? {
            b'{' => self.container(b'}', depth, true),
            b'[' => self.container(b']', depth, false),
            b'"' => self.string(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    fn container(&mut self, close: u8, depth: usize, keyed: bool) -> Option<()> {
        if depth >= MAX_DEPTH {
            return None;
        }
        self.pos += 1;
        self.space();
        if self.expect(close).is_some() {
            return Some(());
        }
        loop {
            if keyed {
                self.space();
                self.string()?;
                self.space();
                self.expect(b':')?;
            }
            self.value(depth + 1)?;
            self.space();
            if self.expect(close).is_some() {
                return Some(());
            }
            self.expect(b',')?;
        }
    }

    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            let b = self.peek()?;
            self.pos += 1;
            match b {
                b'"' => return Some(()),
                0..0x20 => return None,
                b'\\' => {
                    let e = self.peek()?;
                    self.pos += 1;
                    match e {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let hex = self.data.get(self.pos..self.pos + 4)?;
                            if !hex.iter().all(u8::is_ascii_hexdigit) {
                                return None;
                            }
                            self.pos += 4;
                        }
                        _ => return None,
                    }
                }
                _ => {}
            }
        }
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.pos;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.pos += 1;
        }
        (self.pos > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.expect(b'-');
        if self.expect(b'0').is_none() {
            self.digits()?;
        }
        if self.expect(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.pos += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.pos += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// Passes one value of text known to be valid; answers its extent without surrounding space.
    fn skip(&mut self) -> (usize, usize) {
        self.space();
        let start = self.pos;
        let mut depth = 0usize;
        loop {
            match self.peek() {
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.pos += 1;
                }
                Some(b'}' | b']') => {
                    depth = depth.saturating_sub(1);
                    self.pos += 1;
                }
                Some(b'"') => self.skip_string(),
                Some(b',' | b':' | b' ' | b'\t' | b'\r' | b'\n') => self.pos += 1,
                Some(_) => {
                    while self.peek().is_some_and(|b| !b" \t\r\n,:]}".contains(&b)) {
                        self.pos += 1;
                    }
                }
                None => break,
            }
            if depth == 0 {
                break;
            }
        }
        (start, self.pos)
    }

    fn skip_string(&mut self) {
        self.pos += 1;
        while let Some(n) = memchr::memchr2(b'"', b'\\', &self.data[self.pos.min(self.data.len())..]) {
            self.pos += n;
            if self.data[self.pos] == b'"' {
                self.pos += 1;
                return;
            }
            self.pos += 2;
        }
        self.pos = self.data.len();
    }
}

/// The first byte of a value, which tells its type.
pub(super) fn first(raw: &[u8]) -> u8 {
    raw.iter().copied().find(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(b'n')
}

/// The members of an object in order of the text; `None` if the (valid) text is no object.
pub(super) fn members(raw: &Bytes) -> Option<Vec<(String, Bytes)>> {
    if first(raw) != b'{' {
        return None;
    }
    let mut out = Vec::new();
    let mut s = Scan { data: raw, pos: 0 };
    s.space();
    s.pos += 1;
    loop {
        s.space();
        if s.peek() != Some(b'"') {
            return Some(out);
        }
        let start = s.pos;
        s.skip_string();
        let key = string(&raw[start..s.pos]);
        s.space();
        // A document that is not valid ends anywhere.
        s.pos = (s.pos + 1).min(raw.len());
        let (from, to) = s.skip();
        out.push((key, raw.slice(from..to)));
        s.space();
        if s.expect(b',').is_none() {
            return Some(out);
        }
    }
}

/// The elements of an array; `None` if the (valid) text is no array.
pub(super) fn elements(raw: &Bytes) -> Option<Vec<Bytes>> {
    if first(raw) != b'[' {
        return None;
    }
    let mut out = Vec::new();
    let mut s = Scan { data: raw, pos: 0 };
    s.space();
    s.pos += 1;
    loop {
        s.space();
        if matches!(s.peek(), Some(b']') | None) {
            return Some(out);
        }
        let (from, to) = s.skip();
        out.push(raw.slice(from..to));
        s.space();
        if s.expect(b',').is_none() {
            return Some(out);
        }
    }
}

/// The text of a (valid) JSON string literal. Lone surrogates and invalid UTF-8 become U+FFFD, as in Go.
pub(super) fn string(literal: &[u8]) -> String {
    let body = literal.get(1..literal.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', body).is_none() {
        return replace_invalid(body);
    }
    let mut out = Vec::with_capacity(body.len());
    let mut i = 0;
    while i < body.len() {
        if body[i] != b'\\' {
            out.push(body[i]);
            i += 1;
            continue;
        }
        let c = match body.get(i + 1) {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let (c, used) = unicode(&body[i..]);
                i += used;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            Some(&b) => b as char,
            None => break,
        };
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        i += 2;
    }
    replace_invalid(&out)
}

/// Go replaces each invalid byte on its own; `String::from_utf8_lossy` one maximal sequence.
fn replace_invalid(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    out
}

/// Decodes `\uXXXX` (and a following low surrogate); answers the character and the bytes used.
fn unicode(s: &[u8]) -> (char, usize) {
    let unit = |at: usize| {
        let ok = s.get(at) == Some(&b'\\') && s.get(at + 1) == Some(&b'u');
        let hex = ok.then(|| s.get(at + 2..at + 6)).flatten()?;
        u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    };
    let high = unit(0).unwrap_or(0xfffd);
    if (0xd800..0xdc00).contains(&high)
        && let Some(low @ 0xdc00..0xe000) = unit(6)
    {
        let c = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        return (char::from_u32(c).unwrap_or('\u{fffd}'), 12);
    }
    (char::from_u32(high).unwrap_or('\u{fffd}'), 6)
}

/// Appends (valid) JSON text without insignificant space; with `escape`, escaped as Go's `json.Marshal` does.
pub(super) fn compact(raw: &[u8], escape: bool, out: &mut Vec<u8>) {
    let mut in_string = false;
    let mut i = 0;
    while i < raw.len() {
        let b = raw[i];
        match b {
            b'<' | b'>' | b'&' if escape => out.extend_from_slice(format!("\\u00{b:02x}").as_bytes()),
            0xe2 if escape
                && raw.get(i + 1) == Some(&0x80)
                && matches!(raw.get(i + 2), Some(0xa8 | 0xa9)) =>
            {
                out.extend_from_slice(if raw[i + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                i += 2;
            }
            b'"' => {
                in_string = !in_string;
                out.push(b);
            }
            b'\\' => {
                out.push(b);
                i += 1;
                out.extend(raw.get(i));
            }
            b' ' | b'\t' | b'\r' | b'\n' if !in_string => {}
            _ => out.push(b),
        }
        i += 1;
    }
}

/// Appends a string as Go's `json.Marshal` writes it.
pub(super) fn quote(s: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in s.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes());
            }
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// The name Go's decoder gives a JSON value's type in errors.
pub(super) fn type_name(raw: &[u8]) -> &'static str {
    match first(raw) {
        b'{' => "object",
        b'[' => "array",
        b'"' => "string",
        b't' | b'f' => "bool",
        b'n' => "null",
        _ => "number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents are valid; one that is not is read somehow, never beyond its end.
    #[test]
    fn damaged_documents_are_read_to_their_end() {
        for text in [
            "{\"a\":true, \"? false}",
            "{\"a",
            "{\"a\"",
            "{\"a\":",
            "{",
            "[",
            "[1,",
            "{\"a\" \"b\"",
            "[{\"\\",
        ] {
            let raw = Bytes::from_static(text.as_bytes());
            let _ = (members(&raw), elements(&raw));
        }
        let raw = Bytes::from_static(b"{\"a\":1,\"b\" ");
        assert_eq!(members(&raw).map(|m| m.len()), Some(2));
    }
}
