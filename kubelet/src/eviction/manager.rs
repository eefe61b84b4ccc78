//! Watches the levels and stops one pod at a time while something is short.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri::v1;
use k8s_openapi::jiff::Timestamp;
use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Candidate, History, Level, Signal, message, observe, rank};
use crate::config::Settings;
use crate::kubelet::Kubelet;
use crate::node::machine::{disk, kibibytes};
use crate::node::status::Pressure;
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
pub async fn run(
    kubelet: Arc<Kubelet>,
    settings: Settings,
    pressure: Arc<RwLock<Pressure>>,
    changed: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut history = History::default();
    let mut pause = LOOK;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let levels = levels(&kubelet, &settings);
        let settle = settings.eviction_pressure_transition_period.to_std();
        let now = observe(&mut history, &levels, settle, Timestamp::now());
        if std::mem::replace(&mut *pressure.write(), now) != now {
            changed.notify_one();
        }
        let short = levels.iter().find(|l| l.is_short());
        pause = match short {
            Some(level) => {
                tracing::warn!(
                    resource = level.signal.resource(),
                    available = level.available,
                    "Eviction manager: attempting to reclaim"
                );
                if evict_one(&kubelet, level).await { Duration::from_secs(1) } else { LOOK }
            }
            None => LOOK,
        };
    }
}

fn levels(kubelet: &Kubelet, settings: &Settings) -> Vec<Level> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = kibibytes(&meminfo, "MemTotal:").saturating_mul(1024);
    let mut out = vec![Level {
        signal: Signal::Memory,
        available: kibibytes(&meminfo, "MemAvailable:").saturating_mul(1024),
        threshold: settings.hard_threshold("memory.available", total),
    }];
    if let Some(space) = disk(&kubelet.paths.root) {
        out.push(Level {
            signal: Signal::DiskSpace,
            available: space.available,
            threshold: settings.hard_threshold("nodefs.available", space.capacity),
        });
        // File systems without a fixed number of inodes report none.
        if space.inodes > 0 {
            out.push(Level {
                signal: Signal::Inodes,
                available: space.inodes_free,
                threshold: settings.hard_threshold("nodefs.inodesFree", space.inodes),
            });
        }
    }
    let number =
        |path: &str| std::fs::read_to_string(Path::new(path)).ok().and_then(|t| t.trim().parse::<i64>().ok());
    if let Some(most) = number("/proc/sys/kernel/pid_max") {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let used = load.split(['/', ' ']).nth(4).and_then(|n| n.parse::<i64>().ok()).unwrap_or_default();
        let threshold = settings.hard_threshold("pid.available", most);
        out.push(Level { signal: Signal::Pids, available: most - used, threshold });
    }
    out
}

/// Stops the pod that goes first; false if there is none.
async fn evict_one(kubelet: &Arc<Kubelet>, level: &Level) -> bool {
    let Some(workers) = kubelet.workers() else { return false };
    let used = usage(kubelet, level.signal).await;
    let mut candidates: Vec<Candidate> = (kubelet.pods.list().iter())
        .filter(|pod| !pod.is_critical() && workers.phase(pod.uid()) == Some(crate::worker::Phase::Syncing))
        .map(|pod| {
            let requests = pod_requests(pod);
            let request = match level.signal {
                Signal::Memory => requests.whole("memory"),
                Signal::DiskSpace => requests.whole("ephemeral-storage"),
                Signal::Inodes | Signal::Pids => 0,
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
    let message = message(level);
    kubelet.events.warning(&pod, "Evicted", &message);
    kubelet.evict(&first.uid, Some(GRACE), Eviction { reason: "Evicted".to_owned(), message });
    let gone = async {
        while workers.may_run(&first.uid) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    // Taking longer is no error: the next look chooses again.
    let _ = tokio::time::timeout(WAIT, gone).await;
    true
}

/// What each pod uses of a resource, as far as the runtime tells.
async fn usage(kubelet: &Kubelet, signal: Signal) -> HashMap<String, i64> {
    let answer = kubelet.runtime.cri.list_container_stats(v1::ListContainerStatsRequest::default()).await;
    let mut out: HashMap<String, i64> = HashMap::new();
    for stats in answer.map(|a| a.stats).unwrap_or_default() {
        let value = match signal {
            Signal::Memory => stats.memory.and_then(|m| m.working_set_bytes),
            Signal::DiskSpace => stats.writable_layer.and_then(|l| l.used_bytes),
            Signal::Inodes => stats.writable_layer.and_then(|l| l.inodes_used),
            Signal::Pids => None,
        };
        let uid = stats.attributes.and_then(|a| a.labels.get(labels::POD_UID).cloned());
        if let (Some(value), Some(uid)) = (value, uid) {
            let entry = out.entry(uid).or_default();
            *entry = entry.saturating_add(i64::try_from(value.value).unwrap_or(i64::MAX));
        }
    }
    out
}
