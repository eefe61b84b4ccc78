//! Admission policies and their bindings.
//! Upstream: `pkg/registry/admissionregistration/{validating,mutating}admissionpolicy{,binding}`; validation in
//! `api::validation::admission_policy`.
//!
//! [`authorize`] has who may let policies read parameters.

mod authorize;
mod binding;
mod validating;

use ::api::validation::admission_policy::{Compiler, Role};
use ::api::validation::field::Error as FieldError;
use machinery::Value;

use crate::admission::expressions::{Scope, Wanted};
use crate::errors::ApiError;
use crate::meta;
use crate::strategy::Call;

pub use binding::ValidatingBindings;
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
        let variables = policy.list_at(&["spec", "variables"]).is_some_and(|v| !v.is_empty());
        let scope = if variables { Scope::with_variables(params) } else { Scope::new(params) };
        Expressions { bare: Scope::new(params), scope }
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
            Role::ApplyConfiguration | Role::JsonPatch => {
                return Err("patches are not implemented by this server".to_owned());
            }
        };
        scope.compile(expression, wanted, stored).map(|_| ())
    }
}

/// 422 with one error.
fn refuse(call: &Call<'_>, object: &Value, error: FieldError) -> ApiError {
    let row = call.resource.row;
    ApiError::invalid_fields(row.kind.group, row.kind.kind, meta::name(object), &[error])
}
