//! TTL after finished: deletes jobs some time after they have finished, if they ask for that.
//! Upstream: pkg/controller/ttlafterfinished/ttlafterfinished_controller.go.

use std::time::Duration;

use client::{Client, DeleteParams, Meta, Propagation};
use component::app::Error;
use controller::WorkQueue;
use informer::{Event, Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use super::shared::key;
use crate::context::Context;
use crate::descriptor::Running;

/// What to do with a job.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    Wait(Duration),
    Delete,
}

/// When the job finished.
fn finished(job: &Job) -> Option<Timestamp> {
    let mut conditions = job.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let done =
        conditions.find(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"))?;
    done.last_transition_time.as_ref().map(|t| t.0)
}

fn plan(job: &Job, now: Timestamp) -> Plan {
    let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
    let (Some(ttl), Some(finished), None) = (ttl, finished(job), &job.metadata.deletion_timestamp) else {
        return Plan::Nothing;
    };
    let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
    let Ok(expires) = finished.checked_add(ttl) else { return Plan::Nothing };
    if expires <= now { Plan::Delete } else { Plan::Wait(expires.duration_since(now).unsigned_abs()) }
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let jobs = context.factory.informer::<Job>(Options::default());
    let queue: WorkQueue<String> = WorkQueue::new("ttl_jobs_to_delete");
    let to = queue.clone();
    jobs.subscribe(move |event| {
        if let Event::Added(job) | Event::Updated { new: job, .. } = event
            && plan(&job, Timestamp::now()) != Plan::Nothing
        {
            to.add(key(&*job));
        }
    });
    let (client, store) = (context.client(), jobs.store());
    let (workers, token) = (context.workers("concurrent-ttl-after-finished-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        if !jobs.wait_synced(&token).await {
            return;
        }
        queue
            .run(workers, &token, move |job: String| {
                let (client, store) = (client.clone(), store.clone());
                async move { sync(&client, &store, &job).await }
            })
            .await;
    }))
}

async fn sync(client: &Client, jobs: &Store<Job>, job_key: &str) -> Result<Option<Duration>, String> {
    let Some(job) = jobs.get(job_key) else { return Ok(None) };
    match plan(&job, Timestamp::now()) {
        Plan::Nothing => return Ok(None),
        Plan::Wait(pause) => return Ok(Some(pause)),
        Plan::Delete => {}
    }
    // The time may have been prolonged since.
    let api = client.namespaced::<Job>(job.namespace());
    let fresh = api.get_opt(job.name()).await.map_err(|e| format!("reading job {job_key}: {e}"))?;
    let Some(fresh) = fresh else { return Ok(None) };
    match plan(&fresh, Timestamp::now()) {
        Plan::Nothing => Ok(None),
        Plan::Wait(pause) => Ok(Some(pause)),
        Plan::Delete => {
            let params = DeleteParams {
                propagation: Some(Propagation::Foreground),
                ..DeleteParams::with_uid(fresh.uid())
            };
            match api.delete(fresh.name(), &params).await {
                Err(error) if !error.is_not_found() => Err(format!("deleting job {job_key}: {error}")),
                _ => Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::scenario;

    #[test]
    fn scenarios() {
        scenario::check("ttlafterfinished/testdata", |given| {
            let job: Job = given.one();
            let line = |now: &Timestamp| format!("{now}: {:?}\n", plan(&job, *now));
            given.setting::<Vec<Timestamp>>("times").expect("times").iter().map(line).collect()
        });
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).expect("a time")
    }

    fn job(ttl: Option<i32>, condition: &str, second: i64) -> Job {
        let conditions =
            json!([{"type": condition, "status": "True", "lastTransitionTime": at(second).to_string()}]);
        serde_json::from_value(json!({
            "metadata": {"name": "j"},
            "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
            "status": {"conditions": conditions},
        }))
        .expect("a job")
    }

    fn check(ttl: Option<i32>, condition: &str, now: i64, expected: &Plan) {
        assert_eq!(&plan(&job(ttl, condition, 0), at(now)), expected, "{ttl:?} {condition} {now}");
    }

    #[test]
    fn finished_jobs_go_when_their_time_is_over() {
        check(Some(10), "Complete", 10, &Plan::Delete);
        check(Some(10), "Failed", 11, &Plan::Delete);
        check(Some(0), "Complete", 0, &Plan::Delete);
        check(Some(10), "Complete", 4, &Plan::Wait(Duration::from_secs(6)));
        check(Some(10), "Complete", -5, &Plan::Wait(Duration::from_secs(15)));
    }

    #[test]
    fn other_jobs_stay() {
        check(None, "Complete", 100, &Plan::Nothing);
        check(Some(0), "Suspended", 100, &Plan::Nothing);
        let mut going = job(Some(0), "Complete", 0);
        going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
        assert_eq!(plan(&going, at(1)), Plan::Nothing);
    }

    proptest! {
        /// After the pause that was asked for, the job goes; not before.
        #[test]
        fn the_pause_is_right(ttl in 0i32..10_000, now in -100i64..10_000) {
            let job = job(Some(ttl), "Complete", 0);
            if let Plan::Wait(pause) = plan(&job, at(now)) {
                let then = at(now).checked_add(pause).expect("a time");
                prop_assert_eq!(plan(&job, then), Plan::Delete);
                let before = then.checked_sub(Duration::from_secs(1)).expect("a time");
                prop_assert_ne!(plan(&job, before), Plan::Delete);
            }
        }

        /// Without a time to live nothing is ever done.
        #[test]
        fn no_ttl_no_plan(now in 0i64..1_000_000) {
            prop_assert_eq!(plan(&job(None, "Failed", 0), at(now)), Plan::Nothing);
        }
    }
}
