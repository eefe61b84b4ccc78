//! Field selectors: equality conditions on a few named fields, as in `spec.nodeName=n1,status.phase!=Running`.
//!
//! After apimachinery `pkg/fields/selector.go`. Which fields a kind has is not known here: [`Selector::transform`]
//! is where a resource checks and renames them.

use std::fmt;

/// Why a field selector cannot be read; upstream's texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("invalid selector: '{selector}'; can't understand '{part}'")]
    Term { selector: String, part: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// Upstream prints the character as a number.
    #[error("invalid field selector: unescaped character in value: {}", u32::from(*.0))]
    Unescaped(char),
}

/// Read access to the fields a selector may name. A field that is not there counts as empty.
pub trait Fields {
    fn field(&self, name: &str) -> Option<&str>;
}

impl<K: AsRef<str>, V: AsRef<str>> Fields for [(K, V)] {
    fn field(&self, name: &str) -> Option<&str> {
        self.iter().find(|(k, _)| k.as_ref() == name).map(|(_, v)| v.as_ref())
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Fields for Vec<(K, V)> {
    fn field(&self, name: &str) -> Option<&str> {
        self.as_slice().field(name)
    }
}

impl<V: AsRef<str>> Fields for std::collections::BTreeMap<String, V> {
    fn field(&self, name: &str) -> Option<&str> {
        self.get(name).map(AsRef::as_ref)
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub field: String,
    pub value: String,
    /// `!=` instead of `=`.
    pub negated: bool,
}

impl Requirement {
    pub fn matches<F: Fields + ?Sized>(&self, fields: &F) -> bool {
        (fields.field(&self.field).unwrap_or_default() == self.value) != self.negated
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = if self.negated { "!=" } else { "=" };
        write!(f, "{}{op}{}", self.field, escape(&self.value))
    }
}

/// A conjunction of conditions, or the selector that matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    requirements: Option<Vec<Requirement>>,
}

impl Default for Selector {
    /// Matches everything.
    fn default() -> Self {
        Self::everything()
    }
}

impl Selector {
    pub fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    pub fn nothing() -> Self {
        Self { requirements: None }
    }

    pub fn new(requirements: Vec<Requirement>) -> Self {
        Self { requirements: Some(requirements) }
    }

    /// `field=value`.
    pub fn equal(field: &str, value: &str) -> Self {
        Self::new(vec![Requirement { field: field.into(), value: value.into(), negated: false }])
    }

    pub fn matches<F: Fields + ?Sized>(&self, fields: &F) -> bool {
        self.requirements.as_ref().is_some_and(|all| all.iter().all(|r| r.matches(fields)))
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    pub fn is_nothing(&self) -> bool {
        self.requirements.is_none()
    }

    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }

    /// Both this selector and `other`.
    #[must_use]
    pub fn and(self, other: Selector) -> Self {
        let both = self.requirements.zip(other.requirements);
        Self { requirements: both.map(|(a, b)| a.into_iter().chain(b).collect()) }
    }

    /// The value `field` must have, if the selector demands one.
    pub fn requires_exact_match(&self, field: &str) -> Option<&str> {
        let exact = self.requirements().iter().find(|r| r.field == field && !r.negated);
        exact.map(|r| r.value.as_str())
    }

    /// Renames fields and values. A condition for which `convert` answers two empty texts is dropped.
    pub fn transform<E>(
        self,
        mut convert: impl FnMut(&str, &str) -> Result<(String, String), E>,
    ) -> Result<Self, E> {
        let Some(all) = self.requirements else { return Ok(self) };
        let mut out = Vec::with_capacity(all.len());
        for r in all {
            let (field, value) = convert(&r.field, &r.value)?;
            if !field.is_empty() || !value.is_empty() {
                out.push(Requirement { field, value, negated: r.negated });
            }
        }
        Ok(Self::new(out))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements().iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{r}")?;
        }
        Ok(())
    }
}

/// Puts a backslash before `\`, `,` and `=`.
pub fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn unescape(value: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    return Err(Error::Escape(format!("\\{}", other.map(String::from).unwrap_or_default())));
                }
            },
            ',' | '=' => return Err(Error::Unescaped(c)),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Splits at commas that no backslash precedes.
fn terms(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    term.char_indices().find_map(|(i, _)| {
        let rest = &term[i..];
        let ops = [("!=", true), ("==", false), ("=", false)];
        ops.iter().find_map(|(op, negated)| Some((&term[..i], *negated, rest.strip_prefix(op)?)))
    })
}

/// Reads the text form, as in the `fieldSelector` query parameter. The empty text matches everything.
pub fn parse(text: &str) -> Result<Selector, Error> {
    let mut parts = terms(text);
    parts.sort_unstable();
    let mut out = Vec::new();
    for part in parts.into_iter().filter(|p| !p.is_empty()) {
        let (field, negated, value) = split_term(part)
            .ok_or_else(|| Error::Term { selector: text.to_owned(), part: part.to_owned() })?;
        let value = unescape(value)?;
        // A condition on nothing is none.
        if !field.is_empty() || !value.is_empty() {
            out.push(Requirement { field: field.to_owned(), value, negated });
        }
    }
    Ok(Selector::new(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_print_match() {
        for (input, want) in [
            ("", ""),
            ("b=1,a!=2", "a!=2,b=1"),
            ("a==b", "a=b"),
            ("a=,", "a="),
            (r"a=x\,y\=z\\", r"a=x\,y\=z\\"),
        ] {
            assert_eq!(parse(input).unwrap().to_string(), want, "{input}");
        }
        for (input, want) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
            (r"a=\", r"invalid field selector: invalid escape sequence: \"),
        ] {
            assert_eq!(parse(input).unwrap_err().to_string(), want, "{input}");
        }
        let s = parse("metadata.name=x,spec.nodeName!=").unwrap();
        let fields = [("metadata.name", "x"), ("spec.nodeName", "n")];
        assert!(s.matches(&fields[..]));
        assert!(!s.matches(&fields[..1]));
        assert_eq!(s.requires_exact_match("metadata.name"), Some("x"));
        let t = s.transform(|f, v| Ok::<_, Error>((f.to_uppercase(), v.to_owned()))).unwrap();
        assert_eq!(t.to_string(), "METADATA.NAME=x,SPEC.NODENAME!=");
    }
}
