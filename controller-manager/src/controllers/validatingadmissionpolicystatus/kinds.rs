//! The kinds of objects a policy is about. Pure.
//! Upstream: plugin/policy/validating/typechecking.go (`typesToCheck`, `paramsGVK`).

use std::collections::BTreeSet;
use std::fmt;

use client::ApiResource;
use k8s_openapi::api::admissionregistration::v1::{
    NamedRuleWithOperations as Rule, ValidatingAdmissionPolicy as Policy,
};

/// Objects of more kinds are not checked.
const MOST: usize = 10;

/// A kind in a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

/// As Go prints a `schema.GroupVersionKind`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

impl Kind {
    /// Path of the OpenAPI document that describes it.
    pub fn document(&self) -> String {
        match self.group.as_str() {
            "" => format!("/openapi/v3/api/{}", self.version),
            group => format!("/openapi/v3/apis/{group}/{}", self.version),
        }
    }
}

/// The kind of a policy's parameters, if it has any and names it properly.
pub fn param_kind(policy: &Policy) -> Option<Kind> {
    let named = policy.spec.as_ref()?.param_kind.as_ref()?;
    let api_version = named.api_version.as_deref().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = named.kind.clone().unwrap_or_default();
    let is_empty = group.is_empty() && version.is_empty() && kind.is_empty();
    (!is_empty && !version.contains('/')).then(|| Kind { group: group.into(), version: version.into(), kind })
}

/// The kinds to check, sorted. Rules with wildcards name none.
pub fn to_check(policy: &Policy, served: &[ApiResource]) -> Vec<Kind> {
    let constraints = policy.spec.as_ref().and_then(|s| s.match_constraints.as_ref());
    let mut kinds = BTreeSet::new();
    for rule in constraints.and_then(|c| c.resource_rules.as_ref()).into_iter().flatten() {
        if collect(rule, served, &mut kinds) {
            break;
        }
    }
    kinds.into_iter().collect()
}

fn without_wildcards(names: Option<&Vec<String>>) -> Option<Vec<&str>> {
    let mut names: Vec<&str> = names?.iter().map(String::as_str).collect();
    names.sort_unstable();
    (!names.iter().any(|n| n.contains('*'))).then_some(names)
}

/// Adds the kinds of a rule; whether it names as many as are looked at.
fn collect(rule: &Rule, served: &[ApiResource], kinds: &mut BTreeSet<Kind>) -> bool {
    let (Some(groups), Some(versions)) =
        (without_wildcards(rule.api_groups.as_ref()), without_wildcards(rule.api_versions.as_ref()))
    else {
        return false;
    };
    let mut resources: Vec<&str> = rule.resources.iter().flatten().map(String::as_str).collect();
    resources.retain(|r| !r.contains(['*', '/']));
    resources.sort_unstable();
    let mut count = 0;
    for group in &groups {
        for version in &versions {
            for resource in &resources {
                for kind in kinds_for(served, group, version, resource) {
                    kinds.insert(kind);
                    count += 1;
                    if count == MOST {
                        return true;
                    }
                }
            }
        }
    }
    false
}

/// Upstream's `RESTMapper.KindsFor`: no group stands for any.
fn kinds_for(served: &[ApiResource], group: &str, version: &str, resource: &str) -> Vec<Kind> {
    let resource = resource.to_lowercase();
    let is = |r: &&ApiResource| {
        let singular = if r.singular.is_empty() { r.kind.to_lowercase() } else { r.singular.clone() };
        (group.is_empty() || r.gvr.group == group)
            && r.gvr.version == version
            && (r.gvr.resource == resource || singular == resource)
    };
    let kind = |r: &ApiResource| Kind {
        group: r.gvr.group.clone(),
        version: r.gvr.version.clone(),
        kind: r.kind.clone(),
    };
    served.iter().filter(is).map(kind).collect()
}
