//! Upstream's answers, recorded by `e2e/oracle/cpumanager`.

use std::collections::BTreeMap;

use component::features::Gates;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::assignment::{Manner, distributed, packed};
use super::checkpoint;
use super::cpuset::CpuSet;
use super::manager::build_static;
use super::policy_static::StaticPolicy;
use super::state::State;
use super::topology::{CpuInfo, Topology};
use crate::admission::Rejection;
use crate::pod::view::PodView;
use crate::topologymanager::hint::Hint;
use crate::topologymanager::{Manager, Provider};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap_or_default()).unwrap()
}

fn machine(record: &Value) -> Topology {
    let mut out =
        Topology { sockets: size(&record["sockets"]), cores: size(&record["cores"]), ..Topology::default() };
    for cpu in record["cpus"].as_array().unwrap() {
        let [cpu, core, socket, numa, uncore] = serde_json::from_value::<[u32; 5]>(cpu.clone()).unwrap();
        out.details.0.insert(cpu, CpuInfo { core, socket, numa, uncore });
    }
    out.nodes = serde_json::from_value(record["nodes"].clone()).unwrap();
    out
}

fn machines() -> Vec<Topology> {
    lines(include_str!("testdata/machines.jsonl")).iter().map(machine).collect()
}

#[test]
fn takes() {
    let machines = machines();
    let cases = lines(include_str!("testdata/takes.jsonl"));
    assert!(cases.len() > 2500);
    for case in cases {
        let topology = &machines[size(&case["machine"])];
        let available = CpuSet::parse(case["available"].as_str().unwrap()).unwrap();
        let is = |key: &str| case[key].as_bool().unwrap_or_default();
        let manner = Manner { spread: is("spread"), uncore: is("uncore"), by_socket: is("bySocket") };
        let (wanted, group) = (size(&case["wanted"]), size(&case["group"]));
        let got = match group {
            0 => packed(topology, &available, wanted, manner),
            _ => distributed(topology, &available, wanted, group, manner),
        };
        let expected = match case["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(case["result"].as_str().unwrap().to_owned()),
        };
        assert_eq!(got.map(|cpus| cpus.to_string()), expected, "{case}");
    }
}

struct World {
    policy: StaticPolicy,
    state: State,
}

impl Provider for World {
    fn hints(&mut self, pod: &Pod, container: &Container) -> Vec<Vec<Hint>> {
        self.policy.hints(&self.state, pod, container).into_iter().collect()
    }
    fn pod_hints(&mut self, pod: &Pod) -> Vec<Vec<Hint>> {
        self.policy.pod_hints(&self.state, pod).into_iter().collect()
    }
    fn allocate(&mut self, pod: &Pod, container: &Container, agreed: Hint) -> Result<(), Rejection> {
        self.policy.allocate(&mut self.state, pod, container, agreed.affinity)
    }
    fn allocate_pod(&mut self, pod: &Pod, agreed: Hint) -> Result<(), Rejection> {
        self.policy.allocate_pod(&mut self.state, pod, agreed.affinity)
    }
}

impl World {
    fn remove(&mut self, uid: &str) {
        let names: Vec<String> =
            self.state.assignments.get(uid).into_iter().flat_map(|m| m.keys().cloned()).collect();
        for name in names {
            self.policy.remove(&mut self.state, uid, &name);
        }
    }
}

fn whole_resources(step: &Value) -> Value {
    let amounts = json!({"cpu": step["whole"], "memory": "64Mi"});
    json!({"requests": amounts, "limits": amounts})
}

fn pod(step: &Value) -> Pod {
    let burstable = step["burstable"].as_bool().unwrap_or_default();
    let list = |key: &str| -> Vec<Value> {
        let one = |c: &Value| {
            let amounts = json!({"cpu": c["cpu"], "memory": "1Mi"});
            let mut limits = if burstable { json!({}) } else { amounts.clone() };
            if c["loose"] == true {
                limits["memory"] = json!("2Mi");
            }
            let mut out = json!({"name": c["name"], "resources": {"requests": amounts, "limits": limits}});
            if c["sidecar"].as_bool().unwrap_or_default() {
                out["restartPolicy"] = json!("Always");
            }
            out
        };
        step[key].as_array().into_iter().flatten().map(one).collect()
    };
    serde_json::from_value(
        json!({"metadata": {"name": step["pod"], "namespace": "default", "uid": step["pod"]},
        "spec": {"initContainers": list("init"), "containers": list("containers"),
            "resources": if step["whole"].is_null() { json!(null) } else { whole_resources(step) }}}),
    )
    .unwrap()
}

fn begin(story: &Value, machine: &Topology) -> Result<(Manager, World), String> {
    let text = |key: &str| story[key].as_str().unwrap_or_default();
    let map = |key: &str| -> BTreeMap<String, String> {
        serde_json::from_value(story[key].clone()).unwrap_or_default()
    };
    let whole = story["whole"] == true;
    let manager = Manager::new(text("policy"), text("scope"), &map("topologyOptions"), machine)?;
    let manager = manager.with_whole_pods(whole);
    let amount = k8s_openapi::apimachinery::pkg::api::resource::Quantity(text("amount").to_owned());
    let milli = i64::try_from(crate::pod::resources::milli(&amount)).unwrap();
    let mut gates = Gates::default();
    let set = [("CPUManagerPolicyAlphaOptions", true), ("PodLevelResourceManagers", whole)];
    gates.set_map(&set.map(|(name, on)| (name.to_owned(), on)).into()).unwrap();
    let reserved = CpuSet::parse(text("reserved")).unwrap();
    let policy = build_static(machine.clone(), milli, &reserved, &map("options"), &gates, manager.kind())?;
    let mut state = State::default();
    policy.start(&mut state)?;
    Ok((manager, World { policy, state }))
}

/// Pods come and go; after each the verdict and the state file are as upstream's.
#[test]
fn stories() {
    let machines = machines();
    let mut admissions = 0;
    let all = [include_str!("testdata/stories.jsonl"), include_str!("testdata/whole.jsonl")];
    for story in all.into_iter().flat_map(lines) {
        let begun = begin(&story, &machines[size(&story["machine"])]);
        if let Some(error) = story["error"].as_str() {
            assert_eq!(begun.map(drop), Err(error.to_owned()), "{story}");
            continue;
        }
        let (manager, mut world) = begun.unwrap_or_else(|e| panic!("{e}: {story}"));
        let mut rejected: Option<String> = None;
        for step in story["steps"].as_array().unwrap() {
            if step["remove"].as_bool().unwrap_or_default() {
                world.remove(step["pod"].as_str().unwrap());
                continue;
            }
            // What a rejected pod had got already goes back when the next one comes.
            if let Some(uid) = rejected.take() {
                world.remove(&uid);
            }
            let pod = pod(step);
            let verdict = manager.admit(&pod, &mut [&mut world]).map_err(|r| (r.reason, r.message));
            let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
            let expected =
                if text("reason").is_empty() { Ok(()) } else { Err((text("reason"), text("message"))) };
            assert_eq!(verdict, expected, "{step} of {}", story["options"]);
            if verdict.is_err() {
                rejected = Some(pod.uid().to_owned());
            }
            assert_eq!(checkpoint::write("static", &world.state), text("state"), "{step}");
            admissions += 1;
        }
    }
    assert!(admissions > 500);
}
