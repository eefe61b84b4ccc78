//! Watches the levels and stops one pod at a time while something is short.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cri::v1;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::disk::{self, Layers, PodLayers};
use super::local::{self, Excess};
use super::notifier::Notifiers;
use super::{Candidate, History, Level, Levels, Signal, Threshold, message, rank, step};
use crate::cgroup::memory::Memory;
use crate::config::Settings;
use crate::kubelet::Kubelet;
use crate::node::machine::{self, Disk, kibibytes};
use crate::pod::resources::pod_requests;
use crate::pod::view::PodView;
use crate::runtime::labels;
use crate::status::generate::Eviction;

/// Levels are looked at so often, as upstream.
const LOOK: Duration = Duration::from_secs(10);
/// Longest wait for an evicted pod to end before the next one is chosen.
const WAIT: Duration = Duration::from_secs(30);
/// Grace period of a hard eviction in seconds, as upstream.
const GRACE: i64 = 1;

/// Watches until `stop`.
pub async fn run(kubelet: Arc<Kubelet>, settings: Settings, changed: Arc<Notify>, stop: CancellationToken) {
    let mut history = History::default();
    let mut pause = LOOK;
    let thresholds = &settings.watched_thresholds();
    let isolates = settings.local_storage_capacity_isolation;
    if thresholds.is_empty() && !isolates {
        return;
    }
    let hierarchy = kubelet.runtime.cgroups.hierarchy();
    let mut notifiers = match settings.kernel_memcg_notification {
        true => Notifiers::new(thresholds, hierarchy, &kubelet.runtime.cgroups.all_pods_path()),
        false => Notifiers::default(),
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = notifiers.crossed() => {}
        }
        let levels = levels(&kubelet, thresholds).await;
        notifiers.update(hierarchy, &levels, Instant::now());
        let settle = settings.eviction_pressure_transition_period.to_std();
        let (now, due) = step(&mut history, thresholds, &levels, settle, Timestamp::now());
        if std::mem::replace(&mut *kubelet.node.pressure.write(), now) != now {
            changed.notify_one();
        }
        if isolates && evict_excess(&kubelet).await {
            pause = Duration::from_secs(1);
            continue;
        }
        let first = due.first().and_then(|index| thresholds.get(*index));
        let found = first.and_then(|threshold| Some((threshold, levels.get(&threshold.signal)?)));
        pause = match found {
            Some((threshold, level)) => {
                let resource = threshold.signal.resource();
                tracing::warn!(
                    resource,
                    available = level.available,
                    "Eviction manager: attempting to reclaim"
                );
                let message = format!("Attempting to reclaim {resource}");
                kubelet.events.node(&kubelet.node.name, true, "EvictionThresholdMet", &message);
                let most = settings.eviction_max_pod_grace_period;
                if evict_one(&kubelet, threshold, level, most).await { Duration::from_secs(1) } else { LOOK }
            }
            None => LOOK,
        };
    }
}

async fn levels(kubelet: &Kubelet, thresholds: &[Threshold]) -> Levels {
    let wanted = |signal: Signal| thresholds.iter().any(|t| t.signal == signal);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| kibibytes(&meminfo, name).saturating_mul(1024);
    let memory = Level { available: bytes("MemAvailable:"), capacity: bytes("MemTotal:") };
    let mut out = Levels::from([(Signal::Memory, memory)]);
    if wanted(Signal::AllocatableMemory) {
        let cgroups = &kubelet.runtime.cgroups;
        let pods = cgroups.hierarchy().memory(&cgroups.all_pods_path());
        out.extend(pods.and_then(of_pods).map(|level| (Signal::AllocatableMemory, level)));
    }
    let mut add = |place: Option<Disk>, space: Signal, inodes: Signal| {
        let Some(disk) = place else { return };
        out.insert(space, Level { available: disk.available, capacity: disk.capacity });
        // File systems without a fixed number of inodes report none.
        if disk.inodes > 0 {
            out.insert(inodes, Level { available: disk.inodes_free, capacity: disk.inodes });
        }
    };
    add(machine::disk(&kubelet.paths.root), Signal::NodeSpace, Signal::NodeInodes);
    if wanted(Signal::ImageSpace) || wanted(Signal::ImageInodes) {
        add(image_disk(kubelet).await, Signal::ImageSpace, Signal::ImageInodes);
    }
    if let Some(capacity) = crate::node::machine::max_tasks() {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let used = load.split(['/', ' ']).nth(4).and_then(|n| n.parse::<i64>().ok()).unwrap_or_default();
        out.insert(Signal::Pids, Level { available: capacity - used, capacity });
    }
    out
}

/// Memory of the group of all pods; unknown if it has no limit.
fn of_pods(memory: Memory) -> Option<Level> {
    let capacity = memory.limit?;
    Some(Level { available: capacity.saturating_sub(memory.working_set), capacity })
}

/// The file system on which the runtime keeps images.
async fn image_disk(kubelet: &Kubelet) -> Option<Disk> {
    let answer = kubelet.runtime.cri.image_fs_info(v1::ImageFsInfoRequest::default()).await.ok()?;
    let place = answer.image_filesystems.into_iter().next()?.fs_id?.mountpoint;
    machine::disk(Path::new(&place))
}

/// Stops pods that use more local storage than they may; true if there was one.
async fn evict_excess(kubelet: &Arc<Kubelet>) -> bool {
    let Some(workers) = kubelet.workers() else { return false };
    let syncing = |uid: &str| workers.phase(uid) == Some(crate::worker::Phase::Syncing);
    let limited: Vec<_> = (kubelet.pods.list().into_iter())
        .filter(|pod| !pod.is_critical() && local::is_limited(pod) && syncing(pod.uid()))
        .collect();
    if limited.is_empty() {
        return false;
    }
    let layers = Layers::read(kubelet).await;
    let (paths, stats) = (kubelet.paths.clone(), kubelet.runtime.volumes.stats.clone());
    let measured = tokio::task::spawn_blocking(move || {
        let none = PodLayers::new();
        let excess = |pod: &Arc<Pod>| {
            let own = layers.pods.get(pod.uid()).unwrap_or(&none);
            let usage = local::measure(pod, &paths, own, &stats.mounted(pod.uid()));
            local::excess(pod, &usage, layers.dedicated)
        };
        limited.into_iter().filter_map(|pod| excess(&pod).map(|found| (pod, found))).collect::<Vec<_>>()
    });
    let found = measured.await.unwrap_or_default();
    for (pod, Excess { signal, message }) in &found {
        kubelet.events.warning(pod, "Evicted", message);
        crate::metrics::evicted(signal);
        let reason = Eviction { reason: "Evicted".to_owned(), message: message.clone() };
        kubelet.evict(pod.uid(), Some(GRACE), reason);
    }
    !found.is_empty()
}

/// Stops the pod that goes first; false if there is none.
async fn evict_one(kubelet: &Arc<Kubelet>, threshold: &Threshold, level: &Level, most: i64) -> bool {
    let Some(workers) = kubelet.workers() else { return false };
    let syncing = |uid: &str| workers.phase(uid) == Some(crate::worker::Phase::Syncing);
    let mut pods = kubelet.pods.list();
    pods.retain(|pod| !pod.is_critical() && syncing(pod.uid()));
    let used = usage(kubelet, &pods, threshold.signal).await;
    let mut candidates: Vec<Candidate> = (pods.iter())
        .map(|pod| {
            let requests = pod_requests(pod);
            let request = match threshold.signal {
                Signal::Memory | Signal::AllocatableMemory => requests.whole("memory"),
                Signal::NodeSpace | Signal::ImageSpace => requests.whole("ephemeral-storage"),
                Signal::NodeInodes | Signal::ImageInodes | Signal::Pids => 0,
            };
            let usage = used.get(pod.uid()).copied().unwrap_or_default();
            Candidate {
                uid: pod.uid().to_owned(),
                priority: pod.spec().priority.unwrap_or(0),
                usage,
                request,
            }
        })
        .collect();
    rank(&mut candidates);
    let Some(first) = candidates.first() else {
        tracing::error!("Eviction manager: unable to evict any pods from the node");
        return false;
    };
    let Some(pod) = kubelet.pods.get(&first.uid) else { return false };
    let message = message(threshold, level);
    kubelet.events.warning(&pod, "Evicted", &message);
    let own = pod.spec().termination_grace_period_seconds.unwrap_or(most);
    let grace = if threshold.is_hard() { GRACE } else { most.min(own) };
    crate::metrics::evicted(threshold.signal.name());
    kubelet.evict(&first.uid, Some(grace), Eviction { reason: "Evicted".to_owned(), message });
    let gone = async {
        while workers.may_run(&first.uid) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    // Taking longer is no error: the next look chooses again.
    let _ = tokio::time::timeout(WAIT, gone).await;
    true
}

/// What each pod uses of a resource, as far as can be told.
async fn usage(kubelet: &Kubelet, pods: &[Arc<Pod>], signal: Signal) -> HashMap<String, i64> {
    match signal {
        Signal::Memory | Signal::AllocatableMemory => memory(kubelet).await,
        Signal::Pids => HashMap::new(),
        _ => disk::usage(kubelet, pods, signal).await,
    }
}

async fn memory(kubelet: &Kubelet) -> HashMap<String, i64> {
    let answer = kubelet.runtime.cri.list_container_stats(v1::ListContainerStatsRequest::default()).await;
    let mut out: HashMap<String, i64> = HashMap::new();
    for stats in answer.map(|a| a.stats).unwrap_or_default() {
        let value = stats.memory.and_then(|m| m.working_set_bytes);
        let uid = stats.attributes.and_then(|a| a.labels.get(labels::POD_UID).cloned());
        if let (Some(value), Some(uid)) = (value, uid) {
            let entry = out.entry(uid).or_default();
            *entry = entry.saturating_add(i64::try_from(value.value).unwrap_or(i64::MAX));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_have_what_their_group_may_have() {
        let memory = Memory { usage: 90, working_set: 70, limit: Some(100), ..Memory::default() };
        assert_eq!(of_pods(memory), Some(Level { available: 30, capacity: 100 }));
        assert_eq!(of_pods(Memory { limit: None, ..memory }), None);
        assert_eq!(of_pods(Memory { limit: Some(50), ..memory }).unwrap().available, -20);
    }
}
