//! Which flow schema a request belongs to.
//!
//! Rules are compiled once per configuration; matching a request allocates nothing.
//! Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/rule.go`.

use k8s_openapi::api::flowcontrol::v1 as api;

const ALL: &str = "*";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// What of a request decides.
#[derive(Debug, Clone, Copy)]
pub struct Digest<'a> {
    /// Name of the user.
    pub user: &'a str,
    /// Groups of the user.
    pub groups: &'a [String],
    /// Whether it is about a resource.
    pub is_resource: bool,
    /// `get`, `list` …
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Resource, plural.
    pub resource: &'a str,
    /// Subresource, or empty.
    pub subresource: &'a str,
    /// Namespace, or empty.
    pub namespace: &'a str,
    /// Path.
    pub path: &'a str,
}

/// A list of names, or every name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    Every,
    These(Box<[Box<str>]>),
}

impl Names {
    /// The wildcard counts when it is alone, which validation sees to.
    fn of(names: Option<&[String]>) -> Self {
        match names.unwrap_or_default() {
            [only] if only == ALL => Self::Every,
            names => Self::These(names.iter().map(|n| n.as_str().into()).collect()),
        }
    }

    fn have(&self, name: &str) -> bool {
        self.any(|n| n == name)
    }

    fn any(&self, test: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Every => true,
            Self::These(names) => names.iter().any(|n| test(n)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Everyone,
    User(Box<str>),
    Group(Box<str>),
    ServiceAccount(Box<str>),
    /// Every service account of a namespace: the name begins like this.
    ServiceAccounts(Box<str>),
}

impl Subject {
    fn of(subject: &api::Subject) -> Option<Self> {
        match subject.kind.as_str() {
            "User" => {
                let name = &subject.user.as_ref()?.name;
                Some(if name == ALL { Self::Everyone } else { Self::User(name.as_str().into()) })
            }
            "Group" => {
                let name = &subject.group.as_ref()?.name;
                Some(if name == ALL { Self::Everyone } else { Self::Group(name.as_str().into()) })
            }
            "ServiceAccount" => {
                let api::ServiceAccountSubject { name, namespace } = subject.service_account.as_ref()?;
                Some(match name.as_str() {
                    ALL => Self::ServiceAccounts(format!("{SERVICE_ACCOUNT}{namespace}:").into()),
                    name => Self::ServiceAccount(format!("{SERVICE_ACCOUNT}{namespace}:{name}").into()),
                })
            }
            _ => None,
        }
    }

    fn is(&self, request: &Digest<'_>) -> bool {
        match self {
            Self::Everyone => true,
            Self::User(name) | Self::ServiceAccount(name) => **name == *request.user,
            Self::Group(name) => request.groups.iter().any(|g| **name == *g.as_str()),
            Self::ServiceAccounts(start) => request.user.starts_with(&**start),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ResourceRule {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    cluster: bool,
}

impl ResourceRule {
    fn of(rule: &api::ResourcePolicyRule) -> Self {
        Self {
            verbs: Names::of(Some(&rule.verbs)),
            groups: Names::of(Some(&rule.api_groups)),
            resources: Names::of(Some(&rule.resources)),
            namespaces: Names::of(rule.namespaces.as_deref()),
            cluster: rule.cluster_scope.unwrap_or(false),
        }
    }

    fn matches(&self, request: &Digest<'_>) -> bool {
        let resource = |name: &str| match name.split_once('/') {
            Some((resource, sub)) => resource == request.resource && sub == request.subresource,
            None => name == request.resource && request.subresource.is_empty(),
        };
        self.verbs.have(request.verb)
            && self.resources.any(resource)
            && self.groups.have(request.group)
            && if request.namespace.is_empty() {
                self.cluster
            } else {
                self.namespaces.have(request.namespace)
            }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PathRule {
    verbs: Names,
    paths: Box<[Box<str>]>,
}

impl PathRule {
    fn of(rule: &api::NonResourcePolicyRule) -> Self {
        let paths = rule.non_resource_urls.iter().map(|p| p.as_str().into()).collect();
        Self { verbs: Names::of(Some(&rule.verbs)), paths }
    }

    fn matches(&self, request: &Digest<'_>) -> bool {
        self.verbs.have(request.verb) && self.paths.iter().any(|rule| covers(rule, request.path))
    }
}

/// Whether a path is the rule's or below it. Upstream: `matchPolicyRuleNonResourceURL`.
fn covers(rule: &str, path: &str) -> bool {
    if rule == ALL || rule == path {
        return true;
    }
    let start = rule.strip_suffix('*').unwrap_or(rule);
    let start = start.strip_suffix('/').unwrap_or(start);
    path.strip_prefix(start).is_some_and(|rest| rest.starts_with('/'))
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    subjects: Box<[Subject]>,
    resources: Box<[ResourceRule]>,
    paths: Box<[PathRule]>,
}

/// The compiled rules of a flow schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(Box<[Rule]>);

impl Rules {
    /// Compiles.
    #[must_use]
    pub fn compile(rules: &[api::PolicyRulesWithSubjects]) -> Self {
        let one = |rule: &api::PolicyRulesWithSubjects| Rule {
            subjects: rule.subjects.iter().filter_map(Subject::of).collect(),
            resources: rule.resource_rules.iter().flatten().map(ResourceRule::of).collect(),
            paths: rule.non_resource_rules.iter().flatten().map(PathRule::of).collect(),
        };
        Self(rules.iter().map(one).collect())
    }

    /// Whether a request belongs here.
    #[must_use]
    pub fn matches(&self, request: &Digest<'_>) -> bool {
        self.0.iter().any(|rule| {
            rule.subjects.iter().any(|s| s.is(request))
                && if request.is_resource {
                    rule.resources.iter().any(|r| r.matches(request))
                } else {
                    rule.paths.iter().any(|r| r.matches(request))
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (rule, path, want) in [
            ("*", "/x", true),
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/ping", true),
            ("/healthz", "/healthzx", false),
            ("/healthz/*", "/healthz/ping", true),
            ("/healthz/*", "/healthz", false),
            ("/a*", "/a/b", true),
            ("/a*", "/ab", false),
        ] {
            assert_eq!(covers(rule, path), want, "{rule} {path}");
        }
    }
}
