//! Limits of local storage: of single emptyDir volumes, of containers, of whole pods. Start reading at [`excess`].
//!
//! Only pods with such limits are measured. Upstream: localStorageEviction in pkg/kubelet/eviction/eviction_manager.go, v1.37.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::paths::Paths;
use crate::pod::resources::{container_limits, pod_limits, whole};
use crate::pod::view::{PodView, init_containers};

const STORAGE: &str = "ephemeral-storage";

/// What a pod uses, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// emptyDir volumes on disk.
    pub volumes: BTreeMap<String, i64>,
    /// Containers' logs and, on the same file system, their writable layers.
    pub containers: BTreeMap<String, i64>,
    /// The pod's hosts file and the like.
    pub other: i64,
}

impl Usage {
    fn total(&self) -> i64 {
        self.volumes
            .values()
            .chain(self.containers.values())
            .fold(self.other, |sum, n| sum.saturating_add(*n))
    }
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

/// Why the pod has to go, if it does.
pub fn excess(pod: &Pod, usage: &Usage) -> Option<String> {
    for volume in pod.spec().volumes.iter().flatten() {
        let Some(most) = limit(volume) else { continue };
        if usage.volumes.get(&volume.name).is_some_and(|used| *used > whole(most)) {
            return Some(format!(
                "Usage of EmptyDir volume {:?} exceeds the limit {:?}. ",
                volume.name, most.0
            ));
        }
    }
    let limits = pod_limits(pod);
    if limits.has(STORAGE) && usage.total() > limits.whole(STORAGE) {
        let shown = crate::node::status::binary(limits.whole(STORAGE)).0;
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "
        ));
    }
    let sidecars =
        init_containers(pod.spec()).iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    for container in pod.spec().containers.iter().chain(sidecars) {
        let most = container_limits(container);
        let used = usage.containers.get(&container.name).copied().unwrap_or_default();
        if most.whole(STORAGE) > 0 && used > most.whole(STORAGE) {
            let shown = container.resources.as_ref().and_then(|r| r.limits.as_ref()?.get(STORAGE));
            let shown = shown.map(|q| q.0.as_str()).unwrap_or_default();
            return Some(format!(
                "Container {} exceeded its local ephemeral storage limit {shown:?}. ",
                container.name
            ));
        }
    }
    None
}

/// Measures a pod; `layers` are the sizes of its containers' writable layers. Blocking.
pub fn measure(pod: &Pod, paths: &Paths, layers: &BTreeMap<String, i64>) -> Usage {
    let mut usage = Usage::default();
    for volume in pod.spec().volumes.iter().flatten() {
        if volume.empty_dir.as_ref().is_some_and(|s| s.medium.as_deref() != Some("Memory")) {
            let place = paths.volume(pod.uid(), "kubernetes.io/empty-dir", &volume.name);
            usage.volumes.insert(volume.name.clone(), size(&place));
        }
    }
    let logs = crate::logs::pod_log_directory(&paths.pod_logs, pod.namespace(), pod.name(), pod.uid());
    for container in pod.all_containers() {
        let name = container.to_container().name.clone();
        let own = size(&Path::new(&logs).join(&name));
        usage.containers.insert(name.clone(), own + layers.get(&name).copied().unwrap_or_default());
    }
    usage.other = size(&paths.hosts(pod.uid()));
    usage
}

/// Bytes on disk of a file or of all below a folder on one file system; what vanishes meanwhile counts nothing.
fn size(path: &Path) -> i64 {
    let Ok(root) = fs::symlink_metadata(path) else { return 0 };
    let mut seen = HashSet::new();
    let mut pending: Vec<PathBuf> = vec![path.to_owned()];
    let mut bytes = 0i64;
    while let Some(path) = pending.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.dev() != root.dev() || (found.nlink() > 1 && !found.is_dir() && !seen.insert(found.ino())) {
            continue;
        }
        bytes = bytes.saturating_add(i64::try_from(found.blocks().saturating_mul(512)).unwrap_or(i64::MAX));
        if found.is_dir() {
            pending.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    bytes
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
        let check = |volume: i64, container: i64| {
            let volumes = BTreeMap::from([("v".to_owned(), volume), ("m".to_owned(), 9 << 20)]);
            let containers = BTreeMap::from([("c".to_owned(), container)]);
            excess(&pod, &Usage { volumes, containers, other: -(9 << 20) })
        };
        assert!(is_limited(&pod));
        assert_eq!(check(1 << 20, 1 << 20), None);
        assert_eq!(
            check(1 + (1 << 20), 0).unwrap(),
            "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "
        );
        assert_eq!(
            check(1 << 20, 1 + (1 << 20)).unwrap(),
            "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "
        );
        assert!(!is_limited(
            &serde_json::from_value(json!({"spec": {"containers": [{"name": "c"}]}})).unwrap()
        ));
    }

    #[test]
    fn measures() {
        let dir = tempfile::tempdir().unwrap();
        let empty = size(dir.path());
        fs::write(dir.path().join("a"), vec![1u8; 64 << 10]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        let used = size(dir.path()) - empty;
        assert!((64 << 10..128 << 10).contains(&used), "{used}");
        assert_eq!(size(&dir.path().join("none")), 0);
    }
}
