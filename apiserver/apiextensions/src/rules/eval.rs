//! Evaluates compiled rules over an instance. Upstream: `validate*` in `schema/cel/validation.go`.

use api::validation::field::{Bad, Error, Path};
use cel::{Activation, Budget, EvalError, Res, Val};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use machinery::{List, Map, Value};

use super::compile::{Compiled, OLD, Ready, SELF};
use super::validator::Node;
use crate::schema::coerce::bad;
use crate::schema::text;
use crate::schema::validate::{Correlated, MapList};

/// The longest message an expression may make, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

const MESSAGE_OUT_OF_BUDGET: &str = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";

/// What came of evaluating all rules.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the rules refuse.
    pub errors: Vec<Error>,
    /// What they would refuse, had it not been so before.
    pub warnings: Vec<String>,
    /// What is left of the budget; negative when it ran out.
    pub remaining: i64,
}

/// Whether what a rule refuses is as it was before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ratchet<'a> {
    current: Option<Correlated<'a>>,
    /// The nearest value above that has a counterpart.
    above: Option<Correlated<'a>>,
}

impl<'a> Ratchet<'a> {
    pub fn root(current: Option<Correlated<'a>>) -> Self {
        Ratchet { current, above: None }
    }

    fn unchanged(&self) -> bool {
        self.current.or(self.above).is_some_and(Correlated::unchanged)
    }

    fn key(&self, key: &str) -> Ratchet<'a> {
        let Some(current) = self.current else { return *self };
        if self.above.is_none() && matches!(key, "apiVersion" | "kind") {
            // Both objects were converted to the same.
            return Ratchet { current: None, above: None };
        }
        Ratchet { current: current.key(key), above: Some(current) }
    }

    fn item(&self, found: Option<Correlated<'a>>) -> Ratchet<'a> {
        match self.current {
            None => *self,
            current => Ratchet { current: found, above: current },
        }
    }
}

/// One evaluation of everything, on its way.
pub(super) struct Walk {
    errors: Vec<Error>,
    warnings: Vec<String>,
    remaining: i64,
}

/// `self` and what it takes the place of.
struct Values<'v> {
    own: Res<'v>,
    old: Option<Res<'v>>,
}

/// The value a node's rules are about.
struct Subject<'v, 'p> {
    path: &'p Path<'p>,
    kind: &'v str,
    value: &'v Value,
    ratchet: &'p Ratchet<'v>,
}

/// Why a message expression has no message.
enum NoMessage {
    /// The rule's own message will do.
    UseOther,
    /// Nothing more may be evaluated.
    Stop(String),
}

impl Walk {
    pub fn new(budget: i64) -> Self {
        Walk { errors: Vec::new(), warnings: Vec::new(), remaining: budget }
    }

    pub fn finish(self) -> Outcome {
        Outcome { errors: self.errors, warnings: self.warnings, remaining: self.remaining }
    }

    fn stopped(&self) -> bool {
        self.remaining < 0
    }

    pub fn node<'v>(
        &mut self,
        path: &Path<'_>,
        node: &'v Node,
        schema: &'v cel::Schema,
        value: &'v Value,
        old: Option<&'v Value>,
        ratchet: &Ratchet<'v>,
    ) {
        // Rules about nulls belong to the schema around.
        if self.stopped() || value.is_null() {
            return;
        }
        let old = old.filter(|o| !o.is_null());
        self.rules(&Subject { path, kind: &node.kind, value, ratchet }, node, schema, old);
        match value {
            Value::Map(map) => self.map(path, node, schema, map, old, ratchet),
            Value::List(list) => self.list(path, node, schema, list, old, ratchet),
            _ => {}
        }
    }

    fn map<'v>(
        &mut self,
        path: &Path<'_>,
        node: &'v Node,
        schema: &'v cel::Schema,
        map: &'v Map,
        old: Option<&'v Value>,
        ratchet: &Ratchet<'v>,
    ) {
        let old_value = |key: &str| old.and_then(|o| o.as_map()?.get(key));
        if let (Some(below), Some(schema)) = (&node.additional, schema.additional.as_deref()) {
            for (key, value) in map {
                self.node(&path.key(key), below, schema, value, old_value(key), &ratchet.key(key));
            }
        }
        for (key, below) in &node.properties {
            let schema = schema.properties.as_ref().and_then(|p| p.get(key.as_str()));
            if let (Some(value), Some(schema)) = (map.get(key.as_str()), schema) {
                self.node(&path.child(key), below, schema, value, old_value(key), &ratchet.key(key));
            }
        }
    }

    fn list<'v>(
        &mut self,
        path: &Path<'_>,
        node: &'v Node,
        schema: &'v cel::Schema,
        list: &'v List,
        old: Option<&'v Value>,
        ratchet: &Ratchet<'v>,
    ) {
        let (Some(below), Some(items)) = (&node.items, schema.items.as_deref()) else { return };
        let keyed = schema.list_kind.as_deref() == Some("map");
        let old = old.and_then(Value::as_list).filter(|_| keyed);
        let old = old.map(|old| MapList::new(old, schema.list_keys.iter().map(|k| k.as_str())));
        let correlated = ratchet.current.and_then(Correlated::items);
        for (index, value) in list.iter().enumerate() {
            let before = old.as_ref().and_then(|o| o.get(value));
            let found = correlated.as_ref().and_then(|c| c.get(value));
            self.node(&path.index(index), below, items, value, before, &ratchet.item(found));
        }
    }

    fn rules<'v>(
        &mut self,
        subject: &Subject<'v, '_>,
        node: &'v Node,
        schema: &'v cel::Schema,
        old: Option<&'v Value>,
    ) {
        if let Some(why) = &node.broken {
            self.refuse(subject, format!("rule compiler initialization error: {why}"));
            return;
        }
        if node.rules.is_empty() {
            return;
        }
        if self.remaining <= 0 {
            self.stop(subject, OUT_OF_BUDGET.into());
            return;
        }
        let values = Values {
            own: Val::of_tree(subject.value, Some(schema)),
            old: old.map(|o| Val::of_tree(o, Some(schema))),
        };
        for (rule, compiled) in &node.rules {
            match compiled {
                Compiled::Empty => {}
                Compiled::Failed(why) => self.refuse(subject, format!("rule compile error: {why}")),
                Compiled::Ready(ready) => self.rule(subject, rule, ready, &values),
            }
            if self.stopped() {
                return;
            }
        }
    }

    fn refuse(&mut self, subject: &Subject<'_, '_>, why: String) {
        self.errors.push(Error::invalid(subject.path, subject.kind, why));
    }

    fn stop(&mut self, subject: &Subject<'_, '_>, why: String) {
        self.refuse(subject, why);
        self.remaining = -1;
    }

    fn rule<'v>(
        &mut self,
        subject: &Subject<'v, '_>,
        rule: &ValidationRule,
        ready: &'v Ready,
        values: &Values<'v>,
    ) {
        let optional = rule.optional_old_self == Some(true);
        if ready.uses_old && values.old.is_none() && !optional {
            return;
        }
        let budget = Budget::cost(Budget::PER_CALL);
        let (result, cost) = ready.program.eval_with_cost(&values.activation(optional), &budget);
        if !self.spend(cost) {
            self.stop(subject, OUT_OF_BUDGET.into());
            return;
        }
        match result {
            Ok(value) if value.as_bool() == Some(true) => {}
            Ok(_) => self.violated(subject, rule, ready, values),
            Err(error) => self.failed(subject, rule, &error),
        }
    }

    /// Whether the budget was enough.
    fn spend(&mut self, cost: u64) -> bool {
        match i64::try_from(cost) {
            Ok(cost) if cost <= self.remaining => {
                self.remaining -= cost;
                true
            }
            _ => false,
        }
    }

    fn failed(&mut self, subject: &Subject<'_, '_>, rule: &ValidationRule, error: &EvalError) {
        let (shown, text) = (shown(rule), error.to_string());
        if text.starts_with("no such overload") {
            let why =
                "call arguments did not match a supported operator, function or macro signature for rule";
            self.refuse(subject, format!("'{text}': {why}: {shown}"));
        } else if *error == EvalError::CostLimit {
            let why = "no further validation rules will be run due to call cost exceeds limit for rule";
            self.stop(subject, format!("'{text}': {why}: {shown}"));
        } else {
            self.refuse(subject, format!("{text} evaluating rule: {shown}"));
        }
    }

    fn violated<'v>(
        &mut self,
        subject: &Subject<'v, '_>,
        rule: &ValidationRule,
        ready: &'v Ready,
        values: &Values<'v>,
    ) {
        let at = match &ready.field_path {
            Some(below) => subject.path.child(below),
            None => *subject.path,
        };
        let detail = match self.message(rule, ready, values) {
            Some(Err(NoMessage::Stop(why))) => {
                self.add(subject, ready, Error::invalid(&at, subject.kind, why));
                self.remaining = -1;
                return;
            }
            Some(Ok(message)) => message,
            Some(Err(NoMessage::UseOther)) | None => match text(&rule.message) {
                "" => format!("failed rule: {}", shown(rule)),
                message => message.trim().to_owned(),
            },
        };
        let value = match subject.kind {
            "object" | "array" => Bad::Omitted,
            _ => bad(subject.value),
        };
        let error = match rule.reason.as_deref() {
            Some("FieldValueForbidden") => Error::forbidden(&at, detail),
            Some("FieldValueRequired") => Error::required(&at, detail),
            Some("FieldValueDuplicate") => Error::duplicate(&at, value),
            _ => Error::invalid(&at, value, detail),
        };
        self.add(subject, ready, error);
    }

    fn add(&mut self, subject: &Subject<'_, '_>, ready: &Ready, error: Error) {
        if !ready.uses_old && subject.ratchet.unchanged() {
            self.warnings.push(error.to_string());
        } else {
            self.errors.push(error);
        }
    }

    fn message<'v>(
        &mut self,
        rule: &ValidationRule,
        ready: &'v Ready,
        values: &Values<'v>,
    ) -> Option<Result<String, NoMessage>> {
        let message = ready.message.as_ref()?.as_ref().ok()?;
        let stop = |why: String| Some(Err(NoMessage::Stop(why)));
        let budget = Budget::cost(Budget::PER_CALL);
        // Upstream evaluates messages with what rules without an optional see.
        let (result, cost) = message.program.eval_with_cost(&values.activation(false), &budget);
        if !self.spend(cost) {
            return stop(MESSAGE_OUT_OF_BUDGET.into());
        }
        if matches!(result, Err(EvalError::CostLimit)) {
            let source = machinery::golang::quote(text(&rule.message_expression));
            return stop(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {source}"
            ));
        }
        let said = result.ok().and_then(|v| v.as_str().map(|s| s.trim().to_owned()));
        let usable = |s: &String| !s.is_empty() && s.len() <= MAX_MESSAGE && !s.contains('\n');
        Some(said.filter(usable).ok_or(NoMessage::UseOther))
    }
}

impl<'v> Values<'v> {
    fn activation(&self, optional: bool) -> Activation<'v> {
        let own = Activation::new().bind(SELF, self.own.clone());
        match (&self.old, optional) {
            (Some(old), false) => own.bind(OLD, old.clone()),
            (Some(old), true) => own.bind(OLD, old.clone().map(Val::some)),
            (None, true) => own.bind(OLD, Ok(Val::Optional(None))),
            (None, false) => own,
        }
    }
}

/// How errors name a rule.
fn shown(rule: &ValidationRule) -> &str {
    match text(&rule.message) {
        "" => rule.rule.trim(),
        message => message.trim(),
    }
}
