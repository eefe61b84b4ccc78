//! What a validating policy comes to about one request. Upstream: `plugin/policy/validating/validator.go`.

use cel::Val;

use super::definition::{Definition, Validation};
use crate::admission::expressions::{BUDGET, Expression, Values, Variables};

/// The longest message an expression may make.
const MAX_MESSAGE: usize = 5 * 1024;

/// What one validation comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Admit,
    Deny { message: String, reason: &'static str },
}

/// What a policy comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// One for each validation, or one for all.
    pub decisions: Vec<Decision>,
    /// Keys and values of audit annotations.
    pub annotations: Vec<(String, String)>,
    /// Why audit annotations have no value; each refuses the request.
    pub annotation_errors: Vec<String>,
}

fn failed(definition: &Definition, message: String) -> Decision {
    if definition.common.fails { Decision::Deny { message, reason: "Invalid" } } else { Decision::Admit }
}

/// Evaluates match conditions, all validations, the messages of all, all audit annotations.
pub fn evaluate(definition: &Definition, values: &Values) -> Outcome {
    evaluate_within(definition, values, BUDGET)
}

fn evaluate_within(definition: &Definition, values: &Values, budget: u64) -> Outcome {
    let one = |why: String| Outcome { decisions: vec![failed(definition, why)], ..Outcome::default() };
    match values.conditions(&definition.conditions) {
        Ok(true) => {}
        Ok(false) => return Outcome::default(),
        Err(why) => return one(why),
    }
    let mut left = budget;
    let expressions = definition.validations.iter().map(|v| Some(&v.expression));
    let holds = |v: &Val<'_>| v.as_bool() == Some(true);
    let results = match evaluate_all(definition, values, true, expressions, holds, &mut left) {
        Ok(results) => results,
        Err(why) => return one(why),
    };
    let messages = messages(definition, values, &mut left);
    let results = results.into_iter().flatten().zip(&definition.validations).enumerate();
    let decisions = results.map(|(i, (result, validation))| match (result, &messages) {
        (Err(why), _) => failed(definition, why),
        // That the budget did not suffice counts against validations that hold, too.
        (Ok(_), Err(why)) => failed(definition, format!("failed messageExpression: {why}")),
        (Ok(true), _) => Decision::Admit,
        (Ok(false), Ok(messages)) => {
            let made = messages.get(i).and_then(Option::as_deref);
            Decision::Deny { message: message(validation, made), reason: validation.reason }
        }
    });
    let decisions = decisions.collect();
    let mut left = budget;
    let expressions = definition.annotations.iter().map(|(_, value)| Some(value));
    let text = |v: &Val<'_>| v.as_str().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
    let results = match evaluate_all(definition, values, false, expressions, text, &mut left) {
        Ok(results) => results,
        Err(why) => return one(why),
    };
    let mut outcome = Outcome { decisions, ..Outcome::default() };
    for (result, (key, _)) in results.into_iter().flatten().zip(&definition.annotations) {
        match result {
            Ok(Some(value)) => outcome.annotations.push((key.clone(), value)),
            Ok(None) => {}
            Err(why) if definition.common.fails => outcome.annotation_errors.push(why),
            Err(_) => {}
        }
    }
    outcome
}

/// Evaluates some expressions of a policy on the same variables, and keeps what `keep` makes of their values.
///
/// # Errors
/// That the budget did not suffice.
fn evaluate_all<'d, T>(
    definition: &'d Definition,
    values: &Values,
    authorizer: bool,
    expressions: impl Iterator<Item = Option<&'d Expression>>,
    keep: impl Fn(&Val<'_>) -> T,
    left: &mut u64,
) -> Result<Vec<Option<Result<T, String>>>, String> {
    let variables = Variables::new(&definition.variables);
    let activation = variables.tie(values.activation(authorizer));
    let mut out = Vec::new();
    for expression in expressions {
        out.push(match expression {
            Some(e) => Some(e.evaluate(&activation, &variables, left)?.map(|v| keep(&v))),
            None => None,
        });
    }
    Ok(out)
}

/// What the message expressions of all validations say, where they say something.
fn messages(definition: &Definition, values: &Values, left: &mut u64) -> Result<Vec<Option<String>>, String> {
    let expressions = definition.validations.iter().map(|v| v.message_expression.as_ref());
    let text = |v: &Val<'_>| v.as_str().map(str::to_owned);
    let results = evaluate_all(definition, values, false, expressions, text, left)?;
    Ok(results.into_iter().map(|r| r.and_then(Result::ok).flatten()).collect())
}

/// The message of a failed validation: what its expression says, else its text, else the expression that failed.
fn message(validation: &Validation, made: Option<&str>) -> String {
    let made = made.map(str::trim).filter(|m| !m.is_empty() && m.len() <= MAX_MESSAGE && !m.contains('\n'));
    match (made, validation.message.trim()) {
        (Some(made), _) => made.to_owned(),
        (None, "") => format!("failed expression: {}", validation.expression.text.trim()),
        (None, text) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cel::authz;
    use machinery::Value;
    use serde_json::json;

    use super::*;
    use crate::admission::policy::Definition as _;

    struct Nobody;

    impl authz::Authorizer for Nobody {
        fn authorize(&self, _: &authz::Subject, _: &authz::Query, _: &str) -> authz::Decision {
            authz::Decision::default()
        }
    }

    fn outcome_within(spec: serde_json::Value, budget: u64) -> Outcome {
        let policy = Value::from(json!({"metadata": {"name": "p"}, "spec": spec}));
        let values = Values {
            object: Value::from(json!({"n": 3, "name": "x"})),
            old: Value::Null,
            request: Value::from(json!({"operation": "CREATE"})),
            condition_request: None,
            namespace: Value::from(json!({"metadata": {"name": "ns"}})),
            params: Value::Null,
            asker: Arc::new(Nobody),
            resource: authz::ResourceQuery::default(),
        };
        evaluate_within(&Definition::read(&policy), &values, budget)
    }

    fn outcome(spec: serde_json::Value) -> Outcome {
        outcome_within(spec, BUDGET)
    }

    fn denied(message: &str) -> Decision {
        Decision::Deny { message: message.into(), reason: "Invalid" }
    }

    #[test]
    fn messages_come_from_expression_text_or_rule() {
        let check = |validation: serde_json::Value, want: &str| {
            assert_eq!(outcome(json!({"validations": [validation]})).decisions, [denied(want)]);
        };
        check(json!({"expression": " false "}), "failed expression: false");
        check(json!({"expression": "false", "message": " no "}), "no");
        check(
            json!({"expression": "false", "message": "no", "messageExpression": "'n ' + string(object.n)"}),
            "n 3",
        );
        for bad in ["' '", "'a\\nb'", "object.x"] {
            check(json!({"expression": "false", "message": "no", "messageExpression": bad}), "no");
        }
        check(
            json!({"expression": "object.x == 1"}),
            "expression 'object.x == 1' resulted in error: no such key: x",
        );
    }

    #[test]
    fn failures_are_ignored_where_the_policy_says_so() {
        let spec = json!({"failurePolicy": "Ignore", "auditAnnotations": [{"key": "k", "valueExpression": "object.x"}],
            "validations": [{"expression": "object.x == 1"}, {"expression": "false", "reason": "Forbidden"}]});
        let outcome = outcome(spec);
        let want = Decision::Deny { message: "failed expression: false".into(), reason: "Forbidden" };
        assert_eq!(outcome, Outcome { decisions: vec![Decision::Admit, want], ..Outcome::default() });
    }

    #[test]
    fn conditions_see_no_namespace_and_decide_first() {
        let with = |condition: &str| {
            outcome(json!({"matchConditions": [{"name": "c", "expression": condition}, {"name": "d", "expression": "object.x == 1"}],
                "validations": [{"expression": "namespaceObject.metadata.name != 'ns'"}]}))
            .decisions
        };
        assert_eq!(with("false"), []);
        assert_eq!(with("namespaceObject != null"), []);
        assert_eq!(with("true"), [denied("expression 'object.x == 1' resulted in error: no such key: x")]);
    }

    #[test]
    fn annotations_that_fail_refuse_and_may_not_ask() {
        let with = |value: &str| {
            outcome(json!({"auditAnnotations": [{"key": "k", "valueExpression": value}]})).annotation_errors
        };
        assert_eq!(with("'a'"), Vec::<String>::new());
        assert_eq!(with("authorizer.path('/x').check('get').allowed() ? 'a' : 'b'").len(), 1);
    }

    #[test]
    fn annotations_have_text() {
        let value = |value: &str| {
            outcome(json!({"auditAnnotations": [{"key": "k", "valueExpression": value}]})).annotations
        };
        assert_eq!(value("' a ' + object.name"), [("k".to_owned(), "a x".to_owned())]);
        assert_eq!(value("' '"), []);
        assert_eq!(value("object.n == 3 ? null : 'a'"), []);
    }

    #[test]
    fn the_budget_is_shared() {
        let spec = json!({
            "variables": [{"name": "l", "expression": "[1, 2, 3].map(i, i + 1)"}],
            "validations": [
                {"expression": "variables.l.size() == 3"},
                {"expression": "variables.l.size() == 3", "messageExpression": "'%d'.format([variables.l[0]])"},
            ],
        });
        let admitted = [Decision::Admit, Decision::Admit];
        assert_eq!(outcome(spec.clone()).decisions, admitted);
        let exceeded = crate::admission::expressions::OUT_OF_BUDGET;
        assert_eq!(outcome_within(spec.clone(), 5).decisions, [denied(exceeded)]);
        let messages = denied(&format!("failed messageExpression: {exceeded}"));
        assert_eq!(outcome_within(spec, 60).decisions, [messages.clone(), messages]);
    }
}
