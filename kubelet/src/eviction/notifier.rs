//! Looking at memory as soon as the kernel says that it gets short (`kernelMemcgNotification`).
//!
//! Only control groups of version 1 tell; with version 2 nothing is watched, as upstream. What is reclaimed easily moves
//! all the time, so the number of bytes to be woken at is set anew with every look.
//! Upstream: pkg/kubelet/eviction/memory_threshold_notifier_others.go, v1.37.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::future::{pending, select_all};

use super::{Level, Levels, Signal, Threshold};
use crate::cgroup::fs::Hierarchy;
use crate::cgroup::memory::Crossing;

/// Numbers of bytes are set anew so often at most, as upstream.
const REFRESH: Duration = Duration::from_secs(10);

/// What a group's usage has to become so that no more than `least` is available; `level` and `usage` are of now.
fn crossing(usage: i64, level: Level, least: i64) -> i64 {
    usage.saturating_add(level.available).saturating_sub(least)
}

/// How a threshold is called in the log.
fn description(threshold: &Threshold) -> String {
    let hard = if threshold.is_hard() { "hard " } else { "soft " };
    let of_pods = if threshold.signal == Signal::AllocatableMemory { "allocatable " } else { "" };
    format!("{hard}{of_pods}memory eviction threshold")
}

struct Watched {
    threshold: Threshold,
    /// The group below the mount.
    group: String,
    dir: PathBuf,
    crossing: Option<Crossing>,
}

impl Watched {
    fn new(threshold: Threshold, hierarchy: &Hierarchy, pods: &str) -> Option<Self> {
        let group = match threshold.signal {
            Signal::Memory => String::new(),
            Signal::AllocatableMemory => pods.to_owned(),
            _ => return None,
        };
        let Some(dir) = hierarchy.controller_dir("memory", &group) else {
            tracing::info!(
                "Eviction manager: failed to create memory threshold notifier: memory cgroup mount point not found"
            );
            return None;
        };
        Some(Self { threshold, group, dir, crossing: None })
    }

    fn update(&mut self, hierarchy: &Hierarchy, levels: &Levels) {
        let usage = hierarchy.memory(&self.group).map(|memory| memory.usage);
        let Some((usage, level)) = usage.zip(levels.get(&self.threshold.signal).copied()) else { return };
        let least = self.threshold.value.of(level.capacity);
        match Crossing::watch(&self.dir, crossing(usage, level, least)) {
            Ok(crossing) => self.crossing = Some(crossing),
            Err(error) => {
                let notifier = description(&self.threshold);
                let group = self.dir.display().to_string();
                tracing::info!(notifier, group, %error, "Eviction manager: failed to update notifier");
            }
        }
    }

    /// Waits until memory crosses the threshold, in either direction.
    async fn crossed(&self, crossing: &Crossing) -> &Threshold {
        if let Err(error) = crossing.next().await {
            tracing::info!(%error, "Eviction manager: error while waiting for memcg events");
            return pending().await;
        }
        &self.threshold
    }
}

/// All thresholds that the kernel watches.
#[derive(Default)]
pub(super) struct Notifiers {
    watched: Vec<Watched>,
    updated: Option<Instant>,
}

impl Notifiers {
    /// Nothing is watched before the first [`Self::update`]. `pods` is the group of all pods.
    pub(super) fn new(thresholds: &[Threshold], hierarchy: &Hierarchy, pods: &str) -> Self {
        if hierarchy.is_v2() {
            tracing::warn!(
                "kernelMemcgNotification has no effect with control groups of version 2: they do not tell"
            );
            return Self::default();
        }
        let watched = thresholds.iter().filter_map(|t| Watched::new(t.clone(), hierarchy, pods)).collect();
        Self { watched, updated: None }
    }

    /// Tells the kernel when to speak, from what is available now.
    pub(super) fn update(&mut self, hierarchy: &Hierarchy, levels: &Levels, now: Instant) {
        if self.updated.is_some_and(|at| now.duration_since(at) < REFRESH) {
            return;
        }
        self.updated = Some(now);
        self.watched.iter_mut().for_each(|watched| watched.update(hierarchy, levels));
    }

    /// Waits until a threshold is crossed; for ever if none is watched.
    pub(super) async fn crossed(&self) {
        let watched = self.watched.iter().filter_map(|w| Some(Box::pin(w.crossed(w.crossing.as_ref()?))));
        let all: Vec<_> = watched.collect();
        if all.is_empty() {
            return pending().await;
        }
        let (threshold, ..) = select_all(all).await;
        tracing::info!("Eviction manager: {} crossed", description(threshold));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::threshold::{self, Amount};

    fn hard() -> Threshold {
        Threshold { signal: Signal::Memory, value: Amount::Share(0.1), grace: Duration::ZERO, reclaim: None }
    }

    /// Recorded from upstream's notifier, see `e2e/oracle/eviction`.
    #[test]
    fn as_upstream() {
        let lines = include_str!("testdata/crossings.txt").lines();
        let mut count = 0;
        for line in lines {
            let fields: Vec<&str> = line.split(' ').collect();
            let [available, working_set, usage, value, expected] = fields[..] else { panic!("{line}") };
            let number = |text: &str| text.parse::<i64>().unwrap();
            let (available, capacity) = (number(available), number(available) + number(working_set));
            let least = threshold::amount(value).unwrap().of(capacity);
            let found = crossing(number(usage), Level { available, capacity }, least);
            assert_eq!(found, number(expected), "{line}");
            count += 1;
        }
        assert!(count > 50);
    }

    #[test]
    fn names() {
        let soft = Threshold { grace: Duration::from_secs(60), ..hard() };
        let of_pods = Threshold { signal: Signal::AllocatableMemory, ..hard() };
        let expected = ["hard memory", "soft memory", "hard allocatable memory"];
        assert_eq!(
            [hard(), soft, of_pods].map(|t| description(&t)),
            expected.map(|n| format!("{n} eviction threshold"))
        );
    }

    #[tokio::test]
    async fn version_2_is_not_watched() {
        let dir = tempfile::tempdir().unwrap();
        let mut notifiers = Notifiers::new(&[hard()], &Hierarchy::V2(dir.path().to_owned()), "kubepods");
        notifiers.update(&Hierarchy::V2(dir.path().to_owned()), &Levels::new(), Instant::now());
        assert!(notifiers.watched.is_empty());
        assert!(futures::poll!(Box::pin(notifiers.crossed())).is_pending());
    }
}
