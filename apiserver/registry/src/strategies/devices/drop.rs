//! Fields of features that are off by default: they are not stored, unless they were before.

use machinery::{List, Value};

fn items<'a>(object: &'a mut Value, path: &[&str]) -> impl Iterator<Item = &'a mut Value> {
    let list = match object.get_path_mut(path) {
        Some(Value::List(list)) => Some(list),
        _ => None,
    };
    list.into_iter().flat_map(|l| l.iter_mut())
}

fn list(object: &Value, path: &[&str]) -> List {
    object.list_at(path).cloned().unwrap_or_default()
}

fn joined<'p>(path: &[&'p str], more: &[&'p str]) -> Vec<&'p str> {
    path.iter().chain(more).copied().collect()
}

/// `DRADerivedAttributes`, in the specification of a claim at a path.
pub(super) fn claim_spec(object: &mut Value, path: &[&str], old: Option<&Value>) {
    const FIELD: &str = "derivedAttributes";
    let at = joined(path, &["devices", "requests"]);
    let uses = |v: &Value| !v.list_at(&[FIELD]).is_none_or(|l| l.is_empty());
    let used =
        |r: &Value| r.get("exactly").is_some_and(uses) || list(r, &["firstAvailable"]).iter().any(uses);
    if old.is_some_and(|o| list(o, &at).iter().any(used)) {
        return;
    }
    for request in items(object, &at) {
        request.remove_path(&["exactly", FIELD]);
        for alternative in items(request, &["firstAvailable"]) {
            alternative.remove_path(&[FIELD]);
        }
    }
}

/// `DRAOptionalNodeOperations`, and what is told of devices that are not allocated any more
/// (`dropDeallocatedStatusDevices`).
pub(super) fn claim_status(claim: &mut Value, old: &Value) {
    let results = ["status", "allocation", "devices", "results"];
    let skips = |r: &Value| !r.list_at(&["skipNodeOperations"]).is_none_or(|l| l.is_empty());
    if !list(old, &results).iter().any(skips) {
        for result in items(claim, &results) {
            result.remove_path(&["skipNodeOperations"]);
        }
    }
    let identity =
        |d: &Value| ["driver", "pool", "device", "shareID"].map(|f| d.str_at(&[f]).unwrap_or("").to_owned());
    let now: Vec<_> = list(claim, &results).iter().map(identity).collect();
    let gone: Vec<_> = list(old, &results).iter().map(identity).filter(|d| !now.contains(d)).collect();
    let at = ["status", "devices"];
    let devices = list(claim, &at);
    let kept: Vec<Value> = devices.iter().filter(|d| !gone.contains(&identity(d))).cloned().collect();
    if kept.is_empty() {
        claim.remove_path(&at);
    } else if kept.len() < devices.len() {
        // The list was there.
        let _ = claim.set_path(&at, List::from(kept));
    }
}

/// `DRAPartitionableDevicesType`, `DRAOptionalNodeOperations`, `DRADeviceCompatibilityGroups`,
/// `DRANodeAllocatableResources` and `DRAListTypeAttributes`.
pub(super) fn slice(slice: &mut Value, old: Option<&Value>) {
    let devices = ["spec", "devices"];
    let old_devices = old.map(|o| list(o, &devices)).unwrap_or_default();
    let had = |field: &str| {
        let value = old.and_then(|o| o.get_path(&["spec", field])).filter(|v| !v.is_null());
        value.is_some_and(|v| v.as_list().is_none_or(|l| !l.is_empty()))
    };
    for field in ["partitionTypeAttribute", "skipNodeOperations"].into_iter().filter(|f| !had(f)) {
        slice.remove_path(&["spec", field]);
    }
    let grouped = |d: &Value| {
        let consumed = list(d, &["consumesCounters"]);
        consumed.iter().any(|c| !list(c, &["compatibilityGroups"]).is_empty())
    };
    if !old_devices.iter().any(grouped) {
        for device in items(slice, &devices) {
            for consumption in items(device, &["consumesCounters"]) {
                consumption.remove_path(&["compatibilityGroups"]);
            }
        }
    }
    if !old_devices.iter().any(|d| d.map_at(&["nodeAllocatableResources"]).is_some_and(|m| !m.is_empty())) {
        for device in items(slice, &devices) {
            device.remove_path(&["nodeAllocatableResources"]);
        }
    }
    drop_list_attributes(slice, &old_devices);
}

fn drop_list_attributes(slice: &mut Value, old_devices: &List) {
    const LISTS: [&str; 4] = ["ints", "bools", "strings", "versions"];
    let listed = |d: &Value| {
        let attributes = d.map_at(&["attributes"]).into_iter().flat_map(|m| m.values());
        attributes.into_iter().any(|a| LISTS.iter().any(|f| a.get(f).is_some_and(|v| !v.is_null())))
    };
    if old_devices.iter().any(listed) {
        return;
    }
    for device in items(slice, &["spec", "devices"]) {
        let Some(Value::Map(attributes)) = device.get_mut("attributes") else { continue };
        for attribute in attributes.values_mut() {
            for field in LISTS {
                attribute.remove_path(&[field]);
            }
        }
    }
}
