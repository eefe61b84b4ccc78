//! Validation shared by the API server and by clients that must reject what it would reject.
//!
//! Field errors carry upstream's paths and texts (`apimachinery/pkg/util/validation/field`), name and label formats
//! those of `apimachinery/pkg/util/validation`. Validation of kinds is in one file per API group, on typed objects
//! that were defaulted. Start at [`field`].

pub mod admission_policy;
pub mod admissionregistration;
pub mod apiregistration;
pub mod apiserverinternal;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod content;
pub mod coordination;
pub mod core;
pub mod declarative;
pub mod discovery;
pub mod field;
pub mod flowcontrol;
pub mod lifecycle;
pub mod networking;
pub mod node;
pub mod objectmeta;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod storage;
pub mod storagemigration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use field::{Bad, Error, Path};

/// Equality as upstream's `apiequality.Semantic.DeepEqual`: absent and empty are one.
pub(crate) fn semantic_eq<T: serde::Serialize + PartialEq>(a: &T, b: &T) -> bool {
    if a == b {
        return true;
    }
    match (machinery::value::to_value(a), machinery::value::to_value(b)) {
        (Ok(a), Ok(b)) => a.semantic_eq(&b),
        _ => false,
    }
}

/// [`semantic_eq`] of two pointers: nothing is no empty struct.
pub(crate) fn same_pointer<T: serde::Serialize + PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
    a.is_some() == b.is_some() && semantic_eq(a, b)
}

/// [`semantic_eq`] of two values of a type that is named as in Go, `core/v1.PodSpec`: behind its pointers, nothing is no
/// empty struct.
pub(crate) fn typed_eq<T: serde::Serialize + PartialEq>(kind: &str, a: &T, b: &T) -> bool {
    if a == b {
        return true;
    }
    let table = crate::types();
    match (table.by_name(kind), machinery::value::to_value(a), machinery::value::to_value(b)) {
        (Some(id), Ok(a), Ok(b)) => table.semantic_eq(id, &a, &b),
        _ => false,
    }
}

/// `field is immutable` unless both are semantically equal.
pub(crate) fn immutable<T: serde::Serialize + PartialEq>(new: &T, old: &T, path: &Path) -> Option<Error> {
    if semantic_eq(new, old) {
        return None;
    }
    let bad = match serde_json::to_value(new) {
        Ok(serde_json::Value::String(text)) => Bad::Text(text),
        Ok(value) => Bad::json(&value),
        Err(_) => Bad::Omitted,
    };
    Some(Error::invalid(path, bad, "field is immutable"))
}

/// [`immutable`] of what is a pointer to a struct upstream: nothing is no empty struct.
pub(crate) fn immutable_pointer<T: serde::Serialize + PartialEq>(
    new: &Option<T>,
    old: &Option<T>,
    path: &Path,
) -> Option<Error> {
    (!same_pointer(new, old)).then(|| Error::invalid(path, Bad::json(new), "field is immutable"))
}

/// Each refusal as an invalid value.
pub(crate) fn refusals(path: &Path, value: &str, texts: Vec<String>) -> Vec<Error> {
    texts.into_iter().map(|m| Error::invalid(path, value, m)).collect()
}

/// A value that must be one of a set, and is required.
pub(crate) fn one_of(value: &str, supported: &[&str], path: &Path) -> Option<Error> {
    match value {
        "" => Some(Error::required(path, "")),
        v if supported.contains(&v) => None,
        v => Some(Error::not_supported(path, Bad::enumerated(v), supported)),
    }
}

/// A text field, absent as empty.
pub(crate) fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// The items of a list field, absent as none.
pub(crate) fn items<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// A value that must be one of a set, the empty one included only when listed.
pub(crate) fn supported(value: &str, set: &[&str], path: &Path) -> Option<Error> {
    (!set.contains(&value)).then(|| Error::not_supported(path, Bad::enumerated(value), set))
}

/// A text that may not be empty.
pub(crate) fn required(value: &str, path: &Path) -> Option<Error> {
    value.is_empty().then(|| Error::required(path, ""))
}

/// A required name that must be a DNS label.
pub(crate) fn dns_label(value: &str, path: &Path) -> Vec<Error> {
    refusals(path, value, content::dns_label(value))
}

/// A name that must be a DNS subdomain.
pub(crate) fn dns_subdomain(value: &str, path: &Path) -> Vec<Error> {
    refusals(path, value, content::dns_subdomain(value))
}

/// A number within bounds.
pub(crate) fn within(value: i64, lowest: i64, highest: i64, path: &Path) -> Option<Error> {
    (value < lowest || value > highest).then(|| Error::invalid(path, value, content::range(lowest, highest)))
}

/// A number above zero.
pub(crate) fn positive(value: i64, path: &Path) -> Option<Error> {
    (value <= 0).then(|| Error::invalid(path, value, "must be greater than zero"))
}

/// `ValidatePositiveIntOrPercent`.
pub(crate) fn int_or_percent(value: &IntOrString, path: &Path) -> Vec<Error> {
    match value {
        IntOrString::String(text) => refusals(path, text, content::percent(text)),
        IntOrString::Int(n) => objectmeta::validate_nonnegative(i64::from(*n), path).into_iter().collect(),
    }
}

/// `IsNotMoreThan100Percent`.
pub(crate) fn not_more_than_100_percent(value: &IntOrString, path: &Path) -> Option<Error> {
    match percent(value) {
        Some(p) if p > 100 => {
            Some(Error::invalid(path, int_or_string_bad(value), "must not be greater than 100%"))
        }
        _ => None,
    }
}

fn percent(value: &IntOrString) -> Option<i64> {
    match value {
        IntOrString::String(text) if content::percent(text).is_empty() => {
            text.strip_suffix('%')?.parse().ok()
        }
        IntOrString::String(_) => None,
        IntOrString::Int(_) => None,
    }
}

/// The number in either form, percent sign apart.
pub(crate) fn int_or_percent_value(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(n) => i64::from(*n),
        IntOrString::String(_) => percent(value).unwrap_or(0),
    }
}

/// How an IntOrString prints in an error: upstream prints the struct as JSON, which is the number or the text.
pub(crate) fn int_or_string_bad(value: &IntOrString) -> Bad {
    match value {
        IntOrString::Int(n) => Bad::Raw(n.to_string()),
        IntOrString::String(text) => Bad::Raw(field::quote(text)),
    }
}
