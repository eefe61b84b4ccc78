//! Groups whose pods share claims, and groups that others than plugins have a say about.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::resource::v1::ResourceClaim;
use serde_json::{Value, json};

use super::attempt::PodEnd;
use super::tests::{World, gang};
use super::*;
use crate::cycle::{self, Decision};
use crate::framework::Diagnosis;
use crate::preemption::Preemption;

/// Two nodes with a device each.
fn with_devices(claims: Vec<Value>) -> World {
    let mut world = World::with(&["GenericWorkload=true", "DRAWorkloadResourceClaims=true"], &["a", "b"]);
    let slice = |node: &str| {
        json!({
            "metadata": { "name": node },
            "spec": {
                "driver": "d", "nodeName": node, "devices": [{ "name": "x" }],
                "pool": { "name": node, "generation": 1, "resourceSliceCount": 1 },
            },
        })
    };
    let typed = |list: Vec<Value>| list.into_iter().map(|o| serde_json::from_value(o).unwrap());
    world.listers = Listers {
        resource_slices: ["a", "b"].map(|n| serde_json::from_value(slice(n)).unwrap()).into_iter().collect(),
        device_classes: [
            serde_json::from_value(json!({ "metadata": { "name": "any" }, "spec": {} })).unwrap()
        ]
        .into_iter()
        .collect(),
        resource_claims: typed(claims).collect(),
        ..Listers::default()
    }
    .indexed();
    world
        .listers
        .resource_claims
        .for_each(|_, claim: &Arc<ResourceClaim>| world.state.assumed.claim_seen(claim, false));
    world
}

fn claim(status: Value) -> Value {
    let exactly = json!({ "deviceClassName": "any", "allocationMode": "ExactCount", "count": 1 });
    json!({
        "metadata": { "name": "k", "namespace": "n", "uid": "k", "resourceVersion": "1" },
        "spec": { "devices": { "requests": [{ "name": "r", "exactly": exactly }] } },
        "status": status,
    })
}

/// The group has the claim, and so have its pods.
fn group_with_claim(world: &mut World, pods: usize) {
    let own = json!([{ "name": "c", "resourceClaimName": "k" }]);
    let mut spec = gang(i32::try_from(pods).unwrap());
    spec["resourceClaims"] = own.clone();
    world.group("g", spec);
    for i in 0..pods {
        let name = format!("p{i}");
        let info = world.known(json!({
            "metadata": { "name": name, "namespace": "n", "uid": name },
            "spec": {
                "priority": 10,
                "schedulingGroup": { "podGroupName": "g" },
                "resourceClaims": own,
                "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }],
            },
        }));
        world.state.queue.add(info, None, Instant::now());
    }
}

#[test]
fn pods_of_a_group_share_what_one_of_them_gets() {
    let mut world = with_devices(vec![claim(json!({}))]);
    group_with_claim(&mut world, 2);
    let attempt = world.attempt();
    assert_eq!(attempt.node.status, Status::Placed);
    let nodes = attempt.nodes();
    assert_eq!((nodes.len(), nodes[0]), (2, nodes[1]), "where the device is");
    let claim = world.listers.resource_claims.get("n/k").unwrap();
    assert!(world.state.assumed.is_being_allocated(&claim));
    // Whoever comes later waits until it is written.
    assert!(world.state.assumed.shared(&claim).is_none());
    for (_, end) in &attempt.node.results {
        let PodEnd::Placed(placed) = end else { panic!("{end:?}") };
        let holder = placed.allotments()[0].holder.clone().unwrap();
        assert_eq!((holder.resource.as_str(), holder.name.as_str()), ("podgroups", "g"));
    }
    attempt.node.take_back(&mut world.state);
    assert!(!world.state.assumed.is_being_allocated(&claim), "nobody needs it any more");
}

#[test]
fn a_claim_of_the_group_is_freed_where_nothing_else_is() {
    let group = || {
        serde_json::from_value::<k8s_openapi::api::scheduling::v1beta1::PodGroup>(json!({
        "metadata": { "name": "g", "namespace": "n", "uid": "g" },
        "spec": { "schedulingPolicy": { "basic": {} }, "resourceClaims": [{ "name": "c", "resourceClaimName": "k" }] },
    })).unwrap()
    };
    let reserved = |name: &str| {
        json!({
            "allocation": {},
            "reservedFor": [{ "apiGroup": "scheduling.k8s.io", "resource": "podgroups", "name": name, "uid": name }],
        })
    };
    let said = |status: Value, blocked: bool| {
        let world = with_devices(vec![claim(status)]);
        let claim = world.listers.resource_claims.get("n/k").unwrap();
        let blocked = if blocked { vec![claim] } else { Vec::new() };
        group_claims::to_free(&world.listers, &group(), &blocked).unwrap().map(|free| free.message())
    };
    let (given_back, released) = (
        Some("deallocation of PodGroup ResourceClaim completed"),
        Some("ResourceClaim unreserved for PodGroup"),
    );
    assert_eq!(said(json!({ "allocation": {} }), true), given_back);
    assert_eq!(said(reserved("g"), true), given_back);
    assert_eq!(said(reserved("h"), true), None);
    assert_eq!(said(reserved("g"), false), released);
    assert_eq!(said(reserved("h"), false), None);
    assert_eq!(said(json!({}), false), None);
    let world = with_devices(Vec::new());
    let missing = group_claims::to_free(&world.listers, &group(), &[]).unwrap_err();
    assert_eq!(missing, "could not find ResourceClaim \"n/k\"");
}

/// As if an extender refused a node.
struct Refusing<'a> {
    state: State,
    listers: &'a Listers,
    node: &'a str,
}

impl Ground for Refusing<'_> {
    fn with<R>(&mut self, act: impl FnOnce(&mut State, &Listers) -> R) -> R {
        act(&mut self.state, self.listers)
    }

    fn decide(&mut self, profile: &Profile, pod: &Arc<PodInfo>) -> impl Future<Output = Decision> + Send {
        let (scene, memory, rng) = self.state.scene(self.listers);
        let decision = match cycle::schedule(profile, scene, pod, memory, rng) {
            Decision::Place { node, .. } if node == self.node => Decision::Unfit {
                diagnosis: Diagnosis { all_nodes: 1, ..Diagnosis::default() },
                preemption: Preemption::Off,
                free: Default::default(),
            },
            other => other,
        };
        std::future::ready(decision)
    }
}

#[test]
fn victims_make_room_where_extenders_agree() {
    let victims = |refused: &str| {
        let mut world = World::with(&["GenericWorkload=true"], &["a"]);
        world.placed("x", None, "2", "a");
        world.group("g", gang(1));
        world.waiting("p", "g", "2", 10);
        let PoppedGroup { tree, pods, .. } = world.pop();
        let profile = world.profile.of_a_group();
        let search = Search { profile: &profile, metrics: None };
        let before = (world.state.cache.pods(), world.state.cache.assumed());
        let mut ground = Refusing { state: world.state.apart(), listers: &world.listers, node: refused };
        let answer = preemption::preempt(&mut ground, &search, &tree, &pods).now_or_never().unwrap();
        // It was tried on a copy.
        assert_eq!((world.state.cache.pods(), world.state.cache.assumed()), before);
        assert_eq!(ground.state.cache.pods(), before.0);
        answer.victims.iter().map(|v| v.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(victims("none"), ["x"]);
    assert_eq!(victims("a"), Vec::<String>::new());
}
