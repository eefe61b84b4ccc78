//! Limits of local storage: of single emptyDir volumes, of containers, of whole pods. Start reading at [`excess`].
//!
//! Only pods with such limits are measured. Upstream: localStorageEviction in pkg/kubelet/eviction/eviction_manager.go, v1.37.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::disk::PodLayers;
use crate::paths::Paths;
use crate::pod::resources::{container_limits, pod_limits, whole};
use crate::pod::storage::{HostFiles, Owner};
use crate::pod::view::{PodView, init_containers};
use crate::volume::stats::Mounted;
use crate::volume::usage::{DiskUsage, disk_usage};

const STORAGE: &str = "ephemeral-storage";

/// What a pod uses, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Volumes on disk that go with the pod.
    pub volumes: BTreeMap<String, i64>,
    /// Containers' logs.
    pub logs: BTreeMap<String, i64>,
    /// Containers' writable layers.
    pub layers: BTreeMap<String, i64>,
    /// The pod's hosts file and the like.
    pub other: i64,
}

impl Usage {
    fn total(&self) -> i64 {
        let all = self.volumes.values().chain(self.logs.values()).chain(self.layers.values());
        all.fold(self.other, |sum, n| sum.saturating_add(*n))
    }

    /// Layers on a file system of their own do not count against a container's limit.
    fn container(&self, name: &str, dedicated: bool) -> i64 {
        let of = |map: &BTreeMap<String, i64>| map.get(name).copied().unwrap_or_default();
        of(&self.logs).saturating_add(if dedicated { 0 } else { of(&self.layers) })
    }
}

/// Why a pod has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Upstream's name of the limit, for metrics.
    pub signal: &'static str,
    /// For people.
    pub message: String,
}

/// The limit of an emptyDir volume on disk; the kernel keeps those in memory within theirs.
fn limit(volume: &Volume) -> Option<&Quantity> {
    let source = volume.empty_dir.as_ref().filter(|s| s.medium.as_deref() != Some("Memory"))?;
    source.size_limit.as_ref().filter(|size| whole(size) > 0)
}

/// True if the pod has any limit of local storage.
pub fn is_limited(pod: &Pod) -> bool {
    pod.spec().volumes.iter().flatten().any(|v| limit(v).is_some()) || pod_limits(pod).has(STORAGE)
}

/// Why the pod has to go, if it does; `dedicated` if writable layers have a file system of their own.
pub fn excess(pod: &Pod, usage: &Usage, dedicated: bool) -> Option<Excess> {
    let excess = |signal, message| Some(Excess { signal, message });
    for volume in pod.spec().volumes.iter().flatten() {
        let Some(most) = limit(volume) else { continue };
        if usage.volumes.get(&volume.name).is_some_and(|used| *used > whole(most)) {
            let message =
                format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, most.0);
            return excess("emptydirfs.limit", message);
        }
    }
    let limits = pod_limits(pod);
    if limits.has(STORAGE) && usage.total() > limits.whole(STORAGE) {
        let shown = crate::node::status::binary(limits.whole(STORAGE)).0;
        let message =
            format!("Pod ephemeral local storage usage exceeds the total limit of containers {shown}. ");
        return excess("ephemeralpodfs.limit", message);
    }
    let sidecars =
        init_containers(pod.spec()).iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    for container in pod.spec().containers.iter().chain(sidecars) {
        let most = container_limits(container);
        let used = usage.container(&container.name, dedicated);
        if most.whole(STORAGE) > 0 && used > most.whole(STORAGE) {
            let shown = container.resources.as_ref().and_then(|r| r.limits.as_ref()?.get(STORAGE));
            let shown = shown.map(|q| q.0.as_str()).unwrap_or_default();
            let message = format!(
                "Container {} exceeded its local ephemeral storage limit {shown:?}. ",
                container.name
            );
            return excess("ephemeralcontainerfs.limit", message);
        }
    }
    None
}

/// Measures a pod's volumes and files; `layers` are its containers' writable layers. Blocking.
pub fn measure(pod: &Pod, paths: &Paths, layers: &PodLayers, mounted: &[Mounted]) -> Usage {
    let bytes = |usage: DiskUsage| i64::try_from(usage.bytes).unwrap_or(i64::MAX);
    let named = |map: &BTreeMap<String, DiskUsage>| {
        map.iter().map(|(name, usage)| (name.clone(), bytes(*usage))).collect()
    };
    let volume = |v: &Mounted| disk_usage(&v.path).ok().map(|usage| (v.name.clone(), bytes(usage)));
    let names: Vec<String> = pod.all_containers().map(|c| c.to_container().name.clone()).collect();
    let owner = Owner { namespace: pod.namespace(), name: pod.name(), uid: pod.uid() };
    let files = HostFiles::measure(paths, owner, names.iter().map(String::as_str));
    Usage {
        volumes: mounted.iter().filter(|v| v.local).filter_map(volume).collect(),
        logs: named(&files.logs),
        layers: named(layers),
        other: bytes(files.other()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_excess() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
            "containers": [{"name": "c", "resources": {"limits": {"ephemeral-storage": "2Mi"}}}]}}))
        .unwrap();
        let usage = |volume: i64, log: i64, layer: i64| {
            let one = |name: &str, n| BTreeMap::from([(name.to_owned(), n)]);
            Usage { volumes: one("v", volume), logs: one("c", log), layers: one("c", layer), other: 0 }
        };
        let check = |volume: i64, log: i64| excess(&pod, &usage(volume, log, 0), false);
        assert!(is_limited(&pod));
        assert_eq!(check(1 << 20, 1 << 20), None);
        assert_eq!(
            check(1 + (1 << 20), 0).unwrap().message,
            "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "
        );
        assert_eq!(
            check(1 << 20, 1 + (1 << 20)).unwrap().message,
            "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "
        );
        assert!(!is_limited(
            &serde_json::from_value(json!({"spec": {"containers": [{"name": "c"}]}})).unwrap()
        ));
    }

    #[test]
    fn layers_of_their_own() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "c", "resources": {"limits": {"ephemeral-storage": "1Mi"}}}, {"name": "d"}]}}))
        .unwrap();
        let mut usage = Usage { layers: BTreeMap::from([("c".to_owned(), 2 << 20)]), ..Usage::default() };
        // The pod as a whole is over its limit wherever the layer is.
        assert_eq!(excess(&pod, &usage, true).unwrap().signal, "ephemeralpodfs.limit");
        usage.other = -(2 << 20);
        assert_eq!(excess(&pod, &usage, true), None);
        assert_eq!(
            excess(&pod, &usage, false).unwrap().message,
            "Container c exceeded its local ephemeral storage limit \"1Mi\". "
        );
    }
}
