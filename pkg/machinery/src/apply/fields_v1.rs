//! The JSON form of sets: `metadata.managedFields[].fieldsV1`.
//!
//! Upstream: structured-merge-diff fieldpath/serialize.go and serialize-pe.go. Members are keys, `.` marks a set
//! that is itself a member; keys are `f:`, `k:`, `v:` and `i:`, sorted. Unknown kinds of keys are dropped.

use super::path::PathElement;
use super::set::Set;
use crate::patch::show::float;
use crate::value::{MAX_DEPTH, Str, Value};
use std::fmt::Write;

impl Set {
    /// The JSON text of the set, as upstream writes it.
    pub fn to_json(&self) -> String {
        let mut out = String::from("{");
        self.write(false, &mut out);
        out.push('}');
        out
    }

    fn write(&self, include_self: bool, out: &mut String) {
        let mut first = true;
        let mut next = |out: &mut String| {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
        };
        if include_self && !(self.members.is_empty() && self.children.is_empty()) {
            next(out);
            out.push_str("\".\":{}");
        }
        let (mut members, mut children) = (self.members.iter().peekable(), self.children.iter().peekable());
        loop {
            let order = match (members.peek(), children.peek()) {
                (None, None) => return,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(m), Some(c)) => m.cmp(&&c.0),
            };
            let member = order.is_le().then(|| members.next()).flatten();
            let child = order.is_ge().then(|| children.next()).flatten();
            if let Some(element) = member.or(child.map(|c| &c.0)) {
                next(out);
                write_key(element, out);
                out.push_str(":{");
            }
            if let Some((_, set)) = child {
                set.write(member.is_some(), out);
            }
            out.push('}');
        }
    }

    /// Reads the JSON text of a set.
    pub fn from_json(text: &[u8]) -> Result<Set, String> {
        let text = std::str::from_utf8(text).map_err(|e| format!("the set is not UTF-8: {e}"))?;
        let mut p = Parser { text, pos: 0 };
        let (set, _) = p.set(0)?;
        p.space();
        if p.pos < text.len() {
            return Err(p.error("unexpected trailing data after JSON object"));
        }
        Ok(set.unwrap_or_default())
    }
}

/// The key of a field, quoted.
pub(super) fn write_field(name: &str, out: &mut String) {
    out.push_str("\"f:");
    write_text(name, false, out);
    out.push('"');
}

/// The key of an element, quoted.
pub(super) fn write_key(element: &PathElement, out: &mut String) {
    match element {
        PathElement::Field(name) => write_field(name, out),
        PathElement::Key(keys) if keys.iter().all(|(name, v)| is_plain(name) && is_plain_value(v)) => {
            out.push_str("\"k:{");
            for (i, (name, v)) in keys.iter().enumerate() {
                out.push_str(if i > 0 { ",\\\"" } else { "\\\"" });
                out.push_str(name);
                out.push_str("\\\":");
                match v {
                    Value::Int(v) => out.push_str(itoa::Buffer::new().format(*v)),
                    v => {
                        out.push_str("\\\"");
                        out.push_str(v.as_str().unwrap_or_default());
                        out.push_str("\\\"");
                    }
                }
            }
            out.push_str("}\"");
        }
        other => write_string(&element_key(other), false, out),
    }
}

/// The key of an element, not yet quoted.
fn element_key(element: &PathElement) -> String {
    match element {
        PathElement::Field(name) => format!("f:{name}"),
        PathElement::Index(i) => format!("i:{i}"),
        PathElement::Value(v) => {
            let mut out = String::from("v:");
            write_value(v, &mut out);
            out
        }
        PathElement::Key(keys) => {
            let mut out = String::from("k:{");
            for (i, (name, v)) in keys.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(name, false, &mut out);
                out.push(':');
                write_value(v, &mut out);
            }
            out.push('}');
            out
        }
    }
}

/// Quotes as upstream's JSON library does: values with `<`, `>`, `&` escaped, keys without.
fn write_string(s: &str, html: bool, out: &mut String) {
    out.push('"');
    write_text(s, html, out);
    out.push('"');
}

/// Whether a text needs no escapes, however often it is quoted.
fn is_plain(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'/' | b'_' | b':'))
}

fn is_plain_value(v: &Value) -> bool {
    match v {
        Value::Int(_) => true,
        Value::Str(s) => is_plain(s),
        _ => false,
    }
}

fn write_text(s: &str, html: bool, out: &mut String) {
    // Names, nearly always.
    if is_plain(s) {
        return out.push_str(s);
    }
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..' ' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' if html => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
}

fn write_value(v: &Value, out: &mut String) {
    match v {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => {
            let _ = write!(out, "{i}");
        }
        Value::Float(f) => write_float(*f, out),
        Value::Str(s) => write_string(s, true, out),
        Value::Raw(raw) => out.push_str(&String::from_utf8_lossy(raw)),
        Value::List(l) => {
            out.push('[');
            for (i, v) in l.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(v, out);
            }
            out.push(']');
        }
        Value::Map(m) => {
            out.push('{');
            for (i, (k, v)) in m.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(k, true, out);
                out.push(':');
                write_value(v, out);
            }
            out.push('}');
        }
    }
}

/// A float as Go's encoding/json writes it: exponents only below 1e-6 and from 1e21 on.
fn write_float(f: f64, out: &mut String) {
    let size = f.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = float(f);
        // e-09 becomes e-9.
        out.push_str(&text.replace("e-0", "e-").replace("e+0", "e+"));
        return;
    }
    let _ = write!(out, "{f}");
}

struct Parser<'a> {
    text: &'a str,
    pos: usize,
}

impl Parser<'_> {
    fn error(&self, what: &str) -> String {
        format!("{what} at offset {} of the set", self.pos)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.pos += 1;
        }
    }

    fn eat(&mut self, b: u8) -> bool {
        self.space();
        let found = self.peek() == Some(b);
        self.pos += usize::from(found);
        found
    }

    /// A subset, and whether its element is itself a member.
    fn set(&mut self, depth: usize) -> Result<(Option<Set>, bool), String> {
        if depth > MAX_DEPTH {
            return Err(self.error("exceeded max depth"));
        }
        self.space();
        if self.text[self.pos..].starts_with("null") {
            self.pos += 4;
            return Ok((None, true));
        }
        if !self.eat(b'{') {
            return Err(self.error("expected an object"));
        }
        let (mut set, mut is_member): (Option<Set>, bool) = (None, false);
        if self.eat(b'}') {
            return Ok((None, true));
        }
        loop {
            let key = self.string()?;
            if !self.eat(b':') {
                return Err(self.error("expected ':'"));
            }
            match (key.as_str(), parse_element(&key)?) {
                (".", _) => {
                    is_member = true;
                    self.skip()?;
                }
                (_, None) => self.skip()?,
                (_, Some(element)) => {
                    let (below, member) = self.set(depth + 1)?;
                    if let Some(below) = below {
                        set.get_or_insert_default().set_child(element.clone(), below);
                    }
                    if member {
                        set.get_or_insert_default().insert_member(element);
                    }
                }
            }
            if self.eat(b'}') {
                let is_member = is_member || set.is_none();
                return Ok((set, is_member));
            }
            if !self.eat(b',') {
                return Err(self.error("expected ',' or '}'"));
            }
        }
    }

    fn string(&mut self) -> Result<Str, String> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.error("expected a string"));
        }
        let start = self.pos + 1;
        let bytes = self.text.as_bytes();
        let mut end = start;
        let mut escaped = false;
        loop {
            match bytes.get(end) {
                None => return Err(self.error("unterminated string")),
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    end += 2;
                }
                Some(_) => end += 1,
            }
        }
        self.pos = end + 1;
        let literal = self.text.get(start - 1..=end).ok_or_else(|| self.error("bad string"))?;
        if !escaped {
            return Ok(Str::from(&literal[1..literal.len() - 1]));
        }
        match crate::json::parse(literal.as_bytes()) {
            Ok(Value::Str(text)) => Ok(text),
            _ => Err(self.error("bad string")),
        }
    }

    /// Passes one value of any type.
    fn skip(&mut self) -> Result<(), String> {
        let mut stream =
            serde_json::Deserializer::from_str(&self.text[self.pos..]).into_iter::<serde::de::IgnoredAny>();
        match stream.next() {
            Some(Ok(_)) => {
                self.pos += stream.byte_offset();
                Ok(())
            }
            _ => Err(self.error("bad value")),
        }
    }
}

/// The element a key stands for; none for kinds this version does not know.
fn parse_element(key: &str) -> Result<Option<PathElement>, String> {
    if key == "." {
        return Ok(None);
    }
    if key.len() < 2 {
        return Err("key must be 2 characters long:".into());
    }
    let (Some(kind), Some(b':')) = (key.as_bytes().first(), key.as_bytes().get(1)) else {
        return Err(format!("missing colon: {key}"));
    };
    let rest = key.get(2..).unwrap_or_default();
    let json = || -> Result<Value, String> {
        let v = crate::json::parse(rest.as_bytes()).map_err(|e| format!("bad path element {key}: {e}"))?;
        Ok(floats(v))
    };
    Ok(match kind {
        b'f' => Some(PathElement::Field(rest.into())),
        b'v' => Some(PathElement::Value(json()?)),
        b'k' => match json()? {
            Value::Map(m) => Some(PathElement::Key(m.into_iter().collect())),
            _ => return Err(format!("bad path element {key}: expected an object")),
        },
        b'i' => match rest.parse() {
            Ok(i) => Some(PathElement::Index(i)),
            Err(_) => return Err(format!("bad path element {key}: expected a number")),
        },
        _ => None,
    })
}

/// Upstream reads numbers of keys as floats; large ones lose digits.
fn floats(v: Value) -> Value {
    const EXACT: i64 = 1 << 53;
    match v {
        Value::Int(i) if !(-EXACT..=EXACT).contains(&i) => Value::Float(i as f64),
        Value::List(l) => Value::List(l.into_iter().map(floats).collect()),
        Value::Map(m) => Value::Map(m.into_iter().map(|(k, v)| (k, floats(v))).collect()),
        v => v,
    }
}

#[cfg(test)]
mod tests {
    use super::Set;

    fn check(input: &str, expected: &str) {
        assert_eq!(Set::from_json(input.as_bytes()).unwrap().to_json(), expected);
    }

    #[test]
    fn round_trips() {
        for text in [
            "{}",
            r#"{"f:data":{".":{},"f:a":{}}}"#,
            r#"{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}"#,
            r#"{"f:a":{"v:\"x\"":{},"v:1":{},"v:true":{}}}"#.replace(r#""v:\"x\"":{},"v:1":{}"#, r#""v:1":{},"v:\"x\"":{}"#).as_str(),
            r#"{"f:metadata":{"f:ann<x>":{"i:0":{}}}}"#,
        ] {
            check(text, text);
        }
        check(r#"{ "f:b":{}, "f:a":{".":{}}, "z:new":{"x":[1]} }"#, r#"{"f:a":{},"f:b":{}}"#);
        check("null", "{}");
    }

    #[test]
    fn hostile_text_is_an_error() {
        for text in
            ["", "{", "[]", r#"{"f:a"}"#, r#"{"x":{}}"#, r#"{"f:a":1}"#, "{}{}", r#"{"k:[]":{}}"#, r#"{"f:\"#]
        {
            assert!(Set::from_json(text.as_bytes()).is_err(), "{text}");
        }
        let deep = r#"{"f:a":"#.repeat(100_000);
        assert!(Set::from_json(deep.as_bytes()).is_err());
    }
}
