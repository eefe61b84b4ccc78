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
        let mut gates = Gates::default();
        gates.set(&["GenericWorkload=true"]).unwrap();
        let profile = registry::build(&KubeSchedulerProfile::default(), 0, &gates).unwrap();
        let interner = Interner::default();
        let second = Duration::from_secs(1);
        let periods = Periods { initial_backoff: second, max_backoff: second, max_unschedulable: second };
        let rng = rand::rngs::StdRng::seed_from_u64(1);
        let mut state = State::new(interner.clone(), periods, true, rng);
        for name in nodes {
            let node = json!({
                "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
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
        let mut attempt = Attempt::new(&self.state, &profile, popped.object, popped.pods);
        attempt.run(&mut self.state, &self.listers, &profile);
        attempt.end(&mut self.state);
        attempt
    }

    fn preempt(&mut self, attempt: &Attempt) -> Answer {
        let profile = self.profile.of_a_group();
        preemption::preempt(&mut self.state, &self.listers, &profile, attempt)
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
