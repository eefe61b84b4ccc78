//! Attempts to place groups on small clusters.

use std::sync::Arc;
use std::time::Duration;

use component::features::Gates;
use rand::SeedableRng;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::attempt::PodEnd;
use super::*;
use crate::config::KubeSchedulerProfile;
use crate::listers::Listers;
use crate::model::{Interner, Place, WirePod};
use crate::plugins::registry;
use crate::queue::{Next, Periods};

struct World {
    state: State,
    interner: Interner,
    listers: Listers,
    profile: Profile,
}

impl World {
    /// Nodes with two CPUs each.
    fn new(nodes: &[&str]) -> Self {
        Self::with(&["GenericWorkload=true"], nodes)
    }

    /// The same in racks ("rack/node"), where groups may name what their nodes must share.
    fn in_racks(nodes: &[&str]) -> Self {
        Self::with(&["GenericWorkload=true", "TopologyAwareWorkloadScheduling=true"], nodes)
    }

    fn with(settings: &[&str], nodes: &[&str]) -> Self {
        let mut gates = Gates::default();
        gates.set(settings).unwrap();
        let profile = registry::build(&KubeSchedulerProfile::default(), 0, &gates).unwrap();
        let interner = Interner::default();
        let second = Duration::from_secs(1);
        let periods = Periods { initial_backoff: second, max_backoff: second, max_unschedulable: second };
        let rng = rand::rngs::StdRng::seed_from_u64(1);
        let mut state = State::new(interner.clone(), periods, true, rng);
        for name in nodes {
            let (rack, name) = name.split_once('/').unwrap_or(("", name));
            let mut labels = json!({ "kubernetes.io/hostname": name });
            if !rack.is_empty() {
                labels["rack"] = rack.into();
            }
            let node = json!({
                "metadata": { "name": name, "labels": labels },
                "status": { "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "10" } },
            });
            state.cache.set_node(Arc::new(serde_json::from_value(node).unwrap()));
        }
        Self { state, interner, listers: Listers::default(), profile }
    }

    fn group(&mut self, name: &str, spec: Value) {
        let object = json!({ "metadata": { "name": name, "namespace": "n", "uid": name }, "spec": spec });
        let object = Arc::new(serde_json::from_value(object).unwrap());
        let key = format!("n/{name}").into();
        self.state.groups.set(&key, Some(Arc::clone(&object)));
        self.state.queue.set_group(&key, Some(object), Instant::now());
    }

    fn pod(&mut self, name: &str, group: Option<&str>, cpu: &str, priority: i32) -> Arc<PodInfo> {
        let group = group.map(|g| json!({ "podGroupName": g }));
        let pod = json!({
            "metadata": { "name": name, "namespace": "n", "uid": name, "labels": { "app": name } },
            "spec": {
                "priority": priority,
                "schedulingGroup": group,
                "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }],
            },
        });
        let pod: WirePod = serde_json::from_value(pod).unwrap();
        let info = Arc::new(PodInfo::new(&self.interner, &pod));
        self.state.groups.add(&info);
        info
    }

    fn waiting(&mut self, name: &str, group: &str, cpu: &str, priority: i32) {
        let info = self.pod(name, Some(group), cpu, priority);
        self.state.queue.add(info, None, Instant::now());
    }

    fn placed(&mut self, name: &str, group: Option<&str>, cpu: &str, node: &str) {
        let info = self.pod(name, group, cpu, 0);
        self.state.cache.place(info, node, Place::Seen);
    }

    fn attempt(&mut self) -> Attempt {
        let State { queue, groups, .. } = &mut self.state;
        let gate =
            |pod: &PodInfo| self.profile.pre_enqueue(&self.listers, groups, pod).err().map(|r| r.plugin);
        let Some(Next::Group(popped)) = queue.pop(Instant::now(), gate) else { panic!("no group is ready") };
        let profile = self.profile.of_a_group();
        let search = Search { profile: &profile, metrics: None };
        search.root_at_once(&mut self.state, &self.listers, popped.object, popped.pods)
    }

    fn preempt(&mut self, attempt: &Attempt) -> Answer {
        let profile = self.profile.of_a_group();
        let search = Search { profile: &profile, metrics: None };
        preemption::preempt(&mut self.state, &self.listers, &search, attempt)
    }
}

fn gang(fewest: i32) -> Value {
    json!({ "priority": 10, "schedulingPolicy": { "gang": { "minCount": fewest } } })
}

#[test]
fn a_gang_that_fits_is_placed() {
    let mut world = World::new(&["a", "b"]);
    world.group("g", gang(4));
    (0..4).for_each(|i| world.waiting(&format!("p{i}"), "g", "1", 10));
    let attempt = world.attempt();
    assert_eq!(attempt.status, Status::Placed);
    assert_eq!(world.state.cache.assumed(), 4);
    let (ended, status) = settle(&mut world.state, attempt, None, Instant::now());
    assert_eq!(status, Status::Placed);
    assert!(ended.iter().all(|(_, outcome)| matches!(outcome, Outcome::Bind { .. })));
}

#[test]
fn all_or_nothing() {
    let mut world = World::new(&["a"]);
    world.group("g", gang(3));
    (0..3).for_each(|i| world.waiting(&format!("p{i}"), "g", "1", 10));
    let attempt = world.attempt();
    // Upstream stops as soon as too few are left, and says so without more.
    assert_eq!(attempt.status.message(), "minCount (3) cannot be satisfied: 2 scheduled, 0 remaining");
    assert_eq!(world.state.cache.assumed(), 0);
    let answer = world.preempt(&attempt);
    let (ended, status) = settle(&mut world.state, attempt, Some(&answer), Instant::now());
    let group = "minCount (3) cannot be satisfied: 2 scheduled, 0 remaining, pod group preemption: \
                 No preemption victims found for incoming preemptor";
    assert_eq!(status.message(), group);
    let messages: Vec<&str> = ended
        .iter()
        .map(|(_, outcome)| match outcome {
            Outcome::Refused { message, .. } => message.as_str(),
            _ => "",
        })
        .collect();
    let placed = format!("pod group is unschedulable, {group}");
    assert_eq!(messages, [&placed, &placed, "0/1 nodes are available: 1 Insufficient cpu."]);
}

#[test]
fn pods_beyond_the_fewest_may_stay_behind() {
    let mut world = World::new(&["a"]);
    world.group("g", gang(2));
    (0..3).for_each(|i| world.waiting(&format!("p{i}"), "g", "1", 10));
    let attempt = world.attempt();
    assert_eq!(attempt.status, Status::Placed);
    assert!(matches!(attempt.results[2].1, PodEnd::Refused { .. }));
}

#[test]
fn a_group_that_is_no_gang_needs_one_pod() {
    let mut world = World::new(&["a"]);
    world.group("g", json!({ "schedulingPolicy": { "basic": {} } }));
    world.waiting("big", "g", "9", 0);
    world.waiting("small", "g", "1", 0);
    assert_eq!(world.attempt().status, Status::Placed);
    let mut world = World::new(&["a"]);
    world.group("g", json!({ "schedulingPolicy": { "basic": {} } }));
    world.waiting("big", "g", "9", 0);
    let message = world.attempt().status.message();
    assert_eq!(message, "minCount (1) cannot be satisfied: 0 scheduled, 0 remaining");
}

#[test]
fn a_gang_waits_until_it_is_complete() {
    let mut world = World::new(&["a"]);
    world.group("g", gang(2));
    world.waiting("p0", "g", "1", 10);
    let State { queue, groups, .. } = &mut world.state;
    let gate = |pod: &PodInfo| world.profile.pre_enqueue(&world.listers, groups, pod).err().map(|r| r.plugin);
    assert!(queue.pop(Instant::now(), gate).is_none());
    // One that is placed already counts.
    world.placed("there", Some("g"), "1", "a");
    world.state.queue.wake_groups(Instant::now(), "AssignedPodAdd", None, |_, _| true, |_, _| true);
    let attempt = world.attempt();
    assert_eq!((attempt.status.clone(), attempt.results.len()), (Status::Placed, 1));
}

#[test]
fn the_least_important_go_and_no_more_than_needed() {
    let mut world = World::new(&["a", "b"]);
    world.placed("x", None, "1", "a");
    world.placed("y", None, "1", "a");
    world.placed("z", None, "2", "b");
    world.group("g", gang(2));
    (0..2).for_each(|i| world.waiting(&format!("p{i}"), "g", "1", 10));
    let attempt = world.attempt();
    let answer = world.preempt(&attempt);
    assert!(answer.waits());
    let nodes: Vec<&str> = ["p0", "p1"].iter().filter_map(|p| answer.nominated(&(*p).into())).collect();
    let victims: Vec<&str> = answer.victims.iter().map(|v| &*v.name).collect();
    match nodes.as_slice() {
        ["a", "a"] => assert_eq!(victims.len(), 2),
        ["b", "b"] => assert_eq!(victims, ["z"]),
        _ => assert_eq!(victims.len(), 2, "{nodes:?}"),
    }
    // All is as it was.
    assert_eq!((world.state.cache.pods(), world.state.cache.assumed()), (3, 0));
    let (ended, _) = settle(&mut world.state, attempt, Some(&answer), Instant::now());
    assert!(
        ended.iter().all(|(_, o)| matches!(o, Outcome::Refused { nominate: Some(n), .. } if !n.is_empty()))
    );
}

#[test]
fn a_group_that_goes_as_one_goes_whole() {
    let mut world = World::new(&["a", "b"]);
    let low = json!({ "priority": 0, "schedulingPolicy": { "basic": {} }, "disruptionMode": { "all": {} } });
    world.group("low", low);
    world.placed("l0", Some("low"), "2", "a");
    world.placed("l1", Some("low"), "2", "b");
    world.group("g", gang(1));
    world.waiting("p", "g", "2", 10);
    let attempt = world.attempt();
    let answer = world.preempt(&attempt);
    assert_eq!((answer.victims.len(), answer.groups_hit), (2, 1));
}

fn in_one_rack(policy: Value) -> Value {
    json!({
        "priority": 10,
        "schedulingPolicy": policy,
        "schedulingConstraints": { "topology": [{ "key": "rack" }] },
    })
}

fn nodes(attempt: &Attempt) -> Vec<&str> {
    attempt.assignments().map(|(_, placed)| placed.node.as_str()).collect()
}

#[test]
fn a_gang_goes_where_all_of_it_fits() {
    let mut world = World::in_racks(&["r1/a", "r2/b", "r2/c", "d"]);
    world.group("g", in_one_rack(json!({ "gang": { "minCount": 3 } })));
    (0..3).for_each(|i| world.waiting(&format!("p{i}"), "g", "1", 10));
    let attempt = world.attempt();
    assert_eq!(attempt.status, Status::Placed);
    assert!(nodes(&attempt).iter().all(|n| ["b", "c"].contains(n)), "{:?}", nodes(&attempt));
    // What was tried in the other rack is taken back.
    assert_eq!(world.state.cache.assumed(), 3);
    assert!(world.state.placement.is_none());
}

#[test]
fn no_rack_takes_the_gang() {
    let mut world = World::in_racks(&["r1/a", "r2/b"]);
    world.group("g", in_one_rack(json!({ "gang": { "minCount": 3 } })));
    (0..3).for_each(|i| world.waiting(&format!("p{i}"), "g", "1", 10));
    let attempt = world.attempt();
    let first = "minCount (3) cannot be satisfied: 2 scheduled, 0 remaining";
    let text =
        format!("pod group is unschedulable, 0/2 placements are available, first placement status: {first}");
    assert_eq!(attempt.status.message(), text);
    assert_eq!(world.state.cache.assumed(), 0);
    assert!(matches!(attempt.results[2].1, PodEnd::Refused { .. }));
}

#[test]
fn no_node_is_in_a_rack() {
    let mut world = World::in_racks(&["a", "b"]);
    world.group("g", in_one_rack(json!({ "basic": {} })));
    world.waiting("p", "g", "1", 10);
    let attempt = world.attempt();
    assert_eq!(attempt.status.message(), "no feasible placements found");
    let (ended, _) = settle(&mut world.state, attempt, None, Instant::now());
    assert!(
        matches!(&ended[0].1, Outcome::Refused { message, .. } if message == "no feasible placements found")
    );
}

#[test]
fn others_follow_where_pods_are_already() {
    let mut world = World::in_racks(&["r1/a", "r2/b", "r2/c"]);
    world.placed("there", Some("g"), "1", "a");
    world.group("g", in_one_rack(json!({ "basic": {} })));
    world.waiting("p", "g", "1", 10);
    let attempt = world.attempt();
    assert_eq!((attempt.status.clone(), nodes(&attempt)), (Status::Placed, vec!["a"]));
    let mut world = World::in_racks(&["r1/a", "r2/b", "r2/c"]);
    world.placed("there", Some("g"), "1", "a");
    world.placed("astray", Some("g"), "1", "b");
    world.group("g", in_one_rack(json!({ "basic": {} })));
    world.waiting("q", "g", "1", 10);
    let error = world.attempt().status.message();
    let (one, other) = ("r1, r2", "r2, r1");
    let said = |order: &str| {
        format!(
            "cannot determine domain for already scheduled pods: more than 1 domain found for pod group: {order}"
        )
    };
    assert!([said(one), said(other)].contains(&error), "{error}");
}

#[test]
fn the_rack_that_takes_more_is_better_then_the_fuller() {
    let mut world = World::in_racks(&["r1/a", "r2/b", "r2/c"]);
    world.group("g", in_one_rack(json!({ "basic": {} })));
    (0..3).for_each(|i| world.waiting(&format!("p{i}"), "g", "1", 10));
    assert_eq!(nodes(&world.attempt()).iter().filter(|n| **n != "a").count(), 3);
    let mut world = World::in_racks(&["r1/a", "r2/b", "r2/c"]);
    world.placed("x", None, "1", "b");
    world.placed("y", None, "2", "c");
    world.group("g", in_one_rack(json!({ "basic": {} })));
    world.waiting("p", "g", "1", 10);
    assert_eq!(nodes(&world.attempt()), ["b"]);
}

#[test]
fn victims_are_looked_for_rack_by_rack() {
    let mut world = World::in_racks(&["r1/a", "r2/b", "r2/c"]);
    world.placed("x", None, "2", "b");
    world.group("g", in_one_rack(json!({ "gang": { "minCount": 4 } })));
    (0..4).for_each(|i| world.waiting(&format!("p{i}"), "g", "1", 10));
    let attempt = world.attempt();
    assert!(matches!(attempt.status, Status::Refused(_)));
    let answer = world.preempt(&attempt);
    assert_eq!(answer.victims.iter().map(|v| &*v.name).collect::<Vec<_>>(), ["x"]);
    assert_eq!((world.state.cache.pods(), world.state.cache.assumed()), (1, 0));
}
