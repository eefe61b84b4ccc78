//! Nodes, and selectors of nodes by labels that are deprecated. Upstream: `pkg/api/node/util.go`,
//! `pkg/registry/core/node/strategy.go` `nodeWarnings`.

use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::ip;
use crate::validation::field::Path;
use crate::validation::{content, items, text};

/// What is said of a deprecated label.
pub(super) fn deprecated_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#,
        "beta.kubernetes.io/os" => r#"deprecated since v1.14; use "kubernetes.io/os" instead"#,
        "failure-domain.beta.kubernetes.io/region" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#
        }
        "beta.kubernetes.io/instance-type" => {
            r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => r#"use "node-role.kubernetes.io/control-plane" instead"#,
        _ => return None,
    })
}

/// About a node, new or changed.
pub fn node(node: &Node) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(spec) = &node.spec else { return warnings };
    if spec.config_source.is_some() {
        warnings.push("spec.configSource: the feature is removed".to_owned());
    }
    if !text(&spec.external_id).is_empty() {
        warnings.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    let path = Path::new("spec.podCIDRs");
    for (i, cidr) in items(&spec.pod_cidrs).iter().enumerate() {
        warnings.extend(ip::network(cidr, &path.index(i)));
    }
    warnings
}

/// About a runtime class.
pub fn runtime_class(class: &RuntimeClass) -> Vec<String> {
    let selector = class.scheduling.as_ref().and_then(|s| s.node_selector.as_ref());
    let told = selector.into_iter().flatten().filter_map(|(key, _)| deprecated_label(key));
    told.map(|m| format!("scheduling.nodeSelector: {m}")).collect()
}

/// About a term that selects nodes; values of preferences are not validated, so odd ones are told here.
pub(super) fn selector_term(term: &NodeSelectorTerm, values: bool, path: &Path) -> Vec<String> {
    let (mut warnings, path) = (Vec::new(), path.child("matchExpressions"));
    for (i, expression) in items(&term.match_expressions).iter().enumerate() {
        let at = path.index(i);
        if let Some(message) = deprecated_label(&expression.key) {
            warnings.push(format!("{}: {} is {message}", at.child("key"), expression.key));
        }
        for (j, value) in items(&expression.values).iter().enumerate().filter(|_| values) {
            let of = at.child("values");
            let told = content::label_value(value).into_iter();
            warnings.extend(told.map(|m| format!("{}: {value} is invalid, {m}", of.index(j))));
        }
    }
    warnings
}

/// About a selector of nodes by labels.
pub(super) fn selector(selector: &LabelSelector, path: &Path) -> Vec<String> {
    let (mut warnings, at) = (Vec::new(), path.child("matchExpressions"));
    for (i, expression) in items(&selector.match_expressions).iter().enumerate() {
        if let Some(message) = deprecated_label(&expression.key) {
            warnings.push(format!("{}: {} is {message}", at.index(i).child("key"), expression.key));
        }
    }
    let labels = path.child("matchLabels");
    for key in selector.match_labels.iter().flatten().map(|(k, _)| k) {
        warnings.extend(deprecated_label(key).map(|m| format!("{}: {m}", labels.child(key))));
    }
    warnings
}
