//! One device of a slice.

use std::sync::LazyLock;

use machinery::{Map, Value};
use regex::Regex;

use super::slice::{COUNTERS_MAX, KEY_MAX, shortened};
use super::{binding_conditions, capacity, few, given, label, list, node_selector, qualified_name, text};
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::validate_label_name;
use crate::validation::{content, dns_subdomain, refusals};

const ENTRIES_MAX: usize = 32;
const VALUES_MAX: usize = 48;
const VALUE_MAX: usize = 64;
const TAINTS_MAX: usize = 16;
const CONSUMPTIONS_MAX: usize = 2;

/// semver.org 2.0.0. Upstream: `semverRe`.
static SEMVER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let number = r"(0|[1-9]\d*)";
    let pre = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)";
    let build = "[0-9a-zA-Z-]+";
    let text = format!(r"^{number}\.{number}\.{number}(-{pre}(\.{pre})*)?(\+{build}(\.{build})*)?$")
        .replace(r"\d", "[0-9]");
    Regex::new(&text).ok()
});

/// `validateDevice`. `apart` says that each device tells its own nodes.
pub(super) fn validate(device: &Value, old: Option<&Value>, apart: bool, path: &Path) -> Vec<Error> {
    let none = Map::new();
    let map = |field: &str| device.map_at(&[field]).unwrap_or(&none);
    let (attributes, capacities) = (map("attributes"), map("capacity"));
    let mut errors = label(text(device, "name"), &path.child("name"));
    let entries = attributes.len() + capacities.len();
    if entries > ENTRIES_MAX {
        let detail = format!("the total number of attributes and capacities must not exceed {ENTRIES_MAX}");
        errors.push(Error::invalid(path, entries, detail));
    }
    if attributes.len() > VALUES_MAX {
        let detail = format!("the total number of attribute values must not exceed {VALUES_MAX}");
        errors.push(Error::invalid(path, attributes.len(), detail));
    }
    let at = path.child("attributes");
    for (name, attribute) in attributes.iter() {
        errors.extend(qualified_name(name, &at));
        let key = shortened(name, KEY_MAX);
        errors.extend(validate_attribute(attribute, &at.key(&key)));
    }
    let changed = |field: &str| {
        let of = |v: &Value| v.get(field).cloned().unwrap_or_default();
        old.is_none_or(|old| !of(old).semantic_eq(&of(device)))
    };
    if changed("capacity") {
        let shared = device.bool_at(&["allowMultipleAllocations"]).unwrap_or(false);
        let at = path.child("capacity");
        for (name, value) in capacities.iter() {
            errors.extend(qualified_name(name, &at));
            let key = shortened(name, KEY_MAX);
            errors.extend(capacity::validate(value, shared, &at.key(&key)));
        }
    }
    if changed("taints") {
        errors.extend(validate_taints(list(device, &["taints"]), &path.child("taints")));
    }
    for (i, consumption) in few(list(device, &["consumesCounters"]), CONSUMPTIONS_MAX) {
        let at = path.child("consumesCounters");
        errors.extend(counters(consumption, &at.index(i).child("counters")));
    }
    errors.extend(validate_nodes(device, apart, path));
    errors.extend(binding_conditions(device, path));
    errors
}

/// Counters of a set, or of what a device takes of one.
pub(super) fn counters(holder: &Value, path: &Path) -> Vec<Error> {
    let counters = holder.map_at(&["counters"]).map_or(0, Map::len);
    let many = (counters > COUNTERS_MAX).then(|| Error::too_many(path, counters, COUNTERS_MAX));
    // Names are judged by the type's own rules, and any amount will do.
    many.into_iter().collect()
}

/// `validateDeviceAttribute`; that there is one value is told by the type's own rules.
fn validate_attribute(attribute: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    if let Some(value) = given(attribute, &["string"]).and_then(Value::as_str)
        && value.len() > VALUE_MAX
    {
        errors.push(Error::too_long(&path.child("string"), VALUE_MAX));
    }
    if let Some(value) = given(attribute, &["version"]).and_then(Value::as_str) {
        let at = path.child("version");
        if !SEMVER.as_ref().is_some_and(|r| r.is_match(value)) {
            errors.push(Error::invalid(&at, value, "must be a string compatible with semver.org spec 2.0.0"));
        }
        if value.len() > VALUE_MAX {
            errors.push(Error::too_long(&at, VALUE_MAX));
        }
    }
    errors
}

fn validate_taints(taints: &[Value], path: &Path) -> Vec<Error> {
    if taints.len() > TAINTS_MAX {
        return vec![Error::too_many(path, taints.len(), TAINTS_MAX)];
    }
    let mut errors = Vec::new();
    for (i, taint) in taints.iter().enumerate() {
        errors.extend(validate_taint(taint, &path.index(i)));
    }
    errors
}

/// A taint's key and value; its effect is told by the type's own rules.
pub(super) fn validate_taint(taint: &Value, path: &Path) -> Vec<Error> {
    let mut errors = validate_label_name(text(taint, "key"), &path.child("key"));
    let value = text(taint, "value");
    errors.extend(refusals(&path.child("value"), value, content::label_value(value)));
    errors
}

fn validate_nodes(device: &Value, apart: bool, path: &Path) -> Vec<Error> {
    let (node, selector, all) =
        (given(device, &["nodeName"]), given(device, &["nodeSelector"]), given(device, &["allNodes"]));
    if !apart {
        let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        let any = node.or(selector).or(all).is_some();
        return any.then(|| Error::invalid(path, Bad::Raw("null".into()), detail)).into_iter().collect();
    }
    let mut errors = Vec::new();
    let mut set = Vec::new();
    if let Some(node) = node.and_then(Value::as_str) {
        let at = path.child("nodeName");
        if node.is_empty() {
            errors.push(Error::invalid(&at, node, "must not be empty"));
        } else {
            set.push("`nodeName`");
            errors.extend(dns_subdomain(node, &at));
        }
    }
    if let Some(selector) = selector {
        set.push("`nodeSelector`");
        errors.extend(node_selector(selector, &path.child("nodeSelector")));
    }
    match all.and_then(Value::as_bool) {
        Some(true) => set.push("`allNodes`"),
        Some(false) => {
            let detail = "must be either unset or set to true";
            errors.push(Error::invalid(&path.child("allNodes"), false, detail));
        }
        None => {}
    }
    let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match set.len() {
        0 => errors.push(Error::required(path, one)),
        1 => {}
        _ => errors.push(Error::invalid(path, format!("{{{}}}", set.join(", ")), one)),
    }
    errors
}
