//! Which requests a webhook or policy is about: rules, selectors of namespace and object, equivalent resources.
//! Upstream: `plugin/webhook/predicates`, `plugin/policy/matching`.

use std::ops::Deref;
use std::sync::Arc;

use machinery::Value;
use machinery::labels::Selector;

use super::webhook::rules::{Rule, Subject};
use super::{Attributes, Operation};
use crate::core::Resource;
use crate::errors::ApiError;
use crate::meta;

/// The selectors of a webhook or of match resources.
#[derive(Debug)]
pub struct Selectors {
    namespaces: Result<Selector, String>,
    objects: Result<Selector, String>,
}

impl Selectors {
    /// Reads `namespaceSelector` and `objectSelector`.
    pub fn read(tree: &Value) -> Self {
        let read = |field: &str| Selector::from_value(tree.get(field)).map_err(|e| e.to_string());
        Selectors { namespaces: read("namespaceSelector"), objects: read("objectSelector") }
    }

    /// Whether both select the request. Where one does not, it does not matter that the other could not be decided.
    ///
    /// # Errors
    /// When a selector cannot be decided.
    pub async fn select(&self, a: &Attributes<'_>) -> Result<bool, ApiError> {
        let namespace = self.namespace(a).await;
        if matches!(namespace, Ok(false)) {
            return Ok(false);
        }
        match (namespace, self.object(a)) {
            (_, Ok(false)) => Ok(false),
            (Err(error), _) | (_, Err(error)) => Err(error),
            _ => Ok(true),
        }
    }

    /// Upstream: `predicates/namespace/matcher.go`.
    async fn namespace(&self, a: &Attributes<'_>) -> Result<bool, ApiError> {
        let is_namespaces = a.resource() == "namespaces";
        if a.namespace.is_empty() && !is_namespaces {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(ApiError::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        let matches = |object: &Value| selector.matches(&meta::labels(object));
        // A namespace that is being written is not in the store yet.
        if is_namespaces
            && a.subresource().is_empty()
            && matches!(a.operation, Operation::Create | Operation::Update)
            && let Some(object) = &a.object
        {
            return Ok(matches(object));
        }
        match a.call.core.find("", "namespaces", "", &a.namespace).await? {
            Some(namespace) => Ok(matches(&namespace)),
            None => Err(ApiError::not_found("", "namespaces", &a.namespace)),
        }
    }

    /// Upstream: `predicates/object/matcher.go`.
    fn object(&self, a: &Attributes<'_>) -> Result<bool, ApiError> {
        let selector = self.objects.as_ref().map_err(ApiError::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        // The options of a connect request have no labels, not even none.
        if a.operation == Operation::Connect {
            return Ok(false);
        }
        let matches =
            |object: &Option<Value>| object.as_ref().is_some_and(|o| selector.matches(&meta::labels(o)));
        Ok(matches(&a.object) || matches(&a.old))
    }
}

/// A rule, perhaps for some names only.
#[derive(Debug)]
pub struct NamedRule {
    rule: Rule,
    names: Vec<String>,
}

impl NamedRule {
    /// Reads a `NamedRuleWithOperations`, or a rule without names.
    pub fn read(tree: &Value) -> Self {
        let names = tree.list_at(&["resourceNames"]).into_iter().flat_map(|l| l.iter());
        NamedRule {
            rule: Rule::read(tree),
            names: names.filter_map(|n| n.as_str().map(str::to_owned)).collect(),
        }
    }

    fn matches(&self, a: &Attributes<'_>, resource: &Resource) -> bool {
        let row = resource.row;
        let subject = Subject {
            operation: a.operation,
            group: row.kind.group,
            version: row.kind.version,
            resource: row.resource,
            subresource: a.subresource(),
            namespace: &a.namespace,
        };
        self.rule.matches(subject) && (self.names.is_empty() || self.names.contains(&a.name))
    }
}

/// The resource a request is matched as.
pub enum Matched<'a> {
    /// Its own.
    Own(&'a Resource),
    /// Another one, which is stored in the same place.
    Other(Arc<Resource>),
}

impl Deref for Matched<'_> {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        match self {
            Matched::Own(resource) => resource,
            Matched::Other(resource) => resource,
        }
    }
}

/// The resource that the rules match: the request's own, or one that is stored in the same place. Earlier rules count
/// first.
pub fn matched<'a>(a: &Attributes<'a>, rules: &[NamedRule], equivalent: bool) -> Option<Matched<'a>> {
    let own = a.call.resource;
    if rules.iter().any(|rule| rule.matches(a, own)) {
        return Some(Matched::Own(own));
    }
    if !equivalent || rules.is_empty() {
        return None;
    }
    let others = equivalents(a, own);
    rules.iter().find_map(|rule| others.iter().find(|r| rule.matches(a, r))).cloned().map(Matched::Other)
}

fn equivalents(a: &Attributes<'_>, own: &Resource) -> Vec<Arc<Resource>> {
    let core = a.call.core;
    let row = own.row;
    let Some(stored) = row.stored.as_ref() else { return Vec::new() };
    let mut all: Vec<Arc<Resource>> = if own.custom.is_some() {
        let family = core.custom().family(row.kind.group, row.resource);
        family.map(|family| family.all_served()).unwrap_or_default()
    } else {
        let same = |r: &&Arc<Resource>| r.row.stored.as_ref().is_some_and(|s| s.key == stored.key);
        core.resources().iter().filter(same).cloned().collect()
    };
    let sub = a.subresource();
    all.retain(|r| r.row.kind != row.kind && (sub.is_empty() || r.row.subresource(sub).is_some()));
    all
}
