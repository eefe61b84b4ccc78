//! Counting ended pods exactly once: a pod is first noted in the status, then its finalizer is removed, then the count is
//! raised. Whatever is lost in between, the next round goes on from the status. Pure; the shell writes in between.
//! Upstream: pkg/controller/job/job_controller.go trackJobStatusAndRemoveFinalizers.

use std::sync::Arc;

use hashbrown::HashSet;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};

use super::indexes::Indexes;
use super::plan::failed;
use super::spec::{Facts, condition, index, set_condition};
use super::work::{Work, uid};
use crate::controllers::shared::count;
use crate::kept::Pod;
use crate::pods;

/// Most pods noted in a status, which keeps it below 20 KB.
pub const MOST_UNCOUNTED: usize = 500;

/// What noting pods came to.
#[derive(Debug, Default)]
pub struct Noted {
    /// Pods whose finalizer can go once the status is written.
    pub release: Vec<Arc<Pod>>,
    /// The status must be written.
    pub changed: bool,
    /// There are more pods than could be noted.
    pub full: bool,
    /// Uids of pods that still have their finalizer.
    pub held: HashSet<String>,
    /// Actions of the failure policy, for metrics.
    pub actions: Vec<&'static str>,
}

/// Notes ended pods in the job's status.
pub fn note(work: &mut Work, now: Timestamp) -> Noted {
    let mut noted = Noted::default();
    if work.job.is_indexed() {
        work.pods.sort_by_key(|p| index(p));
    }
    noted.held = work.pods.iter().filter(|p| work.is_uncounted(p)).map(|p| uid(p).to_string()).collect();
    let mut status = work.job.status.clone().unwrap_or_default();
    noted.changed |= raise_counts(&mut status, &noted.held);
    let new_indexes = note_pods(work, &mut status, &mut noted);
    if work.job.is_indexed() {
        note_indexes(work, &mut status, new_indexes, &mut noted);
    }
    work.job.status = Some(status);
    note_end(work, &mut noted, now);
    noted
}

/// Counts noted pods that have lost their finalizer. Upstream: cleanUncountedPodsWithoutFinalizers.
pub fn raise_counts(status: &mut JobStatus, held: &HashSet<String>) -> bool {
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    let settle = |uids: &mut Option<Vec<String>>, total: &mut Option<i32>| {
        let before = uids.as_ref().map_or(0, Vec::len);
        if let Some(uids) = uids {
            uids.retain(|uid| held.contains(uid));
        }
        let settled = before - uids.as_ref().map_or(0, Vec::len);
        if settled > 0 {
            *total = Some(total.unwrap_or(0) + count(settled));
        }
        settled > 0
    };
    let succeeded = settle(&mut uncounted.succeeded, &mut status.succeeded);
    let failed = settle(&mut uncounted.failed, &mut status.failed);
    succeeded || failed
}

/// Pods noted in a status.
pub fn uncounted(status: &JobStatus) -> usize {
    let noted = status.uncounted_terminated_pods.as_ref();
    let len = |uids: Option<&Vec<String>>| uids.map_or(0, Vec::len);
    len(noted.and_then(|n| n.succeeded.as_ref())) + len(noted.and_then(|n| n.failed.as_ref()))
}

fn note_pods(work: &Work, status: &mut JobStatus, noted: &mut Noted) -> Vec<i32> {
    let mut new_indexes: Vec<i32> = Vec::new();
    for pod in &work.pods {
        let is_failed = work.job.is_failed(pod);
        if !work.is_uncounted(pod) || !can_release(work, pod, is_failed) {
            continue;
        }
        noted.release.push(pod.clone());
        if pods::phase(pod) == "Succeeded" && !work.uncounted_failed.contains(uid(pod)) {
            note_success(work, pod, status, &mut new_indexes, noted);
        } else if is_failed || work.finished.as_ref().is_some_and(|c| c.type_ != "SuccessCriteriaMet") {
            note_failure(work, pod, status, noted);
        }
        if new_indexes.len() + uncounted(status) >= MOST_UNCOUNTED {
            noted.full = true;
            break;
        }
    }
    new_indexes
}

/// The index is enough to count a success once; without one the uid is noted.
fn note_success(
    work: &Work,
    pod: &Pod,
    status: &mut JobStatus,
    new_indexes: &mut Vec<i32>,
    noted: &mut Noted,
) {
    if work.job.is_indexed() {
        if let Some(index) = work.job.valid_index(pod).filter(|i| !work.before.has(*i)) {
            new_indexes.push(index);
            noted.changed = true;
        }
    } else if !work.uncounted_succeeded.contains(uid(pod)) {
        let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
        uncounted.succeeded.get_or_insert_default().push(uid(pod).to_string());
        noted.changed = true;
    }
}

fn note_failure(work: &Work, pod: &Pod, status: &mut JobStatus, noted: &mut Noted) {
    let countable = !work.job.is_indexed() || work.job.valid_index(pod).is_some();
    if work.uncounted_failed.contains(uid(pod)) || !countable {
        return;
    }
    let verdict = work.judge(pod);
    noted.actions.extend(verdict.action());
    if verdict.counts() {
        let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
        uncounted.failed.get_or_insert_default().push(uid(pod).to_string());
        noted.changed = true;
    }
}

/// The last failed pod of an index stays until its successor has taken its count over.
fn can_release(work: &Work, pod: &Pod, is_failed: bool) -> bool {
    let over = work.job.metadata.deletion_timestamp.is_some() || work.finished.is_some();
    if over || pods::phase(pod) == "Succeeded" {
        return true;
    }
    let kept = index(pod).and_then(|i| work.delayed.get(&i)).is_some_and(|p| uid(p) == uid(pod));
    is_failed && !(work.job.counts_per_index() && kept)
}

fn note_indexes(work: &mut Work, status: &mut JobStatus, new: Vec<i32>, noted: &mut Noted) {
    work.succeeded_indexes = work.succeeded_indexes.and(&Indexes::of(new));
    let completed = work.succeeded_indexes.to_string();
    noted.changed |= completed != status.completed_indexes.clone().unwrap_or_default();
    status.succeeded = Some(work.succeeded_indexes.count());
    status.completed_indexes = Some(completed).filter(|t| !t.is_empty());
    let lost = work.failed_indexes.as_ref().map(ToString::to_string);
    noted.changed |= lost != status.failed_indexes;
    status.failed_indexes = lost;
}

/// Puts the condition by which the job is about to end into the status, and prepares the final one.
fn note_end(work: &mut Work, noted: &mut Noted, now: Timestamp) {
    let Some(end) = work.finished.take() else { return };
    let final_one = match end.type_.as_str() {
        "FailureTarget" => {
            push(work, end.clone());
            noted.changed = true;
            failed(&end, now)
        }
        "SuccessCriteriaMet" => {
            if !work.job.has_condition("SuccessCriteriaMet") {
                push(work, end.clone());
                noted.changed = true;
            }
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            condition("Complete", "True", &text(&end.reason), &text(&end.message), now)
        }
        _ => end,
    };
    work.finished = Some(final_one);
}

fn push(work: &mut Work, new: JobCondition) {
    let status = work.job.status.get_or_insert_default();
    status.conditions.get_or_insert_default().push(new);
}

/// Ends the job when nothing is left to count or to wait for. Upstream: enactJobFinished.
pub fn finish(work: &mut Work, now: Timestamp) -> bool {
    let Some(end) = work.finished.clone() else { return false };
    let terminating = work.terminating;
    let status = work.job.status.get_or_insert_default();
    if uncounted(status) > 0 || terminating > 0 {
        return false;
    }
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let told = condition(&end.type_, &end.status, &text(&end.reason), &text(&end.message), now);
    set_condition(status.conditions.get_or_insert_default(), told);
    if end.type_ == "Complete" {
        status.completion_time = end.last_transition_time;
    }
    true
}
