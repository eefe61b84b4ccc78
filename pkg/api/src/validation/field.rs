//! Field paths and field errors with upstream's rendering.

use std::fmt::{self, Write};

/// Why a field is rejected (`field.ErrorType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A referenced value does not exist.
    NotFound,
    /// A value is missing.
    Required,
    /// A value that must be unique occurs twice.
    Duplicate,
    /// A malformed value.
    Invalid,
    /// Not one of the enumerated values.
    NotSupported,
    /// Not permitted under present conditions.
    Forbidden,
    /// Longer than allowed.
    TooLong,
    /// Shorter than allowed.
    TooShort,
    /// Too many list items.
    TooMany,
    /// Too few list items.
    TooFew,
    /// Not the user's fault.
    Internal,
    /// Wrong type.
    TypeInvalid,
}

impl ErrorKind {
    /// The cause type on the wire.
    pub fn cause(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "FieldValueNotFound",
            ErrorKind::Required => "FieldValueRequired",
            ErrorKind::Duplicate => "FieldValueDuplicate",
            ErrorKind::Invalid => "FieldValueInvalid",
            ErrorKind::NotSupported => "FieldValueNotSupported",
            ErrorKind::Forbidden => "FieldValueForbidden",
            ErrorKind::TooLong => "FieldValueTooLong",
            ErrorKind::TooShort => "FieldValueTooShort",
            ErrorKind::TooMany => "FieldValueTooMany",
            ErrorKind::TooFew => "FieldValueTooFew",
            ErrorKind::Internal => "InternalError",
            ErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "Not found",
            ErrorKind::Required => "Required value",
            ErrorKind::Duplicate => "Duplicate value",
            ErrorKind::Invalid | ErrorKind::TypeInvalid => "Invalid value",
            ErrorKind::NotSupported => "Unsupported value",
            ErrorKind::Forbidden => "Forbidden",
            ErrorKind::TooLong => "Too long",
            ErrorKind::TooShort => "Too short",
            ErrorKind::TooMany => "Too many",
            ErrorKind::TooFew => "Too few",
            ErrorKind::Internal => "Internal error",
        }
    }
}

/// The offending value as it is printed: strings quoted, numbers and booleans bare, the rest as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Printed with Go's `%q`.
    Text(String),
    /// JSON; what means something in HTML is escaped, as Go does.
    Raw(String),
    /// Not printed.
    Omitted,
}

impl Bad {
    /// A value rendered as JSON.
    pub fn json(value: &impl serde::Serialize) -> Self {
        Bad::Raw(serde_json::to_string(value).unwrap_or_default())
    }

    /// A text of a type of its own, which upstream prints as JSON and not with `%q` (`field.Error.ErrorBody`).
    pub fn enumerated(text: &str) -> Self {
        Bad::json(&text)
    }
}

/// JSON as Go prints it, with what means something in HTML escaped: such characters stand in its strings only.
fn html_safe(json: &str) -> String {
    let escapes = [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ];
    escapes.iter().fold(json.to_owned(), |json, (c, escape)| json.replace(*c, escape))
}

impl From<&str> for Bad {
    fn from(text: &str) -> Self {
        Bad::Text(text.to_owned())
    }
}

impl From<&String> for Bad {
    fn from(text: &String) -> Self {
        Bad::Text(text.clone())
    }
}

impl From<String> for Bad {
    fn from(text: String) -> Self {
        Bad::Text(text)
    }
}

macro_rules! raw_bad {
    ($($t:ty),*) => {$(
        impl From<$t> for Bad {
            fn from(value: $t) -> Self {
                Bad::Raw(value.to_string())
            }
        }
    )*};
}
raw_bad!(i32, i64, u32, u64, usize, bool, f64);

/// One rejected field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Why.
    pub kind: ErrorKind,
    /// Path text.
    pub field: String,
    /// The value.
    pub bad: Bad,
    /// Explanation, may be empty.
    pub detail: String,
    /// What tells it.
    pub source: Source,
}

/// What tells an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Hand-written validation.
    Written,
    /// Hand-written validation, but a declarative rule of the type tells the same, and its words are the ones told.
    Covered,
    /// A declarative rule of the type.
    Declared,
}

impl Error {
    fn new(kind: ErrorKind, path: &Path, bad: Bad, detail: impl Into<String>) -> Self {
        Error { kind, field: path.to_string(), bad, detail: detail.into(), source: Source::Written }
    }

    /// The error, told only when the declarative rules do not tell it (`MarkCoveredByDeclarative`).
    pub fn covered(self) -> Self {
        Error { source: Source::Covered, ..self }
    }

    /// A malformed value.
    pub fn invalid(path: &Path, bad: impl Into<Bad>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, path, bad.into(), detail)
    }

    /// A value of the wrong type.
    pub fn type_invalid(path: &Path, bad: impl Into<Bad>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::TypeInvalid, path, bad.into(), detail)
    }

    /// A missing value.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Required, path, Bad::Omitted, detail)
    }

    /// A repeated value.
    pub fn duplicate(path: &Path, bad: impl Into<Bad>) -> Self {
        Self::new(ErrorKind::Duplicate, path, bad.into(), "")
    }

    /// A dangling reference.
    pub fn not_found(path: &Path, bad: impl Into<Bad>) -> Self {
        Self::new(ErrorKind::NotFound, path, bad.into(), "")
    }

    /// Something not permitted now.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, path, Bad::Omitted, detail)
    }

    /// Not among the supported values, which are listed in the order given (upstream sorts sets first).
    pub fn not_supported(path: &Path, bad: impl Into<Bad>, supported: &[&str]) -> Self {
        let detail = if supported.is_empty() {
            String::new()
        } else {
            let quoted: Vec<_> = supported.iter().map(|s| quote(s)).collect();
            format!("supported values: {}", quoted.join(", "))
        };
        Self::new(ErrorKind::NotSupported, path, bad.into(), detail)
    }

    /// More bytes than allowed.
    pub fn too_long(path: &Path, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::new(ErrorKind::TooLong, path, Bad::Omitted, format!("may not be more than {max} {unit}"))
    }

    /// More characters than allowed.
    pub fn too_long_characters(path: &Path, max: usize) -> Self {
        let unit = if max == 1 { "character" } else { "characters" };
        Self::new(ErrorKind::TooLong, path, Bad::Omitted, format!("may not be more than {max} {unit}"))
    }

    /// More items than allowed.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::new(ErrorKind::TooMany, path, actual.into(), format!("must have at most {max} {unit}"))
    }

    /// Fewer items than needed.
    pub fn too_few(path: &Path, actual: usize, min: usize) -> Self {
        let unit = if min == 1 { "item" } else { "items" };
        Self::new(ErrorKind::TooFew, path, actual.into(), format!("must have at least {min} {unit}"))
    }

    /// A failure of the server.
    pub fn internal(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, path, Bad::Omitted, detail)
    }

    /// The message without the path.
    pub fn body(&self) -> String {
        let mut out = self.kind.text().to_owned();
        let prints_value = !matches!(
            self.kind,
            ErrorKind::Required
                | ErrorKind::Forbidden
                | ErrorKind::TooLong
                | ErrorKind::TooShort
                | ErrorKind::Internal
        );
        match &self.bad {
            Bad::Text(text) if prints_value => {
                out.push_str(": ");
                out.push_str(&quote(text));
            }
            Bad::Raw(text) if prints_value => {
                out.push_str(": ");
                out.push_str(&html_safe(text));
            }
            _ => {}
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// Drops hand-written errors whose text was told before. Upstream does so for kinds with declarative validation only, by
/// the way of separating the two (`apimachinery/pkg/util/validation/field` `ErrorList.Filter`).
pub fn without_repeated(errors: Vec<Error>) -> Vec<Error> {
    let mut told = std::collections::HashSet::new();
    errors.into_iter().filter(|e| e.source == Source::Declared || told.insert(e.to_string())).collect()
}

/// Joins errors as upstream's aggregate: one bare, several in brackets, equal texts once.
pub fn aggregate(errors: &[Error]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.len() {
        1 => texts.remove(0),
        _ => format!("[{}]", texts.join(", ")),
    }
}

/// A path such as `spec.containers[0].ports[http].hostPort`. Cheap to extend: the parent is borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// No path at all; renders upstream's `<nil>`.
    pub const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// A path of one name (dots inside are kept).
    pub fn new(name: &'a str) -> Path<'a> {
        Path { parent: None, step: Step::Name(name) }
    }

    /// A field below this one.
    pub fn child<'b>(&'b self, name: &'b str) -> Path<'b>
    where
        'a: 'b,
    {
        Path { parent: Some(self), step: Step::Name(name) }
    }

    /// A list item below this one.
    pub fn index<'b>(&'b self, index: usize) -> Path<'b>
    where
        'a: 'b,
    {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// A map entry below this one.
    pub fn key<'b>(&'b self, key: &'b str) -> Path<'b>
    where
        'a: 'b,
    {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    fn render(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.render(out);
        }
        match self.step {
            Step::Root => {}
            // As Go prints a path of nothing.
            Step::Name("") => out.push_str("[]"),
            Step::Name(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index(index) => {
                let _ = write!(out, "[{index}]");
            }
            Step::Key(key) => {
                out.push('[');
                out.push_str(key);
                out.push(']');
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.render(&mut out);
        f.write_str(if out.is_empty() { "<nil>" } else { &out })
    }
}

/// Go's `strconv.Quote`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
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
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() || c == '\u{feff}' || (c.is_whitespace() && c != ' ') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_render() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let item = containers.index(3);
        assert_eq!(item.child("limits").key("cpu").to_string(), "spec.containers[3].limits[cpu]");
    }

    #[test]
    fn bodies_render() {
        let p = Path::new("a");
        let check = |e: Error, want: &str| assert_eq!(e.to_string(), want);
        check(Error::invalid(&p, "x", "bad"), "a: Invalid value: \"x\": bad");
        check(Error::invalid(&p, 3, "bad"), "a: Invalid value: 3: bad");
        check(Error::required(&p, ""), "a: Required value");
        check(
            Error::not_supported(&p, "z", &["x", "y"]),
            "a: Unsupported value: \"z\": supported values: \"x\", \"y\"",
        );
        check(Error::too_long(&p, 63), "a: Too long: may not be more than 63 bytes");
        check(Error::too_many(&p, 4, 3), "a: Too many: 4: must have at most 3 items");
        check(Error::invalid(&p, "a<b", ""), "a: Invalid value: \"a<b\"");
        check(Error::invalid(&p, Bad::enumerated("a<b"), ""), "a: Invalid value: \"a\\u003cb\"");
        let errors = [Error::required(&p, ""), Error::required(&p, ""), Error::forbidden(&p, "no")];
        assert_eq!(aggregate(&errors), "[a: Required value, a: Forbidden: no]");
        assert_eq!(aggregate(&errors[..2]), "a: Required value");
        assert_eq!(without_repeated(errors.to_vec()).len(), 2);
        let declared = errors.map(|e| Error { source: Source::Declared, ..e });
        assert_eq!(without_repeated(declared.to_vec()).len(), 3);
    }
}
