//! Whether a pod may be on a node, by taints, node selector and required node affinity. Resources do not count.
//! Upstream: component-helpers/scheduling/corev1/nodeaffinity, api/core/v1/toleration.go.

use std::collections::BTreeMap;

use component::features::{self, Gate};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration,
};

/// A toleration covers a taint. Upstream: Toleration.ToleratesTaint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let same = |a: &Option<String>, b: &str| a.as_deref().is_none_or(|a| a.is_empty() || a == b);
    if !same(&toleration.effect, &taint.effect) || !same(&toleration.key, &taint.key) {
        return false;
    }
    let (wanted, is) =
        (toleration.value.as_deref().unwrap_or_default(), taint.value.as_deref().unwrap_or_default());
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => wanted == is,
        "Exists" => true,
        operator @ ("Lt" | "Gt") if features::enabled(Gate::TaintTolerationComparisonOperators) => {
            match (integer(is), integer(wanted)) {
                (Some(is), Some(bound)) => {
                    (operator == "Lt" && is < bound) || (operator == "Gt" && is > bound)
                }
                _ => false,
            }
        }
        _ => false,
    }
}

/// Upstream: IsDecimalInteger: no sign but minus, no leading zeros.
fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()));
    if plain && text != "-0" { text.parse().ok() } else { None }
}

/// All of a node's taints with one of these effects are tolerated.
pub fn tolerates_all(tolerations: &[Toleration], taints: &[Taint], effects: &[&str]) -> bool {
    let relevant = taints.iter().filter(|t| effects.contains(&t.effect.as_str()));
    relevant.into_iter().all(|taint| tolerations.iter().any(|t| tolerates(t, taint)))
}

/// A node has the labels asked for and is admitted by the required affinity.
/// Upstream: RequiredNodeAffinity.Match, whose parsing errors daemon sets ignore.
pub fn selects(
    node_selector: Option<&BTreeMap<String, String>>,
    affinity: Option<&Affinity>,
    node: &Node,
) -> bool {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    if node_selector.into_iter().flatten().any(|(key, value)| labels.get(key) != Some(value)) {
        return false;
    }
    let required = affinity
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|n| n.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| any_term(selector, node, labels))
}

fn any_term(selector: &NodeSelector, node: &Node, labels: &BTreeMap<String, String>) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node, labels))
}

/// A term without requirements matches nothing, nor does one that cannot be understood.
fn term_matches(term: &NodeSelectorTerm, node: &Node, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let name = node.metadata.name.as_deref().unwrap_or_default();
    expressions.iter().all(|e| matches(e, labels.get(&e.key).map(String::as_str)) == Some(true))
        && fields.iter().all(|f| field_matches(f, name))
}

fn field_matches(field: &NodeSelectorRequirement, name: &str) -> bool {
    let values = field.values.as_deref().unwrap_or_default();
    let [value] = values else { return false };
    field.key == "metadata.name"
        && match field.operator.as_str() {
            "In" => name == value,
            "NotIn" => name != value,
            _ => false,
        }
}

/// `None`: the requirement is malformed.
fn matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> Option<bool> {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|w| w == v));
    match (requirement.operator.as_str(), values) {
        ("In" | "NotIn", []) => None,
        ("In", _) => Some(listed),
        ("NotIn", _) => Some(!listed),
        ("Exists", []) => Some(value.is_some()),
        ("DoesNotExist", []) => Some(value.is_none()),
        ("Gt" | "Lt", [bound]) => {
            let bound: i64 = bound.parse().ok()?;
            let Some(value) = value.and_then(|v| v.parse::<i64>().ok()) else { return Some(false) };
            Some(if requirement.operator == "Gt" { value > bound } else { value < bound })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node() -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8"}}}))
            .expect("a node")
    }

    fn check(terms: serde_json::Value, expected: bool) {
        let affinity: Affinity = serde_json::from_value(json!({"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}))
        .expect("an affinity");
        assert_eq!(selects(None, Some(&affinity), &node()), expected, "{terms}");
    }

    #[test]
    fn terms_are_alternatives_and_their_requirements_all_count() {
        let expression =
            |key: &str, op: &str, values: &[&str]| json!({"key": key, "operator": op, "values": values});
        check(json!([{"matchExpressions": [expression("zone", "In", &["a", "b"])]}]), true);
        check(
            json!([{"matchExpressions": [expression("zone", "NotIn", &["a"])]}, {"matchFields": [expression("metadata.name", "In", &["n1"])]}]),
            true,
        );
        check(
            json!([{"matchExpressions": [expression("zone", "In", &["a"]), expression("cores", "Gt", &["8"])]}]),
            false,
        );
        check(json!([{"matchExpressions": [expression("cores", "Lt", &["9"])]}]), true);
        check(json!([{"matchExpressions": [expression("absent", "DoesNotExist", &[])]}]), true);
    }

    #[test]
    fn empty_and_malformed_terms_match_nothing() {
        check(json!([]), false);
        check(json!([{}]), false);
        check(json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": []}]}]), false);
        check(json!([{"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["many"]}]}]), false);
    }

    #[test]
    fn a_node_selector_wants_exactly_these_labels() {
        let labels = |v: &str| BTreeMap::from([("zone".to_string(), v.to_string())]);
        assert!(selects(Some(&labels("a")), None, &node()));
        assert!(!selects(Some(&labels("b")), None, &node()));
    }

    #[test]
    fn tolerations_cover_taints() {
        let taint =
            Taint { key: "k".into(), value: Some("v".into()), effect: "NoExecute".into(), time_added: None };
        let toleration =
            |text: serde_json::Value| serde_json::from_value::<Toleration>(text).expect("a toleration");
        for (text, expected) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), false),
            (json!({"key": "j", "operator": "Exists"}), false),
            (json!({"key": "k", "operator": "Gt", "value": "1"}), false),
        ] {
            assert_eq!(tolerates(&toleration(text.clone()), &taint), expected, "{text}");
        }
    }
}
