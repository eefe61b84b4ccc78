//! What each pod takes of the file systems that can run out.
//!
//! [`counted`] decides what counts for which signal. Upstream: buildSignalToRankFunc and podDiskUsage in
//! pkg/kubelet/eviction/helpers.go, v1.37.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::v1;
use k8s_openapi::api::core::v1::Pod;

use super::Signal;
use crate::kubelet::Kubelet;
use crate::pod::storage::{HostFiles, Owner};
use crate::pod::view::PodView;
use crate::runtime::labels;
use crate::volume::usage::DiskUsage;

/// Writable layers of one pod's containers.
pub type PodLayers = BTreeMap<String, DiskUsage>;

/// Writable layers of all containers, by the pod's id.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// By the pod's id.
    pub pods: HashMap<String, PodLayers>,
    /// True if they are on another file system than the kubelet's folder.
    pub dedicated: bool,
}

impl Layers {
    /// Asks the runtime; nothing is known if it does not answer.
    pub async fn read(kubelet: &Kubelet) -> Self {
        let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).ok();
        let own = device(&kubelet.paths.root);
        let answer = kubelet.runtime.cri.list_container_stats(v1::ListContainerStatsRequest::default()).await;
        let mut out = Self::default();
        for stats in answer.map(|a| a.stats).unwrap_or_default() {
            let Some(layer) = stats.writable_layer else { continue };
            let place = layer.fs_id.map(|id| PathBuf::from(id.mountpoint)).unwrap_or_default();
            // A place that cannot be looked at is not known to be another.
            out.dedicated |= device(&place).is_some_and(|found| Some(found) != own);
            let value = |n: Option<v1::UInt64Value>| n.map(|n| n.value).unwrap_or_default();
            let used = DiskUsage { bytes: value(layer.used_bytes), inodes: value(layer.inodes_used) };
            let own_labels = stats.attributes.map(|a| a.labels).unwrap_or_default();
            let label = |key| own_labels.get(key).cloned();
            if let (Some(uid), Some(name)) = (label(labels::POD_UID), label(labels::CONTAINER_NAME)) {
                *out.pods.entry(uid).or_default().entry(name).or_default() += used;
            }
        }
        out
    }
}

/// What of a pod's local storage counts for a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Writable layers.
    pub layers: bool,
    /// Logs and local volumes.
    pub files: bool,
}

/// What counts for a signal about disks; `dedicated` if images and layers have a file system of their own.
pub fn counted(signal: Signal, dedicated: bool) -> Counted {
    match signal {
        Signal::ImageSpace | Signal::ImageInodes if dedicated => Counted { layers: true, files: false },
        _ if dedicated => Counted { layers: false, files: true },
        _ => Counted { layers: true, files: true },
    }
}

/// What each of the pods takes, in bytes or inodes as the signal counts, by the pod's id.
pub async fn usage(kubelet: &Kubelet, pods: &[Arc<Pod>], signal: Signal) -> HashMap<String, i64> {
    let layers = Layers::read(kubelet).await;
    let counted = counted(signal, layers.dedicated);
    let inodes = matches!(signal, Signal::NodeInodes | Signal::ImageInodes);
    let files = if counted.files { files(kubelet, pods).await } else { HashMap::new() };
    let one = |pod: &Arc<Pod>| {
        let mut sum = files.get(pod.uid()).copied().unwrap_or_default();
        if counted.layers {
            layers.pods.get(pod.uid()).into_iter().flatten().for_each(|(_, layer)| sum += *layer);
        }
        let value = if inodes { sum.inodes } else { sum.bytes };
        (pod.uid().to_owned(), i64::try_from(value).unwrap_or(i64::MAX))
    };
    pods.iter().map(one).collect()
}

/// Containers' logs, measured now, and local volumes as they were measured last.
async fn files(kubelet: &Kubelet, pods: &[Arc<Pod>]) -> HashMap<String, DiskUsage> {
    let (paths, stats) = (kubelet.paths.clone(), kubelet.runtime.volumes.stats.clone());
    let pods = pods.to_vec();
    let measured = tokio::task::spawn_blocking(move || {
        let one = |pod: &Arc<Pod>| {
            let names: Vec<String> = pod.all_containers().map(|c| c.to_container().name.clone()).collect();
            let owner = Owner { namespace: pod.namespace(), name: pod.name(), uid: pod.uid() };
            let found = HostFiles::measure(&paths, owner, names.iter().map(String::as_str));
            let mut sum = DiskUsage::default();
            found.logs.values().for_each(|log| sum += *log);
            let latest = stats.latest(pod.uid());
            for volume in latest.iter().flat_map(|all| all.iter()).filter(|v| v.volume.local) {
                sum += DiskUsage { bytes: volume.figures.used, inodes: volume.figures.inodes_used };
            }
            (pod.uid().to_owned(), sum)
        };
        pods.iter().map(one).collect()
    });
    measured.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts() {
        let of = |signal, dedicated| {
            let counted = counted(signal, dedicated);
            (counted.layers, counted.files)
        };
        assert_eq!(of(Signal::NodeSpace, false), (true, true));
        assert_eq!(of(Signal::ImageInodes, false), (true, true));
        assert_eq!(of(Signal::NodeInodes, true), (false, true));
        assert_eq!(of(Signal::ImageSpace, true), (true, false));
    }
}
