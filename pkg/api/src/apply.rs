//! Server-side apply of the built-in kinds: the types it works on, and what writes to them leave alone.

use crate::types;
use machinery::apply::{Filter, PathElement, Pattern, Schema, Set, TableTypes, TypeRef};
use machinery::schema::TypeId;
use machinery::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

struct Types {
    schema: Arc<Schema>,
    structs: HashMap<TypeId, TypeRef>,
}

static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let table = types();
    // Documents and what they are made of; configuration files are not applied.
    let kinds = table.types().filter(|id| table.get(*id).kind);
    let t = TableTypes::new(table, Schema::default(), kinds);
    Types { schema: Arc::new(t.schema), structs: t.structs }
});

/// The schema of all built-in kinds.
pub fn schema() -> Arc<Schema> {
    TYPES.schema.clone()
}

/// The type of a kind in [`schema`].
pub fn type_of(api_version: &str, kind: &str) -> Option<TypeRef> {
    TYPES.structs.get(&types().kind(api_version, kind)?).copied()
}

/// A schema that knows ObjectMeta, to add the types of a custom resource to, and the type of ObjectMeta in it.
pub fn custom_schema() -> (Schema, TypeRef) {
    let table = types();
    let id = table.by_name("meta/v1.ObjectMeta");
    let t = TableTypes::new(table, Schema::default(), id);
    let meta = id.and_then(|id| t.structs.get(&id).copied());
    (t.schema, meta.unwrap_or(machinery::apply::UNTYPED.into()))
}

/// The empty object of a kind, in canonical form: what a create is compared with.
pub fn empty_object(api_version: &str, kind: &str) -> Option<Value> {
    let id = types().kind(api_version, kind)?;
    let document = Value::Map(Map::from_iter([("apiVersion", api_version), ("kind", kind)]));
    json::decode(types(), id, &json::encode_any(&document), false).ok().map(|d| d.value)
}

/// What writes to a resource or subresource cannot change, so that nobody comes to own it by them: `GetResetFields`
/// of upstream's strategies. The same in all versions.
pub fn reset_fields(group: &str, resource: &str, subresource: &str) -> Option<Filter> {
    if let ("", "pods", "ephemeralcontainers" | "resize") = (group, resource, subresource) {
        return Some(Filter::Include(pod_pattern(subresource)));
    }
    let paths = reset_paths(group, resource, subresource);
    if paths.is_empty() {
        return None;
    }
    let mut set = Set::default();
    for path in paths {
        set.insert_fields(path);
    }
    Some(Filter::Exclude(set))
}

type Paths = &'static [&'static [&'static str]];

const STATUS: Paths = &[&["status"]];
const SPEC: Paths = &[&["spec"]];
const SPEC_AND_METADATA: Paths = &[&["spec"], &["metadata"]];

fn reset_paths(group: &str, resource: &str, subresource: &str) -> Paths {
    match (group, resource, subresource) {
        ("certificates.k8s.io", "certificatesigningrequests", "") => &[&["spec"], &["status"]],
        ("certificates.k8s.io", "certificatesigningrequests", "status") => {
            &[&["spec"], &["status", "conditions"]]
        }
        ("certificates.k8s.io", "certificatesigningrequests", "approval") => {
            &[&["spec"], &["status", "certificate"]]
        }
        ("", "pods", "status") => {
            &[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]
        }
        ("apps", "deployments", "status") => &[&["spec"], &["metadata", "labels"]],
        ("", "namespaces", "finalize") => STATUS,
        (_, _, "") if has_status(group, resource) => STATUS,
        (
            "",
            "namespaces"
            | "nodes"
            | "persistentvolumes"
            | "persistentvolumeclaims"
            | "replicationcontrollers"
            | "resourcequotas"
            | "services",
            "status",
        )
        | ("apps" | "autoscaling" | "batch" | "policy" | "apiextensions.k8s.io", _, "status")
        | ("networking.k8s.io", "ingresses", "status") => SPEC,
        (_, _, "status") if has_status(group, resource) => SPEC_AND_METADATA,
        _ => &[],
    }
}

/// The resources whose main writes leave the status alone.
fn has_status(group: &str, resource: &str) -> bool {
    let resources: &[&str] = match group {
        "" => &[
            "namespaces",
            "nodes",
            "persistentvolumes",
            "persistentvolumeclaims",
            "pods",
            "replicationcontrollers",
            "resourcequotas",
            "services",
        ],
        "admissionregistration.k8s.io" => &["validatingadmissionpolicies"],
        "apiextensions.k8s.io" => &["customresourcedefinitions"],
        "apiregistration.k8s.io" => &["apiservices"],
        "apps" => &["daemonsets", "deployments", "replicasets", "statefulsets"],
        "autoscaling" => &["horizontalpodautoscalers"],
        "batch" => &["cronjobs", "jobs"],
        "certificates.k8s.io" => &["podcertificaterequests"],
        "flowcontrol.apiserver.k8s.io" => &["flowschemas", "prioritylevelconfigurations"],
        "internal.apiserver.k8s.io" => &["storageversions"],
        "lifecycle.k8s.io" => &["evictions", "evictionrequests"],
        "networking.k8s.io" => &["ingresses", "servicecidrs"],
        "policy" => &["poddisruptionbudgets"],
        "resource.k8s.io" => &["devicetaintrules", "resourceclaims", "resourcepoolstatusrequests"],
        "scheduling.k8s.io" => &["compositepodgroups", "podgroups"],
        "storage.k8s.io" => &["csinodes", "volumeattachments"],
        "storagemigration.k8s.io" => &["storageversionmigrations"],
        _ => &[],
    };
    resources.contains(&resource)
}

/// The fields of a pod that its subresources change.
fn pod_pattern(subresource: &str) -> Pattern {
    let field = |name: &'static str, below: Pattern| (Some(PathElement::Field(name.into())), below);
    let spec = match subresource {
        "ephemeralcontainers" => vec![field("ephemeralContainers", Pattern::Any)],
        _ => {
            let resources = || {
                let fields = vec![field("resources", Pattern::Any), field("resizePolicy", Pattern::Any)];
                Pattern::Elements(vec![(None, Pattern::Elements(fields))])
            };
            vec![field("containers", resources()), field("initContainers", resources())]
        }
    };
    Pattern::Elements(vec![field("spec", Pattern::Elements(spec))])
}

#[cfg(test)]
mod tests {
    use super::{Filter, reset_fields};

    /// What is not tracked, as path texts.
    fn check(group: &str, resource: &str, subresource: &str, expected: &[&str]) {
        let paths = match reset_fields(group, resource, subresource) {
            Some(Filter::Exclude(set)) => set.to_string(),
            Some(Filter::Include(_)) => "only".into(),
            None => String::new(),
        };
        assert_eq!(paths.lines().collect::<Vec<_>>(), expected, "{resource}.{group}/{subresource}");
    }

    #[test]
    fn reset() {
        check("", "configmaps", "", &[]);
        check("", "pods", "", &[".status"]);
        check("", "pods", "resize", &["only"]);
        check("", "pods", "status", &[".spec", ".metadata.deletionTimestamp", ".metadata.ownerReferences"]);
        check("apps", "deployments", "status", &[".spec", ".metadata.labels"]);
        check("apps", "deployments", "scale", &[]);
        check("apiextensions.k8s.io", "customresourcedefinitions", "status", &[".spec"]);
        check("flowcontrol.apiserver.k8s.io", "flowschemas", "status", &[".metadata", ".spec"]);
        check("networking.k8s.io", "ingresses", "status", &[".spec"]);
        check("networking.k8s.io", "servicecidrs", "status", &[".metadata", ".spec"]);
        check("storage.k8s.io", "csinodes", "", &[".status"]);
        check("certificates.k8s.io", "certificatesigningrequests", "", &[".spec", ".status"]);
    }
}
