//! RBAC objects: nobody grants what they do not hold, unless allowed to `escalate` roles or `bind` them. A binding's
//! role never changes. Upstream: `pkg/registry/rbac/*/policybased/storage.go`, `pkg/registry/rbac/escalation_check.go`,
//! `component-helpers/auth/rbac/validation/policy_comparator.go`.

use ::api::validation::field::{Bad, Error as FieldError, Path};
use ::api::validation::objectmeta::{self, NameRule};
use ::api::validation::rbac;
use async_trait::async_trait;
use auth::authorizer::Attributes as AuthzAttributes;
use auth::rbac::rule::Rule;
use machinery::Value;

use super::with_declared;
use crate::errors::ApiError;
use crate::meta;
use crate::strategy::{Call, Finish, Strategy, validate_kube_metadata};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles, cluster roles and their bindings.
pub struct Rbac;

#[async_trait]
impl Strategy for Rbac {
    fn name_rule(&self) -> NameRule {
        objectmeta::name_is_path_segment
    }

    fn validate(&self, call: &Call<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = validate_kube_metadata(call, object, self.name_rule());
        errors.extend(validate_content(call, object));
        with_declared(call, errors, object, None)
    }

    fn validate_update(&self, call: &Call<'_>, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = validate_content(call, object);
        let role = |v: &Value| v.get("roleRef").cloned().unwrap_or_default();
        if is_binding(call) && !role(object).semantic_eq(&role(old)) {
            let bad = Bad::Raw(role(object).to_string());
            errors.push(FieldError::invalid(&Path::new("roleRef"), bad, "field is immutable"));
        }
        with_declared(call, errors, object, Some(old))
    }

    async fn begin_create(
        &self,
        call: &Call<'_>,
        object: &mut Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        check(call, object, None).await.map(|()| None)
    }

    async fn begin_update(
        &self,
        call: &Call<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<Option<Box<dyn Finish>>, ApiError> {
        if only_garbage_collection_fields(object, old) {
            return Ok(None);
        }
        check(call, object, Some(old)).await.map(|()| None)
    }
}

fn is_binding(call: &Call<'_>) -> bool {
    call.resource.row.resource.ends_with("bindings")
}

fn validate_content(call: &Call<'_>, object: &Value) -> Vec<FieldError> {
    let namespaced = call.resource.row.namespaced;
    if is_binding(call) {
        return rbac::validate_binding(object, namespaced);
    }
    let mut errors = rbac::validate_rules(object, namespaced);
    errors.extend(rbac::validate_aggregation(object));
    errors
}

/// Finalizers and owner references may be taken off by whoever may update (`IsOnlyMutatingGCFields`).
fn only_garbage_collection_fields(object: &Value, old: &Value) -> bool {
    let bare = |v: &Value| {
        let mut v = v.clone();
        for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
            meta::remove(&mut v, field);
        }
        v
    };
    let fewer = |field: &str| {
        let list = |v: &Value| v.list_at(&["metadata", field]).cloned().unwrap_or_default();
        let before = list(old);
        list(object).iter().all(|x| before.contains(x))
    };
    fewer("ownerReferences") && fewer("finalizers") && bare(object).semantic_eq(&bare(old))
}

async fn authorized(call: &Call<'_>, verb: &str, resource: &str, name: &str) -> Result<bool, ApiError> {
    let question = AuthzAttributes {
        user: call.request.user.clone(),
        verb: verb.into(),
        namespace: call.request.info.namespace.clone(),
        api_group: GROUP.into(),
        api_version: "*".into(),
        resource: resource.into(),
        name: name.into(),
        resource_request: true,
        ..AuthzAttributes::default()
    };
    Ok(call.core.authorizer()?.authorize(&question).await.allowed())
}

async fn check(call: &Call<'_>, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    if call.request.user.in_group(auth::user::SYSTEM_PRIVILEGED_GROUP) {
        return Ok(());
    }
    let row = call.resource.row;
    let info = &call.request.info;
    if !is_binding(call) {
        // Created objects are named by the body, but upstream asks with the name in the path.
        if authorized(call, "escalate", row.resource, &info.name).await? {
            return Ok(());
        }
        confirm(call, object, &rules_of(object))?;
        let aggregates = |v: &Value| {
            v.list_at(&["aggregationRule", "clusterRoleSelectors"]).is_some_and(|l| !l.is_empty())
        };
        if (aggregates(object) || old.is_some_and(aggregates))
            && confirm(call, object, &everything()).is_err()
        {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            return Err(ApiError::forbidden(GROUP, row.resource, meta::name(object), why));
        }
        return Ok(());
    }
    let text = |f: &str| object.str_at(&["roleRef", f]).unwrap_or("").to_owned();
    let resource = match text("kind").as_str() {
        "ClusterRole" => "clusterroles",
        "Role" => "roles",
        // Validation refuses the rest.
        _ => return Ok(()),
    };
    if authorized(call, "bind", resource, &text("name")).await? {
        return Ok(());
    }
    let namespace = if resource == "roles" { info.namespace.as_str() } else { "" };
    let role = call.core.find(GROUP, resource, namespace, &text("name")).await?;
    let role = role.ok_or_else(|| ApiError::not_found(GROUP, resource, &text("name")))?;
    confirm(call, object, &rules_of(&role))
}

fn rules_of(role: &Value) -> Vec<Rule> {
    let rules = role.list_at(&["rules"]).into_iter().flat_map(|l| l.iter());
    rules.filter_map(|r| machinery::value::from_value(r).ok()).collect()
}

fn everything() -> Vec<Rule> {
    let all = || vec!["*".to_owned()];
    vec![
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}

/// `ConfirmNoEscalation`.
fn confirm(call: &Call<'_>, object: &Value, wanted: &[Rule]) -> Result<(), ApiError> {
    let user = &call.request.user;
    let (held, problems) = match call.core.rbac() {
        Some(rbac) => rbac.rules_for(user, &call.request.info.namespace),
        None => (Vec::new(), Vec::new()),
    };
    let missing: Vec<Rule> =
        wanted.iter().flat_map(breakdown).filter(|r| !held.iter().any(|h| covers(h, r))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = compact(missing).iter().map(describe).collect();
    lines.sort();
    lines.dedup();
    let quoted = |list: &[String]| list.iter().map(|t| format!("{t:?}")).collect::<Vec<_>>().join(" ");
    let mut text = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        lines.join("\n")
    );
    if !problems.is_empty() {
        text.push_str(&format!("; resolution errors: [{}]", problems.join(" ")));
    }
    Err(ApiError::forbidden(GROUP, call.resource.row.resource, meta::name(object), text))
}

/// A rule as rules of one verb, one resource and one name each.
fn breakdown(rule: &Rule) -> Vec<Rule> {
    let mut all = Vec::new();
    let one = |text: &String| vec![text.clone()];
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let base = Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                if rule.resource_names.is_empty() {
                    all.push(base.clone());
                }
                all.extend(
                    rule.resource_names.iter().map(|n| Rule { resource_names: one(n), ..base.clone() }),
                );
            }
        }
        all.extend(rule.non_resource_urls.iter().map(|url| Rule {
            verbs: one(verb),
            non_resource_urls: one(url),
            ..Rule::default()
        }));
    }
    all
}

/// Whether a held rule covers a broken-down one.
fn covers(held: &Rule, wanted: &Rule) -> bool {
    let all = |set: &[String], parts: &[String]| parts.iter().all(|p| set.contains(p));
    let star = |set: &[String]| set.iter().any(|s| s == "*");
    let resource = |r: &String| {
        held.resources.contains(r)
            || r.split_once('/').is_some_and(|(_, sub)| held.resources.contains(&format!("*/{sub}")))
    };
    let url = |u: &String| {
        held.non_resource_urls
            .iter()
            .any(|h| h == u || (h.ends_with('*') && u.starts_with(h.trim_end_matches('*'))))
    };
    let names = held.resource_names.is_empty()
        || (!wanted.resource_names.is_empty() && all(&held.resource_names, &wanted.resource_names));
    (star(&held.verbs) || all(&held.verbs, &wanted.verbs))
        && (star(&held.api_groups) || all(&held.api_groups, &wanted.api_groups))
        && (star(&held.resources) || wanted.resources.iter().all(resource))
        && wanted.non_resource_urls.iter().all(url)
        && names
}

/// Joins rules that differ only in verbs, as errors list them.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut all: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = all.iter_mut().find(|r| {
            r.api_groups == rule.api_groups
                && r.resources == rule.resources
                && r.resource_names == rule.resource_names
                && r.non_resource_urls == rule.non_resource_urls
                && r.non_resource_urls.is_empty()
        });
        match same {
            Some(present) => present.verbs.extend(rule.verbs),
            None => all.push(rule),
        }
    }
    all
}

fn describe(rule: &Rule) -> String {
    let mut parts = Vec::new();
    for (label, list) in [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ] {
        if !list.is_empty() {
            let quoted: Vec<_> = list.iter().map(|t| format!("{t:?}")).collect();
            parts.push(format!("{label}:[{}]", quoted.join(" ")));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let own = |l: &[&str]| l.iter().map(|t| (*t).to_owned()).collect();
        Rule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            ..Rule::default()
        }
    }

    #[test]
    fn held_rules_cover() {
        let check = |held: Rule, wanted: Rule, want: bool| {
            let covered = breakdown(&wanted).iter().all(|w| covers(&held, w));
            assert_eq!(covered, want, "{} {}", describe(&held), describe(&wanted));
        };
        check(rule(&["*"], &["*"], &["*"], &[]), rule(&["get"], &[""], &["pods/log"], &[]), true);
        check(rule(&["get"], &[""], &["pods"], &["a"]), rule(&["get"], &[""], &["pods"], &[]), false);
        check(rule(&["get"], &[""], &["pods"], &["a", "b"]), rule(&["get"], &[""], &["pods"], &["b"]), true);
        check(rule(&["get"], &[""], &["*/log"], &[]), rule(&["get"], &[""], &["pods/log"], &[]), true);
        check(
            rule(&["get", "list"], &[""], &["pods"], &[]),
            rule(&["get", "watch"], &[""], &["pods"], &[]),
            false,
        );
    }

    #[test]
    fn missing_rules_read_as_upstreams() {
        let missing = breakdown(&rule(&["get", "list"], &[""], &["pods"], &[]));
        let text: Vec<_> = compact(missing).iter().map(describe).collect();
        assert_eq!(text, [r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#]);
    }
}
