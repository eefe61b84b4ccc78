//! Validating policies, read and compiled.

use machinery::Value;

use super::super::common::{self, Common, items, text};
use crate::admission::expressions::{Expression, Wanted};

/// One validation.
#[derive(Debug)]
pub struct Validation {
    pub expression: Expression,
    pub message: String,
    pub message_expression: Option<Expression>,
    pub reason: &'static str,
}

/// A policy.
#[derive(Debug)]
pub struct Definition {
    pub common: Common,
    pub conditions: Vec<Expression>,
    pub variables: Vec<(String, Expression)>,
    pub validations: Vec<Validation>,
    /// Keys and values.
    pub annotations: Vec<(String, Expression)>,
}

/// The reasons a validation may give.
fn reason_of(tree: &Value) -> &'static str {
    match tree.str_at(&["reason"]) {
        Some("Forbidden") => "Forbidden",
        Some("Unauthorized") => "Unauthorized",
        Some("RequestEntityTooLarge") => "RequestEntityTooLarge",
        _ => "Invalid",
    }
}

impl super::super::Definition for Definition {
    fn read(policy: &Value) -> Self {
        let common = Common::read(policy);
        let empty = Value::default();
        let spec = policy.get("spec").unwrap_or(&empty);
        let params = common.param_kind.is_some();
        let (variables, scope) = common::variables(spec, params);
        let validations = items(spec, &["validations"]).map(|v| {
            let message = text(v, "messageExpression");
            Validation {
                expression: Expression::stored(&text(v, "expression"), Wanted::Condition, &scope),
                message: text(v, "message"),
                message_expression: (!message.is_empty())
                    .then(|| Expression::stored(&message, Wanted::Message, &scope)),
                reason: reason_of(v),
            }
        });
        Definition {
            conditions: common::conditions(spec, params),
            validations: validations.collect(),
            annotations: items(spec, &["auditAnnotations"])
                .map(|n| {
                    let value = Expression::stored(&text(n, "valueExpression"), Wanted::Annotation, &scope);
                    (text(n, "key"), value)
                })
                .collect(),
            variables,
            common,
        }
    }

    fn common(&self) -> &Common {
        &self.common
    }
}
