//! Our attempts to place groups against upstream's, on made-up clusters. Chance decides between equals on both sides:
//! whatever comes of a group here must be among what came of it there, and the other way round.
//!
//! Recorded answers (`data/oracle.txt`, one line a cluster) are compared always. With `ORACLE_GROUPS` naming the binary of
//! e2e/oracle/groups, `ORACLE_COUNT` clusters are asked afresh; `ORACLE_RECORD` records them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use component::features::Gates;
use rand::SeedableRng;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::attempt::PodEnd;
use super::node::Node;
use super::search::Search;
use crate::config::KubeSchedulerProfile;
use crate::cycle::generate::Dice;
use crate::framework::Profile;
use crate::listers::Listers;
use crate::model::{GroupObject, Interner, Place, PodInfo, Tree, WirePod};
use crate::plugins::registry;
use crate::queue::{Next, Periods, Popped};
use crate::scheduler::State;

/// Clusters whose answers are recorded.
const RECORDED: u64 = 60;
/// Tries of a group here, each with other chances, and there.
const OURS: u64 = 15;
/// How often upstream is asked again about an end that it had not come to.
const RARE: usize = 20;
const ONLY_OURS: &str = " only ours";
const THEIRS: u64 = 60;
const GATES: [&str; 4] = [
    "GenericWorkload=true",
    "TopologyAwareWorkloadScheduling=true",
    "CompositePodGroup=true",
    "DRAWorkloadResourceClaims=true",
];

const RACKS: [&str; 3] = ["r1", "r2", "r3"];
const ZONES: [&str; 2] = ["z1", "z2"];

fn constraints(d: &mut Dice) -> Value {
    match d.below(3) {
        0 => Value::Null,
        1 => json!({ "topology": [{ "key": "rack" }] }),
        _ => json!({ "topology": [{ "key": "zone" }] }),
    }
}

fn pod(d: &mut Dice, name: &str, group: Option<&str>, node: Option<&str>) -> Value {
    let cpu = d.pick(&["500m", "1", "1", "2"]);
    json!({
        "metadata": { "name": name, "namespace": "n", "uid": name },
        "spec": {
            "nodeName": node.unwrap_or_default(),
            "priority": 0,
            "schedulerName": "default-scheduler",
            "schedulingGroup": group.map(|g| json!({ "podGroupName": g })),
            "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu } } }],
        },
    })
}

/// A group with its pods, one or more of which wait.
fn group(d: &mut Dice, name: &str, parent: Option<&str>, nodes: &[String], pods: &mut Vec<Value>) -> Value {
    let (waiting, there) = (1 + d.below(4), if d.one_in(4) { 1 } else { 0 });
    for i in 0..waiting {
        pods.push(pod(d, &format!("{name}-{i}"), Some(name), None));
    }
    for i in 0..there {
        let on = nodes[usize::try_from(d.below(nodes.len() as u64)).unwrap()].clone();
        pods.push(pod(d, &format!("{name}-there{i}"), Some(name), Some(&on)));
    }
    let policy = match d.below(3) {
        0 => json!({ "basic": {} }),
        _ => json!({ "gang": { "minCount": 1 + d.below(waiting + there) } }),
    };
    json!({
        "metadata": { "name": name, "namespace": "n", "uid": name },
        "spec": {
            "priority": 0,
            "parentCompositePodGroupName": parent,
            "schedulingPolicy": policy,
            "schedulingConstraints": constraints(d),
        },
    })
}

fn composite(d: &mut Dice, name: &str, parent: Option<&str>, children: u64) -> Value {
    let policy = match d.below(3) {
        0 => json!({ "basic": {} }),
        _ => json!({ "gang": { "minGroupCount": 1 + d.below(children) } }),
    };
    json!({
        "metadata": { "name": name, "namespace": "n", "uid": name },
        "spec": {
            "priority": 0,
            "parentCompositePodGroupName": parent,
            "schedulingPolicy": policy,
            "schedulingConstraints": constraints(d),
            "workloadRef": { "workloadName": "w", "templateName": "t" },
        },
    })
}

/// A cluster with one group, or with groups that belong together.
fn question(seed: u64) -> Value {
    let mut dice = Dice::new(seed);
    let d = &mut dice;
    let names: Vec<String> = (0..2 + d.below(4)).map(|i| format!("n{i}")).collect();
    let nodes: Vec<Value> = names
        .iter()
        .map(|name| {
            let mut labels = json!({ "kubernetes.io/hostname": name, "zone": d.pick(&ZONES) });
            if !d.one_in(6) {
                labels["rack"] = d.pick(&RACKS).into();
            }
            json!({
                "metadata": { "name": name, "labels": labels },
                "status": { "allocatable": { "cpu": d.pick(&["1", "2", "3"]), "memory": "64Gi", "pods": "110" } },
            })
        })
        .collect();
    let mut pods = Vec::new();
    for i in 0..d.below(3) {
        let on = names[usize::try_from(d.below(names.len() as u64)).unwrap()].clone();
        pods.push(pod(d, &format!("other{i}"), None, Some(&on)));
    }
    let mut composites = Vec::new();
    let parents: &[Option<&str>] = match d.below(3) {
        0 => &[None],
        1 => {
            composites.push(composite(d, "top", None, 2));
            &[Some("top"), Some("top")]
        }
        _ => {
            composites.push(composite(d, "top", None, 2));
            composites.push(composite(d, "sub", Some("top"), 2));
            &[Some("sub"), Some("sub"), Some("top")]
        }
    };
    let groups: Vec<Value> = parents
        .iter()
        .zip(["a", "b", "c"])
        .map(|(parent, name)| group(d, name, *parent, &names, &mut pods))
        .collect();
    let mut question =
        json!({ "nodes": nodes, "pods": pods, "groups": groups, "composites": composites, "tries": THEIRS });
    if d.one_in(3) {
        devices(d, &names, &mut question);
    }
    question
}

/// Devices of nodes, and claims for them that pods of a group share.
fn devices(d: &mut Dice, names: &[String], question: &mut Value) {
    let mut slices = Vec::new();
    for node in names {
        if d.one_in(4) {
            continue;
        }
        let devices: Vec<Value> = (0..=d.below(2)).map(|i| json!({ "name": format!("d{i}") })).collect();
        let pool = json!({ "name": node, "generation": 1, "resourceSliceCount": 1 });
        slices.push(json!({
            "metadata": { "name": node },
            "spec": { "driver": "d.example.com", "nodeName": node, "pool": pool, "devices": devices },
        }));
    }
    let claim = |d: &mut Dice, name: &str| {
        let exactly =
            json!({ "deviceClassName": "any", "allocationMode": "ExactCount", "count": 1 + d.below(2) });
        let requests = json!([{ "name": "r", "exactly": exactly }]);
        let mut claim = json!({
            "metadata": { "name": name, "namespace": "n", "uid": format!("uid-{name}"), "resourceVersion": "1" },
            "spec": { "devices": { "requests": requests } },
        });
        if d.one_in(4) {
            let node = &names[usize::try_from(d.below(names.len() as u64)).unwrap()];
            let device = json!({ "request": "r", "driver": "d.example.com", "pool": node, "device": "d0" });
            let only = json!([{ "key": "metadata.name", "operator": "In", "values": [node] }]);
            claim["status"]["allocation"] = json!({
                "devices": { "results": [device] },
                "nodeSelector": { "nodeSelectorTerms": [{ "matchFields": only }] },
            });
        }
        claim
    };
    let claims: Vec<Value> = ["k0", "k1"].iter().map(|name| claim(d, name)).collect();
    for pod in question["pods"].as_array_mut().unwrap() {
        if pod["spec"]["nodeName"] == "" && !d.one_in(3) {
            let name = d.pick(&["k0", "k0", "k1"]);
            pod["spec"]["resourceClaims"] = json!([{ "name": "c", "resourceClaimName": name }]);
        }
    }
    for group in question["groups"].as_array_mut().unwrap() {
        if d.one_in(2) {
            group["spec"]["resourceClaims"] = json!([{ "name": "c", "resourceClaimName": "k0" }]);
        }
    }
    question["slices"] = slices.into();
    question["resourceClaims"] = claims.into();
    question["deviceClasses"] = json!([{ "metadata": { "name": "any" }, "spec": {} }]);
}

fn objects<T: DeserializeOwned>(question: &Value, key: &str) -> Vec<T> {
    question[key].as_array().into_iter().flatten().map(|o| T::deserialize(o).unwrap()).collect()
}

struct World {
    state: State,
    listers: Listers,
    profile: Profile,
    tree: Tree,
    pods: Vec<Popped>,
}

impl World {
    fn new(question: &Value) -> Option<Self> {
        let mut gates = Gates::default();
        gates.set(&GATES).unwrap();
        let profile = registry::build(&KubeSchedulerProfile::default(), 0, &gates).unwrap();
        let (interner, now) = (Interner::default(), Instant::now());
        let second = Duration::from_secs(1);
        let periods = Periods { initial_backoff: second, max_backoff: second, max_unschedulable: second };
        let rng = rand::rngs::StdRng::seed_from_u64(1);
        let mut state = State::new(interner.clone(), periods, (true, true), rng);
        let list = |key: &str| question[key].as_array().unwrap().clone();
        for node in list("nodes") {
            state.cache.set_node(Arc::new(serde_json::from_value(node).unwrap()));
        }
        let groups =
            list("groups").into_iter().map(|g| GroupObject::Pods(serde_json::from_value(g).unwrap()));
        let more = list("composites").into_iter();
        let more = more.map(|g| GroupObject::Groups(serde_json::from_value(g).unwrap()));
        for object in groups.chain(more) {
            state.groups.set(&object.key(), Some(object.clone()));
            state.queue.set_group(&object.key(), Some(object), now);
        }
        for pod in list("pods") {
            let pod: WirePod = serde_json::from_value(pod).unwrap();
            let info = Arc::new(PodInfo::new(&interner, &pod));
            state.groups.add(&info);
            match info.node.clone() {
                Some(node) => state.cache.place(info, &node, Place::Seen),
                None => state.queue.add(info, None, now),
            }
        }
        let listers = Listers {
            resource_claims: objects(question, "resourceClaims").into_iter().collect(),
            device_classes: objects(question, "deviceClasses").into_iter().collect(),
            resource_slices: objects(question, "slices").into_iter().collect(),
            ..Listers::default()
        }
        .indexed();
        listers.resource_claims.for_each(|_, claim| state.assumed.claim_seen(claim, false));
        let State { queue, groups, .. } = &mut state;
        let gate = |pod: &PodInfo| profile.pre_enqueue(&listers, groups, pod).err().map(|r| r.plugin);
        let Some(Next::Group(popped)) = queue.pop(now, gate) else { return None };
        let (tree, pods) = (popped.tree, popped.pods);
        Some(Self { state, listers, profile: profile.of_a_group(), tree, pods })
    }

    fn attempt(&mut self, seed: u64) -> Value {
        self.state.rng = rand::rngs::StdRng::seed_from_u64(seed);
        let Self { state, listers, profile, tree, pods } = self;
        let search = Search { profile, metrics: None };
        let node = search.root_at_once(state, listers, tree, pods);
        node.take_back(state);
        let node = node.completed(tree, pods);
        let mut all = Vec::new();
        ends(&node, &mut all);
        all.sort_by_key(|end| end["group"].as_str().unwrap().to_string());
        Value::from(all)
    }
}

fn ends(node: &Node, all: &mut Vec<Value>) {
    let name = match &node.object {
        GroupObject::Pods(group) => &group.metadata.name,
        GroupObject::Groups(group) => &group.metadata.name,
    };
    let code = match &node.status {
        super::Status::Placed => "Success",
        super::Status::Error(_) => "Error",
        _ => "Unschedulable",
    };
    let (mut nodes, mut refused) = (Vec::new(), Vec::new());
    for (_, end) in &node.results {
        match end {
            PodEnd::Placed(placed) => nodes.push(placed.node.clone()),
            PodEnd::Refused { message, .. } | PodEnd::Failed(message) => refused.push(message.clone()),
            PodEnd::Untried => refused.push(node.status.message()),
        }
    }
    nodes.sort();
    refused.sort();
    let mut end = json!({ "group": name, "code": code, "message": node.status.message() });
    for (key, list) in [("nodes", nodes), ("refused", refused)] {
        if !list.is_empty() {
            end[key] = json!(list);
        }
    }
    all.push(end);
    node.children.iter().for_each(|child| ends(child, all));
}

/// Racks that a message names come in any order.
fn ordered(message: &str) -> String {
    match message.split_once("more than 1 domain found for pod group: ") {
        None => message.into(),
        Some((before, names)) => {
            let mut names: Vec<&str> = names.split(", ").collect();
            names.sort_unstable();
            format!("{before}more than 1 domain found for pod group: {}", names.join(", "))
        }
    }
}

/// With the racks and zones of nodes in place of their names: which of equal nodes it is does not matter.
fn plain(question: &Value, mut all: Value) -> String {
    let place = |name: &str| {
        let nodes = question["nodes"].as_array().unwrap();
        let node = nodes.iter().find(|n| n["metadata"]["name"] == name).unwrap();
        let labels = &node["metadata"]["labels"];
        let of = |key: &str| labels[key].as_str().unwrap_or("-").to_string();
        format!("{}/{}", of("zone"), of("rack"))
    };
    for end in all.as_array_mut().unwrap() {
        end["message"] = ordered(end["message"].as_str().unwrap()).into();
        if let Some(refused) = end.get_mut("refused") {
            let list = refused.as_array().unwrap().iter().map(|m| Value::from(ordered(m.as_str().unwrap())));
            *refused = list.collect();
        }
        if let Some(nodes) = end.get_mut("nodes") {
            let mut places: Vec<String> =
                nodes.as_array().unwrap().iter().map(|n| place(n.as_str().unwrap())).collect();
            places.sort();
            *nodes = json!(places);
        }
    }
    all.to_string()
}

/// Without what depends on the placement that comes first, which is any there and the first by name here.
fn coarse(text: &str) -> String {
    let all: Value = serde_json::from_str(text).unwrap();
    let one = |end: &Value| {
        let message = end["message"].as_str().unwrap();
        // How many there are within it depends on it, too.
        let placements = message.contains("placements are available, first placement");
        let message = if placements { "no placement" } else { message };
        match end["code"] == "Success" {
            true => format!("{} {:?}", end["group"], end["nodes"]),
            false => format!("{} {} {message}", end["group"], end["code"]),
        }
    };
    let ends: Vec<String> = all.as_array().unwrap().iter().map(one).collect();
    ends.join("; ")
}

/// What can come of the groups of a cluster, as upstream says.
fn theirs(question: &Value, answer: &Value) -> BTreeSet<String> {
    let ends = answer["ends"].as_array().cloned().unwrap_or_default();
    ends.into_iter().map(|all| plain(question, all)).collect()
}

fn differences(seed: u64, theirs: &BTreeSet<String>, tries: u64, both: bool) -> Vec<String> {
    let question = question(seed);
    let Some(mut world) = World::new(&question) else {
        let ready = !theirs.is_empty();
        return ready.then(|| format!("seed {seed}: nothing is ready here")).into_iter().collect();
    };
    let ours: BTreeSet<String> = (0..tries).map(|i| plain(&question, world.attempt(i))).collect();
    assert_eq!(world.state.cache.assumed(), 0, "seed {seed}");
    let mut found: Vec<String> = ours
        .difference(theirs)
        .map(|end| format!("seed {seed}{ONLY_OURS}\n  {end}\n  theirs {theirs:?}"))
        .collect();
    if both {
        let ours: BTreeSet<String> = ours.iter().map(|end| coarse(end)).collect();
        let theirs: BTreeSet<String> = theirs.iter().map(|end| coarse(end)).collect();
        let only = theirs.difference(&ours);
        found.extend(only.map(|end| format!("seed {seed} only theirs\n  {end}\n  ours {ours:?}")));
    }
    found
}

#[test]
fn recorded_answers() {
    let text = include_str!("data/oracle.txt");
    let mut found = Vec::new();
    for (line, seed) in text.lines().zip(0..) {
        let theirs: BTreeSet<String> =
            serde_json::from_str::<Vec<Value>>(line).unwrap().iter().map(Value::to_string).collect();
        found.extend(differences(seed, &theirs, OURS, false));
    }
    assert_eq!(text.lines().count() as u64, RECORDED);
    assert!(found.is_empty(), "{} differences, the first:\n{}", found.len(), found[0]);
}

#[test]
fn fresh_answers() {
    let Ok(binary) = std::env::var("ORACLE_GROUPS") else {
        println!("skipped: ORACLE_GROUPS is not set (make oracle-groups sets it)");
        return;
    };
    let count = std::env::var("ORACLE_COUNT").ok().and_then(|c| c.parse().ok()).unwrap_or(RECORDED);
    let mut child = Command::new(binary).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut found, mut record, mut tally) = (Vec::new(), String::new(), [0_u64; 4]);
    for seed in 0..count {
        let question = question(seed);
        let mut ask = || -> Value {
            writeln!(input, "{question}").unwrap();
            serde_json::from_str(&output.next().unwrap().unwrap()).unwrap()
        };
        let answer = ask();
        let mut theirs = theirs(&question, &answer);
        let mut differ = differences(seed, &theirs, 4 * OURS, true);
        // What comes by a rare chance here may not have come there yet.
        for _ in 0..RARE {
            if !differ.iter().any(|text| text.contains(ONLY_OURS)) {
                break;
            }
            theirs.extend(self::theirs(&question, &ask()));
            differ = differences(seed, &theirs, 4 * OURS, true);
        }
        if let Some(error) = answer["error"].as_str().filter(|e| *e != "nothing is ready") {
            found.push(format!("seed {seed}: {error}"));
        }
        let first = theirs.first().map(String::as_str).unwrap_or_default();
        let kind = [first.is_empty(), first.contains("Unschedulable"), first.contains("Error")];
        tally[kind.iter().position(|k| *k).map_or(0, |at| at + 1)] += 1;
        found.extend(differ);
        if seed < RECORDED {
            let ends: Vec<Value> = theirs.iter().map(|end| serde_json::from_str(end).unwrap()).collect();
            record.push_str(&format!("{}\n", Value::from(ends)));
        }
    }
    drop(input);
    child.wait().unwrap();
    if let Some(path) = std::env::var("ORACLE_RECORD").ok().filter(|p| !p.is_empty()) {
        std::fs::write(path, record).unwrap();
    }
    println!(
        "{count} clusters: {} all placed, {} not ready, {} with a refusal, {} with an error",
        tally[0], tally[1], tally[2], tally[3]
    );
    assert!(
        found.is_empty(),
        "{} differences:\n{}",
        found.len(),
        found.iter().take(8).cloned().collect::<Vec<_>>().join("\n")
    );
}
