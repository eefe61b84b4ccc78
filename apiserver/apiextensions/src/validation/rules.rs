//! Validation rules as a part of a definition: their form, whether their expressions compile, and what they may cost.
//! Upstream: `apis/apiextensions/validation/{validation,cel_validation}.go`.

use std::collections::HashSet;

use api::validation::field::{Bad, Error, Path};
use cel::Version;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;

use super::Options;
use super::walk::{self, Props};
use crate::definition::Internal;
use crate::rules::{Compiled, Declared, Notation, Ready, Role, Step, compile, resolve};
use crate::schema::{Schema, items, text};

/// The most one rule may cost.
const MAX_RULE_COST: u64 = 10_000_000;
/// The most all rules of a schema may cost together.
const MAX_TOTAL_COST: u64 = 100_000_000;
/// How many of the rules that make the total too high are named.
const MAX_NAMED: usize = 4;

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Expressions of the definition that is changed: they may use what later versions brought.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    rules: HashSet<String>,
    messages: HashSet<String>,
}

impl Known {
    /// All expressions of a definition.
    pub(super) fn of(old: &Internal) -> Known {
        let known = std::cell::RefCell::new(Known::default());
        for schema in old.schemas() {
            let note = |s: &Props| {
                let mut known = known.borrow_mut();
                for rule in items(&s.x_kubernetes_validations) {
                    known.rules.insert(rule.rule.clone());
                    known.messages.extend(rule.message_expression.clone().filter(|m| !m.is_empty()));
                }
                false
            };
            walk::has(schema, &note);
        }
        known.into_inner()
    }

    fn version(&self, source: &str, role: Role) -> Version {
        let known = match role {
            Role::Rule => &self.rules,
            Role::Message => &self.messages,
        };
        if known.contains(source) { Version::Stored } else { Version::COMPATIBLE }
    }
}

/// The versions whose schemas did not change. A schema that all versions had is that of new ones, too
/// (`GetSchemaForVersion`).
pub(super) fn unchanged(new: &Internal, old: &Internal) -> Vec<String> {
    let of = |spec: &Internal, name: &str| match spec.versions.iter().any(|v| v.schema.is_some()) {
        false => Some(spec.validation.clone()),
        true => spec.versions.iter().find(|v| v.name == name).map(|v| v.schema.clone()),
    };
    let names = new.versions.iter().map(|v| &v.name);
    names.filter(|n| of(old, n).is_some_and(|o| of(new, n) == Some(o))).cloned().collect()
}

/// What expressions may know at a schema.
#[derive(Clone, Debug)]
pub(super) struct Context<'a> {
    schema: &'a Schema,
    /// Within a schema that has rules: the type it declares, or why it declares none.
    declared: Option<Result<Declared<'a>, String>>,
    /// How often values occur at most; `None` where nothing limits that.
    cardinality: Option<u64>,
    is_root: bool,
}

impl<'a> Context<'a> {
    /// The context of a root schema.
    pub fn root(schema: &'a Schema) -> Self {
        Context { schema, declared: None, cardinality: Some(1), is_root: true }.entered()
    }

    /// The context of a schema within.
    pub fn below(&self, step: Step<'_>) -> Option<Context<'a>> {
        let schema = match step {
            Step::Property(name) => self.schema.properties.get(name)?,
            Step::Items => self.schema.items.as_deref()?,
            Step::Additional => self.schema.additional_schema()?,
        };
        let declared = match &self.declared {
            Some(Err(why)) => Some(Err(why.clone())),
            Some(Ok(declared)) => Some(declared.step(step).map_or_else(|| convert(schema, false), Ok)),
            None => None,
        };
        let cardinality = self.cardinality.zip(max_elements(self.schema)).map(|(a, b)| a.saturating_mul(b));
        Some(Context { schema, declared, cardinality, is_root: false }.entered())
    }

    /// With the declared type, where this is the outermost schema with rules.
    fn entered(mut self) -> Self {
        if self.declared.is_none() && !self.schema.validations.is_empty() {
            self.declared = Some(convert(self.schema, self.is_root));
        }
        self
    }
}

fn convert(schema: &Schema, is_root: bool) -> Result<Declared<'_>, String> {
    let declared = Declared::new(schema, is_root);
    match declared.decl {
        Some(_) => Ok(declared),
        None => Err("unable to convert structural schema to CEL declarations".into()),
    }
}

/// How many values a value holds at most; `None` where nothing limits that.
fn max_elements(schema: &Schema) -> Option<u64> {
    let limit = |max: Option<i64>| max.map(|n| u64::try_from(n).unwrap_or(0));
    match schema.kind.as_str() {
        "object" if schema.additional.is_some() => limit(schema.rules.max_properties),
        "array" => limit(schema.rules.max_items),
        _ => Some(1),
    }
}

fn has_newlines(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

/// Errors in the form of rules.
pub(super) fn forms(path: &Path<'_>, rules: &[ValidationRule], s: &Props) -> Vec<Error> {
    let mut errors = Vec::new();
    let parent = path.child("x-kubernetes-validations");
    let schema = Schema::new(s).ok();
    for (index, rule) in rules.iter().enumerate() {
        form(&parent.index(index), rule, schema.as_ref(), &mut errors);
    }
    errors
}

fn form(at: &Path<'_>, rule: &ValidationRule, schema: Option<&Schema>, errors: &mut Vec<Error>) {
    let (source, message) = (rule.rule.trim(), text(&rule.message));
    let breaks = "must not contain line breaks";
    let blank = "must be non-empty if specified";
    if source.is_empty() {
        errors.push(Error::required(&at.child("rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.push(Error::invalid(&at.child("message"), message, blank));
    } else if has_newlines(message.trim()) {
        errors.push(Error::invalid(&at.child("message"), message, breaks));
    } else if has_newlines(source) && message.trim().is_empty() {
        let why = "message must be specified if rule contains line breaks";
        errors.push(Error::required(&at.child("message"), why));
    }
    let expression = text(&rule.message_expression);
    if !expression.is_empty() && expression.trim().is_empty() {
        let why = "messageExpression must be non-empty if specified";
        errors.push(Error::required(&at.child("messageExpression"), why));
    }
    if let Some(reason) = rule.reason.as_deref().filter(|r| !REASONS.contains(r)) {
        errors.push(Error::not_supported(&at.child("reason"), reason, &REASONS));
    }
    let field_path = text(&rule.field_path);
    if field_path.is_empty() {
        return;
    }
    let here = at.child("fieldPath");
    if field_path.trim().is_empty() {
        errors.push(Error::invalid(&here, field_path, blank));
    }
    if has_newlines(field_path) {
        errors.push(Error::invalid(&here, field_path, breaks));
    }
    if schema.is_some_and(|s| resolve(field_path, s, Notation::Brackets).is_err()) {
        errors.push(Error::invalid(&here, field_path, "must be a valid path"));
    }
}

/// Checks expressions, and adds up what they may cost.
#[derive(Debug, Default)]
pub(super) struct Checker {
    pub errors: Vec<Error>,
    total: u64,
    /// The most expensive first.
    expensive: Vec<(String, u64)>,
}

impl Checker {
    /// Checks the rules of a schema.
    pub fn check(
        &mut self,
        path: &Path<'_>,
        rules: &[ValidationRule],
        context: &Context<'_>,
        uncorrelatable: Option<&str>,
        options: &Options,
    ) {
        let at = path.child("x-kubernetes-validations");
        let declared = match &context.declared {
            Some(Ok(declared)) => declared,
            Some(Err(why)) => {
                let what =
                    "internal error: failed to construct type information for x-kubernetes-validations rules";
                self.errors.push(Error::internal(&at, format!("{what}: {why}")));
                return;
            }
            None => return,
        };
        let compiled = match compile(declared, &|source, role| options.known.version(source, role)) {
            Ok(compiled) => compiled,
            Err(why) => {
                self.errors.push(Error::internal(&at, why));
                return;
            }
        };
        let cardinality = context.cardinality.unwrap_or(compiled.max_cardinality);
        for (index, (rule, compiled)) in rules.iter().zip(&compiled.rules).enumerate() {
            let at = at.index(index);
            match compiled {
                Compiled::Empty => {}
                Compiled::Failed(why) => {
                    self.errors.push(Error::invalid(&at.child("rule"), shown(rule), why.as_str()));
                }
                Compiled::Ready(ready) => self.costs(&at, rule, ready, cardinality, options),
            }
            let uses_old = matches!(compiled, Compiled::Ready(ready) if ready.uses_old);
            self.old(&at, rule, uses_old, uncorrelatable);
        }
    }

    fn costs(
        &mut self,
        at: &Path<'_>,
        rule: &ValidationRule,
        ready: &Ready,
        cardinality: u64,
        options: &Options,
    ) {
        let here = at.child("rule");
        let cost = ready.max_cost.saturating_mul(cardinality);
        self.limit(&here, "estimated rule cost", cost, options);
        self.observe(&here, cost);
        let here = at.child("messageExpression");
        match &ready.message {
            Some(Err(why)) => self.errors.push(Error::invalid(&here, shown(rule), why.as_str())),
            Some(Ok(message)) => {
                self.limit(&here, "estimated messageExpression cost", message.max_cost, options);
                self.observe(&here, message.max_cost);
            }
            None => {}
        }
    }

    fn old(&mut self, at: &Path<'_>, rule: &ValidationRule, uses_old: bool, uncorrelatable: Option<&str>) {
        if let Some(within) = uncorrelatable.filter(|_| uses_old) {
            let why =
                format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
            self.errors.push(Error::invalid(&at.child("rule"), &rule.rule, why));
        }
        if let (false, Some(flag)) = (uses_old, rule.optional_old_self) {
            let why = "may not be set if oldSelf is not used in rule";
            self.errors.push(Error::invalid(&at.child("optionalOldSelf"), flag, why));
        }
    }

    fn limit(&mut self, at: &Path<'_>, what: &str, cost: u64, options: &Options) {
        if !options.costly_rules && cost > MAX_RULE_COST {
            self.errors.push(Error::forbidden(at, too_costly(what, cost, MAX_RULE_COST)));
        }
    }

    fn observe(&mut self, at: &Path<'_>, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost < MAX_TOTAL_COST / 100 {
            return;
        }
        self.expensive.push((at.to_string(), cost));
        self.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        self.expensive.truncate(MAX_NAMED);
    }

    /// Errors about what all rules cost together.
    pub fn total(&self, at: &Path<'_>) -> Vec<Error> {
        if self.total <= MAX_TOTAL_COST {
            return Vec::new();
        }
        let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        let mut errors: Vec<Error> =
            self.expensive.iter().map(|(path, _)| Error::forbidden(&Path::new(path), why)).collect();
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(Error::forbidden(at, too_costly(what, self.total, MAX_TOTAL_COST)));
        errors
    }
}

fn too_costly(what: &str, cost: u64, limit: u64) -> String {
    let excess = cost as f64 / limit as f64;
    let factor = if excess > 100.0 {
        "more than 100x".to_owned()
    } else if excess < 1.5 {
        format!("{excess:.6}x")
    } else {
        format!("{excess:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// The rule as Go prints it: by the names of its internal fields.
fn shown(rule: &ValidationRule) -> Bad {
    let string = |text: &str| {
        let bytes = machinery::json::encode_any(&machinery::Value::from(text));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let optional = |text: Option<&str>| text.map_or("null".to_owned(), string);
    let flag = rule.optional_old_self.map_or("null".to_owned(), |f| f.to_string());
    Bad::Raw(format!(
        r#"{{"Rule":{},"Message":{},"MessageExpression":{},"Reason":{},"FieldPath":{},"OptionalOldSelf":{flag}}}"#,
        string(&rule.rule),
        string(text(&rule.message)),
        string(text(&rule.message_expression)),
        optional(rule.reason.as_deref()),
        string(text(&rule.field_path)),
    ))
}
