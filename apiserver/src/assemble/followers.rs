//! Keeps the RBAC and node authorizers informed about what they decide by.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use auth::node::Node;
use auth::node::relations::{Kind, PodFacts};
use auth::rbac::Rbac;
use auth::rbac::rule::Rule;
use auth::rbac::state::{Binding, Subject, SubjectKind};
use component::app::Tasks;
use machinery::Value;
use machinery::proto::Kept;

use crate::endpoints::health::Hook;
use crate::local::{Change, Gvr, Local};

/// Finishes a hook when all followers have their first state.
#[derive(Clone)]
pub(crate) struct Synced(Arc<(AtomicUsize, Hook)>);

impl Synced {
    pub(crate) fn new(count: usize, hook: Hook) -> Self {
        if count == 0 {
            hook.finish();
        }
        Self(Arc::new((AtomicUsize::new(count), hook)))
    }

    fn one(&self) {
        if self.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.1.finish();
        }
    }
}

/// A follower still to be started.
type Follower = (Gvr, Box<dyn FnMut(Change) + Send>);

/// Starts all followers; `hook` finishes when they are informed.
pub(crate) fn start(local: &Local, tasks: &Tasks, rbac: Option<Rbac>, node: Option<Node>, hook: Hook) {
    let mut all: Vec<Follower> = Vec::new();
    if let Some(rbac) = rbac {
        all.extend(rbac_followers(&rbac));
    }
    if let Some(node) = node {
        all.extend(node_followers(&node));
    }
    all.retain(|(gvr, _)| local.serves(*gvr));
    let synced = Synced::new(all.len(), hook);
    for (gvr, sink) in all {
        let (mut local, stop, synced) = (local.clone(), tasks.shutdown().clone(), synced.clone());
        if gvr == Gvr::PODS {
            local = local.seeing_only(Kept::named(api::types(), &POD_FIELDS));
        }
        tasks.spawn("authorizer-follower", local.follow(gvr, stop, move || synced.one(), sink));
    }
}

fn name_of(object: &Value) -> (&str, &str) {
    let text = |field: &str| object.str_at(&["metadata", field]).unwrap_or_default();
    (text("namespace"), text("name"))
}

fn rbac_followers(rbac: &Rbac) -> Vec<Follower> {
    let roles = |gvr: Gvr, cluster: bool| -> Follower {
        let rbac = rbac.clone();
        let sink = move |change: Change| {
            rbac.update(|state| {
                let mut set = |o: &Value| {
                    let (namespace, name) = name_of(o);
                    state.set_role(namespace, name, rules_of(o));
                };
                match change {
                    Change::Set(o) => set(&o),
                    Change::Remove(o) => {
                        let (namespace, name) = name_of(&o);
                        state.remove_role(namespace, name);
                    }
                    Change::Replace(all) => {
                        state.clear_roles(cluster);
                        for o in &all {
                            let (namespace, name) = name_of(o);
                            state.set_role(namespace, name, rules_of(o));
                        }
                    }
                }
            });
        };
        (gvr, Box::new(sink))
    };
    let bindings = |gvr: Gvr, cluster: bool| -> Follower {
        let rbac = rbac.clone();
        let sink = move |change: Change| {
            rbac.update(|state| match change {
                Change::Set(o) => state.set_binding(binding_of(&o)),
                Change::Remove(o) => {
                    let (namespace, name) = name_of(&o);
                    state.remove_binding(namespace, name);
                }
                Change::Replace(all) => {
                    state.clear_bindings(cluster);
                    all.iter().for_each(|o| state.set_binding(binding_of(o)));
                }
            });
        };
        (gvr, Box::new(sink))
    };
    vec![
        roles(Gvr::CLUSTER_ROLES, true),
        roles(Gvr::ROLES, false),
        bindings(Gvr::CLUSTER_ROLE_BINDINGS, true),
        bindings(Gvr::ROLE_BINDINGS, false),
    ]
}

fn rules_of(role: &Value) -> Vec<Rule> {
    let rules = role.get("rules").filter(|r| !r.is_null());
    rules.and_then(|r| machinery::value::from_value(r).ok()).unwrap_or_default()
}

fn binding_of(object: &Value) -> Binding {
    let (namespace, name) = name_of(object);
    let text = |path: &[&str]| object.str_at(path).unwrap_or_default().to_owned();
    let subjects = object.list_at(&["subjects"]).map(|l| l.iter().filter_map(subject_of).collect());
    Binding {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        role_kind: text(&["roleRef", "kind"]),
        role_name: text(&["roleRef", "name"]),
        subjects: subjects.unwrap_or_default(),
    }
}

fn subject_of(value: &Value) -> Option<Subject> {
    let text = |field: &str| value.str_at(&[field]).unwrap_or_default().to_owned();
    let kind = match value.str_at(&["kind"])? {
        "User" => SubjectKind::User,
        "Group" => SubjectKind::Group,
        "ServiceAccount" => SubjectKind::ServiceAccount,
        _ => return None,
    };
    Some(Subject { kind, name: text("name"), namespace: text("namespace") })
}

fn node_followers(node: &Node) -> Vec<Follower> {
    let pods = node.clone();
    let pods = move |change: Change| {
        pods.update(|relations| match change {
            Change::Set(o) => set_pod(relations, &o),
            Change::Remove(o) => {
                let (namespace, name) = name_of(&o);
                relations.remove_pod(namespace, name);
            }
            Change::Replace(all) => {
                relations.clear_pods();
                all.iter().for_each(|o| set_pod(relations, o));
            }
        });
    };
    let volumes = node.clone();
    let volumes = move |change: Change| {
        volumes.update(|relations| match change {
            Change::Set(o) => set_volume(relations, &o),
            Change::Remove(o) => relations.remove_volume(name_of(&o).1),
            Change::Replace(all) => {
                relations.clear_volumes();
                all.iter().for_each(|o| set_volume(relations, o));
            }
        });
    };
    let single = |gvr: Gvr, kind: Kind| -> Follower {
        let node = node.clone();
        let node_name = |o: &Value| o.str_at(&["spec", "nodeName"]).unwrap_or_default().to_owned();
        let sink = move |change: Change| {
            node.update(|relations| match change {
                Change::Set(o) => {
                    let (namespace, name) = name_of(&o);
                    relations.set_single(kind, namespace, name, &node_name(&o));
                }
                Change::Remove(o) => {
                    let (namespace, name) = name_of(&o);
                    relations.set_single(kind, namespace, name, "");
                }
                Change::Replace(all) => {
                    relations.clear_single(kind);
                    for o in &all {
                        let (namespace, name) = name_of(o);
                        relations.set_single(kind, namespace, name, &node_name(o));
                    }
                }
            });
        };
        (gvr, Box::new(sink))
    };
    vec![
        (Gvr::PODS, Box::new(pods)),
        (Gvr::VOLUMES, Box::new(volumes)),
        single(Gvr::ATTACHMENTS, Kind::Attachment),
        single(Gvr::RESOURCE_SLICES, Kind::Slice),
        single(Gvr::POD_CERTIFICATES, Kind::PodCertificate),
    ]
}

fn set_pod(relations: &mut auth::node::relations::Relations, pod: &Value) {
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
const SECRET_SOURCES: [(&str, &str); 10] = [
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

fn set_volume(relations: &mut auth::node::relations::Relations, volume: &Value) {
    let claim = volume.get_path(&["spec", "claimRef"]).filter(|c| !c.is_null()).map(|claim| {
        let text = |field: &str| claim.str_at(&[field]).unwrap_or_default().to_owned();
        (text("namespace"), text("name"))
    });
    let claim_namespace = claim.as_ref().map(|c| c.0.clone()).unwrap_or_default();
    let mut secrets = Vec::new();
    for (source, field) in SECRET_SOURCES {
        let name = if field == "secretName" {
            volume.str_at(&["spec", source, field])
        } else {
            volume.str_at(&["spec", source, field, "name"])
        };
        let Some(name) = name.filter(|n| !n.is_empty()) else { continue };
        let namespace = match field {
            "secretName" => volume.str_at(&["spec", source, "secretNamespace"]),
            _ => volume.str_at(&["spec", source, field, "namespace"]),
        };
        let namespace = namespace.filter(|n| !n.is_empty()).unwrap_or(&claim_namespace);
        secrets.push((namespace.to_owned(), name.to_owned()));
    }
    for field in ["nodeStageSecretRef", "nodeExpandSecretRef"] {
        if let Some(name) = volume.str_at(&["spec", "csi", field, "name"]) {
            let namespace = volume.str_at(&["spec", "csi", field, "namespace"]).unwrap_or(&claim_namespace);
            secrets.push((namespace.to_owned(), name.to_owned()));
        }
    }
    relations.set_volume(name_of(volume).1, claim, secrets);
}
