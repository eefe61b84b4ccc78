//! batch/v1: jobs and cron jobs. Upstream: `pkg/apis/batch/validation/validation.go`.

mod indexes;
mod job;
mod job_policies;
mod job_status;

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec};
use machinery::cron::{Schedule, location};

pub use job::{validate_job, validate_job_update};
pub use job_status::validate_job_status_update;

use super::field::{Bad, Error, Path};
use super::objectmeta::{name_is_subdomain, validate_kube_object_meta, validate_nonnegative};
use super::{one_of, text};

/// A new cron job. Its jobs' names are eleven characters longer.
pub fn validate_cron_job(job: &CronJob) -> Vec<Error> {
    let mut errors =
        validate_kube_object_meta(&job.metadata, true, name_is_subdomain, &Path::new("metadata"));
    errors.extend(validate_spec(&job.spec, None, &Path::new("spec")));
    let name = text(&job.metadata.name);
    if name.len() > 52 {
        let metadata = Path::new("metadata");
        errors.push(Error::invalid(&metadata.child("name"), name, "must be no more than 52 characters"));
    }
    errors
}

/// A changed cron job.
pub fn validate_cron_job_update(new: &CronJob, old: &CronJob) -> Vec<Error> {
    validate_spec(&new.spec, Some(&old.spec), &Path::new("spec"))
}

fn validate_spec(spec: &CronJobSpec, old: Option<&CronJobSpec>, path: &Path) -> Vec<Error> {
    let mut errors = validate_schedule(spec, old, &path.child("schedule"));
    if let Some(seconds) = spec.starting_deadline_seconds {
        errors.extend(validate_nonnegative(seconds, &path.child("startingDeadlineSeconds")));
    }
    if old.is_none_or(|o| o.time_zone != spec.time_zone) {
        errors.extend(validate_time_zone(spec.time_zone.as_deref(), &path.child("timeZone")));
    }
    let policy = text(&spec.concurrency_policy);
    errors.extend(one_of(policy, &["Allow", "Forbid", "Replace"], &path.child("concurrencyPolicy")));
    let (template, none) = (path.child("jobTemplate"), Default::default());
    let (at, job) = (template.child("spec"), spec.job_template.spec.as_ref().unwrap_or(&none));
    errors.extend(job::validate_spec(job, old.and_then(|o| o.job_template.spec.as_ref()), &at));
    if let Some(selector) = &job.selector {
        let detail = "`selector` will be auto-generated";
        errors.push(Error::invalid(&at.child("selector"), Bad::json(selector), detail));
    }
    if job.manual_selector == Some(true) {
        let bad = Bad::Raw("true".into());
        errors.push(Error::not_supported(&at.child("manualSelector"), bad, &["nil", "false"]));
    }
    for (field, value) in [
        ("successfulJobsHistoryLimit", spec.successful_jobs_history_limit),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ] {
        errors.extend(value.and_then(|v| validate_nonnegative(i64::from(v), &path.child(field))));
    }
    errors
}

fn validate_schedule(spec: &CronJobSpec, old: Option<&CronJobSpec>, path: &Path) -> Vec<Error> {
    let schedule = spec.schedule.as_str();
    if schedule.is_empty() {
        return vec![Error::required(path, "").covered()];
    }
    let mut errors: Vec<Error> =
        Schedule::parse(schedule).err().map(|why| Error::invalid(path, schedule, why)).into_iter().collect();
    let zone_was_in_schedule = old.is_some_and(|o| o.schedule.contains("TZ"));
    let detail = match (zone_was_in_schedule, schedule.contains("TZ")) {
        (true, true) if spec.time_zone.is_some() => {
            "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        }
        (false, true) => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        _ => return errors,
    };
    errors.push(Error::invalid(path, schedule, detail));
    errors
}

fn validate_time_zone(zone: Option<&str>, path: &Path) -> Vec<Error> {
    let Some(zone) = zone else { return Vec::new() };
    // Upstream prints the pointer, as JSON.
    let bad = || Bad::json(&zone);
    if zone.is_empty() {
        return vec![Error::invalid(path, bad(), "timeZone must be nil or non-empty string")];
    }
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    let part = |p: &str| {
        !matches!(p, "." | ".." | "") && !p.starts_with('-') && p.len() <= 14 && p.bytes().all(fine)
    };
    if !zone.split('/').all(part) {
        return vec![Error::invalid(path, bad(), format!("unknown time zone {zone}"))];
    }
    // What `time.LoadLocation` says of a name that may climb up.
    if zone.contains("..") {
        return vec![Error::invalid(path, bad(), "time: invalid location name")];
    }
    let mut errors = Vec::new();
    if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(Error::invalid(path, bad(), detail));
    }
    errors.extend(location(zone).err().map(|why| Error::invalid(path, bad(), why)));
    errors
}
