//! The policy: the first rule that matches a request says how much of it is recorded.
//! Upstream: `k8s.io/apiserver/pkg/audit/policy/{reader,checker}.go`.

use auth::{Attributes, UserInfo};
use serde::Deserialize;

use crate::event::{Level, Stage};
use crate::validation;

const KIND: (&str, &str) = ("audit.k8s.io/v1", "Policy");

/// A policy as it is written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PolicyFile {
    #[serde(rename = "metadata")]
    _metadata: Option<Metadata>,
    pub(crate) rules: Option<Vec<RuleFile>>,
    pub(crate) omit_stages: Option<Vec<String>>,
    pub(crate) omit_managed_fields: Option<bool>,
}

/// Read and not used.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "creationTimestamp")]
    _created: Option<String>,
    #[serde(rename = "labels")]
    _labels: Option<std::collections::BTreeMap<String, String>>,
    #[serde(rename = "annotations")]
    _annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RuleFile {
    pub(crate) level: String,
    pub(crate) users: Option<Vec<String>>,
    pub(crate) user_groups: Option<Vec<String>>,
    pub(crate) verbs: Option<Vec<String>>,
    pub(crate) resources: Option<Vec<GroupResources>>,
    pub(crate) namespaces: Option<Vec<String>>,
    #[serde(rename = "nonResourceURLs")]
    pub(crate) non_resource_urls: Option<Vec<String>>,
    pub(crate) omit_stages: Option<Vec<String>>,
    pub(crate) omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct GroupResources {
    pub(crate) group: String,
    pub(crate) resources: Option<Vec<String>>,
    pub(crate) resource_names: Option<Vec<String>>,
}

/// What is to be recorded of one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settled {
    /// How much.
    pub level: Level,
    /// At which stages nothing is recorded.
    pub omit_stages: Vec<Stage>,
    /// Whether bodies are recorded without their managed fields.
    pub omit_managed_fields: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    non_resource_urls: Vec<String>,
    settled: Settled,
}

/// A policy that can be asked.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: Vec<Rule>,
}

fn stages(names: &[&Option<Vec<String>>]) -> Vec<Stage> {
    let named = |stage: &Stage| names.iter().filter_map(|l| l.as_ref()).flatten().any(|n| n == stage.text());
    Stage::ALL.into_iter().filter(named).collect()
}

impl Policy {
    /// Reads a policy. Unknown and repeated fields are only warned about, as upstream falls back to lenient decoding.
    ///
    /// # Errors
    /// Upstream's texts: no such version, every field that is wrong, no rules.
    pub fn parse(file: &str, data: &[u8]) -> Result<Self, String> {
        let decoded = component::config::decode::<PolicyFile>(file, data, &[KIND]);
        let decoded = decoded.map_err(|e| format!("failed decoding: {e}"))?;
        for problem in &decoded.strict_problems {
            tracing::warn!("Audit policy contains errors, falling back to lenient decoding: {problem}");
        }
        let written = decoded.value;
        validation::check(&written)?;
        let rules = written.rules.unwrap_or_default();
        if rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        let everywhere = written.omit_stages;
        let bare = written.omit_managed_fields.unwrap_or_default();
        let rule = |rule: RuleFile| Rule {
            settled: Settled {
                level: Level::ALL.into_iter().find(|l| l.text() == rule.level).unwrap_or_default(),
                omit_stages: stages(&[&everywhere, &rule.omit_stages]),
                omit_managed_fields: rule.omit_managed_fields.unwrap_or(bare),
            },
            users: rule.users.unwrap_or_default(),
            user_groups: rule.user_groups.unwrap_or_default(),
            verbs: rule.verbs.unwrap_or_default(),
            resources: rule.resources.unwrap_or_default(),
            namespaces: rule.namespaces.unwrap_or_default(),
            non_resource_urls: rule.non_resource_urls.unwrap_or_default(),
        };
        Ok(Self { rules: rules.into_iter().map(rule).collect() })
    }

    /// What is to be recorded of a request; nothing when no rule matches. `user` is `None` for requests that could not
    /// be authenticated.
    pub fn evaluate(&self, attributes: &Attributes, user: Option<&UserInfo>) -> Option<&Settled> {
        self.rules.iter().find(|rule| rule.matches(attributes, user)).map(|rule| &rule.settled)
    }
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|v| v == value)
}

impl Rule {
    fn matches(&self, a: &Attributes, user: Option<&UserInfo>) -> bool {
        let by_user = |list: &[String], f: &dyn Fn(&UserInfo) -> bool| list.is_empty() || user.is_some_and(f);
        if !by_user(&self.users, &|u| has(&self.users, &u.name))
            || !by_user(&self.user_groups, &|u| u.groups.iter().any(|g| has(&self.user_groups, g)))
            || !(self.verbs.is_empty() || has(&self.verbs, &a.verb))
        {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return self.matches_resource(a);
        }
        if !self.non_resource_urls.is_empty() {
            return !a.resource_request && self.non_resource_urls.iter().any(|u| path_matches(u, &a.path));
        }
        true
    }

    fn matches_resource(&self, a: &Attributes) -> bool {
        // What has no namespace has the empty one.
        if !a.resource_request || !(self.namespaces.is_empty() || has(&self.namespaces, &a.namespace)) {
            return false;
        }
        self.resources.is_empty() || self.resources.iter().any(|r| r.matches(a))
    }
}

impl GroupResources {
    fn matches(&self, a: &Attributes) -> bool {
        if self.group != a.api_group && self.group != "*" {
            return false;
        }
        let Some(resources) = self.resources.as_deref().filter(|r| !r.is_empty()) else { return true };
        let names = self.resource_names.as_deref().unwrap_or_default();
        if !names.is_empty() && !has(names, &a.name) {
            return false;
        }
        let sub = a.subresource.as_str();
        resources.iter().any(|wanted| {
            let (left, right) = wanted.split_once('/').unwrap_or((wanted, ""));
            match (left, right) {
                ("*", "") => true,
                ("*", right) if !sub.is_empty() && right == sub => true,
                (left, "*") if left == a.resource => true,
                (left, right) => left == a.resource && right == sub,
            }
        })
    }
}

/// A `*` at the end of a path stands for any rest.
fn path_matches(wanted: &str, path: &str) -> bool {
    wanted == "*" || wanted == path || wanted.ends_with('*') && path.starts_with(wanted.trim_end_matches('*'))
}
