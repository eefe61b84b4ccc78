//! Nodes: everything may be set on create, status apart afterwards. Upstream: `pkg/registry/core/node/strategy.go`.

use ::api::validation::core::node as validation;
use ::api::validation::field::Error as FieldError;
use machinery::Value;

use super::{validated, validated_update};
use crate::strategy::{Call, Strategy, keep};

/// The strategy.
pub struct Nodes;

impl Strategy for Nodes {
    fn prepare_for_create(&self, _call: &Call<'_>, node: &mut Value) {
        node.remove_path(&["spec", "configSource"]);
        node.remove_path(&["status", "config"]);
    }

    fn validate(&self, _call: &Call<'_>, node: &Value) -> Vec<FieldError> {
        validated(node, validation::validate_node)
    }

    fn prepare_for_update(&self, call: &Call<'_>, node: &mut Value, old: &Value) {
        keep(node, old, if call.is_status() { "spec" } else { "status" });
    }

    fn validate_update(&self, _call: &Call<'_>, node: &Value, old: &Value) -> Vec<FieldError> {
        validated_update(node, old, |new, old| {
            let mut errors = validation::validate_node(new);
            errors.extend(validation::validate_node_update(new, old));
            errors
        })
    }
}
