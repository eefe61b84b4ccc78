//! MutatingAdmissionPolicy: expressions that change objects.
//! Upstream: `plugin/policy/mutating/{plugin,dispatcher}.go`, `plugin/policy/generic/policy_dispatcher.go`.
//!
//! [`definition`] compiles the objects, [`patch`] applies one mutation. Each mutation sees what those before it made, of
//! whichever version its policy is (upstream loses the changes of policies of other versions than the last one's).

mod definition;
mod patch;

use std::sync::Arc;

use async_trait::async_trait;
use machinery::Value;

use super::super::matching::Matched;
use super::super::reinvocation::Who;
use super::super::webhook::hook;
use super::super::webhook::versioned::View;
use super::super::{Attributes, Operation, Plugin};
use super::common::Binding;
use super::{Bound, Misconfigured, invocations, is_exempt, namespace};
use crate::errors::{ApiError, Cause};
use crate::meta;
pub use definition::Definition;
use patch::Failed;

/// The plugin.
pub struct MutatingAdmissionPolicy;

#[async_trait]
impl Plugin for MutatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    fn handles(&self, operation: Operation) -> bool {
        // A deleted object is not stored again.
        operation != Operation::Delete
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), ApiError> {
        if is_exempt(a) {
            return Ok(());
        }
        let all = a.call.core.mutating_policies.ready(a).await?;
        let (calls, mut refusals) = find_calls(a, &all).await;
        if !calls.is_empty() {
            a.reinvocation.begin(Who::Policies, a.object.as_ref());
            let result = mutate(a, &calls).await;
            a.reinvocation.end(Who::Policies, a.object.as_ref());
            refusals.extend(result?);
        }
        refusals.retain(|r| r.fails);
        if refusals.is_empty() { Ok(()) } else { Err(status(a, refusals)) }
    }
}

/// A policy that applies by a binding, with one of its parameters.
struct Applied<'p, 'a> {
    definition: &'p Definition,
    binding: &'p Binding,
    resource: Arc<Matched<'a>>,
    param: Value,
}

impl Applied<'_, '_> {
    fn key(&self) -> String {
        let (policy, binding) = (&self.definition.common.name, &self.binding.name);
        let (namespace, name) = (meta::namespace(&self.param), meta::name(&self.param));
        format!("{policy}/{binding}/{namespace}/{name}")
    }

    fn refuses(&self, message: &str) -> Refusal {
        Refusal::new(self.definition, Some(self.binding), message, "Invalid")
    }
}

/// A policy that failed.
struct Refusal {
    message: String,
    reason: &'static str,
    /// Whether that refuses the request.
    fails: bool,
}

impl Refusal {
    fn new(definition: &Definition, binding: Option<&Binding>, why: &str, reason: &'static str) -> Self {
        let policy = &definition.common.name;
        let message = match binding {
            Some(b) => format!("policy '{policy}' with binding '{}' denied request: {why}", b.name),
            None => format!("policy {policy:?} denied request: {why}"),
        };
        Refusal { message, reason, fails: definition.common.fails }
    }
}

/// All refusals in one answer; the first is its message.
fn status(a: &Attributes<'_>, refusals: Vec<Refusal>) -> ApiError {
    let mut error = a.forbidden("admission request denied by policy");
    if let Some(first) = refusals.first() {
        error.message.clone_from(&first.message);
        error.reason = first.reason.into();
    }
    if let Some(details) = error.details.as_mut() {
        let cause = |r: Refusal| Cause { message: r.message, ..Cause::default() };
        details.causes.extend(refusals.into_iter().map(cause));
    }
    error
}

/// What is to be applied, in order, and the policies whose configuration is in the way.
async fn find_calls<'p, 'a>(
    a: &Attributes<'a>,
    all: &'p [Bound<Definition>],
) -> (Vec<Applied<'p, 'a>>, Vec<Refusal>) {
    let (mut calls, mut refusals) = (Vec::new(), Vec::new());
    for bound in all {
        let definition = &*bound.definition;
        let Some((resource, found)) = invocations(a, &definition.common, &bound.bindings).await else {
            continue;
        };
        let resource = Arc::new(resource);
        for invocation in found {
            match invocation {
                Ok(found) => calls.extend(found.params.into_iter().map(|param| Applied {
                    definition,
                    binding: found.binding,
                    resource: resource.clone(),
                    param,
                })),
                Err(Misconfigured { binding, message }) => {
                    refusals.push(Refusal::new(definition, binding, &message, "Forbidden"));
                }
            }
        }
    }
    (calls, refusals)
}

/// Applies the policies to `a.object`, one after the other.
async fn mutate(a: &mut Attributes<'_>, calls: &[Applied<'_, '_>]) -> Result<Vec<Refusal>, ApiError> {
    let namespace = namespace(a).await?;
    let mut refusals = Vec::new();
    let mut written = false;
    for call in calls {
        let mut values = hook::values(a, &call.resource)?;
        values.params = call.param.clone();
        match values.conditions(&call.definition.conditions) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(why) => {
                refusals.push(call.refuses(&why));
                continue;
            }
        }
        let key = call.key();
        if !a.reinvocation.calls(Who::Policies, &key) {
            continue;
        }
        values.namespace = namespace.clone();
        let before = a.object.clone();
        for mutation in &call.definition.mutations {
            let Some(object) = &a.object else { break };
            match patch::patch(a, &call.resource, object, call.definition, mutation, &values) {
                Ok(changed) => {
                    values.object = View::new(a, &call.resource).tree(&changed)?;
                    a.object = Some(changed);
                    written = true;
                }
                Err(Failed::Policy(why)) => refusals.push(call.refuses(&why)),
                Err(Failed::Status(error)) => return Err(error),
            }
        }
        let same = match (&before, &a.object) {
            (Some(before), Some(after)) => before.semantic_eq(after),
            _ => true,
        };
        a.reinvocation.called(Who::Policies, &key, !same, call.definition.reinvocable);
    }
    if written {
        // Upstream takes whatever was evaluated for a change.
        a.reinvocation.changed(Who::Policies);
    }
    Ok(refusals)
}
