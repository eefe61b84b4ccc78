//! batch/v1: jobs and cron jobs. Upstream: `pkg/apis/batch/validation/validation.go`; pod failure policies, success
//! policies and back-off per index are checked for their combination rules only.

use k8s_openapi::api::batch::v1::{CronJob, Job, JobSpec};

use super::core::pod::validate_template;
use super::field::{Bad, Error, Path};
use super::objectmeta::{
    name_is_subdomain, validate_label_selector, validate_nonnegative, validate_object_meta,
};
use super::{immutable, one_of};

/// A new job.
pub fn validate_job(job: &Job) -> Vec<Error> {
    let mut errors = validate_object_meta(&job.metadata, true, name_is_subdomain, &Path::new("metadata"));
    let path = Path::new("spec");
    let Some(spec) = &job.spec else { return errors };
    if spec.manual_selector != Some(true) {
        errors.extend(validate_generated_selector(job, spec));
    }
    errors.extend(validate_job_spec(spec, &path));
    if spec.selector.is_none() {
        errors.push(Error::required(&path.child("selector"), ""));
    } else {
        errors.extend(validate_label_selector(spec.selector.as_ref(), &path.child("selector")));
    }
    errors
}

/// The labels that a generated selector relies on must be the job's own.
fn validate_generated_selector(job: &Job, spec: &JobSpec) -> Vec<Error> {
    let mut errors = Vec::new();
    let uid = job.metadata.uid.as_deref().unwrap_or("");
    let name = job.metadata.name.as_deref().unwrap_or("");
    let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    let path = Path::new("spec");
    let template = path.child("template");
    let metadata = template.child("metadata");
    let at = metadata.child("labels");
    for (key, want) in [("batch.kubernetes.io/controller-uid", uid), ("batch.kubernetes.io/job-name", name)] {
        match labels.and_then(|l| l.get(key)) {
            Some(value) if value == want => {}
            Some(value) => {
                errors.push(Error::invalid(&at.key(key), value, format!("must be '{want}'")));
            }
            None => errors.push(Error::required(&at.key(key), format!("must be '{want}'"))),
        }
    }
    errors
}

fn validate_job_spec(spec: &JobSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (field, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        errors.extend(value.and_then(|v| validate_nonnegative(v, &path.child(field))));
    }
    if let Some(mode) = spec.completion_mode.as_deref() {
        let at = path.child("completionMode");
        errors.extend(one_of(mode, &["NonIndexed", "Indexed"], &at));
        if mode == "Indexed" {
            if spec.completions.is_none() {
                errors.push(Error::required(&path.child("completions"), "when completion mode is Indexed"));
            }
            if spec.parallelism.is_some_and(|p| p > 100_000) {
                let detail = "must be less than or equal to 100000 when completion mode is Indexed";
                let value = spec.parallelism.unwrap_or(0);
                errors.push(Error::invalid(&path.child("parallelism"), value, detail));
            }
        }
    }
    let template = path.child("template");
    errors.extend(validate_template(&spec.template, &template));
    let pod = template.child("spec");
    let policy = spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("");
    if !matches!(policy, "OnFailure" | "Never") {
        let at = pod.child("restartPolicy");
        let detail = "supported values: \"OnFailure\", \"Never\"";
        errors.push(match policy {
            "" | "Always" => Error::required(&at, "valid values: \"OnFailure\", \"Never\""),
            other => Error { detail: detail.into(), ..Error::not_supported(&at, other, &[]) },
        });
    }
    if spec.pod_failure_policy.is_some() && policy != "Never" {
        let detail = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.push(Error::invalid(&pod.child("restartPolicy"), policy, detail));
    }
    errors
}

/// A changed job.
pub fn validate_job_update(new: &Job, old: &Job) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return errors };
    errors.extend(validate_job_spec(new, &path));
    let elastic = new.completion_mode.as_deref() == Some("Indexed")
        && new.completions == new.parallelism
        && old.completions == old.parallelism;
    if !elastic {
        errors.extend(immutable(&new.completions, &old.completions, &path.child("completions")));
    }
    errors.extend(immutable(&new.selector, &old.selector, &path.child("selector")));
    let mut template = new.template.clone();
    if old.suspend == Some(true) {
        // Scheduling directives of a job that has not started may change.
        if let (Some(spec), Some(before)) = (template.spec.as_mut(), old.template.spec.as_ref()) {
            spec.node_selector.clone_from(&before.node_selector);
            spec.tolerations.clone_from(&before.tolerations);
            spec.affinity.clone_from(&before.affinity);
            spec.scheduling_gates.clone_from(&before.scheduling_gates);
        }
        if let (Some(meta), Some(before)) = (template.metadata.as_mut(), old.template.metadata.as_ref()) {
            meta.annotations.clone_from(&before.annotations);
            meta.labels.clone_from(&before.labels);
        }
    }
    errors.extend(immutable(&template, &old.template, &path.child("template")));
    errors.extend(immutable(&new.completion_mode, &old.completion_mode, &path.child("completionMode")));
    errors.extend(immutable(
        &new.pod_failure_policy,
        &old.pod_failure_policy,
        &path.child("podFailurePolicy"),
    ));
    errors.extend(immutable(
        &new.backoff_limit_per_index,
        &old.backoff_limit_per_index,
        &path.child("backoffLimitPerIndex"),
    ));
    errors.extend(immutable(&new.managed_by, &old.managed_by, &path.child("managedBy")));
    errors.extend(immutable(&new.success_policy, &old.success_policy, &path.child("successPolicy")));
    errors
}

/// A new cron job. Its jobs' names are eleven characters longer.
pub fn validate_cron_job(job: &CronJob) -> Vec<Error> {
    let mut errors = validate_object_meta(&job.metadata, true, name_is_subdomain, &Path::new("metadata"));
    let name = job.metadata.name.as_deref().unwrap_or("");
    if name.len() > 52 {
        let metadata = Path::new("metadata");
        errors.push(Error::invalid(&metadata.child("name"), name, "must be no more than 52 characters"));
    }
    errors.extend(validate_cron_job_spec(job));
    errors
}

fn validate_cron_job_spec(job: &CronJob) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = Vec::new();
    let spec = &job.spec;
    let at = path.child("schedule");
    if spec.schedule.is_empty() {
        errors.push(Error::required(&at, ""));
    } else if spec.schedule.contains("TZ") {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(Error::invalid(&at, &spec.schedule, detail));
    } else if let Some(why) = schedule_problem(&spec.schedule) {
        errors.push(Error::invalid(&at, &spec.schedule, why));
    }
    if let Some(seconds) = spec.starting_deadline_seconds {
        errors.extend(validate_nonnegative(seconds, &path.child("startingDeadlineSeconds")));
    }
    let policy = spec.concurrency_policy.as_deref().unwrap_or("");
    errors.extend(one_of(policy, &["Allow", "Forbid", "Replace"], &path.child("concurrencyPolicy")));
    let template = path.child("jobTemplate");
    if let Some(job) = &spec.job_template.spec {
        let at = template.child("spec");
        if job.manual_selector == Some(true) {
            errors.push(Error::not_supported(
                &at.child("manualSelector"),
                Bad::Raw("true".into()),
                &["nil", "false"],
            ));
        }
        errors.extend(validate_job_spec(job, &at));
    }
    for (field, value) in [
        ("successfulJobsHistoryLimit", spec.successful_jobs_history_limit),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ] {
        errors.extend(value.and_then(|v| validate_nonnegative(i64::from(v), &path.child(field))));
    }
    errors
}

/// A first look at a schedule: five fields of known characters, or a descriptor.
fn schedule_problem(schedule: &str) -> Option<String> {
    if let Some(word) = schedule.strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        let fine = known.contains(&word) || word.starts_with("every ");
        return (!fine).then(|| format!("unrecognized descriptor: {schedule}"));
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        let quoted: Vec<_> = fields.iter().map(|f| (*f).to_owned()).collect();
        return Some(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), quoted.join(" ")));
    }
    let fine = |f: &&str| {
        f.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'*' | b'/' | b'-' | b',' | b'?'))
    };
    fields
        .iter()
        .find(|f| !fine(f))
        .map(|f| format!("failed to parse int from {f}: strconv.Atoi: parsing {f:?}: invalid syntax"))
}

/// A changed cron job.
pub fn validate_cron_job_update(new: &CronJob, _old: &CronJob) -> Vec<Error> {
    validate_cron_job_spec(new)
}
