//! Clusters and pods made up from a seed, so that every plugin has something to say. The same seed gives the same
//! objects everywhere and always: recorded answers depend on it.

use serde_json::{Map, Value, json};

/// splitmix64.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0123_4567_89ab_cdef)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0..n.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True once in `n` throws.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }

    fn some(&mut self, list: &[&str], most: u64) -> Vec<String> {
        (0..=self.below(most)).map(|_| self.pick(list).to_string()).collect()
    }
}

const NAMESPACES: [&str; 2] = ["red", "blue"];
const APPS: [&str; 3] = ["a", "b", "c"];
const ZONES: [&str; 3] = ["z1", "z2", "z3"];
const KEYS: [&str; 3] = ["kubernetes.io/hostname", "topology.kubernetes.io/zone", "rack"];
/// What nodes declare; pods can need all but the first.
const FEATURES: [&str; 4] = [
    "ExtendWebSocketsToKubelet",
    "RestartAllContainersOnContainerExits",
    "UserNamespacesHostNetworkSupport",
    "VolumeBindMountOptions",
];
const IMAGES: [&str; 4] =
    ["registry.example/web:1", "registry.example/db", "web:2", "registry.example:5000/big"];

/// A cluster with pods that wait.
pub fn question(seed: u64) -> Value {
    let mut dice = Dice::new(seed);
    let d = &mut dice;
    let nodes = 2 + d.below(8);
    let names: Vec<String> = (0..nodes).map(|i| format!("n{i}")).collect();
    let storage = super::generate_volumes::storage(d, &names);
    let devices = if d.one_in(3) { super::generate_devices::devices(d, &names) } else { Value::Null };
    let mut placed: Vec<Value> = (0..d.below(3 * nodes))
        .map(|i| {
            let on = names[usize::try_from(d.below(nodes)).unwrap()].clone();
            pod(d, &format!("p{i}"), Some(&on), &storage)
        })
        .collect();
    part_ports(&mut placed);
    let pods: Vec<Value> = (0..8)
        .map(|i| {
            let mut pod = pod(d, &format!("w{i}"), None, &storage);
            super::generate_devices::claim_some(d, &mut pod, &devices);
            pod
        })
        .collect();
    let mut question = json!({
        "nodes": names.iter().map(|n| node(d, n)).collect::<Vec<_>>(),
        "placed": placed,
        "namespaces": NAMESPACES.map(|n| json!({ "metadata": { "name": n, "labels": { "kubernetes.io/metadata.name": n, "team": n } } })),
        "services": services(d),
        "replicaSets": replica_sets(),
        "budgets": budgets(d),
        "pods": pods,
    });
    for (key, list) in storage.as_object().into_iter().chain(devices.as_object()).flatten() {
        question[key] = list.clone();
    }
    if d.one_in(4) {
        question["config"] = config(d);
    }
    super::generate_gated::extend_question(seed, &mut question);
    question
}

fn node(d: &mut Dice, name: &str) -> Value {
    let mut labels = Map::new();
    labels.insert("kubernetes.io/hostname".into(), name.into());
    if !d.one_in(5) {
        labels.insert("topology.kubernetes.io/zone".into(), d.pick(&ZONES).into());
    }
    if d.one_in(2) {
        labels.insert("rack".into(), d.pick(&["r1", "r2"]).into());
    }
    if d.one_in(2) {
        labels.insert("disk".into(), d.pick(&["ssd", "hdd"]).into());
    }
    if d.one_in(2) {
        labels.insert("size".into(), d.pick(&["1", "5", "12", "big"]).into());
    }
    let mut allocatable = json!({
        "cpu": d.pick(&["2", "4", "1500m"]),
        "memory": d.pick(&["4Gi", "8Gi", "3G"]),
        "pods": d.pick(&["110", "8", "4"]),
        "ephemeral-storage": d.pick(&["10Gi", "100Gi"]),
    });
    if d.one_in(3) {
        allocatable["example.com/gpu"] = d.pick(&["1", "4"]).into();
    }
    if d.one_in(4) {
        allocatable["hugepages-2Mi"] = "64Mi".into();
    }
    if d.one_in(4) {
        allocatable["example.com/accel"] = d.pick(&["0", "3"]).into();
    }
    let taints: Vec<Value> =
        (0..d.below(3)).filter_map(|_| if d.one_in(3) { Some(taint(d)) } else { None }).collect();
    let images: Vec<Value> = IMAGES
        .iter()
        .filter_map(|i| if d.one_in(2) { Some(json!({ "names": [if i.contains("db") { "registry.example/db:latest" } else { i }], "sizeBytes": 1_000_000 * (10 + d.below(900)) })) } else { None })
        .collect();
    let mut features = d.some(&FEATURES, 3);
    features.sort();
    features.dedup();
    json!({
        "metadata": { "name": name, "labels": labels },
        "spec": { "taints": taints, "unschedulable": d.one_in(12) },
        "status": { "allocatable": allocatable, "images": images, "declaredFeatures": features },
    })
}

fn taint(d: &mut Dice) -> Value {
    json!({
        "key": d.pick(&["dedicated", "slow"]),
        "value": d.pick(&["x", "y", ""]),
        "effect": d.pick(&["NoSchedule", "PreferNoSchedule", "PreferNoSchedule", "NoExecute"]),
    })
}

fn toleration(d: &mut Dice) -> Value {
    match d.below(4) {
        0 => json!({ "operator": "Exists" }),
        1 => {
            json!({ "key": d.pick(&["dedicated", "slow"]), "operator": "Exists", "effect": d.pick(&["", "NoSchedule"]) })
        }
        2 => json!({ "key": "node.kubernetes.io/unschedulable", "operator": "Exists" }),
        _ => {
            json!({ "key": d.pick(&["dedicated", "slow"]), "operator": "Equal", "value": d.pick(&["x", "y", ""]) })
        }
    }
}

fn labels(d: &mut Dice) -> Value {
    let mut labels = json!({ "app": d.pick(&APPS) });
    if d.one_in(2) {
        labels["version"] = d.pick(&["1", "2"]).into();
    }
    labels
}

fn selector(d: &mut Dice) -> Value {
    match d.below(6) {
        0 => json!({}),
        1 => json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": ["a", "b"] }] }),
        2 => {
            json!({ "matchExpressions": [{ "key": "version", "operator": d.pick(&["Exists", "DoesNotExist"]) }] })
        }
        3 => {
            json!({ "matchExpressions": [{ "key": "app", "operator": "NotIn", "values": [d.pick(&APPS)] }] })
        }
        _ => json!({ "matchLabels": { "app": d.pick(&APPS) } }),
    }
}

fn term(d: &mut Dice) -> Value {
    let mut term = json!({ "labelSelector": selector(d), "topologyKey": d.pick(&KEYS) });
    match d.below(6) {
        0 => term["namespaces"] = json!(d.some(&NAMESPACES, 2)),
        1 => term["namespaceSelector"] = json!({}),
        2 => term["namespaceSelector"] = json!({ "matchLabels": { "team": d.pick(&NAMESPACES) } }),
        _ => {}
    }
    if d.one_in(10) {
        term.as_object_mut().unwrap().remove("labelSelector");
    }
    term
}

fn pod_affinity(d: &mut Dice, rare: u64) -> Value {
    let mut affinity = json!({});
    if d.one_in(rare) {
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] =
            (0..=d.below(2)).map(|_| term(d)).collect();
    }
    if d.one_in(2) {
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = (0..=d.below(2))
            .map(|_| json!({ "weight": 1 + d.below(100), "podAffinityTerm": term(d) }))
            .collect();
    }
    affinity
}

fn node_term(d: &mut Dice) -> Value {
    let expression = |d: &mut Dice| match d.below(6) {
        0 => json!({ "key": "disk", "operator": "In", "values": d.some(&["ssd", "hdd"], 2) }),
        1 => json!({ "key": "disk", "operator": "NotIn", "values": ["ssd"] }),
        2 => json!({ "key": "rack", "operator": d.pick(&["Exists", "DoesNotExist"]) }),
        3 => {
            json!({ "key": "size", "operator": d.pick(&["Gt", "Lt"]), "values": [d.pick(&["4", "5", "x"])] })
        }
        4 => json!({ "key": "topology.kubernetes.io/zone", "operator": "In", "values": d.some(&ZONES, 3) }),
        _ => json!({ "key": "missing", "operator": "DoesNotExist" }),
    };
    let mut term = json!({});
    if !d.one_in(4) {
        term["matchExpressions"] = (0..=d.below(2)).map(|_| expression(d)).collect();
    }
    if d.one_in(3) {
        let operator = if d.one_in(3) { "NotIn" } else { "In" };
        let name = format!("n{}", d.below(9));
        term["matchFields"] = json!([{ "key": "metadata.name", "operator": operator, "values": [name] }]);
    }
    term
}

fn node_affinity(d: &mut Dice) -> Value {
    let mut affinity = json!({});
    if d.one_in(2) {
        let terms: Vec<Value> = (0..=d.below(2)).map(|_| node_term(d)).collect();
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = json!({ "nodeSelectorTerms": terms });
    }
    if d.one_in(2) {
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = (0..=d.below(3))
            .map(|_| json!({ "weight": 1 + d.below(100), "preference": node_term(d) }))
            .collect();
    }
    affinity
}

fn spread(d: &mut Dice) -> Value {
    let hard = d.one_in(2);
    let mut constraint = json!({
        "maxSkew": 1 + d.below(3),
        "topologyKey": d.pick(&KEYS),
        "whenUnsatisfiable": if hard { "DoNotSchedule" } else { "ScheduleAnyway" },
        "labelSelector": selector(d),
    });
    if hard && d.one_in(3) {
        constraint["minDomains"] = (1 + d.below(5)).into();
    }
    if d.one_in(3) {
        constraint["nodeAffinityPolicy"] = d.pick(&["Honor", "Ignore"]).into();
    }
    if d.one_in(3) {
        constraint["nodeTaintsPolicy"] = d.pick(&["Honor", "Ignore"]).into();
    }
    if d.one_in(3) {
        constraint["matchLabelKeys"] = json!(["version"]);
    }
    constraint
}

fn requests(d: &mut Dice) -> Value {
    let mut requests = json!({});
    if !d.one_in(4) {
        requests["cpu"] = d.pick(&["100m", "500m", "1", "1900m", "3"]).into();
    }
    if !d.one_in(4) {
        requests["memory"] = d.pick(&["64Mi", "1Gi", "2500M", "6Gi"]).into();
    }
    if d.one_in(6) {
        requests["ephemeral-storage"] = d.pick(&["1Gi", "20Gi"]).into();
    }
    if d.one_in(8) {
        requests["example.com/gpu"] = d.pick(&["1", "2", "8"]).into();
    }
    if d.one_in(12) {
        requests["hugepages-2Mi"] = "32Mi".into();
    }
    if d.one_in(12) {
        requests["example.com/accel"] = d.pick(&["1", "2"]).into();
    }
    if d.one_in(24) {
        requests["deviceclass.resource.kubernetes.io/nic"] = d.pick(&["1", "2"]).into();
    }
    requests
}

fn container(d: &mut Dice, name: &str) -> Value {
    let mut container = json!({
        "name": name,
        "image": d.pick(&IMAGES),
        "resources": { "requests": requests(d) },
    });
    if d.one_in(6) {
        let mut port = json!({ "containerPort": 80, "hostPort": 8000 + d.below(3), "protocol": d.pick(&["TCP", "UDP"]) });
        if d.one_in(2) {
            port["hostIP"] = d.pick(&["127.0.0.1", "10.0.0.1", "0.0.0.0"]).into();
        }
        container["ports"] = json!([port]);
    }
    if d.one_in(40) {
        container["restartPolicyRules"] = json!([{
            "action": d.pick(&["Restart", "RestartAllContainers"]),
            "exitCodes": { "operator": "In", "values": [1] },
        }]);
    }
    if d.one_in(40) {
        container["volumeMounts"] =
            json!([{ "name": "v", "mountPath": "/v", "bindMountOptions": [d.pick(&["noexec", "nosuid"])] }]);
    }
    container
}

fn containers(d: &mut Dice, spec: &mut Value) {
    spec["containers"] = (0..=d.below(2)).map(|i| container(d, &format!("c{i}"))).collect();
    if d.one_in(4) {
        let init: Vec<Value> = (0..=d.below(2))
            .map(|i| {
                let mut init = container(d, &format!("i{i}"));
                if d.one_in(2) {
                    init["restartPolicy"] = "Always".into();
                }
                init
            })
            .collect();
        spec["initContainers"] = init.into();
    }
    if d.one_in(10) {
        spec["overhead"] = json!({ "cpu": "250m", "memory": "120Mi" });
    }
    if d.one_in(10) {
        spec["resources"] = json!({ "requests": { "cpu": d.pick(&["800m", "2500m"]) } });
        if d.one_in(2) {
            spec["resources"]["requests"]["memory"] = d.pick(&["256Mi", "3Gi"]).into();
        }
    }
}

/// Takes host ports away that another pod of the node has: no scheduler put both there, and upstream, which keeps a
/// set of them, takes such a port for free as soon as one of the two is gone.
fn part_ports(placed: &mut [Value]) {
    let mut known = std::collections::BTreeSet::new();
    for pod in placed {
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_string();
        let mut own = Vec::new();
        for list in ["containers", "initContainers"] {
            for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let Some(ports) = container.get_mut("ports").and_then(Value::as_array_mut) else { continue };
                ports.retain(|port| {
                    let ip = port["hostIP"].as_str().unwrap_or("0.0.0.0");
                    let key = format!("{node} {ip} {} {}", port["protocol"], port["hostPort"]);
                    let free = !known.contains(&key);
                    own.push(key);
                    free
                });
            }
        }
        known.extend(own);
    }
}

/// What restricts where a pod may go.
fn wishes(d: &mut Dice, spec: &mut Value, placed: bool) {
    let rare = if placed { 6 } else { 3 };
    if d.one_in(4) {
        spec["tolerations"] = (0..=d.below(2)).map(|_| toleration(d)).collect();
    }
    if d.one_in(8) {
        spec["nodeSelector"] = json!({ "disk": d.pick(&["ssd", "hdd"]) });
    }
    let mut affinity = json!({});
    if d.one_in(4) {
        affinity["nodeAffinity"] = node_affinity(d);
    }
    if d.one_in(rare) {
        affinity["podAffinity"] = pod_affinity(d, 3);
    }
    if d.one_in(rare) {
        affinity["podAntiAffinity"] = pod_affinity(d, 2);
    }
    if affinity != json!({}) {
        spec["affinity"] = affinity;
    }
    if !placed && d.one_in(3) {
        spec["topologySpreadConstraints"] = (0..=d.below(2)).map(|_| spread(d)).collect();
    }
}

fn pod(d: &mut Dice, name: &str, on: Option<&str>, storage: &Value) -> Value {
    let namespace = d.pick(&NAMESPACES);
    let mut spec = json!({ "schedulerName": "default-scheduler", "priority": 10 * d.below(4) });
    containers(d, &mut spec);
    wishes(d, &mut spec, on.is_some());
    if let Some(node) = on {
        spec["nodeName"] = node.into();
    }
    if d.one_in(16) {
        spec["preemptionPolicy"] = "Never".into();
    }
    if d.one_in(12) {
        spec["hostNetwork"] = d.one_in(2).into();
        spec["hostUsers"] = d.one_in(2).into();
    }
    if on.is_none() && d.one_in(12) {
        // As a pod whose resources are changed in place is looked at again. Some of these nodes do not exist.
        spec["nodeName"] = format!("n{}", d.below(9)).into();
    }
    super::generate_volumes::mount(d, &mut spec, namespace, storage);
    let mut metadata =
        json!({ "name": name, "namespace": namespace, "uid": format!("uid-{name}"), "labels": labels(d) });
    if d.one_in(3) {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("set-{}", metadata["labels"]["app"].as_str().unwrap()),
            "uid": "u", "controller": true,
        }]);
    }
    if on.is_some() && d.one_in(12) {
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        metadata["finalizers"] = json!(["example.com/keep"]);
    }
    let start = format!("2026-01-01T00:00:{:02}Z", d.below(60));
    let mut status = if on.is_some() { json!({ "phase": "Running", "startTime": start }) } else { json!({}) };
    if on.is_some() && d.one_in(8) {
        // Its resources are being changed in place.
        let (asked, given) = (requests(d), requests(d));
        status["containerStatuses"] =
            json!([{ "name": "c0", "allocatedResources": asked, "resources": { "requests": given } }]);
    }
    json!({ "metadata": metadata, "spec": spec, "status": status })
}

fn services(d: &mut Dice) -> Value {
    let mut services = Vec::new();
    for namespace in NAMESPACES {
        if d.one_in(2) {
            services.push(json!({
                "metadata": { "name": "s", "namespace": namespace },
                "spec": { "selector": { "app": d.pick(&APPS) } },
            }));
        }
    }
    services.into()
}

fn replica_sets() -> Value {
    let one = |namespace: &str, app: &str| {
        json!({
            "metadata": { "name": format!("set-{app}"), "namespace": namespace },
            "spec": {
                "selector": { "matchLabels": { "app": app } },
                "template": { "metadata": { "labels": { "app": app } }, "spec": { "containers": [] } },
            },
        })
    };
    NAMESPACES.iter().flat_map(|n| APPS.map(|a| one(n, a))).collect()
}

fn budgets(d: &mut Dice) -> Value {
    let mut budgets = Vec::new();
    for namespace in NAMESPACES {
        if d.one_in(2) {
            budgets.push(json!({
                "metadata": { "name": "b", "namespace": namespace },
                "spec": { "selector": { "matchLabels": { "app": d.pick(&APPS) } } },
                "status": { "disruptionsAllowed": d.below(3), "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1 },
            }));
        }
    }
    budgets.into()
}

/// A profile that is not the default one.
fn config(d: &mut Dice) -> Value {
    let strategy = match d.below(3) {
        0 => {
            json!({ "type": "MostAllocated", "resources": [{ "name": "cpu", "weight": 3 }, { "name": "example.com/gpu", "weight": 2 }] })
        }
        1 => json!({
            "type": "RequestedToCapacityRatio",
            "resources": [{ "name": "cpu", "weight": 1 }, { "name": "memory", "weight": 2 }],
            "requestedToCapacityRatio": { "shape": [{ "utilization": 0, "score": 2 }, { "utilization": 60, "score": 9 }, { "utilization": 100, "score": 4 }] },
        }),
        _ => {
            json!({ "type": "LeastAllocated", "resources": [{ "name": "memory", "weight": 5 }, { "name": "ephemeral-storage", "weight": 1 }] })
        }
    };
    let mut plugins = vec![
        json!({ "name": "NodeResourcesFit", "args": { "scoringStrategy": strategy, "ignoredResourceGroups": ["example.com"] } }),
        json!({ "name": "InterPodAffinity", "args": { "hardPodAffinityWeight": d.below(100), "ignorePreferredTermsOfExistingPods": d.one_in(2) } }),
    ];
    if d.one_in(2) {
        let mut constraint = spread(d);
        for key in ["labelSelector", "minDomains", "nodeAffinityPolicy", "nodeTaintsPolicy", "matchLabelKeys"]
        {
            constraint.as_object_mut().unwrap().remove(key);
        }
        plugins.push(json!({ "name": "PodTopologySpread", "args": { "defaultingType": "List", "defaultConstraints": [constraint] } }));
    }
    if d.one_in(2) {
        plugins.push(json!({ "name": "NodeAffinity", "args": { "addedAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "size", "operator": "NotIn", "values": ["12"] }] }] },
            "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 20, "preference": { "matchExpressions": [{ "key": "disk", "operator": "Exists" }] } }],
        } } }));
    }
    if d.one_in(2) {
        plugins.push(json!({ "name": "NodeResourcesBalancedAllocation", "args": { "resources": [
            { "name": "cpu", "weight": 1 }, { "name": "memory", "weight": 1 }, { "name": "example.com/gpu", "weight": 1 },
        ] } }));
    }
    json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "profiles": [{ "schedulerName": "default-scheduler", "pluginConfig": plugins }],
    })
}
