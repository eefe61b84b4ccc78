//! Our decisions against those of upstream's framework, plugin by plugin, on made-up clusters.
//!
//! Recorded answers (`data/oracle.txt`, one line a cluster) are compared always. With `ORACLE_SCHEDULER` naming the
//! binary of e2e/oracle/scheduler, `ORACLE_COUNT` clusters are asked afresh; `ORACLE_RECORD` records them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use component::features::Gates;
use rand::SeedableRng;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::config::KubeSchedulerConfiguration;
use crate::framework::{Code, Nominated};
use crate::listers::Listers;
use crate::model::{Cache, Interner, Levels, Place};
use crate::plugins::registry;

/// Clusters whose answers are recorded; eight pods each.
const RECORDED: u64 = 40;
/// Pods asked about in each.
const PODS: usize = 8;

fn objects<T: DeserializeOwned>(question: &Value, key: &str) -> Vec<T> {
    question[key].as_array().into_iter().flatten().map(|o| T::deserialize(o).unwrap()).collect()
}

struct World {
    cache: Cache,
    listers: Listers,
    nominated: Nominated,
    assumed: Assumed,
    profile: Profile,
    pods: Vec<Arc<PodInfo>>,
    /// What is found out about one pod is used for the next.
    memory: Memory,
}

impl World {
    fn new(question: &Value) -> Self {
        let mut gates = Gates::default();
        gates.set_map(&serde_json::from_value(question["gates"].clone()).unwrap()).unwrap();
        let interner = Interner::new(Levels::of(|gate| gates.enabled(gate)));
        let mut cache = Cache::new(interner.clone());
        for namespace in objects::<k8s_openapi::api::core::v1::Namespace>(question, "namespaces") {
            cache.set_namespace(&namespace.metadata.name.clone().unwrap(), namespace.metadata.labels);
        }
        for node in objects(question, "nodes") {
            cache.set_node(Arc::new(node));
        }
        let infos = |key: &str| {
            let pods = objects::<crate::model::WirePod>(question, key).into_iter();
            pods.map(|p| Arc::new(PodInfo::new(&interner, &p))).collect::<Vec<_>>()
        };
        for info in infos("placed") {
            let node = info.node.clone().unwrap();
            cache.place(info, &node, Place::Seen);
        }
        let nominated = Nominated::default();
        let listers = Listers {
            services: objects(question, "services").into_iter().collect(),
            replica_sets: objects(question, "replicaSets").into_iter().collect(),
            claims: objects(question, "claims").into_iter().collect(),
            volumes: objects(question, "volumes").into_iter().collect(),
            classes: objects(question, "classes").into_iter().collect(),
            csi_nodes: objects(question, "csiNodes").into_iter().collect(),
            csi_drivers: objects(question, "csiDrivers").into_iter().collect(),
            capacities: objects(question, "capacities").into_iter().collect(),
            budgets: objects(question, "budgets").into_iter().collect(),
            resource_claims: objects(question, "resourceClaims").into_iter().collect(),
            device_classes: objects(question, "deviceClasses").into_iter().collect(),
            resource_slices: objects(question, "slices").into_iter().collect(),
            device_taint_rules: objects(question, "taintRules").into_iter().collect(),
            ..Listers::default()
        }
        .indexed();
        for class in listers.device_classes.list() {
            cache.set_device_class(&class.metadata.name.clone().unwrap(), Some(class));
        }
        let mut assumed = Assumed::default();
        listers.resource_claims.for_each(|_, claim| assumed.claim_seen(claim, false));
        let config: KubeSchedulerConfiguration =
            question.get("config").map(|c| serde_json::from_value(c.clone()).unwrap()).unwrap_or_default();
        let default = Default::default();
        let profile = registry::build(config.profiles.first().unwrap_or(&default), 100, &gates).unwrap();
        let pods = infos("pods").into_iter().take(PODS).collect();
        Self { cache, listers, nominated, assumed, profile, pods, memory: Memory::default() }
    }

    /// What upstream's answer must be.
    fn answer(&mut self, pod: &PodInfo) -> Value {
        let Self { cache, listers, nominated, assumed, profile, .. } = self;
        let refusal = |r: &Reject| {
            let code =
                if r.code == Code::Unresolvable { "UnschedulableAndUnresolvable" } else { "Unschedulable" };
            json!({ "code": code, "plugin": r.plugin, "reasons": sorted(r.reasons.iter().map(|t| t.to_string()).collect()) })
        };
        let groups = Groups::default();
        let scene =
            Scene { cache: &mut *cache, listers, nominated, groups: &groups, assumed, placement: None };
        let why = explain(profile, scene.prepare(profile, pod), pod);
        let mut answer = json!({});
        if let Some(reject) = &why.pre_filter {
            answer["preFilter"] = refusal(reject);
        }
        let refused: BTreeMap<_, _> = why
            .refused
            .iter()
            .filter(|(_, r)| r.plugin != LEFT_OUT)
            .map(|(n, r)| (n.clone(), refusal(r)))
            .collect();
        if !refused.is_empty() {
            answer["refused"] = json!(refused);
        }
        if !why.scores.is_empty() {
            let by = |list: &Vec<(&'static str, i64)>| list.iter().copied().collect::<BTreeMap<_, _>>();
            answer["scores"] =
                json!(why.scores.iter().map(|(n, s)| (n.clone(), by(s))).collect::<BTreeMap<_, _>>());
            let fitting: BTreeSet<String> = why.scores.into_iter().map(|(node, _)| node).collect();
            assert_eq!(self.remembered(pod), fitting, "{}", pod.key());
            return answer;
        }
        match self.decide(pod) {
            Decision::Unfit { diagnosis, .. } => answer["message"] = diagnosis.message().into(),
            other => answer["message"] = format!("{other:?}").into(),
        }
        answer
    }

    /// Nodes that fit as a cycle finds them, which remembers.
    fn remembered(&mut self, pod: &PodInfo) -> BTreeSet<String> {
        let Self { cache, listers, nominated, assumed, profile, memory, .. } = self;
        let groups = Groups::default();
        let scene = Scene { cache, listers, nominated, groups: &groups, assumed, placement: None };
        explore(profile, scene, pod, memory).map(|e| e.nodes.into_iter().collect()).unwrap_or_default()
    }

    fn decide(&mut self, pod: &PodInfo) -> Decision {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let Self { cache, listers, nominated, assumed, profile, memory, .. } = self;
        let groups = Groups::default();
        let scene = Scene { cache, listers, nominated, groups: &groups, assumed, placement: None };
        schedule(profile, scene, pod, memory, &mut rng)
    }

    /// What makes an attempt fail.
    fn failure(&mut self, pod: &PodInfo) -> String {
        match self.decide(pod) {
            Decision::Failed { message, .. } => message,
            other => format!("{other:?}"),
        }
    }
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

/// Which of two resources is named when both exceed what the pod as a whole may have: upstream takes the first of a map,
/// by chance (nodeallocatabledynamicresources.go, validatePodLevelResourcesCoverDRA).
fn without_chance(text: &str) -> String {
    ["limit", "request"].iter().fold(text.to_owned(), |text, what| {
        text.replace(&format!("pod level {what} for memory is"), &format!("pod level {what} for cpu is"))
    })
}

/// Upstream's answer without what may differ: the order of reasons, scores of 0, which of several equal nodes is freed.
fn plain(mut answer: Value) -> Value {
    let sort = |refusal: &mut Value| {
        let list =
            refusal["reasons"].as_array().into_iter().flatten().map(|r| without_chance(r.as_str().unwrap()));
        refusal["reasons"] = json!(sorted(list.collect()));
    };
    if let Some(refusal) = answer.get_mut("preFilter") {
        sort(refusal);
        // Upstream names no plugin where nodes are missing because of several.
        if refusal["reasons"][0].as_str().is_some_and(|r| r.starts_with("node(s) didn't satisfy plugin")) {
            refusal["plugin"] = "".into();
        }
    }
    for refusal in
        answer.get_mut("refused").and_then(Value::as_object_mut).into_iter().flat_map(|r| r.values_mut())
    {
        sort(refusal);
    }
    for scores in
        answer.get_mut("scores").and_then(Value::as_object_mut).into_iter().flat_map(|r| r.values_mut())
    {
        scores.as_object_mut().unwrap().retain(|_, s| *s != json!(0));
    }
    if let Some(message) = answer.get("message").and_then(Value::as_str).map(str::to_string) {
        let (before, _) =
            message.split_once("found a potential placement for pod on node ").unwrap_or((&message, ""));
        // Chance differs from node to node, so these are counted apart or together.
        let by_chance = before.find("pod level ").and_then(|_| before.find(". preemption: ")).unwrap_or(0);
        answer["message"] = before[by_chance..].into();
    }
    let fields = answer.as_object_mut().unwrap();
    fields.remove("total");
    fields.remove("nominated");
    answer
}

/// Differences of one cluster, with the pod they are about.
fn differences(seed: u64, answers: &Value) -> Vec<String> {
    let question = generate::question(seed);
    let mut world = World::new(&question);
    let mut found = Vec::new();
    for (i, pod) in world.pods.clone().iter().enumerate() {
        if let Some(error) = answers[i].get("error").and_then(Value::as_str) {
            // A selector that no API server would have stored.
            if error.contains("the value must be an integer") {
                continue;
            }
            let ours = world.failure(pod);
            // Which node is looked at first is chance, and not all have the same to say about a claim.
            let of_claims = r#"running "DynamicResources" filter plugin: claim "#;
            if ours != error && !(ours.starts_with(of_claims) && error.starts_with(of_claims)) {
                found.push(format!("seed {seed} pod {}\n  ours   {ours}\n  theirs {error}", pod.name));
            }
            continue;
        }
        let (ours, theirs) = (plain(world.answer(pod)), plain(answers[i].clone()));
        if ours != theirs {
            found.push(format!(
                "seed {seed} pod {}\n  ours   {ours}\n  theirs {theirs}\n  pod {}",
                pod.name, question["pods"][i]
            ));
        }
    }
    found
}

/// How often each plugin had something to say.
fn tally(answers: &Value, said: &mut BTreeMap<String, (u64, u64)>) {
    for answer in answers.as_array().into_iter().flatten() {
        let nodes = answer["refused"].as_object().into_iter().flat_map(|r| r.values());
        for refusal in nodes.chain(answer.get("preFilter")) {
            said.entry(refusal["plugin"].as_str().unwrap().into()).or_default().0 += 1;
        }
        let scores = answer["scores"].as_object().into_iter().flat_map(|s| s.values());
        for (plugin, _) in scores.flat_map(|s| s.as_object().unwrap()).filter(|(_, s)| **s != json!(0)) {
            said.entry(plugin.clone()).or_default().1 += 1;
        }
        let preempts = answer["message"].as_str().is_some_and(|m| m.contains("found a potential placement"));
        said.entry("DefaultPreemption".into()).or_default().0 += u64::from(preempts);
    }
}

#[test]
fn recorded_answers() {
    let text = include_str!("data/oracle.txt");
    let found: Vec<String> = text
        .lines()
        .zip(0..)
        .flat_map(|(line, seed)| differences(seed, &serde_json::from_str(line).unwrap()))
        .collect();
    assert_eq!(text.lines().count() as u64, RECORDED);
    assert!(found.is_empty(), "{} differences, the first:\n{}", found.len(), found[0]);
}

#[test]
fn fresh_answers() {
    let Ok(binary) = std::env::var("ORACLE_SCHEDULER") else {
        println!("skipped: ORACLE_SCHEDULER is not set (make oracle-scheduler sets it)");
        return;
    };
    let count = std::env::var("ORACLE_COUNT").ok().and_then(|c| c.parse().ok()).unwrap_or(RECORDED);
    let mut child = Command::new(binary).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut found, mut record, mut said) = (Vec::new(), String::new(), BTreeMap::new());
    for seed in 0..count {
        writeln!(input, "{}", generate::question(seed)).unwrap();
        let answers: Value = serde_json::from_str(&output.next().unwrap().unwrap()).unwrap();
        tally(&answers, &mut said);
        found.extend(differences(seed, &answers));
        if seed < RECORDED {
            let answers: Vec<Value> =
                answers.as_array().unwrap().iter().take(PODS).map(|a| plain(a.clone())).collect();
            record.push_str(&format!("{}\n", Value::from(answers)));
        }
    }
    drop(input);
    child.wait().unwrap();
    if let Some(path) = std::env::var("ORACLE_RECORD").ok().filter(|p| !p.is_empty()) {
        std::fs::write(path, record).unwrap();
    }
    println!(
        "{} pods compared, {} differ; nodes refused, nodes scored above 0 by plugin:",
        PODS as u64 * count,
        found.len()
    );
    for (plugin, (refused, scored)) in &said {
        println!("  {plugin:32} {refused:7} {scored:7}");
    }
    let shown: Vec<String> = found.iter().take(12).cloned().collect();
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), shown.join("\n"));
}
