//! The SubjectAccessReview that a webhook is asked, in Go's order of fields, and the form of it that match conditions
//! see. Upstream: `plugin/pkg/authorizer/webhook/webhook.go`, `pkg/authorization/cel/compile.go`
//! (`convertObjectToUnstructured`).

use std::collections::BTreeMap;

use auth::Attributes;
use machinery::labels::Operator;
use machinery::{fields, labels};
use serde::Serialize;
use serde_json::{Value, json};

/// The version of the review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    /// Calls groups `group`.
    V1Beta1,
}

impl Version {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(Version::V1),
            "v1beta1" => Some(Version::V1Beta1),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Serialize)]
struct Requirement {
    key: String,
    operator: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceAttributes<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    verb: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subresource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field_selector: Option<Selector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label_selector: Option<Selector>,
}

#[derive(Debug, Clone, Serialize)]
struct NonResourceAttributes<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    verb: &'a str,
}

/// The question.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_attributes: Option<ResourceAttributes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    non_resource_attributes: Option<NonResourceAttributes<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    /// The same in the older version.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    group: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Value,
    spec: &'a Spec<'a>,
    status: Value,
}

/// Conditions of a field selector that the request sent; what cannot be read narrows nothing.
fn field_requirements(text: &str) -> Option<Selector> {
    let selector = fields::parse(text).ok()?;
    let requirements: Vec<Requirement> = selector
        .requirements()
        .iter()
        .map(|r| Requirement {
            key: r.field.clone(),
            operator: if r.negated { "NotIn" } else { "In" },
            values: vec![r.value.clone()],
        })
        .collect();
    (!requirements.is_empty()).then_some(Selector { requirements })
}

/// Those of a label selector; comparisons have no form in the review and are left out.
fn label_requirements(text: &str) -> Option<Selector> {
    let selector = labels::parse(text).ok()?;
    let requirement = |r: &labels::Requirement| {
        let operator = match r.operator() {
            Operator::In | Operator::Equals | Operator::DoubleEquals => "In",
            Operator::NotIn | Operator::NotEquals => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            _ => return None,
        };
        let values = r.values().iter().map(ToString::to_string).collect();
        Some(Requirement { key: r.key().to_owned(), operator, values })
    };
    let requirements: Vec<Requirement> =
        selector.requirements().into_iter().flatten().filter_map(requirement).collect();
    (!requirements.is_empty()).then_some(Selector { requirements })
}

impl<'a> Spec<'a> {
    pub(super) fn new(a: &'a Attributes, version: Version) -> Self {
        let (resource, path) = match a.resource_request {
            true => {
                let attributes = ResourceAttributes {
                    namespace: &a.namespace,
                    verb: &a.verb,
                    group: &a.api_group,
                    version: &a.api_version,
                    resource: &a.resource,
                    subresource: &a.subresource,
                    name: &a.name,
                    field_selector: Some(&a.field_selector)
                        .filter(|t| !t.is_empty())
                        .and_then(|t| field_requirements(t)),
                    label_selector: Some(&a.label_selector)
                        .filter(|t| !t.is_empty())
                        .and_then(|t| label_requirements(t)),
                };
                (Some(attributes), None)
            }
            false => (None, Some(NonResourceAttributes { path: &a.path, verb: &a.verb })),
        };
        let groups: (&[String], &[String]) = match version {
            Version::V1 => (&a.user.groups, &[]),
            Version::V1Beta1 => (&[], &a.user.groups),
        };
        Spec {
            resource_attributes: resource,
            non_resource_attributes: path,
            user: &a.user.name,
            groups: groups.0,
            group: groups.1,
            extra: &a.user.extra,
            uid: &a.user.uid,
        }
    }

    pub(super) fn review(&'a self, version: Version) -> Review<'a> {
        let api_version = match version {
            Version::V1 => "authorization.k8s.io/v1",
            Version::V1Beta1 => "authorization.k8s.io/v1beta1",
        };
        let status = json!({"allowed": false});
        Review { kind: "SubjectAccessReview", api_version, metadata: json!({}), spec: self, status }
    }

    /// `request` of match conditions: empty texts are there, too.
    pub(super) fn for_conditions(&self) -> Value {
        let groups = if self.groups.is_empty() { self.group } else { self.groups };
        let mut out = json!({"user": self.user, "groups": groups, "uid": self.uid, "extra": self.extra});
        if let Some(r) = &self.resource_attributes {
            let mut attributes = json!({
                "namespace": r.namespace, "verb": r.verb, "group": r.group, "version": r.version,
                "resource": r.resource, "subresource": r.subresource, "name": r.name,
            });
            let selectors = [("fieldSelector", &r.field_selector), ("labelSelector", &r.label_selector)];
            for (field, selector) in selectors {
                let Some(selector) = selector else { continue };
                let requirements: Vec<Value> = selector
                    .requirements
                    .iter()
                    .map(|r| json!({"key": r.key, "operator": r.operator, "values": r.values}))
                    .collect();
                attributes[field] = json!({"requirements": requirements});
            }
            out["resourceAttributes"] = attributes;
        }
        if let Some(n) = &self.non_resource_attributes {
            out["nonResourceAttributes"] = json!({"verb": n.verb, "path": n.path});
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn questions() {
        let mut a = Attributes {
            user: Arc::new(auth::UserInfo::new("u", &["g"])),
            verb: "list".into(),
            resource: "pods".into(),
            namespace: "n".into(),
            resource_request: true,
            field_selector: "spec.nodeName=a,status.phase!=b".into(),
            label_selector: "x in (1,2),!y".into(),
            ..Attributes::default()
        };
        let text = |a: &Attributes, v| serde_json::to_string(&Spec::new(a, v).review(v)).unwrap();
        let want = concat!(
            r#"{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"#,
            r#""spec":{"resourceAttributes":{"namespace":"n","verb":"list","resource":"pods","#,
            r#""fieldSelector":{"requirements":[{"key":"spec.nodeName","operator":"In","values":["a"]},"#,
            r#"{"key":"status.phase","operator":"NotIn","values":["b"]}]},"#,
            r#""labelSelector":{"requirements":[{"key":"x","operator":"In","values":["1","2"]},"#,
            r#"{"key":"y","operator":"DoesNotExist"}]}},"user":"u","groups":["g"]},"#,
            r#""status":{"allowed":false}}"#,
        );
        assert_eq!(text(&a, Version::V1), want);
        (a.resource_request, a.path) = (false, "/x".into());
        let want = concat!(
            r#"{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1beta1","metadata":{},"#,
            r#""spec":{"nonResourceAttributes":{"path":"/x","verb":"list"},"user":"u","group":["g"]},"#,
            r#""status":{"allowed":false}}"#,
        );
        assert_eq!(text(&a, Version::V1Beta1), want);
    }
}
