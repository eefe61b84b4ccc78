//! Formats of names, label keys and label values, with upstream's explanations
//! (apimachinery `pkg/api/validate/content`).
//!
//! Each check returns what is wrong; an empty list means valid. Written without regular expressions because
//! they run for every label of every write.

const LABEL_KEY_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE_FMT: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const DNS1123_LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_SUBDOMAIN_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1035_LABEL_FMT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";

const LABEL_KEY_MSG: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const LABEL_VALUE_MSG: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const DNS1123_LABEL_MSG: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const DNS1123_SUBDOMAIN_MSG: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const DNS1035_LABEL_MSG: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";

/// Longest label key name, label value and DNS label.
pub const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

/// "must be no more than N bytes".
pub fn max_len_error(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// "must be non-empty".
pub fn empty_error() -> String {
    "must be non-empty".to_owned()
}

/// A format explanation with examples and the regular expression, as upstream words it.
pub fn regex_error(msg: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{msg} (regex used for validation is '{regex}')");
    }
    let quoted: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{msg} (e.g. {}regex used for validation is '{regex}')", quoted.join(" or "))
}

fn ends_ok(s: &[u8], end: fn(&u8) -> bool) -> bool {
    s.first().is_some_and(end) && s.last().is_some_and(end)
}

fn lower_or_digit(b: &u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn matches_label_key(s: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    ends_ok(s.as_bytes(), u8::is_ascii_alphanumeric) && s.bytes().all(inner)
}

fn matches_dns_label(s: &str) -> bool {
    ends_ok(s.as_bytes(), lower_or_digit) && s.bytes().all(|b| lower_or_digit(&b) || b == b'-')
}

fn matches_subdomain(s: &str) -> bool {
    s.split('.').all(matches_dns_label)
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

/// A label of a DNS name (RFC 1123), lower case.
pub fn is_dns1123_label(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.len() > LABEL_MAX {
        errs.push(max_len_error(LABEL_MAX));
    }
    if !matches_dns_label(value) {
        errs.push(match matches_subdomain(value) {
            true => "must not contain dots".to_owned(),
            false => regex_error(DNS1123_LABEL_MSG, DNS1123_LABEL_FMT, &["my-name", "123-abc"]),
        });
    }
    errs
}

/// A DNS name (RFC 1123), lower case.
pub fn is_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errs.push(max_len_error(SUBDOMAIN_MAX));
    }
    if !matches_subdomain(value) {
        errs.push(regex_error(DNS1123_SUBDOMAIN_MSG, DNS1123_SUBDOMAIN_FMT, &["example.com"]));
    }
    errs
}

/// A label of a DNS name after RFC 1035: as 1123, but starting with a letter.
pub fn is_dns1035_label(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.len() > LABEL_MAX {
        errs.push(max_len_error(LABEL_MAX));
    }
    if !matches_dns_label(value) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        errs.push(regex_error(DNS1035_LABEL_MSG, DNS1035_LABEL_FMT, &["my-name", "abc-123"]));
    }
    errs
}

/// A label key, also called qualified name: an optional DNS prefix, `/`, and a name.
pub fn is_label_key(value: &str) -> Vec<String> {
    let regex_text = || regex_error(LABEL_KEY_MSG, LABEL_KEY_FMT, &["MyName", "my.name", "123-abc"]);
    let mut errs = Vec::new();
    let (prefix, name) = match value.split_once('/') {
        None => (None, value),
        Some((_, name)) if name.contains('/') => {
            let tail = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {}{tail}", regex_text())];
        }
        Some((prefix, name)) => (Some(prefix), name),
    };
    match prefix {
        None => {}
        Some("") => errs.push(format!("prefix part {}", empty_error())),
        Some(p) => errs.extend(is_dns1123_subdomain(p).iter().map(|e| format!("prefix part {e}"))),
    }
    if name.is_empty() {
        errs.push(format!("name part {}", empty_error()));
    } else if name.len() > LABEL_MAX {
        errs.push(format!("name part {}", max_len_error(LABEL_MAX)));
    }
    if !matches_label_key(name) {
        errs.push(format!("name part {}", regex_text()));
    }
    errs
}

/// The value of a label: empty or up to 63 characters.
pub fn is_label_value(value: &str) -> Vec<String> {
    let mut errs = Vec::new();
    if value.len() > LABEL_MAX {
        errs.push(max_len_error(LABEL_MAX));
    }
    if !value.is_empty() && !matches_label_key(value) {
        errs.push(regex_error(LABEL_VALUE_MSG, LABEL_VALUE_FMT, &["MyValue", "my_value", "12345"]));
    }
    errs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let long = "a".repeat(64);
        for (valid, check) in [
            ("a.b/c_D", is_label_key as fn(&str) -> Vec<String>),
            ("a-1", is_dns1123_label),
            ("1.a-b", is_dns1123_subdomain),
            ("a1", is_dns1035_label),
            ("", is_label_value),
            ("A.b_c", is_label_value),
        ] {
            assert_eq!(check(valid), Vec::<String>::new(), "{valid}");
        }
        for (invalid, check, n) in [
            ("", is_label_key as fn(&str) -> Vec<String>, 2),
            ("/a", is_label_key, 1),
            ("a/b/c", is_label_key, 1),
            ("A/", is_label_key, 3),
            (&long, is_label_value, 1),
            ("a.b", is_dns1123_label, 1),
            ("-a", is_dns1123_subdomain, 1),
            ("a..b", is_dns1123_subdomain, 1),
            ("1a", is_dns1035_label, 1),
        ] {
            assert_eq!(check(invalid).len(), n, "{invalid}");
        }
        assert_eq!(
            is_dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
    }
}
