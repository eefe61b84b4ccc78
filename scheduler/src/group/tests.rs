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

/// A group that was tried.
pub(super) struct Attempt {
    pub(super) node: Node,
    pub(super) tree: Tree,
    pub(super) pods: Vec<Popped>,
}

impl Attempt {
    pub(super) fn nodes(&self) -> Vec<&str> {
        self.node.placed().into_iter().map(|(_, placed)| placed.node.as_str()).collect()
    }
}

pub(super) struct World {
    pub(super) state: State,
    interner: Interner,
    pub(super) listers: Listers,
    pub(super) profile: Profile,
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

    /// The same with groups of groups.
    fn nested(nodes: &[&str]) -> Self {
        let gates =
            ["GenericWorkload=true", "TopologyAwareWorkloadScheduling=true", "CompositePodGroup=true"];
        Self::with(&gates, nodes)
    }

    pub(super) fn with(settings: &[&str], nodes: &[&str]) -> Self {
        let mut gates = Gates::default();
        gates.set(settings).unwrap();
        let profile = registry::build(&KubeSchedulerProfile::default(), 0, &gates).unwrap();
        let interner = Interner::default();
        let second = Duration::from_secs(1);
        let periods = Periods { initial_backoff: second, max_backoff: second, max_unschedulable: second };
        let rng = rand::rngs::StdRng::seed_from_u64(1);
        let mut state =
            State::new(interner.clone(), periods, (true, gates.enabled(Gate::CompositePodGroup)), rng);
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

    pub(super) fn group(&mut self, name: &str, spec: Value) {
        let object = json!({ "metadata": { "name": name, "namespace": "n", "uid": name }, "spec": spec });
        self.set(GroupObject::Pods(Arc::new(serde_json::from_value(object).unwrap())));
    }

    /// A group of groups.
    fn composite(&mut self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["workloadRef"] = json!({ "workloadName": "w", "templateName": "t" });
        let object = json!({ "metadata": { "name": name, "namespace": "n", "uid": name }, "spec": spec });
        self.set(GroupObject::Groups(Arc::new(serde_json::from_value(object).unwrap())));
    }

    /// A gang of a group of groups, and its pods with one CPU each.
    fn child(&mut self, name: &str, parent: &str, fewest: i32, pods: usize) {
        let mut spec = gang(fewest);
        spec["parentCompositePodGroupName"] = parent.into();
        self.group(name, spec);
        (0..pods).for_each(|i| self.waiting(&format!("{name}{i}"), name, "1", 10));
    }

    fn set(&mut self, object: GroupObject) {
        let key = object.key();
        self.state.groups.set(&key, Some(object.clone()));
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
        self.known(pod)
    }

    pub(super) fn known(&mut self, pod: Value) -> Arc<PodInfo> {
        let pod: WirePod = serde_json::from_value(pod).unwrap();
        let info = Arc::new(PodInfo::new(&self.interner, &pod));
        self.state.groups.add(&info);
        info
    }

    pub(super) fn waiting(&mut self, name: &str, group: &str, cpu: &str, priority: i32) {
        let info = self.pod(name, Some(group), cpu, priority);
        self.state.queue.add(info, None, Instant::now());
    }

    pub(super) fn placed(&mut self, name: &str, group: Option<&str>, cpu: &str, node: &str) {
        let info = self.pod(name, group, cpu, 0);
        self.state.cache.place(info, node, Place::Seen);
    }

    pub(super) fn attempt(&mut self) -> Attempt {
        let PoppedGroup { tree, pods, .. } = self.pop();
        let profile = self.profile.of_a_group();
        let search = Search { profile: &profile, metrics: None };
        let node = search.root_at_once(&mut self.state, &self.listers, &tree, &pods);
        Attempt { node: node.completed(&tree, &pods), tree, pods }
    }

    /// Something changed: whoever is held back may go on.
    fn wake(&mut self) {
        self.state.queue.wake_groups(Instant::now(), "UnscheduledPodAdd", None, |_, _| true, |_, _| true);
    }

    pub(super) fn pop(&mut self) -> PoppedGroup {
        self.ready().expect("no group is ready")
    }

    fn ready(&mut self) -> Option<PoppedGroup> {
        let State { queue, groups, .. } = &mut self.state;
        let gate =
            |pod: &PodInfo| self.profile.pre_enqueue(&self.listers, groups, pod).err().map(|r| r.plugin);
        match queue.pop(Instant::now(), gate)? {
            Next::Group(popped) => Some(popped),
            Next::Pod(_) => None,
        }
    }

    fn preempt(&mut self, attempt: &Attempt) -> Answer {
        let profile = self.profile.of_a_group();
        let search = Search { profile: &profile, metrics: None };
        let preempt = |state: &mut State| {
            preemption::preempt_at_once(state, &self.listers, &search, &attempt.tree, &attempt.pods)
        };
        follow(&mut self.state, &self.listers, &profile, &attempt.node, preempt)
    }
}

pub(super) fn gang(fewest: i32) -> Value {
    json!({ "priority": 10, "schedulingPolicy": { "gang": { "minCount": fewest } } })
}

#[test]
fn a_gang_that_fits_is_placed() {
    let mut world = World::new(&["a", "b"]);
    world.group("g", gang(4));
    (0..4).for_each(|i| world.waiting(&format!("p{i}"), "g", "1", 10));
    let attempt = world.attempt();
    assert_eq!(attempt.node.status, Status::Placed);
    assert_eq!(world.state.cache.assumed(), 4);
    let (ended, status) = settle(&mut world.state, attempt.node, None, 1, Instant::now());
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
    assert_eq!(attempt.node.status.message(), "minCount (3) cannot be satisfied: 2 scheduled, 0 remaining");
    assert_eq!(world.state.cache.assumed(), 0);
    let answer = world.preempt(&attempt);
    let (ended, status) = settle(&mut world.state, attempt.node, Some(&answer), 1, Instant::now());
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
    assert_eq!(attempt.node.status, Status::Placed);
    assert!(matches!(attempt.node.results[2].1, PodEnd::Refused { .. }));
}

#[test]
fn a_group_that_is_no_gang_needs_one_pod() {
    let mut world = World::new(&["a"]);
    world.group("g", json!({ "schedulingPolicy": { "basic": {} } }));
    world.waiting("big", "g", "9", 0);
    world.waiting("small", "g", "1", 0);
    assert_eq!(world.attempt().node.status, Status::Placed);
    let mut world = World::new(&["a"]);
    world.group("g", json!({ "schedulingPolicy": { "basic": {} } }));
    world.waiting("big", "g", "9", 0);
    let message = world.attempt().node.status.message();
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
    assert_eq!((attempt.node.status.clone(), attempt.node.results.len()), (Status::Placed, 1));
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
    let (ended, _) = settle(&mut world.state, attempt.node, Some(&answer), 1, Instant::now());
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

#[test]
fn a_gang_goes_where_all_of_it_fits() {
    let mut world = World::in_racks(&["r1/a", "r2/b", "r2/c", "d"]);
    world.group("g", in_one_rack(json!({ "gang": { "minCount": 3 } })));
    (0..3).for_each(|i| world.waiting(&format!("p{i}"), "g", "1", 10));
    let attempt = world.attempt();
    assert_eq!(attempt.node.status, Status::Placed);
    assert!(attempt.nodes().iter().all(|n| ["b", "c"].contains(n)), "{:?}", attempt.nodes());
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
    assert_eq!(attempt.node.status.message(), text);
    assert_eq!(world.state.cache.assumed(), 0);
    assert!(matches!(attempt.node.results[2].1, PodEnd::Refused { .. }));
}

#[test]
fn no_node_is_in_a_rack() {
    let mut world = World::in_racks(&["a", "b"]);
    world.group("g", in_one_rack(json!({ "basic": {} })));
    world.waiting("p", "g", "1", 10);
    let attempt = world.attempt();
    assert_eq!(attempt.node.status.message(), "no feasible placements found");
    let (ended, _) = settle(&mut world.state, attempt.node, None, 1, Instant::now());
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
    assert_eq!((attempt.node.status.clone(), attempt.nodes()), (Status::Placed, vec!["a"]));
    let mut world = World::in_racks(&["r1/a", "r2/b", "r2/c"]);
    world.placed("there", Some("g"), "1", "a");
    world.placed("astray", Some("g"), "1", "b");
    world.group("g", in_one_rack(json!({ "basic": {} })));
    world.waiting("q", "g", "1", 10);
    let error = world.attempt().node.status.message();
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
    assert_eq!(world.attempt().nodes().iter().filter(|n| **n != "a").count(), 3);
    let mut world = World::in_racks(&["r1/a", "r2/b", "r2/c"]);
    world.placed("x", None, "1", "b");
    world.placed("y", None, "2", "c");
    world.group("g", in_one_rack(json!({ "basic": {} })));
    world.waiting("p", "g", "1", 10);
    assert_eq!(world.attempt().nodes(), ["b"]);
}

#[test]
fn victims_are_looked_for_rack_by_rack() {
    let mut world = World::in_racks(&["r1/a", "r2/b", "r2/c"]);
    world.placed("x", None, "2", "b");
    world.group("g", in_one_rack(json!({ "gang": { "minCount": 4 } })));
    (0..4).for_each(|i| world.waiting(&format!("p{i}"), "g", "1", 10));
    let attempt = world.attempt();
    assert!(matches!(attempt.node.status, Status::Refused(_)));
    let answer = world.preempt(&attempt);
    assert_eq!(answer.victims.iter().map(|v| &*v.name).collect::<Vec<_>>(), ["x"]);
    assert_eq!((world.state.cache.pods(), world.state.cache.assumed()), (1, 0));
}

fn of_groups(fewest: i32, rack: bool) -> Value {
    let mut spec = json!({ "priority": 10, "schedulingPolicy": { "gang": { "minGroupCount": fewest } } });
    if rack {
        spec["schedulingConstraints"] = json!({ "topology": [{ "key": "rack" }] });
    }
    spec
}

/// How each group of pods ends, and what each pod is told.
fn told_all(world: &mut World, attempt: Attempt, after: Option<&Answer>) -> Vec<(String, Vec<String>)> {
    let shares = attempt.node.shares();
    let leaves = attempt.node.into_leaves().into_iter();
    let one = |leaf: Node| {
        let times = shares[&leaf.origin];
        let (pods, status) = settle(&mut world.state, leaf, after, times, Instant::now());
        let said = pods.into_iter().map(|(_, outcome)| match outcome {
            Outcome::Refused { message, .. } => message,
            Outcome::Bind { .. } => "bound".into(),
            _ => String::new(),
        });
        (status.message(), said.collect())
    };
    leaves.map(one).collect()
}

#[test]
fn groups_are_placed_together() {
    let mut world = World::nested(&["a", "b"]);
    world.composite("c", of_groups(2, false));
    world.child("g", "c", 2, 2);
    assert!(world.ready().is_none(), "one of the groups is not there yet");
    world.child("h", "c", 2, 2);
    world.wake();
    let attempt = world.attempt();
    assert_eq!((attempt.node.status.clone(), attempt.nodes().len()), (Status::Placed, 4));
    assert_eq!(world.state.cache.assumed(), 4);
    let told = told_all(&mut world, attempt, None);
    assert!(told.iter().all(|(status, pods)| status.is_empty() && *pods == ["bound", "bound"]), "{told:?}");
}

#[test]
fn groups_that_would_fit_wait_for_the_others() {
    let mut world = World::nested(&["a"]);
    world.composite("c", of_groups(2, false));
    world.child("g", "c", 2, 2);
    world.child("h", "c", 1, 1);
    let attempt = world.attempt();
    assert_eq!(world.state.cache.assumed(), 0);
    let why = "0/1 placements are available, first placement status: minCount";
    let own = format!("pod group is unschedulable, {why} (1) cannot be satisfied: 0 scheduled, 0 remaining");
    let all = format!("pod group is unschedulable, {why} (2) cannot be satisfied: 1 scheduled, 0 remaining");
    let no_room = "0/1 nodes are available: 1 Insufficient cpu.";
    let expected = [(all.clone(), vec![all.clone(), all.clone()]), (own.clone(), vec![no_room.to_string()])];
    assert_eq!(attempt.node.status.message(), all);
    // The group and the one that it keeps back share their status: what follows is added to it twice.
    let answer = world.preempt(&attempt);
    let more = "pod group preemption: No preemption victims found for incoming preemptor";
    let [(all, pods), (own, refused)] = expected;
    let expected = [(format!("{all}, {more}, {more}"), pods), (format!("{own}, {more}"), refused)];
    assert_eq!(told_all(&mut world, attempt, Some(&answer)), expected);
}

#[test]
fn one_group_is_enough_where_they_go_alone() {
    let mut world = World::nested(&["a"]);
    world.composite("c", json!({ "priority": 10, "schedulingPolicy": { "basic": {} } }));
    world.child("g", "c", 3, 3);
    world.child("h", "c", 1, 1);
    let attempt = world.attempt();
    assert_eq!((attempt.node.status.clone(), attempt.nodes()), (Status::Placed, vec!["a"]));
    let told = told_all(&mut world, attempt, None);
    assert_eq!(told[1], (String::new(), vec!["bound".to_string()]));
    assert!(told[0].0.contains("minCount (3) cannot be satisfied: 2 scheduled, 0 remaining"), "{told:?}");
}

#[test]
fn groups_share_a_rack() {
    let mut world = World::nested(&["r1/a", "r2/b", "r2/c"]);
    world.composite("c", of_groups(2, true));
    world.child("g", "c", 2, 2);
    world.child("h", "c", 2, 2);
    let attempt = world.attempt();
    assert_eq!(attempt.node.status, Status::Placed);
    assert!(attempt.nodes().iter().all(|n| *n != "a"), "{:?}", attempt.nodes());
    assert_eq!(world.state.cache.assumed(), 4);
    assert!(world.state.placement.is_none());
}

#[test]
fn room_is_made_for_groups() {
    let mut world = World::nested(&["a", "b"]);
    world.placed("x", None, "2", "b");
    world.composite("c", of_groups(2, false));
    world.child("g", "c", 2, 2);
    world.child("h", "c", 2, 2);
    let attempt = world.attempt();
    let answer = world.preempt(&attempt);
    assert_eq!(answer.victims.iter().map(|v| &*v.name).collect::<Vec<_>>(), ["x"]);
    assert_eq!((world.state.cache.pods(), world.state.cache.assumed()), (1, 0));
    assert_eq!(attempt.pods.iter().filter(|p| answer.nominated(&p.info.uid).is_some()).count(), 4);
}

#[test]
fn groups_that_go_as_one_go_whole() {
    let mut world = World::nested(&["a", "b"]);
    let mut low = json!({ "priority": 0, "schedulingPolicy": { "basic": {} } });
    low["disruptionMode"] = json!({ "all": {} });
    world.composite("low", low);
    for (name, node) in [("l", "a"), ("m", "b")] {
        let spec = json!({ "schedulingPolicy": { "basic": {} }, "parentCompositePodGroupName": "low" });
        world.group(name, spec);
        world.placed(&format!("{name}0"), Some(name), "2", node);
    }
    world.group("g", gang(1));
    world.waiting("p", "g", "2", 10);
    let attempt = world.attempt();
    let answer = world.preempt(&attempt);
    assert_eq!((answer.victims.len(), answer.groups_hit), (2, 1));
}

#[test]
fn claims_are_freed_before_pods_go() {
    let mut world = World::new(&["a"]);
    world.placed("x", None, "1", "a");
    world.group("g", gang(3));
    (0..3).for_each(|i| world.waiting(&format!("p{i}"), "g", "1", 10));
    let attempt = world.attempt();
    let answer = world.preempt(&attempt);
    let status = answer.added_to(&attempt.node.status, 1);
    let expected = "minCount (3) cannot be satisfied: 1 scheduled, 1 remaining, \
                    deallocation and deletion of ResourceClaims completed, \
                    pod group preemption: minCount (3) cannot be satisfied: 2 scheduled, 0 remaining";
    assert_eq!(status.message(), expected);
    // Nobody was asked about the pods.
    let mut world = World::new(&[]);
    world.group("g", gang(1));
    world.waiting("p", "g", "1", 10);
    let attempt = world.attempt();
    let answer = world.preempt(&attempt);
    let failed = "error in \"DynamicResources\" PodGroupPostFilter plugins: not found";
    assert_eq!(answer.added_to(&attempt.node.status, 1), Status::Error(failed.into()));
}
