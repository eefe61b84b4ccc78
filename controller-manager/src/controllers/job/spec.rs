//! Questions about jobs and their pods. Pure.
//! Upstream: pkg/controller/job/job_controller.go, indexed_job_utils.go, tracking_utils.go, util/utils.go.

use std::sync::LazyLock;

use component::features::{self, Gate};
use controller::Related;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::kept::Pod;
use crate::pods;

/// Keeps a pod until it is counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label with a pod's index.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Annotation: failures of the index before this pod, as they count.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Annotation: failures of the index before this pod, that do not count.
pub const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const OURSELVES: &str = "kubernetes.io/job-controller";

/// The spec and what it means.
pub trait Facts {
    fn of(&self) -> &JobSpec;
    fn state(&self) -> Option<&JobStatus>;

    fn completions(&self) -> Option<i32> {
        self.of().completions
    }

    fn parallelism(&self) -> i32 {
        self.of().parallelism.unwrap_or(1)
    }

    fn backoff_limit(&self) -> i32 {
        self.of().backoff_limit.unwrap_or(6)
    }

    fn is_suspended(&self) -> bool {
        self.of().suspend == Some(true)
    }

    fn is_indexed(&self) -> bool {
        self.of().completion_mode.as_deref() == Some("Indexed")
    }

    /// Each index has its own limit of failures.
    fn counts_per_index(&self) -> bool {
        self.of().backoff_limit_per_index.is_some()
    }

    /// A pod is replaced only once it has ended, not when its deletion begins.
    fn replaces_failed_only(&self) -> bool {
        self.of().pod_replacement_policy.as_deref() == Some("Failed")
    }

    /// Somebody else brings this job about.
    fn manager(&self) -> Option<&str> {
        let manager = self.of().managed_by.as_deref()?;
        (features::enabled(Gate::JobManagedBy) && manager != OURSELVES).then_some(manager)
    }

    fn condition(&self, kind: &str) -> Option<&JobCondition> {
        self.state()?.conditions.iter().flatten().find(|c| c.type_ == kind)
    }

    fn has_condition(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|c| c.status == "True")
    }

    fn is_finished(&self) -> bool {
        let conditions = self.state().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"))
    }

    /// The pod counts as failed. A pod that is being deleted may never get so far, so it counts at once, unless only
    /// ended pods are replaced.
    fn is_failed(&self, pod: &Pod) -> bool {
        let phase = pods::phase(pod);
        phase == "Failed" || (!self.replaces_failed_only() && pods::is_deleted(pod) && phase != "Succeeded")
    }

    /// The pod's index, if the job has it.
    fn valid_index(&self, pod: &Pod) -> Option<i32> {
        index(pod).filter(|i| *i < self.completions().unwrap_or(0))
    }
}

static EMPTY: LazyLock<JobSpec> = LazyLock::new(JobSpec::default);

impl Facts for Job {
    fn of(&self) -> &JobSpec {
        self.spec.as_ref().unwrap_or(&EMPTY)
    }

    fn state(&self) -> Option<&JobStatus> {
        self.status.as_ref()
    }
}

pub fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.has_finalizer(FINALIZER)
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name)
}

/// The pod's completion index; `None` when it has none that makes sense.
pub fn index(pod: &Pod) -> Option<i32> {
    annotation(pod, INDEX)?.parse().ok().filter(|i| *i >= 0)
}

/// Failures noted on a pod; nonsense counts as none.
pub fn noted(pod: &Pod, name: &str) -> i32 {
    annotation(pod, name).and_then(|t| t.parse().ok()).filter(|n| *n >= 0).unwrap_or(0)
}

/// Failures of an index before this pod, counting ones and others.
pub fn all_noted(pod: &Pod) -> i32 {
    noted(pod, FAILURES).saturating_add(noted(pod, IGNORED_FAILURES))
}

/// A condition.
pub fn condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason: Some(reason.to_string()),
        message: Some(message.to_string()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Sets a condition; an absent one stays absent when it would be false. True when something changed.
/// Upstream: ensureJobConditionStatus.
pub fn set_condition(all: &mut Vec<JobCondition>, new: JobCondition) -> bool {
    match all.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) if (&old.status, &old.reason, &old.message) == (&new.status, &new.reason, &new.message) => {
            false
        }
        Some(old) => {
            *old = new;
            true
        }
        None if new.status == "False" => false,
        None => {
            all.push(new);
            true
        }
    }
}
