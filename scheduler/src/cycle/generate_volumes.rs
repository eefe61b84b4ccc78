//! Claims, volumes and what else storage needs, for the made-up clusters.

use serde_json::{Value, json};

use super::generate::Dice;

const DRIVER: &str = "csi.example.com";

/// Objects by their key in a question.
pub fn storage(d: &mut Dice, nodes: &[String]) -> Value {
    let mut volumes = Vec::new();
    let mut claims = Vec::new();
    for namespace in ["red", "blue"] {
        for i in 0..6 {
            let (claim, volume) = claim(d, namespace, i, nodes);
            claims.push(claim);
            volumes.extend(volume);
        }
    }
    for i in 0..d.below(6) {
        volumes.push(local(d, i, nodes));
    }
    json!({
        "claims": claims,
        "volumes": volumes,
        "classes": classes(d),
        "csiNodes": nodes.iter().filter_map(|n| csi_node(d, n)).collect::<Vec<_>>(),
        "csiDrivers": [{ "metadata": { "name": DRIVER }, "spec": { "storageCapacity": d.one_in(2) } }],
        "capacities": (0..d.below(3)).map(|i| capacity(d, i)).collect::<Vec<_>>(),
    })
}

fn classes(d: &mut Dice) -> Value {
    let mut later = json!({
        "metadata": { "name": "later" }, "provisioner": DRIVER, "volumeBindingMode": "WaitForFirstConsumer",
    });
    if d.one_in(3) {
        later["allowedTopologies"] = json!([{ "matchLabelExpressions": [{ "key": "topology.kubernetes.io/zone", "values": ["z1", "z2"] }] }]);
    }
    json!([
        { "metadata": { "name": "now" }, "provisioner": DRIVER, "volumeBindingMode": "Immediate" },
        later,
        { "metadata": { "name": "local" }, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer" },
    ])
}

fn csi_node(d: &mut Dice, name: &str) -> Option<Value> {
    if d.one_in(6) {
        return None;
    }
    let mut driver = json!({ "name": DRIVER, "nodeID": name });
    if !d.one_in(4) {
        driver["allocatable"] = json!({ "count": 1 + d.below(3) });
    }
    Some(json!({ "metadata": { "name": name }, "spec": { "drivers": [driver] } }))
}

fn capacity(d: &mut Dice, i: u64) -> Value {
    json!({
        "metadata": { "name": format!("capacity{i}"), "namespace": "default" },
        "storageClassName": "later",
        "nodeTopology": { "matchLabels": { "topology.kubernetes.io/zone": format!("z{}", i + 1) } },
        "capacity": d.pick(&["2Gi", "100Gi"]),
    })
}

fn on_node(key: &str, value: &str) -> Value {
    json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [{ "key": key, "operator": "In", "values": [value] }] }] } })
}

fn local(d: &mut Dice, i: u64, nodes: &[String]) -> Value {
    let node = &nodes[usize::try_from(d.below(nodes.len() as u64)).unwrap()];
    json!({
        "metadata": { "name": format!("local{i}"), "labels": { "speed": d.pick(&["fast", "slow"]) } },
        "spec": {
            "storageClassName": "local", "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
            "capacity": { "storage": d.pick(&["5Gi", "20Gi"]) },
            "local": { "path": "/x" },
            "nodeAffinity": on_node("kubernetes.io/hostname", node),
        },
        "status": { "phase": "Available" },
    })
}

fn claim(d: &mut Dice, namespace: &str, i: u64, nodes: &[String]) -> (Value, Option<Value>) {
    let name = format!("c{i}");
    let mut claim = json!({
        "metadata": { "name": name, "namespace": namespace, "uid": format!("{namespace}-{name}") },
        "spec": {
            "storageClassName": "now", "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
            "resources": { "requests": { "storage": d.pick(&["1Gi", "8Gi"]) } },
        },
        "status": { "phase": "Pending" },
    });
    match d.below(10) {
        0 => return (claim, None),
        1 => {
            claim["status"]["phase"] = "Lost".into();
            claim["spec"]["volumeName"] = "gone".into();
            return (claim, None);
        }
        2 | 3 => claim["spec"]["storageClassName"] = "later".into(),
        4 => {
            claim["spec"]["storageClassName"] = "local".into();
            if d.one_in(2) {
                claim["spec"]["selector"] = json!({ "matchLabels": { "speed": "fast" } });
            }
        }
        _ => return bound(d, claim, namespace, &name, nodes),
    }
    (claim, None)
}

fn bound(
    d: &mut Dice,
    mut claim: Value,
    namespace: &str,
    name: &str,
    nodes: &[String],
) -> (Value, Option<Value>) {
    let volume = format!("pv-{namespace}-{name}");
    claim["metadata"]["annotations"] = json!({ "pv.kubernetes.io/bind-completed": "yes" });
    claim["spec"]["volumeName"] = volume.as_str().into();
    claim["status"]["phase"] = "Bound".into();
    if d.one_in(4) {
        claim["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    }
    if d.one_in(16) {
        claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        claim["metadata"]["finalizers"] = json!(["kubernetes.io/pvc-protection"]);
    }
    let mut spec = json!({
        "storageClassName": "now", "accessModes": claim["spec"]["accessModes"], "volumeMode": "Filesystem",
        "capacity": { "storage": "10Gi" },
        "csi": { "driver": DRIVER, "volumeHandle": if d.one_in(4) { "shared".into() } else { volume.clone() } },
        "claimRef": { "namespace": namespace, "name": name, "uid": claim["metadata"]["uid"] },
    });
    let mut labels = json!({});
    if d.one_in(4) {
        let node = &nodes[usize::try_from(d.below(nodes.len() as u64)).unwrap()];
        spec["nodeAffinity"] = on_node("kubernetes.io/hostname", node);
    } else if d.one_in(3) {
        spec["nodeAffinity"] = on_node("topology.kubernetes.io/zone", d.pick(&["z1", "z2"]));
    } else if d.one_in(2) {
        labels["topology.kubernetes.io/zone"] = d.pick(&["z1", "z1__z2"]).into();
    }
    if d.one_in(10) {
        return (claim, None);
    }
    let volume = json!({ "metadata": { "name": volume, "labels": labels }, "spec": spec, "status": { "phase": "Bound" } });
    (claim, Some(volume))
}

/// Gives a pod volumes; it may use only what is there.
pub fn mount(d: &mut Dice, spec: &mut Value, _namespace: &str, storage: &Value) {
    let mut volumes = Vec::new();
    if !storage.is_null() && d.one_in(3) {
        for i in 0..=d.below(2) {
            let claim = if d.one_in(12) { "missing".to_string() } else { format!("c{}", d.below(6)) };
            volumes.push(json!({ "name": format!("v{i}"), "persistentVolumeClaim": { "claimName": claim } }));
        }
    }
    if d.one_in(30) {
        volumes.push(json!({ "name": "e", "ephemeral": { "volumeClaimTemplate": { "spec": { "accessModes": ["ReadWriteOnce"] } } } }));
    }
    if d.one_in(10) {
        let disk = json!({ "pdName": d.pick(&["d1", "d2"]), "readOnly": d.one_in(2) });
        volumes.push(json!({ "name": "disk", "gcePersistentDisk": disk }));
    }
    if d.one_in(12) {
        volumes.push(json!({ "name": "image", "image": { "reference": "web:2" } }));
    }
    if d.one_in(12) {
        volumes.push(json!({ "name": "inline", "csi": { "driver": DRIVER } }));
    }
    if !volumes.is_empty() {
        spec["volumes"] = volumes.into();
    }
}
