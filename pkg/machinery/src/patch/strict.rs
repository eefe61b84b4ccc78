//! Strict field validation of patches: duplicate and unknown fields with upstream's texts.
//!
//! Upstream: sigs.k8s.io/json (`UnmarshalStrict`): at most 100 problems, each once, in order of the text.

use super::raw;
use crate::golang::quote;
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
        let text = format!("{kind} {}", quote(&join(path, field)));
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
