//! The node authorizer: a kubelet reads what pods on its node refer to, and nothing else.
//!
//! [`Node`] answers; [`relations`] knows which node an object belongs to. Everything not treated specially follows the
//! rules of the `system:node` role. Upstream: `plugin/pkg/auth/authorizer/node/node_authorizer.go`.
pub mod relations;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::RwLock;

use crate::authorizer::{Attributes, Authorizer, Decision, RuleSet, Verdict};
use crate::rbac::rule::Rule;
use crate::{NODES_GROUP, UserInfo};
use relations::{Kind, Relations};

/// The node a user is: `system:node:<name>` in group `system:nodes`.
pub fn node_identity(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix("system:node:").filter(|_| user.in_group(NODES_GROUP))
}

/// The authorizer. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    relations: Arc<RwLock<Relations>>,
    rules: Arc<[Rule]>,
}

fn allow() -> Verdict {
    Verdict::new(Decision::Allow, "")
}

fn no(reason: impl Into<String>) -> Verdict {
    Verdict::new(Decision::NoOpinion, reason)
}

impl Node {
    /// An authorizer that knows no objects yet; `rules` are those of the role `system:node`.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { relations: Arc::default(), rules: rules.into() }
    }

    /// Changes what is known about objects.
    pub fn update<T>(&self, change: impl FnOnce(&mut Relations) -> T) -> T {
        change(&mut self.relations.write())
    }

    fn related(&self, node: &str, kind: Kind, a: &Attributes) -> Verdict {
        if a.name.is_empty() {
            return no("No Object name found");
        }
        if self.relations.read().related(node, kind, &a.namespace, &a.name) {
            return allow();
        }
        no(format!("no relationship found between node '{node}' and this object"))
    }

    fn read_namespaced(&self, node: &str, kind: Kind, a: &Attributes) -> Verdict {
        match () {
            () if !a.is_read_only() => no("can only read resources of this type"),
            () if !a.subresource.is_empty() => no("cannot read subresource"),
            () if a.namespace.is_empty() => no("can only read namespaced object of this type"),
            () => self.related(node, kind, a),
        }
    }

    fn get(&self, node: &str, kind: Kind, a: &Attributes) -> Verdict {
        match () {
            () if a.verb != "get" => no("can only get individual resources of this type"),
            () if !a.subresource.is_empty() => no("cannot get subresource"),
            () => self.related(node, kind, a),
        }
    }

    fn claim(&self, node: &str, a: &Attributes) -> Verdict {
        match (a.subresource.as_str(), a.verb.as_str()) {
            ("status", "update" | "patch") => self.related(node, Kind::Claim, a),
            ("status", _) => no("can only get/update/patch this type"),
            _ => self.get(node, Kind::Claim, a),
        }
    }

    fn service_account(&self, node: &str, a: &Attributes) -> Verdict {
        if a.verb == "get" && a.subresource.is_empty() {
            return self.read_namespaced(node, Kind::ServiceAccount, a);
        }
        match () {
            () if a.verb != "create" || a.name.is_empty() => {
                no("can only create tokens for individual service accounts")
            }
            () if a.subresource != "token" => no("can only create token subresource of serviceaccount"),
            () => self.related(node, Kind::ServiceAccount, a),
        }
    }

    fn slice(&self, node: &str, a: &Attributes) -> Verdict {
        if !a.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match a.verb.as_str() {
            "create" => allow(),
            "get" | "update" | "patch" | "delete" => self.related(node, Kind::Slice, a),
            "watch" | "list" | "deletecollection" if selects(a, "spec.nodeName", node) => allow(),
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, \
                     patch, delete, deletecollection",
            ),
        }
    }

    fn certificate(&self, node: &str, a: &Attributes) -> Verdict {
        if !a.subresource.is_empty() {
            return no("nodes may not access the status subresource of PodCertificateRequests");
        }
        match a.verb.as_str() {
            "create" => allow(),
            "get" => self.related(node, Kind::PodCertificate, a),
            "list" | "watch" if selects(a, "spec.nodeName", node) => allow(),
            "list" | "watch" => no("can only list/watch podcertificaterequests with nodeName field selector"),
            verb => no(format!("nodes may not {verb} podcertificaterequests")),
        }
    }

    fn pod(&self, node: &str, a: &Attributes) -> Verdict {
        match (a.subresource.as_str(), a.verb.as_str()) {
            ("", "get") => self.get(node, Kind::Pod, a),
            ("", "list" | "watch") if selects(a, "spec.nodeName", node) => allow(),
            ("", "list" | "watch") if !a.name.is_empty() => self.related(node, Kind::Pod, a),
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => allow(),
            _ => no(""),
        }
    }

    fn decide(&self, a: &Attributes) -> Verdict {
        let Some(node) = node_identity(&a.user) else { return no("") };
        if node.is_empty() {
            return no(format!("unknown node for user {:?}", a.user.name));
        }
        if a.resource_request {
            match (a.api_group.as_str(), a.resource.as_str()) {
                ("", "secrets") => return self.read_namespaced(node, Kind::Secret, a),
                ("", "configmaps") => return self.read_namespaced(node, Kind::ConfigMap, a),
                ("", "persistentvolumeclaims") => return self.claim(node, a),
                ("", "persistentvolumes") => return self.get(node, Kind::Volume, a),
                ("resource.k8s.io", "resourceclaims") => return self.get(node, Kind::ResourceClaim, a),
                ("storage.k8s.io", "volumeattachments") => return self.get(node, Kind::Attachment, a),
                ("", "serviceaccounts") => return self.service_account(node, a),
                ("coordination.k8s.io", "leases") => return lease(node, a),
                ("storage.k8s.io", "csinodes") => return csi_node(node, a),
                ("resource.k8s.io", "resourceslices") => return self.slice(node, a),
                ("", "nodes") => return own_node(node, a),
                ("", "pods") => return self.pod(node, a),
                ("certificates.k8s.io", "podcertificaterequests") => return self.certificate(node, a),
                _ => {}
            }
        }
        if self.rules.iter().any(|rule| rule.allows(a)) { allow() } else { no("") }
    }
}

/// Whether the field selector requires `field=node`.
fn selects(a: &Attributes, field: &str, node: &str) -> bool {
    a.field_selector.split(',').any(|term| {
        let value = term.strip_prefix(field).and_then(|rest| rest.strip_prefix('='));
        value.is_some_and(|v| v.strip_prefix('=').unwrap_or(v) == node)
    })
}

fn lease(node: &str, a: &Attributes) -> Verdict {
    match a.verb.as_str() {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return no("can only get, create, update, patch, or delete a node lease"),
    }
    match () {
        () if a.namespace != "kube-node-lease" => {
            no("can only access leases in the \"kube-node-lease\" system namespace")
        }
        () if a.verb != "create" && a.name != node => {
            no("can only access node lease with the same name as the requesting node")
        }
        () => allow(),
    }
}

fn csi_node(node: &str, a: &Attributes) -> Verdict {
    match (a.subresource.as_str(), a.verb.as_str()) {
        ("", "get" | "create" | "update" | "patch" | "delete") => {}
        ("", _) => return no("can only get, create, update, patch, or delete a CSINode"),
        ("status", _) => return no("CSINode status access requires CSIVolumeHealth feature"),
        _ => return no("cannot authorize CSINode subresources"),
    }
    if a.verb != "create" && a.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    allow()
}

fn own_node(node: &str, a: &Attributes) -> Verdict {
    match (a.subresource.as_str(), a.verb.as_str()) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allow(),
        ("", "get" | "list" | "watch") if a.name == node => allow(),
        ("", "get" | "list" | "watch") if a.name.is_empty() => {
            no(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            no(format!("node '{node}' cannot read '{}', only its own Node object", a.name))
        }
        _ => no(""),
    }
}

#[async_trait]
impl Authorizer for Node {
    async fn authorize(&self, attributes: &Attributes) -> Verdict {
        self.decide(attributes)
    }

    fn rules_for(&self, user: &UserInfo, _: &str) -> RuleSet {
        if node_identity(user).is_none() {
            return RuleSet::default();
        }
        let why = "node authorizer does not support user rule resolution".to_owned();
        RuleSet { rules: vec![], incomplete: true, errors: vec![why] }
    }
}

#[cfg(test)]
mod tests {
    use super::relations::PodFacts;
    use super::*;

    #[test]
    fn decides() {
        let node = Node::new(vec![]);
        node.update(|r| {
            let refs = vec![(Kind::Secret, "s".to_owned()), (Kind::Claim, "c".to_owned())];
            r.set_pod("ns", "p", PodFacts { node: "n1".into(), refs });
            r.set_volume("v", Some(("ns".into(), "c".into())), vec![("ns".into(), "vs".into())]);
        });
        let check = |verb: &str, resource: &str, namespace: &str, name: &str, selector: &str, want: &str| {
            let verdict = node.decide(&Attributes {
                user: Arc::new(UserInfo::new("system:node:n1", &["system:nodes"])),
                verb: verb.into(),
                resource: resource.into(),
                namespace: namespace.into(),
                name: name.into(),
                field_selector: selector.into(),
                resource_request: true,
                ..Attributes::default()
            });
            assert_eq!(
                format!("{:?} {}", verdict.decision, verdict.reason),
                want,
                "{verb} {resource} {name}"
            );
        };
        let none = "NoOpinion no relationship found between node 'n1' and this object";
        check("get", "secrets", "ns", "s", "", "Allow ");
        check("get", "secrets", "ns", "vs", "", "Allow ");
        check("get", "secrets", "ns", "other", "", none);
        check("update", "secrets", "ns", "s", "", "NoOpinion can only read resources of this type");
        check("get", "persistentvolumes", "", "v", "", "Allow ");
        check("list", "pods", "", "", "spec.nodeName=n1", "Allow ");
        check(
            "list",
            "pods",
            "",
            "",
            "",
            "NoOpinion can only list/watch pods with spec.nodeName field selector",
        );
        check("get", "nodes", "", "n1", "", "Allow ");
        check("get", "nodes", "", "n2", "", "NoOpinion node 'n1' cannot read 'n2', only its own Node object");
        node.update(|r| r.remove_pod("ns", "p"));
        check("get", "secrets", "ns", "s", "", none);
        check("get", "persistentvolumes", "", "v", "", none);
    }
}
