//! Named formats of text. Upstream: `apimachinery/pkg/api/validate/strfmt.go`.

use crate::validation::content;
use crate::validation::field::{Error, Path};

/// What is wrong with a text that must have a format. Formats that no served type uses are not known here.
pub(super) fn check(format: &str, value: &str, path: &Path) -> Vec<Error> {
    match format {
        "k8s-resource-pool-name" => pool_name(value, path),
        "k8s-resource-fully-qualified-name" => fully_qualified(value, path),
        _ => refusals(format, value).into_iter().map(|m| Error::invalid(path, value, m)).collect(),
    }
}

/// What is said of a text that does not have a format of one part.
pub(crate) fn refusals(format: &str, value: &str) -> Vec<String> {
    let texts = match format {
        "k8s-short-name" => content::dns_label(value),
        "k8s-long-name" => content::dns_subdomain(value),
        "k8s-long-name-caseless" => content::dns_subdomain_caseless(value),
        "k8s-label-key" => content::qualified_name(value),
        "k8s-prefixed-label-key" => prefixed_key(value),
        "k8s-label-value" => content::label_value(value),
        "k8s-path-segment-name" => content::path_segment(value, false),
        "k8s-uuid" => uuid(value),
        "k8s-extended-resource-name" => extended_resource(value),
        _ => Vec::new(),
    };
    // The same rules count characters where they are applied by hand (`validate/content`, `util/validation`).
    let in_bytes = |m: String| match m.strip_prefix("must be no more than ") {
        Some(_) => m.replace(" characters", " bytes"),
        None => m,
    };
    texts.into_iter().map(in_bytes).collect()
}

fn prefixed_key(value: &str) -> Vec<String> {
    let wrong = content::qualified_name(value);
    if wrong.is_empty() && !value.contains('/') {
        return vec!["must include a prefix (e.g. 'example.com/key')".into()];
    }
    wrong
}

fn uuid(value: &str) -> Vec<String> {
    let dash = |i: usize| matches!(i, 8 | 13 | 18 | 23);
    let fits = value.len() == 36
        && value.bytes().enumerate().all(|(i, b)| match dash(i) {
            true => b == b'-',
            false => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
        });
    if fits { Vec::new() } else { vec!["must be a lowercase UUID in 8-4-4-4-12 format".into()] }
}

fn extended_resource(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if !value.contains('/') {
        out.push("a name must be a domain-prefixed path, such as 'example.com/my-prop'".into());
    } else if value.contains("kubernetes.io/") {
        out.push("must not have \"kubernetes.io/\" domain".into());
    }
    if value.starts_with("requests.") {
        out.push("must not have \"requests.\" prefix".into());
    }
    out.extend(content::qualified_name(&format!("requests.{value}")));
    out
}

/// One or more long names with slashes between.
pub(crate) fn pool_name(value: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if value.len() > content::DNS_SUBDOMAIN_MAX {
        errors.push(Error::too_long(path, content::DNS_SUBDOMAIN_MAX));
    }
    for (i, part) in value.split('/').enumerate() {
        if part.is_empty() {
            errors.push(Error::invalid(path, value, format!("segment {i}: must not be empty")));
            continue;
        }
        let wrong = content::dns_subdomain(part).into_iter();
        errors.extend(wrong.map(|m| Error::invalid(path, part, format!("segment {i}: {m}"))));
    }
    errors
}

fn fully_qualified(value: &str, path: &Path) -> Vec<Error> {
    let mut errors = qualified(value, path);
    if !value.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(Error::invalid(path, value, detail));
    }
    errors
}

/// A C identifier, with a domain before it or not (`resourcesQualifiedName`).
pub(crate) fn qualified(value: &str, path: &Path) -> Vec<Error> {
    let parts: Vec<&str> = value.split('/').collect();
    match parts[..] {
        [name] => identifier(name, path),
        [prefix, name] => {
            let mut errors = Vec::new();
            if prefix.is_empty() {
                errors.push(Error::invalid(path, "", "prefix must not be empty"));
            } else {
                if prefix.len() > 63 {
                    errors.push(Error::too_long(path, 63));
                }
                let wrong = content::dns_subdomain(prefix).into_iter();
                errors.extend(wrong.map(|m| Error::invalid(path, prefix, format!("prefix: {m}"))));
            }
            if name.is_empty() {
                errors.push(Error::invalid(path, "", "name must not be empty"));
            } else {
                errors.extend(identifier(name, path));
            }
            errors
        }
        // Upstream looks at no more than one slash.
        _ => Vec::new(),
    }
}

fn identifier(name: &str, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if name.len() > 32 {
        errors.push(Error::too_long(path, 32));
    }
    errors.extend(content::c_identifier(name).into_iter().map(|m| Error::invalid(path, name, m)));
    errors
}
