//! Compiled expressions.

use crate::ast::{Expr, Kind, ops};
use crate::check::Checked;
use crate::cost::estimate::{Sizes, estimate};
use crate::cost::range::Range;
use crate::eval::plan::Plan;
use crate::eval::{Activation, Budget, EvalError, Frame};
use crate::types::Type;
use crate::val::Val;
use std::fmt;
use std::sync::Arc;

/// An expression ready to evaluate. Cheap to clone and shared between threads.
#[derive(Clone)]
pub struct Program(Arc<Inner>);

struct Inner {
    plan: Plan,
    root: Expr,
    checked: Checked,
    output: Type,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({})", self.0.output)
    }
}

impl Program {
    pub(crate) fn new(plan: Plan, root: Expr, checked: Checked, output: Type) -> Self {
        Program(Arc::new(Inner { plan, root, checked, output }))
    }

    /// The type its values have.
    pub fn output_type(&self) -> &Type {
        &self.0.output
    }

    /// Evaluates. The value borrows from the program and from what the activation borrows.
    pub fn eval<'a>(
        &'a self,
        activation: &Activation<'a>,
        budget: &Budget<'_>,
    ) -> Result<Val<'a>, EvalError> {
        self.eval_with_cost(activation, budget).0
    }

    /// Evaluates, and tells what it cost, whether it came to a value or not.
    pub fn eval_with_cost<'a>(
        &'a self,
        activation: &Activation<'a>,
        budget: &Budget<'_>,
    ) -> (Result<Val<'a>, EvalError>, u64) {
        let plan = &self.0.plan;
        let mut frame = Frame::new(&plan.variables, plan.locals, activation, budget);
        let result = frame.eval(&plan.root);
        (result, frame.cost())
    }

    /// The least and the most an evaluation costs, given how large variables get.
    pub fn cost_estimate(&self, sizes: &dyn Sizes) -> Range {
        estimate(&self.0.root, &self.0.checked, sizes)
    }

    /// Whether the source mentions an identifier, be it a variable or a name a macro gives.
    pub fn mentions(&self, name: &str) -> bool {
        fn within(e: &Expr, name: &str) -> bool {
            let own = e.as_ident().is_some_and(|i| i.trim_start_matches('.') == name);
            own || e.children().into_iter().any(|c| within(c, name))
        }
        within(&self.0.root, name)
    }

    /// Whether the source selects a field of a variable, be it `variable.field` or `variable.?field`.
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        fn within(e: &Expr, variable: &str, field: &str) -> bool {
            let is_variable = |e: &Expr| e.as_ident().is_some_and(|i| i.as_str() == variable);
            let own = match &e.kind {
                Kind::Select { operand, field: selected, .. } => {
                    is_variable(operand) && selected.as_str() == field
                }
                Kind::Call { target: None, function, args } if function.as_str() == ops::OPT_SELECT => {
                    args.first().is_some_and(is_variable)
                        && args.get(1).and_then(Expr::as_str_literal).is_some_and(|f| **f == *field)
                }
                _ => false,
            };
            own || e.children().into_iter().any(|c| within(c, variable, field))
        }
        within(&self.0.root, variable, field)
    }

    /// The names of the variables it reads.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.plan.variables.iter().map(|n| n.as_str())
    }
}
