//! resource.k8s.io/v1: devices and claims on them. Upstream: `pkg/apis/resource/validation/validation.go`.
//!
//! Works on trees: most of the group is optional, and absent and empty differ in places. Sizes, keys and formats that
//! the types' own rules judge are judged there alone. Fields of features that are off by default (derived and list
//! attributes, compatibility groups, node allocatable resources, skipped node operations, partition types) are dropped
//! by the strategies and are not looked at here. Whether expressions compile is the caller's to say ([`Compile`]).

pub mod capacity;
pub mod claim;
pub mod class;
pub mod device;
pub mod slice;
pub mod status;
pub mod taint_rule;

use machinery::Value;

use super::core::volume_source::driver_name;
use super::field::{Bad, Error, Path};
use super::{content, dns_subdomain, objectmeta, refusals};

/// Longest expression, in bytes.
const EXPRESSION_MAX: usize = 10 * 1024;
/// Longest opaque parameters, in bytes.
const PARAMETERS_MAX: usize = 10 * 1024;
const SELECTORS_MAX: usize = 32;
const REQUESTS_MAX: usize = 32;
const CONFIG_MAX: usize = 32;
const BINDING_CONDITIONS_MAX: usize = 4;

/// What a compiler says of a selector's expression.
pub enum Verdict {
    /// It compiles, and is cheap enough.
    Good,
    /// It does not compile, for this reason.
    Bad(String),
    /// It may cost too much.
    Expensive,
}

/// Compiles a selector's expression.
pub type Compile<'a> = &'a dyn Fn(&str) -> Verdict;

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.str_at(&[field]).unwrap_or("")
}

fn list<'v>(value: &'v Value, path: &[&str]) -> &'v [Value] {
    value.list_at(path).map_or(&[], |l| l.as_slice())
}

fn texts<'v>(value: &'v Value, field: &str) -> Vec<&'v str> {
    list(value, &[field]).iter().filter_map(Value::as_str).collect()
}

/// A field that is there and not null.
fn given<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    value.get_path(path).filter(|v| !v.is_null())
}

/// The items of a list of at most so many; the types' own rules tell when there are more.
fn few(items: &[Value], most: usize) -> impl Iterator<Item = (usize, &Value)> {
    items.iter().enumerate().filter(move |_| items.len() <= most)
}

fn label(name: &str, path: &Path) -> Vec<Error> {
    refusals(path, name, content::dns_label(name))
}

/// `validatePoolName`.
fn pool_name(name: &str, path: &Path) -> Vec<Error> {
    if name.is_empty() {
        return vec![Error::required(path, "")];
    }
    let mut errors = Vec::new();
    if name.len() > content::DNS_SUBDOMAIN_MAX {
        errors.push(Error::too_long(path, content::DNS_SUBDOMAIN_MAX));
    }
    errors.extend(name.split('/').flat_map(|part| dns_subdomain(part, path)));
    errors
}

/// `validateQualifiedName`: an identifier, with a domain or without.
fn qualified_name(name: &str, path: &Path) -> Vec<Error> {
    let parts: Vec<&str> = name.split('/').collect();
    let identifier = |id: &str| {
        let long = (id.len() > 32).then(|| Error::too_long(path, 32));
        long.into_iter().chain(refusals(path, id, content::c_identifier(id))).collect::<Vec<_>>()
    };
    match parts[..] {
        [name] => identifier(name),
        [domain, name] => {
            let mut errors = match domain {
                "" => vec![Error::invalid(path, "", "the domain must not be empty")],
                domain => driver_name(domain, path),
            };
            errors.extend(match name {
                "" => vec![Error::invalid(path, "", "the name must not be empty")],
                name => identifier(name),
            });
            errors
        }
        // Upstream looks at no more than one slash.
        _ => Vec::new(),
    }
}

/// `validateSelector`, of every selector. `stored` expressions were good once.
fn selectors(all: &[Value], stored: bool, compile: Compile<'_>, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, selector) in few(all, SELECTORS_MAX) {
        let path = path.index(i);
        let path = path.child("cel");
        let Some(cel) = given(selector, &["cel"]) else {
            errors.push(Error::required(&path, ""));
            continue;
        };
        let (expression, at) = (text(cel, "expression"), path.child("expression"));
        if stored {
            continue;
        }
        if expression.len() > EXPRESSION_MAX {
            errors.push(Error::too_long(&at, EXPRESSION_MAX));
            continue;
        }
        match compile(expression) {
            Verdict::Good => {}
            Verdict::Bad(why) => errors.push(Error::invalid(&at, expression, why)),
            Verdict::Expensive => errors.push(Error::forbidden(&at, "too complex, exceeds cost limit")),
        }
    }
    errors
}

/// `validateDeviceConfiguration`.
fn configuration(config: &Value, stored: bool, path: &Path) -> Vec<Error> {
    let at = path.child("opaque");
    match given(config, &["opaque"]) {
        None => vec![Error::required(&at, "")],
        Some(opaque) => raw(given(opaque, &["parameters"]), stored, PARAMETERS_MAX, &at.child("parameters")),
    }
}

/// `validateRawExtension`: an object, not too long.
fn raw(value: Option<&Value>, stored: bool, most: usize, path: &Path) -> Vec<Error> {
    let Some(value) = value else { return vec![Error::required(path, "")] };
    let bytes = value.to_string();
    if !stored && bytes.len() > most {
        return vec![Error::too_long(path, most)];
    }
    match value {
        Value::Map(_) | Value::Raw(_) => Vec::new(),
        _ => vec![Error::invalid(path, "<value omitted>", "must be a valid JSON object")],
    }
}

/// `validateDeviceToleration`, of every toleration.
fn tolerations(all: &[Value], path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (i, toleration) in all.iter().enumerate() {
        let at = path.index(i);
        let (value, at) = (text(toleration, "value"), at.child("value"));
        match text(toleration, "operator") {
            "Exists" if !value.is_empty() => {
                errors.push(Error::invalid(&at, value, "must be empty for operator `Exists`"));
            }
            "Equal" => errors.extend(refusals(&at, value, content::label_value(value))),
            _ => {}
        }
    }
    errors
}

/// `validateDeviceBindingParameters`.
fn binding_conditions(holder: &Value, path: &Path) -> Vec<Error> {
    const GOOD: &str = "bindingConditions";
    const BAD: &str = "bindingFailureConditions";
    let (good, bad) = (texts(holder, GOOD), texts(holder, BAD));
    let mut errors = Vec::new();
    for (all, field) in [(&good, GOOD), (&bad, BAD)] {
        let at = path.child(field);
        for (i, condition) in all.iter().enumerate().filter(|_| all.len() <= BINDING_CONDITIONS_MAX) {
            errors.extend(objectmeta::validate_label_name(condition, &at.index(i)));
        }
    }
    for (all, field) in [(&good, GOOD), (&bad, BAD)] {
        let at = path.child(field);
        for (i, condition) in all.iter().enumerate() {
            if all.iter().take(i).any(|c| c == condition) {
                errors.push(Error::duplicate(&at.index(i), *condition));
            }
            if field == BAD && good.contains(condition) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                errors.push(Error::invalid(&at.index(i), *condition, detail));
            }
        }
    }
    for (own, other, field, other_field) in [(&good, &bad, GOOD, BAD), (&bad, &good, BAD, GOOD)] {
        if own.is_empty() && !other.is_empty() {
            let printed = holder.get(field).map_or_else(|| "null".into(), ToString::to_string);
            let detail = format!("{field} are required to use {other_field}");
            errors.push(Error::invalid(&path.child(field), Bad::Raw(printed), detail));
        }
    }
    errors
}

/// A node selector of a tree.
fn node_selector(selector: &Value, path: &Path) -> Vec<Error> {
    match machinery::value::from_value(selector) {
        Ok(selector) => super::core::scheduling::validate_node_selector(&selector, false, path),
        Err(error) => vec![Error::internal(path, error.to_string())],
    }
}
