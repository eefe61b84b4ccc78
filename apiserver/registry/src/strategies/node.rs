//! Nodes: everything may be set on create, status apart afterwards. Upstream: `pkg/registry/core/node/strategy.go`.

use ::api::validation::core::node as validation;
use ::api::validation::field::Error as FieldError;
use ::api::warnings;
use machinery::Value;

use super::{validated, validated_update, warned};
use crate::strategy::{Call, Strategy, keep};

/// The strategy.
pub struct Nodes;

impl Strategy for Nodes {
    fn judges_finalizers(&self, call: &Call<'_>) -> bool {
        !call.subresource.is_empty()
    }

    fn prepare_for_create(&self, _call: &Call<'_>, node: &mut Value) {
        node.remove_path(&["spec", "configSource"]);
        node.remove_path(&["status", "config"]);
        drop_preemption(node, None);
        join_networks(node);
    }

    fn validate(&self, _call: &Call<'_>, node: &Value) -> Vec<FieldError> {
        validated(node, validation::validate_node)
    }

    fn prepare_for_update(&self, call: &Call<'_>, node: &mut Value, old: &Value) {
        keep(node, old, if call.is_status() { "spec" } else { "status" });
        // A feature that is gone, where it is not in use.
        for path in [["spec", "configSource"], ["status", "config"]] {
            if old.get_path(&path).is_none_or(Value::is_null) {
                node.remove_path(&path);
            }
        }
        drop_preemption(node, Some(old));
        join_networks(node);
    }

    fn warnings_on_create(&self, _call: &Call<'_>, node: &Value) -> Vec<String> {
        warned(node, warnings::node::node)
    }

    fn warnings_on_update(&self, call: &Call<'_>, node: &Value, _old: &Value) -> Vec<String> {
        if call.is_status() { Vec::new() } else { warned(node, warnings::node::node) }
    }

    fn validate_update(&self, call: &Call<'_>, node: &Value, old: &Value) -> Vec<FieldError> {
        let mut old = old.clone();
        join_networks(&mut old);
        validated_update(node, &old, |new, old| {
            let mut errors = if call.is_status() { Vec::new() } else { validation::validate_node(new) };
            errors.extend(validation::validate_node_update(new, old));
            errors
        })
    }
}

/// A feature that is off (`InPlacePodVerticalScalingSchedulerPreemption`): dropped where it is new.
fn drop_preemption(node: &mut Value, old: Option<&Value>) {
    let path = ["spec", "podPreemptionPolicy"];
    if old.and_then(|o| o.get_path(&path)).is_none_or(Value::is_null) {
        node.remove_path(&path);
    }
}

/// `podCIDR` is the first of `podCIDRs`, and what it says goes (`pkg/apis/core/v1/conversion.go`
/// `Convert_v1_NodeSpec_To_core_NodeSpec` and back).
fn join_networks(node: &mut Value) {
    let first = |n: &Value| {
        let list = n.list_at(&["spec", "podCIDRs"]);
        list.and_then(|l| l.iter().next()).and_then(Value::as_str).unwrap_or("").to_owned()
    };
    let (one, known) = (node.str_at(&["spec", "podCIDR"]).unwrap_or("").to_owned(), first(node));
    // A spec that has a network is an object.
    if !one.is_empty() && one != known {
        let _ = node.set_path(&["spec", "podCIDRs"], vec![one]);
    } else if !known.is_empty() {
        let _ = node.set_path(&["spec", "podCIDR"], known);
    }
}
