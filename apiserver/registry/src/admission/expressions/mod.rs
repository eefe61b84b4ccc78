//! CEL expressions in admission: what they may name, how they are compiled, and the values of a request.
//! Upstream: `k8s.io/apiserver/pkg/admission/plugin/cel/{compile,condition,activation,composition}.go`.
//!
//! A [`Scope`] compiles; an [`Expression`] is one that was; [`Values`] are what it sees of a request, [`Variables`] what
//! other expressions of the same policy define.

mod asker;
mod values;

use std::sync::OnceLock;

use cel::{Activation, Budget, DeclType, Env, Program, Type, Val, Version, admission, authz};

pub use asker::Asker;
pub use values::{Values, Variables};

/// The minor version that new expressions are compiled for: that of the server before, so that it can be gone back to.
const COMPATIBLE: u32 = 36;
/// What all expressions of one kind in one policy may cost together (`RuntimeCELCostBudget`).
pub const BUDGET: u64 = 10_000_000;
/// What all match conditions of one webhook or policy may cost together (`RuntimeCELCostBudgetMatchConditions`).
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;
pub const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

fn build(version: Version, scope: &Scope, wanted: Wanted) -> Env {
    let mut env = Env::builder(version)
        .variable("object", Type::Dyn)
        .variable("oldObject", Type::Dyn)
        .declare("namespaceObject", &admission::namespace_type())
        .declare("request", &admission::request_type());
    if scope.params {
        env = env.variable("params", Type::Dyn);
    }
    if wanted != Wanted::Message {
        env = env
            .variable("authorizer", authz::authorizer_type())
            .variable("authorizer.requestResource", authz::resource_check_type());
    }
    if let Some(variables) = &scope.variables {
        env = env.declare("variables", &admission::object("kubernetes.variables", variables));
    }
    if wanted.patches() {
        env = env.patch_types();
    }
    env.build()
}

/// What an expression must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A boolean.
    Condition,
    /// Text.
    Message,
    /// Text or nothing.
    Annotation,
    /// Anything.
    Variable,
    /// A partial object.
    ApplyConfiguration,
    /// Operations.
    JsonPatch,
}

impl Wanted {
    fn check(self, output: &Type) -> Result<(), String> {
        let is = |t: &Type| t == output;
        match self {
            Wanted::Condition if !is(&Type::Bool) => Err(format!("must evaluate to bool but got {output}")),
            Wanted::Message if !is(&Type::String) => Err(format!("must evaluate to string but got {output}")),
            Wanted::Annotation if !is(&Type::String) && !is(&Type::Null) => {
                Err(format!("must evaluate to one of [string null_type] but got {output}"))
            }
            Wanted::ApplyConfiguration if !is(&Type::object(cel::OBJECT)) => {
                Err(format!("must evaluate to Object but got {output}"))
            }
            Wanted::JsonPatch if !is(&Type::list(Type::object(cel::JSON_PATCH))) => {
                Err(format!("must evaluate to list(JSONPatch) but got {output}"))
            }
            _ => Ok(()),
        }
    }

    fn patches(self) -> bool {
        matches!(self, Wanted::ApplyConfiguration | Wanted::JsonPatch)
    }
}

/// What expressions may name beside the request: parameters, and variables that were declared before.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    params: bool,
    /// None where `variables` itself is not known.
    variables: Option<Vec<(String, DeclType)>>,
}

impl Scope {
    /// A scope without variables.
    pub fn new(params: bool) -> Self {
        Scope { params, variables: None }
    }

    /// A scope whose expressions may define variables.
    pub fn with_variables(params: bool) -> Self {
        Scope { params, variables: Some(Vec::new()) }
    }

    /// Declares a variable of what an expression comes to; of anything, where it does not compile.
    pub fn declare(&mut self, name: &str, program: &Result<Program, String>) {
        let output = program.as_ref().map_or(&Type::Dyn, Program::output_type);
        self.variables.get_or_insert_default().push((name.to_owned(), admission::variable_type(output)));
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// What a field error says of the expression.
    pub fn compile(&self, expression: &str, wanted: Wanted, stored: bool) -> Result<Program, String> {
        let plain =
            !self.params && self.variables.is_none() && wanted != Wanted::Message && !wanted.patches();
        let made;
        let env = if plain {
            environment(stored)
        } else {
            let version = if stored { Version::Stored } else { Version::Minor(COMPATIBLE) };
            made = build(version, self, wanted);
            &made
        };
        let program = env.compile(expression, None).map_err(|e| e.to_string())?;
        wanted.check(program.output_type())?;
        Ok(program)
    }
}

/// The environment of stored or of new expressions without parameters and variables.
fn environment(stored: bool) -> &'static Env {
    static STORED: OnceLock<Env> = OnceLock::new();
    static NEW: OnceLock<Env> = OnceLock::new();
    match stored {
        true => STORED.get_or_init(|| build(Version::Stored, &Scope::default(), Wanted::Condition)),
        false => NEW.get_or_init(|| build(Version::Minor(COMPATIBLE), &Scope::default(), Wanted::Condition)),
    }
}

/// An expression, compiled when it was read.
#[derive(Debug)]
pub struct Expression {
    /// Its text.
    pub text: String,
    /// The program, or why there is none.
    pub program: Result<Program, String>,
}

impl Expression {
    /// Compiles a stored expression; what does not compile is an error of each evaluation.
    pub fn stored(text: &str, wanted: Wanted, scope: &Scope) -> Self {
        Expression { text: text.to_owned(), program: scope.compile(text, wanted, true) }
    }

    /// Evaluates and takes the cost from `left`, that of variables read for the first time included; the outer error is
    /// that it was not enough.
    pub fn evaluate<'a>(
        &'a self,
        activation: &Activation<'a>,
        variables: &Variables<'_>,
        left: &mut u64,
    ) -> Result<Result<Val<'a>, String>, String> {
        let program = match &self.program {
            Ok(program) => program,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        let (result, cost) = program.eval_with_cost(activation, &Budget::cost(Budget::PER_CALL));
        let cost = cost.saturating_add(variables.take_cost());
        *left = left.checked_sub(cost).ok_or(OUT_OF_BUDGET)?;
        Ok(result.map_err(|why| format!("expression '{}' resulted in error: {why}", self.text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiles() {
        let scope = Scope::new(false);
        let compile = |text: &str| scope.compile(text, Wanted::Condition, false);
        assert!(compile("object.metadata.name == 'a' && request.operation != 'DELETE'").is_ok());
        assert!(compile("authorizer.requestResource.check('get').allowed()").is_ok());
        assert_eq!(compile("1").unwrap_err(), "must evaluate to bool but got int");
        assert!(compile("object.").unwrap_err().starts_with("compilation failed: ERROR: <input>:1:8:"));
        assert!(compile("params.a").is_err());
    }

    #[test]
    fn variables_have_types() {
        let mut scope = Scope::with_variables(true);
        let mut declare = |name: &str, expression: &str| {
            let program = scope.compile(expression, Wanted::Variable, false);
            scope.declare(name, &program);
        };
        declare("n", "params.n + 1");
        declare("t", "'a'");
        declare("broken", "'a' + 1");
        declare("request", "request");
        let compile = |text: &str| scope.compile(text, Wanted::Condition, false);
        assert!(compile("variables.n == 2").is_ok());
        assert!(compile("variables.t + 1 == 2").is_err());
        assert!(compile("variables.broken + 1 == 2 || variables.request.nothing").is_ok());
        assert!(compile("variables.x").is_err());
        assert!(scope.compile("authorizer", Wanted::Message, false).is_err());
    }
}
