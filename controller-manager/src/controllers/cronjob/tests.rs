//! Cron jobs at certain times: what is started, what is missed, what is tidied away.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Next, Told, new_job, note_finished, plan, surplus};
use crate::scenario;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|_| format!("2026-03-01T{text}Z").parse().expect("a time"))
}

/// A cron job made at 08:00.
fn cron(schedule: &str, spec: Value) -> CronJob {
    let mut job = json!({
        "metadata": {"name": "tick", "namespace": "n", "uid": "c", "creationTimestamp": "2026-03-01T08:00:00Z"},
        "spec": {"schedule": schedule, "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}},
    });
    for (key, value) in spec.as_object().expect("fields") {
        job["spec"][key] = value.clone();
    }
    serde_json::from_value(job).expect("a cron job")
}

fn with_active(mut job: CronJob, names: &[&str]) -> CronJob {
    let reference = |name: &&str| ObjectReference {
        name: Some((*name).to_string()),
        namespace: Some("n".to_string()),
        uid: Some((*name).to_string()),
        ..ObjectReference::default()
    };
    job.status.get_or_insert_default().active = Some(names.iter().map(reference).collect());
    job
}

fn decide(job: &CronJob, now: &str) -> (Next, Vec<&'static str>) {
    let mut events: Vec<Told> = Vec::new();
    let next = plan(job, &TimeZone::UTC, time(now), &mut events);
    (next, events.into_iter().map(|e| e.1).collect())
}

fn start(at: &str) -> Next {
    Next::Start { at: time(at), replace: false }
}

fn wait(seconds: u64) -> Next {
    Next::Wait(Duration::from_millis(seconds * 1000 + 100))
}

fn child(name: &str, condition: Option<&str>, started: &str) -> Arc<Job> {
    let conditions: Vec<Value> =
        condition.map(|c| json!({"type": c, "status": "True"})).into_iter().collect();
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "uid": name},
            "spec": {"template": {}},
            "status": {"startTime": time(started).to_string(), "completionTime": time(started).to_string(), "conditions": conditions},
        }))
        .expect("a job"),
    )
}

#[test]
fn scenarios() {
    scenario::check("cronjob/testdata", |given| {
        let job: CronJob = given.one();
        let mut out = String::new();
        for now in given.setting::<Vec<String>>("times").expect("times") {
            let mut events: Vec<Told> = Vec::new();
            let what = match plan(&job, &TimeZone::UTC, time(&now), &mut events) {
                Next::Rest => "nothing until it changes".to_string(),
                Next::Wait(pause) => format!("wait {pause:?}"),
                Next::Start { at, replace } => {
                    let name = new_job(&job, at).metadata.name.unwrap_or_default();
                    let running = if replace { ", after the running ones are gone" } else { "" };
                    format!("start {name} of {at}{running}")
                }
            };
            out.push_str(&format!("{now}: {what}\n"));
            events.iter().for_each(|(_, reason, message)| out.push_str(&format!("  {reason}: {message}\n")));
        }
        let children: Vec<Arc<Job>> = given.shared();
        surplus(&job, &children).iter().for_each(|j| {
            out.push_str(&format!("delete {}\n", j.metadata.name.as_deref().unwrap_or_default()))
        });
        out
    });
}

#[test]
fn a_job_starts_when_it_is_due_and_not_before() {
    let hourly = cron("0 * * * *", json!({}));
    assert_eq!(decide(&hourly, "08:59:59"), (wait(1), vec![]));
    assert_eq!(decide(&hourly, "09:00:00"), (start("09:00:00"), vec![]));
    assert_eq!(decide(&hourly, "09:30:00"), (start("09:00:00"), vec![]));
    let mut done = hourly;
    done.status.get_or_insert_default().last_schedule_time = Some(Time(time("09:00:00")));
    assert_eq!(decide(&done, "09:30:00"), (wait(1800), vec![]));
}

#[test]
fn of_several_missed_times_only_the_last_counts() {
    let minutely = cron("* * * * *", json!({}));
    assert_eq!(decide(&minutely, "08:05:30"), (start("08:05:00"), vec![]));
    assert_eq!(decide(&minutely, "10:00:30"), (start("10:00:00"), vec!["TooManyMissedTimes"]));
    let patient = cron("* * * * *", json!({"startingDeadlineSeconds": 600}));
    assert_eq!(decide(&patient, "10:00:30"), (start("10:00:00"), vec![]));
}

#[test]
fn a_time_missed_by_more_than_the_deadline_is_given_up() {
    let strict = cron("0 * * * *", json!({"startingDeadlineSeconds": 60}));
    assert_eq!(decide(&strict, "09:00:59").0, start("09:00:00"));
    let (next, _) = decide(&strict, "09:01:01");
    assert_eq!(next, wait(3539));
}

#[test]
fn policies_say_what_happens_to_a_running_job() {
    let due =
        |policy: &str| with_active(cron("0 * * * *", json!({"concurrencyPolicy": policy})), &["tick-1"]);
    assert_eq!(decide(&due("Allow"), "09:00:00").0, start("09:00:00"));
    assert_eq!(decide(&due("Forbid"), "09:00:00"), (wait(3600), vec!["JobAlreadyActive"]));
    assert_eq!(decide(&due("Replace"), "09:00:00").0, Next::Start { at: time("09:00:00"), replace: true });
}

#[test]
fn time_zones_move_the_times() {
    let berlin = cron("0 10 * * *", json!({"timeZone": "Europe/Berlin"}));
    assert_eq!(decide(&berlin, "09:00:00").0, start("09:00:00"));
    let job = new_job(&berlin, time("09:00:00"));
    let annotations = job.metadata.annotations.expect("annotations");
    assert_eq!(annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2026-03-01T10:00:00+01:00");
    assert_eq!(job.metadata.name.as_deref(), Some("tick-29539260"));
    let nowhere = cron("0 10 * * *", json!({"timeZone": "No/Where"}));
    assert_eq!(decide(&nowhere, "09:00:00"), (Next::Rest, vec!["UnknownTimeZone"]));
}

#[test]
fn what_cannot_be_understood_is_told_and_left_alone() {
    assert_eq!(decide(&cron("x * * * *", json!({})), "09:00:00"), (Next::Rest, vec!["UnparseableSchedule"]));
    assert_eq!(decide(&cron("0 0 31 2 *", json!({})), "09:00:00"), (Next::Rest, vec!["InvalidSchedule"]));
    assert_eq!(
        decide(&cron("TZ=UTC 0 9 * * *", json!({})), "09:00:00"),
        (start("09:00:00"), vec!["UnsupportedSchedule"])
    );
    assert_eq!(decide(&cron("* * * * *", json!({"suspend": true})), "09:00:00"), (Next::Rest, vec![]));
}

#[test]
fn finished_jobs_leave_the_list_and_the_oldest_go() {
    let mut job = with_active(
        cron("* * * * *", json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0})),
        &["a", "b"],
    );
    let children = [
        child("a", Some("Complete"), "08:01:00"),
        child("b", None, "08:02:00"),
        child("c", Some("Complete"), "08:03:00"),
        child("d", Some("Failed"), "08:04:00"),
    ];
    let names: Vec<_> = surplus(&job, &children).iter().filter_map(|j| j.metadata.name.clone()).collect();
    assert_eq!(names, ["a", "d"]);
    let mut events = Vec::new();
    assert!(
        note_finished(&mut job, &children[0], &mut events)
            && !note_finished(&mut job, &children[1], &mut events)
    );
    assert_eq!(events[0].2, "Saw completed job: a, condition: Complete");
    let status = job.status.clone().expect("a status");
    assert_eq!(status.active.map(|a| a.len()), Some(1));
    assert_eq!(status.last_successful_time, Some(Time(time("08:01:00"))));
}

proptest! {
    /// After a job was started for the time that was due, nothing is due until the next time, which is when it is
    /// looked at again.
    #[test]
    fn starting_is_a_fixed_point(minute in 0u32..60, passed in 0i64..200_000) {
        let mut job = cron(&format!("{minute} */3 * * *"), json!({}));
        let now = time("08:00:00").checked_add(jiff::SignedDuration::from_secs(passed)).expect("a time");
        let mut events = Vec::new();
        if let Next::Start { at, .. } = plan(&job, &TimeZone::UTC, now, &mut events) {
            prop_assert!(at <= now);
            job.status.get_or_insert_default().last_schedule_time = Some(Time(at));
        }
        let Next::Wait(pause) = plan(&job, &TimeZone::UTC, now, &mut events) else { panic!("nothing is due") };
        let then = now.checked_add(pause).expect("a time");
        prop_assert!(matches!(plan(&job, &TimeZone::UTC, then, &mut events), Next::Start { .. }), "due {}", then);
    }

    /// A suspended cron job never does anything.
    #[test]
    fn a_satisfied_view_gives_an_empty_plan(passed in 0i64..1_000_000) {
        let job = cron("* * * * *", json!({"suspend": true}));
        let now = time("08:00:00").checked_add(jiff::SignedDuration::from_secs(passed)).expect("a time");
        let mut events = Vec::new();
        prop_assert_eq!(plan(&job, &TimeZone::UTC, now, &mut events), Next::Rest);
        prop_assert!(events.is_empty());
    }
}
