//! The compiled rules of a schema and of all within it. Upstream: `Validator` in `schema/cel/validation.go`.

use std::collections::BTreeMap;

use api::validation::field::Path;
use cel::Version;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use machinery::Value;

use super::compile::{Compiled, compile};
use super::eval::{Outcome, Ratchet, Walk};
use super::{Declared, Step, cel_schema};
use crate::schema::Schema;
use crate::schema::validate::Correlated;

/// What validates instances of a schema by its rules.
#[derive(Debug)]
pub struct Validator {
    root: Node,
    schema: cel::Schema,
}

/// The rules of a schema that are for one of its values.
#[derive(Debug)]
pub(super) struct Node {
    /// `type`, as errors show it.
    pub kind: String,
    pub rules: Vec<(ValidationRule, Compiled)>,
    /// Why there are no compiled rules.
    pub broken: Option<String>,
    pub properties: BTreeMap<String, Node>,
    pub items: Option<Box<Node>>,
    pub additional: Option<Box<Node>>,
}

impl Validator {
    /// Compiles the rules of a schema; `None` where it has none. `is_root` for the schema of a whole resource.
    pub fn new(schema: &Schema, is_root: bool) -> Option<Validator> {
        if !has_rules(schema) {
            return None;
        }
        let root = node(&Declared::new(schema, is_root))?;
        let values = cel_schema(schema);
        let values = if is_root { values.with_type_and_object_meta() } else { values };
        Some(Validator { root, schema: values })
    }

    /// Evaluates the rules for a value, and the one it takes the place of if there is one. Errors where `correlated`
    /// tells that nothing changed become warnings. `budget` is what it may cost; what is left is answered, negative
    /// when it ran out and the rest was not evaluated.
    pub fn validate(
        &self,
        path: &Path<'_>,
        value: &Value,
        old: Option<&Value>,
        correlated: Option<Correlated<'_>>,
        budget: i64,
    ) -> Outcome {
        let mut walk = Walk::new(budget);
        walk.node(path, &self.root, &self.schema, value, old, &Ratchet::root(correlated));
        walk.finish()
    }
}

fn has_rules(s: &Schema) -> bool {
    !s.validations.is_empty()
        || s.items.as_deref().is_some_and(has_rules)
        || s.additional_schema().is_some_and(has_rules)
        || s.properties.values().any(has_rules)
}

fn node(declared: &Declared<'_>) -> Option<Node> {
    let schema = declared.schema;
    let (compiled, broken) = match compile(declared, &|_, _| Version::Stored) {
        Ok(compiled) => (compiled.rules, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let below = |step: Step<'_>| declared.step(step).and_then(|d| node(&d)).map(Box::new);
    let mut properties = BTreeMap::new();
    for (name, property) in &schema.properties {
        let found = match cel::escape(name) {
            Some(_) => declared.property(name),
            // No identifier can stand for it, so its type is not part of this one's.
            None => Some(Declared::new(property, false)).filter(|d| d.decl.is_some()),
        };
        if let Some(found) = found.and_then(|d| node(&d)) {
            properties.insert(name.clone(), found);
        }
    }
    let out = Node {
        kind: schema.kind.clone(),
        rules: schema.validations.iter().cloned().zip(compiled).collect(),
        broken,
        properties,
        items: below(Step::Items),
        additional: below(Step::Additional),
    };
    let empty = out.rules.is_empty()
        && out.broken.is_none()
        && out.properties.is_empty()
        && out.items.is_none()
        && out.additional.is_none();
    (!empty).then_some(out)
}
