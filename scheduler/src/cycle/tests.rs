//! Decisions on small clusters, written as the objects an API server would show.

use std::sync::Arc;

use component::features::Gates;
use rand::SeedableRng;
use serde_json::{Value, json};

use super::*;
use crate::config::KubeSchedulerProfile;
use crate::framework::Nominated;
use crate::listers::Listers;
use crate::model::{Cache, Interner, Place, WireNode, WirePod};
use crate::plugins::registry;

fn node(name: &str, more: Value) -> Arc<WireNode> {
    let mut node = json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "spec": {},
        "status": { "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "10" } },
    });
    merge(&mut node, more);
    Arc::new(serde_json::from_value(node).unwrap())
}

thread_local! {
    static INTERNER: Interner = Interner::default();
}

fn pod(name: &str, cpu: &str, spec: Value) -> Arc<PodInfo> {
    running(name, cpu, spec, json!({}))
}

fn running(name: &str, cpu: &str, spec: Value, status: Value) -> Arc<PodInfo> {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "ns", "uid": name, "labels": { "app": "a" } },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
    });
    merge(&mut pod["spec"], spec);
    pod["status"] = status;
    let pod: WirePod = serde_json::from_value(pod).unwrap();
    Arc::new(PodInfo::new(&INTERNER.with(Clone::clone), &pod))
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(a), Value::Object(b)) => {
            for (k, v) in b {
                merge(a.entry(k).or_insert(Value::Null), v);
            }
        }
        (into, more) => *into = more,
    }
}

/// "node" or the message.
fn decide(nodes: &[Arc<WireNode>], placed: &[(Arc<PodInfo>, &str)], pod: &Arc<PodInfo>) -> String {
    decide_with(&[], nodes, placed, pod)
}

fn decide_with(
    settings: &[&str],
    nodes: &[Arc<WireNode>],
    placed: &[(Arc<PodInfo>, &str)],
    pod: &Arc<PodInfo>,
) -> String {
    let mut gates = Gates::default();
    gates.set(settings).unwrap();
    let mut cache = Cache::new(INTERNER.with(Clone::clone));
    nodes.iter().for_each(|n| cache.set_node(n.clone()));
    placed.iter().for_each(|(p, n)| cache.place(p.clone(), n, Place::Seen));
    let profile = registry::build(&KubeSchedulerProfile::default(), 0, &gates).unwrap();
    let (listers, nominated, groups) = (Listers::default(), Nominated::default(), Groups::default());
    let assumed = Assumed::default();
    let scene = Scene {
        cache: &mut cache,
        listers: &listers,
        nominated: &nominated,
        groups: &groups,
        assumed: &assumed,
        placement: None,
    };
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    match schedule(&profile, scene, pod, &mut Memory::default(), &mut rng) {
        Decision::Place { node, .. } => node,
        Decision::NoNodes => "none".into(),
        Decision::Unfit { diagnosis, .. } => diagnosis.message(),
        Decision::Failed { message, .. } => message,
    }
}

const USELESS: &str = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";

#[test]
fn the_emptier_node_is_taken() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let placed = [(pod("x", "1", json!({})), "a")];
    assert_eq!(decide(&nodes, &placed, &pod("p", "500m", json!({}))), "b");
    assert_eq!(decide(&[], &[], &pod("p", "1", json!({}))), "none");
}

#[test]
fn refusals_read_as_upstreams() {
    let check = |node: Arc<WireNode>, pod: Arc<PodInfo>, expected: &str| {
        let expected = format!("0/1 nodes are available: 1 {expected}. {USELESS}");
        assert_eq!(decide(&[node], &[], &pod), expected);
    };
    let taint = json!({ "spec": { "taints": [{ "key": "k", "effect": "NoSchedule" }] } });
    check(node("a", taint), pod("p", "1", json!({})), "node(s) had untolerated taint(s)");
    check(node("a", json!({})), pod("p", "3", json!({})), "Insufficient cpu");
    let selector = json!({ "nodeSelector": { "disk": "ssd" } });
    let text = "node(s) didn't match Pod's node affinity/selector";
    check(node("a", json!({})), pod("p", "1", selector), text);
    let cordoned = node("a", json!({ "spec": { "unschedulable": true } }));
    check(cordoned, pod("p", "1", json!({})), "node(s) were unschedulable");
}

#[test]
fn no_victims_is_said() {
    let placed = [(pod("x", "2", json!({})), "a")];
    let text = decide(&[node("a", json!({}))], &placed, &pod("p", "1", json!({})));
    let expected = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
                    1 No preemption victims found for incoming pod.";
    assert_eq!(text, expected);
}

#[test]
fn the_cheapest_victim_goes() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let placed = [
        (pod("x", "2", json!({ "priority": 5 })), "a"),
        (pod("y", "1", json!({ "priority": 1 })), "b"),
        (pod("z", "1", json!({ "priority": 1 })), "b"),
    ];
    let text = decide(&nodes, &placed, &pod("p", "1", json!({ "priority": 10 })));
    assert!(text.ends_with("found a potential placement for pod on node b, preempting 1 victims"), "{text}");
}

#[test]
fn anti_affinity_and_spreading_keep_apart() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let like = json!({ "labelSelector": { "matchLabels": { "app": "a" } }, "topologyKey": "kubernetes.io/hostname" });
    let apart = json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [like] } } });
    let placed = [(pod("x", "100m", json!({})), "a")];
    assert_eq!(decide(&nodes, &placed, &pod("p", "100m", apart)), "b");
    let mut spread = like.clone();
    merge(&mut spread, json!({ "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule" }));
    let spread = json!({ "topologySpreadConstraints": [spread] });
    assert_eq!(decide(&nodes, &placed, &pod("p", "100m", spread)), "b");
}

#[test]
fn what_is_not_there_stays_pending() {
    let claims = json!({ "resourceClaims": [{ "name": "gpu", "resourceClaimName": "gpu" }] });
    let text = decide(&[node("a", json!({}))], &[], &pod("p", "1", claims));
    assert!(text.contains("could not find ResourceClaim"), "{text}");
    // Nobody places groups while their gate is off.
    let group = json!({ "schedulingGroup": { "podGroupName": "g" } });
    assert_eq!(decide(&[node("a", json!({}))], &[], &pod("p", "1", group)), "a");
}

/// A pod that runs on "a" and is to grow to so much.
fn growing(cpu: &str) -> Arc<PodInfo> {
    let condition = json!({ "type": "PodResizePending", "status": "True", "reason": "Deferred" });
    let more = json!({ "nodeName": "a", "priority": 10 });
    let status = json!({ "conditions": [condition] });
    running("p", cpu, more, status)
}

#[test]
fn room_is_made_for_a_pod_that_is_to_grow() {
    let gate = ["InPlacePodVerticalScalingSchedulerPreemption=true"];
    let grown = growing("1500m");
    let other = pod("x", "1", json!({}));
    let check = |nodes: &[Arc<WireNode>], placed: &[(Arc<PodInfo>, &str)], expected: &str| {
        assert_eq!(decide_with(&gate, nodes, placed, &grown), expected);
    };
    // What other plugins would say of the node does not count any more.
    let taint =
        json!({ "spec": { "unschedulable": true, "taints": [{ "key": "k", "effect": "NoSchedule" }] } });
    let fits = "0/1 nodes are available: 1 pod resize fits, waiting for Kubelet actuation.";
    check(&[node("a", taint)], &[(grown.clone(), "a")], fits);
    let victims = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeName]. \
                   preemption: found a potential placement for pod on node a, preempting 1 victims";
    let nodes = [node("a", json!({})), node("b", json!({}))];
    check(&nodes, &[(grown.clone(), "a"), (other.clone(), "a")], victims);
    let forbidden = json!({ "spec": { "podPreemptionPolicy": { "disableResizePreemption": ["me"] } } });
    let refused = format!("0/1 nodes are available: 1 node had resize preemption disabled. {USELESS}");
    check(&[node("a", forbidden)], &[(grown.clone(), "a"), (other.clone(), "a")], &refused);
    // Nobody who is as important goes.
    let equal = pod("y", "1", json!({ "priority": 10 }));
    let none = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
                1 No preemption victims found for incoming pod.";
    check(&nodes[..1], &[(grown.clone(), "a"), (equal, "a")], none);
    // More than the node has.
    let huge = growing("3");
    let text = decide_with(&gate, &nodes[..1], &[(huge.clone(), "a")], &huge);
    assert_eq!(text, format!("0/1 nodes are available: 1 Insufficient cpu. {USELESS}"));
}

#[test]
fn what_is_remembered_holds_until_rows_or_waiting_pods_change() {
    let mut cache = Cache::new(INTERNER.with(Clone::clone));
    [node("a", json!({})), node("b", json!({}))].into_iter().for_each(|n| cache.set_node(n));
    let of = |name: &str, priority: i32| pod(name, "2", json!({ "priority": priority }));
    cache.place(of("x", 1), "a", Place::Seen);
    cache.place(of("y", 1), "b", Place::Seen);
    let profile = registry::build(&KubeSchedulerProfile::default(), 0, &Gates::default()).unwrap();
    let (listers, groups, assumed) = (Listers::default(), Groups::default(), Assumed::default());
    let mut memory = Memory::default();
    let mut ask = |cache: &mut Cache, nominated: &Nominated| {
        let (listers, groups, assumed) = (&listers, &groups, &assumed);
        let scene = Scene { cache, listers, nominated, groups, assumed, placement: None };
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        match schedule(&profile, scene, &of("q", 10), &mut memory, &mut rng) {
            Decision::Place { node, .. } => node,
            Decision::Unfit { preemption: Preemption::Evict { node, .. }, .. } => {
                format!("make room on {node}")
            }
            Decision::Unfit { preemption, .. } => preemption.message(),
            other => format!("{other:?}"),
        }
    };
    let nobody = Nominated::default();
    let first = ask(&mut cache, &nobody);
    assert!(first.starts_with("make room on "), "{first}");
    let wait = |name: &str| Nominated::from_iter([(name.to_string(), vec![of("p", 10)])]);
    assert_eq!(ask(&mut cache, &wait("a")), "make room on b");
    assert_eq!(ask(&mut cache, &wait("b")), "make room on a");
    assert_eq!(ask(&mut cache, &nobody), first);
    // Room is made, and another pod takes it.
    cache.remove(&"x".into());
    assert_eq!(ask(&mut cache, &nobody), "a");
    assert_eq!(ask(&mut cache, &wait("a")), "make room on b");
    cache.place(of("z", 100), "a", Place::Seen);
    assert_eq!(ask(&mut cache, &nobody), "make room on b");
    cache.remove(&"y".into());
    cache.place(of("w", 10), "b", Place::Seen);
    assert!(ask(&mut cache, &nobody).contains("No preemption victims found"));
}
