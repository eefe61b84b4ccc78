//! Admission policies and their bindings.
//! Upstream: `pkg/registry/admissionregistration/{validating,mutating}admissionpolicy{,binding}`; validation in
//! `api::validation::admission_policy`.
//!
//! [`authorize`] has who may let policies read parameters.

mod authorize;
mod binding;
mod mutating;
mod validating;

use ::api::validation::admission_policy::{Compiler, Role};
use ::api::validation::field::Error as FieldError;
use machinery::Value;

use crate::admission::expressions::{Scope, Wanted};
use crate::errors::ApiError;
use crate::meta;
use crate::strategy::Call;

pub use authorize::Policies;
pub use binding::Bindings;
pub use mutating::MutatingPolicies;
pub use validating::ValidatingPolicies;

/// Compiles the expressions of a policy.
struct Expressions {
    /// What match conditions may name.
    bare: Scope,
    scope: Scope,
}

impl Expressions {
    /// Expressions that may name variables if there are any.
    fn new(policy: &Value) -> Self {
        let params = policy.map_at(&["spec", "paramKind"]).is_some();
        match policy.list_at(&["spec", "variables"]) {
            Some(variables) if !variables.is_empty() => Expressions::with_variables(policy),
            _ => Expressions { bare: Scope::new(params), scope: Scope::new(params) },
        }
    }

    /// Expressions that may name variables, even if there are none.
    fn with_variables(policy: &Value) -> Self {
        let params = policy.map_at(&["spec", "paramKind"]).is_some();
        Expressions { bare: Scope::new(params), scope: Scope::with_variables(params) }
    }
}

impl Compiler for Expressions {
    fn variable(&mut self, name: &str, expression: &str, stored: bool) -> Result<(), String> {
        let program = self.scope.compile(expression, Wanted::Variable, stored);
        self.scope.declare(name, &program);
        program.map(|_| ())
    }

    fn compile(&self, role: Role, expression: &str, stored: bool) -> Result<(), String> {
        let (scope, wanted) = match role {
            Role::Condition => (&self.bare, Wanted::Condition),
            Role::Validation => (&self.scope, Wanted::Condition),
            Role::Message => (&self.scope, Wanted::Message),
            Role::Annotation => (&self.scope, Wanted::Annotation),
            Role::ApplyConfiguration => (&self.scope, Wanted::ApplyConfiguration),
            Role::JsonPatch => (&self.scope, Wanted::JsonPatch),
        };
        scope.compile(expression, wanted, stored).map(|_| ())
    }
}

/// 422 with one error.
fn refuse(call: &Call<'_>, object: &Value, error: FieldError) -> ApiError {
    let row = call.resource.row;
    ApiError::invalid_fields(row.kind.group, row.kind.kind, meta::name(object), &[error])
}
