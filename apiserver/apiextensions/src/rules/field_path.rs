//! Paths from a schema to one of its fields: `.spec.replicas`, `.labels['a.b']`.
//! Upstream: `ValidFieldPath` in `schema/cel/validation.go`.

use api::validation::field::Path;

use crate::schema::Schema;

/// What a path may be written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// Names after dots alone.
    Dots,
    /// Also quoted names in brackets.
    Brackets,
}

/// Where a path leads.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The path as errors show it.
    pub path: String,
    /// The schema there.
    pub schema: &'a Schema,
}

const NO_FIELD: &str = "does not refer to a valid field";
const ENDED: &str = "unexpected end of JSON path";

/// Follows a path.
///
/// # Errors
/// What is wrong with its form, or that there is no such field.
pub fn resolve<'a>(path: &str, schema: &'a Schema, notation: Notation) -> Result<Found<'a>, String> {
    let mut found = Found { path: String::new(), schema };
    let mut tokens = Tokens(path);
    while let Some(token) = tokens.next() {
        match token {
            "[" if notation == Notation::Dots => return Err("array notation is not allowed".into()),
            "[" => {
                let quoted = tokens.next().ok_or(ENDED)?;
                let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                let name = unescape(inner).map_err(|e| format!("invalid string literal: {e}"))?;
                found = found.step(&name)?;
                let close = tokens.next().ok_or(ENDED)?;
                if close != "]" {
                    return Err(format!("expected ] but got {close}"));
                }
            }
            "." => found = found.step(tokens.next().ok_or(ENDED)?)?,
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(found)
}

impl<'a> Found<'a> {
    fn step(self, name: &str) -> Result<Found<'a>, String> {
        let base = if self.path.is_empty() { Path::ROOT } else { Path::new(&self.path) };
        if !self.schema.properties.is_empty() {
            let schema = self.schema.properties.get(name).ok_or(NO_FIELD)?;
            return Ok(Found { path: base.child(name).to_string(), schema });
        }
        let schema = self.schema.additional_schema().ok_or(NO_FIELD)?;
        Ok(Found { path: base.key(name).to_string(), schema })
    }
}

/// Dots and brackets by themselves, quoted text with its quotes, and what stands between.
struct Tokens<'p>(&'p str);

impl<'p> Iterator for Tokens<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        let rest = self.0;
        let len = match rest.chars().next()? {
            '.' | '[' | ']' => 1,
            '\'' => {
                let bytes = rest.as_bytes();
                let closes = |i: &usize| bytes[*i] == b'\'' && bytes[*i - 1] != b'\\';
                (1..bytes.len()).find(closes).map_or(rest.len(), |i| i + 1)
            }
            _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
        };
        let (token, rest) = rest.split_at(len);
        self.0 = rest;
        Some(token)
    }
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            None => out.push('\\'),
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some(same @ ('\'' | '\\')) => out.push(same),
            Some(other) => return Err(format!("invalid escape char \\{other}")),
        }
    }
    Ok(out)
}
