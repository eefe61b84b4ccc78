//! Validating admission policies.

use std::collections::HashSet;

use k8s_openapi::api::admissionregistration::v1::{AuditAnnotation, ValidatingAdmissionPolicy, Validation};

use super::super::field::{Bad, Error, Path};
use super::super::objectmeta;
use super::super::{content, items, supported, text};
use super::{
    Compiler, Role, static_name, validate_conditions, validate_constraints, validate_failure_policy,
    validate_metadata, validate_param_kind, validate_variable,
};

const MAX_ANNOTATIONS: usize = 20;
const MAX_ANNOTATION_EXPRESSION: usize = 5 * 1024;

/// `ValidateValidatingAdmissionPolicy` and, with `old`, its update.
pub fn validate(
    new: &ValidatingAdmissionPolicy,
    old: Option<&ValidatingAdmissionPolicy>,
    compiler: &mut dyn Compiler,
) -> Vec<Error> {
    let mut errors = validate_metadata(&new.metadata);
    errors.extend(validate_spec(new, old, compiler));
    if old.is_none() {
        errors.extend(static_name(text(&new.metadata.name)));
    }
    errors
}

fn validate_spec(
    new: &ValidatingAdmissionPolicy,
    old: Option<&ValidatingAdmissionPolicy>,
    compiler: &mut dyn Compiler,
) -> Vec<Error> {
    let path = Path::new("spec");
    let none = Default::default();
    let spec = new.spec.as_ref().unwrap_or(&none);
    let before = old.and_then(|o| o.spec.as_ref());
    let mut errors = Vec::new();
    errors.extend(validate_failure_policy(spec.failure_policy.as_deref(), &path));
    if let Some(kind) = &spec.param_kind {
        errors.extend(validate_param_kind(kind, &path.child("paramKind")));
    }
    errors.extend(validate_constraints(spec.match_constraints.as_ref(), &path));
    errors.extend(validate_conditions(
        (&spec.param_kind, &spec.match_conditions),
        before.map(|b| (&b.param_kind, &b.match_conditions)),
        compiler,
        &path,
    ));
    let known = |pick: fn(&Validation) -> Option<&str>| -> HashSet<&str> {
        before.map(|b| items(&b.validations)).unwrap_or_default().iter().filter_map(pick).collect()
    };
    let expressions = known(|v| Some(&v.expression));
    let messages = known(|v| v.message_expression.as_deref());
    let at = path.child("variables");
    for (i, variable) in items(&spec.variables).iter().enumerate() {
        let stored = expressions.contains(variable.expression.as_str());
        errors.extend(validate_variable(variable, stored, compiler, &at.index(i)));
    }
    let (validations, annotations) = (items(&spec.validations), items(&spec.audit_annotations));
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        errors.push(Error::required(&path.child("validations"), detail));
        errors.push(Error::required(&path.child("auditAnnotations"), detail));
        return errors;
    }
    let at = path.child("validations");
    for (i, validation) in validations.iter().enumerate() {
        let stored = (
            expressions.contains(validation.expression.as_str()),
            validation.message_expression.as_deref().is_some_and(|m| messages.contains(m)),
        );
        errors.extend(validate_validation(validation, stored, compiler, &at.index(i)));
    }
    errors.extend(validate_annotations(
        text(&new.metadata.name),
        annotations,
        before.map(|b| items(&b.audit_annotations)).unwrap_or_default(),
        compiler,
        &path.child("auditAnnotations"),
    ));
    errors
}

fn validate_validation(
    validation: &Validation,
    stored: (bool, bool),
    compiler: &dyn Compiler,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    let at = path.child("expression");
    let expression = validation.expression.as_str();
    if expression.trim().is_empty() {
        errors.push(Error::required(&at, "expression is not specified"));
    } else if let Err(why) = compiler.compile(Role::Validation, expression, stored.0) {
        errors.push(Error::invalid(&at, expression, why));
    }
    let at = path.child("messageExpression");
    let message = text(&validation.message_expression);
    if !message.is_empty() && message.trim().is_empty() {
        errors.push(Error::invalid(&at, message, "must be non-empty if specified"));
    } else if !message.is_empty()
        && let Err(why) = compiler.compile(Role::Message, message, stored.1)
    {
        errors.push(Error::invalid(&at, message, why));
    }
    let at = path.child("message");
    let message = text(&validation.message);
    if !message.is_empty() && message.trim().is_empty() {
        errors.push(Error::invalid(&at, message, "must be non-empty if specified"));
    } else if message.trim().contains(['\n', '\r']) {
        errors.push(Error::invalid(&at, message, "must not contain line breaks"));
    }
    if let Some(reason) = &validation.reason {
        let known = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
        errors.extend(supported(reason, &known, &path.child("reason")));
    }
    errors
}

fn validate_annotations(
    policy: &str,
    annotations: &[AuditAnnotation],
    before: &[AuditAnnotation],
    compiler: &dyn Compiler,
    path: &Path,
) -> Vec<Error> {
    let mut errors = Vec::new();
    if annotations.len() > MAX_ANNOTATIONS {
        let detail = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.push(Error::invalid(path, Bad::json(&annotations), detail));
    }
    let mut keys = HashSet::new();
    for (i, annotation) in annotations.iter().enumerate() {
        let at = path.index(i);
        let field = at.child("key");
        if policy.is_empty() {
            errors.push(Error::invalid(&field, &annotation.key, "requires metadata.name be non-empty"));
        } else {
            let full = format!("{policy}/{}", annotation.key);
            let refusals = content::qualified_name(&full);
            errors.extend(refusals.into_iter().map(|m| Error::invalid(&field, &full, m)));
        }
        let value = at.child("valueExpression");
        let expression = annotation.value_expression.trim();
        let stored = before.iter().any(|b| b.value_expression == annotation.value_expression);
        if expression.is_empty() {
            errors.push(Error::required(&value, "valueExpression is not specified"));
        } else if expression.len() > MAX_ANNOTATION_EXPRESSION {
            let detail = format!("must not exceed {MAX_ANNOTATION_EXPRESSION} bytes in length");
            errors.push(Error::required(&value, detail));
        } else if let Err(why) = compiler.compile(Role::Annotation, expression, stored) {
            errors.push(Error::invalid(&value, &annotation.value_expression, why));
        }
        if !keys.insert(&annotation.key) {
            errors.push(Error::duplicate(&field, &annotation.key));
        }
    }
    errors
}

/// `ValidateValidatingAdmissionPolicyStatusUpdate`. `readable` tells whether a text is a JSON path.
pub fn validate_status(new: &ValidatingAdmissionPolicy, readable: &dyn Fn(&str) -> bool) -> Vec<Error> {
    let path = Path::new("status");
    let Some(status) = &new.status else { return Vec::new() };
    let mut errors = Vec::new();
    let warnings = status.type_checking.as_ref().map(|c| items(&c.expression_warnings)).unwrap_or_default();
    let checking = path.child("typeChecking");
    let at = checking.child("expressionWarnings");
    for (i, warning) in warnings.iter().enumerate() {
        let at = at.index(i);
        if warning.warning.is_empty() {
            errors.push(Error::required(&at.child("warning"), ""));
        }
        let at = at.child("fieldRef");
        match warning.field_ref.trim() {
            "" => errors.push(Error::required(&at, "")),
            field if !readable(field) => errors.push(Error::invalid(&at, field, "invalid JSONPath")),
            _ => {}
        }
    }
    errors.extend(objectmeta::validate_conditions(items(&status.conditions), &path.child("conditions")));
    errors
}
