//! What each pod takes of the file systems that can run out.
//!
//! [`Layout::counted`] decides what counts for which signal. Upstream: podDiskUsage in pkg/kubelet/eviction/helpers.go, v1.37.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::v1;
use k8s_openapi::api::core::v1::Pod;

use super::Signal;
use super::layout::{Counted, Layout};
use super::message::Used;
use crate::kubelet::Kubelet;
use crate::pod::storage::{HostFiles, Owner};
use crate::pod::view::PodView;
use crate::runtime::labels;
use crate::volume::usage::DiskUsage;

/// Parts of one pod's containers, such as their writable layers, by the container's name.
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

/// What each of the pods takes, in bytes or inodes as the signal counts, by the pod's id; containers' in bytes.
pub(super) async fn usage(
    kubelet: &Kubelet,
    pods: &[Arc<Pod>],
    signal: Signal,
    layout: Layout,
) -> HashMap<String, Used> {
    let layers = Layers::read(kubelet).await;
    let inodes = matches!(signal, Signal::NodeInodes | Signal::ImageInodes);
    let files = files(kubelet, pods).await;
    let one = |pod: &Arc<Pod>| {
        let none = (PodLayers::new(), DiskUsage::default());
        let (logs, volumes) = files.get(pod.uid()).unwrap_or(&none);
        let layers = layers.pods.get(pod.uid()).unwrap_or(&none.0);
        let sum = total(layout.counted(signal), layers, logs, *volumes);
        let containers = if inodes { BTreeMap::new() } else { containers(layers, logs) };
        let pod_sum = signed(if inodes { sum.inodes } else { sum.bytes });
        (pod.uid().to_owned(), Used { pod: Some(pod_sum), containers })
    };
    pods.iter().map(one).collect()
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The sum of what counts.
pub(super) fn total(counted: Counted, layers: &PodLayers, logs: &PodLayers, volumes: DiskUsage) -> DiskUsage {
    let mut sum = DiskUsage::default();
    if counted.layers {
        layers.values().for_each(|layer| sum += *layer);
    }
    if counted.files {
        logs.values().for_each(|log| sum += *log);
        sum += volumes;
    }
    sum
}

/// Bytes of containers of which both the layer and the log are known.
pub(super) fn containers(layers: &PodLayers, logs: &PodLayers) -> BTreeMap<String, i64> {
    let both = |(name, layer): (&String, &DiskUsage)| {
        let log = logs.get(name)?;
        Some((name.clone(), signed(layer.bytes.saturating_add(log.bytes))))
    };
    layers.iter().filter_map(both).collect()
}

/// Containers' logs, measured now, and the sum of local volumes as they were measured last, by the pod's id.
async fn files(kubelet: &Kubelet, pods: &[Arc<Pod>]) -> HashMap<String, (PodLayers, DiskUsage)> {
    let (paths, stats) = (kubelet.paths.clone(), kubelet.runtime.volumes.stats.clone());
    let pods = pods.to_vec();
    let measured = tokio::task::spawn_blocking(move || {
        let one = |pod: &Arc<Pod>| {
            let names: Vec<String> = pod.all_containers().map(|c| c.to_container().name.clone()).collect();
            let owner = Owner { namespace: pod.namespace(), name: pod.name(), uid: pod.uid() };
            let found = HostFiles::measure(&paths, owner, names.iter().map(String::as_str));
            let mut sum = DiskUsage::default();
            let latest = stats.latest(pod.uid());
            for volume in latest.iter().flat_map(|all| all.iter()).filter(|v| v.volume.local) {
                sum += DiskUsage { bytes: volume.figures.used, inodes: volume.figures.inodes_used };
            }
            (pod.uid().to_owned(), (found.logs, sum))
        };
        pods.iter().map(one).collect()
    });
    measured.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums() {
        let of = |bytes, inodes| DiskUsage { bytes, inodes };
        let layers = PodLayers::from([("a".to_owned(), of(10, 1)), ("b".to_owned(), of(20, 2))]);
        let logs = PodLayers::from([("b".to_owned(), of(100, 1))]);
        let sum = |layers_count, files| {
            let counted = Counted { layers: layers_count, files };
            total(counted, &layers, &logs, of(1000, 10)).bytes
        };
        assert_eq!(
            [sum(true, true), sum(true, false), sum(false, true), sum(false, false)],
            [1130, 30, 1100, 0]
        );
        assert_eq!(containers(&layers, &logs), BTreeMap::from([("b".to_owned(), 120)]));
    }
}
