//! Jobs, situation by situation: what comes next, how they end, and that every pod is counted once.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::backoff::Record;
use super::failure_policy::{Verdict, judge};
use super::plan::{Action, completions_reached, is_complete, plan, verdict};
use super::spec::{FAILURES, Facts, INDEX, has_finalizer, index};
use super::template;
use super::track::{finish, note, raise_counts, uncounted};
use super::work::Work;
use crate::kept::Pod;
use crate::scenario;

const NOW: i64 = 1_790_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).expect("a time")
}

fn job(spec: Value) -> Job {
    let mut job = json!({
        "metadata": {"name": "work", "namespace": "n", "uid": "j"},
        "spec": {"parallelism": 2, "completions": 3, "backoffLimit": 2, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}},
        "status": {"startTime": at(-100).to_string()},
    });
    for (key, value) in spec.as_object().expect("fields") {
        job["spec"][key] = value.clone();
    }
    serde_json::from_value(job).expect("a job")
}

fn indexed(spec: Value) -> Job {
    let mut job = job(spec);
    if let Some(spec) = &mut job.spec {
        spec.completion_mode = Some("Indexed".to_string());
    }
    job
}

/// `"p1 failed i=0 code=3 at=-5"`: running unless `failed`, `succeeded`; `dying`; `free` has no finalizer.
fn pod(text: &str) -> Arc<Pod> {
    let words: Vec<&str> = text.split(' ').collect();
    let has = |w: &str| words.contains(&w);
    let value = |p: &str| words.iter().find_map(|w| w.strip_prefix(p));
    let phase = match () {
        () if has("failed") => "Failed",
        () if has("succeeded") => "Succeeded",
        () => "Running",
    };
    let ended = at(value("at=").map_or(-3000, |t| t.parse().expect("a number"))).to_string();
    let mut annotations = serde_json::Map::new();
    value("i=").map(|i| annotations.insert(INDEX.into(), json!(i)));
    value("failures=").map(|n| annotations.insert(FAILURES.into(), json!(n)));
    let state = match (phase, value("code=")) {
        ("Running", _) => json!({"running": {}}),
        (_, code) => {
            json!({"terminated": {"exitCode": code.map_or(0, |c| c.parse().expect("a number")), "finishedAt": ended}})
        }
    };
    let conditions = value("condition=").map(|c| json!({"type": c, "status": "True"}));
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": words[0], "namespace": "n", "uid": words[0], "annotations": annotations, "creationTimestamp": ended,
            "finalizers": if has("free") { json!([]) } else { json!(["batch.kubernetes.io/job-tracking"]) }},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": phase, "conditions": conditions.into_iter().collect::<Vec<_>>(),
            "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]},
    }))
    .expect("a pod");
    if has("dying") {
        pod.metadata.deletion_timestamp = Some(at(0).into());
    }
    Arc::new(pod)
}

fn work(job: &Job, pods: &[&str]) -> Work {
    Work::new(job.clone(), pods.iter().map(|p| pod(p)).collect(), HashSet::new(), Record::default())
}

fn reason(job: &Job, pods: &[&str]) -> Option<String> {
    verdict(&work(job, pods), at(0)).and_then(|c| c.reason)
}

fn next(job: &Job, pods: &[&str]) -> Action {
    plan(&work(job, pods), at(0))
}

fn create(indexes: &[i32]) -> Action {
    Action::Create(indexes.iter().copied().map(Some).collect())
}

fn deleted(action: Action) -> Vec<String> {
    match action {
        Action::Delete(pods) => pods.iter().map(|p| p.name().to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

/// An action in words.
fn words(action: &Action) -> String {
    match action {
        Action::Nothing => "nothing to do".to_string(),
        Action::Wait(pause) => format!("wait {pause:?}"),
        Action::Create(indexes) if indexes.iter().all(Option::is_none) => {
            format!("make {} pods", indexes.len())
        }
        Action::Create(indexes) => {
            format!("make pods of indexes {:?}", indexes.iter().flatten().collect::<Vec<_>>())
        }
        Action::Delete(pods) => {
            let names: Vec<&str> = pods.iter().filter_map(|p| p.metadata.name.as_deref()).collect();
            format!("delete {}", names.join(", "))
        }
    }
}

#[test]
fn scenarios() {
    scenario::check("job/testdata", |given| {
        let spec: Value = given.setting("spec").unwrap_or(json!({}));
        let job = if given.setting("indexed").unwrap_or(false) { indexed(spec) } else { job(spec) };
        let mut out = String::new();
        for pods in given.setting::<Vec<Vec<String>>>("pods").expect("situations") {
            let texts: Vec<&str> = pods.iter().map(String::as_str).collect();
            let work = work(&job, &texts);
            out.push_str(&format!(
                "{}\n  ",
                if pods.is_empty() { "no pods".to_string() } else { pods.join(", ") }
            ));
            out.push_str(&match verdict(&work, at(0)) {
                Some(end) => format!(
                    "{} ({}): {}\n",
                    end.type_,
                    end.reason.unwrap_or_default(),
                    end.message.unwrap_or_default()
                ),
                None if is_complete(&work, i32::try_from(work.active.len()).expect("small")) => {
                    "complete\n".into()
                }
                None => format!("{}\n", words(&plan(&work, at(0)))),
            });
        }
        out
    });
}

#[test]
fn as_many_pods_run_as_may_and_as_are_missing() {
    let three = job(json!({}));
    assert_eq!(next(&three, &[]), Action::Create(vec![None; 2]));
    assert_eq!(next(&three, &["a"]), Action::Create(vec![None]));
    assert_eq!(next(&three, &["a succeeded", "b succeeded", "c"]), Action::Nothing);
    assert_eq!(next(&three, &["a succeeded", "b succeeded"]), Action::Create(vec![None]));
    let queue = job(json!({"completions": null}));
    assert_eq!(next(&queue, &["a succeeded", "b"]), Action::Nothing, "after a success nothing new starts");
    assert!(
        is_complete(&work(&queue, &["a succeeded"]), 0)
            && !is_complete(&work(&queue, &["a succeeded", "b"]), 1)
    );
}

#[test]
fn surplus_and_suspended_pods_go() {
    assert_eq!(deleted(next(&job(json!({"parallelism": 1})), &["a", "b"])).len(), 1);
    let suspended = job(json!({"suspend": true}));
    assert_eq!(deleted(next(&suspended, &["a", "b"])), ["a", "b"]);
    assert_eq!(next(&suspended, &[]), Action::Nothing);
}

#[test]
fn failures_are_replaced_ever_more_slowly() {
    let job = job(json!({}));
    let wait = |pods: &[&str]| next(&job, pods);
    assert_eq!(wait(&["a failed at=-4"]), Action::Wait(Duration::from_secs(6)));
    assert_eq!(wait(&["a failed at=-30", "b failed at=-4"]), Action::Wait(Duration::from_secs(16)));
    assert_eq!(wait(&["a failed at=-11"]), Action::Create(vec![None; 2]));
    assert_eq!(
        wait(&["a failed at=-4", "b succeeded at=-2"]),
        Action::Create(vec![None; 2]),
        "a success wipes failures out"
    );
}

#[test]
fn indexes_are_given_out_once() {
    let job = indexed(json!({"parallelism": 3, "completions": 4}));
    assert_eq!(next(&job, &["a i=1", "b i=0 succeeded"]), create(&[2, 3]));
    assert_eq!(
        deleted(next(&job, &["a i=1", "b i=1", "c i=9", "d"])).len(),
        3,
        "a second one, one out of range, one without"
    );
    let pod = template::with_index(template::pod(&job), &work(&job, &[]), 2);
    let kept = Pod::of(&pod).expect("a pod");
    assert_eq!((index(&kept), pod.metadata.generate_name.as_deref()), (Some(2), Some("work-2-")));
    let spec = pod.spec.clone().expect("a spec");
    assert_eq!(spec.hostname.as_deref(), Some("work-2"));
    assert_eq!(spec.containers[0].env.as_ref().expect("variables")[0].name, "JOB_COMPLETION_INDEX");
    assert!(has_finalizer(&kept));
}

#[test]
fn each_index_may_fail_so_often() {
    let job = indexed(json!({"backoffLimitPerIndex": 1, "backoffLimit": 100, "completions": 2}));
    let first = work(&job, &["a i=0 failed at=-60", "b i=1"]);
    assert_eq!(plan(&first, at(0)), create(&[0]));
    let pod = template::with_index(template::pod(&job), &first, 0);
    assert_eq!(pod.metadata.annotations.as_ref().expect("annotations")[FAILURES], "1");
    let second = work(&job, &["a i=0 failed failures=1", "b i=1"]);
    assert_eq!(second.failed_indexes.as_ref().map(ToString::to_string).as_deref(), Some("0"));
    assert_eq!(verdict(&second, at(0)), None, "the other index goes on");
    assert_eq!(
        reason(&job, &["a i=0 failed failures=1", "b i=1 succeeded"]).as_deref(),
        Some("FailedIndexes")
    );
    let strict = indexed(json!({"backoffLimitPerIndex": 0, "maxFailedIndexes": 0, "backoffLimit": 100}));
    assert_eq!(reason(&strict, &["a i=0 failed"]).as_deref(), Some("MaxFailedIndexesExceeded"));
}

#[test]
fn jobs_fail_by_limits_and_deadlines() {
    let limited = job(json!({}));
    assert_eq!(reason(&limited, &["a failed", "b failed"]), None);
    assert_eq!(
        reason(&limited, &["a failed", "b failed", "c dying"]).as_deref(),
        Some("BackoffLimitExceeded")
    );
    assert_eq!(reason(&job(json!({"activeDeadlineSeconds": 100})), &[]).as_deref(), Some("DeadlineExceeded"));
    assert_eq!(reason(&job(json!({"activeDeadlineSeconds": 101})), &[]), None);
    assert_eq!(reason(&job(json!({"activeDeadlineSeconds": 1, "suspend": true})), &[]), None);
}

#[test]
fn policies_judge_failures() {
    let policy = json!({"podFailurePolicy": {"rules": [
        {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [7]}},
    ]}});
    let job = job(policy);
    let judged = |text: &str| judge(job.of().pod_failure_policy.as_ref(), &pod(text));
    let message = "Container c for pod n/a failed with exit code 42 matching FailJob rule at index 0";
    assert_eq!(judged("a failed code=42"), Verdict::FailJob(message.to_string()));
    assert_eq!(judged("a failed condition=DisruptionTarget"), Verdict::Ignore);
    assert_eq!((judged("a failed code=1"), judged("a failed code=7")), (Verdict::Count, Verdict::NoRule));
    assert_eq!(reason(&job, &["a failed code=42"]).as_deref(), Some("PodFailurePolicy"));
    let ignored = work(&job, &["a failed condition=DisruptionTarget", "b failed code=1"]);
    assert_eq!(ignored.failed, 1);
}

#[test]
fn a_success_policy_ends_a_job_early() {
    let rule = |rule: Value| indexed(json!({"completions": 5, "successPolicy": {"rules": [rule]}}));
    let done = ["a i=0 succeeded", "b i=2 succeeded"];
    assert_eq!(reason(&rule(json!({"succeededIndexes": "0,2"})), &done).as_deref(), Some("SuccessPolicy"));
    assert_eq!(
        reason(&rule(json!({"succeededIndexes": "0-3", "succeededCount": 2})), &done).as_deref(),
        Some("SuccessPolicy")
    );
    assert_eq!(reason(&rule(json!({"succeededIndexes": "0-3"})), &done), None);
    assert_eq!(reason(&rule(json!({"succeededCount": 3})), &done), None);
}

#[test]
fn a_dying_pod_is_replaced_at_once_or_when_it_has_ended() {
    let at_once = job(json!({"parallelism": 1, "backoffLimit": 9}));
    let mut view = work(&at_once, &["a dying"]);
    view.backoff = Record::default();
    assert_eq!(plan(&view, at(0)), Action::Create(vec![None]));
    let patient = job(json!({"parallelism": 1, "podReplacementPolicy": "Failed"}));
    assert_eq!(next(&patient, &["a dying"]), Action::Nothing);
    assert_eq!(work(&patient, &["a dying"]).failed, 0);
}

#[test]
fn a_job_is_complete_only_when_all_is_counted() {
    let mut done = work(&job(json!({"completions": 1})), &["a succeeded"]);
    done.finished = Some(completions_reached(at(0)));
    let mut noted = note(&mut done, at(0));
    assert!(done.job.has_condition("SuccessCriteriaMet") && !done.job.is_finished());
    assert!(!finish(&mut done, at(0)), "the pod is noted, not counted");
    noted.held.clear();
    assert!(raise_counts(done.job.status.as_mut().expect("a status"), &noted.held));
    assert!(finish(&mut done, at(0)) && done.job.is_finished());
    let status = done.job.status.expect("a status");
    assert_eq!((status.succeeded, status.completion_time.is_some()), (Some(1), true));
}

/// One round against a cluster that does what it is told; pods end as `outcome` says.
fn round(job: &mut Job, pods: &mut Vec<Arc<Pod>>, serial: &mut usize, outcome: &dyn Fn(usize) -> bool) {
    let mut work = Work::new(job.clone(), pods.clone(), HashSet::new(), Record::default());
    work.finished = verdict(&work, at(0));
    if work.finished.is_some() {
        pods.iter_mut()
            .filter(|p| !crate::pods::is_terminal(p))
            .for_each(|p| *p = pod(&format!("{} failed", p.metadata.name.as_deref().expect("a name"))));
        work.terminating = 0;
    } else {
        match plan(&work, at(0)) {
            Action::Create(indexes) => {
                for index in indexes {
                    *serial += 1;
                    let suffix = index.map(|i| format!(" i={i}")).unwrap_or_default();
                    pods.push(pod(&format!("p{serial}{suffix}")));
                }
            }
            Action::Delete(victims) => pods.retain(|p| !victims.contains(p)),
            _ => {}
        }
        let active = pods.iter().filter(|p| !crate::pods::is_terminal(p)).count();
        if is_complete(&work, i32::try_from(active).expect("small")) {
            work.finished = Some(completions_reached(at(0)));
        }
    }
    let noted = note(&mut work, at(0));
    let released: Vec<String> = noted.release.iter().map(|p| p.uid().to_string()).collect();
    pods.retain(|p| !released.iter().any(|uid| uid == p.uid()));
    let held = noted.held.into_iter().filter(|uid| !released.contains(uid)).collect();
    raise_counts(work.job.status.get_or_insert_default(), &held);
    if !noted.full {
        finish(&mut work, at(0));
    }
    *job = work.job;
    for pod_ in pods.iter_mut().filter(|p| !crate::pods::is_terminal(p)) {
        let name = pod_.name().to_string();
        let number: usize = name[1..].parse().expect("a number");
        let word = if outcome(number) { "succeeded" } else { "failed" };
        let suffix = index(pod_).map(|i| format!(" i={i}")).unwrap_or_default();
        *pod_ = pod(&format!("{name} {word}{suffix}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever fails, a job ends; it is complete exactly if the failures stayed within the limit, and nothing is left
    /// to count.
    #[test]
    fn jobs_end_and_count_every_pod_once(completions in 1i32..8, parallelism in 1i32..5, limit in 0i32..4, indexed_mode: bool, lost in prop::collection::btree_set(1usize..20, 0..6)) {
        let spec = json!({"completions": completions, "parallelism": parallelism, "backoffLimit": limit});
        let mut job = if indexed_mode { indexed(spec) } else { job(spec) };
        let (mut pods, mut serial) = (Vec::new(), 0);
        let outcome = |n: usize| !lost.contains(&n);
        for _ in 0..60 {
            if job.is_finished() {
                break;
            }
            round(&mut job, &mut pods, &mut serial, &outcome);
        }
        prop_assert!(job.is_finished(), "{:?}", job.status);
        let status = job.status.clone().expect("a status");
        prop_assert_eq!(uncounted(&status), 0);
        let (succeeded, failed) = (status.succeeded.unwrap_or(0), status.failed.unwrap_or(0));
        prop_assert_eq!(usize::try_from(succeeded + failed).expect("small"), serial);
        prop_assert_eq!(job.has_condition("Complete"), failed <= limit);
        prop_assert!(!job.has_condition("Complete") || succeeded == completions);
    }

    /// With all the pods that may run, nothing is to be done.
    #[test]
    fn a_satisfied_view_gives_an_empty_plan(parallelism in 0i32..9, more in 0i32..9, indexed_mode: bool) {
        let spec = json!({"completions": parallelism + more, "parallelism": parallelism});
        let job = if indexed_mode { indexed(spec) } else { job(spec) };
        let pods: Vec<String> = (0..parallelism).map(|i| format!("p{i} i={i}")).collect();
        let view = work(&job, &pods.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(plan(&view, at(0)), Action::Nothing);
        prop_assert_eq!(verdict(&view, at(0)), None);
    }
}
