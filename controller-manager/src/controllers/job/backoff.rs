//! How long a job waits before it replaces failed pods. Pure.
//! Upstream: pkg/controller/job/backoff_utils.go.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::kept::{ContainerStatus, Pod, Second};
use crate::pods;

/// Pause after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// Failures since the last success.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    pub failures: i32,
    pub last: Option<Timestamp>,
}

impl Record {
    /// With pods that have ended since. A success wipes out the failures before it.
    pub fn after(self, succeeded: &[Arc<Pod>], failed: &[Arc<Pod>]) -> Self {
        let success = succeeded.iter().map(|p| finished(p)).max();
        let failures = failed.iter().map(|p| finished(p));
        let counted: Vec<Timestamp> = failures.filter(|at| success.is_none_or(|s| *at > s)).collect();
        let before = if success.is_some() { Self::default() } else { self };
        Self {
            failures: before.failures.saturating_add(i32::try_from(counted.len()).unwrap_or(i32::MAX)),
            last: counted.into_iter().max().or(before.last),
        }
    }

    /// What is left of the pause.
    pub fn remaining(self, now: Timestamp) -> Duration {
        remaining(self.failures, self.last, now)
    }
}

/// What is left of the pause of an index whose last pod has failed.
pub fn remaining_of_index(last: Option<&Pod>, now: Timestamp) -> Duration {
    let Some(pod) = last else { return Duration::ZERO };
    remaining(super::spec::all_noted(pod).saturating_add(1), Some(finished(pod)), now)
}

fn remaining(failures: i32, last: Option<Timestamp>, now: Timestamp) -> Duration {
    let (Some(last), true) = (last, failures > 0) else { return Duration::ZERO };
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(6);
    let pause = (FIRST * 2u32.pow(doublings)).min(LONGEST);
    let passed = now.duration_since(last);
    if passed.is_negative() {
        return pause + passed.unsigned_abs();
    }
    pause.saturating_sub(passed.unsigned_abs())
}

/// When a pod ended: its last container did, or it ceased to be ready, or its deletion was asked for, or else it was
/// made. Upstream: getFinishedTime.
pub fn finished(pod: &Pod) -> Timestamp {
    let unready = pods::condition(pod, "Ready").filter(|c| c.status == "False");
    let unready = unready.and_then(|c| c.last_transition_time).map(Second::at);
    let deleted = pod.metadata.deletion_timestamp.and_then(|t| {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        t.at().checked_sub(Duration::from_secs(u64::try_from(grace).unwrap_or(0))).ok()
    });
    let made = pod.metadata.creation_timestamp.map(Second::at);
    containers_ended(pod).or(unready).or(deleted).or(made).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The last end of all regular containers and sidecars, if all have ended.
fn containers_ended(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let inits = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    let sidecars: Vec<&str> =
        inits.filter(|c| c.restart_policy.as_deref() == Some("Always")).map(|c| c.name.as_str()).collect();
    let regular = status.container_statuses.iter().flatten();
    let sidecar =
        status.init_container_statuses.iter().flatten().filter(|c| sidecars.contains(&c.name.as_str()));
    let ended = |c: &ContainerStatus| c.state.as_ref()?.terminated.as_ref()?.finished_at.map(Second::at);
    // Upstream starts anew after a list with a container that runs: the sidecars then count alone.
    let regular: Option<Vec<Timestamp>> = regular.map(ended).collect();
    let sidecar: Option<Vec<Timestamp>> = sidecar.map(ended).collect();
    sidecar?.into_iter().chain(regular.into_iter().flatten()).max()
}
