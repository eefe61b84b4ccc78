//! What there is in made-up clusters that counts with some feature gates only. It is there whether they are on or not, as
//! it is in the store after a gate was turned off. Drawn apart from the rest, which stays the same without it.

use serde_json::{Value, json};

use super::generate::Dice;

const DRIVERS: [&str; 2] = ["gpu.example.com", "nic.example.com"];

/// Gates that are on by default, and gates that are not.
const ON: [&str; 8] = [
    "DRAConsumableCapacity",
    "DRADeviceBindingConditions",
    "DRADeviceTaints",
    "DRAPartitionableDevices",
    "DRASchedulerFilterTimeout",
    "InPlacePodLevelResourcesVerticalScaling",
    "StorageCapacityScoring",
    "VolumeLimitScaling",
];
const OFF: [&str; 6] = [
    "DRADerivedAttributes",
    "DRADeviceCompatibilityGroups",
    "DRAFractionalCapacityRange",
    "DRAListTypeAttributes",
    "DRANodeAllocatableResources",
    "DRAOptionalNodeOperations",
];

/// Turns some gates on or off. Those that others need stay on for them.
fn gates(d: &mut Dice) -> Value {
    let mut gates = json!({ "DRAFractionalCapacityRange": false });
    if d.one_in(2) {
        return gates;
    }
    for name in OFF {
        gates[name] = d.one_in(2).into();
    }
    for name in ON {
        gates[name] = (!d.one_in(5)).into();
    }
    for (name, needed) in [
        ("DRADeviceCompatibilityGroups", "DRAPartitionableDevices"),
        ("DRAFractionalCapacityRange", "DRAConsumableCapacity"),
    ] {
        if gates[name] == true {
            gates[needed] = true.into();
        }
    }
    if d.one_in(6) {
        // With all that needs it.
        for name in [
            "InPlacePodLevelResourcesVerticalScaling",
            "PodLevelResources",
            "PodLevelResourcesFixDefaulting",
            "PodLevelResourcesFixKubeletQOSClass",
        ] {
            gates[name] = false.into();
        }
    }
    gates["DRADeviceTaintRules"] = gates["DRADeviceTaints"].clone();
    // Upstream has its oldest allocator serve then, which tries pools in any order.
    if gates["DRAConsumableCapacity"] == false {
        gates["DRADeviceBindingConditions"] = true.into();
    }
    gates
}

/// Adds it to a whole cluster, and gates.
pub fn extend_question(seed: u64, question: &mut Value) {
    let d = &mut Dice::new(seed ^ 0x6761_7465);
    question["gates"] = gates(d);
    if d.one_in(2) {
        extend(d, question);
    }
    if d.one_in(2) && question["slices"].is_array() {
        simplify(d, question);
    }
    for node in list(question, "nodes") {
        if d.one_in(2) {
            node["status"]["declaredFeatures"]
                .as_array_mut()
                .unwrap()
                .push("DRAOptionalNodeOperations".into());
        }
    }
    for driver in list(question, "csiDrivers") {
        driver["spec"]["preventPodSchedulingIfMissing"] = d.one_in(2).into();
    }
    for pod in list(question, "pods") {
        use_claims(d, pod);
    }
    for pod in list(question, "placed") {
        let had =
            |d: &mut Dice| json!({ "cpu": d.pick(&["300m", "1", "2"]), "memory": d.pick(&["100Mi", "2Gi"]) });
        if d.one_in(10) {
            pod["status"]["resources"] = json!({ "requests": had(d) });
            if !d.one_in(3) {
                pod["status"]["allocatedResources"] = had(d);
            }
        }
        if d.one_in(10) {
            let overhead = json!([{ "name": "memory", "perPod": "100Mi", "perContainer": "50Mi" }]);
            pod["status"]["nodeAllocatableResourceClaimStatuses"] = json!([
                { "resourceClaimName": "x", "containers": ["c0"], "overhead": overhead },
                { "resourceClaimName": "y", "mapping": [{ "name": "cpu", "quantity": d.pick(&["250m", "1"]) }] },
            ]);
        }
        if d.one_in(16) {
            let reason = d.pick(&["Infeasible", "Infeasible", "Other"]);
            pod["status"]["conditions"] =
                json!([{ "type": "PodResizePending", "status": "True", "reason": reason }]);
        }
    }
}

/// Claims that are easily met, more pods that use them, and devices that take of a node's own resources: what follows a
/// successful allocation is seen rarely otherwise.
fn simplify(d: &mut Dice, question: &mut Value) {
    question["gates"]["DRANodeAllocatableResources"] = (!d.one_in(5)).into();
    for claim in list(question, "resourceClaims") {
        if claim["status"]["allocation"].is_null() && !d.one_in(4) {
            let tolerations = json!([{ "operator": "Exists" }]);
            claim["spec"]["devices"] = json!({ "requests": [{ "name": "r0", "exactly": {
                "deviceClassName": "any", "allocationMode": "ExactCount", "count": 1, "tolerations": tolerations,
            } }] });
        }
    }
    for slice in list(question, "slices") {
        for device in list(&mut slice["spec"], "devices") {
            device["nodeAllocatableResources"] = node_resources(d);
        }
    }
    for pod in list(question, "pods") {
        if pod["spec"]["resourceClaims"].is_null() && d.one_in(2) {
            let name = format!("k{}", d.below(5));
            pod["spec"]["resourceClaims"] = json!([{ "name": "c0", "resourceClaimName": name }]);
        }
    }
}

/// What a device takes of its node.
fn node_resources(d: &mut Dice) -> Value {
    match d.below(4) {
        0 => json!({ "cpu": { "mapping": { "deviceMultiplier": d.pick(&["500m", "1", "3"]) } } }),
        1 => json!({ "memory": {
            "mapping": { "capacityKey": "memory", "capacityMultiplier": d.pick(&["1", "500m"]) },
        } }),
        2 => json!({ "memory": { "overhead": { "perPod": "100Mi", "perContainer": "1Gi" } } }),
        _ => json!({
            "cpu": { "overhead": { "perContainer": "250m" } },
            "hugepages-2Mi": { "mapping": { "deviceMultiplier": d.pick(&["2Mi", "48Mi"]) } },
        }),
    }
}

/// Containers that use claims, and limits.
fn use_claims(d: &mut Dice, pod: &mut Value) {
    let spec = &mut pod["spec"];
    let names: Vec<Value> = spec["resourceClaims"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|claim| json!({ "name": claim["name"] }))
        .collect();
    if names.is_empty() {
        return;
    }
    for kind in ["initContainers", "containers"] {
        for container in list(spec, kind) {
            if d.one_in(2) {
                continue;
            }
            container["resources"]["claims"] = names.clone().into();
            if d.one_in(3) {
                container["resources"]["limits"] = json!({ "cpu": d.pick(&["1", "3"]), "memory": "6Gi" });
            }
        }
    }
    if d.one_in(4) {
        spec["resources"] = json!({
            "requests": { "cpu": d.pick(&["800m", "4"]), "hugepages-2Mi": d.pick(&["32Mi", "64Mi"]) },
            "limits": { "cpu": d.pick(&["3", "5"]), "memory": d.pick(&["6Gi", "7Gi"]), "hugepages-2Mi": "64Mi" },
        });
    }
}

/// Adds it to slices and to claims.
pub fn extend(d: &mut Dice, devices: &mut Value) {
    for slice in list(devices, "slices") {
        extend_slice(d, slice);
    }
    for claim in list(devices, "resourceClaims") {
        if claim["status"]["allocation"].is_null() {
            extend_claim(d, claim);
        } else {
            extend_result(d, claim);
        }
    }
}

fn list<'a>(of: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    of.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

fn extend_slice(d: &mut Dice, slice: &mut Value) {
    let spec = &mut slice["spec"];
    if d.one_in(5) && !spec["devices"].is_null() {
        spec["skipNodeOperations"] = json!([d.pick(&["NodePrepareResources", "*"])]);
    }
    let by_device = spec["nodeName"].is_null() && spec["sharedCounters"].is_null() && d.one_in(2);
    if by_device {
        let fields = spec.as_object_mut().unwrap();
        fields.remove("allNodes");
        fields.remove("nodeSelector");
        fields.insert("perDeviceNodeSelection".into(), true.into());
    }
    for device in list(spec, "devices") {
        extend_device(d, device);
        if by_device {
            match d.below(3) {
                0 => device["allNodes"] = true.into(),
                1 => device["nodeName"] = format!("n{}", d.below(3)).into(),
                _ => {
                    let zone = json!([{ "key": "topology.kubernetes.io/zone", "operator": "In", "values": [d.pick(&["z1", "z2"])] }]);
                    device["nodeSelector"] = json!({ "nodeSelectorTerms": [{ "matchExpressions": zone }] });
                }
            }
        }
    }
}

fn extend_device(d: &mut Dice, device: &mut Value) {
    if d.one_in(2) {
        device["attributes"]["links"] = match d.below(5) {
            0 => json!({ "int": d.below(3) }),
            1 => json!({ "strings": ["a"] }),
            2 => json!({ "versions": ["1.2.3", "2.0.0"] }),
            3 => json!({ "bools": [d.one_in(2)] }),
            _ => json!({ "ints": [d.below(3), 3 + d.below(2)] }),
        };
    }
    if d.one_in(8) {
        device["attributes"]["model"] = json!({ "strings": [d.pick(&["a", "b"]), "c"] });
    }
    if d.one_in(3) {
        let mut cores = json!({ "value": d.pick(&["2", "3500m", "8"]) });
        cores["requestPolicy"] = match d.below(4) {
            0 => json!({ "default": "1", "validValues": ["500m", "1", "2"] }),
            1 => json!({ "default": "1", "validRange": { "min": "1", "max": "3", "step": "1" } }),
            2 => {
                json!({ "default": "500m", "validRange": { "min": "500m", "max": "2500m", "step": "250m" } })
            }
            _ => json!({ "default": "1500m", "validRange": { "min": "1500m", "step": "500m" } }),
        };
        device["capacity"]["cores"] = cores;
    }
    for used in list(device, "consumesCounters") {
        match d.below(5) {
            0 => used["compatibilityGroups"] = json!(["x"]),
            1 => used["compatibilityGroups"] = json!(["x", "y"]),
            2 => used["compatibilityGroups"] = json!(["y"]),
            _ => {}
        }
    }
    if d.one_in(4) {
        device["nodeAllocatableResources"] = match d.below(4) {
            0 => json!({ "cpu": { "mapping": { "deviceMultiplier": d.pick(&["500m", "1"]) } } }),
            1 => {
                json!({ "memory": { "mapping": { "capacityKey": "memory", "capacityMultiplier": d.pick(&["1", "500m"]) } } })
            }
            2 => json!({ "memory": { "overhead": { "perPod": "100Mi", "perContainer": "1Gi" } } }),
            _ => json!({
                "cpu": { "overhead": { "perContainer": "250m" } },
                "hugepages-2Mi": { "mapping": { "deviceMultiplier": d.pick(&["2Mi", "48Mi"]) } },
            }),
        };
    }
    if d.one_in(8) {
        device["bindingConditions"] = json!(["ready"]);
        device["bindingFailureConditions"] = json!(["failed"]);
        if d.one_in(2) {
            device["bindsToNode"] = true.into();
        }
    }
}

fn extend_claim(d: &mut Dice, claim: &mut Value) {
    let devices = &mut claim["spec"]["devices"];
    for request in list(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly") {
            extend_way(d, exactly);
        }
        for way in list(request, "firstAvailable") {
            extend_way(d, way);
        }
    }
    if d.one_in(2) {
        let attribute = match d.below(3) {
            0 => "computed.example.com/key".to_string(),
            1 => format!("{}/links", d.pick(&DRIVERS)),
            _ => format!("{}/model", d.pick(&DRIVERS)),
        };
        let mut constraint = json!({ d.pick(&["matchAttribute", "distinctAttribute"]): attribute });
        if d.one_in(3) {
            constraint["requests"] = json!([d.pick(&["r0", "r1", "r0/w0", "r1/w1"])]);
        }
        devices["constraints"] = json!([constraint]);
    }
}

fn extend_way(d: &mut Dice, way: &mut Value) {
    if d.one_in(3) {
        let expression = match d.below(30) {
            // No API server takes these.
            0 => d.pick(&["1.5", "{'a': 1}", "[[1]]", "noSuchVariable"]),
            1 => d.pick(&[
                "device.attributes['none.example.com'].none",
                "device.capacity['gpu.example.com'].memory",
                "[1, 'a']",
            ]),
            _ => d.pick(&[
                "device.attributes[device.driver].numa",
                "device.attributes[device.driver].numa == 0",
                "device.attributes[device.driver].model",
                "device.attributes[device.driver].version",
                "device.attributes[device.driver].version.isGreaterThan(semver('1.5.0')) ? 'new' : 'old'",
                "semver('1.2.3')",
                "[device.attributes[device.driver].numa, 7]",
                "['a', 'b'].filter(x, x == device.attributes[device.driver].model)",
                "device.attributes[device.driver].?links.orValue([4])",
                "[device.attributes[device.driver].numa, 0].includes(1)",
            ]),
        };
        way["derivedAttributes"] = json!([{ "name": "computed.example.com/key", "expression": expression }]);
    }
    if d.one_in(5) {
        let cores = d.pick(&["300m", "600m", "1", "1600m", "2500m", "1500u"]);
        way["capacity"]["requests"]["cores"] = cores.into();
    }
}

/// What others have, or had.
fn extend_result(d: &mut Dice, claim: &mut Value) {
    let result = &mut claim["status"]["allocation"]["devices"]["results"][0];
    if d.one_in(4) {
        result["skipNodeOperations"] = json!(["*"]);
    }
    if d.one_in(3) {
        result["shareID"] = format!("6d7a5a24-3b5b-4b0e-8c4f-{:012}", d.below(1000)).into();
        if !d.one_in(3) {
            result["consumedCapacity"] =
                json!({ "memory": d.pick(&["1Gi", "3Gi"]), "cores": d.pick(&["500m", "1"]) });
        }
    }
    if d.one_in(4) {
        result["bindingConditions"] = json!(["ready"]);
        result["bindingFailureConditions"] = json!(["failed"]);
        if d.one_in(2) {
            claim["status"]["allocation"]["allocationTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
    }
}
