//! Flow schemas.

use std::sync::LazyLock;

use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaSpec, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule,
    ServiceAccountSubject, Subject,
};

use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::{name_is_subdomain, validate_kube_object_meta};
use crate::validation::{content, dns_label, dns_subdomain, items, refusals, semantic_eq, text};

const PRECEDENCE_MAX: i32 = 10_000;
/// Sorted, as they are listed in errors.
const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// Schemas that may be no other than they are, by name. Upstream: `MandatoryFlowSchemas`.
static MANDATORY: LazyLock<[(&str, FlowSchemaSpec); 2]> = LazyLock::new(|| {
    let spec = |level: &str, precedence: i32, method: Option<&str>, groups: &[&str]| {
        let groups: Vec<_> =
            groups.iter().map(|g| serde_json::json!({"kind": "Group", "group": {"name": g}})).collect();
        let value = serde_json::json!({
            "priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": precedence,
            "distinguisherMethod": method.map(|m| serde_json::json!({"type": m})),
            "rules": [{
                "subjects": groups,
                "resourceRules": [{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true,
                }],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            }],
        });
        serde_json::from_value(value).unwrap_or_default()
    };
    let all = ["system:unauthenticated", "system:authenticated"];
    [
        ("exempt", spec("exempt", 1, None, &["system:masters"])),
        ("catch-all", spec("catch-all", PRECEDENCE_MAX, Some("ByUser"), &all)),
    ]
});

/// `ValidateFlowSchema`.
pub fn validate(schema: &FlowSchema) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&schema.metadata, false, name_is_subdomain, &Path::new("metadata"));
    let (name, path) = (text(&schema.metadata.name), Path::new("spec"));
    errors.extend(validate_spec(name, &schema.spec, &path));
    if MANDATORY.iter().any(|(n, spec)| *n == name && !semantic_eq(spec, &schema.spec)) {
        let detail = format!("spec of '{name}' must equal the fixed value");
        errors.push(Error::invalid(&path, Bad::json(&schema.spec), detail));
    }
    errors.extend(validate_status(schema));
    errors
}

/// `ValidateFlowSchemaUpdate`.
pub fn validate_update(new: &FlowSchema, _old: &FlowSchema) -> Vec<Error> {
    validate(new)
}

/// `ValidateFlowSchemaStatusUpdate`.
pub fn validate_status_update(new: &FlowSchema, _old: &FlowSchema) -> Vec<Error> {
    validate_status(new)
}

fn validate_status(schema: &FlowSchema) -> Vec<Error> {
    let all = schema.status.iter().flat_map(|s| items(&s.conditions));
    super::conditions(all.map(|c| c.type_.as_str()))
}

fn validate_spec(name: &str, spec: &FlowSchemaSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (precedence, at) = (spec.matching_precedence.unwrap_or(0), path.child("matchingPrecedence"));
    if precedence <= 0 {
        errors.push(Error::invalid(&at, precedence, "must be a positive value"));
    }
    if precedence > PRECEDENCE_MAX {
        errors.push(Error::invalid(&at, precedence, format!("must not be greater than {PRECEDENCE_MAX}")));
    }
    if precedence == 1 && name != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(Error::invalid(&at, precedence, detail));
    }
    if let Some(method) = &spec.distinguisher_method
        && !matches!(method.type_.as_str(), "ByNamespace" | "ByUser")
    {
        // Upstream prints its internal type.
        let bad = format!("{{\"Type\":{}}}", crate::validation::field::quote(&method.type_));
        let at = path.child("distinguisherMethod");
        let known = ["ByNamespace", "ByUser"];
        errors.push(Error::not_supported(&at.child("type"), Bad::Raw(bad), &known));
    }
    let level = &spec.priority_level_configuration.name;
    let at = path.child("priorityLevelConfiguration");
    if level.is_empty() {
        errors.push(Error::required(&at.child("name"), "must reference a priority level"));
    } else {
        errors.extend(dns_subdomain(level, &at.child("name")));
    }
    for (i, rule) in items(&spec.rules).iter().enumerate() {
        errors.extend(validate_rule(rule, &path.child("rules").index(i)));
    }
    errors
}

fn validate_rule(rule: &PolicyRulesWithSubjects, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let at = path.child("subjects");
    if rule.subjects.is_empty() {
        errors.push(Error::required(&at, "subjects must contain at least one value"));
    }
    for (i, subject) in rule.subjects.iter().enumerate() {
        errors.extend(validate_subject(subject, &at.index(i)));
    }
    let (resources, others) = (items(&rule.resource_rules), items(&rule.non_resource_rules));
    if resources.is_empty() && others.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(Error::required(path, detail));
    }
    for (i, rule) in resources.iter().enumerate() {
        errors.extend(validate_resource_rule(rule, &path.child("resourceRules").index(i)));
    }
    for (i, rule) in others.iter().enumerate() {
        errors.extend(validate_other_rule(rule, &path.child("nonResourceRules").index(i)));
    }
    errors
}

fn validate_subject(subject: &Subject, path: &Path) -> Vec<Error> {
    let members = [
        ("ServiceAccount", "serviceAccount", subject.service_account.is_some()),
        ("User", "user", subject.user.is_some()),
        ("Group", "group", subject.group.is_some()),
    ];
    let Some((_, own, set)) = members.iter().find(|(kind, _, _)| *kind == subject.kind) else {
        let kinds = ["Group", "ServiceAccount", "User"];
        return vec![Error::not_supported(&path.child("kind"), Bad::enumerated(&subject.kind), &kinds)];
    };
    let at = path.child(own);
    let mut errors = Vec::new();
    if !set {
        let detail = format!("{own} is required when subject kind is '{}'", subject.kind);
        errors.push(Error::required(&at, detail));
    }
    let named = subject.user.as_ref().map(|u| &u.name).filter(|_| *own == "user");
    let named = named.or(subject.group.as_ref().map(|g| &g.name).filter(|_| *own == "group"));
    if named.is_some_and(String::is_empty) {
        errors.push(Error::required(&at.child("name"), ""));
    }
    if let Some(account) = subject.service_account.as_ref().filter(|_| *own == "serviceAccount") {
        errors.extend(validate_account(account, &at));
    }
    for (kind, other, _) in members.iter().filter(|(_, other, set)| *set && other != own) {
        let detail = format!("{other} is forbidden when subject kind is not '{kind}'");
        errors.push(Error::forbidden(&path.child(other), detail));
    }
    errors
}

fn validate_account(account: &ServiceAccountSubject, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    match account.name.as_str() {
        "" => errors.push(Error::required(&path.child("name"), "")),
        "*" => {}
        name => errors.extend(dns_subdomain(name, &path.child("name"))),
    }
    let at = path.child("namespace");
    if account.namespace.is_empty() {
        errors.push(Error::required(&at, "must specify namespace for service account"));
    } else {
        errors.extend(dns_label(&account.namespace, &at));
    }
    errors
}

fn has_wildcard(list: &[String]) -> bool {
    list.iter().any(|v| v == "*")
}

/// A list of which `*` stands alone.
fn alone(list: &[String], what: &str, path: &Path) -> Option<Error> {
    (list.len() > 1 && has_wildcard(list)).then(|| {
        let detail = format!("if '*' is present, must not specify other {what}");
        Error::invalid(path, Bad::json(&list), detail)
    })
}

fn validate_verbs(verbs: &[String], path: &Path) -> Vec<Error> {
    if verbs.is_empty() {
        return vec![Error::required(path, "verbs must contain at least one value")];
    }
    if !has_wildcard(verbs) && !verbs.iter().all(|v| VERBS.contains(&v.as_str())) {
        return vec![Error::not_supported(path, Bad::json(&verbs), VERBS)];
    }
    alone(verbs, "verbs", path).into_iter().collect()
}

fn validate_resource_rule(rule: &ResourcePolicyRule, path: &Path) -> Vec<Error> {
    let mut errors = validate_verbs(&rule.verbs, &path.child("verbs"));
    for (list, name, one, what) in [
        (&rule.api_groups, "apiGroups", "api group", "api groups"),
        (&rule.resources, "resources", "resource", "resources"),
    ] {
        let at = path.child(name);
        if list.is_empty() {
            errors.push(Error::required(&at, format!("resource rules must supply at least one {one}")));
        }
        errors.extend(alone(list, what, &at));
    }
    let (namespaces, at) = (items(&rule.namespaces), path.child("namespaces"));
    if namespaces.is_empty() && !rule.cluster_scope.unwrap_or(false) {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(Error::required(&at, detail));
    }
    errors.extend(alone(namespaces, "namespaces", &at));
    for (i, namespace) in namespaces.iter().enumerate().filter(|_| !has_wildcard(namespaces)) {
        let intro = "each member of this list must be '*' or a DNS-1123 label; ";
        let wrong = content::dns_label(namespace).into_iter().map(|m| format!("{intro}{m}")).collect();
        errors.extend(refusals(&at.index(i), namespace, wrong));
    }
    errors
}

fn validate_other_rule(rule: &NonResourcePolicyRule, path: &Path) -> Vec<Error> {
    let mut errors = validate_verbs(&rule.verbs, &path.child("verbs"));
    let (urls, at) = (&rule.non_resource_urls, path.child("nonResourceURLs"));
    if urls.is_empty() {
        errors.push(Error::required(&at, "nonResourceURLs must contain at least one value"));
    }
    errors.extend(alone(urls, "non-resource URLs", &at));
    for (i, url) in urls.iter().enumerate().filter(|_| !has_wildcard(urls)) {
        errors.extend(url_refusal(url).map(|m| Error::invalid(&at.index(i), url, m)));
    }
    errors
}

/// `ValidateNonResourceURLPath`.
fn url_refusal(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        u if !u.starts_with('/') => Some("must start with slash"),
        u if u.contains(' ') => Some("must not contain white-space"),
        u if u.contains("//") => Some("must not contain double slash"),
        u if stars > 1 || (stars == 1 && !u.ends_with("/*")) => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}
