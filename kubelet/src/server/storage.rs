//! File systems, volumes and local storage in the summary.
//!
//! Everything here is put together from figures; [`crate::pod::storage`] and [`crate::volume::stats`] measure. Upstream:
//! makeContainerStats in pkg/kubelet/stats/cri_stats_provider.go, calcEphemeralStorage in helper.go, v1.37.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use cri::v1;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::node::machine::{Disk, disk};
use crate::pod::storage::HostFiles;
use crate::volume::stats::VolumeFigures;
use crate::volume::usage::DiskUsage;

/// A file system, of which `used` is somebody's part.
pub fn part(disk: &Disk, used: Option<u64>, inodes_used: Option<u64>, now: Timestamp) -> Value {
    json!({
        "time": now, "availableBytes": disk.available, "capacityBytes": disk.capacity, "usedBytes": used,
        "inodesFree": disk.inodes_free, "inodes": disk.inodes, "inodesUsed": inodes_used,
    })
}

/// A whole file system.
pub fn whole(disk: &Disk, now: Timestamp) -> Value {
    let count = |n: i64| u64::try_from(n).ok();
    part(disk, count(disk.used), count(disk.inodes.saturating_sub(disk.inodes_free)), now)
}

/// What the runtime says of its images' file system.
pub fn images(answer: &v1::ImageFsInfoResponse, now: Timestamp) -> Option<Value> {
    let found = answer.image_filesystems.first()?;
    let used = found.used_bytes.map(|n| n.value);
    let inodes = found.inodes_used.map(|n| n.value);
    let place = found.fs_id.as_ref().and_then(|id| disk(Path::new(&id.mountpoint)));
    Some(match place {
        Some(place) => part(&place, used, inodes, now),
        None => json!({"time": now, "usedBytes": used, "inodesUsed": inodes}),
    })
}

/// A container's writable layer; its file system is looked up once per page.
pub fn root_fs(
    layer: Option<&v1::FilesystemUsage>,
    known: &mut HashMap<String, Option<Disk>>,
    now: Timestamp,
) -> Value {
    let Some(layer) = layer else { return json!({"time": null}) };
    let place = layer.fs_id.as_ref().map(|id| id.mountpoint.as_str()).unwrap_or_default();
    let found = *known.entry(place.to_owned()).or_insert_with(|| disk(Path::new(place)));
    let (used, inodes) = (layer.used_bytes.map(|n| n.value), layer.inodes_used.map(|n| n.value));
    match found {
        Some(found) => part(&found, used, inodes, now),
        None => json!({"time": now, "usedBytes": used, "inodesUsed": inodes}),
    }
}

/// All that a pod takes of local storage.
pub fn total(
    layers: &BTreeMap<String, DiskUsage>,
    files: &HostFiles,
    volumes: Option<&Arc<Vec<VolumeFigures>>>,
) -> DiskUsage {
    let mut out = files.other();
    layers.values().chain(files.logs.values()).for_each(|usage| out += *usage);
    for volume in volumes.into_iter().flat_map(|all| all.iter()).filter(|v| v.volume.local) {
        out += DiskUsage { bytes: volume.figures.used, inodes: volume.figures.inodes_used };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::stats::Mounted;
    use crate::volume::usage::{Figures, Measure};

    #[test]
    fn totals() {
        let usage = |n| DiskUsage { bytes: n * 100, inodes: n };
        let volume = |local, used| VolumeFigures {
            volume: Mounted {
                name: String::new(),
                path: "/".into(),
                measure: Measure::Files,
                claim: None,
                local,
            },
            time: Timestamp::UNIX_EPOCH,
            figures: Figures { used, inodes_used: 1, ..Figures::default() },
        };
        let files = HostFiles {
            logs: BTreeMap::from([("c".to_owned(), usage(2))]),
            pod_logs: Some(usage(3)),
            hosts: Some(usage(4)),
        };
        let layers = BTreeMap::from([("c".to_owned(), usage(1))]);
        let volumes = Arc::new(vec![volume(true, 5), volume(false, 1000)]);
        assert_eq!(total(&layers, &files, Some(&volumes)), DiskUsage { bytes: 1005, inodes: 11 });
        assert_eq!(total(&BTreeMap::new(), &HostFiles::default(), None), DiskUsage::default());
    }

    #[test]
    fn file_systems() {
        let fs_id = Some(v1::FilesystemIdentifier { mountpoint: "/".to_owned() });
        let used_bytes = Some(v1::UInt64Value { value: 7 });
        let layer = v1::FilesystemUsage { fs_id, used_bytes, ..Default::default() };
        let shown = root_fs(Some(&layer), &mut HashMap::new(), Timestamp::UNIX_EPOCH);
        assert_eq!(shown["usedBytes"], 7);
        assert!(shown["inodes"].as_i64().is_some() && shown["inodesUsed"].is_null(), "{shown}");
        let answer = v1::ImageFsInfoResponse { image_filesystems: vec![layer], ..Default::default() };
        assert_eq!(images(&answer, Timestamp::UNIX_EPOCH).unwrap()["usedBytes"], 7);
        assert_eq!(images(&v1::ImageFsInfoResponse::default(), Timestamp::UNIX_EPOCH), None);
    }
}
