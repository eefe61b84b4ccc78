//! The file `dra_manager_state`, as upstream's, so that either kubelet goes on where the other stopped.
//!
//! Upstream: state/checkpoint.go and state/state.go. Its order of claims is chance; ours is by name.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::claims::{ClaimInfo, Claims, Device, DriverState};
use crate::cpumanager::checkpoint::CORRUPT;
use crate::devicemanager::checkpoint::escaped;

/// Name of the file in the kubelet's folder.
pub const FILE: &str = "dra_manager_state";
const KIND: &str = "DRACheckpoint";
const VERSION: &str = "checkpoint.dra.kubelet.k8s.io/v1";

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct File {
    data: String,
    checksum: u32,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Data {
    kind: String,
    #[serde(rename = "apiVersion")]
    version: String,
    #[serde(rename = "ClaimInfoStateList")]
    claims: Option<Vec<Claim>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Claim {
    #[serde(rename = "ClaimUID")]
    uid: String,
    claim_name: String,
    namespace: String,
    /// A set, written as a map to nothing.
    #[serde(rename = "PodUIDs")]
    pods: Option<BTreeMap<String, Value>>,
    driver_state: Option<BTreeMap<String, Driver>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Driver {
    #[serde(rename = "Devices", serialize_with = "null_if_empty")]
    devices: Option<Vec<Prepared>>,
    #[serde(rename = "skipNodeOperations", skip_serializing_if = "Vec::is_empty")]
    skips: Vec<String>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Prepared {
    pool_name: String,
    device_name: String,
    #[serde(rename = "ShareID")]
    share: Option<String>,
    #[serde(serialize_with = "null_if_empty")]
    request_names: Option<Vec<String>>,
    #[serde(rename = "CDIDeviceIDs", serialize_with = "null_if_empty")]
    cdi: Option<Vec<String>>,
}

/// What is empty was never set, as lists of devices grow one by one.
fn null_if_empty<T: Serialize, S: Serializer>(list: &Option<Vec<T>>, to: S) -> Result<S::Ok, S::Error> {
    list.as_ref().filter(|all| !all.is_empty()).serialize(to)
}

fn checksum(data: &str) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(data.as_bytes());
    crc.sum()
}

/// The claims as a file.
pub fn write(claims: &Claims) -> String {
    let device = |d: &Device| Prepared {
        pool_name: d.pool.clone(),
        device_name: d.name.clone(),
        share: d.share.clone(),
        request_names: Some(d.requests.clone()),
        cdi: Some(d.cdi.clone()),
    };
    let driver = |(name, state): (&String, &DriverState)| {
        let devices = Some(state.devices.iter().map(device).collect());
        (name.clone(), Driver { devices, skips: state.skips.clone() })
    };
    let claim = |info: &ClaimInfo| Claim {
        uid: info.uid.clone(),
        claim_name: info.name.clone(),
        namespace: info.namespace.clone(),
        pods: Some(info.pods.iter().map(|uid| (uid.clone(), Value::Object(Default::default()))).collect()),
        driver_state: Some(info.drivers.iter().map(driver).collect()),
    };
    let claims = Some(claims.all().map(claim).collect());
    let data = Data { kind: KIND.to_owned(), version: VERSION.to_owned(), claims };
    // Texts and maps of texts always serialize.
    let data = escaped(&serde_json::to_string(&data).unwrap_or_default());
    let checksum = checksum(&data);
    serde_json::to_string(&File { data, checksum }).unwrap_or_default()
}

/// Reads a file. Nothing is prepared before the drivers have said so again.
///
/// # Errors
/// If it is damaged.
pub fn read(text: &str) -> Result<Claims, String> {
    let file: File = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if checksum(&file.data) != file.checksum {
        return Err(CORRUPT.to_owned());
    }
    let data: Data = serde_json::from_str(&file.data).map_err(|e| e.to_string())?;
    let device = |d: Prepared| Device {
        pool: d.pool_name,
        name: d.device_name,
        share: d.share,
        requests: d.request_names.unwrap_or_default(),
        cdi: d.cdi.unwrap_or_default(),
    };
    let driver = |(name, state): (String, Driver)| {
        let devices = state.devices.unwrap_or_default().into_iter().map(device).collect();
        (name, DriverState { devices, skips: state.skips })
    };
    let mut claims = Claims::default();
    for claim in data.claims.unwrap_or_default() {
        claims.add(ClaimInfo {
            uid: claim.uid,
            name: claim.claim_name,
            namespace: claim.namespace,
            pods: claim.pods.unwrap_or_default().into_keys().collect::<BTreeSet<_>>(),
            drivers: claim.driver_state.unwrap_or_default().into_iter().map(driver).collect(),
            ..ClaimInfo::default()
        });
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that upstream's code wrote, recorded by `e2e/oracle/dra`.
    #[test]
    fn reads_upstreams_files() {
        let mut same = 0;
        for line in include_str!("testdata/checkpoints.jsonl").lines() {
            let claims = read(line).unwrap();
            assert_eq!(read(&write(&claims)).unwrap(), claims, "{line}");
            same += usize::from(write(&claims) == line);
            let broken = line.replacen("DRACheckpoint", "XRACheckpoint", 1);
            assert_eq!(read(&broken).unwrap_err(), CORRUPT, "{line}");
        }
        // The others have nothing where a running kubelet has something empty.
        assert_eq!(same, 3);
    }
}
