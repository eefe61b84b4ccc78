//! Mutating policies, read and compiled.

use machinery::Value;

use super::super::common::{self, Common, items};
use crate::admission::expressions::{Expression, Wanted};

/// How a mutation changes the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// By merging a partial object into it.
    ApplyConfiguration,
    JsonPatch,
}

/// One mutation.
#[derive(Debug)]
pub struct Mutation {
    pub patch_type: PatchType,
    pub expression: Expression,
}

/// A policy.
#[derive(Debug)]
pub struct Definition {
    pub common: Common,
    pub conditions: Vec<Expression>,
    pub variables: Vec<(String, Expression)>,
    pub mutations: Vec<Mutation>,
    /// Whether it is applied again after later changes.
    pub reinvocable: bool,
}

impl super::super::Definition for Definition {
    fn read(policy: &Value) -> Self {
        let common = Common::read(policy);
        let empty = Value::default();
        let spec = policy.get("spec").unwrap_or(&empty);
        let params = common.param_kind.is_some();
        let (variables, scope) = common::variables(spec, params);
        let mutations = items(spec, &["mutations"]).filter_map(|m| {
            let (patch_type, field, wanted) = match m.str_at(&["patchType"])? {
                "JSONPatch" => (PatchType::JsonPatch, "jsonPatch", Wanted::JsonPatch),
                "ApplyConfiguration" => {
                    (PatchType::ApplyConfiguration, "applyConfiguration", Wanted::ApplyConfiguration)
                }
                _ => return None,
            };
            let text = m.str_at(&[field, "expression"]).unwrap_or_default();
            Some(Mutation { patch_type, expression: Expression::stored(text, wanted, &scope) })
        });
        Definition {
            conditions: common::conditions(spec, params),
            mutations: mutations.collect(),
            reinvocable: spec.str_at(&["reinvocationPolicy"]) == Some("IfNeeded"),
            variables,
            common,
        }
    }

    fn common(&self) -> &Common {
        &self.common
    }
}
