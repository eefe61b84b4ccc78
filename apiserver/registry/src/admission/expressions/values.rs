//! What expressions see of a request.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use cel::authz::{self, ResourceQuery};
use cel::{Activation, Budget, EvalError, Lazy, Map, Res, Val};
use machinery::Value;

use super::{Expression, MATCH_CONDITIONS_BUDGET};

/// How many variables deep the evaluation of one may go: each level is one on the stack.
const MAX_DEPTH: usize = 64;

/// The values that expressions about one request see.
pub struct Values {
    /// The new object in the version of the webhook or policy, or null.
    pub object: Value,
    /// The stored one, or null.
    pub old: Value,
    /// `request`, as an AdmissionRequest without uid and objects.
    pub request: Value,
    /// The same as match conditions see it, where that differs: they see the request's own resource, while the others see
    /// the one that was matched (`matchconditions/matcher.go`).
    pub condition_request: Option<Value>,
    /// The namespace, or null. Match conditions see none.
    pub namespace: Value,
    /// The parameters, or null.
    pub params: Value,
    /// What `authorizer` asks.
    pub asker: Arc<dyn authz::Authorizer>,
    /// What `authorizer.requestResource` asks about.
    pub resource: ResourceQuery,
}

static NULL: Value = Value::Null;

impl Values {
    fn base(&self) -> Activation<'_> {
        Activation::new()
            .bind_tree("object", &self.object)
            .bind_tree("oldObject", &self.old)
            .bind_tree("params", &self.params)
    }

    fn with_authorizer<'a>(&self, activation: Activation<'a>) -> Activation<'a> {
        activation.bind("authorizer", Ok(authz::authorizer(self.asker.clone()))).bind(
            "authorizer.requestResource",
            Ok(authz::request_resource(self.asker.clone(), self.resource.clone())),
        )
    }

    /// The values of all names but `variables`, and without the authorizer if it is not to be asked.
    pub fn activation(&self, authorizer: bool) -> Activation<'_> {
        let base =
            self.base().bind_tree("request", &self.request).bind_tree("namespaceObject", &self.namespace);
        if authorizer { self.with_authorizer(base) } else { base }
    }

    /// Whether all conditions hold. One that does not decides, whatever becomes of the others.
    ///
    /// # Errors
    /// That the budget is exceeded, or the errors of conditions where none fails to hold.
    pub fn conditions(&self, conditions: &[Expression]) -> Result<bool, String> {
        let request = self.condition_request.as_ref().unwrap_or(&self.request);
        let base = self.base().bind_tree("request", request).bind_tree("namespaceObject", &NULL);
        let activation = self.with_authorizer(base);
        let mut left = MATCH_CONDITIONS_BUDGET;
        let mut results = Vec::with_capacity(conditions.len());
        let none = Variables::new(&[]);
        for condition in conditions {
            results.push(condition.evaluate(&activation, &none, &mut left)?);
        }
        if results.iter().any(|r| matches!(r, Ok(Val::Bool(false)))) {
            return Ok(false);
        }
        let errors: Vec<String> = results.into_iter().filter_map(Result::err).collect();
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            all => Err(format!("[{}]", all.join(", "))),
        }
    }
}

/// The variables of a policy; each is evaluated when it is first read (upstream's `pkg/cel/lazy`).
pub struct Variables<'p> {
    defined: &'p [(String, Expression)],
    values: Vec<OnceLock<Res<'p>>>,
    /// What evaluations cost since the last time somebody asked.
    cost: AtomicU64,
    depth: AtomicUsize,
    /// The variables again, and what their expressions see.
    tied: OnceLock<(&'p Variables<'p>, Activation<'p>)>,
}

impl<'p> Variables<'p> {
    /// Variables nobody read yet.
    pub fn new(defined: &'p [(String, Expression)]) -> Self {
        Variables {
            defined,
            values: defined.iter().map(|_| OnceLock::new()).collect(),
            cost: AtomicU64::new(0),
            depth: AtomicUsize::new(0),
            tied: OnceLock::new(),
        }
    }

    /// The other values together with the variables, whose expressions see both.
    pub fn tie(&'p self, base: Activation<'p>) -> Activation<'p> {
        let all = base.bind("variables", Ok(Val::Map(Map::lazy(self))));
        self.tied.get_or_init(|| (self, all)).1.clone()
    }

    /// What evaluations cost since this was last asked.
    pub fn take_cost(&self) -> u64 {
        self.cost.swap(0, Ordering::Relaxed)
    }

    fn value(&'p self, i: usize, activation: &Activation<'p>) -> Res<'p> {
        if let Some(value) = self.values[i].get() {
            return value.clone();
        }
        let (name, expression) = &self.defined[i];
        let program = expression
            .program
            .as_ref()
            .map_err(|why| EvalError::new(format!("composited variable {name:?} fails to compile: {why}")))?;
        let failed =
            |why: String| EvalError::new(format!("composited variable {name:?} fails to evaluate: {why}"));
        let depth = self.depth.fetch_add(1, Ordering::Relaxed);
        let result = if depth < MAX_DEPTH {
            let (result, cost) = program.eval_with_cost(activation, &Budget::cost(Budget::PER_CALL));
            self.cost.fetch_add(cost, Ordering::Relaxed);
            result.map_err(|why| failed(why.to_string()))
        } else {
            Err(failed(format!("more than {MAX_DEPTH} variables depend on one another")))
        };
        self.depth.fetch_sub(1, Ordering::Relaxed);
        // An expression cannot name its own variable, but a later one of the same name.
        let _ = self.values[i].set(result.clone());
        result
    }
}

impl Lazy for Variables<'_> {
    fn get<'a>(&'a self, key: &str) -> Option<Res<'a>> {
        let i = self.defined.iter().rposition(|(name, _)| name == key)?;
        let (own, activation) = self.tied.get()?;
        Some(own.value(i, activation))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Scope, Wanted};
    use super::*;

    fn defined(texts: &[(&str, &str)]) -> Vec<(String, Expression)> {
        let mut scope = Scope::with_variables(false);
        let define = |(name, text): &(&str, &str)| {
            let expression = Expression::stored(text, Wanted::Variable, &scope);
            scope.declare(name, &expression.program);
            (name.to_string(), expression)
        };
        texts.iter().map(define).collect()
    }

    /// What a read of a variable comes to, and what evaluating cost.
    fn read(texts: &[(&str, &str)], name: &str) -> (Option<Result<String, String>>, u64) {
        let object = Value::from(serde_json::json!({"n": 7}));
        let defined = defined(texts);
        let variables = Variables::new(&defined);
        variables.tie(Activation::new().bind_tree("object", &object));
        let value = variables.get(name).map(|r| match r {
            Ok(Val::Int(i)) => Ok(i.to_string()),
            Ok(other) => Ok(format!("{other:?}")),
            Err(why) => Err(why.to_string()),
        });
        (value, variables.take_cost())
    }

    #[test]
    fn only_what_is_read_is_evaluated() {
        let texts = [("n", "object.n"), ("twice", "variables.n + variables.n"), ("bad", "object.x")];
        assert_eq!(read(&texts, "twice").0, Some(Ok("14".into())));
        let (n, twice) = (read(&texts, "n").1, read(&texts, "twice").1);
        assert!(0 < n && n < twice && twice < 10, "{n} {twice}");
        let why = "composited variable \"bad\" fails to evaluate: no such key: x";
        assert_eq!(read(&texts, "bad").0, Some(Err(why.into())));
        assert_eq!(read(&texts, "none").0, None);
        assert_eq!(read(&[("b", "1 +")], "b").0.map(|r| r.is_err()), Some(true));
    }

    #[test]
    fn chains_are_not_endless() {
        let names: Vec<(String, String)> =
            (0..100).map(|i| (format!("v{i}"), format!("variables.v{} + 1", i - 1))).collect();
        let mut texts: Vec<(&str, &str)> = names.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        texts[0].1 = "1";
        assert_eq!(read(&texts, "v50").0, Some(Ok("51".into())));
        assert!(matches!(read(&texts, "v99").0, Some(Err(_))));
    }
}
