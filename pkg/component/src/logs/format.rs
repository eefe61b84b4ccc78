//! The two line formats. Upstream: klog/v2 internal/buffer and internal/serialize; component-base/logs/json.

use std::fmt::Write;
use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::record::{FieldValue, Record};
use machinery::golang::push_quoted;

/// `--logging-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// klog's text.
    Text,
    /// One JSON object per line.
    Json,
}

impl Format {
    /// Appends the line of `record`, line break included.
    pub(super) fn write(self, out: &mut String, record: &Record, now: Timestamp) {
        match self {
            Format::Text => text(out, record, now),
            Format::Json => json(out, record, now),
        }
    }
}

fn zone() -> &'static TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(TimeZone::system)
}

fn text(out: &mut String, record: &Record, now: Timestamp) {
    let at = zone().to_datetime(now);
    let _ = write!(
        out,
        "{}{:02}{:02} {:02}:{:02}:{:02}.{:06} {:7} {}:{}] ",
        record.severity,
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.subsec_nanosecond() / 1_000,
        std::process::id(),
        record.file,
        record.line,
    );
    push_quoted(out, &record.message);
    for (key, value) in &record.fields {
        out.push(' ');
        out.push_str(key);
        match value {
            FieldValue::Bare(text) => {
                out.push('=');
                out.push_str(text);
            }
            FieldValue::Text(text) if text.contains('\n') => multi_line(out, text),
            FieldValue::Text(text) => {
                out.push('=');
                push_quoted(out, text);
            }
        }
    }
    out.push('\n');
}

/// `key=<`, the value's lines behind a tab each, ` >`.
fn multi_line(out: &mut String, text: &str) {
    out.push_str("=<\n");
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\t');
        out.push_str(line);
        out.push('\n');
    }
    out.push_str(" >");
}

fn json(out: &mut String, record: &Record, now: Timestamp) {
    let micros = now.as_microsecond();
    let _ = write!(out, "{{\"ts\":{}.{:03},\"caller\":", micros / 1_000, micros.rem_euclid(1_000));
    push_json(out, &format!("{}:{}", record.file, record.line));
    out.push_str(",\"msg\":");
    push_json(out, &record.message);
    if !record.severe() {
        let _ = write!(out, ",\"v\":{}", record.verbosity);
    }
    for (key, value) in &record.fields {
        out.push(',');
        push_json(out, key);
        out.push(':');
        match value {
            FieldValue::Bare(text) => out.push_str(text),
            FieldValue::Text(text) => push_json(out, text),
        }
    }
    out.push_str("}\n");
}

fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
