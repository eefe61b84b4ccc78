//! What is kept of a pod, and what equal pods share.

use std::sync::Arc;

use client::{Kept, PartialObjectMetadata};
use controller::Related;
use k8s_openapi::api::core::v1::Pod as Whole;
use machinery::labels::Labels;
use machinery::proto::Envelope;
use serde_json::{Value, json};

use super::{Item, Pod};

/// Volumes of all sorts that are looked at.
fn volumes() -> Value {
    json!([
        {"name": "secret", "secret": {"secretName": "s"}},
        {"name": "iscsi", "iscsi": {"targetPortal": "p", "iqn": "q", "lun": 1, "secretRef": {"name": "of-iscsi"}}},
        {"name": "rbd", "rbd": {"monitors": ["m"], "image": "i", "secretRef": {"name": "of-rbd"}}},
        {"name": "flex", "flexVolume": {"driver": "d", "secretRef": {"name": "of-flex"}}},
        {"name": "cinder", "cinder": {"volumeID": "v", "secretRef": {"name": "of-cinder"}}},
        {"name": "ceph", "cephfs": {"monitors": ["m"], "secretRef": {"name": "of-ceph"}}},
        {"name": "azure", "azureFile": {"secretName": "of-azure", "shareName": "s"}},
        {"name": "scale", "scaleIO": {"gateway": "g", "system": "s", "secretRef": {"name": "of-scale"}}},
        {"name": "os", "storageos": {"volumeName": "v", "secretRef": {"name": "of-os"}}},
        {"name": "csi", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "of-csi"}}},
        {"name": "own", "ephemeral": {"volumeClaimTemplate": {"metadata": {}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}}},
    ])
}

/// A pod of a set; pods of one set differ in what `serial` appears in.
fn pod(serial: usize) -> Value {
    let mut pod = slim_pod(serial);
    if let Some(all) = pod.pointer_mut("/spec/volumes").and_then(Value::as_array_mut) {
        all.extend(volumes().as_array().cloned().unwrap_or_default());
    }
    pod
}

fn slim_pod(serial: usize) -> Value {
    let time = "2026-01-01T00:00:00Z";
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": time, "message": "m"});
    let resources = json!({"requests": {"cpu": "1m"}, "limits": {"memory": "1Gi"}});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("web-{serial}"), "generateName": "web-", "namespace": "n", "uid": format!("uid-{serial}"),
            "resourceVersion": serial.to_string(), "generation": 2, "creationTimestamp": time,
            "deletionTimestamp": time, "deletionGracePeriodSeconds": 30,
            "labels": {"app": "web", "pod-template-hash": "5d4f"},
            "annotations": {"controller.kubernetes.io/pod-deletion-cost": "7", "nobody/reads": "this"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u",
                "controller": true, "blockOwnerDeletion": true}],
            "finalizers": ["batch.kubernetes.io/job-tracking"],
            "managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {
            "nodeName": format!("node-{}", serial % 3), "hostname": "h", "subdomain": "s", "priorityClassName": "high",
            "activeDeadlineSeconds": 5, "terminationGracePeriodSeconds": 30, "restartPolicy": "Always",
            "overhead": {"cpu": "10m"}, "resources": {"requests": {"cpu": "1"}},
            "imagePullSecrets": [{"name": "pull"}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
                [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}]}}},
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpus"}],
            "schedulingGroup": {"podGroupName": "g"},
            "containers": [{
                "name": "c", "image": "i", "resources": resources,
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "b"}, {"name": "S", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}],
                "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "from"}}],
                "livenessProbe": {"httpGet": {"port": 80}},
                "volumeMounts": [{"name": format!("kube-api-access-{serial}"), "mountPath": "/var/run"}],
            }],
            "initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always", "resources": {"claims": [{"name": "gpu", "request": "r"}]}}],
            "ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "c", "resources": {}, "env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "debug", "key": "k"}}}]}],
            "volumes": [
                {"name": format!("kube-api-access-{serial}"), "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "keys", "projected": {"sources": [{"secret": {"name": "projected"}}]}},
                {"name": "nothing", "emptyDir": {}},
            ],
        },
        "status": {
            "phase": "Running", "reason": "Evicted", "qosClass": "Burstable", "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "startTime": time, "hostIP": "1.2.3.4",
            "conditions": [condition("Ready"), condition("PodScheduled")],
            "containerStatuses": [{"name": "c", "restartCount": 3, "ready": true, "image": "i", "imageID": "",
                "resources": resources, "allocatedResources": {"cpu": "1m"},
                "state": {"terminated": {"exitCode": 7, "finishedAt": time}}}],
            "initContainerStatuses": [{"name": "i", "restartCount": 0, "ready": false, "image": "i", "imageID": "",
                "state": {"waiting": {"reason": "PodInitializing"}}}],
            "resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "gpu-1"}],
        },
    })
}

fn whole(serial: usize) -> Whole {
    serde_json::from_value(pod(serial)).expect("a pod")
}

fn kept(serial: usize) -> Pod {
    serde_json::from_value(pod(serial)).expect("a pod")
}

#[test]
fn all_ways_of_reading_give_the_same() {
    let wire = api::encode(api::MediaType::Protobuf, &whole(1)).expect("protobuf");
    let read: Pod = api::decode(api::MediaType::Protobuf, &wire).expect("a pod");
    assert_eq!(read, kept(1));
    assert_eq!(Pod::of(&whole(1)).expect("a pod"), read);
}

/// What serde and what the type makes of a pod's message, alone and after an earlier state.
fn read_thrice(pod: &Value, earlier: &Arc<Pod>) -> Option<(Pod, Option<Pod>, Option<Pod>)> {
    let whole: Whole = serde_json::from_value(pod.clone()).ok()?;
    let wire = api::encode(api::MediaType::Protobuf, &whole).ok()?;
    let long = api::decode(api::MediaType::Protobuf, &wire).ok()?;
    let raw = Envelope::open(&wire).expect("an envelope").raw;
    let known = earlier.clone();
    let later = Pod::from_later_message(raw, &move |_, _| Some(known.clone()));
    Some((long, Pod::from_message(raw), later))
}

fn message(pod: &Value) -> Vec<u8> {
    let whole: Whole = serde_json::from_value(pod.clone()).expect("a pod");
    let wire = api::encode(api::MediaType::Protobuf, &whole).expect("protobuf");
    Envelope::open(&wire).expect("an envelope").raw.to_vec()
}

/// Where the parts of a value are.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    let parts: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.replace('/', "~1"), v)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (name, part) in parts {
        let at = format!("{at}/{name}");
        pointers(part, &at, all);
        all.push(at);
    }
}

/// A zero of the same sort.
fn zero(of: &Value) -> Value {
    match of {
        Value::Bool(_) => false.into(),
        Value::Number(_) => 0.into(),
        Value::String(_) => "".into(),
        Value::Array(_) => json!([]),
        _ => json!({}),
    }
}

/// Also if any part is absent, or there and empty.
#[test]
fn a_pod_reads_itself_as_serde_reads_it() {
    let full = pod(1);
    let first = Arc::new(Pod::from_message(&message(&full)).expect("a pod"));
    let (long, itself, later) = read_thrice(&full, &first).expect("a pod");
    assert_eq!((Some(&long), Some(&long)), (itself.as_ref(), later.as_ref()));
    let mut all = Vec::new();
    pointers(&full, "", &mut all);
    let (mut compared, mut odd) = (0, Vec::new());
    for at in all {
        let (parent, name) = at.rsplit_once('/').expect("a pointer");
        let (mut without, mut empty) = (full.clone(), full.clone());
        if let Some(Value::Object(map)) = without.pointer_mut(parent) {
            map.remove(&name.replace("~1", "/"));
        }
        let part = empty.pointer_mut(&at).expect("a part");
        *part = zero(part);
        for changed in [without, empty] {
            match read_thrice(&changed, &first) {
                Some((long, Some(itself), Some(later))) => {
                    assert!(long == itself, "{at} changed: {long:?}\n{itself:?}");
                    assert!(long == later, "{at} changed: {long:?}\n{later:?}");
                    compared += 1;
                }
                Some(_) => odd.push(at.clone()),
                None => {}
            }
        }
    }
    assert!(compared > 300 && odd.len() < 10, "{compared} compared, left to serde: {odd:?}");
}

#[test]
fn what_is_as_it_was_is_not_read_again() {
    let first = Arc::new(Pod::from_message(&message(&pod(1))).expect("a pod"));
    let template = |p: &Pod| p.spec.as_ref().expect("a spec").template.clone();
    let labels = |p: &Pod| p.metadata.labels.clone().expect("labels");
    for (change, to, same_spec, same_labels) in [
        ("/status/phase", json!("Failed"), true, true),
        ("/metadata/resourceVersion", json!("2"), true, true),
        ("/metadata/labels/app", json!("other"), true, false),
        ("/metadata/annotations", json!({}), true, false),
        ("/spec/nodeName", json!("other"), false, true),
        ("/metadata/uid", json!("other"), false, false),
    ] {
        let mut changed = pod(1);
        *changed.pointer_mut(change).expect("a part") = to;
        let known = first.clone();
        let later = Pod::from_later_message(&message(&changed), &move |namespace, name| {
            assert_eq!((namespace, name), ("n", "web-1"));
            Some(known.clone())
        });
        let later = later.expect("a pod");
        assert_eq!(template(&later).is_same(&template(&first)), same_spec, "{change}");
        assert_eq!(labels(&later).is_same(&labels(&first)), same_labels, "{change}");
    }
}

#[test]
fn an_item_reads_itself_as_serde_reads_it() {
    for meta in [pod(1)["metadata"].clone(), json!({})] {
        let partial =
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta});
        let partial: PartialObjectMetadata = serde_json::from_value(partial).expect("metadata");
        let wire = api::encode(api::MediaType::Protobuf, &partial).expect("protobuf");
        let long: Item = api::decode(api::MediaType::Protobuf, &wire).expect("an item");
        let raw = Envelope::open(&wire).expect("an envelope").raw;
        assert_eq!(Item::from_message(raw), Some(long));
    }
}

#[test]
fn what_is_read_is_kept() {
    let pod = kept(1);
    let meta = &pod.metadata;
    assert_eq!(pod.named().key(), "n/web-1");
    assert_eq!((pod.uid(), pod.named().version), ("uid-1", "1"));
    assert_eq!(meta.labels.label("app"), Some("web"));
    let annotations = meta.annotations.as_ref().expect("annotations");
    assert_eq!(annotations.get("controller.kubernetes.io/pod-deletion-cost"), Some("7"));
    assert_eq!(annotations.get("nobody/reads"), None);
    assert!(meta.is_dying() && meta.has_finalizer("batch.kubernetes.io/job-tracking"));
    assert_eq!(meta.owners()[0].name, "web");
    let spec = pod.spec.as_ref().expect("a spec");
    assert_eq!(spec.containers[0].env, ["env"]);
    assert_eq!(spec.containers[0].env_from, ["from"]);
    let volumes: Vec<&str> = spec.volumes.iter().flatten().map(|v| &*v.name).collect();
    assert_eq!(volumes[..2], ["data", "keys"]);
    assert_eq!(volumes.len(), 13);
    let status = pod.status.as_ref().expect("a status");
    let condition = &status.conditions.as_ref().expect("conditions")[0];
    assert_eq!((&*condition.type_, &*condition.status), ("Ready", "True"));
    let container = &status.container_statuses.as_ref().expect("statuses")[0];
    let ended = container.state.as_ref().and_then(|s| s.terminated.as_ref()).expect("an end");
    assert_eq!((container.restart_count, ended.exit_code), (3, 7));
}

#[test]
fn pods_of_one_set_share_what_is_alike() {
    let (mut a, mut b) = (kept(1), kept(2));
    a.settle(None);
    b.settle(None);
    let template = |p: &Pod| p.spec.as_ref().expect("a spec").template.clone();
    assert!(template(&a).is_same(&template(&b)), "specs");
    let labels = |p: &Pod| p.metadata.labels.clone().expect("labels");
    assert!(labels(&a).is_same(&labels(&b)), "labels");
    let owners = |p: &Pod| p.metadata.owner_references.clone().expect("owners");
    assert!(owners(&a).is_same(&owners(&b)), "owners");
    let (of_a, of_b) = (template(&a), template(&b));
    let mut later = kept(1);
    later.settle(Some(&a));
    assert!(template(&later).is_same(&of_a) && of_b.is_same(&of_a), "an earlier state's");
    assert_eq!(later, a);
}

/// Beside the shared parts; a larger cluster has a hundred thousand pods.
#[test]
fn a_pod_is_small() {
    let size = size_of::<Pod>();
    assert!(size <= 480, "{size} bytes");
}
