//! What a namespace holds once its controllers are done, so told that two runs of one story can be compared: without
//! what differs from run to run (uids, times, addresses, made-up names), and whether they are done at all.
//!
//! Pure but for [`read`]. Start reading at [`unfinished`] and [`told`].

use anyhow::Result;
use client::{Client, DynamicObject, Gvr, ListParams};
use serde_json::{Map, Value, json};

/// What is looked at, by its plural.
const KINDS: &[(&str, &str, &str)] = &[
    ("", "v1", "pods"),
    ("", "v1", "configmaps"),
    ("", "v1", "endpoints"),
    ("", "v1", "persistentvolumeclaims"),
    ("", "v1", "replicationcontrollers"),
    ("", "v1", "resourcequotas"),
    ("", "v1", "serviceaccounts"),
    ("", "v1", "services"),
    ("apps", "v1", "controllerrevisions"),
    ("apps", "v1", "daemonsets"),
    ("apps", "v1", "deployments"),
    ("apps", "v1", "replicasets"),
    ("apps", "v1", "statefulsets"),
    ("batch", "v1", "jobs"),
    ("discovery.k8s.io", "v1", "endpointslices"),
    ("policy", "v1", "poddisruptionbudgets"),
];

/// Objects of a namespace: plural and object.
pub type Objects = Vec<(&'static str, DynamicObject)>;

/// Reads what is there.
///
/// # Errors
/// When the API server does not answer.
pub async fn read(client: &Client, namespace: &str) -> Result<Objects> {
    let mut all = Vec::new();
    for (group, version, plural) in KINDS {
        let api = client.dynamic(&Gvr::new(group, version, plural), namespace);
        let list = api.list(&ListParams::default()).await?;
        all.extend(list.items.into_iter().map(|object| (*plural, object)));
    }
    Ok(all)
}

/// What is not as it shall be yet, `None` when the controllers are done.
pub fn unfinished(objects: &Objects) -> Option<String> {
    objects.iter().find_map(|(plural, object)| {
        let why = not_done(plural, object, objects)?;
        Some(format!("{plural}/{}: {why}", object.metadata.name.as_deref().unwrap_or_default()))
    })
}

fn not_done(plural: &str, object: &DynamicObject, all: &Objects) -> Option<String> {
    let spec = |name: &str| object.at(&["spec", name]).and_then(Value::as_i64);
    let status = |name: &str| object.at(&["status", name]).and_then(Value::as_i64);
    let observed = || {
        let generation = object.metadata.generation.unwrap_or(0);
        (status("observedGeneration") != Some(generation))
            .then(|| "newest generation not observed".to_string())
    };
    let equal = |name: &str, want: Option<i64>| {
        let (is, want) = (status(name).unwrap_or(0), want.unwrap_or(0));
        (is != want).then(|| format!("{name} is {is} of {want}"))
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted".into());
    }
    match plural {
        "deployments" | "statefulsets" => {
            let want = spec("replicas");
            let counts = ["replicas", "readyReplicas", "updatedReplicas", "availableReplicas"];
            observed().or_else(|| counts.iter().find_map(|name| equal(name, want)))
        }
        "replicasets" => {
            let want = spec("replicas");
            observed().or_else(|| {
                ["replicas", "readyReplicas", "availableReplicas"].iter().find_map(|n| equal(n, want))
            })
        }
        "replicationcontrollers" => observed().or_else(|| equal("readyReplicas", spec("replicas"))),
        "daemonsets" => {
            let want = status("desiredNumberScheduled").filter(|n| *n > 0).or(Some(1));
            observed().or_else(|| {
                ["numberReady", "numberAvailable", "updatedNumberScheduled"]
                    .iter()
                    .find_map(|n| equal(n, want))
            })
        }
        "jobs" => equal("succeeded", spec("completions")).or_else(|| {
            let conditions = object.at(&["status", "conditions"]).and_then(Value::as_array);
            let complete = conditions.into_iter().flatten().any(|c| c["type"] == "Complete");
            (!complete).then(|| "not complete".to_string())
        }),
        "poddisruptionbudgets" => observed().or_else(|| {
            let ready = count(all, "pods", |p| selected(object, p) && ready(p));
            // Every pod of these stories has a set that expects it.
            let expected = count(all, "pods", |p| selected(object, p));
            equal("currentHealthy", Some(ready)).or_else(|| equal("expectedPods", Some(expected)))
        }),
        "resourcequotas" => {
            let used = object.at(&["status", "used", "pods"]).and_then(Value::as_str).unwrap_or("");
            let live = count(all, "pods", |p| !ended(p)).to_string();
            (used != live).then(|| format!("{used} pods are counted, {live} are there"))
        }
        "services" => {
            let want = count(all, "pods", |p| chosen(object, p) && ready(p));
            let name = object.metadata.name.as_deref().unwrap_or_default();
            let is = all.iter().filter(|(kind, slice)| *kind == "endpointslices" && of_service(slice, name));
            let is: usize = is
                .map(|(_, slice)| slice.at(&["endpoints"]).and_then(Value::as_array).map_or(0, Vec::len))
                .sum();
            (is as i64 != want).then(|| format!("{is} endpoints for {want} pods"))
        }
        _ => None,
    }
}

fn count(all: &Objects, plural: &str, which: impl Fn(&DynamicObject) -> bool) -> i64 {
    all.iter().filter(|(kind, object)| *kind == plural && which(object)).count() as i64
}

fn ready(pod: &DynamicObject) -> bool {
    let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn ended(pod: &DynamicObject) -> bool {
    matches!(pod.at(&["status", "phase"]).and_then(Value::as_str), Some("Succeeded" | "Failed"))
}

/// Whether a budget's selector, which has labels alone, takes a pod.
fn selected(budget: &DynamicObject, pod: &DynamicObject) -> bool {
    takes(budget.at(&["spec", "selector", "matchLabels"]), pod)
}

/// Whether a service's selector takes a pod.
fn chosen(service: &DynamicObject, pod: &DynamicObject) -> bool {
    takes(service.at(&["spec", "selector"]), pod)
}

fn takes(labels: Option<&Value>, pod: &DynamicObject) -> bool {
    let wanted = labels.and_then(Value::as_object);
    let has = pod.metadata.labels.as_ref();
    wanted
        .is_some_and(|w| w.iter().all(|(k, v)| has.and_then(|h| h.get(k)).map(String::as_str) == v.as_str()))
}

fn of_service(slice: &DynamicObject, name: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    labels.and_then(|l| l.get("kubernetes.io/service-name")).is_some_and(|n| n == name)
}

/// One line per object, sorted.
pub fn told(objects: &Objects) -> Vec<String> {
    let mut lines: Vec<String> = objects.iter().map(|(plural, object)| line(plural, object)).collect();
    lines.sort();
    lines
}

fn line(plural: &str, object: &DynamicObject) -> String {
    let meta = &object.metadata;
    let owners: Vec<Value> = meta
        .owner_references
        .iter()
        .flatten()
        .map(|o| json!([o.kind, o.name, o.controller, o.block_owner_deletion]))
        .collect();
    let name = match (&meta.generate_name, plural) {
        (Some(prefix), _) => format!("{prefix}*"),
        (None, _) => meta.name.clone().unwrap_or_default(),
    };
    let mut rest = Value::Object(object.data.clone());
    strip(&mut rest);
    let mut head = json!({ "labels": labels(object), "annotations": meta.annotations, "owners": owners, "finalizers": meta.finalizers });
    strip(&mut head);
    format!("{plural} {name} {head} {rest}")
}

fn labels(object: &DynamicObject) -> Map<String, Value> {
    let all = object.metadata.labels.iter().flatten();
    // The uid of the job is among a pod's labels, a random index is not.
    all.filter(|(k, _)| !k.ends_with("controller-uid")).map(|(k, v)| (k.clone(), v.clone().into())).collect()
}

/// Takes away what differs from run to run.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !varies(key));
            map.values_mut().for_each(strip);
            // What holds nothing else is as good as absent.
            map.retain(|_, value| !(value.is_null() || *value == json!({})));
        }
        Value::Array(list) => {
            list.iter_mut().for_each(strip);
            list.sort_by_cached_key(ToString::to_string);
        }
        _ => {}
    }
}

fn varies(key: &str) -> bool {
    const FIELDS: &[&str] = &[
        "uid",
        "resourceVersion",
        "observedGeneration",
        "ip",
        "podIP",
        "podIPs",
        "hostIP",
        "hostIPs",
        "clusterIP",
        "clusterIPs",
        "nodeName",
        "addresses",
        "targetRef",
        "message",
        "hostname",
        "ca.crt",
        "startedAt",
        "finishedAt",
        "controllerRevisionHash",
        "zone",
        "deletionCost",
    ];
    FIELDS.contains(&key)
        || key.ends_with("Time")
        || key.ends_with("controller-uid")
        || key.ends_with("last-change-trigger-time")
        || key.starts_with("topology.kubernetes.io/")
        || key.starts_with("kube-api-access")
}
