//! NodeRestriction: a kubelet changes its own node, its own pods and its own lease, and nothing else.
//! Upstream: `plugin/pkg/admission/noderestriction/admission.go`.

mod certificate;

use async_trait::async_trait;
use machinery::Value;

use super::{Attributes, Operation, Plugin};
use crate::errors::ApiError;
use crate::meta;

const MIRROR: &str = "kubernetes.io/config.mirror";

/// The plugin.
pub struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        let user = &a.call.request.user;
        if !user.in_group(auth::user::NODES_GROUP) {
            return Ok(());
        }
        let Some(node) = user.name.strip_prefix("system:node:").map(str::to_owned) else { return Ok(()) };
        if node.is_empty() {
            return Err(a.forbidden(format!("could not determine node from user {:?}", user.name)));
        }
        match (a.group(), a.resource()) {
            ("", "pods") => pod(a, &node).await,
            ("", "nodes") => own_node(a, &node),
            ("", "persistentvolumeclaims") if a.subresource() != "status" => {
                Err(a.forbidden("may only update PVC status"))
            }
            ("", "serviceaccounts") => token(a, &node).await,
            ("coordination.k8s.io", "leases") => lease(a, &node),
            ("storage.k8s.io", "csinodes") if a.name != node => {
                Err(a.forbidden("can only access CSINode with the same name as the requesting node"))
            }
            ("resource.k8s.io", "resourceslices") => resource_slice(a, &node),
            ("certificates.k8s.io", "podcertificaterequests") => certificate::admit(a, &node).await,
            _ => Ok(()),
        }
    }
}

fn node_of(pod: &Value) -> &str {
    pod.str_at(&["spec", "nodeName"]).unwrap_or("")
}

async fn pod(a: &Attributes<'_>, node: &str) -> Result<(), ApiError> {
    match (a.subresource(), a.operation) {
        ("", Operation::Create) => mirror_pod(a, node).await,
        ("", Operation::Delete) => {
            let found = a.call.core.find("", "pods", &a.namespace, &a.name).await?;
            let found = found.ok_or_else(|| ApiError::not_found("", "pods", &a.name))?;
            if node_of(&found) == node {
                return Ok(());
            }
            Err(a.forbidden(format!("node {node:?} can only delete pods with spec.nodeName set to itself")))
        }
        ("", operation) => Err(a.forbidden(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            format!("{operation:?}").to_uppercase()
        ))),
        ("status", Operation::Update) => pod_status(a, node),
        ("eviction", Operation::Create) => {
            let found = a.call.core.find("", "pods", &a.namespace, &a.name).await?;
            let found = found.ok_or_else(|| ApiError::not_found("", "pods", &a.name))?;
            if node_of(&found) == node {
                return Ok(());
            }
            Err(a.forbidden(format!("node {node} can only evict pods with spec.nodeName set to itself")))
        }
        ("status" | "eviction", operation) => {
            Err(a.forbidden(format!("unexpected operation {:?}", format!("{operation:?}").to_uppercase())))
        }
        (sub, _) => Err(a.forbidden(format!(
            "unexpected pod subresource {sub:?}, only 'status' and 'eviction' are allowed"
        ))),
    }
}

async fn mirror_pod(a: &Attributes<'_>, node: &str) -> Result<(), ApiError> {
    let Some(pod) = a.object.as_ref() else { return Ok(()) };
    if meta::annotation(pod, MIRROR).is_none() {
        return Err(a.forbidden(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        )));
    }
    if node_of(pod) != node {
        return Err(
            a.forbidden(format!("node {node:?} can only create pods with spec.nodeName set to itself"))
        );
    }
    let owners = pod.list_at(&["metadata", "ownerReferences"]).cloned().unwrap_or_default();
    let owner = match owners.as_slice() {
        [] => None,
        [one] => Some(one),
        _ => {
            return Err(a.forbidden(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            )));
        }
    };
    let text = |field: &str| owner.and_then(|o| o.str_at(&[field])).unwrap_or("");
    if (text("apiVersion"), text("kind"), text("name")) != ("v1", "Node", node) {
        return Err(
            a.forbidden(format!("node {node:?} can only create pods with an owner reference set to itself"))
        );
    }
    let flag = |field: &str| owner.and_then(|o| o.bool_at(&[field]));
    if flag("controller") != Some(true) {
        return Err(a.forbidden(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        )));
    }
    if flag("blockOwnerDeletion") == Some(true) {
        return Err(
            a.forbidden(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"))
        );
    }
    let own = a.call.core.find("", "nodes", "", node).await?;
    let own = own.ok_or_else(|| ApiError::not_found("", "nodes", node))?;
    if meta::uid(&own) != text("uid") {
        return Err(a.forbidden(format!(
            "node {node} UID mismatch: expected {} got {}",
            text("uid"),
            meta::uid(&own)
        )));
    }
    match api_reference(pod) {
        Some(resource) => {
            Err(a.forbidden(format!("node {node:?} can not create pods that reference {resource}")))
        }
        None => Ok(()),
    }
}

/// The first kind of API object a pod refers to (`podutil.HasAPIObjectReference`).
fn api_reference(pod: &Value) -> Option<&'static str> {
    if !pod.str_at(&["spec", "serviceAccountName"]).unwrap_or("").is_empty() {
        return Some("serviceaccounts");
    }
    let present = |v: &Value, path: &[&str]| v.get_path(path).is_some_and(|v| !v.is_null());
    for volume in pod.list_at(&["spec", "volumes"]).into_iter().flat_map(|l| l.iter()) {
        for (field, resource) in [
            ("secret", "secrets"),
            ("configMap", "configmaps"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
        ] {
            if present(volume, &[field]) {
                return Some(resource);
            }
        }
        for source in volume.list_at(&["projected", "sources"]).into_iter().flat_map(|l| l.iter()) {
            for (field, resource) in [
                ("secret", "secrets"),
                ("configMap", "configmaps"),
                ("serviceAccountToken", "serviceaccounts"),
                ("clusterTrustBundle", "clustertrustbundles"),
                ("podCertificate", "podcertificates"),
            ] {
                if present(source, &[field]) {
                    return Some(resource);
                }
            }
        }
    }
    for field in ["initContainers", "containers"] {
        for container in pod.list_at(&["spec", field]).into_iter().flat_map(|l| l.iter()) {
            let env = container.list_at(&["env"]).into_iter().flat_map(|l| l.iter());
            for var in env {
                if present(var, &["valueFrom", "secretKeyRef"]) {
                    return Some("secrets");
                }
                if present(var, &["valueFrom", "configMapKeyRef"]) {
                    return Some("configmaps");
                }
            }
            for from in container.list_at(&["envFrom"]).into_iter().flat_map(|l| l.iter()) {
                if present(from, &["secretRef"]) {
                    return Some("secrets");
                }
                if present(from, &["configMapRef"]) {
                    return Some("configmaps");
                }
            }
        }
    }
    pod.list_at(&["spec", "resourceClaims"]).filter(|l| !l.is_empty()).map(|_| "resourceclaims")
}

fn pod_status(a: &Attributes<'_>, node: &str) -> Result<(), ApiError> {
    let (Some(new), Some(old)) = (&a.object, &a.old) else { return Ok(()) };
    if node_of(old) != node {
        return Err(a.forbidden(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        )));
    }
    let same = |path: &[&str]| {
        let of = |v: &Value| v.get_path(path).cloned().unwrap_or_default();
        of(new).semantic_eq(&of(old))
    };
    if !same(&["metadata", "labels"]) {
        return Err(a.forbidden(format!("node {node:?} cannot update labels through pod status")));
    }
    if !same(&["status", "resourceClaimStatuses"]) {
        return Err(a.forbidden(format!("node {node:?} cannot update resource claim statues")));
    }
    Ok(())
}

fn own_node(a: &Attributes<'_>, node: &str) -> Result<(), ApiError> {
    if a.name != node {
        return Err(a.forbidden(format!("node {node:?} is not allowed to modify node {:?}", a.name)));
    }
    let Some(new) = a.object.as_ref() else { return Ok(()) };
    let of = |v: &Value, path: &[&str]| v.get_path(path).cloned().unwrap_or_default();
    let empty = Value::Null;
    let old = a.old.as_ref().unwrap_or(&empty);
    let labels = forbidden_labels(new, old);
    match a.operation {
        Operation::Create if !labels.is_empty() => Err(a.forbidden(format!(
            "node {node:?} is not allowed to set the following labels: {}",
            labels.join(", ")
        ))),
        Operation::Update => {
            if !of(new, &["spec", "taints"]).semantic_eq(&of(old, &["spec", "taints"])) {
                return Err(a.forbidden(format!("node {node:?} is not allowed to modify taints")));
            }
            let owners = ["metadata", "ownerReferences"];
            if !of(new, &owners).semantic_eq(&of(old, &owners)) {
                return Err(a.forbidden(format!("node {node:?} is not allowed to modify ownerReferences")));
            }
            if !labels.is_empty() {
                return Err(a.forbidden(format!("is not allowed to modify labels: {}", labels.join(", "))));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Changed labels of kubernetes.io that are not a kubelet's to set.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let none = machinery::Map::new();
    let (new, old) = (meta::labels(new).unwrap_or(&none), meta::labels(old).unwrap_or(&none));
    let mut changed: Vec<String> =
        new.keys().chain(old.keys()).filter(|k| new.get(k) != old.get(k)).map(ToString::to_string).collect();
    changed.sort();
    changed.dedup();
    changed.retain(|label| {
        let namespace = label.split_once('/').map_or("", |(ns, _)| ns);
        let within = |domain: &str| namespace == domain || namespace.ends_with(&format!(".{domain}"));
        within("node-restriction.kubernetes.io")
            || ((within("kubernetes.io") || within("k8s.io")) && !is_kubelet_label(label, &within))
    });
    changed
}

fn is_kubelet_label(label: &str, within: &dyn Fn(&str) -> bool) -> bool {
    const KNOWN: [&str; 12] = [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "node.kubernetes.io/windows-build",
    ];
    KNOWN.contains(&label) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

async fn token(a: &Attributes<'_>, node: &str) -> Result<(), ApiError> {
    if a.operation != Operation::Create || a.subresource() != "token" {
        return Ok(());
    }
    let Some(request) = a.object.as_ref() else { return Ok(()) };
    let reference = |field: &str| request.str_at(&["spec", "boundObjectRef", field]).unwrap_or("");
    if (reference("apiVersion"), reference("kind")) != ("v1", "Pod") || reference("name").is_empty() {
        return Err(a.forbidden("node requested token not bound to a pod"));
    }
    if reference("uid").is_empty() {
        return Err(a.forbidden("node requested token with a pod binding without a uid"));
    }
    let pod = a.call.core.find("", "pods", &a.namespace, reference("name")).await?;
    let pod = pod.ok_or_else(|| ApiError::not_found("", "pods", reference("name")))?;
    if meta::uid(&pod) != reference("uid") {
        return Err(a.forbidden(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            reference("uid")
        )));
    }
    if node_of(&pod) != node {
        return Err(a.forbidden("node requested token bound to a pod scheduled on a different node"));
    }
    Ok(())
}

fn lease(a: &Attributes<'_>, node: &str) -> Result<(), ApiError> {
    if a.namespace != "kube-node-lease" {
        return Err(a.forbidden("can only access leases in the \"kube-node-lease\" system namespace"));
    }
    if a.name != node {
        return Err(a.forbidden("can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}

fn resource_slice(a: &Attributes<'_>, node: &str) -> Result<(), ApiError> {
    let owner =
        a.object.as_ref().or(a.old.as_ref()).and_then(|s| s.str_at(&["spec", "nodeName"])).unwrap_or("");
    if a.operation == Operation::Delete || owner == node {
        return Ok(());
    }
    Err(a.forbidden("can only create ResourceSlice with the same NodeName as the requesting node"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_of_others_are_forbidden() {
        let with = |labels: serde_json::Value| Value::from(json!({"metadata": {"labels": labels}}));
        let none = with(json!({}));
        let check = |label: &str, want: bool| {
            let labels = forbidden_labels(&with(json!({label: "x"})), &none);
            assert_eq!(!labels.is_empty(), want, "{label}");
        };
        check("kubernetes.io/hostname", false);
        check("node.kubernetes.io/x", false);
        check("node-role.kubernetes.io/control-plane", true);
        check("node-restriction.kubernetes.io/x", true);
        check("example.com/x", false);
    }
}
