//! A job's status: what holds of a finished job, and what may not be taken back.
//!
//! A rule applies when the fields it reads have changed, so that a status which is wrong in one respect can still be
//! updated in others. Upstream: `getStatusValidationOptions` of the job's strategy, `validateJobStatus`.

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};

use super::indexes;
use crate::validation::field::{Bad, Error, Path};
use crate::validation::objectmeta::validate_nonnegative;
use crate::validation::{items, semantic_eq, text};

fn is(status: &JobStatus, kind: &str, value: &str) -> bool {
    items(&status.conditions).iter().any(|c| c.type_ == kind && c.status == value)
}

fn on(status: &JobStatus, kind: &str) -> bool {
    is(status, kind, "True")
}

fn finished(status: &JobStatus) -> bool {
    on(status, "Complete") || on(status, "Failed")
}

/// A changed status.
pub fn validate_job_status_update(new: &Job, old: &Job) -> Vec<Error> {
    let (none, no_spec) = (JobStatus::default(), JobSpec::default());
    let (now, was) = (new.status.as_ref().unwrap_or(&none), old.status.as_ref().unwrap_or(&none));
    let spec = new.spec.as_ref().unwrap_or(&no_spec);
    let path = Path::new("status");
    let mut errors = validate_counts(now, &path);
    errors.extend(validate_results(now, was, &path));
    errors.extend(validate_completion(now, was, &path));
    errors.extend(validate_stages(now, was, &path));
    errors.extend(validate_finish(now, was, spec, &path));
    errors.extend(validate_indexes(now, was, spec, &path));
    errors.extend(validate_pods(now, was, &path));
    errors.extend(validate_success(now, spec, &path));
    errors.extend(validate_transitions(now, was, spec, &path));
    errors
}

fn validate_counts(now: &JobStatus, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (field, value) in [
        ("active", now.active),
        ("succeeded", now.succeeded),
        ("failed", now.failed),
        ("ready", now.ready),
        ("terminating", now.terminating),
    ] {
        errors.extend(validate_nonnegative(i64::from(value.unwrap_or(0)), &path.child(field)));
    }
    let Some(uncounted) = &now.uncounted_terminated_pods else { return errors };
    let at = path.child("uncountedTerminatedPods");
    let mut seen: Vec<&str> = Vec::new();
    for (field, list) in [("succeeded", items(&uncounted.succeeded)), ("failed", items(&uncounted.failed))] {
        let at = at.child(field);
        for (i, uid) in list.iter().enumerate() {
            if uid.is_empty() {
                errors.push(Error::invalid(&at.index(i), uid, "must not be empty"));
            } else if seen.contains(&uid.as_str()) {
                errors.push(Error::duplicate(&at.index(i), uid));
            } else {
                seen.push(uid);
            }
        }
    }
    errors
}

/// Rules about conditions, each with whether it is broken.
fn broken(rules: &[(bool, &str)], path: &Path) -> Vec<Error> {
    let at = path.child("conditions");
    rules.iter().filter(|(broken, _)| *broken).map(|(_, d)| Error::invalid(&at, Bad::Omitted, *d)).collect()
}

/// Results that exclude each other.
fn validate_results(now: &JobStatus, was: &JobStatus, path: &Path) -> Vec<Error> {
    let changed = |kind: &str| on(now, kind) != on(was, kind);
    let has = |kind: &str| on(now, kind);
    let rules = [
        (
            (changed("Complete") || changed("Failed")) && has("Complete") && has("Failed"),
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            (changed("Complete") || changed("FailureTarget")) && has("Complete") && has("FailureTarget"),
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
    ];
    broken(&rules, path)
}

/// Results that others come before.
fn validate_stages(now: &JobStatus, was: &JobStatus, path: &Path) -> Vec<Error> {
    let changed = |kind: &str| on(now, kind) != on(was, kind);
    let has = |kind: &str| on(now, kind);
    let indexes = now.failed_indexes != was.failed_indexes;
    let rules = [
        (
            (changed("Failed") || indexes) && has("Failed") && !has("FailureTarget"),
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            (changed("Complete") || changed("SuccessCriteriaMet"))
                && has("Complete")
                && !has("SuccessCriteriaMet"),
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
    ];
    broken(&rules, path)
}

/// What success excludes or needs, changed or not.
fn validate_success(now: &JobStatus, spec: &JobSpec, path: &Path) -> Vec<Error> {
    let has = |kind: &str| on(now, kind);
    let rules = [
        (
            has("SuccessCriteriaMet") && has("Failed"),
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        ),
        (
            has("SuccessCriteriaMet") && has("FailureTarget"),
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
        (
            spec.success_policy.is_some() && !has("SuccessCriteriaMet") && has("Complete"),
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        ),
    ];
    broken(&rules, path)
}

/// The time of completion.
fn validate_completion(now: &JobStatus, was: &JobStatus, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let complete = on(now, "Complete");
    let complete_changed = complete != on(was, "Complete");
    let started = now.start_time != was.start_time;
    let completed = now.completion_time != was.completion_time;
    let at = path.child("completionTime");
    let time = || Bad::json(&now.completion_time);
    if complete_changed || completed {
        if now.completion_time.is_some() && !complete {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            errors.push(Error::invalid(&at, time(), detail));
        }
        if now.completion_time.is_none() && complete {
            errors.push(Error::required(&at, "completionTime is required for Complete jobs"));
        }
    }
    if (started || completed)
        && let (Some(start), Some(end)) = (&now.start_time, &now.completion_time)
        && end.0 < start.0
    {
        errors.push(Error::invalid(&at, time(), "must be equal to or after `startTime`"));
    }
    errors
}

/// What a job that has finished still has.
fn validate_finish(now: &JobStatus, was: &JobStatus, spec: &JobSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (done, started) = (finished(now), now.start_time != was.start_time);
    let done_changed = done != finished(was);
    let (active, before) = (now.active.unwrap_or(0), was.active.unwrap_or(0));
    if (done_changed || active != before) && active > 0 && done {
        errors.push(Error::invalid(&path.child("active"), active, "active>0 is invalid for finished job"));
    }
    let nothing_to_do = spec.suspend == Some(true) && spec.completions == Some(0);
    if (done_changed || started) && !nothing_to_do && now.start_time.is_none() && done {
        errors.push(Error::required(&path.child("startTime"), "startTime is required for finished job"));
    }
    let uncounted = now.uncounted_terminated_pods.as_ref();
    let some = uncounted.is_some_and(|u| !items(&u.failed).is_empty() || !items(&u.succeeded).is_empty());
    let uncounted_changed = !semantic_eq(&now.uncounted_terminated_pods, &was.uncounted_terminated_pods);
    if (done_changed || uncounted_changed) && done && some {
        let at = path.child("uncountedTerminatedPods");
        errors.push(Error::invalid(&at, Bad::json(&uncounted), "must be empty for finished job"));
    }
    errors
}

/// Pods that end, and pods that are ready.
fn validate_pods(now: &JobStatus, was: &JobStatus, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let done = finished(now);
    let done_changed = done != finished(was);
    let (active, before) = (now.active.unwrap_or(0), was.active.unwrap_or(0));
    if let Some(terminating) = now.terminating.filter(|t| *t > 0)
        && (done_changed || now.terminating != was.terminating)
        && done
    {
        let detail = "terminating>0 is invalid for finished job";
        errors.push(Error::invalid(&path.child("terminating"), terminating, detail));
    }
    if let Some(ready) = now.ready.filter(|r| *r > active)
        && (now.ready != was.ready || active != before)
    {
        let detail = "cannot set more ready pods than active";
        errors.push(Error::invalid(&path.child("ready"), ready, detail));
    }
    errors
}

fn validate_indexes(now: &JobStatus, was: &JobStatus, spec: &JobSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let (completed, failed) = (text(&now.completed_indexes), now.failed_indexes.as_deref());
    let completed_changed = completed != text(&was.completed_indexes);
    let failed_changed = now.failed_indexes != was.failed_indexes;
    let (completed_at, failed_at) = (path.child("completedIndexes"), path.child("failedIndexes"));
    if let Some(all) = spec.completions.filter(|_| completed_changed)
        && let Err(why) = indexes::count(completed, all)
    {
        let detail = format!("error parsing completedIndexes: {why}");
        errors.push(Error::invalid(&completed_at, completed, detail));
    }
    if let (Some(all), Some(_), Some(failed), true) =
        (spec.completions, spec.backoff_limit_per_index, failed, failed_changed)
        && let Err(why) = indexes::count(failed, all)
    {
        errors.push(Error::invalid(&failed_at, failed, format!("error parsing failedIndexes: {why}")));
    }
    if completed_changed && !completed.is_empty() && text(&spec.completion_mode) != "Indexed" {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(Error::invalid(&completed_at, completed, detail));
    }
    let Some(failed) = failed else { return errors };
    if failed_changed && spec.backoff_limit_per_index.is_none() {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(Error::invalid(&failed_at, failed, detail));
    }
    if let Some(all) = spec.completions.filter(|_| failed_changed || completed_changed)
        && let Some(index) = indexes::overlap(completed, failed, all)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(Error::invalid(&failed_at, failed, detail));
    }
    errors
}

/// What may not be taken back.
fn validate_transitions(now: &JobStatus, was: &JobStatus, spec: &JobSpec, path: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    let at = path.child("conditions");
    let mut refuse = |detail: String| errors.push(Error::invalid(&at, Bad::Omitted, detail));
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if on(was, kind) && !on(now, kind) {
            refuse(format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    let met = "SuccessCriteriaMet";
    if on(was, met) && !on(now, met) {
        refuse("cannot disable the SuccessCriteriaMet=True condition".to_owned());
    }
    if on(was, "Complete") && !on(was, met) && on(now, met) {
        refuse("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions".to_owned());
    }
    let elastic = text(&spec.completion_mode) == "Indexed" && spec.completions == spec.parallelism;
    for (field, now, was, fixed) in
        [("failed", now.failed, was.failed, true), ("succeeded", now.succeeded, was.succeeded, !elastic)]
    {
        let value = now.unwrap_or(0);
        if fixed && value < was.unwrap_or(0) {
            errors.push(Error::invalid(
                &path.child(field),
                value,
                format!("cannot decrease the {field} counter"),
            ));
        }
    }
    if now.completion_time.is_some()
        && was.completion_time.is_some()
        && now.completion_time != was.completion_time
    {
        let at = path.child("completionTime");
        errors.push(Error::invalid(&at, Bad::json(&now.completion_time), "field is immutable"));
    }
    let resumes = on(was, "Suspended") && is(now, "Suspended", "False");
    let moved = was.start_time.is_some() && now.start_time != was.start_time;
    if moved && !resumes && spec.suspend != Some(true) {
        let detail = "field is immutable for unsuspended job once set";
        errors.push(Error::invalid(&path.child("startTime"), Bad::json(&now.start_time), detail));
    }
    errors
}
