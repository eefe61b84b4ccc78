//! The question every authorizer answers, and how several of them are asked in turn.
//! Upstream: `k8s.io/apiserver/pkg/authorization/{authorizer,union}`.

use std::sync::Arc;

use async_trait::async_trait;

use crate::UserInfo;
use crate::rbac::rule::Rule;

/// What a request wants to do. `resource_request` tells which half is meaningful.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    /// Who asks.
    pub user: Arc<UserInfo>,
    /// Kubernetes verb (`get`, `list`, ...) or the lower-case HTTP method for non-resource requests.
    pub verb: String,
    /// Namespace, empty for cluster-scoped requests and requests across all namespaces.
    pub namespace: String,
    /// API group, empty for core.
    pub api_group: String,
    /// API version.
    pub api_version: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Object name, or empty.
    pub name: String,
    /// True for requests to API resources, false for paths such as `/healthz`.
    pub resource_request: bool,
    /// Request path, used by non-resource requests.
    pub path: String,
    /// The field selector of a list, watch or deletecollection, as sent.
    pub field_selector: String,
    /// The label selector of a list, watch or deletecollection, as sent.
    pub label_selector: String,
}

impl Attributes {
    /// Whether the verb only reads. Upstream: `AttributesRecord.IsReadOnly`.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// The answer of one authorizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Allowed; no further authorizer is asked.
    Allow,
    /// Denied; no further authorizer is asked.
    Deny,
    /// This authorizer does not know; the next one is asked.
    NoOpinion,
}

/// A decision with the text that explains it, and an evaluation problem that did not prevent it.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The decision.
    pub decision: Decision,
    /// Why; shown to the user in a 403.
    pub reason: String,
    /// Problems met while deciding (for example a role that could not be resolved).
    pub error: Option<String>,
}

impl Verdict {
    /// A decision with a reason and no error.
    pub fn new(decision: Decision, reason: impl Into<String>) -> Self {
        Self { decision, reason: reason.into(), error: None }
    }

    /// Whether the request may proceed.
    pub fn allowed(&self) -> bool {
        self.decision == Decision::Allow
    }
}

/// What a user may do, as far as it can be enumerated.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    /// Rules about resources and paths.
    pub rules: Vec<Rule>,
    /// Whether more may be allowed than the rules say.
    pub incomplete: bool,
    /// Problems met while collecting.
    pub errors: Vec<String>,
}

/// Decides whether a request may proceed.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Answers for one request.
    async fn authorize(&self, attributes: &Attributes) -> Verdict;

    /// What a user may do in a namespace. Authorizers that cannot say contribute nothing.
    fn rules_for(&self, _user: &UserInfo, _namespace: &str) -> RuleSet {
        RuleSet::default()
    }
}

/// Asks several named authorizers in turn; the first that is not `NoOpinion` decides. When none does, each reason is
/// given with its authorizer's name.
pub struct Named(pub Vec<(String, Arc<dyn Authorizer>)>);

/// [`Named`] with authorizers that have no names.
pub struct Union(pub Vec<Arc<dyn Authorizer>>);

/// One authorizer of a union: its name, or empty.
type Member<'a> = (&'a str, &'a dyn Authorizer);

async fn ask(members: impl Iterator<Item = Member<'_>> + Send, attributes: &Attributes) -> Verdict {
    let (mut reasons, mut errors) = (Vec::new(), Vec::new());
    for (name, authorizer) in members {
        let verdict = authorizer.authorize(attributes).await;
        if verdict.decision != Decision::NoOpinion {
            return verdict;
        }
        match (verdict.reason.is_empty(), name.is_empty()) {
            (true, _) => {}
            (false, true) => reasons.push(verdict.reason),
            (false, false) => reasons.push(format!("{name}: {}", verdict.reason)),
        }
        errors.extend(verdict.error);
    }
    let error = match errors.len() {
        0 => None,
        1 => errors.pop(),
        _ => Some(format!("[{}]", errors.join(", "))),
    };
    Verdict { decision: Decision::NoOpinion, reason: reasons.join("\n"), error }
}

fn collect<'a>(
    members: impl Iterator<Item = &'a dyn Authorizer>,
    user: &UserInfo,
    namespace: &str,
) -> RuleSet {
    let mut all = RuleSet::default();
    for found in members.map(|m| m.rules_for(user, namespace)) {
        all.rules.extend(found.rules);
        all.incomplete |= found.incomplete;
        all.errors.extend(found.errors);
    }
    all
}

#[async_trait]
impl Authorizer for Named {
    async fn authorize(&self, attributes: &Attributes) -> Verdict {
        ask(self.0.iter().map(|(name, member)| (name.as_str(), &**member)), attributes).await
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> RuleSet {
        collect(self.0.iter().map(|(_, member)| &**member), user, namespace)
    }
}

#[async_trait]
impl Authorizer for Union {
    async fn authorize(&self, attributes: &Attributes) -> Verdict {
        ask(self.0.iter().map(|member| ("", &**member)), attributes).await
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> RuleSet {
        collect(self.0.iter().map(|member| &**member), user, namespace)
    }
}

/// `AlwaysAllow` mode.
pub struct AlwaysAllow;

#[async_trait]
impl Authorizer for AlwaysAllow {
    async fn authorize(&self, _: &Attributes) -> Verdict {
        Verdict::new(Decision::Allow, "")
    }

    fn rules_for(&self, _: &UserInfo, _: &str) -> RuleSet {
        let all = || vec!["*".to_owned()];
        let resources = Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() };
        let paths = Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() };
        RuleSet { rules: vec![resources, paths], ..RuleSet::default() }
    }
}

/// `AlwaysDeny` mode.
pub struct AlwaysDeny;

#[async_trait]
impl Authorizer for AlwaysDeny {
    async fn authorize(&self, _: &Attributes) -> Verdict {
        Verdict::new(Decision::NoOpinion, "Everything is forbidden.")
    }
}

/// Lets members of the given groups do everything; stands before all other authorizers.
/// Upstream: `authorizerfactory.NewPrivilegedGroups`.
pub struct PrivilegedGroups(pub Vec<String>);

#[async_trait]
impl Authorizer for PrivilegedGroups {
    async fn authorize(&self, attributes: &Attributes) -> Verdict {
        if self.0.iter().any(|g| attributes.user.in_group(g)) {
            return Verdict::new(Decision::Allow, "");
        }
        Verdict::new(Decision::NoOpinion, "")
    }
}
