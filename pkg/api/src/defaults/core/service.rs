//! Services and endpoints.

use crate::defaults::Context;
use crate::defaults::fields::{child, each, if_empty, if_nil, is_nil, items, number, peek, pointer, text};
use machinery::{Map, Value};

/// Three hours.
const CLIENT_IP_TIMEOUT: i64 = 10_800;

pub(super) fn service(m: &mut Map, _: &Context) {
    let spec = child(m, "spec");
    if_empty(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => drop(spec.remove("sessionAffinityConfig")),
        "ClientIP" => {
            let client = peek(&peek(spec, "sessionAffinityConfig"), "clientIP");
            if is_nil(&client, "timeoutSeconds") {
                let client = Map::from_iter([("timeoutSeconds", CLIENT_IP_TIMEOUT)]);
                spec.insert("sessionAffinityConfig", Map::from_iter([("clientIP", client)]));
            }
        }
        _ => {}
    }
    if_empty(spec, "type", "ClusterIP");
    each(spec, "ports", |p| {
        if_empty(p, "protocol", "TCP");
        let unset = match p.get("targetPort") {
            None | Some(Value::Null) => true,
            Some(v) => v.as_i64() == Some(0) || v.as_str() == Some(""),
        };
        if unset {
            let port = number(p, "port");
            p.insert("targetPort", port);
        }
    });
    let kind = text(spec, "type").to_owned();
    let external = matches!(kind.as_str(), "LoadBalancer" | "NodePort")
        || (kind == "ClusterIP" && !items(spec, "externalIPs").is_empty());
    if external {
        if_empty(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        if_nil(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        if_nil(spec, "allocateLoadBalancerNodePorts", true);
        if let Some(balancer) = pointer(m, "status").and_then(|s| pointer(s, "loadBalancer")) {
            each(balancer, "ingress", |i| {
                if !text(i, "ip").is_empty() {
                    if_nil(i, "ipMode", "VIP");
                }
            });
        }
    }
}

pub(super) fn endpoints(m: &mut Map, _: &Context) {
    each(m, "subsets", |s| each(s, "ports", |p| if_empty(p, "protocol", "TCP")));
}
