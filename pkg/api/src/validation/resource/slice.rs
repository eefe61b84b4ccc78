//! Resource slices.

use machinery::Value;

use super::{device, few, given, list, node_selector, pool_name, text};
use crate::validation::core::volume_source::driver_name;
use crate::validation::dns_subdomain;
use crate::validation::field::{Bad, Error, Path};

const DEVICES_MAX: usize = 128;
/// With taints or counters.
const ADVANCED_DEVICES_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
pub(super) const COUNTERS_MAX: usize = 32;

/// `validateResourceSliceSpec`.
pub fn validate_spec(slice: &Value, old: Option<&Value>) -> Vec<Error> {
    let none = Value::Null;
    let (spec, path) = (slice.get("spec").unwrap_or(&none), Path::new("spec"));
    let before = old.map(|o| o.get("spec").unwrap_or(&none));
    let mut errors = driver_name(text(spec, "driver"), &path.child("driver"));
    errors.extend(validate_pool(spec, &path.child("pool")));
    if let Some(before) = before {
        errors.extend(validate_fixed(spec, before, &path));
    }
    errors.extend(validate_nodes(spec, &path));
    // Upstream tells an empty list from none.
    if given(spec, &["sharedCounters"]).is_some() && given(spec, &["devices"]).is_some() {
        let detail = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(Error::invalid(&path, "", detail));
    }
    errors.extend(validate_devices(spec, before, &path.child("devices")));
    for (i, set) in few(list(spec, &["sharedCounters"]), COUNTER_SETS_MAX) {
        let at = path.child("sharedCounters");
        errors.extend(device::counters(set, &at.index(i).child("counters")));
    }
    errors.extend(validate_partition_type(spec, &path));
    errors
}

/// The attribute that names partitions is a text of every device that consumes counters
/// (`validatePartitionTypeAttribute`). That its name is one is told by the type's own rules.
fn validate_partition_type(spec: &Value, path: &Path) -> Vec<Error> {
    const FIELD: &str = "partitionTypeAttribute";
    let Some(name) = given(spec, &[FIELD]).and_then(Value::as_str) else { return Vec::new() };
    let consumes = |d: &Value| !list(d, &["consumesCounters"]).is_empty();
    let devices = list(spec, &["devices"]);
    if !devices.iter().any(consumes) {
        let detail = "may only be set on a slice which declares devices that consume counters";
        return vec![Error::invalid(&path.child(FIELD), name, detail)];
    }
    let own = format!("{}/", text(spec, "driver"));
    let bare = name.strip_prefix(&own).unwrap_or(name);
    let at = path.child("devices");
    let mut errors = Vec::new();
    for (i, device) in devices.iter().enumerate().filter(|(_, d)| consumes(d)) {
        let at = at.index(i);
        let attributes = at.child("attributes");
        let attribute = given(device, &["attributes", name]).or_else(|| given(device, &["attributes", bare]));
        match attribute {
            None => {
                let detail = "device consumes counters and `partitionTypeAttribute` names this attribute, so it must be set";
                errors.push(Error::required(&attributes.key(name), detail));
            }
            Some(attribute) if given(attribute, &["string"]).is_none() => {
                let detail = "must be a string value because `partitionTypeAttribute` names this attribute";
                let bad = Bad::Raw(attribute.to_string());
                errors.push(Error::invalid(&attributes.key(name), bad, detail));
            }
            Some(_) => {}
        }
    }
    errors
}

fn validate_pool(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = pool_name(spec.str_at(&["pool", "name"]).unwrap_or(""), &path.child("name"));
    let number = |field| spec.i64_at(&["pool", field]).unwrap_or(0);
    let (count, generation) = (number("resourceSliceCount"), number("generation"));
    if count <= 0 {
        errors.push(Error::invalid(&path.child("resourceSliceCount"), count, "must be greater than zero"));
    }
    if generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(Error::invalid(&path.child("generation"), generation, detail));
    }
    errors
}

/// Pool, driver and node stay.
fn validate_fixed(spec: &Value, before: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let immutable = "field is immutable";
    let pool = path.child("pool");
    for (field, at) in [(&["pool", "name"][..], pool.child("name")), (&["driver"], path.child("driver"))] {
        let of = |v: &Value| v.str_at(field).unwrap_or("").to_owned();
        if of(spec) != of(before) {
            errors.push(Error::invalid(&at, of(spec), immutable));
        }
    }
    let node = |v: &Value| given(v, &["nodeName"]).and_then(Value::as_str).map(str::to_owned);
    if node(spec) != node(before) {
        let bad = Bad::json(&node(spec));
        errors.push(Error::invalid(&path.child("nodeName"), bad, immutable));
    }
    errors
}

/// Where the devices are: one of four ways to say it.
fn validate_nodes(spec: &Value, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut set = Vec::new();
    if let Some(node) = given(spec, &["nodeName"]).and_then(Value::as_str) {
        let at = path.child("nodeName");
        if node.is_empty() {
            errors.push(Error::invalid(&at, node, "must be either unset or set to a non-empty string"));
        } else {
            set.push("`nodeName`");
            errors.extend(dns_subdomain(node, &at));
        }
    }
    if let Some(selector) = given(spec, &["nodeSelector"]) {
        set.push("`nodeSelector`");
        let at = path.child("nodeSelector");
        errors.extend(node_selector(selector, &at));
        if list(selector, &["nodeSelectorTerms"]).len() != 1 {
            let printed =
                selector.get("nodeSelectorTerms").map_or_else(|| "null".into(), ToString::to_string);
            let detail = "must have exactly one node selector term";
            errors.push(Error::invalid(&at.child("nodeSelectorTerms"), Bad::Raw(printed), detail));
        }
    }
    for (field, quoted) in
        [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        match given(spec, &[field]).and_then(Value::as_bool) {
            Some(true) => set.push(quoted),
            Some(false) => {
                let detail = "must be either unset or set to true";
                errors.push(Error::invalid(&path.child(field), false, detail));
            }
            None => {}
        }
    }
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errors.push(Error::required(path, one)),
        1 => {}
        _ => {
            let bad = format!("{{{}}}", set.join(", "));
            errors.push(Error::invalid(path, bad, format!("{one}, but multiple fields are set")));
        }
    }
    errors
}

fn validate_devices(spec: &Value, before: Option<&Value>, path: &Path) -> Vec<Error> {
    let devices = list(spec, &["devices"]);
    let has = |d: &Value, field: &str| !list(d, &[field]).is_empty();
    let advanced = devices.iter().any(|d| has(d, "taints") || has(d, "consumesCounters"));
    let most = if advanced { ADVANCED_DEVICES_MAX } else { DEVICES_MAX };
    if devices.len() > most {
        return vec![Error::too_many(path, devices.len(), most)];
    }
    let apart = spec.bool_at(&["perDeviceNodeSelection"]).unwrap_or(false);
    let known = before.map_or(&[][..], |b| list(b, &["devices"]));
    let mut errors = Vec::new();
    for (i, device) in devices.iter().enumerate() {
        let old = known.iter().find(|d| text(d, "name") == text(device, "name"));
        errors.extend(device::validate(device, old, apart, &path.index(i)));
    }
    for (i, device) in devices.iter().enumerate() {
        let name = text(device, "name");
        if devices.iter().take(i).any(|d| text(d, "name") == name) {
            errors.push(Error::duplicate(&path.index(i), name));
        }
    }
    errors
}

/// Upstream shortens long keys in paths.
pub(super) fn shortened(key: &str, most: usize) -> String {
    if key.len() <= most {
        return key.to_owned();
    }
    let rest = most.saturating_sub(3);
    let (head, tail) = (rest.div_ceil(2), rest / 2);
    let bytes = key.as_bytes();
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    format!("{}...{}", text(&bytes[..head]), text(&bytes[bytes.len() - tail..]))
}

/// The longest key of attributes and capacities that is shown whole.
pub(super) const KEY_MAX: usize = 63 + 1 + 32;
