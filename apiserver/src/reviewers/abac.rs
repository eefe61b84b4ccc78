//! `--authorization-policy-file`: one policy a line; the first that matches allows.
//! Upstream: `pkg/auth/authorizer/abac/abac.go`, `pkg/apis/abac/{v0,v1beta1}`.

use async_trait::async_trait;
use auth::authorizer::RuleSet;
use auth::rbac::rule::Rule;
use auth::{ALL_AUTHENTICATED, Attributes, Authorizer, Decision, UserInfo, Verdict};
use serde::Deserialize;

/// A policy.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Policy {
    user: String,
    group: String,
    readonly: bool,
    api_group: String,
    resource: String,
    namespace: String,
    non_resource_path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Line {
    api_version: String,
    kind: String,
    spec: Policy,
}

/// The policies of a file.
#[derive(Debug, Default)]
pub(crate) struct Abac(Vec<Policy>);

impl Abac {
    /// Reads the lines of a file; comments begin with `#`.
    ///
    /// # Errors
    /// The first line that is no policy.
    pub(crate) fn parse(path: &str, text: &str) -> Result<Self, String> {
        let mut policies = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let policy = policy(line).map_err(|why| {
                format!("error reading policy file {path}, line {}: {line}: {why}", index + 1)
            })?;
            policies.push(policy);
        }
        Ok(Self(policies))
    }
}

fn policy(text: &str) -> Result<Policy, String> {
    let line: Line = serde_json::from_str(text).map_err(|e| e.to_string())?;
    match (line.api_version.as_str(), line.kind.as_str()) {
        ("abac.authorization.kubernetes.io/v1beta1", "Policy") => Ok(line.spec),
        ("", "") => serde_json::from_str(text).map(older).map_err(|e| e.to_string()),
        (version, kind) => Err(format!("no kind {kind:?} is registered for version {version:?}")),
    }
}

/// What a line without version means: what it does not name is everything. Upstream: `v0/conversion.go`.
fn older(mut policy: Policy) -> Policy {
    let nobody = policy.user.is_empty() && policy.group.is_empty();
    if nobody || policy.user == "*" || policy.group == "*" {
        policy.user.clear();
        policy.group = ALL_AUTHENTICATED.to_owned();
    }
    policy.non_resource_path.clear();
    if policy.namespace.is_empty() && policy.resource.is_empty() {
        "*".clone_into(&mut policy.non_resource_path);
    }
    for field in [&mut policy.namespace, &mut policy.resource] {
        if field.is_empty() {
            "*".clone_into(field);
        }
    }
    "*".clone_into(&mut policy.api_group);
    policy
}

impl Policy {
    fn is_about(&self, user: &UserInfo) -> bool {
        let user_fits = matches!(self.user.as_str(), "" | "*") || self.user == user.name;
        let group_fits = matches!(self.group.as_str(), "" | "*") || user.in_group(&self.group);
        user_fits && group_fits && !(self.user.is_empty() && self.group.is_empty())
    }

    fn allows(&self, a: &Attributes) -> bool {
        let fits = |wanted: &str, value: &str| wanted == "*" || wanted == value;
        if !self.is_about(&a.user) || self.readonly && !a.is_read_only() {
            return false;
        }
        if a.resource_request {
            return fits(&self.namespace, &a.namespace)
                && fits(&self.resource, &a.resource)
                && fits(&self.api_group, &a.api_group);
        }
        let path = self.non_resource_path.as_str();
        fits(path, &a.path) || path.ends_with('*') && a.path.starts_with(path.trim_end_matches('*'))
    }
}

#[async_trait]
impl Authorizer for Abac {
    async fn authorize(&self, attributes: &Attributes) -> Verdict {
        if self.0.iter().any(|p| p.allows(attributes)) {
            return Verdict::new(Decision::Allow, "");
        }
        Verdict::new(Decision::NoOpinion, "No policy matched.")
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> RuleSet {
        let mut all = RuleSet::default();
        let here = |p: &&Policy| p.is_about(user) && (p.namespace == "*" || p.namespace == namespace);
        for p in self.0.iter().filter(here) {
            let verbs = || -> Vec<String> {
                let verbs: &[&str] = if p.readonly { &["get", "list", "watch"] } else { &["*"] };
                verbs.iter().map(|v| (*v).to_owned()).collect()
            };
            if !p.resource.is_empty() {
                all.rules.push(Rule {
                    verbs: verbs(),
                    api_groups: vec![p.api_group.clone()],
                    resources: vec![p.resource.clone()],
                    ..Rule::default()
                });
            }
            if !p.non_resource_path.is_empty() {
                let non_resource_urls = vec![p.non_resource_path.clone()];
                all.rules.push(Rule { verbs: verbs(), non_resource_urls, ..Rule::default() });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const FILE: &str = r#"
# Comment.
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "alice", "namespace": "*", "resource": "*", "apiGroup": "*"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "bob", "namespace": "p", "resource": "pods", "readonly": true}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"group": "g", "nonResourcePath": "/metrics*"}}
{"user": "old", "resource": "events"}
"#;

    #[test]
    fn decisions() {
        let policies = Abac::parse("f", FILE).unwrap();
        let check = |user: &str, verb: &str, what: &str, want: bool| {
            let mut a = Attributes { verb: verb.into(), ..Attributes::default() };
            a.user = Arc::new(UserInfo::new(user, &[if user == "carol" { "g" } else { "x" }]));
            match what.split_once(':') {
                Some((namespace, resource)) => {
                    a.resource_request = true;
                    (a.namespace, a.resource) = (namespace.into(), resource.into());
                }
                None => a.path = what.into(),
            }
            assert_eq!(policies.0.iter().any(|p| p.allows(&a)), want, "{user} {verb} {what}");
        };
        check("alice", "delete", "x:secrets", true);
        check("alice", "get", "/metrics", false);
        check("bob", "get", "p:pods", true);
        check("bob", "create", "p:pods", false);
        check("bob", "get", "q:pods", false);
        check("carol", "get", "/metrics/x", true);
        check("carol", "get", "/version", false);
        check("old", "create", "x:events", true);
        check("old", "create", "x:pods", false);
    }

    #[test]
    fn refusals() {
        let error = Abac::parse("f", "\n{").unwrap_err();
        assert!(error.starts_with("error reading policy file f, line 2: {: "), "{error}");
        assert!(Abac::parse("f", r#"{"apiVersion":"v2","kind":"Policy"}"#).is_err());
    }
}
