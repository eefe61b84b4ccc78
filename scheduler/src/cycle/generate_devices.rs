//! Devices, their classes and claims for them, for the made-up clusters.

use serde_json::{Value, json};

use super::generate::Dice;

const DRIVERS: [&str; 2] = ["gpu.example.com", "nic.example.com"];
const CLASSES: [&str; 5] = ["gpu", "nic", "any", "shared", "large"];

/// Objects by their key in a question.
pub fn devices(d: &mut Dice, nodes: &[String]) -> Value {
    let mut slices: Vec<Value> = nodes.iter().flat_map(|n| of_node(d, n)).collect();
    if d.one_in(2) {
        slices.push(network(d));
    }
    let held: Vec<Value> = slices.iter().filter(|s| !s["spec"]["devices"].is_null()).cloned().collect();
    let claims: Vec<Value> = ["red", "blue"]
        .iter()
        .flat_map(|namespace| (0..5).map(|i| (*namespace, i)).collect::<Vec<_>>())
        .map(|(namespace, i)| claim(d, namespace, i, &held))
        .collect();
    json!({ "slices": slices, "deviceClasses": classes(), "resourceClaims": claims })
}

fn classes() -> Value {
    let class = |name: &str, expression: &str| {
        json!({
            "metadata": { "name": name },
            "spec": { "selectors": [{ "cel": { "expression": expression } }] },
        })
    };
    let mut gpu = class("gpu", "device.driver == 'gpu.example.com'");
    gpu["spec"]["extendedResourceName"] = "example.com/accel".into();
    json!([
        gpu,
        class("nic", "device.driver == 'nic.example.com' && has(device.attributes['nic.example.com'].model)"),
        { "metadata": { "name": "any" }, "spec": {} },
        class("shared", "device.allowMultipleAllocations"),
        class(
            "large",
            "device.capacity['gpu.example.com'].?memory.orValue(quantity('0')).compareTo(quantity('8Gi')) >= 0"
        ),
    ])
}

fn device(d: &mut Dice, i: u64) -> Value {
    let mut device = json!({
        "name": format!("d{i}"),
        "attributes": {
            "numa": { "int": d.below(2) },
            "model": { "string": d.pick(&["a", "b"]) },
            "version": { "version": d.pick(&["1.2.3", "2.0.0"]) },
        },
        "capacity": { "memory": { "value": d.pick(&["4Gi", "8Gi", "16Gi"]) } },
    });
    if d.one_in(4) {
        device["allowMultipleAllocations"] = true.into();
        if d.one_in(2) {
            device["capacity"]["memory"]["requestPolicy"] =
                json!({ "default": "1Gi", "validRange": { "min": "1Gi", "step": "1Gi" } });
        }
    }
    if d.one_in(6) {
        device["taints"] = json!([{
            "key": "broken", "value": "", "effect": d.pick(&["NoSchedule", "NoExecute", "None"]),
            "timeAdded": "2026-01-01T00:00:00Z",
        }]);
    }
    device
}

/// A node's pool; some are partitioned, some are being changed, in some two devices have one name.
fn of_node(d: &mut Dice, node: &str) -> Vec<Value> {
    if d.one_in(4) {
        return Vec::new();
    }
    let driver = d.pick(&DRIVERS);
    let count = 1 + d.below(3);
    let mut devices: Vec<Value> = (0..count).map(|i| device(d, i)).collect();
    let counted = d.one_in(4);
    if counted {
        for device in &mut devices {
            device["consumesCounters"] =
                json!([{ "counterSet": "whole", "counters": { "slots": { "value": d.pick(&["1", "2"]) } } }]);
        }
    }
    if d.one_in(20) {
        devices.push(devices[0].clone());
    }
    let size = if d.one_in(20) { 3 } else { 1 + u64::from(counted) };
    let slice = |name: String, more: Value| {
        let mut spec = json!({
            "driver": driver, "nodeName": node,
            "pool": { "name": format!("pool-{node}"), "generation": 1, "resourceSliceCount": size },
        });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        json!({ "metadata": { "name": name }, "spec": spec })
    };
    let mut slices = vec![slice(format!("{node}-devices"), json!({ "devices": devices }))];
    if counted {
        let set = json!([{ "name": "whole", "counters": { "slots": { "value": "3" } } }]);
        slices.push(slice(format!("{node}-counters"), json!({ "sharedCounters": set })));
    }
    slices
}

/// Devices that several nodes reach.
fn network(d: &mut Dice) -> Value {
    let zone = d.pick(&["z1", "z2"]);
    let mut spec = json!({
        "driver": d.pick(&DRIVERS),
        "pool": { "name": "fabric", "generation": 1, "resourceSliceCount": 1 },
        "devices": (0..2).map(|i| device(d, i)).collect::<Vec<_>>(),
    });
    if d.one_in(3) {
        spec["allNodes"] = true.into();
    } else {
        let in_zone = json!([{ "key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone] }]);
        spec["nodeSelector"] = json!({ "nodeSelectorTerms": [{ "matchExpressions": in_zone }] });
    }
    json!({ "metadata": { "name": "fabric" }, "spec": spec })
}

fn way(d: &mut Dice) -> Value {
    let mut way = json!({ "deviceClassName": if d.one_in(30) { "missing" } else { d.pick(&CLASSES) } });
    if d.one_in(8) {
        way["allocationMode"] = "All".into();
    } else {
        way["allocationMode"] = "ExactCount".into();
        way["count"] = (1 + d.below(2)).into();
    }
    if d.one_in(3) {
        let expression = d.pick(&[
            "device.attributes['gpu.example.com'].?model.orValue('') == 'a'",
            "device.attributes[device.driver].numa == 0",
            "device.attributes[device.driver].version.isGreaterThan(semver('1.5.0'))",
            "'numa' in device.attributes['other.example.com']",
        ]);
        way["selectors"] = json!([{ "cel": { "expression": expression } }]);
    }
    if d.one_in(4) {
        way["tolerations"] = json!([{ "key": "broken", "operator": "Exists" }]);
    }
    if d.one_in(5) {
        way["capacity"] = json!({ "requests": { "memory": d.pick(&["1Gi", "1500Mi", "5Gi", "20Gi"]) } });
    }
    way
}

fn request(d: &mut Dice, i: u64) -> Value {
    let name = format!("r{i}");
    if d.one_in(3) {
        let ways: Vec<Value> = (0..=d.below(3))
            .map(|w| {
                let mut way = way(d);
                way["name"] = format!("w{w}").into();
                way
            })
            .collect();
        return json!({ "name": name, "firstAvailable": ways });
    }
    let mut exactly = way(d);
    if d.one_in(12) {
        exactly["adminAccess"] = true.into();
    }
    json!({ "name": name, "exactly": exactly })
}

fn claim(d: &mut Dice, namespace: &str, i: u64, slices: &[Value]) -> Value {
    let name = format!("k{i}");
    let mut devices = json!({ "requests": (0..=d.below(2)).map(|r| request(d, r)).collect::<Vec<_>>() });
    if d.one_in(4) {
        let attribute = format!("{}/{}", d.pick(&DRIVERS), d.pick(&["numa", "model"]));
        let kind = d.pick(&["matchAttribute", "distinctAttribute"]);
        devices["constraints"] = json!([{ kind: attribute }]);
    }
    let mut claim = json!({
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("{namespace}-{name}"), "resourceVersion": "1",
        },
        "spec": { "devices": devices },
        "status": {},
    });
    if d.one_in(20) {
        claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        claim["metadata"]["finalizers"] = json!(["resource.kubernetes.io/delete-protection"]);
    }
    if !slices.is_empty() && d.one_in(4) {
        claim["status"] = allocated(d, slices);
    }
    if (namespace, i) == ("red", 4) && d.one_in(3) {
        // Made for extended resources of a pod that was not bound then.
        let pod = format!("w{}", d.below(8));
        claim["metadata"]["annotations"] =
            json!({ "resource.kubernetes.io/extended-resource-claim": "true" });
        claim["metadata"]["ownerReferences"] = json!([{ "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": format!("uid-{pod}"), "controller": true }]);
    }
    claim
}

/// What a claim has that another pod uses, or did use.
fn allocated(d: &mut Dice, slices: &[Value]) -> Value {
    let slice = &slices[usize::try_from(d.below(slices.len() as u64)).unwrap()]["spec"];
    let result = json!({
        "request": "r0", "driver": slice["driver"], "pool": slice["pool"]["name"],
        "device": slice["devices"][0]["name"],
    });
    let mut allocation = json!({ "devices": { "results": [result] } });
    if let Some(node) = slice["nodeName"].as_str() {
        let field = json!([{ "key": "metadata.name", "operator": "In", "values": [node] }]);
        allocation["nodeSelector"] = json!({ "nodeSelectorTerms": [{ "matchFields": field }] });
    }
    let mut status = json!({ "allocation": allocation });
    if d.one_in(2) {
        status["reservedFor"] = json!([{ "resource": "pods", "name": "other", "uid": "uid-other" }]);
    }
    status
}

/// Gives a pod claims, some of them made from a template.
pub fn claim_some(d: &mut Dice, pod: &mut Value, devices: &Value) {
    if devices.is_null() || !d.one_in(3) {
        return;
    }
    let mut claims = Vec::new();
    for i in 0..=d.below(2) {
        let name = if d.one_in(15) { "missing".to_string() } else { format!("k{}", d.below(5)) };
        let mut claim = json!({ "name": format!("c{i}") });
        if d.one_in(8) {
            claim["resourceClaimTemplateName"] = "template".into();
            if d.one_in(2) {
                pod["status"]["resourceClaimStatuses"] =
                    json!([{ "name": format!("c{i}"), "resourceClaimName": name }]);
            }
        } else {
            claim["resourceClaimName"] = name.into();
        }
        claims.push(claim);
    }
    pod["spec"]["resourceClaims"] = claims.into();
}
