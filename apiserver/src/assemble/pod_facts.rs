//! What the Node authorizer knows of pods: the node, and what the pod refers to.
//!
//! Upstream: plugin/pkg/auth/authorizer/node/graph.go, `AddPod`, and pkg/api/v1/pod/util.go, `VisitPodSecretNames`.

use auth::node::relations::{Kind, PodFacts, Relations};
use machinery::Value;
use machinery::proto::Kept;

use super::followers::name_of;

/// Notes a pod.
pub(super) fn set_pod(relations: &mut Relations, pod: &Value) {
    let (namespace, name) = name_of(pod);
    let node = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
    if node.is_empty() {
        return;
    }
    relations.set_pod(namespace, name, PodFacts { node: node.to_owned(), refs: references(pod, name) });
}

/// What a pod refers to. A mirror pod gives its node access to nothing.
fn references(pod: &Value, name: &str) -> Vec<(Kind, String)> {
    let annotations = pod.map_at(&["metadata", "annotations"]);
    if annotations.is_some_and(|a| a.contains_key("kubernetes.io/config.mirror")) {
        return Vec::new();
    }
    let mut refs = Vec::new();
    let mut put = |kind: Kind, name: Option<&str>| {
        if let Some(name) = name.filter(|n| !n.is_empty()) {
            refs.push((kind, name.to_owned()));
        }
    };
    put(Kind::ServiceAccount, pod.str_at(&["spec", "serviceAccountName"]));
    for secret in pod.list_at(&["spec", "imagePullSecrets"]).into_iter().flat_map(|l| l.iter()) {
        put(Kind::Secret, secret.str_at(&["name"]));
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in pod.list_at(&["spec", list]).into_iter().flat_map(|l| l.iter()) {
            for from in container.list_at(&["envFrom"]).into_iter().flat_map(|l| l.iter()) {
                put(Kind::Secret, from.str_at(&["secretRef", "name"]));
                put(Kind::ConfigMap, from.str_at(&["configMapRef", "name"]));
            }
            for env in container.list_at(&["env"]).into_iter().flat_map(|l| l.iter()) {
                put(Kind::Secret, env.str_at(&["valueFrom", "secretKeyRef", "name"]));
                put(Kind::ConfigMap, env.str_at(&["valueFrom", "configMapKeyRef", "name"]));
            }
        }
    }
    for volume in pod.list_at(&["spec", "volumes"]).into_iter().flat_map(|l| l.iter()) {
        volume_references(volume, name, &mut put);
    }
    for claim in pod.list_at(&["status", "resourceClaimStatuses"]).into_iter().flat_map(|l| l.iter()) {
        put(Kind::ResourceClaim, claim.str_at(&["resourceClaimName"]));
    }
    for claim in pod.list_at(&["spec", "resourceClaims"]).into_iter().flat_map(|l| l.iter()) {
        put(Kind::ResourceClaim, claim.str_at(&["resourceClaimName"]));
    }
    put(Kind::ResourceClaim, pod.str_at(&["status", "extendedResourceClaimStatus", "resourceClaimName"]));
    refs
}

/// The fields that [`set_pod`] reads. Names of containers and variables are not among them: most have nothing else of
/// interest, and are left out then.
pub(super) fn fields() -> Kept {
    const UNREAD: [(&str, &str); 3] = [
        ("core/v1.Container", "name"),
        ("core/v1.EphemeralContainerCommon", "name"),
        ("core/v1.EnvVar", "name"),
    ];
    let kept = Kept::named(api::types(), &POD_FIELDS);
    UNREAD.iter().fold(kept, |kept, (ty, field)| kept.without(api::types(), ty, field))
}

/// What [`references`] and [`set_pod`] read, by name of the fields on the way.
const POD_FIELDS: [&str; 42] = [
    "metadata",
    "name",
    "namespace",
    "annotations",
    "spec",
    "nodeName",
    "serviceAccountName",
    "imagePullSecrets",
    "containers",
    "initContainers",
    "ephemeralContainers",
    "envFrom",
    "secretRef",
    "configMapRef",
    "env",
    "valueFrom",
    "secretKeyRef",
    "configMapKeyRef",
    "volumes",
    "status",
    "resourceClaimStatuses",
    "resourceClaimName",
    "resourceClaims",
    "extendedResourceClaimStatus",
    "azureFile",
    "secretName",
    "cephfs",
    "cinder",
    "csi",
    "nodePublishSecretRef",
    "flexVolume",
    "iscsi",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
    "configMap",
    "persistentVolumeClaim",
    "claimName",
    "ephemeral",
    "projected",
    "sources",
];

/// Sources of a volume that name a secret in `secretRef` (or under another field, given beside it).
pub(super) const SECRET_SOURCES: [(&str, &str); 10] = [
    ("azureFile", "secretName"),
    ("cephfs", "secretRef"),
    ("cinder", "secretRef"),
    ("csi", "nodePublishSecretRef"),
    ("flexVolume", "secretRef"),
    ("iscsi", "secretRef"),
    ("rbd", "secretRef"),
    ("scaleIO", "secretRef"),
    ("secret", "secretName"),
    ("storageos", "secretRef"),
];

fn volume_references(volume: &Value, pod: &str, put: &mut impl FnMut(Kind, Option<&str>)) {
    for (source, field) in SECRET_SOURCES {
        match field {
            "secretName" => put(Kind::Secret, volume.str_at(&[source, field])),
            _ => put(Kind::Secret, volume.str_at(&[source, field, "name"])),
        }
    }
    put(Kind::ConfigMap, volume.str_at(&["configMap", "name"]));
    put(Kind::Claim, volume.str_at(&["persistentVolumeClaim", "claimName"]));
    if volume.get("ephemeral").is_some_and(|e| !e.is_null()) {
        let name = volume.str_at(&["name"]).unwrap_or_default();
        put(Kind::Claim, Some(&format!("{pod}-{name}")));
    }
    for source in volume.list_at(&["projected", "sources"]).into_iter().flat_map(|l| l.iter()) {
        put(Kind::Secret, source.str_at(&["secret", "name"]));
        put(Kind::ConfigMap, source.str_at(&["configMap", "name"]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machinery::proto;
    use serde_json::json;

    fn pod() -> Value {
        let from = |secret: &str, map: &str| {
            json!([
                {"name": "PLAIN", "value": "x"},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}},
                {"name": "M", "valueFrom": {"configMapKeyRef": {"name": map, "key": "k"}}},
            ])
        };
        let whole = |i: usize| json!([{"secretRef": {"name": format!("s{i}")}}, {"configMapRef": {"name": format!("m{i}")}}]);
        Value::from(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "ns", "annotations": {"note": "n"}},
            "spec": {
                "nodeName": "node", "serviceAccountName": "account", "imagePullSecrets": [{"name": "pull"}],
                "containers": [
                    {"name": "a", "image": "i", "env": from("s1", "m1"), "envFrom": whole(2)},
                    {"name": "plain", "image": "i", "env": [{"name": "PLAIN", "value": "x"}]},
                ],
                "initContainers": [{"name": "b", "image": "i", "env": from("s3", "m3")}],
                "ephemeralContainers": [{"name": "c", "image": "i", "env": from("s4", "m4"), "envFrom": whole(5)}],
                "volumes": [
                    {"name": "v1", "secret": {"secretName": "s6"}}, {"name": "v2", "configMap": {"name": "m6"}},
                    {"name": "v3", "persistentVolumeClaim": {"claimName": "c6"}},
                    {"name": "v4", "ephemeral": {"volumeClaimTemplate": {"spec": {"volumeName": "x"}}}},
                    {"name": "v5", "azureFile": {"secretName": "s7", "shareName": "x"}},
                    {"name": "v6", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s8"}}},
                    {"name": "v7", "projected": {"sources": [{"secret": {"name": "s9"}}, {"configMap": {"name": "m9"}}]}},
                    {"name": "v8", "rbd": {"monitors": ["m"], "image": "i", "secretRef": {"name": "s10"}}},
                ],
                "resourceClaims": [{"name": "claim", "resourceClaimName": "c11"}],
            },
            "status": {
                "resourceClaimStatuses": [{"name": "t", "resourceClaimName": "c12"}],
                "extendedResourceClaimStatus": {"resourceClaimName": "c13"},
            },
        }))
    }

    #[test]
    fn what_is_kept_of_a_pod_tells_as_much_as_the_pod() {
        let table = api::types();
        let id = table.kind("v1", "Pod").unwrap();
        let pod = pod();
        let part = proto::keep(table, id, &proto::encode_message(table, id, &pod), &fields()).unwrap();
        let part = proto::decode_message(table, id, &part).unwrap();
        assert_eq!(references(&part, "p"), references(&pod, "p"));
        assert_eq!(references(&part, "p").len(), 24);
        let kept = part.list_at(&["spec", "containers"]).map_or(0, |l| l.len());
        assert_eq!(kept, 1, "a container without references is left out");
        let first = part.list_at(&["spec", "containers"]).and_then(|l| l.iter().next());
        // A field that is never absent, without its value.
        assert_eq!(first.and_then(|c| c.str_at(&["name"])), Some(""));
    }
}
