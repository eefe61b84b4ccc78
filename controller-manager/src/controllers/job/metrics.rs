//! Metrics of jobs, by upstream's names. Upstream: pkg/controller/job/metrics/metrics.go.

use std::sync::LazyLock;

use component::metrics::{Counter, Family, Histogram, Opts, Stability, exponential_buckets};
use informer::Event;
use k8s_openapi::api::batch::v1::{Job, JobStatus};

use super::indexes::Indexes;
use super::spec::{Facts, has_finalizer};
use super::work::Work;
use crate::kept::Pod;
use crate::pods;

pub struct Families {
    pub sync_seconds: Family<Histogram>,
    pub syncs: Family<Counter>,
    pub finished: Family<Counter>,
    pub by_others: Family<Counter>,
    pub pods_finished: Family<Counter>,
    pub failures_handled: Family<Counter>,
    pub tracked: Family<Counter>,
    pub indexes_finished: Family<Counter>,
    pub creations: Family<Counter>,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| {
    let opts = |name: &'static str, help: &'static str, labels: &'static [&'static str]| {
        Opts::new(name, help).labels(labels)
    };
    let sync = &["completion_mode", "result", "action"];
    Families {
        sync_seconds: Family::histogram(
            opts("job_controller_job_sync_duration_seconds", "The time it took to sync a job", sync)
                .stability(Stability::Stable),
            &exponential_buckets(0.004, 2.0, 15),
        ),
        syncs: Family::counter(
            opts("job_controller_job_syncs_total", "The number of job syncs", sync)
                .stability(Stability::Stable),
        ),
        finished: Family::counter(
            opts(
                "job_controller_jobs_finished_total",
                "The number of finished jobs",
                &["completion_mode", "result", "reason"],
            )
            .stability(Stability::Stable),
        ),
        by_others: Family::counter(opts(
            "job_controller_jobs_by_external_controller_total",
            "The number of Jobs managed by an external controller",
            &["controller_name"],
        )),
        pods_finished: Family::counter(
            opts(
                "job_controller_job_pods_finished_total",
                "The number of finished Pods that are fully tracked",
                &["completion_mode", "result"],
            )
            .stability(Stability::Stable),
        ),
        failures_handled: Family::counter(opts(
            "job_controller_pod_failures_handled_by_failure_policy_total",
            "The number of failed Pods handled by failure policy with, respect to the failure policy action applied based on the matched rule. Possible values of the action label correspond to the possible values for the failure policy rule action, which are: \"FailJob\", \"Ignore\" and \"Count\".",
            &["action"],
        )),
        tracked: Family::counter(opts(
            "job_controller_terminated_pods_tracking_finalizer_total",
            "The number of terminated pods (phase=Failed|Succeeded) that have the finalizer batch.kubernetes.io/job-tracking. The event label can be \"add\" or \"delete\".",
            &["event"],
        )),
        indexes_finished: Family::counter(opts(
            "job_controller_job_finished_indexes_total",
            "The number of finished indexes.",
            &["status", "backoffLimit"],
        )),
        creations: Family::counter(opts(
            "job_controller_job_pods_creation_total",
            "The number of Pods created by the Job controller labelled with a reason for the Pod creation.",
            &["reason", "status"],
        )),
    }
});

pub fn get() -> &'static Families {
    &FAMILIES
}

pub fn mode(job: &Job) -> &'static str {
    if job.is_indexed() { "Indexed" } else { "NonIndexed" }
}

/// Counts ended pods that come under a finalizer, and that lose it.
pub fn pod_changed(event: &Event<Pod>) {
    let held = |pod: &Pod| pods::is_terminal(pod) && has_finalizer(pod);
    let (was, is) = match event {
        Event::Added(new) => (false, held(new)),
        Event::Updated { old, new } => (held(old), held(new)),
        Event::Deleted(old) => (held(old), false),
    };
    if was != is {
        get().tracked.with(&[if is { "add" } else { "delete" }]).inc();
    }
}

/// Counts what a written status counts more than the one before.
pub fn counted(job: &Job, before: &JobStatus) {
    let now = job.status.clone().unwrap_or_default();
    let raise = |family: &Family<Counter>, labels: &[&str], by: i32| {
        family.with(labels).add(u64::try_from(by).unwrap_or(0));
    };
    let completions = job.completions().unwrap_or(0);
    let indexes =
        |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions).count();
    let succeeded = if job.is_indexed() {
        let limit = if job.counts_per_index() { "perIndex" } else { "global" };
        let more = indexes(&now.completed_indexes) - indexes(&before.completed_indexes);
        raise(&get().indexes_finished, &["succeeded", limit], more);
        if job.counts_per_index() {
            let lost = indexes(&now.failed_indexes) - indexes(&before.failed_indexes);
            raise(&get().indexes_finished, &["failed", limit], lost);
        }
        more
    } else {
        now.succeeded.unwrap_or(0) - before.succeeded.unwrap_or(0)
    };
    raise(&get().pods_finished, &[mode(job), "succeeded"], succeeded);
    raise(&get().pods_finished, &[mode(job), "failed"], now.failed.unwrap_or(0) - before.failed.unwrap_or(0));
}

/// Counts pods made, by why they were.
pub fn created(work: &Work, made: usize, failed: usize) {
    let reason = match () {
        () if work.job.replaces_failed_only() && work.failed > 0 => "recreate_failed",
        () if work.failed > 0 || work.terminating > 0 => "recreate_terminating_or_failed",
        () => "new",
    };
    for (status, count) in [("succeeded", made), ("failed", failed)] {
        if count > 0 {
            get().creations.with(&[reason, status]).add(u64::try_from(count).unwrap_or(0));
        }
    }
}
