//! Watches the levels; while something is short, makes room and stops one pod at a time.
//!
//! Start reading at [`EvictionManager::run`]. Upstream: synchronize in pkg/kubelet/eviction/eviction_manager.go, v1.37.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cri::v1;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::disk::{Layers, PodLayers};
use super::layout::Layout;
use super::local::{self, Excess};
use super::message::{Told, told};
use super::notifier::Notifiers;
use super::rank::{Candidate, rank};
use super::{History, Level, Signal, Threshold, is_relieved, levels, step, usage};
use crate::config::Settings;
use crate::kubelet::Kubelet;
use crate::pleg::Pleg;
use crate::pod::view::PodView;
use crate::runtime::collect::{Keep, collect};
use crate::status::generate::Eviction;
use crate::worker::Phase;

/// Levels are looked at so often, as upstream.
const LOOK: Duration = Duration::from_secs(10);
/// The next look after a pod was stopped.
const SOON: Duration = Duration::from_secs(1);
/// Grace period of a hard eviction in seconds, as upstream.
const GRACE: i64 = 1;

/// Makes room.
pub struct EvictionManager {
    kubelet: Arc<Kubelet>,
    pleg: Arc<Pleg>,
    thresholds: Vec<Threshold>,
    /// True if limits of local storage are enforced.
    isolates: bool,
    notifies: bool,
    /// Longest grace period of a soft eviction in seconds.
    max_grace: i64,
    settle: Duration,
    /// Told when what the node is short of has changed.
    changed: Arc<Notify>,
}

/// What is short, and since when that is known.
struct Short<'a> {
    threshold: &'a Threshold,
    level: Level,
    seen: Instant,
}

impl EvictionManager {
    /// `changed` is told when what the node is short of has changed.
    pub fn new(kubelet: Arc<Kubelet>, pleg: Arc<Pleg>, settings: &Settings, changed: Arc<Notify>) -> Self {
        Self {
            kubelet,
            pleg,
            thresholds: settings.watched_thresholds(),
            isolates: settings.local_storage_capacity_isolation,
            notifies: settings.kernel_memcg_notification,
            max_grace: settings.eviction_max_pod_grace_period,
            settle: settings.eviction_pressure_transition_period.to_std(),
            changed,
        }
    }

    /// Watches until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        if self.thresholds.is_empty() && !self.isolates {
            return;
        }
        let cgroups = &self.kubelet.runtime.cgroups;
        let mut notifiers = match self.notifies {
            true => Notifiers::new(&self.thresholds, cgroups.hierarchy(), &cgroups.all_pods_path()),
            false => Notifiers::default(),
        };
        let (mut history, mut pause) = (History::default(), LOOK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = notifiers.crossed() => {}
            }
            pause = if self.look(&mut history, &mut notifiers).await { SOON } else { LOOK };
        }
    }

    /// Looks at the levels and does what is due; true if a pod was stopped.
    async fn look(&self, history: &mut History, notifiers: &mut Notifiers) -> bool {
        let kubelet = &self.kubelet;
        let levels = levels::read(kubelet, &self.thresholds).await;
        let seen = Instant::now();
        notifiers.update(kubelet.runtime.cgroups.hierarchy(), &levels, seen);
        let (now, due) = step(history, &self.thresholds, &levels, self.settle, Timestamp::now());
        if std::mem::replace(&mut *kubelet.node.pressure.write(), now) != now {
            self.changed.notify_one();
        }
        if self.isolates && evict_excess(kubelet).await {
            return true;
        }
        let first = due.first().and_then(|index| self.thresholds.get(*index));
        let found = first.and_then(|threshold| Some((threshold, *levels.get(&threshold.signal)?)));
        let Some((threshold, level)) = found else { return false };
        let resource = threshold.signal.resource();
        tracing::warn!(resource, available = level.available, "Eviction manager: attempting to reclaim");
        let message = format!("Attempting to reclaim {resource}");
        kubelet.events.node(&kubelet.node.name, true, "EvictionThresholdMet", &message);
        let layout = self.layout(threshold.signal).await;
        if self.make_room(threshold.signal, layout).await {
            tracing::info!(
                resource,
                "Eviction manager: able to reduce resource pressure without evicting pods."
            );
            return false;
        }
        tracing::info!(resource, "Eviction manager: must evict pod(s) to reclaim");
        self.evict_one(&Short { threshold, level, seen }, layout).await
    }

    /// Where images and layers are; of no matter to signals that are not about disks.
    async fn layout(&self, signal: Signal) -> Layout {
        if matches!(signal, Signal::Memory | Signal::AllocatableMemory | Signal::Pids) {
            return Layout::Shared;
        }
        match self.kubelet.runtime.cri.image_fs_info(v1::ImageFsInfoRequest::default()).await {
            Ok(places) => Layout::read(&self.kubelet.paths.root, &places),
            Err(error) => {
                tracing::error!(%error, "Eviction manager: failed to get HasDedicatedImageFs");
                Layout::Shared
            }
        }
    }

    /// Removes what nobody needs; true if that was enough. Upstream: reclaimNodeLevelResources.
    async fn make_room(&self, signal: Signal, layout: Layout) -> bool {
        let kubelet = &self.kubelet;
        let spare = layout.spare(signal);
        if spare.containers {
            tracing::info!("Attempting to delete unused containers");
            kubelet.spans.containers().run(collect(kubelet, &self.pleg, Keep::Little)).await;
        }
        if spare.images
            && let Err(error) = kubelet.image_garbage.remove_unused(kubelet).await
        {
            let resource = signal.resource();
            tracing::warn!(
                resource,
                error,
                "Eviction manager: unexpected error when attempting to reduce resource pressure"
            );
        }
        (spare.containers || spare.images)
            && is_relieved(&self.thresholds, &levels::read(kubelet, &self.thresholds).await)
    }

    /// Stops the pod that goes first; false if there is none.
    async fn evict_one(&self, short: &Short<'_>, layout: Layout) -> bool {
        let Short { threshold, level, .. } = short;
        let signal = threshold.signal;
        let pods = candidates(&self.kubelet);
        let used = usage::read(&self.kubelet, &pods, signal, layout).await;
        let of = |pod: &Arc<Pod>| used.get(pod.uid()).and_then(|used| used.pod);
        let mut ranked: Vec<Candidate> =
            pods.iter().map(|pod| Candidate::new(pod, of(pod), signal)).collect();
        rank(&mut ranked, signal);
        let first = ranked.first().and_then(|first| pods.iter().find(|pod| pod.uid() == first.uid));
        let Some(pod) = first else {
            tracing::error!(
                "Eviction manager: eviction thresholds have been met, but no pods are active to evict"
            );
            return false;
        };
        crate::metrics::chosen_by_stats(signal.name(), short.seen.elapsed());
        let grace = grace(threshold, pod, self.max_grace);
        crate::metrics::evicted(signal.name());
        evict(&self.kubelet, pod, grace, told(threshold, level, pod, used.get(pod.uid())), true);
        self.until_ended(pod, grace).await;
        true
    }

    /// Waits for a pod to end. If it takes too long, the next look chooses again.
    async fn until_ended(&self, pod: &Pod, grace: i64) {
        if !self.kubelet.until_stopped(&[pod.uid().to_owned()], grace).await {
            let message = "Container runtime did not kill the pod within specified grace period.";
            self.kubelet.events.warning(pod, "ExceededGracePeriod", message);
        }
    }
}

/// Seconds that a pod has to end; `most` if the threshold is a soft one.
pub(super) fn grace(threshold: &Threshold, pod: &Pod, most: i64) -> i64 {
    if threshold.is_hard() {
        return GRACE;
    }
    pod.spec().termination_grace_period_seconds.map_or(most, |own| own.min(most))
}

/// Pods that run and may be stopped.
fn candidates(kubelet: &Kubelet) -> Vec<Arc<Pod>> {
    let Some(workers) = kubelet.workers() else { return Vec::new() };
    let mut pods = kubelet.pods.list();
    pods.retain(|pod| !pod.is_critical() && workers.phase(pod.uid()) == Some(Phase::Syncing));
    pods
}

fn evict(kubelet: &Kubelet, pod: &Pod, grace: i64, told: Told, is_disruption: bool) {
    let Told { message, annotations } = told;
    kubelet.events.warning_with(pod, annotations, "Evicted", &message);
    kubelet.evict(pod.uid(), Some(grace), Eviction { reason: "Evicted".to_owned(), message, is_disruption });
}

/// Stops pods that use more local storage than they may; true if there was one. That they went is their own doing.
async fn evict_excess(kubelet: &Arc<Kubelet>) -> bool {
    let mut limited = candidates(kubelet);
    limited.retain(|pod| local::is_limited(pod));
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
    let any = !found.is_empty();
    for (pod, Excess { signal, message }) in found {
        crate::metrics::evicted(signal);
        evict(kubelet, &pod, GRACE, Told { message, annotations: Default::default() }, false);
    }
    any
}
