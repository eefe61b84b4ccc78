use k8s_openapi::api::core::v1::Pod;
use machinery::proto::Envelope;
use serde_json::{Value, json};

use super::*;
use crate::cycle::generate;
use crate::model::resources::Levels;

fn message(pod: &Value) -> Vec<u8> {
    let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
    let wire = api::encode(api::MediaType::Protobuf, &pod).unwrap();
    Envelope::open(&wire).unwrap().raw.to_vec()
}

/// As serde reads the message.
fn long_way(interner: &Interner, message: &[u8]) -> PodInfo {
    PodInfo::new(interner, &typed::<WirePod>("core/v1.Pod", message).unwrap())
}

fn interner() -> Interner {
    Interner::new(Levels { asked: true, had: true, devices: true })
}

#[test]
fn fields_are_those_of_the_table() {
    let table = api::types();
    let name = |of: &str, tag: u32| {
        let id = table.by_name(of).unwrap();
        table.fields(id).find(|f| f.tag == tag).map(|f| f.name.to_string()).unwrap_or_default()
    };
    let names = |of: &str, tags: &[u32]| tags.iter().map(|t| name(of, *t)).collect::<Vec<_>>().join(" ");
    assert_eq!(
        names("core/v1.PodSpec", &SPEC),
        "nodeSelector hostNetwork affinity schedulerName tolerations priority preemptionPolicy overhead \
         topologySpreadConstraints hostUsers schedulingGates resourceClaims resources schedulingGroup"
    );
    assert_eq!(
        names("core/v1.PodSpec", &[NODE_NAME, 1, 2, 20]),
        "nodeName volumes containers initContainers"
    );
    assert_eq!(
        names("core/v1.Container", &CONTAINER),
        "name image ports resources restartPolicy restartPolicyRules"
    );
    assert_eq!(name("core/v1.Container", 9), "volumeMounts");
    assert_eq!(name("core/v1.VolumeMount", 8), "bindMountOptions");
    assert_eq!(
        names("core/v1.VolumeSource", &SOURCES),
        "gcePersistentDisk awsElasticBlockStore iscsi persistentVolumeClaim rbd ephemeral image"
    );
    assert_eq!(names("core/v1.ContainerStatus", &GRANTED), "allocatedResources resources");
    assert_eq!(
        names("core/v1.PodStatus", &[1, 2, 7, 8, 10, 11, 15, 19, 20, 21]),
        "phase conditions startTime containerStatuses initContainerStatuses nominatedNodeName resourceClaimStatuses \
         allocatedResources resources nodeAllocatableResourceClaimStatuses"
    );
    assert_eq!(
        names("meta/v1.ObjectMeta", &[1, 3, 5, 6, 7, 9, 11, 13]),
        "name namespace uid resourceVersion generation deletionTimestamp labels ownerReferences"
    );
    assert_eq!(names("meta/v1.OwnerReference", &[1, 3, 5, 6]), "kind name apiVersion controller");
}

/// Nothing of a spec that a cycle could read is left out: each part of it is in a list here, or of no interest.
#[test]
fn made_up_pods_read_as_serde_reads_them() {
    let mut known = 0;
    for seed in 0..60 {
        let interner = interner();
        let question = generate::question(seed);
        for pod in ["pods", "placed"].iter().flat_map(|key| question[key].as_array().unwrap()) {
            for node in ["", "somewhere"] {
                let mut pod = pod.clone();
                pod["spec"]["nodeName"] = node.into();
                let message = message(&pod);
                // What nobody holds gets another number when it is met again.
                let kept = long_way(&interner, &message);
                let long = format!("{kept:?}");
                known += usize::from(read(&interner, &message).is_some());
                // Known by now.
                match read(&interner, &message) {
                    Some(short) => assert_eq!(format!("{short:?}"), long, "{pod}"),
                    None => assert!(pod["status"].is_object(), "{pod}"),
                }
            }
        }
    }
    assert!(known > 1000, "{known}");
}

#[test]
fn what_differs_is_seen() {
    let base = json!({
        "metadata": { "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": { "a": "b" } },
        "spec": {
            "schedulerName": "s",
            "containers": [{
                "name": "c", "image": "i", "resources": { "requests": { "cpu": "1" } },
                "volumeMounts": [{ "name": "token-x", "mountPath": "/x" }],
            }],
            "volumes": [{ "name": "token-x", "projected": {} }],
        },
    });
    let interner = interner();
    let first = read(&interner, &message(&base)).unwrap();
    let check = |path: &str, value: Value, same: bool| {
        let mut pod = base.clone();
        let (parent, key) = path.rsplit_once('/').unwrap();
        if parent == "/status" {
            pod["status"] = json!({});
        }
        pod.pointer_mut(parent).unwrap()[key] = value;
        let message = message(&pod);
        let (short, long) = (read(&interner, &message).unwrap(), long_way(&interner, &message));
        assert_eq!(format!("{short:?}"), format!("{long:?}"), "{path}");
        assert_eq!(Arc::ptr_eq(&short.wants, &first.wants), same, "{path}");
    };
    check("/metadata/name", "q".into(), true);
    check("/metadata/labels", json!({ "a": "c" }), true);
    check("/metadata/generation", 3.into(), true);
    check("/metadata/deletionTimestamp", "2026-01-01T00:00:00Z".into(), true);
    let owner = |name: &str, controls: bool| json!({ "kind": "R", "name": name, "apiVersion": "v1", "uid": "1", "controller": controls });
    check("/metadata/ownerReferences", json!([owner("a", false), owner("b", true)]), true);
    check("/spec/nodeName", "node".into(), true);
    check("/spec/containers/0/volumeMounts", json!([{ "name": "token-y", "mountPath": "/x" }]), true);
    check("/spec/volumes", json!([{ "name": "token-y", "projected": {} }]), true);
    check("/spec/containers/0/env", json!([{ "name": "E", "value": "v" }]), true);
    check("/spec/volumes", json!([{ "name": "v", "persistentVolumeClaim": { "claimName": "x" } }]), false);
    check("/spec/containers/0/resources/requests/cpu", "2".into(), false);
    check("/spec/containers/0/image", "j".into(), false);
    check("/spec/containers/0/ports", json!([{ "containerPort": 1, "hostPort": 1 }]), false);
    let option = json!([{ "name": "token-x", "mountPath": "/x", "bindMountOptions": ["o"] }]);
    check("/spec/containers/0/volumeMounts", option, false);
    check("/spec/priority", 5.into(), false);
    check("/spec/nodeSelector", json!({ "k": "v" }), false);
    check("/spec/hostNetwork", true.into(), true);
    check("/status/phase", "Succeeded".into(), true);
    check("/status/nominatedNodeName", "node".into(), true);
    check("/status/startTime", "2026-01-01T00:00:00Z".into(), true);
    let condition = |kind: &str, status: &str| json!([{ "type": kind, "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
    check("/status/conditions", condition("PodScheduled", "False"), true);
    check("/status/conditions", condition("PodScheduled", "True"), true);
    check("/status/conditions", condition("DisruptionTarget", "True"), true);
    let made = json!([{ "name": "c", "resourceClaimName": "x" }, { "name": "d" }]);
    check("/status/resourceClaimStatuses", made, true);
    let granted = json!([{ "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 1, "containerID": "1",
        "allocatedResources": { "cpu": "3" } }]);
    check("/status/containerStatuses", granted, false);
    // What few pods have is not read so.
    let mut resized = base.clone();
    resized["status"] = json!({ "conditions": condition("PodResizePending", "True") });
    assert!(read(&interner, &message(&resized)).is_none_or(|p| p.rest.conditions.len() == 1));
    assert!(read(&interner, &message(&resized)).is_none());
}
