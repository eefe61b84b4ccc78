//! What a policy's status is to say. Pure.

use cel::DeclType;
use cel::admission::TypeChecker;
use k8s_openapi::api::admissionregistration::v1::{
    ExpressionWarning, TypeChecking, ValidatingAdmissionPolicy as Policy,
    ValidatingAdmissionPolicyStatus as Status,
};

use super::Types;
use super::kinds::{Kind, param_kind};

/// What the controller sees.
pub struct View<'a> {
    pub policy: &'a Policy,
    /// The kinds it is about.
    pub kinds: &'a [Kind],
    /// What is known of them, and of its parameters.
    pub types: &'a Types,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Plan {
    /// This generation was checked.
    Nothing,
    /// Write the status.
    Tell(Status),
}

/// Whether this generation of the policy was checked.
pub fn is_observed(policy: &Policy) -> bool {
    let observed = policy.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
    policy.metadata.generation.unwrap_or(0) <= observed
}

/// Decides about a policy.
pub fn plan(view: &View<'_>) -> Plan {
    if is_observed(view.policy) {
        return Plan::Nothing;
    }
    Plan::Tell(Status {
        observed_generation: view.policy.metadata.generation,
        type_checking: Some(TypeChecking { expression_warnings: Some(warnings(view)) }),
        ..Status::default()
    })
}

/// Names types so that no two are one.
fn named(t: Option<&DeclType>, kind: &Kind, place: usize) -> Option<DeclType> {
    t.map(|t| t.clone().named(&format!("{}{place}", kind.kind)))
}

fn warnings(view: &View<'_>) -> Vec<ExpressionWarning> {
    let Some(spec) = &view.policy.spec else { return Vec::new() };
    let typed = view
        .kinds
        .iter()
        .enumerate()
        .filter_map(|(i, kind)| Some((kind.to_string(), named(view.types.get(kind)?.as_ref(), kind, i))));
    let kinds: Vec<(String, Option<DeclType>)> = typed.collect();
    let params = param_kind(view.policy).map(|kind| {
        let known = view.types.get(&kind).and_then(Option::as_ref);
        named(known, &kind, view.kinds.len())
    });
    let variables: Vec<(&str, &str)> =
        spec.variables.iter().flatten().map(|v| (v.name.as_str(), v.expression.as_str())).collect();
    let checker = TypeChecker::new(&kinds, params.as_ref().map(Option::as_ref), &variables);
    let mut warnings = Vec::new();
    for (i, validation) in spec.validations.iter().flatten().enumerate() {
        let message = validation.message_expression.as_deref().filter(|m| !m.is_empty());
        for (field, text) in
            [("expression", Some(validation.expression.as_str())), ("messageExpression", message)]
        {
            if let Some(warning) = text.and_then(|text| checker.warning(text)) {
                warnings
                    .push(ExpressionWarning { field_ref: format!("spec.validations[{i}].{field}"), warning });
            }
        }
    }
    warnings
}
