//! Keeps the RBAC and node authorizers informed about what they decide by.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use auth::node::Node;
use auth::node::relations::{Kind, Relations};
use auth::rbac::Rbac;
use auth::rbac::rule::Rule;
use auth::rbac::state::{Binding, Subject, SubjectKind};
use component::app::Tasks;
use machinery::Value;

use super::pod_facts::{self, SECRET_SOURCES, set_pod};
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
            local = local.seeing_only(pod_facts::fields());
        }
        tasks.spawn("authorizer-follower", local.follow(gvr, stop, move || synced.one(), sink));
    }
}

pub(super) fn name_of(object: &Value) -> (&str, &str) {
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

fn set_volume(relations: &mut Relations, volume: &Value) {
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
