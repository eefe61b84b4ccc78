//! rbac.authorization.k8s.io: roles and their bindings, metadata apart. Works on trees.
//! Upstream: `pkg/apis/rbac/validation/validation.go`.

use machinery::Value;

use super::field::{Bad, Error, Path};
use super::{content, objectmeta, refusals};

const GROUP: &str = "rbac.authorization.k8s.io";

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.str_at(&[field]).unwrap_or("")
}

fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value.list_at(&[field]).map_or(&[], |l| l.as_slice())
}

/// The rules of a role (`ValidatePolicyRule`).
pub fn validate_rules(role: &Value, namespaced: bool) -> Vec<Error> {
    let path = Path::new("rules");
    let mut errors = Vec::new();
    for (i, rule) in list(role, "rules").iter().enumerate() {
        let at = path.index(i);
        let empty = |field: &str| list(rule, field).is_empty();
        let verbs = Error::required(&at.child("verbs"), "verbs must contain at least one value").covered();
        errors.extend(empty("verbs").then_some(verbs));
        let mut lacks = |field: &str, detail: &str| {
            let error = Error::required(&at.child(field), detail);
            errors.extend(empty(field).then_some(error));
        };
        if empty("nonResourceURLs") {
            lacks("apiGroups", "resource rules must supply at least one api group");
            lacks("resources", "resource rules must supply at least one resource");
        }
        let urls = at.child("nonResourceURLs");
        let printed = || Bad::Raw(rule.get("nonResourceURLs").map(ToString::to_string).unwrap_or_default());
        let mixed = !empty("apiGroups") || !empty("resources") || !empty("resourceNames");
        for (wrong, detail) in [
            (namespaced, "namespaced rules cannot apply to non-resource URLs"),
            (mixed, "rules cannot apply to both regular resources and non-resource URLs"),
        ] {
            errors.extend(
                (!empty("nonResourceURLs") && wrong).then(|| Error::invalid(&urls, printed(), detail)),
            );
        }
    }
    errors
}

/// Cluster roles that are made of others say which.
pub fn validate_aggregation(role: &Value) -> Vec<Error> {
    let Some(rule) = role.get("aggregationRule").filter(|r| !r.is_null()) else { return Vec::new() };
    let aggregation = Path::new("aggregationRule");
    let path = aggregation.child("clusterRoleSelectors");
    let selectors = list(rule, "clusterRoleSelectors");
    let mut errors = Vec::new();
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(Error::required(&path, detail));
    }
    for (i, selector) in selectors.iter().enumerate() {
        let at = path.index(i);
        match machinery::value::from_value(selector) {
            Ok(typed) => errors.extend(objectmeta::validate_label_selector(Some(&typed), &at)),
            Err(error) => errors.push(Error::internal(&at, error.to_string())),
        }
        if machinery::labels::Selector::from_value(Some(selector)).is_err() {
            errors.push(Error::invalid(&at, Bad::Raw("null".to_owned()), "invalid label selector."));
        }
    }
    errors
}

/// What a binding binds, and to whom (`ValidateRoleBinding`, `ValidateClusterRoleBinding`).
pub fn validate_binding(binding: &Value, namespaced: bool) -> Vec<Error> {
    let (role, path) = (binding.get("roleRef").unwrap_or(&Value::Null), Path::new("roleRef"));
    let mut errors = Vec::new();
    if text(role, "apiGroup") != GROUP {
        errors.push(Error::not_supported(&path.child("apiGroup"), text(role, "apiGroup"), &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        errors.push(Error::not_supported(&path.child("kind"), text(role, "kind"), kinds));
    }
    let (name, at) = (text(role, "name"), path.child("name"));
    if name.is_empty() {
        errors.push(Error::required(&at, "").covered());
    } else {
        errors.extend(refusals(&at, name, content::path_segment(name, false)));
    }
    let subjects = Path::new("subjects");
    for (i, subject) in list(binding, "subjects").iter().enumerate() {
        errors.extend(validate_subject(subject, namespaced, &subjects.index(i)));
    }
    errors
}

/// `ValidateRoleBindingSubject`.
fn validate_subject(subject: &Value, namespaced: bool, path: &Path) -> Vec<Error> {
    let (name, group) = (text(subject, "name"), text(subject, "apiGroup"));
    let at = path.child("name");
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(Error::required(&at, "").covered());
    }
    let group_at = path.child("apiGroup");
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.extend(refusals(&at, name, content::dns_subdomain(name)));
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(&group_at, group, &[""]));
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                errors.push(Error::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" if group != GROUP => {
            errors.push(Error::not_supported(&group_at, group, &[GROUP]));
        }
        "User" | "Group" => {}
        kind => {
            let kinds = ["ServiceAccount", "User", "Group"];
            errors.push(Error::not_supported(&path.child("kind"), kind, &kinds));
        }
    }
    errors
}
