//! What the Endpoints of a Service say.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use proptest::prelude::*;
use serde_json::json;

use super::plan::{Plan, View, is_ours, plan};
use crate::kept::Pod;
use crate::scenario;

fn show(plan: &Plan) -> String {
    match plan {
        Plan::Nothing => "nothing to write".to_string(),
        Plan::Create(new) => format!("create\n{}", scenario::yaml(new)),
        Plan::Update(new) => format!("update\n{}", scenario::yaml(new)),
    }
}

#[test]
fn scenarios() {
    scenario::check("endpoints/testdata", |given| {
        let service: Service = given.one();
        if !is_ours(&service) {
            return "not ours".to_string();
        }
        let (pods, current) = (given.shared::<Pod>(), given.maybe::<Endpoints>());
        let view = View {
            service: &service,
            pods: &pods,
            current: current.as_ref(),
            triggered: given.setting("triggered"),
        };
        show(&plan(&view))
    });
}

fn service(ports: &[&str], unready_too: bool) -> Service {
    let ports: Vec<_> = ports.iter().map(|p| json!({"name": p, "port": 80, "targetPort": p})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "n", "labels": {"l": "v"}},
        "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": {"a": "b"}, "ports": ports,
                 "publishNotReadyAddresses": unready_too},
    }))
    .expect("a service")
}

fn pod(index: usize) -> Arc<Pod> {
    let ready = if index.is_multiple_of(3) { "False" } else { "True" };
    // Some pods name only one of the ports.
    let mut ports = vec![json!({"name": "http", "containerPort": 8080})];
    if index.is_multiple_of(2) {
        ports.push(json!({"name": "metrics", "containerPort": 9090}));
    }
    let pod = json!({
        "metadata": {"name": format!("p{index}"), "namespace": "n", "uid": format!("u{index}")},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": ports}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.1.{}.{}", index / 250, index % 250)}],
            "conditions": [{"type": "Ready", "status": ready}]},
    });
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn apply(plan: Plan) -> Option<Endpoints> {
    match plan {
        Plan::Nothing => None,
        Plan::Create(new) => Some(*new),
        Plan::Update(new) => Some(*new),
    }
}

#[test]
fn too_many_addresses_are_cut_unready_ones_first() {
    let service = service(&["http"], false);
    let pods: Vec<_> = (0..1200).map(pod).collect();
    let new = apply(plan(&View { service: &service, pods: &pods, current: None, triggered: None }))
        .expect("a plan");
    let subset = &new.subsets.as_ref().expect("subsets")[0];
    let count = |list: &Option<Vec<_>>| list.as_ref().map_or(0, Vec::len);
    assert_eq!((count(&subset.addresses), count(&subset.not_ready_addresses)), (800, 200));
    assert_eq!(
        new.metadata.annotations.expect("annotations")["endpoints.kubernetes.io/over-capacity"],
        "truncated"
    );
}

proptest! {
    /// What was written once is right: the same pods, in any order, call for no other write.
    #[test]
    fn plan_then_apply_settles(
        first in proptest::collection::btree_set(0usize..60, 0..30),
        second in proptest::collection::btree_set(0usize..60, 0..30),
        unready_too in any::<bool>(),
    ) {
        let service = service(&["http", "metrics"], unready_too);
        let mut current: Option<Endpoints> = None;
        for wanted in [first, second] {
            let mut pods: Vec<_> = wanted.iter().copied().map(pod).collect();
            let decided = plan(&View { service: &service, pods: &pods, current: current.as_ref(), triggered: None });
            if let Some(new) = apply(decided) {
                current = Some(new);
            }
            pods.reverse();
            let again = plan(&View { service: &service, pods: &pods, current: current.as_ref(), triggered: None });
            prop_assert_eq!(again, Plan::Nothing);
        }
    }

    /// Endpoints that say what they should stay, whatever the last change was.
    #[test]
    fn a_satisfied_view_needs_nothing(pods in proptest::collection::btree_set(0usize..60, 0..30), at in 0i64..1000) {
        let service = service(&["http"], false);
        let pods: Vec<_> = pods.iter().copied().map(pod).collect();
        let made = apply(plan(&View { service: &service, pods: &pods, current: None, triggered: None })).expect("a plan");
        let triggered = Some(jiff::Timestamp::from_second(at).expect("a time"));
        let view = View { service: &service, pods: &pods, current: Some(&made), triggered };
        prop_assert_eq!(plan(&view), Plan::Nothing);
    }
}
