//! Whether a job has ended, and otherwise which pods it needs. Pure.
//! Upstream: pkg/controller/job/job_controller.go syncJob, manageJob.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::JobCondition;

use super::backoff::remaining_of_index;
use super::failure_policy::Verdict;
use super::spec::{Facts, condition, index};
use super::success_policy;
use super::work::Work;
use crate::controllers::shared::count;
use crate::kept::Pod;
use crate::pods;

/// Most pods made or deleted in one round.
pub const BURST: usize = 500;

/// What to do with pods.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Nothing,
    /// Too many pods: they go and do not count.
    Delete(Vec<Arc<Pod>>),
    /// One pod per entry, with its index.
    Create(Vec<Option<i32>>),
    /// Pods failed a short while ago.
    Wait(Duration),
}

/// Decides whether the job is over: the condition that says so. `FailureTarget` and `SuccessCriteriaMet` come first; the
/// job is `Failed` or `Complete` when all pods have ended.
pub fn verdict(work: &Work, now: Timestamp) -> Option<JobCondition> {
    let job = &work.job;
    if let Some(met) = job.condition("SuccessCriteriaMet").filter(|c| c.status == "True") {
        return Some(met.clone());
    }
    if let Some(target) = job.condition("FailureTarget").filter(|c| c.status == "True") {
        return Some(failed(target, now));
    }
    let fail = |reason: &str, message: &str| Some(condition("FailureTarget", "True", reason, message, now));
    let failing = work.pods.iter().filter(|p| job.is_failed(p));
    let ended = failing.into_iter().find_map(|p| match work.judge(p) {
        Verdict::FailJob(message) => Some(message),
        _ => None,
    });
    if let Some(message) = ended.filter(|_| job.of().pod_failure_policy.is_some()) {
        return fail("PodFailurePolicy", &message);
    }
    if work.failed > job.backoff_limit() || restarts_too_often(work) {
        return fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if deadline(work, now).is_some_and(|left| left.is_zero()) {
        return fail("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    let completions = job.completions().unwrap_or(0);
    if let Some(lost) = &work.failed_indexes {
        if job.of().max_failed_indexes.is_some_and(|most| lost.count() > most) {
            return fail(
                "MaxFailedIndexesExceeded",
                "Job has exceeded the specified maximal number of failed indexes",
            );
        }
        if lost.count() > 0 && lost.count() + work.succeeded_indexes.count() >= completions {
            return fail("FailedIndexes", "Job has failed indexes");
        }
    }
    if !job.is_indexed() {
        return None;
    }
    let met = success_policy::met(job.of().success_policy.as_ref(), completions, &work.succeeded_indexes)?;
    Some(condition("SuccessCriteriaMet", "True", "SuccessPolicy", &met, now))
}

/// The final condition of a job that is to fail.
pub fn failed(target: &JobCondition, now: Timestamp) -> JobCondition {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    condition("Failed", "True", &text(&target.reason), &text(&target.message), now)
}

/// Time until the job's deadline; zero when it is over, `None` when there is none.
pub fn deadline(work: &Work, now: Timestamp) -> Option<Duration> {
    let seconds = work.job.of().active_deadline_seconds.filter(|_| !work.job.is_suspended())?;
    let started = work.job.state()?.start_time.as_ref()?.0;
    let allowed = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Some(allowed.saturating_sub(Duration::try_from(now.duration_since(started)).unwrap_or_default()))
}

/// Containers that are restarted in place count as failures. Upstream: pastBackoffLimitOnFailure.
fn restarts_too_often(work: &Work) -> bool {
    let template = work.job.of().template.spec.as_ref();
    if template.and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let living = work.pods.iter().filter(|p| matches!(pods::phase(p), "Running" | "Pending"));
    let statuses = living.filter_map(|p| p.status.as_ref()).flat_map(|s| {
        s.init_container_statuses.iter().flatten().chain(s.container_statuses.iter().flatten())
    });
    let restarts: i64 = statuses.map(|c| i64::from(c.restart_count)).sum();
    match i64::from(work.job.backoff_limit()) {
        0 => restarts > 0,
        limit => restarts >= limit,
    }
}

/// Decides which pods come and go while the job runs.
pub fn plan(work: &Work, now: Timestamp) -> Action {
    let job = &work.job;
    let active = count(work.active.len());
    if job.is_suspended() {
        return delete(to_remove(work, work.active.len(), now));
    }
    let want = match job.completions() {
        None if work.succeeded > 0 => active,
        None => job.parallelism(),
        Some(completions) => (completions - work.succeeded).min(job.parallelism()).max(0),
    };
    let surplus = usize::try_from(active - want).unwrap_or(0);
    let mut victims = to_remove(work, surplus, now);
    victims.truncate(BURST);
    if !victims.is_empty() {
        return delete(victims);
    }
    let ending = if job.replaces_failed_only() { work.terminating } else { 0 };
    let missing = usize::try_from(want - ending - active).unwrap_or(0);
    if missing == 0 {
        return Action::Nothing;
    }
    let pause = work.backoff.remaining(now);
    if !job.counts_per_index() && !pause.is_zero() {
        return Action::Wait(pause);
    }
    let missing = missing.min(BURST);
    if !job.is_indexed() {
        return Action::Create(vec![None; missing]);
    }
    let indexes = work.settled_indexes().first_missing(missing, job.completions().unwrap_or(0));
    create_indexes(work, indexes, now)
}

fn delete(victims: Vec<Arc<Pod>>) -> Action {
    if victims.is_empty() { Action::Nothing } else { Action::Delete(victims) }
}

/// Indexes whose pause is over; if there are none, the shortest pause.
fn create_indexes(work: &Work, indexes: Vec<i32>, now: Timestamp) -> Action {
    if !work.job.counts_per_index() {
        return create(indexes);
    }
    let pause = |i: &i32| remaining_of_index(work.delayed.get(i).map(|p| &**p), now);
    let due: Vec<i32> = indexes.iter().copied().filter(|i| pause(i).is_zero()).collect();
    match indexes.iter().map(pause).min() {
        Some(shortest) if due.is_empty() => Action::Wait(shortest),
        _ => create(due),
    }
}

fn create(indexes: Vec<i32>) -> Action {
    if indexes.is_empty() { Action::Nothing } else { Action::Create(indexes.into_iter().map(Some).collect()) }
}

/// Pods without a proper index, all but the best of each index, and the least useful others, `at_least` in all.
/// Upstream: activePodsForRemoval.
fn to_remove(work: &Work, at_least: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    let order = |a: &Arc<Pod>, b: &Arc<Pod>| pods::deletion_order((a, 0), (b, 0), now);
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    if work.job.is_indexed() {
        let mut by_index: std::collections::BTreeMap<Option<i32>, Vec<Arc<Pod>>> = Default::default();
        for pod in &work.active {
            by_index.entry(index(pod)).or_default().push(pod.clone());
        }
        let completions = work.job.completions().unwrap_or(0);
        for (index, mut pods) in by_index {
            if index.is_none_or(|i| i >= completions) {
                gone.extend(pods);
                continue;
            }
            pods.sort_by(order);
            left.extend(pods.pop());
            gone.extend(pods);
        }
    } else {
        left.clone_from(&work.active);
    }
    if gone.len() < at_least {
        left.sort_by(order);
        left.truncate(at_least - gone.len());
        gone.extend(left);
    }
    gone
}

/// All completions are there. Upstream: "Evaluate success scenarios for Completions" in syncJob.
pub fn is_complete(work: &Work, active: i32) -> bool {
    match work.job.completions() {
        // Any pod's success is the job's; the others come to an end by themselves.
        None => work.succeeded > 0 && active == 0,
        Some(completions) => work.succeeded >= completions && active == 0,
    }
}

/// The condition of a job that has all its completions.
pub fn completions_reached(now: Timestamp) -> JobCondition {
    let message = "Reached expected number of succeeded pods";
    condition("SuccessCriteriaMet", "True", "CompletionsReached", message, now)
}
