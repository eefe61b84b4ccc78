//! Upstream's answers, recorded by `e2e/oracle/memorymanager`.

use std::collections::BTreeMap;
use std::sync::Arc;

use component::features::Gates;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::discover::NodeMemory;
use super::manager::{end_init_containers, remove_stale};
use super::policy_static::StaticPolicy;
use super::reserved::{self, MemoryReservation};
use super::state::State;
use super::{checkpoint, reserved::Reserved};
use crate::admission::Rejection;
use crate::cpumanager::cpuset::CpuSet;
use crate::cpumanager::manager::build_static;
use crate::cpumanager::policy_static::StaticPolicy as CpuPolicy;
use crate::cpumanager::state::State as CpuState;
use crate::cpumanager::topology::{CpuInfo, Topology};
use crate::pod::resources::Amounts;
use crate::pod::view::{PodView, init_containers};
use crate::topologymanager::hint::Hint;
use crate::topologymanager::{Manager, Provider};

const CORES: u32 = 4;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Every version, whole and damaged, and how it is written again.
#[test]
fn checkpoints() {
    let cases = lines(include_str!("testdata/checkpoints.jsonl"));
    assert!(cases.len() > 20);
    for case in cases {
        let policy = text(&case, "policy");
        let got = checkpoint::read(text(&case, "file"), policy, false);
        match (text(&case, "error"), got) {
            ("", Ok(state)) => assert_eq!(checkpoint::write(policy, &state), text(&case, "again"), "{case}"),
            ("", Err(error)) => panic!("{error}: {case}"),
            (error, got) => {
                let got = got.unwrap_err();
                // The text of a syntax error is the library's.
                let own = got.split(": cannot read it").next().unwrap_or_default();
                let same = error.contains(&got) || got.starts_with("cannot read it");
                assert!(same || error.contains(own), "{got}: {case}");
            }
        }
    }
}

fn nodes(machine: &Value) -> BTreeMap<u32, NodeMemory> {
    let one = |(id, node): (usize, &Value)| {
        let pages = node["pages"].as_object().into_iter().flatten();
        let pages = pages.map(|(size, n)| (size.parse::<u64>().unwrap() << 10, n.as_u64().unwrap()));
        let memory =
            NodeMemory { bytes: node["memory"].as_u64().unwrap() << 20, huge_pages: pages.collect() };
        (u32::try_from(id).unwrap(), memory)
    };
    machine.as_array().unwrap().iter().enumerate().map(one).collect()
}

fn topology(count: u32) -> Topology {
    let mut out = Topology { ..Topology::default() };
    for node in 0..count {
        let distances = (0..count).map(|other| u64::from(10 + 10 * ((node ^ other) % 3))).collect();
        out.nodes.insert(node, distances);
        for core in node * CORES..(node + 1) * CORES {
            out.details.0.insert(core, CpuInfo { core, socket: node, numa: node, uncore: node });
        }
    }
    out.sockets = out.nodes.len();
    out.cores = out.details.0.len();
    out
}

struct Cpus(CpuPolicy, CpuState);

impl Provider for Cpus {
    fn hints(&mut self, pod: &Pod, container: &Container) -> Vec<Vec<Hint>> {
        self.0.hints(&self.1, pod, container).into_iter().collect()
    }
    fn pod_hints(&mut self, pod: &Pod) -> Vec<Vec<Hint>> {
        self.0.pod_hints(&self.1, pod).into_iter().collect()
    }
    fn allocate(&mut self, pod: &Pod, container: &Container, agreed: Hint) -> Result<(), Rejection> {
        self.0.allocate(&mut self.1, pod, container, agreed.affinity)
    }
    fn allocate_pod(&mut self, pod: &Pod, agreed: Hint) -> Result<(), Rejection> {
        self.0.allocate_pod(&mut self.1, pod, agreed.affinity)
    }
}

struct Memory(StaticPolicy, State);

impl Provider for Memory {
    fn hints(&mut self, pod: &Pod, container: &Container) -> Vec<Vec<Hint>> {
        self.0.hints(&self.1, pod, container)
    }
    fn pod_hints(&mut self, pod: &Pod) -> Vec<Vec<Hint>> {
        self.0.pod_hints(&self.1, pod)
    }
    fn allocate(&mut self, pod: &Pod, container: &Container, agreed: Hint) -> Result<(), Rejection> {
        self.0.allocate(&mut self.1, pod, container, agreed)
    }
    fn allocate_pod(&mut self, pod: &Pod, agreed: Hint) -> Result<(), Rejection> {
        self.0.allocate_pod(&mut self.1, pod, agreed)
    }
}

fn pod(step: &Value) -> Pod {
    let list = |key: &str| -> Vec<Value> {
        let one = |c: &Value| {
            let mut limits = c["amounts"].clone();
            if step["burstable"] == true {
                limits.as_object_mut().unwrap().remove("memory");
            }
            if c["loose"] == true {
                limits["cpu"] = json!("9");
            }
            let mut out =
                json!({"name": c["name"], "resources": {"requests": c["amounts"], "limits": limits}});
            if c["sidecar"] == true {
                out["restartPolicy"] = json!("Always");
            }
            out
        };
        step[key].as_array().into_iter().flatten().map(one).collect()
    };
    let whole = match &step["whole"] {
        Value::Null => Value::Null,
        amounts => json!({"requests": amounts, "limits": amounts}),
    };
    serde_json::from_value(
        json!({"metadata": {"name": step["pod"], "namespace": "default", "uid": step["pod"]},
        "spec": {"initContainers": list("init"), "containers": list("containers"), "resources": whole}}),
    )
    .unwrap()
}

fn reserve(story: &Value, nodes: &BTreeMap<u32, NodeMemory>) -> Result<Reserved, String> {
    let list: Option<Vec<MemoryReservation>> = serde_json::from_value(story["reserved"].clone()).unwrap();
    let amounts = serde_json::from_value(story["amounts"].clone()).unwrap();
    let ids: Vec<u32> = nodes.keys().copied().collect();
    reserved::by_node(&ids, &Amounts::of(Some(&amounts)), &list.unwrap_or_default())
}

fn open(story: &Value, nodes: BTreeMap<u32, NodeMemory>, mut state: State) -> Result<Memory, String> {
    let reserved = reserve(story, &nodes)?;
    let mut policy = StaticPolicy::new(nodes, reserved)?;
    policy.whole_pods = story["whole"] == true;
    policy.start(&mut state)?;
    Ok(Memory(policy, state))
}

/// Everything of a story that changes.
struct World {
    alignment: Manager,
    cpus: Option<Cpus>,
    memory: Memory,
    active: Vec<Arc<Pod>>,
}

impl World {
    fn admit(&mut self, step: &Value) {
        let pod = Arc::new(pod(step));
        self.active.push(pod.clone());
        let wanted = |uid: &str| self.active.iter().any(|pod| pod.uid() == uid);
        if let Some(Cpus(policy, state)) = &mut self.cpus {
            let all = state.assignments.iter();
            let stale: Vec<(String, String)> = all
                .filter(|(uid, _)| !wanted(uid))
                .flat_map(|(uid, of_pod)| of_pod.keys().map(|c| (uid.clone(), c.clone())))
                .collect();
            stale.iter().for_each(|(uid, c)| policy.remove(state, uid, c));
        }
        remove_stale(&mut self.memory.1, &self.active);
        let mut providers: Vec<&mut dyn Provider> =
            self.cpus.iter_mut().map(|cpus| cpus as &mut dyn Provider).collect();
        providers.push(&mut self.memory);
        let verdict = self.alignment.admit(&pod, &mut providers).map_err(|r| (r.reason, r.message));
        let expected = match text(step, "reason") {
            "" => Ok(()),
            reason => Err((reason.to_owned(), text(step, "message").to_owned())),
        };
        assert_eq!(verdict, expected, "{step}");
        if expected.is_err() {
            self.active.retain(|other| other.uid() != pod.uid());
        }
    }

    fn start(&mut self, step: &Value) {
        let pod = self.active.iter().find(|pod| pod.uid() == text(step, "pod")).unwrap();
        let state = &mut self.memory.1;
        end_init_containers(state, pod, text(step, "container"));
        let blocks = state.get(pod.uid(), text(step, "container")).into_iter().flatten();
        let nodes: CpuSet = blocks.flat_map(|b| b.numa_affinity.clone()).collect();
        assert_eq!(nodes.to_string(), text(step, "nodes"), "{step}");
        let spec = pod.spec();
        assert!(init_containers(spec).iter().chain(&spec.containers).any(|c| c.name == step["container"]));
    }
}

/// Pods come, start and go, and the kubelet restarts; after each step the verdict and the state are as upstream's.
#[test]
fn stories() {
    let machines = lines(include_str!("testdata/machines.jsonl"));
    let mut steps = 0;
    let all = [include_str!("testdata/stories.jsonl"), include_str!("testdata/whole.jsonl")];
    for story in all.into_iter().flat_map(lines) {
        let nodes = nodes(&machines[usize::try_from(story["machine"].as_u64().unwrap()).unwrap()]);
        let begun = open(&story, nodes.clone(), State::default());
        if !text(&story, "error").is_empty() {
            assert_eq!(begun.map(drop).unwrap_err(), text(&story, "error"), "{story}");
            continue;
        }
        let machine = topology(u32::try_from(nodes.len()).unwrap());
        let alignment =
            Manager::new(text(&story, "policy"), text(&story, "scope"), &BTreeMap::new(), &machine).unwrap();
        let alignment = alignment.with_whole_pods(story["whole"] == true);
        let cpus = (story["cpus"] == true).then(|| {
            let mut gates = Gates::default();
            let whole = ("PodLevelResourceManagers".to_owned(), story["whole"] == true);
            gates.set_map(&[whole].into()).unwrap();
            let none = (CpuSet::default(), BTreeMap::new());
            let policy =
                build_static(machine.clone(), 1000, &none.0, &none.1, &gates, alignment.kind()).unwrap();
            let mut state = CpuState::default();
            policy.start(&mut state).unwrap();
            Cpus(policy, state)
        });
        let mut world = World { alignment, cpus, memory: begun.unwrap(), active: Vec::new() };
        let mut expected = String::new();
        for (at, step) in story["steps"].as_array().unwrap().iter().enumerate() {
            match text(step, "op") {
                "remove" => world.active.retain(|pod| pod.uid() != text(step, "pod")),
                "start" => world.start(step),
                "restart" => match open(&story, nodes.clone(), world.memory.1.clone()) {
                    Ok(memory) => world.memory = memory,
                    Err(error) => assert!(text(step, "message").contains(&error), "{error}: {step}"),
                },
                _ => world.admit(step),
            }
            if !text(step, "state").is_empty() {
                expected = text(step, "state").to_owned();
            }
            let file: Value = serde_json::from_str(&checkpoint::write("Static", &world.memory.1)).unwrap();
            assert_eq!(text(&file, "data"), expected, "step {at} {step} of {}", story["policy"]);
            steps += 1;
        }
    }
    assert!(steps > 400);
}
