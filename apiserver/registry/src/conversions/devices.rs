//! Claims, their templates and slices of resource.k8s.io/v1beta1, which holds in a request what later versions hold in
//! its `exactly`, and in the `basic` of a device what they hold in the device itself.
//!
//! v1beta2 has the fields of v1. Upstream: `pkg/apis/resource/v1beta1/conversion.go`.

use std::borrow::Cow;

use machinery::{Map, Value};

/// Fields of a request for devices of one class.
const EXACT: [&str; 8] = [
    "deviceClassName",
    "selectors",
    "allocationMode",
    "count",
    "adminAccess",
    "tolerations",
    "capacity",
    "derivedAttributes",
];

/// Fields of a device.
const BASIC: [&str; 12] = [
    "attributes",
    "capacity",
    "consumesCounters",
    "nodeName",
    "nodeSelector",
    "allNodes",
    "taints",
    "bindsToNode",
    "bindingConditions",
    "bindingFailureConditions",
    "allowMultipleAllocations",
    "nodeAllocatableResources",
];

/// v1beta1 to v1.
pub fn from_v1beta1(object: &mut Value, kind: &str) {
    for request in requests(object, kind) {
        let exact = without_empty(gather(request, &EXACT), &["tolerations"]);
        if exact.values().any(|value| !is_zero(value)) {
            request.insert("exactly", exact);
        }
    }
    for device in devices(object, kind) {
        if let Some(Value::Map(basic)) = device.remove("basic") {
            spread(device, basic, &["attributes", "capacity", "consumesCounters", "taints"]);
        }
    }
    forget_zero_nodes(object, kind);
}

/// v1 to v1beta1.
pub fn to_v1beta1(object: &mut Value, kind: &str) {
    for request in requests(object, kind) {
        if let Some(Value::Map(exact)) = request.remove("exactly") {
            spread(request, exact, &["tolerations"]);
        }
    }
    for device in devices(object, kind) {
        let made_anew = ["attributes", "capacity", "consumesCounters", "taints"];
        let basic = without_empty(gather(device, &BASIC), &made_anew);
        device.insert("basic", basic);
    }
    forget_zero_nodes(object, kind);
}

/// A path of a field in v1beta1 as it is in v1 (`ResourceNormalizationRules`).
pub fn path_in_v1(path: &str) -> Cow<'_, str> {
    const MOVED: [&str; 7] = [
        "deviceClassName",
        "selectors",
        "allocationMode",
        "count",
        "adminAccess",
        "tolerations",
        "derivedAttributes",
    ];
    if path.starts_with("spec.devices[") {
        return path.replacen("].basic.", "].", 1).into();
    }
    let field = path
        .split_once("devices.requests[")
        .and_then(|(_, rest)| rest.split_once("]."))
        .map(|(_, field)| field);
    match field.filter(|field| MOVED.iter().any(|name| field.starts_with(name))) {
        Some(field) => {
            let holder = path.strip_suffix(field).unwrap_or(path);
            format!("{holder}exactly.{field}").into()
        }
        None => path.into(),
    }
}

fn requests<'a>(object: &'a mut Value, kind: &str) -> impl Iterator<Item = &'a mut Map> {
    items(
        object,
        match kind {
            "ResourceClaim" => &["spec", "devices", "requests"],
            "ResourceClaimTemplate" => &["spec", "spec", "devices", "requests"],
            _ => &[],
        },
    )
}

fn devices<'a>(object: &'a mut Value, kind: &str) -> impl Iterator<Item = &'a mut Map> {
    items(object, if kind == "ResourceSlice" { &["spec", "devices"] } else { &[] })
}

fn items<'a>(object: &'a mut Value, path: &[&str]) -> impl Iterator<Item = &'a mut Map> {
    let list = object.get_path_mut(path).and_then(Value::as_list_mut);
    list.into_iter().flat_map(|list| list.iter_mut()).filter_map(Value::as_map_mut)
}

/// Takes fields out of a holder.
fn gather(holder: &mut Map, fields: &[&str]) -> Map {
    let mut taken = Map::new();
    for field in fields {
        if let Some(value) = holder.remove(field).filter(|value| !value.is_null()) {
            taken.insert(*field, value);
        }
    }
    taken
}

/// Puts fields into a holder.
fn spread(holder: &mut Map, fields: Map, made_anew: &[&str]) {
    for (field, value) in without_empty(fields, made_anew).iter().filter(|(_, value)| !value.is_null()) {
        holder.insert(field.as_str(), value.clone());
    }
}

/// Upstream makes these anew from what is in them, so that of empty ones nothing is left.
fn without_empty(mut fields: Map, made_anew: &[&str]) -> Map {
    let empty = |value: &Value| match value {
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    };
    fields.retain(|field, value| !(made_anew.contains(&field.as_str()) && empty(value)));
    fields
}

/// Of fields that are there, those that are no pointers in Go count as absent when they are zero.
fn is_zero(value: &Value) -> bool {
    value.as_str() == Some("") || value.as_i64() == Some(0)
}

/// v1beta1 knows no difference between these being zero and absent.
fn forget_zero_nodes(object: &mut Value, kind: &str) {
    let spec = if kind == "ResourceSlice" { object.get_mut("spec") } else { None };
    let Some(spec) = spec.and_then(Value::as_map_mut) else { return };
    if spec.get("nodeName").is_some_and(is_zero) {
        spec.remove("nodeName");
    }
    if spec.get("allNodes").and_then(Value::as_bool) == Some(false) {
        spec.remove("allNodes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value as Json, json};

    /// `old` and `new` are the same object in v1beta1 and in v1.
    fn both_ways(kind: &str, old: Json, new: Json) {
        becomes(kind, from_v1beta1, &old, &new);
        becomes(kind, to_v1beta1, &new, &old);
    }

    fn becomes(kind: &str, convert: fn(&mut Value, &str), from: &Json, to: &Json) {
        let mut object = Value::from(from.clone());
        convert(&mut object, kind);
        assert_eq!(Json::from(&object), *to, "from {from}");
    }

    fn claim(requests: Json) -> Json {
        json!({"spec": {"devices": {"requests": requests}}})
    }

    #[test]
    fn requests_hold_or_have_what_is_asked_for() {
        let exact = json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1,
            "selectors": [{"cel": {"expression": "true"}}], "adminAccess": false, "capacity": {},
            "tolerations": [{"key": "k"}], "derivedAttributes": [{"name": "n"}]});
        let mut old = exact.clone();
        old["name"] = "r".into();
        let alternatives = json!([{"name": "a", "deviceClassName": "c", "tolerations": []}]);
        let old = json!([old, {"name": "s", "firstAvailable": alternatives}]);
        let new = json!([{"name": "r", "exactly": exact}, {"name": "s", "firstAvailable": alternatives}]);
        both_ways("ResourceClaim", claim(old.clone()), claim(new.clone()));
        both_ways("ResourceClaimTemplate", json!({"spec": claim(old)}), json!({"spec": claim(new)}));
    }

    #[test]
    fn requests_of_nothing() {
        let old = claim(json!([{"name": "r", "deviceClassName": "", "count": 0, "tolerations": []}]));
        becomes("ResourceClaim", from_v1beta1, &old, &claim(json!([{"name": "r"}])));
        // What is there but empty makes a request of one class.
        let old = claim(json!([{"name": "r", "deviceClassName": "", "selectors": []}]));
        let new = claim(json!([{"name": "r", "exactly": {"deviceClassName": "", "selectors": []}}]));
        becomes("ResourceClaim", from_v1beta1, &old, &new);
    }

    #[test]
    fn devices_hold_or_have_a_basic_one() {
        let basic = json!({"attributes": {"a": {"int": 1}}, "capacity": {"c": {"value": "1"}},
            "consumesCounters": [{"counterSet": "s"}], "taints": [{"key": "k"}], "nodeName": "n", "allNodes": false,
            "bindsToNode": true, "bindingConditions": [], "nodeAllocatableResources": {}});
        let mut new = basic.clone();
        new["name"] = "d".into();
        let spec = |device: Json| json!({"spec": {"nodeName": "n", "devices": [device]}});
        both_ways("ResourceSlice", spec(json!({"name": "d", "basic": basic})), spec(new));
        both_ways("ResourceSlice", spec(json!({"name": "d", "basic": {}})), spec(json!({"name": "d"})));
        let emptied = json!({"name": "d", "basic": {"attributes": {}, "capacity": {}, "taints": []}});
        becomes("ResourceSlice", from_v1beta1, &spec(emptied), &spec(json!({"name": "d"})));
        becomes("ResourceSlice", from_v1beta1, &spec(json!({"name": "d"})), &spec(json!({"name": "d"})));
    }

    #[test]
    fn paths_are_told_in_one_way() {
        for (old, new) in [
            ("spec.devices.requests[0].count", "spec.devices.requests[0].exactly.count"),
            (
                "spec.spec.devices.requests[12].selectors[3].cel",
                "spec.spec.devices.requests[12].exactly.selectors[3].cel",
            ),
            ("spec.devices[1].basic.taints[0].key", "spec.devices[1].taints[0].key"),
        ] {
            assert_eq!((path_in_v1(old).as_ref(), path_in_v1(new).as_ref()), (new, new));
        }
        let same = "spec.devices.requests[0].name";
        assert_eq!(path_in_v1(same), same);
    }

    #[test]
    fn nodes_of_slices_are_told_or_not() {
        let old = json!({"spec": {"nodeName": "", "allNodes": false}});
        becomes("ResourceSlice", from_v1beta1, &old, &json!({"spec": {}}));
        becomes("ResourceSlice", to_v1beta1, &old, &json!({"spec": {}}));
        let told = json!({"spec": {"allNodes": true}});
        both_ways("ResourceSlice", told.clone(), told);
    }
}
