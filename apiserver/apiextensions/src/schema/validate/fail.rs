//! What a validator finds, before it becomes a field error.

use api::validation::field::{Bad, Error, ErrorKind, Path};
use machinery::Value;

use crate::schema::coerce::bad;

/// Which kind of field error a failure becomes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Code {
    Required,
    Enum(Vec<Value>),
    TooLong(i64),
    TooMany {
        size: i64,
        max: i64,
    },
    Type,
    Other,
    /// Of no single field: printed without a value.
    Composite,
}

/// One failure.
#[derive(Clone, Debug)]
pub(super) struct Fail {
    code: Code,
    name: String,
    value: Option<Value>,
    text: String,
}

impl Fail {
    pub(super) fn new(code: Code, name: &str, value: Option<Value>, text: String) -> Self {
        Fail { code, name: name.to_owned(), value, text }
    }

    pub(super) fn composite(text: String) -> Self {
        Fail::new(Code::Composite, "", None, text)
    }

    /// A value of another type or format; `found` is the type it has, or the text.
    pub(super) fn wrong_type(name: &str, wanted: &str, found: &str) -> Self {
        let text = format!("{name} in body must be of type {wanted}: {}", machinery::golang::quote(found));
        Fail::new(Code::Type, name, Some(found.into()), text)
    }

    /// Upstream keeps each text once.
    fn same(&self, other: &Fail) -> bool {
        self.text == other.text && self.code == other.code && self.name == other.name
    }

    /// Upstream: `kubeOpenAPIResultToFieldErrors`.
    pub(super) fn to_field_error(&self, root: &Path<'_>) -> Error {
        if self.code == Code::Composite {
            return Error::invalid(root, "", self.text.as_str());
        }
        let name = self.name.strip_prefix('.').unwrap_or(&self.name);
        let below;
        let path = match name {
            "" => root,
            name => {
                below = root.child(name);
                &below
            }
        };
        let value = || self.value.as_ref().map_or(Bad::Text(String::new()), bad);
        match &self.code {
            Code::Required => Error::required(path, ""),
            Code::Enum(values) => {
                let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                let texts: Vec<String> = values.iter().map(text).collect();
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                let value = self.value.as_ref().map_or(Bad::Raw("null".into()), bad);
                Error::not_supported(path, value, &texts)
            }
            Code::TooLong(max) => Error::too_long(path, usize::try_from(*max).unwrap_or(0)),
            Code::TooMany { size, max } => {
                let count = |n: i64| usize::try_from(n).unwrap_or(0);
                Error::too_many(path, count(*size), count(*max))
            }
            Code::Type => {
                Error { kind: ErrorKind::TypeInvalid, ..Error::invalid(path, value(), self.text.as_str()) }
            }
            Code::Other | Code::Composite => Error::invalid(path, value(), self.text.as_str()),
        }
    }
}

/// Failures, and how much matched: alternatives are compared by it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) fails: Vec<Fail>,
    pub(super) matches: usize,
}

impl Outcome {
    pub(super) fn add(&mut self, fail: Fail) {
        if !self.fails.iter().any(|f| f.same(&fail)) {
            self.fails.push(fail);
        }
    }

    pub(super) fn merge(&mut self, other: Outcome) {
        other.fails.into_iter().for_each(|f| self.add(f));
        self.matches += other.matches;
    }

    pub(super) fn matched(&mut self) {
        self.matches += 1;
    }
}
