//! CronJob: makes jobs at times of the calendar.
//!
//! Start reading at [`plan`]; [`times`] says when a job is due, `machinery::cron` reads schedules.
//! Upstream: pkg/controller/cronjob/cronjob_controllerv2.go.

mod plan;
#[cfg(test)]
mod tests;
mod times;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use client::{Client, DeleteParams, Meta, Propagation};
use component::app::Error;
use component::metrics::{Family, Histogram, Opts, Stability, exponential_buckets};
use controller::{EventRecorder, NORMAL, WARNING, WorkQueue, controller_of, is_controlled_by, reference};
use informer::{Event, Options, Store};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use machinery::cron::Schedule;

use self::plan::{Next, Told};
use super::shared::key;
use super::shared::pod_changes::Owners;
use crate::context::Context;
use crate::descriptor::Running;

/// Jobs by their controller's uid.
const BY_OWNER: &str = "jobControllerUID";

struct Shell {
    client: Client,
    cron_jobs: Store<CronJob>,
    jobs: Store<Job>,
    owners: Owners<CronJob>,
    queue: WorkQueue<String>,
    recorder: EventRecorder,
    local: TimeZone,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    let cron_jobs = context.factory.informer::<CronJob>(Options::default());
    let jobs = context.factory.informer::<Job>(Options::default().index(BY_OWNER, |job: &Job| {
        controller_of(&job.metadata).map(|owner| owner.uid.clone()).into_iter().collect()
    }));
    let shell = Arc::new(Shell {
        client: context.client(),
        cron_jobs: cron_jobs.store(),
        jobs: jobs.store(),
        owners: Owners::new(cron_jobs.store(), |_| None),
        queue: WorkQueue::new("cronjob"),
        recorder: context.recorder("cronjob-controller"),
        local: TimeZone::system(),
    });
    let to = shell.clone();
    jobs.subscribe(move |event| to.job_changed(&event));
    let to = shell.clone();
    cron_jobs.subscribe(move |event| to.changed(&event));
    let (workers, token) = (context.workers("concurrent-cron-job-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        if !(jobs.wait_synced(&token).await && cron_jobs.wait_synced(&token).await) {
            return;
        }
        let queue = shell.queue.clone();
        queue
            .run(workers, &token, move |key: String| {
                let shell = shell.clone();
                async move { shell.sync(&key).await }
            })
            .await;
    }))
}

impl Shell {
    fn job_changed(&self, event: &Event<Job>) {
        let (old, new) = match event {
            Event::Added(job) | Event::Deleted(job) => (None, job),
            Event::Updated { old, new } => (Some(old), new),
        };
        for meta in old.map(|o| &o.metadata).into_iter().chain([&new.metadata]) {
            self.owners.controller(meta).into_iter().for_each(|owner| self.queue.add(key(&*owner)));
        }
    }

    /// A changed schedule is looked at when it is due; any other change at once.
    fn changed(&self, event: &Event<CronJob>) {
        let of = |job: &CronJob| (job.spec.schedule.clone(), job.spec.time_zone.clone());
        let new = match event {
            Event::Updated { old, new } if of(old) != of(new) => new,
            _ => return self.queue.add(key(&**event.object())),
        };
        if Schedule::parse(&times::with_zone(&new.spec)).is_err() {
            let message = format!("unparseable schedule for cronjob: {}", new.spec.schedule);
            self.recorder.event(&reference(&**new), WARNING, "UnParseableCronJobSchedule", &message);
        } else if let Some(wait) = plan::wait(new, &self.local, Timestamp::now()) {
            self.queue.add_after(key(&**new), wait);
        }
    }

    fn tell(&self, job: &CronJob, events: Vec<Told>) {
        for (warning, reason, message) in events {
            let kind = if warning { WARNING } else { NORMAL };
            self.recorder.event(&reference(job), kind, reason, &message);
        }
    }

    async fn sync(&self, job_key: &str) -> Result<Option<Duration>, String> {
        let Some(cached) = self.cron_jobs.get(job_key) else { return Ok(None) };
        let mut job = (*cached).clone();
        let children = self.jobs.by_index(BY_OWNER, job.uid());
        let mut changed = false;
        for child in plan::surplus(&cached, &children) {
            changed |= self.delete(&mut job, child).await;
        }
        let outcome = self.round(&mut job, &children, &mut changed).await;
        if changed {
            let api = self.client.namespaced::<CronJob>(job.namespace());
            let written = api.replace_status(&job).await;
            written.map_err(|e| format!("writing the status of cron job {job_key}: {e}"))?;
        }
        outcome
    }

    async fn round(
        &self,
        job: &mut CronJob,
        children: &[Arc<Job>],
        changed: &mut bool,
    ) -> Result<Option<Duration>, String> {
        for child in children {
            self.note_child(job, child, changed).await?;
        }
        for lost in plan::unseen(job, children) {
            self.look_for(job, &lost, changed).await?;
        }
        let (now, mut events) = (Timestamp::now(), Vec::new());
        let next = plan::plan(job, &self.local, now, &mut events);
        self.tell(job, events);
        match next {
            Next::Rest => Ok(None),
            Next::Wait(pause) => Ok(Some(pause)),
            Next::Start { at, replace } => {
                if replace {
                    self.replace(job, changed).await?;
                }
                if !self.start(job, at).await? {
                    return Ok(None);
                }
                *changed = true;
                Ok(plan::wait(job, &self.local, now))
            }
        }
    }

    /// Finished jobs are noted; a running one that is not on the list is worth an event, unless the cached list is old.
    async fn note_child(&self, job: &mut CronJob, child: &Job, changed: &mut bool) -> Result<(), String> {
        if plan::finished(child).is_none() && !plan::is_listed(job, child.uid()) {
            let api = self.client.namespaced::<CronJob>(job.namespace());
            let fresh =
                api.get(job.name()).await.map_err(|e| format!("reading cron job {}: {e}", job.key()))?;
            if plan::is_listed(&fresh, child.uid()) {
                *job = fresh;
                return Ok(());
            }
            let message = format!("Saw a job that the controller did not create or forgot: {}", child.name());
            self.recorder.event(&reference(job), WARNING, "UnexpectedJob", &message);
            return Ok(());
        }
        let mut events = Vec::new();
        *changed |= plan::note_finished(job, child, &mut events);
        self.tell(job, events);
        Ok(())
    }

    /// A listed job that the cache does not have may only be new.
    async fn look_for(
        &self,
        job: &mut CronJob,
        lost: &ObjectReference,
        changed: &mut bool,
    ) -> Result<(), String> {
        let (namespace, name) =
            (lost.namespace.as_deref().unwrap_or_default(), lost.name.as_deref().unwrap_or_default());
        let found = self.client.namespaced::<Job>(namespace).get_opt(name).await;
        if found.map_err(|e| format!("reading job {namespace}/{name}: {e}"))?.is_none() {
            let message = format!("Active job went missing: {name}");
            self.recorder.event(&reference(job), NORMAL, "MissingJob", &message);
            plan::unlist(job.status.get_or_insert_default(), lost.uid.as_deref().unwrap_or_default());
            *changed = true;
        }
        Ok(())
    }

    async fn replace(&self, job: &mut CronJob, changed: &mut bool) -> Result<(), String> {
        let running = job.status.as_ref().and_then(|s| s.active.clone()).unwrap_or_default();
        for listed in running {
            let (namespace, name) =
                (listed.namespace.as_deref().unwrap_or_default(), listed.name.as_deref().unwrap_or_default());
            let found = self.client.namespaced::<Job>(namespace).get(name).await;
            let found = found.map_err(|e| {
                self.recorder.event(&reference(job), WARNING, "FailedGet", &format!("Get job: {e}"));
                format!("reading job {namespace}/{name}: {e}")
            })?;
            if !self.delete(job, &found).await {
                return Err(format!("could not replace job {namespace}/{name}"));
            }
            *changed = true;
        }
        Ok(())
    }

    /// Deletes a job and its pods, and takes it off the list.
    async fn delete(&self, job: &mut CronJob, child: &Job) -> bool {
        let api = self.client.namespaced::<Job>(child.namespace());
        let params = DeleteParams { propagation: Some(Propagation::Background), ..DeleteParams::default() };
        if let Err(e) = api.delete(child.name(), &params).await {
            self.recorder.event(&reference(job), WARNING, "FailedDelete", &format!("Deleted job: {e}"));
            return false;
        }
        plan::unlist(job.status.get_or_insert_default(), child.uid());
        let message = format!("Deleted job {}", child.name());
        self.recorder.event(&reference(job), NORMAL, "SuccessfulDelete", &message);
        true
    }

    /// Makes the job of a time and lists it. False when somebody else's job has the name, or ours is listed already.
    async fn start(&self, job: &mut CronJob, at: Timestamp) -> Result<bool, String> {
        let api = self.client.namespaced::<Job>(job.namespace());
        let new = plan::new_job(job, at);
        let made = match api.create(&new).await {
            Ok(made) => {
                let created = made.metadata.creation_timestamp.as_ref().map_or(at, |t| t.0);
                SKEW.with(&[]).observe(created.duration_since(at).as_secs_f64());
                let message = format!("Created job {}", made.name());
                self.recorder.event(&reference(job), NORMAL, "SuccessfulCreate", &message);
                made
            }
            Err(e) if e.is_already_exists() => {
                let found =
                    api.get(new.name()).await.map_err(|e| format!("reading job {}: {e}", new.name()))?;
                if !is_controlled_by(&found.metadata, &job.metadata) || plan::is_listed(job, found.uid()) {
                    return Ok(false);
                }
                found
            }
            Err(e) => {
                if !e.is_namespace_terminating() {
                    let message = format!("Error creating job: {e}");
                    self.recorder.event(&reference(job), WARNING, "FailedCreate", &message);
                }
                return Err(format!("creating job {}: {e}", new.name()));
            }
        };
        let status = job.status.get_or_insert_default();
        let listed =
            ObjectReference { resource_version: made.metadata.resource_version.clone(), ..reference(&made) };
        status.active.get_or_insert_default().push(listed);
        status.last_schedule_time = Some(Time(at));
        Ok(true)
    }
}

/// Upstream: pkg/controller/cronjob/metrics.
static SKEW: LazyLock<Family<Histogram>> = LazyLock::new(|| {
    let opts = Opts::new(
        "cronjob_controller_job_creation_skew_duration_seconds",
        "Time between when a cronjob is scheduled to be run, and when the corresponding job is created",
    );
    Family::histogram(opts.stability(Stability::Stable), &exponential_buckets(1.0, 2.0, 10))
});
