//! Which slices a Service gets.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use serde_json::json;

use super::plan::{Plan, View, plan};
use crate::kept::Pod;
use crate::scenario;

fn service() -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "u", "labels": {"l": "v"}},
        "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": {"a": "b"},
                 "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
    }))
    .expect("a service")
}

fn pod(index: usize, ready: bool) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": format!("p{index}"), "namespace": "n", "uid": format!("u{index}"), "labels": {"a": "b"}},
            "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": format!("10.1.{}.{}", index / 250, index % 250)}],
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .expect("a pod"),
    )
}

fn node(_: &str) -> Option<Arc<Node>> {
    Some(Arc::default())
}

fn decide(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> Plan {
    plan(&View { service, pods, slices, max_per_slice: 100, triggered: None }, node)
}

/// Carries a plan out.
fn apply(slices: &mut Vec<Arc<EndpointSlice>>, plan: Plan, round: usize) {
    slices.retain(|s| !plan.delete.contains(s.metadata.name.as_ref().expect("a name")));
    for new in plan.update {
        let at = slices.iter().position(|s| s.metadata.name == new.metadata.name).expect("the slice");
        slices[at] = Arc::new(new);
    }
    for (i, mut new) in plan.create.into_iter().enumerate() {
        new.metadata.name = Some(format!("web-{round}-{i}"));
        slices.push(Arc::new(new));
    }
}

fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
    let mut sizes: Vec<usize> = slices.iter().map(|s| s.endpoints.as_ref().map_or(0, Vec::len)).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn scenarios() {
    scenario::check("endpointslice/testdata", |given| {
        let service: Service = given.one();
        let (pods, slices) = (given.shared::<Pod>(), given.shared::<EndpointSlice>());
        let known: Vec<String> = given.setting("nodes").unwrap_or_else(|| vec!["node".to_string()]);
        let node = |name: &str| known.iter().any(|n| n == name).then(Arc::default);
        let max_per_slice = given.setting("maxPerSlice").unwrap_or(100);
        let view = View { service: &service, pods: &pods, slices: &slices, max_per_slice, triggered: None };
        let plan = plan(&view, node);
        let mut out = String::new();
        for (what, slices) in [("create", &plan.create), ("update", &plan.update)] {
            slices.iter().for_each(|s| out.push_str(&format!("{what}\n{}", scenario::yaml(s))));
        }
        plan.delete.iter().for_each(|name| out.push_str(&format!("delete {name}\n")));
        plan.left_out.iter().for_each(|name| out.push_str(&format!("{name} waits for its node\n")));
        if out.is_empty() { "nothing to write".to_string() } else { out }
    });
}

#[test]
fn a_service_without_pods_has_one_empty_slice() {
    let (service, mut slices) = (service(), Vec::new());
    let first = decide(&service, &[], &slices);
    assert_eq!((first.create.len(), first.update.len(), first.delete.len()), (1, 0, 0));
    apply(&mut slices, first, 0);
    assert_eq!(decide(&service, &[], &slices), Plan::default());
}

#[test]
fn the_first_pod_takes_over_the_empty_slice() {
    let (service, mut slices) = (service(), Vec::new());
    let plan = decide(&service, &[], &slices);
    apply(&mut slices, plan, 0);
    let next = decide(&service, &[pod(1, true)], &slices);
    assert_eq!((next.create.len(), next.update.len(), next.delete.len()), (0, 1, 0));
    let endpoint = &next.update[0].endpoints.as_ref().expect("endpoints")[0];
    assert_eq!(endpoint.addresses, ["10.1.0.1"]);
    assert_eq!(next.update[0].ports.as_ref().expect("ports")[0].port, Some(8080));
}

#[test]
fn unready_pods_are_listed_as_such() {
    let service = service();
    let plan = decide(&service, &[pod(1, false)], &[]);
    let conditions =
        plan.create[0].endpoints.as_ref().expect("endpoints")[0].conditions.clone().expect("conditions");
    assert_eq!(
        (conditions.ready, conditions.serving, conditions.terminating),
        (Some(false), Some(false), Some(false))
    );
}

#[test]
fn slices_are_full_before_new_ones_are_made() {
    let service = service();
    let pods: Vec<_> = (0..250).map(|i| pod(i, true)).collect();
    let mut slices = Vec::new();
    let plan = decide(&service, &pods, &slices);
    apply(&mut slices, plan, 0);
    assert_eq!(sizes(&slices), [50, 100, 100]);
    let more: Vec<_> = (0..280).map(|i| pod(i, true)).collect();
    let plan = decide(&service, &more, &slices);
    assert_eq!((plan.create.len(), plan.update.len()), (0, 1));
}

#[test]
fn a_pod_on_an_unknown_node_waits() {
    let service = service();
    let pods = [pod(1, true)];
    let plan = plan(
        &View { service: &service, pods: &pods, slices: &[], max_per_slice: 100, triggered: None },
        |_| None,
    );
    assert_eq!(plan.left_out, ["p1"]);
}

#[test]
fn labels_follow_the_service() {
    let (mut service, mut slices) = (service(), Vec::new());
    let plan = decide(&service, &[pod(1, true)], &slices);
    apply(&mut slices, plan, 0);
    service.metadata.labels = None;
    let plan = decide(&service, &[pod(1, true)], &slices);
    assert_eq!(plan.update.len(), 1);
    assert!(!plan.update[0].metadata.labels.as_ref().expect("labels").contains_key("l"));
}

proptest! {
    /// Any change of pods settles in one round, and every pod is in exactly one slice.
    #[test]
    fn plan_then_apply_settles(first in proptest::collection::btree_set(0usize..400, 0..300),
                               second in proptest::collection::btree_set(0usize..400, 0..300)) {
        let (service, mut slices) = (service(), Vec::new());
        for (round, wanted) in [first, second].into_iter().enumerate() {
            let pods: Vec<_> = wanted.iter().map(|i| pod(*i, i % 3 > 0)).collect();
            let plan = decide(&service, &pods, &slices);
            apply(&mut slices, plan, round);
            prop_assert_eq!(decide(&service, &pods, &slices), Plan::default());
            prop_assert_eq!(sizes(&slices).iter().sum::<usize>(), pods.len());
            prop_assert!(sizes(&slices).iter().all(|s| *s <= 100));
        }
    }

    /// Slices that say what is so are left alone, in whatever order they and the pods are seen.
    #[test]
    fn a_satisfied_view_needs_nothing(wanted in proptest::collection::btree_set(0usize..400, 0..300), backwards: bool) {
        let (service, mut slices) = (service(), Vec::new());
        let mut pods: Vec<_> = wanted.iter().map(|i| pod(*i, i % 2 > 0)).collect();
        let first = decide(&service, &pods, &slices);
        apply(&mut slices, first, 0);
        if backwards {
            pods.reverse();
            slices.reverse();
        }
        prop_assert_eq!(decide(&service, &pods, &slices), Plan::default());
    }
}
