//! What each pod uses of what runs short.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cri::v1;
use k8s_openapi::api::core::v1::Pod;

use super::layout::Layout;
use super::message::Used;
use super::{Signal, disk};
use crate::kubelet::Kubelet;
use crate::pod::view::PodView;
use crate::runtime::labels;

/// Of all pods of which anything is known, by the pod's id. The pods' own sums are in the signal's unit.
pub(super) async fn read(
    kubelet: &Kubelet,
    pods: &[Arc<Pod>],
    signal: Signal,
    layout: Layout,
) -> HashMap<String, Used> {
    match signal {
        Signal::Memory | Signal::AllocatableMemory => memory(kubelet, pods).await,
        Signal::Pids => pods.iter().filter_map(|pod| processes(kubelet, pod)).collect(),
        _ => disk::usage(kubelet, pods, signal, layout).await,
    }
}

/// Working sets: pods' from their groups, which have what lies in memory volumes as well, containers' from the runtime.
async fn memory(kubelet: &Kubelet, pods: &[Arc<Pod>]) -> HashMap<String, Used> {
    let answer = kubelet.runtime.cri.list_container_stats(v1::ListContainerStatsRequest::default()).await;
    let mut containers: HashMap<String, BTreeMap<String, i64>> = HashMap::new();
    for stats in answer.map(|a| a.stats).unwrap_or_default() {
        let Some(value) = stats.memory.and_then(|m| m.working_set_bytes) else { continue };
        let mut own = stats.attributes.map(|a| a.labels).unwrap_or_default();
        let (uid, name) = (own.remove(labels::POD_UID), own.remove(labels::CONTAINER_NAME));
        if let Some((uid, name)) = uid.zip(name) {
            let bytes = i64::try_from(value.value).unwrap_or(i64::MAX);
            containers.entry(uid).or_default().insert(name, bytes);
        }
    }
    let cgroups = &kubelet.runtime.cgroups;
    let one = |pod: &Arc<Pod>| {
        let group = cgroups.hierarchy().memory(&cgroups.pod_path(pod)).map(|memory| memory.working_set);
        let containers = containers.remove(pod.uid());
        let sum = containers.as_ref().map(|all| all.values().fold(0i64, |sum, n| sum.saturating_add(*n)));
        let pod_bytes = group.or(sum)?;
        let used = Used { pod: Some(pod_bytes), containers: containers.unwrap_or_default() };
        Some((pod.uid().to_owned(), used))
    };
    pods.iter().filter_map(one).collect()
}

/// Tasks of the pod's group; every one has a process id.
fn processes(kubelet: &Kubelet, pod: &Pod) -> Option<(String, Used)> {
    let cgroups = &kubelet.runtime.cgroups;
    let group = cgroups.hierarchy().controller_dir("pids", &cgroups.pod_path(pod))?;
    let text = std::fs::read_to_string(group.join("pids.current")).ok()?;
    let used = Used { pod: text.trim().parse().ok(), ..Used::default() };
    Some((pod.uid().to_owned(), used))
}
