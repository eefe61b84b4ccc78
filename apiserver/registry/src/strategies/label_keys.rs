//! `matchLabelKeys` and `mismatchLabelKeys`: the pod's own values of these labels become part of the selectors.
//! Upstream: `mutatePodAffinity`, `mutateTopologySpreadConstraints` in `pkg/registry/core/pod/strategy.go`.

use machinery::{List, Map, Value};

/// Adds the expressions to every selector of the new pod that asks for them.
pub(super) fn merge(pod: &mut Value) {
    let labels = pod.map_at(&["metadata", "labels"]).cloned().unwrap_or_default();
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let at = |list| ["spec", "affinity", affinity, list];
        for term in items(pod, &at("requiredDuringSchedulingIgnoredDuringExecution")) {
            add(term, &labels);
        }
        for weighted in items(pod, &at("preferredDuringSchedulingIgnoredDuringExecution")) {
            if let Some(term) = weighted.get_mut("podAffinityTerm") {
                add(term, &labels);
            }
        }
    }
    for constraint in items(pod, &["spec", "topologySpreadConstraints"]) {
        add(constraint, &labels);
    }
}

fn items<'a>(pod: &'a mut Value, path: &[&str]) -> impl Iterator<Item = &'a mut Value> {
    let list = match pod.get_path_mut(path) {
        Some(Value::List(list)) => Some(list),
        _ => None,
    };
    list.into_iter().flat_map(|l| l.iter_mut())
}

fn add(term: &mut Value, labels: &Map) {
    if term.get("labelSelector").is_none_or(Value::is_null) {
        // No selector selects nothing, whatever is added.
        return;
    }
    let mut added = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term.list_at(&[field]).into_iter().flat_map(|l| l.iter()).filter_map(Value::as_str) {
            let Some(value) = labels.get(key) else { continue };
            let mut expression = Map::new();
            expression.insert("key", key);
            expression.insert("operator", operator);
            expression.insert("values", List::from(vec![value.clone()]));
            added.push(Value::Map(expression));
        }
    }
    if added.is_empty() {
        return;
    }
    let at = ["labelSelector", "matchExpressions"];
    let mut list: List = term.list_at(&at).cloned().unwrap_or_default();
    for expression in added {
        list.push(expression);
    }
    // The selector is an object, as decoding has seen to.
    let _ = term.set_path(&at, list);
}
