//! What policies of both kinds have in common, and bindings.

use std::fmt;

use machinery::Value;

use super::super::Attributes;
use super::super::expressions::{Expression, Scope, Wanted};
use super::super::matching::{Matched, NamedRule, Selectors, matched};
use crate::errors::ApiError;
use crate::meta;

/// Kind of the parameters of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamKind {
    pub api_version: String,
    pub kind: String,
}

impl ParamKind {
    /// Group and version.
    pub fn group_version(&self) -> (&str, &str) {
        self.api_version.rsplit_once('/').unwrap_or(("", &self.api_version))
    }
}

/// As Go prints a `schema.GroupVersionKind`.
impl fmt::Display for ParamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (group, version) = self.group_version();
        write!(f, "{group}/{version}, Kind={}", self.kind)
    }
}

/// `MatchResources`.
#[derive(Debug)]
pub struct Constraints {
    selectors: Selectors,
    rules: Vec<NamedRule>,
    excluded: Vec<NamedRule>,
    equivalent: bool,
}

pub fn items<'a>(tree: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> {
    tree.list_at(path).into_iter().flat_map(|l| l.iter())
}

impl Constraints {
    fn read(tree: &Value) -> Self {
        let rules = |field: &str| items(tree, &[field]).map(NamedRule::read).collect();
        Constraints {
            selectors: Selectors::read(tree),
            rules: rules("resourceRules"),
            excluded: rules("excludeResourceRules"),
            equivalent: tree.str_at(&["matchPolicy"]) == Some("Equivalent"),
        }
    }

    /// The resource the request is matched as, if it is.
    pub async fn matched<'a>(&self, a: &Attributes<'a>) -> Result<Option<Matched<'a>>, ApiError> {
        if matched(a, &self.excluded, self.equivalent).is_some() {
            return Ok(None);
        }
        let resource = match self.rules.is_empty() {
            true => Some(Matched::Own(a.call.resource)),
            false => matched(a, &self.rules, self.equivalent),
        };
        let Some(resource) = resource else { return Ok(None) };
        Ok(self.selectors.select(a).await?.then_some(resource))
    }
}

/// What policies of both kinds have.
#[derive(Debug)]
pub struct Common {
    pub name: String,
    /// Whether failures refuse the request.
    pub fails: bool,
    pub param_kind: Option<ParamKind>,
    pub constraints: Constraints,
    version: String,
}

pub fn text(tree: &Value, field: &str) -> String {
    tree.str_at(&[field]).unwrap_or_default().to_owned()
}

impl Common {
    pub fn read(policy: &Value) -> Self {
        let empty = Value::default();
        let spec = policy.get("spec").unwrap_or(&empty);
        let param_kind = spec.get("paramKind").filter(|k| !k.is_null());
        Common {
            name: meta::name(policy).to_owned(),
            fails: spec.str_at(&["failurePolicy"]) != Some("Ignore"),
            param_kind: param_kind
                .map(|k| ParamKind { api_version: text(k, "apiVersion"), kind: text(k, "kind") }),
            constraints: Constraints::read(spec.get("matchConstraints").unwrap_or(&empty)),
            version: meta::resource_version(policy).to_owned(),
        }
    }

    /// Whether it was read from this version of the object.
    pub fn is_of(&self, policy: &Value) -> bool {
        !self.version.is_empty() && self.version == meta::resource_version(policy)
    }
}

/// Match conditions, compiled.
pub fn conditions(spec: &Value, params: bool) -> Vec<Expression> {
    let scope = Scope::new(params);
    items(spec, &["matchConditions"])
        .map(|c| Expression::stored(&text(c, "expression"), Wanted::Condition, &scope))
        .collect()
}

/// Variables, compiled, and the scope they make for the other expressions.
pub fn variables(spec: &Value, params: bool) -> (Vec<(String, Expression)>, Scope) {
    let mut scope = Scope::with_variables(params);
    let mut variables = Vec::new();
    for variable in items(spec, &["variables"]) {
        let name = text(variable, "name");
        let expression = Expression::stored(&text(variable, "expression"), Wanted::Variable, &scope);
        scope.declare(&name, &expression.program);
        variables.push((name, expression));
    }
    (variables, scope)
}

/// What becomes of a validation that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Deny,
    Warn,
    Audit,
}

impl Action {
    pub fn text(self) -> &'static str {
        match self {
            Action::Deny => "Deny",
            Action::Warn => "Warn",
            Action::Audit => "Audit",
        }
    }
}

/// How a binding names its parameters.
#[derive(Debug)]
pub struct ParamRef {
    pub name: String,
    pub namespace: String,
    pub selector: Option<Value>,
    /// Whether it is a failure that there are none.
    pub deny_if_none: bool,
}

/// A binding.
#[derive(Debug)]
pub struct Binding {
    pub name: String,
    pub policy: String,
    pub params: Option<ParamRef>,
    pub constraints: Option<Constraints>,
    pub actions: Vec<Action>,
}

impl Binding {
    pub fn read(binding: &Value) -> Self {
        let empty = Value::default();
        let spec = binding.get("spec").unwrap_or(&empty);
        let some = |field: &str| spec.get(field).filter(|v| !v.is_null());
        let params = some("paramRef").map(|p| ParamRef {
            name: text(p, "name"),
            namespace: text(p, "namespace"),
            selector: p.get("selector").filter(|s| !s.is_null()).cloned(),
            deny_if_none: p.str_at(&["parameterNotFoundAction"]) == Some("Deny"),
        });
        let action = |v: &Value| match v.as_str()? {
            "Deny" => Some(Action::Deny),
            "Warn" => Some(Action::Warn),
            "Audit" => Some(Action::Audit),
            _ => None,
        };
        Binding {
            name: meta::name(binding).to_owned(),
            policy: spec.str_at(&["policyName"]).unwrap_or_default().to_owned(),
            params,
            constraints: some("matchResources").map(Constraints::read),
            actions: items(spec, &["validationActions"]).filter_map(action).collect(),
        }
    }
}
