//! Defaults of the networking group. Upstream: pkg/apis/networking/v1/defaults.go.

use super::fields::{child, if_nil, items, pointer};
use super::{Context, Function};
use machinery::Map;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("networking/v1.IngressClass", ingress_class),
    ("networking/v1.NetworkPolicy", network_policy),
    ("networking/v1.NetworkPolicyPort", port),
];

fn port(m: &mut Map, _: &Context) {
    if_nil(m, "protocol", "TCP");
}

fn network_policy(m: &mut Map, _: &Context) {
    let spec = child(m, "spec");
    if items(spec, "policyTypes").is_empty() {
        let mut types = vec!["Ingress"];
        if !items(spec, "egress").is_empty() {
            types.push("Egress");
        }
        spec.insert("policyTypes", types);
    }
}

fn ingress_class(m: &mut Map, _: &Context) {
    if let Some(parameters) = pointer(m, "spec").and_then(|s| pointer(s, "parameters")) {
        if_nil(parameters, "scope", "Cluster");
    }
}
