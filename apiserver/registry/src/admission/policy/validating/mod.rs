//! ValidatingAdmissionPolicy: expressions that refuse, warn of or record writes.
//! Upstream: `plugin/policy/validating/{plugin,dispatcher}.go`.
//!
//! [`definition`] compiles the objects, [`evaluate`] comes to decisions, [`annotations`] is what audit events tell.

mod annotations;
mod definition;
mod evaluate;

use async_trait::async_trait;

use super::super::webhook::hook;
use super::super::{Attributes, Operation, Plugin};
use super::common::{Action, Binding};
use super::{Bound, Invocation, Misconfigured, invocations, is_exempt, namespace};
use crate::errors::{ApiError, Cause};
use annotations::{Annotations, Failures};
pub use definition::Definition;
use evaluate::{Decision, Outcome};

/// The plugin.
pub struct ValidatingAdmissionPolicy;

#[async_trait]
impl Plugin for ValidatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), ApiError> {
        if is_exempt(a) {
            return Ok(());
        }
        let all = a.call.core.validating_policies.ready(a).await?;
        let mut denied: Option<Denied> = None;
        let mut failures = Failures::default();
        for bound in all.iter() {
            let first = apply(a, bound, &mut failures).await?;
            denied = denied.or(first);
        }
        failures.publish(&a.call.request.audit);
        denied.map_or(Ok(()), |d| Err(d.status(a)))
    }
}

/// The first decision that refuses the request.
struct Denied {
    message: String,
    reason: &'static str,
}

impl Denied {
    fn of(bound: &Bound<Definition>, binding: Option<&Binding>, message: &str, reason: &'static str) -> Self {
        let policy = &bound.definition.common.name;
        let message = match binding {
            Some(b) => {
                format!(
                    "ValidatingAdmissionPolicy '{policy}' with binding '{}' denied request: {message}",
                    b.name
                )
            }
            None => format!("ValidatingAdmissionPolicy '{policy}' denied request: {message}"),
        };
        Denied { message, reason }
    }

    fn status(self, a: &Attributes<'_>) -> ApiError {
        let mut error = a.forbidden(&self.message);
        error.code = match self.reason {
            "Forbidden" => 403,
            "Unauthorized" => 401,
            "RequestEntityTooLarge" => 413,
            _ => 422,
        };
        error.reason = self.reason.into();
        if let Some(details) = error.details.as_mut() {
            details.causes.push(Cause { message: self.message, ..Cause::default() });
        }
        error
    }
}

/// Applies a policy by all its bindings; warns and annotates, and returns the first refusal.
async fn apply(
    a: &Attributes<'_>,
    bound: &Bound<Definition>,
    failures: &mut Failures,
) -> Result<Option<Denied>, ApiError> {
    let definition = &bound.definition;
    let Some((resource, invocations)) = invocations(a, &definition.common, &bound.bindings).await else {
        return Ok(None);
    };
    // What is misconfigured refuses, unless the policy says that failures are ignored.
    let misconfigured = |binding: Option<&Binding>, message: &str| {
        definition.common.fails.then(|| Denied::of(bound, binding, message, "Invalid"))
    };
    if invocations.is_empty() {
        return Ok(None);
    }
    // What expressions see, but for the parameters, is the same for all bindings.
    let mut values = hook::values(a, &resource);
    if let Ok(values) = &mut values {
        values.namespace = namespace(a).await?;
    }
    let mut denied = None;
    let mut annotations = Annotations::default();
    for invocation in invocations {
        let error = match (invocation, &mut values) {
            (Ok(Invocation { binding, params }), Ok(values)) => {
                for param in params {
                    values.params = param;
                    let mut outcome = evaluate::evaluate(definition, values);
                    for (key, value) in std::mem::take(&mut outcome.annotations) {
                        annotations.add(key, value);
                    }
                    let first = enforce(a, bound, binding, outcome, failures);
                    denied = denied.or(first);
                }
                continue;
            }
            (Ok(found), Err(error)) => {
                let why = format!("failed to convert object version: {}", error.message);
                Misconfigured::new(Some(found.binding), &why)
            }
            (Err(error), _) => error,
        };
        denied = denied.or_else(|| misconfigured(error.binding, &error.message));
    }
    annotations.publish(&definition.common.name, &a.call.request.audit);
    Ok(denied)
}

/// Does what the binding says about an outcome: warns, records, or answers with the first refusal.
fn enforce(
    a: &Attributes<'_>,
    bound: &Bound<Definition>,
    binding: &Binding,
    outcome: Outcome,
    failures: &mut Failures,
) -> Option<Denied> {
    let mut denied = None;
    for (index, decision) in outcome.decisions.into_iter().enumerate() {
        let Decision::Deny { message, reason } = decision else { continue };
        if binding.actions.contains(&Action::Warn) {
            a.call.warn(format!(
                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                bound.definition.common.name, binding.name
            ));
        }
        if binding.actions.contains(&Action::Audit) && a.call.request.audit.enabled() {
            failures.add(&bound.definition.common.name, binding, index, &message);
        }
        if binding.actions.contains(&Action::Deny) && denied.is_none() {
            denied = Some(Denied::of(bound, Some(binding), &message, reason));
        }
    }
    let mut errors = outcome.annotation_errors.iter();
    denied.or_else(|| errors.next().map(|why| Denied::of(bound, Some(binding), why, "Invalid")))
}
