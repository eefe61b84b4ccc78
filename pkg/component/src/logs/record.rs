//! One log event with its fields in order.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

/// A field's value in the shape both formats need.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum FieldValue {
    /// Quoted in both formats.
    Text(String),
    /// Bare in both formats.
    Bare(String),
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) severity: char,
    pub(super) file: &'static str,
    pub(super) line: u32,
    pub(super) message: String,
    pub(super) verbosity: i64,
    pub(super) fields: Vec<(&'static str, FieldValue)>,
}

impl Record {
    pub(super) fn new(metadata: &'static Metadata<'static>, level: i32) -> Self {
        let severity = match *metadata.level() {
            Level::ERROR => 'E',
            Level::WARN => 'W',
            _ => 'I',
        };
        let path = metadata.file().unwrap_or("");
        Record {
            severity,
            file: path.rsplit('/').next().unwrap_or(path),
            line: metadata.line().unwrap_or(0),
            message: String::new(),
            verbosity: i64::from(level),
            fields: Vec::new(),
        }
    }

    /// Whether it belongs on the error stream when streams are split.
    pub(super) fn severe(&self) -> bool {
        self.severity == 'E'
    }

    fn push(&mut self, field: &Field, value: FieldValue) {
        match (field.name(), value) {
            ("message", FieldValue::Text(text) | FieldValue::Bare(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, FieldValue::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, FieldValue::Text(value.to_string()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        // The whole chain: causes are not part of our errors' own texts.
        let mut text = value.to_string();
        let mut source = value.source();
        for _ in 0..16 {
            let Some(cause) = source else { break };
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        self.push(field, FieldValue::Text(text));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "v" {
            self.verbosity = value;
        } else {
            self.push(field, FieldValue::Bare(value.to_string()));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, FieldValue::Bare(value.to_string()));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.push(field, FieldValue::Bare(value.to_string()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.push(field, FieldValue::Bare(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, FieldValue::Bare(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let value = if value.is_finite() {
            FieldValue::Bare(value.to_string())
        } else {
            FieldValue::Text(value.to_string())
        };
        self.push(field, value);
    }
}
