//! What a cron job needs next. Pure. Upstream: pkg/controller/cronjob/cronjob_controllerv2.go syncCronJob.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::cron::{self, Schedule};
use machinery::golang::quote;

use controller::controller_ref;

use super::times::{self, Missed, Plan};

/// Annotation with the time a job was due.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// An event: whether it is a warning, reason, message.
pub type Told = (bool, &'static str, String);

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until the object changes.
    Rest,
    Wait(Duration),
    /// A job is due. With `replace`, the running ones go first.
    Start {
        at: Timestamp,
        replace: bool,
    },
}

/// A finished job's final condition. Upstream: job/util FinishedCondition.
pub fn finished(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let done = |c: &&k8s_openapi::api::batch::v1::JobCondition| {
        c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed")
    };
    conditions.iter().find(done).map(|c| c.type_.as_str())
}

fn active(job: &CronJob) -> &[ObjectReference] {
    job.status.as_ref().and_then(|s| s.active.as_deref()).unwrap_or_default()
}

/// The job is on the list of running ones.
pub fn is_listed(job: &CronJob, uid: &str) -> bool {
    active(job).iter().any(|r| r.uid.as_deref() == Some(uid))
}

/// Takes a job off the list of running ones.
pub fn unlist(status: &mut CronJobStatus, uid: &str) {
    if let Some(active) = &mut status.active {
        active.retain(|r| r.uid.as_deref() != Some(uid));
    }
}

/// Listed jobs that the cache does not have: to be looked for on the server.
pub fn unseen(job: &CronJob, children: &[std::sync::Arc<Job>]) -> Vec<ObjectReference> {
    let known = |r: &&ObjectReference| children.iter().any(|c| c.metadata.uid == r.uid);
    active(job).iter().filter(|r| !known(r)).cloned().collect()
}

/// Notes finished jobs in the status; true when it changed.
pub fn note_finished(job: &mut CronJob, child: &Job, events: &mut Vec<Told>) -> bool {
    let Some(condition) = finished(child) else { return false };
    let (uid, name) = (child.metadata.uid.as_deref().unwrap_or_default(), child.metadata.name.as_deref());
    let mut changed = false;
    let listed = is_listed(job, uid);
    let status = job.status.get_or_insert_default();
    if listed {
        unlist(status, uid);
        let name = name.unwrap_or_default();
        let message = format!("Saw completed job: {name}, condition: {condition}");
        events.push((false, "SawCompletedJob", message));
        changed = true;
    }
    let conditions = child.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let succeeded = conditions.into_iter().any(|c| c.type_ == "Complete" && c.status == "True");
    let completed = child.status.as_ref().and_then(|s| s.completion_time.clone());
    if succeeded && completed.as_ref().map(|t| t.0) > status.last_successful_time.as_ref().map(|t| t.0) {
        status.last_successful_time = completed;
        changed = true;
    }
    changed
}

/// Finished jobs beyond the limits, the oldest first. Upstream: cleanupFinishedJobs.
pub fn surplus<'a>(job: &CronJob, children: &'a [std::sync::Arc<Job>]) -> Vec<&'a Job> {
    let spec = &job.spec;
    let limits =
        [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)];
    let mut out = Vec::new();
    for (kind, limit) in limits {
        let Some(limit) = limit else { continue };
        let mut done: Vec<&Job> =
            children.iter().map(|c| &**c).filter(|c| finished(c) == Some(kind)).collect();
        done.sort_by_key(|c| {
            let start = c.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
            (start.is_none(), start, c.metadata.name.clone())
        });
        let excess = done.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        out.extend(done.into_iter().take(excess));
    }
    out
}

/// Decides.
pub fn plan(job: &CronJob, local: &TimeZone, now: Timestamp, events: &mut Vec<Told>) -> Next {
    if job.metadata.deletion_timestamp.is_some() {
        return Next::Rest;
    }
    let spec = &job.spec;
    if let Some(zone) = &spec.time_zone
        && let Err(e) = cron::location(zone)
    {
        events.push((true, "UnknownTimeZone", format!("invalid timeZone: {}: {e}", quote(zone))));
        return Next::Rest;
    }
    if spec.suspend == Some(true) {
        return Next::Rest;
    }
    if times::names_zone(spec) {
        let message = format!(
            "CRON_TZ or TZ used in schedule {} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
            quote(&spec.schedule)
        );
        events.push((true, "UnsupportedSchedule", message));
    }
    let schedule = match Schedule::parse(&times::with_zone(spec)) {
        Ok(schedule) => schedule,
        Err(e) => {
            let message = format!("unparseable schedule: {} : {e}", quote(&spec.schedule));
            events.push((true, "UnparseableSchedule", message));
            return Next::Rest;
        }
    };
    decide(&Plan { job, schedule, local, now }, events)
}

fn decide(plan: &Plan<'_>, events: &mut Vec<Told>) -> Next {
    let (job, spec) = (plan.job, &plan.job.spec);
    let past = match plan.past(true) {
        Ok(past) => past,
        Err(e) => {
            let message = format!("invalid schedule: {} : {e}", spec.schedule);
            events.push((true, "InvalidSchedule", message));
            return Next::Rest;
        }
    };
    let later = || plan.wait().map_or(Next::Rest, Next::Wait);
    let Some(at) = past.due else { return later() };
    if past.missed == Missed::Many {
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        events.push((true, "TooManyMissedTimes", message.to_string()));
    }
    let deadline = spec.starting_deadline_seconds.map(jiff::SignedDuration::from_secs);
    if deadline.and_then(|d| at.checked_add(d).ok()).is_some_and(|last| last < plan.now) {
        let time = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
        events.push((true, "MissSchedule", format!("Missed scheduled time to start a job: {time}")));
        return later();
    }
    let name = job_name(job, at);
    let listed =
        active(job).iter().any(|r| r.name.as_ref() == Some(&name) && r.namespace == job.metadata.namespace);
    let last = job.status.as_ref().and_then(|s| s.last_schedule_time.as_ref()).map(|t| t.0);
    if listed || last == Some(at) {
        return later();
    }
    let policy = spec.concurrency_policy.as_deref().unwrap_or_default();
    if policy == "Forbid" && !active(job).is_empty() {
        let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
        events.push((false, "JobAlreadyActive", message.to_string()));
        return later();
    }
    Next::Start { at, replace: policy == "Replace" }
}

/// How long to wait after a job was started.
pub fn wait(job: &CronJob, local: &TimeZone, now: Timestamp) -> Option<Duration> {
    let schedule = Schedule::parse(&times::with_zone(&job.spec)).ok()?;
    Plan { job, schedule, local, now }.wait()
}

/// The name says which time it is for, so that no time gets two jobs.
pub fn job_name(job: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", job.metadata.name.as_deref().unwrap_or_default(), at.as_second().div_euclid(60))
}

/// The job of a time. Upstream: getJobFromTemplate2.
pub fn new_job(job: &CronJob, at: Timestamp) -> Job {
    let spec = job.spec.clone();
    let template = spec.job_template.metadata.unwrap_or_default();
    let zone = cron::location(spec.time_zone.as_deref().unwrap_or_default());
    let zone = zone.ok().flatten().unwrap_or_else(TimeZone::system);
    let mut annotations = template.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.to_string(), rfc3339(at, zone));
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(job, at)),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_ref(job)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec,
        status: None,
    }
}

fn rfc3339(at: Timestamp, zone: TimeZone) -> String {
    let local = at.to_zoned(zone);
    let offset = if local.offset().is_zero() { "Z".to_string() } else { local.strftime("%:z").to_string() };
    format!("{}{offset}", local.strftime("%Y-%m-%dT%H:%M:%S"))
}
