//! The file `kubelet_internal_checkpoint`, as upstream's, so that either kubelet goes on where the other stopped.
//!
//! Upstream: checkpoint/checkpoint.go and toCheckpointData in pod_devices.go. Upstream's order of entries is chance; ours
//! is by name.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deviceplugin::v1beta1::ContainerAllocateResponse;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::state::{Given, State};
use crate::cpumanager::checkpoint::{CORRUPT, fnv};

/// Name of the file in the folder of plugins.
pub const FILE: &str = "kubelet_internal_checkpoint";

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct File {
    data: Data,
    checksum: u64,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Data {
    pod_device_entries: Option<Vec<Entry>>,
    registered_devices: Option<BTreeMap<String, Option<Vec<String>>>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    #[serde(rename = "ContainerName")]
    container: String,
    #[serde(rename = "ResourceName")]
    resource: String,
    /// By number, but in the order of their text.
    #[serde(rename = "DeviceIDs")]
    ids: Option<BTreeMap<String, Option<Vec<String>>>>,
    /// In base64.
    #[serde(rename = "AllocResp")]
    answer: Option<String>,
}

/// What upstream's library for dumps makes of a list; nothing and an empty one differ.
fn list<T>(items: Option<&Vec<T>>, show: impl Fn(&T) -> String) -> String {
    items.map_or_else(
        || "<nil>".to_owned(),
        |all| format!("[{}]", all.iter().map(show).collect::<Vec<_>>().join(" ")),
    )
}

fn dump_entry(entry: &Entry) -> Result<String, String> {
    let mut ids = "<nil>".to_owned();
    if let Some(by_node) = &entry.ids {
        let number = |text: &String| text.parse::<i64>().map_err(|_| format!("{text:?} is no NUMA node"));
        let mut sorted =
            by_node.iter().map(|(k, v)| Ok((number(k)?, v))).collect::<Result<Vec<_>, String>>()?;
        sorted.sort_by_key(|(node, _)| *node);
        let one = |(node, devices): &(i64, &Option<Vec<String>>)| {
            format!("{node}:{}", list(devices.as_ref(), Clone::clone))
        };
        ids = format!("map{}", list(Some(&sorted), one));
    }
    let bytes = entry.answer.as_ref().map(|text| decoded(text)).transpose()?;
    Ok(format!(
        "{{PodUID:(string){} ContainerName:(string){} ResourceName:(string){} DeviceIDs:(checkpoint.DevicesPerNUMA){ids} AllocResp:([]uint8){}}}",
        entry.pod_uid,
        entry.container,
        entry.resource,
        list(bytes.as_ref(), ToString::to_string)
    ))
}

fn decoded(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|e| format!("cannot read an allocation: {e}"))
}

fn checksum(data: &Data) -> Result<u64, String> {
    let mut text = "(checkpoint.checkpointData){PodDeviceEntries:([]checkpoint.PodDevicesEntry)".to_owned();
    match &data.pod_device_entries {
        None => text.push_str("<nil>"),
        Some(entries) => {
            let all = entries.iter().map(dump_entry).collect::<Result<Vec<_>, _>>()?;
            let _ = write!(text, "[{}]", all.join(" "));
        }
    }
    text.push_str(" RegisteredDevices:(map[string][]string)");
    match &data.registered_devices {
        None => text.push_str("<nil>"),
        Some(all) => {
            let one = |(name, ids): (&String, &Option<Vec<String>>)| {
                format!("{name}:{}", list(ids.as_ref(), Clone::clone))
            };
            let _ = write!(text, "map[{}]", all.iter().map(one).collect::<Vec<_>>().join(" "));
        }
    }
    text.push('}');
    Ok(fnv(&text))
}

/// As Go's encoder, which keeps such signs out of web pages.
pub(crate) fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// The state as a file.
pub fn write(state: &State) -> String {
    let mut entries = Vec::new();
    for (uid, of_pod) in &state.pods {
        for (container, of_container) in of_pod {
            entries.extend(of_container.iter().map(|(resource, given)| Entry {
                pod_uid: uid.clone(),
                container: container.clone(),
                resource: resource.clone(),
                ids: Some(given.by_node.iter().map(|(n, ids)| (n.to_string(), Some(ids.clone()))).collect()),
                answer: Some(STANDARD.encode(given.answer.encode_to_vec())),
            }));
        }
    }
    let registered = (state.healthy.iter())
        .map(|(resource, ids)| (resource.clone(), Some(ids.iter().cloned().collect())))
        .collect();
    let data = Data {
        pod_device_entries: (!entries.is_empty()).then_some(entries),
        registered_devices: Some(registered),
    };
    // Nodes are numbers here and texts of maps always serialize, so neither can fail.
    let checksum = checksum(&data).unwrap_or_default();
    escaped(&serde_json::to_string(&File { data, checksum }).unwrap_or_default())
}

/// Reads a file: what containers hold. Of the resources that were registered only the names count, until their plugins
/// come again.
///
/// # Errors
/// If it is damaged.
pub fn read(text: &str) -> Result<State, String> {
    let file: File = serde_json::from_str(text).map_err(|e| format!("cannot read it: {e}"))?;
    if checksum(&file.data)? != file.checksum {
        return Err(CORRUPT.to_owned());
    }
    let mut state = State::default();
    for entry in file.data.pod_device_entries.unwrap_or_default() {
        let bytes = decoded(&entry.answer.unwrap_or_default())?;
        let answer = match ContainerAllocateResponse::decode(bytes.as_slice()) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(pod_uid = entry.pod_uid, container = entry.container, %error, "Cannot read an allocation");
                continue;
            }
        };
        let number =
            |(node, ids): (String, Option<Vec<String>>)| Some((node.parse().ok()?, ids.unwrap_or_default()));
        let by_node = entry.ids.unwrap_or_default().into_iter().filter_map(number).collect();
        let of_container = state.pods.entry(entry.pod_uid).or_default().entry(entry.container).or_default();
        of_container.insert(entry.resource, Given { by_node, answer });
    }
    state.recount();
    for resource in file.data.registered_devices.unwrap_or_default().into_keys() {
        state.healthy.insert(resource.clone(), Default::default());
        state.unhealthy.insert(resource, Default::default());
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that upstream's code wrote, recorded by `e2e/oracle/devicemanager`.
    #[test]
    fn reads_upstreams_files() {
        let mut rewritten = 0;
        for line in include_str!("testdata/checkpoints.jsonl").lines() {
            let state = read(line).unwrap();
            let again: serde_json::Value = serde_json::from_str(&write(&state)).unwrap();
            let theirs: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(again["Data"]["PodDeviceEntries"], theirs["Data"]["PodDeviceEntries"], "{line}");
            // Of files without registered devices our own text is the same.
            if write(&state) == line {
                rewritten += 1;
            }
            let broken = line.replacen("pod-", "pad-", 1);
            assert!(broken == line || read(&broken).is_err_and(|e| e == CORRUPT), "{line}");
        }
        assert!(rewritten >= 4, "{rewritten}");
    }
}
