//! The file `cpu_manager_state`, byte for byte as upstream's, so that either kubelet goes on where the other stopped.
//!
//! Read are versions 2 to 4, written is version 4, which older kubelets read as version 2. Entries of whole pods count with
//! the gate PodLevelResourceManagers only, what containers had before they were resized never. Upstream: state/checkpoint.go
//! and state/state_checkpoint.go, v1.37.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use super::cpuset::CpuSet;
use super::state::State;
use serde::{Deserialize, Serialize};

/// Name of the file in the kubelet's folder.
pub const FILE: &str = "cpu_manager_state";

type Entries = BTreeMap<String, BTreeMap<String, String>>;

/// A whole pod's processors.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodEntry {
    #[serde(skip_serializing_if = "String::is_empty")]
    cpu_set: String,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Data {
    policy_name: String,
    default_cpu_set: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    entries: Entries,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pod_entries: BTreeMap<String, PodEntry>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    policy_name: String,
    default_cpu_set: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    entries: Entries,
    #[serde(skip_serializing)]
    pod_entries: BTreeMap<String, PodEntry>,
    checksum: u64,
    data: String,
    data_checksum: u64,
}

/// Puts a text in a file's place as a whole: after a crash, the old or the new one is there.
pub(crate) fn replace(file: &Path, text: &str) -> io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let temporary = file.with_file_name(format!(".{name}"));
    fs::write(&temporary, text)?;
    fs::File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, file)
}

/// FNV-1a, 32 bits.
pub(crate) fn fnv(text: &str) -> u64 {
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u64::from(hash)
}

/// Checksum of the data of version 4.
pub(crate) fn data_checksum(data: &str) -> u64 {
    fnv(&format!("(string){data}"))
}

/// Checksum of versions 2 and 3: of the text that upstream's library for dumps makes of the structure.
fn checksum(file: &File, structure: &str, with_pods: bool) -> u64 {
    let mut text = format!(
        "(*state.{structure}){{PolicyName:(string){} DefaultCPUSet:(string){} Entries:(map[string]map[string]string)map[",
        file.policy_name, file.default_cpu_set
    );
    for (at, (pod, containers)) in file.entries.iter().enumerate() {
        let space = if at == 0 { "" } else { " " };
        let _ = write!(text, "{space}{pod}:map[");
        for (at, (container, cpus)) in containers.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            let _ = write!(text, "{space}{container}:{cpus}");
        }
        text.push(']');
    }
    text.push(']');
    if with_pods {
        text.push_str(" PodEntries:(state.PodCPUAssignments)map[");
        for (at, (pod, entry)) in file.pod_entries.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            let cpus = CpuSet::parse(&entry.cpu_set).unwrap_or_default();
            let cpus: Vec<String> = cpus.0.iter().map(|cpu| format!("{cpu}:{{}}")).collect();
            let _ = write!(
                text,
                "{space}{pod}:{{CPUSet:(cpuset.CPUSet){{elems:(map[int]struct {{}})map[{}]}}}}",
                cpus.join(" ")
            );
        }
        text.push(']');
    }
    text.push_str(" Checksum:(checksum.Checksum)0}");
    fnv(&text)
}

/// The state as a file.
pub fn write(policy: &str, state: &State) -> String {
    let entries: Entries = (state.assignments.iter())
        .map(|(pod, of_pod)| {
            (pod.clone(), of_pod.iter().map(|(name, cpus)| (name.clone(), cpus.to_string())).collect())
        })
        .collect();
    let data = Data {
        policy_name: policy.to_owned(),
        default_cpu_set: state.shared.to_string(),
        entries: entries.clone(),
        pod_entries: (state.pods.iter())
            .map(|(pod, cpus)| (pod.clone(), PodEntry { cpu_set: cpus.to_string() }))
            .collect(),
    };
    let mut file = File {
        policy_name: policy.to_owned(),
        default_cpu_set: data.default_cpu_set.clone(),
        entries,
        // Text and numbers in maps with text as keys always serialize.
        data: serde_json::to_string(&data).unwrap_or_default(),
        ..File::default()
    };
    file.data_checksum = data_checksum(&file.data);
    file.checksum = checksum(&file, "CPUManagerCheckpoint", false);
    serde_json::to_string(&file).unwrap_or_default()
}

pub(crate) const CORRUPT: &str = "checkpoint is corrupted";

/// Reads a file that was written under the same policy, what whole pods have only if they may.
///
/// # Errors
/// If it is damaged or of another policy.
pub fn read(text: &str, policy: &str, whole_pods: bool) -> Result<State, String> {
    let file: File = serde_json::from_str(text).map_err(|e| format!("cannot read it: {e}"))?;
    let mut data = if !file.data.is_empty() || file.data_checksum != 0 {
        if data_checksum(&file.data) != file.data_checksum {
            return Err(format!("could not load v4 checkpoint: {CORRUPT}"));
        }
        serde_json::from_str(&file.data).map_err(|e| {
            format!("could not load v4 checkpoint: failed to deserialize cpu manager checkpoint data: {e}")
        })?
    } else {
        old(file)?
    };
    if !whole_pods {
        data.pod_entries.clear();
    }
    if data.policy_name != policy {
        return Err(format!(
            "configured policy {policy:?} differs from state checkpoint policy {:?}",
            data.policy_name
        ));
    }
    restored(&data)
}

/// Versions 3 and 2, which differ in what is checked.
fn old(file: File) -> Result<Data, String> {
    let known = [
        ("CPUManagerCheckpointV3", true),
        ("CPUManagerCheckpoint", true),
        ("CPUManagerCheckpointV2", false),
        ("CPUManagerCheckpoint", false),
    ];
    // Version 2 may have none.
    let fits =
        file.checksum == 0 || known.iter().any(|(name, pods)| checksum(&file, name, *pods) == file.checksum);
    if !fits {
        return Err(CORRUPT.to_owned());
    }
    Ok(Data {
        policy_name: file.policy_name,
        default_cpu_set: file.default_cpu_set,
        entries: file.entries,
        pod_entries: file.pod_entries,
    })
}

fn restored(data: &Data) -> Result<State, String> {
    let mut state = State {
        shared: CpuSet::parse(&data.default_cpu_set)
            .map_err(|e| format!("could not parse default CPU set {:?}: {e}", data.default_cpu_set))?,
        ..State::default()
    };
    for (pod, containers) in &data.entries {
        for (container, text) in containers {
            let cpus = CpuSet::parse(text).map_err(|e| {
                format!("could not parse cpuset {text:?} for container {container:?} in pod {pod:?}: {e}")
            })?;
            state.set(pod, container, cpus);
        }
    }
    for (pod, entry) in &data.pod_entries {
        let cpus = CpuSet::parse(&entry.cpu_set)
            .map_err(|e| format!("could not parse cpuset {:?} of pod {pod:?}: {e}", entry.cpu_set))?;
        state.pods.insert(pod.clone(), cpus);
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let mut state = State { shared: CpuSet::parse("0-3").unwrap(), ..State::default() };
        state.set("p", "c", CpuSet::parse("4,6").unwrap());
        let text = write("static", &state);
        assert_eq!(read(&text, "static", false), Ok(state));
        assert!(read(&text, "none", false).unwrap_err().contains("configured policy \"none\" differs"));
        assert!(read(&text.replace("4,6", "4,5"), "static", false).unwrap_err().contains(CORRUPT));
        assert!(read("{", "static", false).is_err() && read("[]", "static", false).is_err());
    }

    /// Written by upstream, see `e2e/oracle/cpumanager`.
    #[test]
    fn reads_old_versions() {
        for line in include_str!("testdata/checkpoints.jsonl").lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let state = read(case["file"].as_str().unwrap(), "static", false).unwrap();
            assert_eq!(state.shared.to_string(), "0-3");
            assert_eq!(state.get("pod-1", "c1").map(ToString::to_string).as_deref(), Some("4,6"));
            assert_eq!(state.get("pod-2", "b").map(ToString::to_string).as_deref(), Some("7"));
        }
    }
}
