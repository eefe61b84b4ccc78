//! Strict field validation of patches: duplicate and unknown fields with upstream's texts.
//!
//! Upstream: sigs.k8s.io/json (`UnmarshalStrict`): at most 100 problems, each once, in order of the text.

use super::raw;
use bytes::Bytes;
use std::collections::{BTreeSet, HashSet};

/// The most problems reported.
const MAX_ERRORS: usize = 100;

const OPERATION_FIELDS: [&str; 4] = ["op", "path", "from", "value"];

#[derive(Default)]
struct Report {
    errors: Vec<String>,
    seen: HashSet<String>,
}

impl Report {
    fn add(&mut self, kind: &str, path: Option<&str>, field: &str) {
        let text = format!("{kind} {}", go_quote(&join(path, field)));
        if self.errors.len() < MAX_ERRORS && self.seen.insert(text.clone()) {
            self.errors.push(text);
        }
    }
}

/// The path of a member; `None` is the root (an empty name is a name).
fn join(path: Option<&str>, field: &str) -> String {
    match path {
        Some(path) => format!("{path}.{field}"),
        None => field.to_string(),
    }
}

/// Duplicate fields anywhere in the text.
pub(super) fn duplicates(text: &Bytes) -> Vec<String> {
    let mut report = Report::default();
    walk(text, None, &mut report);
    report.errors
}

/// Duplicate and unknown fields of a JSON patch.
pub(super) fn operations(text: &Bytes) -> Vec<String> {
    let mut report = Report::default();
    for (i, op) in raw::elements(text).unwrap_or_default().iter().enumerate() {
        let path = format!("[{i}]");
        let mut seen = BTreeSet::new();
        for (key, value) in raw::members(op).unwrap_or_default() {
            if !OPERATION_FIELDS.contains(&key.as_str()) {
                report.add("unknown field", Some(&path), &key);
                continue;
            }
            if !seen.insert(key.clone()) {
                report.add("duplicate field", Some(&path), &key);
            }
            walk(&value, Some(&join(Some(&path), &key)), &mut report);
        }
    }
    report.errors
}

fn walk(text: &Bytes, path: Option<&str>, report: &mut Report) {
    if let Some(members) = raw::members(text) {
        let mut seen = BTreeSet::new();
        for (key, value) in members {
            if seen.contains(&key) {
                report.add("duplicate field", path, &key);
            }
            walk(&value, Some(&join(path, &key)), report);
            seen.insert(key);
        }
    } else if let Some(items) = raw::elements(text) {
        for (i, item) in items.iter().enumerate() {
            walk(item, Some(&format!("{}[{i}]", path.unwrap_or_default())), report);
        }
    }
}

/// The text in Go's `strconv.Quote` form.
pub(crate) fn go_quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\0'..' ' | '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_print(c) => out.push(c),
            c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// Close to Go's `strconv.IsPrint`: what no control, separator, format or private character is.
fn is_print(c: char) -> bool {
    let odd_space = c.is_whitespace() && c != ' ';
    let format = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let private = matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..);
    !(c.is_control() || odd_space || format || private)
}
