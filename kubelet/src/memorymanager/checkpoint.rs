//! The file `memory_manager_state`, byte for byte as upstream's, so that either kubelet goes on where the other stopped.
//!
//! Read are versions 1 to 3, written is version 3, which older kubelets read as version 1. Entries of whole pods
//! count with the gate PodLevelResourceManagers only. Upstream: state/checkpoint.go and state/state_checkpoint.go, v1.37.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::state::{Assignments, Block, Machine, NodeState, State};
use crate::cpumanager::checkpoint::{CORRUPT, data_checksum, fnv};

/// Name of the file in the kubelet's folder.
pub const FILE: &str = "memory_manager_state";

/// A whole pod's blocks.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodEntry {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    memory_blocks: Vec<Block>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Data {
    policy_name: String,
    /// By number, but in the order of their text.
    machine_state: BTreeMap<String, NodeState>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    entries: Assignments,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pod_entries: BTreeMap<String, PodEntry>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    policy_name: String,
    machine_state: BTreeMap<String, NodeState>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    entries: Assignments,
    #[serde(skip_serializing)]
    pod_entries: BTreeMap<String, PodEntry>,
    checksum: u64,
    data: String,
    data_checksum: u64,
}

fn joined<T>(items: impl IntoIterator<Item = T>, show: impl Fn(T) -> String) -> String {
    items.into_iter().map(show).collect::<Vec<_>>().join(" ")
}

fn numbers(list: &[u32]) -> String {
    joined(list, ToString::to_string)
}

/// The text that upstream's library for dumps makes of the nodes.
fn dump_machine(machine: &Machine) -> String {
    let table = |(resource, t): (&String, &super::state::MemoryTable)| {
        format!(
            "{resource}:<*>{{TotalMemSize:(uint64){} SystemReserved:(uint64){} Allocatable:(uint64){} Reserved:(uint64){} Free:(uint64){}}}",
            t.total, t.system_reserved, t.allocatable, t.reserved, t.free
        )
    };
    joined(machine, |(id, node)| {
        format!(
            "{id}:<*>{{NumberOfAssignments:(int){} MemoryMap:(map[v1.ResourceName]*state.MemoryTable)map[{}] Cells:([]int)[{}]}}",
            node.number_of_assignments,
            joined(&node.memory_map, table),
            numbers(&node.cells)
        )
    })
}

fn dump_block(b: &Block) -> String {
    format!(
        "{{NUMAAffinity:([]int)[{}] Type:(v1.ResourceName){} Size:(uint64){}}}",
        numbers(&b.numa_affinity),
        b.r#type,
        b.size
    )
}

/// The same of containers' blocks.
fn dump_entries(entries: &Assignments) -> String {
    joined(entries, |(pod, containers)| {
        format!(
            "{pod}:map[{}]",
            joined(containers, |(name, blocks)| format!("{name}:[{}]", joined(blocks, dump_block)))
        )
    })
}

/// Checksum of versions 1 and 2.
fn checksum(
    policy: &str,
    machine: &Machine,
    entries: &Assignments,
    pods: Option<&BTreeMap<String, PodEntry>>,
) -> u64 {
    let mut text = format!(
        "(*state.MemoryManagerCheckpoint){{PolicyName:(string){policy} MachineState:(state.NUMANodeMap)map[{}] Entries:(state.ContainerMemoryAssignments)map[{}]",
        dump_machine(machine),
        dump_entries(entries)
    );
    if let Some(pods) = pods {
        let pod = |(pod, entry): (&String, &PodEntry)| {
            let blocks = match entry.memory_blocks.as_slice() {
                [] => "<nil>".to_owned(),
                blocks => format!("[{}]", joined(blocks, dump_block)),
            };
            format!("{pod}:{{MemoryBlocks:([]state.Block){blocks}}}")
        };
        let _ = write!(text, " PodEntries:(state.PodMemoryAssignments)map[{}]", joined(pods, pod));
    }
    let _ = write!(text, " Checksum:(checksum.Checksum)0}}");
    fnv(&text)
}

/// The state as a file.
pub fn write(policy: &str, state: &State) -> String {
    let machine_state: BTreeMap<String, NodeState> =
        state.machine.iter().map(|(id, node)| (id.to_string(), node.clone())).collect();
    let data = Data {
        policy_name: policy.to_owned(),
        machine_state: machine_state.clone(),
        entries: state.assignments.clone(),
        pod_entries: (state.pods.iter())
            .map(|(pod, blocks)| (pod.clone(), PodEntry { memory_blocks: blocks.clone() }))
            .collect(),
    };
    let mut file = File {
        policy_name: policy.to_owned(),
        machine_state,
        entries: state.assignments.clone(),
        checksum: checksum(policy, &state.machine, &state.assignments, None),
        // Text and numbers in maps with text as keys always serialize.
        data: serde_json::to_string(&data).unwrap_or_default(),
        ..File::default()
    };
    file.data_checksum = data_checksum(&file.data);
    serde_json::to_string(&file).unwrap_or_default()
}

/// Reads a file that was written under the same policy, what whole pods have only if they may.
///
/// # Errors
/// If it is damaged or of another policy.
pub fn read(text: &str, policy: &str, whole_pods: bool) -> Result<State, String> {
    // The library would take a list for an object with its first fields.
    if text.trim_start().starts_with('[') {
        return Err("cannot read it: it is a list".to_owned());
    }
    let file: File = serde_json::from_str(text).map_err(|e| format!("cannot read it: {e}"))?;
    let data = if !file.data.is_empty() || file.data_checksum != 0 {
        let parsed = serde_json::from_str::<Data>(&file.data).map_err(|e| {
            format!("could not load v3 checkpoint: failed to deserialize memory manager checkpoint data: {e}")
        })?;
        if data_checksum(&file.data) != file.data_checksum {
            return Err(format!("could not load v3 checkpoint: {CORRUPT}"));
        }
        parsed
    } else {
        old(file)?
    };
    if data.policy_name != policy {
        return Err(format!(
            "[memorymanager] configured policy {policy:?} differs from state checkpoint policy {:?}",
            data.policy_name
        ));
    }
    let pods = data.pod_entries.into_iter().filter(|_| whole_pods);
    Ok(State {
        machine: machine(data.machine_state)?,
        assignments: data.entries,
        pods: pods.map(|(pod, entry)| (pod, entry.memory_blocks)).collect(),
    })
}

fn machine(by_text: BTreeMap<String, NodeState>) -> Result<Machine, String> {
    let one = |(id, node): (String, NodeState)| {
        let number = id.parse().map_err(|_| format!("cannot read it: {id:?} is no NUMA node"))?;
        Ok((number, node))
    };
    by_text.into_iter().map(one).collect()
}

/// Versions 2 and 1, which differ in what is checked.
fn old(file: File) -> Result<Data, String> {
    let known = machine(file.machine_state.clone())?;
    let fits = |pods| checksum(&file.policy_name, &known, &file.entries, pods) == file.checksum;
    // Version 1 may have none.
    let whole = file.checksum == 0 || fits(None) || fits(Some(&file.pod_entries));
    if !whole {
        return Err(CORRUPT.to_owned());
    }
    Ok(Data {
        policy_name: file.policy_name,
        machine_state: file.machine_state,
        entries: file.entries,
        pod_entries: file.pod_entries,
    })
}
