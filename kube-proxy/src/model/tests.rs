//! Which endpoints a service port's traffic may reach.

use std::sync::Arc;

use crate::kept::Service;
use serde_json::json;

use super::Family;
use super::endpoint::Endpoint;
use super::service::{ServicePort, ports};
use super::traffic::{Place, choose};

/// `"10.0.0.1 local ready zone=a"` and so on.
fn endpoint(text: &str) -> Endpoint {
    let mut words = text.split(' ');
    let ip = words.next().and_then(net::parse_ip).expect("an address");
    let words: Vec<&str> = words.collect();
    let has = |w: &str| words.contains(&w);
    let named = |p: &str| words.iter().filter_map(|w| w.strip_prefix(p)).map(str::to_string).collect();
    Endpoint {
        address: (ip, 80).into(),
        local: has("local"),
        ready: has("ready"),
        serving: has("ready") || has("serving"),
        terminating: has("terminating"),
        zones: named("zone="),
        nodes: named("node="),
    }
}

fn service(spec: serde_json::Value) -> ServicePort {
    let mut full = json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]});
    for (k, v) in spec.as_object().expect("an object") {
        full[k] = v.clone();
    }
    let service: Service = serde_json::from_value(json!({"metadata": {}, "spec": full})).expect("a Service");
    ports(&Arc::from("n/s"), &service, Family::V4).into_iter().next().expect("a port")
}

/// Expected: indexes for cluster traffic, for local traffic, and whether there is any endpoint.
fn check(spec: serde_json::Value, endpoints: &[&str], cluster: &[usize], local: &[usize], any: bool) {
    let endpoints: Vec<Endpoint> = endpoints.iter().map(|t| endpoint(t)).collect();
    let choice = choose(&service(spec), &endpoints, &Place { node: "here".into(), zone: "a".into() });
    assert_eq!((choice.cluster.as_slice(), choice.local.as_slice(), choice.any), (cluster, local, any));
}

#[test]
fn policies() {
    let local = || json!({"internalTrafficPolicy": "Local"});
    check(json!({}), &["10.0.0.1 ready", "10.0.0.2"], &[0], &[], true);
    check(json!({}), &[], &[], &[], false);
    check(local(), &["10.0.0.1 ready", "10.0.0.2 ready local"], &[], &[1], true);
    check(local(), &["10.0.0.1 ready"], &[], &[], true);
    // External traffic under the Local policy still needs cluster endpoints, for its short cut.
    let external = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30000}]});
    check(external, &["10.0.0.1 ready", "10.0.0.2 ready local"], &[0, 1], &[1], true);
}

#[test]
fn terminating_endpoints_serve_while_none_is_ready() {
    check(json!({}), &["10.0.0.1 serving terminating", "10.0.0.2 terminating"], &[0], &[], true);
    check(json!({}), &["10.0.0.1 serving terminating", "10.0.0.2 ready"], &[1], &[], true);
}

#[test]
fn hints_count_when_all_ready_endpoints_have_one() {
    check(json!({}), &["10.0.0.1 ready zone=a", "10.0.0.2 ready zone=b"], &[0], &[], true);
    check(json!({}), &["10.0.0.1 ready zone=a", "10.0.0.2 ready"], &[0, 1], &[], true);
    check(json!({}), &["10.0.0.1 ready zone=b", "10.0.0.2 ready zone=c"], &[0, 1], &[], true);
    check(
        json!({}),
        &["10.0.0.1 ready zone=a node=there", "10.0.0.2 ready zone=a node=here"],
        &[1],
        &[],
        true,
    );
}
