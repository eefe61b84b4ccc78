//! Our allocations against those of upstream's allocator, on made-up nodes, with any features switched on.
//!
//! Recorded answers (`data/oracle.txt`, one line a node) are compared always. With `ORACLE_ALLOCATOR` naming the binary
//! of e2e/oracle/allocator, `ORACLE_COUNT` nodes are asked about afresh; `ORACLE_RECORD` records them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use super::tests::list;
use super::*;
use crate::cycle::generate::Dice;
use crate::cycle::{generate_devices, generate_gated};

/// Nodes whose answers are recorded.
const RECORDED: u64 = 600;

/// Features by upstream's names.
const FEATURES: [&str; 9] = [
    "DeviceBindingAndStatus",
    "CompatibilityGroups",
    "ConsumableCapacity",
    "DerivedAttributes",
    "FractionalCapacityRange",
    "ListTypeAttributes",
    "OptionalNodeOperations",
    "PartitionableDevices",
    "DeviceTaints",
];

fn question(seed: u64) -> Value {
    let mut dice = Dice::new(seed);
    let d = &mut dice;
    let mut features = json!({ "AdminAccess": true, "PrioritizedList": true });
    for name in FEATURES {
        features[name] = (!d.one_in(8)).into();
    }
    if d.one_in(4) {
        // As by default.
        for name in
            ["CompatibilityGroups", "DerivedAttributes", "ListTypeAttributes", "OptionalNodeOperations"]
        {
            features[name] = false.into();
        }
    }
    let names: Vec<String> = (0..3).map(|i| format!("n{i}")).collect();
    let mut all = generate_devices::devices(d, &names);
    generate_gated::extend(d, &mut all);
    // Enough of them that something is found.
    for slice in all["slices"].as_array_mut().unwrap() {
        if slice["spec"]["nodeName"].is_string() && !d.one_in(4) {
            slice["spec"]["nodeName"] = "n0".into();
        }
    }
    let claims = all["resourceClaims"].as_array().unwrap();
    let (held, free): (Vec<&Value>, Vec<&Value>) =
        claims.iter().partition(|c| !c["status"]["allocation"].is_null());
    let declared: &[&str] = if d.one_in(3) { &[] } else { &["DRAOptionalNodeOperations"] };
    let many = usize::try_from(1 + d.below(2)).unwrap();
    json!({
        "features": features,
        "node": {
            "metadata": { "name": "n0", "labels": { "topology.kubernetes.io/zone": d.pick(&["z1", "z2"]) } },
            "status": { "declaredFeatures": declared },
        },
        "slices": all["slices"],
        "classes": all["deviceClasses"],
        "held": held,
        "claims": free.into_iter().take(many).collect::<Vec<_>>(),
    })
}

fn features(question: &Value) -> Features {
    let on = |name: &str| question["features"][name] == true;
    Features {
        binding: on("DeviceBindingAndStatus"),
        compatibility_groups: on("CompatibilityGroups"),
        consumable_capacity: on("ConsumableCapacity"),
        derived_attributes: on("DerivedAttributes"),
        fractional_capacity: on("FractionalCapacityRange"),
        list_attributes: on("ListTypeAttributes"),
        optional_node_operations: on("OptionalNodeOperations"),
        partitionable: on("PartitionableDevices"),
        taints: on("DeviceTaints"),
    }
}

fn ours(question: &Value, programs: &Arc<Programs>) -> Value {
    let mut taken = Taken::default();
    for claim in list::<ResourceClaim>(question, "held") {
        taken.add(claim.status.as_ref().unwrap().allocation.as_ref().unwrap());
    }
    let inventory = Inventory::new(list(question, "slices"), Vec::new(), list(question, "classes"));
    let supply = Supply {
        features: features(question),
        inventory: Arc::new(inventory),
        taken: Arc::new(taken),
        programs: programs.clone(),
        new_share: || "share".to_string(),
    };
    let node: crate::model::WireNode = serde_json::from_value(question["node"].clone()).unwrap();
    let labels = node.metadata.labels.clone();
    let site = Site { name: "n0", labels: &labels, declared: &node.status.declared_features };
    match allocate(&supply, site, &list(question, "claims"), &|| false) {
        Ok(Some(results)) => json!({ "results": results }),
        Ok(None) => json!({}),
        Err(Problem::Node(e) | Problem::Fatal(e)) => json!({ "error": e }),
        Err(Problem::Interrupted) => unreachable!("nobody asked to stop"),
    }
}

/// An answer as both can give it.
fn plain(question: &Value, mut answer: Value) -> Value {
    if let Some(results) = answer.get("results") {
        let typed: Vec<AllocationResult> = serde_json::from_value(results.clone()).unwrap();
        // Upstream's "stable" allocator takes pools in any order.
        let stable = features(question).oldest();
        answer["results"] = if stable { typed.len().into() } else { json!(typed) };
    }
    answer
}

fn difference(seed: u64, theirs: &Value, programs: &Arc<Programs>) -> Option<String> {
    let question = question(seed);
    let ours = plain(&question, ours(&question, programs));
    (ours != *theirs).then(|| format!("seed {seed}\n  ours   {ours}\n  theirs {theirs}\n  of {question}"))
}

#[test]
fn recorded_answers() {
    let programs = Arc::new(Programs::default());
    let text = include_str!("data/oracle.txt");
    let found: Vec<String> = text
        .lines()
        .zip(0..)
        .filter_map(|(line, seed)| difference(seed, &serde_json::from_str(line).unwrap(), &programs))
        .collect();
    assert_eq!(text.lines().count() as u64, RECORDED);
    assert!(found.is_empty(), "{} differences, the first:\n{}", found.len(), found[0]);
}

/// What an answer is about, for the tally.
fn kinds(answer: &Value) -> Vec<&'static str> {
    if let Some(error) = answer["error"].as_str() {
        let known = [
            "derived attribute",
            "DRAConsumableCapacity",
            "constraint would not",
            "invalid",
            "updated",
            "CEL",
        ];
        return vec![known.into_iter().find(|k| error.contains(k)).unwrap_or("another error")];
    }
    let text = answer["results"].to_string();
    let known = ["consumedCapacity", "skipNodeOperations", "bindingConditions", "nodeSelector", "shareID"];
    let mut all: Vec<&str> = known.into_iter().filter(|k| text.contains(k)).collect();
    all.push(if answer["results"].is_null() { "none" } else { "allocated" });
    all
}

#[test]
fn fresh_answers() {
    let Ok(binary) = std::env::var("ORACLE_ALLOCATOR") else {
        println!("skipped: ORACLE_ALLOCATOR is not set (make oracle-allocator sets it)");
        return;
    };
    let count = std::env::var("ORACLE_COUNT").ok().and_then(|c| c.parse().ok()).unwrap_or(RECORDED);
    let mut child = Command::new(binary).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let programs = Arc::new(Programs::default());
    let (mut found, mut record, mut said) = (Vec::new(), String::new(), BTreeMap::new());
    for seed in 0..count {
        let question = question(seed);
        writeln!(input, "{question}").unwrap();
        let answer = serde_json::from_str(&output.next().unwrap().unwrap()).unwrap();
        let theirs = plain(&question, answer);
        for kind in kinds(&theirs) {
            *said.entry(kind).or_insert(0_u64) += 1;
        }
        found.extend(difference(seed, &theirs, &programs));
        if seed < RECORDED {
            record.push_str(&format!("{theirs}\n"));
        }
    }
    drop(input);
    child.wait().unwrap();
    if let Some(path) = std::env::var("ORACLE_RECORD").ok().filter(|p| !p.is_empty()) {
        std::fs::write(path, record).unwrap();
    }
    println!("{count} nodes compared, {} differ; answers by what is in them: {said:?}", found.len());
    let shown: Vec<String> = found.iter().take(8).cloned().collect();
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), shown.join("\n"));
}
