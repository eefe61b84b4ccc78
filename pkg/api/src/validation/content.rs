//! Formats of names, labels and keys. Each check returns the reasons for a refusal, in upstream's words.
//!
//! Those of names and labels are `machinery::content`'s. Upstream: `apimachinery/pkg/util/validation/validation.go`.

pub use machinery::content::{
    DNS_LABEL_MAX, DNS_SUBDOMAIN_MAX, Refusals, dns_label, dns_subdomain, dns_subdomain_caseless,
    dns_subdomain_with_underscore, dns1035_label, is_lower_alnum, label_value, mask_trailing_dash, max_len,
    qualified_name, regex_error, wildcard_subdomain,
};

use super::field::{Error, Path};

/// "must be between A and B, inclusive".
pub fn range(lo: i64, hi: i64) -> String {
    format!("must be between {lo} and {hi}, inclusive")
}

/// A port number.
pub fn port_number(port: i64) -> Refusals {
    if (1..=65535).contains(&port) { Vec::new() } else { vec![range(1, 65535)] }
}

/// A port name (IANA service name).
pub fn port_name(port: &str) -> Refusals {
    let mut out = Vec::new();
    if port.len() > 15 {
        out.push(max_len(15));
    }
    if port.is_empty() || !port.bytes().all(|b| is_lower_alnum(b) || b == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !port.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".into());
    }
    if port.contains("--") {
        out.push("must not contain consecutive hyphens".into());
    }
    if port.starts_with('-') || port.ends_with('-') {
        out.push("must not begin or end with a hyphen".into());
    }
    out
}

/// A user or group id.
pub fn id(value: i64) -> Refusals {
    if (0..=i64::from(i32::MAX)).contains(&value) { Vec::new() } else { vec![range(0, i64::from(i32::MAX))] }
}

/// A percentage such as `25%`.
pub fn percent(value: &str) -> Refusals {
    let ok = value.strip_suffix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if ok {
        return Vec::new();
    }
    vec![regex_error(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// A C identifier.
pub fn c_identifier(value: &str) -> Refusals {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let ok = match value.as_bytes() {
        [head, tail @ ..] => first(*head) && tail.iter().all(|b| first(*b) || b.is_ascii_digit()),
        [] => false,
    };
    if ok {
        return Vec::new();
    }
    vec![regex_error(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// An HTTP header name.
pub fn http_header_name(value: &str) -> Refusals {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![regex_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// An environment variable name under the relaxed rule (the default since 1.34).
pub fn relaxed_env_var_name(value: &str) -> Refusals {
    let mut out = Vec::new();
    if value.is_empty() {
        out.push("environment variable name must be non-empty".into());
    }
    if !value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        out.push("a valid environment variable name must consist only of printable ASCII characters other than '='".into());
    }
    out
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key(value: &str) -> Refusals {
    let mut out = Vec::new();
    if value.len() > DNS_SUBDOMAIN_MAX {
        out.push(max_len(DNS_SUBDOMAIN_MAX));
    }
    if value.is_empty()
        || !value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        out.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    out.extend(dot_dot(value));
    out
}

fn dot_dot(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".into()),
        ".." => Some("must not be '..'".into()),
        v if v.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

/// A name that can stand in a URL path; the loosest rule, of RBAC and custom names.
pub fn path_segment(value: &str, prefix: bool) -> Refusals {
    if !prefix && (value == "." || value == "..") {
        return vec![format!("may not be '{value}'")];
    }
    ["/", "%"].iter().filter(|c| value.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// A domain, a slash and a path: `acme.io/foo` (`IsDomainPrefixedPath`).
pub fn domain_prefixed_path(value: &str, path: &Path) -> Vec<Error> {
    if value.is_empty() {
        return vec![Error::required(path, "")];
    }
    let Some((host, rest)) = value.split_once('/').filter(|(h, r)| !h.is_empty() && !r.is_empty()) else {
        return vec![Error::invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")")];
    };
    let mut errors: Vec<Error> =
        dns_subdomain(host).into_iter().map(|m| Error::invalid(path, host, m)).collect();
    if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
        let detail = regex_error("Invalid path", "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+", &[]);
        errors.push(Error::invalid(path, rest, detail));
    }
    errors
}

/// A domain of two labels at least (`IsFullyQualifiedDomainName`).
pub fn full_domain_name(value: &str, path: &Path) -> Vec<Error> {
    if value.is_empty() {
        return vec![Error::required(path, "")];
    }
    let name = value.strip_suffix('.').unwrap_or(value);
    let wrong = dns_subdomain(name);
    if !wrong.is_empty() {
        return vec![Error::invalid(path, name, wrong.join(","))];
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        return vec![Error::invalid(path, name, detail)];
    }
    let labels = name.split('.').map(|label| (label, dns_label(label)));
    let wrong = labels.filter(|(_, wrong)| !wrong.is_empty());
    wrong.take(1).map(|(label, wrong)| Error::invalid(path, label, wrong.join(","))).collect()
}

/// A condition reason.
pub fn condition_reason(value: &str) -> Refusals {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = match value.as_bytes() {
        [] => false,
        [one] => one.is_ascii_alphabetic(),
        [first, mid @ .., last] => {
            first.is_ascii_alphabetic()
                && word(*last)
                && mid.iter().all(|b| word(*b) || matches!(b, b',' | b':'))
        }
    };
    if ok {
        return Vec::new();
    }
    vec![regex_error(
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_and_refuses() {
        let check = |f: fn(&str) -> Refusals, good: &[&str], bad: &[&str]| {
            for v in good {
                assert!(f(v).is_empty(), "{v}: {:?}", f(v));
            }
            for v in bad {
                assert!(!f(v).is_empty(), "{v} accepted");
            }
        };
        check(dns_label, &["a", "a-b", "0"], &["", "-a", "a-", "A", "a.b"]);
        check(dns_subdomain, &["a.b", "a"], &["", ".", "a.", "a..b", "A.b"]);
        check(qualified_name, &["a", "a.b/C_d", "A"], &["", "/a", "a/", "a/b/c", "-a", "A/b"]);
        check(label_value, &["", "a", "A.b_c"], &["-", "a b", "a/"]);
        check(port_name, &["http", "a-1"], &["", "1", "a--b", "-a", "A"]);
        check(config_map_key, &["a", "A_b", ".a"], &["", ".", "..", "..a", "a/b"]);
        check(percent, &["1%", "100%"], &["%", "1", "-1%"]);
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
    }
}
