//! The text of the files, byte for byte as upstream's, so that either kubelet goes on where the other stopped.
//!
//! Upstream: pkg/kubelet/allocation/state/checkpoint.go and state_checkpoint.go, v1.37.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ResourceClaim, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

use super::resources::{PodResources, canonical};
use crate::cpumanager::checkpoint::{CORRUPT, data_checksum};
use crate::pod::resources::Quantities;

/// Resources by pod.
pub type Entries = BTreeMap<String, Arc<PodResources>>;

/// The file itself.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct File {
    data: String,
    checksum: u64,
}

/// Resources in upstream's order, without what is empty.
#[derive(Serialize)]
pub(super) struct Requirements<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<&'a Quantities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<&'a Quantities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<&'a Vec<ResourceClaim>>,
}

impl<'a> From<&'a ResourceRequirements> for Requirements<'a> {
    fn from(all: &'a ResourceRequirements) -> Self {
        Self {
            limits: all.limits.as_ref().filter(|list| !list.is_empty()),
            requests: all.requests.as_ref().filter(|list| !list.is_empty()),
            claims: all.claims.as_ref().filter(|list| !list.is_empty()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Written<'a> {
    container_resources: BTreeMap<&'a str, Requirements<'a>>,
    pod_level_resources: Option<Requirements<'a>>,
    empty_dir_volume_limits: &'a Option<BTreeMap<String, Option<Quantity>>>,
}

#[derive(Serialize)]
struct WrittenData<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    entries: BTreeMap<&'a str, Written<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Read {
    container_resources: Option<BTreeMap<String, ResourceRequirements>>,
    pod_level_resources: Option<ResourceRequirements>,
    empty_dir_volume_limits: Option<BTreeMap<String, Option<Quantity>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ReadData {
    entries: Option<BTreeMap<String, Read>>,
}

/// The file's text and its checksum.
pub fn write(entries: &Entries) -> (String, u64) {
    let entries = (entries.iter())
        .map(|(uid, known)| {
            let containers = known.containers.iter().map(|(name, all)| (name.as_str(), all.into()));
            let written = Written {
                container_resources: containers.collect(),
                pod_level_resources: known.pod.as_ref().map(Into::into),
                empty_dir_volume_limits: &known.volumes,
            };
            (uid.as_str(), written)
        })
        .collect();
    // Text in maps with text as keys always serializes.
    let data = serde_json::to_string(&WrittenData { entries }).unwrap_or_default();
    let checksum = data_checksum(&data);
    (serde_json::to_string(&File { data, checksum }).unwrap_or_default(), checksum)
}

/// What a file says, and its checksum.
///
/// # Errors
/// If it is damaged.
pub fn read(text: &str) -> Result<(Entries, u64), String> {
    let file: File = serde_json::from_str(text).map_err(|e| e.to_string())?;
    if data_checksum(&file.data) != file.checksum {
        return Err(CORRUPT.to_owned());
    }
    let failed = |e: String| format!("failed to get pod resource information: {e}");
    let data: ReadData = serde_json::from_str(&file.data).map_err(|e| failed(e.to_string()))?;
    let entries = (data.entries.into_iter().flatten())
        .map(|(uid, read)| Ok((uid, Arc::new(restored(read).map_err(failed)?))))
        .collect::<Result<Entries, String>>()?;
    Ok((entries, file.checksum))
}

fn restored(read: Read) -> Result<PodResources, String> {
    let containers = read.container_resources.into_iter().flatten();
    let settle = |q: Quantity| canonical(&q).ok_or_else(|| format!("{:?} is not a quantity", q.0));
    let volume = |(name, size): (String, Option<Quantity>)| Ok((name, size.map(settle).transpose()?));
    Ok(PodResources {
        containers: containers.map(|(name, all)| Ok((name, checked(all)?))).collect::<Result<_, String>>()?,
        pod: read.pod_level_resources.map(checked).transpose()?,
        volumes: (read.empty_dir_volume_limits)
            .map(|all| all.into_iter().map(volume).collect::<Result<_, String>>())
            .transpose()?,
    })
}

fn checked(all: ResourceRequirements) -> Result<ResourceRequirements, String> {
    let settle = |(name, q): (String, Quantity)| {
        let settled = canonical(&q).ok_or_else(|| format!("{:?} is not a quantity", q.0))?;
        Ok((name, settled))
    };
    let list = |list: Option<Quantities>| {
        list.map(|list| list.into_iter().map(settle).collect::<Result<_, String>>()).transpose()
    };
    Ok(ResourceRequirements { limits: list(all.limits)?, requests: list(all.requests)?, claims: all.claims })
}
