//! Admission policies of both kinds and their bindings.
//! Upstream: `pkg/apis/admissionregistration/validation/validation.go`.
//!
//! What both kinds have is here; [`validating`] and [`mutating`] have what is their own, [`binding`] both kinds of
//! bindings. Expressions are compiled by the caller, who knows what they may name: see [`Compiler`].

pub mod binding;
pub mod mutating;
pub mod validating;

use std::collections::HashSet;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ParamKind, RuleWithOperations, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::admissionregistration::{static_name, static_warning, validate_match_conditions, validate_rule};
use super::field::{Error, Path};
use super::objectmeta::{name_is_subdomain, validate_label_selector, validate_object_meta};
use super::{content, items, supported, text};

/// What an expression is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Condition,
    Validation,
    Message,
    Annotation,
    ApplyConfiguration,
    JsonPatch,
}

/// Compiles the expressions of one policy. `stored` tells whether the expression was stored before; an error is what is
/// said of it.
pub trait Compiler {
    /// A variable, which later expressions may name.
    fn variable(&mut self, name: &str, expression: &str, stored: bool) -> Result<(), String>;

    /// Any other expression.
    fn compile(&self, role: Role, expression: &str, stored: bool) -> Result<(), String>;
}

fn validate_metadata(metadata: &ObjectMeta) -> Vec<Error> {
    validate_object_meta(metadata, false, name_is_subdomain, &Path::new("metadata"))
}

/// What is said of a name that new objects must not have: `WarningsForStaticSuffix`.
pub fn warnings(name: &str) -> Vec<String> {
    static_warning(name).into_iter().collect()
}

fn validate_failure_policy(policy: Option<&str>, path: &Path) -> Vec<Error> {
    let at = path.child("failurePolicy");
    match policy {
        None => vec![Error::required(&at, "")],
        Some(policy) => supported(policy, &["Fail", "Ignore"], &at).into_iter().collect(),
    }
}

fn validate_constraints(constraints: Option<&MatchResources>, path: &Path) -> Vec<Error> {
    let at = path.child("matchConstraints");
    let Some(constraints) = constraints else { return vec![Error::required(&at, "")] };
    let mut errors = validate_match_resources(constraints, &at);
    if items(&constraints.resource_rules).is_empty() {
        errors.push(Error::required(&at.child("resourceRules"), ""));
    }
    errors
}

/// Match conditions with what they may name, their policy's kind of parameters.
type Conditions<'a> = (&'a Option<ParamKind>, &'a Option<Vec<MatchCondition>>);

fn validate_conditions(
    (param_kind, conditions): Conditions<'_>,
    before: Option<Conditions<'_>>,
    compiler: &dyn Compiler,
    path: &Path,
) -> Vec<Error> {
    let same =
        |b: &Conditions<'_>| super::semantic_eq(b.0, param_kind) && super::semantic_eq(b.1, conditions);
    if before.as_ref().is_some_and(same) {
        return Vec::new();
    }
    let known = before.map(|b| items(b.1)).unwrap_or_default();
    let stored: Vec<&str> = known.iter().map(|c| c.expression.as_str()).collect();
    let compile = |expression: &str, stored: bool| compiler.compile(Role::Condition, expression, stored);
    validate_match_conditions(items(conditions), &stored, &compile, &path.child("matchConditions"))
}

fn validate_param_kind(kind: &ParamKind, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (version, name) = (text(&kind.api_version), text(&kind.kind));
    let at = path.child("apiVersion");
    let joined = |value: &str, texts: Vec<String>, at: &Path| {
        (!texts.is_empty()).then(|| Error::invalid(at, value, texts.join(",")))
    };
    match version.split('/').collect::<Vec<_>>().as_slice() {
        [""] => errors.push(Error::required(&at, "")),
        [single] => errors.extend(joined(single, content::dns1035_label(single), &at)),
        [group, short] => {
            if !group.is_empty() {
                errors.extend(joined(group, content::dns_subdomain(group), &at));
            }
            if short.is_empty() {
                errors.push(Error::invalid(&at, version, "version must be specified"));
            } else {
                errors.extend(joined(short, content::dns1035_label(short), &at));
            }
        }
        _ => {
            let detail = format!("unexpected GroupVersion string: {version}");
            errors.push(Error::invalid(&at, version, detail));
        }
    }
    let at = path.child("kind");
    if name.is_empty() {
        errors.push(Error::required(&at, ""));
    } else {
        let texts = content::dns1035_label(&name.to_lowercase());
        if !texts.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", texts.join(","));
            errors.push(Error::invalid(&at, name, detail));
        }
    }
    errors
}

fn validate_match_resources(resources: &MatchResources, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    match resources.match_policy.as_deref() {
        None => errors.push(Error::required(&path.child("matchPolicy"), "")),
        Some(policy) => {
            errors.extend(supported(policy, &["Equivalent", "Exact"], &path.child("matchPolicy")));
        }
    }
    for (selector, field) in
        [(&resources.namespace_selector, "namespaceSelector"), (&resources.object_selector, "objectSelector")]
    {
        let at = path.child(field);
        match selector {
            None => errors.push(Error::required(&at, "")),
            Some(selector) => errors.extend(validate_label_selector(Some(selector), &at)),
        }
    }
    for (rules, field) in [
        (&resources.resource_rules, "resourceRules"),
        (&resources.exclude_resource_rules, "excludeResourceRules"),
    ] {
        let at = path.child(field);
        for (i, rule) in items(rules).iter().enumerate() {
            errors.extend(validate_named_rule(rule, &at.index(i)));
        }
    }
    errors
}

fn validate_named_rule(rule: &NamedRuleWithOperations, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    let at = path.child("resourceNames");
    for (i, name) in items(&rule.resource_names).iter().enumerate() {
        let refusals = content::path_segment(name, false);
        errors.extend(refusals.into_iter().map(|m| Error::invalid(&at.index(i), name, m)));
        if !seen.insert(name) {
            errors.push(Error::duplicate(&at.index(i), name));
        }
    }
    let plain = RuleWithOperations {
        api_groups: rule.api_groups.clone(),
        api_versions: rule.api_versions.clone(),
        operations: rule.operations.clone(),
        resources: rule.resources.clone(),
        scope: rule.scope.clone(),
    };
    errors.extend(validate_rule(&plain, path));
    errors
}

fn is_identifier(name: &str) -> bool {
    const RESERVED: [&str; 21] = [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    ];
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !RESERVED.contains(&name)
}

fn validate_variable(
    variable: &Variable,
    stored: bool,
    compiler: &mut dyn Compiler,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    let (name, expression) = (variable.name.as_str(), variable.expression.as_str());
    let at = path.child("name");
    if name.trim().is_empty() {
        errors.push(Error::required(&at, "name is not specified"));
    } else if !is_identifier(name) {
        errors.push(Error::invalid(&at, name, "must be a valid CEL identifier"));
    }
    let at = path.child("expression");
    if expression.trim().is_empty() {
        errors.push(Error::required(&at, "expression is not specified"));
    } else if let Err(why) = compiler.variable(name, expression, stored) {
        errors.push(Error::invalid(&at, expression, why));
    }
    errors
}
