//! Formats of names, labels and keys. Each check returns the reasons for a refusal, in upstream's words.
//!
//! Upstream: `apimachinery/pkg/util/validation/validation.go` and `pkg/api/validate/content`. Matchers are written out
//! by hand instead of compiled from the regular expressions that the texts quote: they run on every write.

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_KEY_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_KEY_MSG: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const LABEL_MSG: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const SUBDOMAIN_MSG: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";

/// The longest DNS label.
pub const DNS_LABEL_MAX: usize = 63;
/// The longest DNS subdomain.
pub const DNS_SUBDOMAIN_MAX: usize = 253;

/// Refusals; empty means valid.
pub type Refusals = Vec<String>;

/// Upstream's `RegexError`.
pub fn regex_error(msg: &str, fmt: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{msg} (regex used for validation is '{fmt}')");
    }
    let mut out = format!("{msg} (e.g. ");
    for (i, example) in examples.iter().enumerate() {
        if i > 0 {
            out.push_str(" or ");
        }
        out.push_str(&format!("'{example}', "));
    }
    out.push_str(&format!("regex used for validation is '{fmt}')"));
    out
}

/// "must be no more than N characters".
pub fn max_len(n: usize) -> String {
    format!("must be no more than {n} characters")
}

fn max_bytes(n: usize) -> String {
    format!("must be no more than {n} bytes")
}

/// A lower-case letter or a digit.
pub fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn framed(value: &[u8], edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    match value {
        [] => false,
        [one] => edge(*one),
        [first, mid @ .., last] => edge(*first) && edge(*last) && mid.iter().all(|b| inner(*b)),
    }
}

fn matches_label(value: &str) -> bool {
    framed(value.as_bytes(), is_lower_alnum, |b| is_lower_alnum(b) || b == b'-')
}

fn matches_subdomain(value: &str) -> bool {
    value.split('.').all(matches_label)
}

fn matches_label_key(value: &str) -> bool {
    let edge = |b: u8| b.is_ascii_alphanumeric();
    framed(value.as_bytes(), edge, |b| edge(b) || matches!(b, b'-' | b'_' | b'.'))
}

/// A name that more characters will be put behind: a dash at its end, and what is before it, stand for a letter.
/// Upstream: `api/validation/generic.go`, `maskTrailingDash`.
pub fn mask_trailing_dash(name: &str) -> String {
    match name.len() {
        n if n > 1 && name.ends_with('-') => {
            // What a name must not have anyway may be cut through.
            format!("{}a", &name[..name.floor_char_boundary(n - 2)])
        }
        _ => name.to_owned(),
    }
}

/// A DNS label (RFC 1123).
pub fn dns_label(value: &str) -> Refusals {
    let mut out = Vec::new();
    if value.len() > DNS_LABEL_MAX {
        out.push(max_len(DNS_LABEL_MAX));
    }
    if !matches_label(value) {
        if matches_subdomain(value) {
            out.push("must not contain dots".into());
        } else {
            out.push(regex_error(LABEL_MSG, LABEL_FMT, &["my-name", "123-abc"]));
        }
    }
    out
}

/// A DNS subdomain (RFC 1123).
pub fn dns_subdomain(value: &str) -> Refusals {
    subdomain(value, max_len(DNS_SUBDOMAIN_MAX))
}

fn subdomain(value: &str, too_long: String) -> Refusals {
    let mut out = Vec::new();
    if value.len() > DNS_SUBDOMAIN_MAX {
        out.push(too_long);
    }
    if !matches_subdomain(value) {
        out.push(regex_error(SUBDOMAIN_MSG, SUBDOMAIN_FMT, &["example.com"]));
    }
    out
}

/// A DNS subdomain in which the case of letters does not matter.
pub fn dns_subdomain_caseless(value: &str) -> Refusals {
    let mut out = Vec::new();
    if value.len() > DNS_SUBDOMAIN_MAX {
        out.push(max_len(DNS_SUBDOMAIN_MAX));
    }
    if !matches_subdomain(&value.to_ascii_lowercase()) {
        out.push(regex_error(
            "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN_FMT,
            &["Example.com"],
        ));
    }
    out
}

/// A DNS subdomain whose labels may hold underscores.
pub fn dns_subdomain_with_underscore(value: &str) -> Refusals {
    let mut out = Vec::new();
    if value.len() > DNS_SUBDOMAIN_MAX {
        out.push(max_len(DNS_SUBDOMAIN_MAX));
    }
    let label = |v: &str| {
        let v = v.strip_prefix('_').unwrap_or(v);
        framed(v.as_bytes(), is_lower_alnum, |b| is_lower_alnum(b) || b == b'-' || b == b'_')
    };
    if !value.split('.').all(label) {
        let part = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
        out.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            &format!("{part}(\\.{part})*"),
            &["example.com"],
        ));
    }
    out
}

/// A DNS label that starts with a letter (RFC 1035): service names.
pub fn dns1035_label(value: &str) -> Refusals {
    let mut out = Vec::new();
    if value.len() > DNS_LABEL_MAX {
        out.push(max_len(DNS_LABEL_MAX));
    }
    if !matches_label(value) || !value.as_bytes().first().is_some_and(u8::is_ascii_lowercase) {
        out.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    out
}

/// `*.` followed by a DNS subdomain.
pub fn wildcard_subdomain(value: &str) -> Refusals {
    let mut out = Vec::new();
    if value.len() > DNS_SUBDOMAIN_MAX {
        out.push(max_len(DNS_SUBDOMAIN_MAX));
    }
    if !value.strip_prefix("*.").is_some_and(matches_subdomain) {
        out.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!("\\*\\.{SUBDOMAIN_FMT}"),
            &["*.example.com"],
        ));
    }
    out
}

/// A label key: an optional DNS prefix, a slash, a name. Also used for annotations, finalizers, resource names.
pub fn qualified_name(value: &str) -> Refusals {
    let mut out = Vec::new();
    let examples = ["MyName", "my.name", "123-abc"];
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".into());
            } else {
                let too_long = max_bytes(DNS_SUBDOMAIN_MAX);
                out.extend(subdomain(prefix, too_long).into_iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
        _ => {
            let rule = regex_error(LABEL_KEY_MSG, LABEL_KEY_FMT, &examples);
            return vec![format!(
                "a valid label key {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        out.push(format!("name part {}", max_bytes(63)));
    }
    if !matches_label_key(name) {
        out.push(format!("name part {}", regex_error(LABEL_KEY_MSG, LABEL_KEY_FMT, &examples)));
    }
    out
}

/// A label value.
pub fn label_value(value: &str) -> Refusals {
    let mut out = Vec::new();
    if value.len() > 63 {
        out.push(max_bytes(63));
    }
    if !value.is_empty() && !matches_label_key(value) {
        out.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            &format!("({LABEL_KEY_FMT})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let long = "a".repeat(64);
        for (valid, check) in [
            ("a.b/c_D", qualified_name as fn(&str) -> Refusals),
            ("a-1", dns_label),
            ("1.a-b", dns_subdomain),
            ("a1", dns1035_label),
            ("", label_value),
            ("A.b_c", label_value),
        ] {
            assert_eq!(check(valid), Refusals::new(), "{valid}");
        }
        for (invalid, check, n) in [
            ("", qualified_name as fn(&str) -> Refusals, 2),
            ("/a", qualified_name, 1),
            ("a/b/c", qualified_name, 1),
            ("A/", qualified_name, 3),
            (&long, label_value, 1),
            ("a.b", dns_label, 1),
            ("-a", dns_subdomain, 1),
            ("a..b", dns_subdomain, 1),
            ("1a", dns1035_label, 1),
        ] {
            assert_eq!(check(invalid).len(), n, "{invalid}");
        }
        for (name, want) in [("ab-", "aa"), ("-", "-"), ("a-b", "a-b"), ("é-", "a"), ("--", "a")] {
            assert_eq!(mask_trailing_dash(name), want, "{name}");
        }
    }
}
