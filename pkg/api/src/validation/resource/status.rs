//! The status of claims.

use machinery::Value;

use super::claim::Names;
use super::{
    CONFIG_MAX, REQUESTS_MAX, binding_conditions, configuration, few, given, label, list, node_selector,
    pool_name, raw, text, texts, tolerations,
};
use crate::validation::core::volume_source::driver_name;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::validate_conditions;

const RESERVED_MAX: usize = 256;
const CONDITIONS_MAX: usize = 8;
/// Bytes.
const DATA_MAX: usize = 10 * 1024;
const IPS_MAX: usize = 16;

/// `validateResourceClaimStatusUpdate`.
pub fn validate_update(claim: &Value, old: &Value) -> Vec<Error> {
    let none = Value::Null;
    let status = claim.get("status").unwrap_or(&none);
    let before = old.get("status").unwrap_or(&none);
    let path = Path::new("status");
    let mut errors = Vec::new();
    let (reserved, at) = (list(status, &["reservedFor"]), path.child("reservedFor"));
    for (i, consumer) in few(reserved, RESERVED_MAX) {
        for field in ["resource", "name", "uid"].iter().filter(|f| text(consumer, f).is_empty()) {
            errors.push(Error::required(&at.index(i).child(field), ""));
        }
    }
    let allocation = given(status, &["allocation"]);
    let allocated: Vec<String> =
        allocation.map_or(&[][..], |a| list(a, &["devices", "results"])).iter().map(identity).collect();
    for (i, device) in list(status, &["devices"]).iter().enumerate() {
        errors.extend(validate_device(device, &allocated, &path.child("devices").index(i)));
    }
    if !reserved.is_empty() {
        let deleted = given(claim, &["metadata", "deletionTimestamp"]).is_some();
        let known = list(before, &["reservedFor"]);
        if allocation.is_none() {
            errors.push(Error::forbidden(&at, "may not be specified when `allocated` is not set"));
        } else if deleted && reserved.iter().any(|r| !known.iter().any(|k| k.semantic_eq(r))) {
            let detail =
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(Error::forbidden(&at, detail));
        }
    }
    if let Some(allocation) = allocation.filter(|_| given(before, &["allocation"]).is_none()) {
        let names = Names::of(claim.get("spec").unwrap_or(&none));
        errors.extend(validate_allocation(allocation, &names, &path.child("allocation")));
    }
    errors
}

/// A device as it is named in errors: driver, pool, device, and the share of it.
fn identity(device: &Value) -> String {
    let share = given(device, &["shareID"]).and_then(Value::as_str);
    let share = share.map_or_else(String::new, |s| format!("/{s}"));
    format!("{}/{}/{}{share}", text(device, "driver"), text(device, "pool"), text(device, "device"))
}

fn validate_allocation(allocation: &Value, names: &Names<'_>, path: &Path) -> Vec<Error> {
    let devices = path.child("devices");
    let mut errors = Vec::new();
    for (i, result) in few(list(allocation, &["devices", "results"]), REQUESTS_MAX) {
        let at = devices.child("results");
        let at = at.index(i);
        errors.extend(names.check(text(result, "request"), &at.child("request")));
        errors.extend(label(text(result, "device"), &at.child("device")));
        errors.extend(binding_conditions(result, &at));
        errors.extend(tolerations(list(result, &["tolerations"]), &at.child("tolerations")));
    }
    for (i, config) in few(list(allocation, &["devices", "config"]), 2 * CONFIG_MAX) {
        let at = devices.child("config");
        let at = at.index(i);
        errors.extend(names.check_all(config, &at));
        errors.extend(configuration(config, false, &at));
    }
    if let Some(selector) = given(allocation, &["nodeSelector"]) {
        errors.extend(node_selector(selector, &path.child("nodeSelector")));
    }
    errors
}

/// `validateDeviceStatus`.
fn validate_device(device: &Value, allocated: &[String], path: &Path) -> Vec<Error> {
    let mut errors = driver_name(text(device, "driver"), &path.child("driver"));
    errors.extend(pool_name(text(device, "pool"), &path.child("pool")));
    errors.extend(label(text(device, "device"), &path.child("device")));
    let id = identity(device);
    if !allocated.contains(&id) {
        // Upstream prints its internal type.
        let bad = Bad::Raw(format!("{{{id}}}"));
        errors.push(Error::invalid(path, bad, "must be an allocated device in the claim"));
    }
    let (conditions, at) = (list(device, &["conditions"]), path.child("conditions"));
    if conditions.len() > CONDITIONS_MAX {
        errors.push(Error::too_many(&at, conditions.len(), CONDITIONS_MAX));
    }
    let typed: Result<Vec<_>, _> = conditions.iter().map(machinery::value::from_value).collect();
    match typed {
        Ok(typed) => errors.extend(validate_conditions(&typed, &at)),
        Err(error) => errors.push(Error::internal(&at, error.to_string())),
    }
    if let Some(data) = given(device, &["data"]) {
        errors.extend(raw(Some(data), false, DATA_MAX, &path.child("data")));
    }
    if let Some(network) = given(device, &["networkData"]) {
        let ips = texts(network, "ips");
        let at = path.child("networkData");
        let at = at.child("ips");
        for (i, ip) in ips.iter().enumerate().filter(|_| ips.len() <= IPS_MAX) {
            errors.extend(crate::validation::core::ip::validate_interface(ip, &at.index(i)));
        }
    }
    errors
}
