//! Job: runs pods until enough of them have succeeded, and counts each exactly once.
//!
//! Start reading at [`work`] (what a round sees), then [`plan`] (whether the job is over, which pods it needs) and
//! [`track`] (counting). Workload and PodGroup objects for jobs (gate WorkloadWithJob) are not made.
//! Upstream: pkg/controller/job/job_controller.go.

mod backoff;
mod events;
mod failure_policy;
mod indexes;
mod metrics;
mod plan;
mod spec;
mod success_policy;
mod template;
#[cfg(test)]
mod tests;
mod track;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::{Client, Meta, PatchParams};
use component::app::Error;
use component::features::{self, Gate};
use controller::limiter::ItemExponential;
use controller::{Expectations, NORMAL, RefManager, WARNING, WorkQueue, batch, reference, slow_start};
use hashbrown::{HashMap, HashSet};
use informer::{Options, Store};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

use self::backoff::Record;
use self::events::{BATCH, Orphans, release_patch};
use self::plan::Action;
use self::spec::{FINALIZER, Facts, condition, set_condition};
use self::work::{Work, uid};
use super::shared::own_writes::OwnWrites;
use super::shared::pod_changes::Owners;
use super::shared::pod_control::PodControl;
use super::shared::{count, selector};
use crate::context::Context;
use crate::descriptor::Running;
use crate::kept::Pod;
use crate::pods;

const KIND: &str = "Job";

struct Shell {
    client: Client,
    jobs: Store<Job>,
    pods: Store<Pod>,
    owners: Owners<Job>,
    queue: WorkQueue<String>,
    orphans: WorkQueue<Orphans>,
    expected: Expectations,
    /// Pods whose finalizer was removed, until the cache shows it: by job.
    released: Mutex<HashMap<String, HashSet<String>>>,
    /// Jobs that were written as finished, until the cache shows it.
    finished: Mutex<HashSet<String>>,
    backoffs: Mutex<HashMap<String, Record>>,
    writes: OwnWrites,
    control: PodControl,
}

/// Builds the controller.
pub fn build(context: &Context) -> Result<Running, Error> {
    if features::enabled(Gate::WorkloadWithJob) {
        return Err("feature gate WorkloadWithJob is on, but Workload objects of jobs are not there yet: \
             turn it off, or leave job-controller out of --controllers"
            .into());
    }
    let jobs = context.factory.informer::<Job>(Options::default());
    let all_pods = context
        .factory
        .informer::<Pod>(Options::default().index(pods::CONTROLLER_INDEX, pods::controller_index));
    let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
    let shell = Arc::new(Shell {
        client: context.client(),
        jobs: jobs.store(),
        pods: all_pods.store(),
        owners: Owners::new(jobs.store(), |job: &Job| job.of().selector.as_ref()),
        queue: WorkQueue::with_limiter("job", ItemExponential::new(first, longest)),
        orphans: WorkQueue::with_limiter("job_orphan_pod", ItemExponential::new(first, longest)),
        expected: Expectations::new(),
        released: Mutex::default(),
        finished: Mutex::default(),
        backoffs: Mutex::default(),
        writes: OwnWrites::new().cache("pods", all_pods.store()).cache("jobs.batch", jobs.store()),
        control: PodControl { client: context.client(), recorder: context.recorder("job-controller") },
    });
    let to = shell.clone();
    jobs.subscribe(move |event| to.job_changed(&event));
    let to = shell.clone();
    all_pods.subscribe(move |event| to.pod_changed(&event));
    let (workers, token) = (context.workers("concurrent-job-syncs"), context.token.clone());
    Ok(Box::pin(async move {
        if !(jobs.wait_synced(&token).await && all_pods.wait_synced(&token).await) {
            return;
        }
        let (queue, orphans, of_orphans) = (shell.queue.clone(), shell.orphans.clone(), shell.clone());
        tokio::join!(
            queue.run(workers, &token, move |key: String| {
                let shell = shell.clone();
                async move { shell.sync(&key).await }
            }),
            orphans.run(workers, &token, move |orphans: Orphans| {
                let shell = of_orphans.clone();
                async move { shell.sync_orphans(&orphans).await.map(|()| None) }
            }),
        );
    }))
}

/// What acting on pods came to.
#[derive(Default)]
struct Outcome {
    active: i32,
    failure: Option<String>,
    action: &'static str,
}

impl Shell {
    fn release_observed(&self, job_key: &str, uid: &str) {
        if let Some(waited_for) = self.released.lock().get_mut(job_key) {
            waited_for.remove(uid);
        }
    }

    async fn sync(&self, job_key: &str) -> Result<Option<Duration>, String> {
        self.writes.seen(job_key)?;
        let Some(job) = self.jobs.get(job_key) else {
            self.expected.delete(job_key);
            self.released.lock().remove(job_key);
            self.writes.forget(job_key);
            self.backoffs.lock().remove(job_key);
            return Ok(None);
        };
        if job.manager().is_some() {
            return Ok(None);
        }
        if job.is_finished() {
            self.backoffs.lock().remove(job_key);
            self.writes.forget(job_key);
            self.finished.lock().remove(job.uid());
            return Ok(None);
        }
        if self.finished.lock().contains(job.uid()) {
            return Ok(None);
        }
        if !matches!(job.of().completion_mode.as_deref(), None | Some("NonIndexed" | "Indexed")) {
            let message = "Skipped Job sync because completion mode is unknown";
            self.control.recorder.event(&reference(&*job), WARNING, "UnknownCompletionMode", message);
            return Ok(None);
        }
        let started = std::time::Instant::now();
        let (result, action) = self.round(job_key, &job).await;
        let labels = [metrics::mode(&job), if result.is_ok() { "success" } else { "error" }, action];
        metrics::get().sync_seconds.with(&labels).observe_duration(started.elapsed());
        metrics::get().syncs.with(&labels).inc();
        result
    }

    async fn round(&self, job_key: &str, job: &Job) -> (Result<Option<Duration>, String>, &'static str) {
        // Before the pods are looked at: one that comes in between only delays this round's creations.
        let settled = self.expected.satisfied(job_key);
        let pods = match self.claim(job).await {
            Ok(pods) => pods,
            Err(e) => return (Err(e), "reconciling"),
        };
        let released = self.released.lock().get(job_key).cloned().unwrap_or_default();
        let backoff = self.backoffs.lock().get(job_key).copied().unwrap_or_default();
        let now = Timestamp::now();
        let before = job.status.clone().unwrap_or_default();
        let mut work = Work::new(job.clone(), pods, released, backoff);
        if before.start_time.is_none() && !job.is_suspended() {
            work.job.status.get_or_insert_default().start_time = Some(Time(now));
        }
        work.finished = plan::verdict(&work, now);
        if work.finished.is_none()
            && let Some(left) = plan::deadline(&work, now)
        {
            self.queue.add_after(job_key.to_string(), left);
        }
        let mut look_again = None;
        let mut outcome =
            Outcome { active: count(work.active.len()), action: "reconciling", ..Outcome::default() };
        let mut changed = false;
        if work.finished.is_some() {
            self.end(&mut work, settled, &mut outcome).await;
        } else {
            let managed = settled && job.metadata.deletion_timestamp.is_none();
            if managed {
                self.manage(job_key, &mut work, &mut outcome, &mut look_again, now).await;
            }
            if plan::is_complete(&work, outcome.active) {
                work.finished = Some(plan::completions_reached(now));
            } else if managed {
                changed = self.note_suspension(&mut work, now);
            }
        }
        changed |= note_counts(&mut work, &before, outcome.active);
        let tracked = self.track(job_key, work, before, changed).await;
        let result = tracked.map_err(|e| format!("tracking status: {e}"));
        (result.and(outcome.failure.map_or(Ok(look_again), Err)), outcome.action)
    }

    /// The job's pods, adopted or released as the selector says; adopted ones have the finalizer.
    async fn claim(&self, job: &Job) -> Result<Vec<Arc<Pod>>, String> {
        let Some(wanted) = &job.of().selector else { return Ok(Vec::new()) };
        let matches = selector(wanted).map_err(|e| format!("couldn't convert Job selector: {e}"))?;
        let namespace = job.namespace();
        let own_key = pods::controller_key(namespace, KIND, job.name(), job.uid());
        let own = self.pods.by_index(pods::CONTROLLER_INDEX, &own_key);
        let orphans = self.pods.by_index(pods::CONTROLLER_INDEX, namespace);
        let manager = RefManager::new(
            self.client.namespaced(namespace),
            self.client.namespaced(namespace),
            job,
            |labels| matches.matches(labels),
        )
        .finalizers(vec![FINALIZER]);
        let mut all =
            manager.claim(own.into_iter().chain(orphans), |_| true).await.map_err(|e| e.to_string())?;
        for pod in &mut all {
            let known = pod.metadata.owner_references.iter().flatten().any(|r| r.uid == job.uid());
            if !known && !spec::has_finalizer(pod) {
                let finalizers = Arc::make_mut(pod).metadata.finalizers.get_or_insert_default();
                finalizers.push(FINALIZER.into());
            }
        }
        Ok(all)
    }

    /// Ends the active pods of a job that is over. It is not over yet while some could not be ended or are unseen.
    async fn end(&self, work: &mut Work, settled: bool, outcome: &mut Outcome) {
        let failure = Mutex::new(None);
        let ended = AtomicUsize::new(work.active.len());
        let deletions = work.active.iter().map(|pod| async {
            if let Err(e) = self.control.delete(&work.job, pod.name()).await
                && !e.is_not_found()
            {
                ended.fetch_sub(1, Ordering::Relaxed);
                failure.lock().get_or_insert(format!("deleting pod {}: {e}", pod.key()));
            }
        });
        futures::future::join_all(deletions).await;
        let ended = count(ended.into_inner());
        if ended != outcome.active || !settled {
            work.finished = None;
        }
        outcome.active -= ended;
        work.terminating += ended;
        work.ready -= count(work.active.iter().filter(|p| pods::is_ready(p)).count());
        outcome.failure = failure.into_inner();
    }

    async fn manage(
        &self,
        job_key: &str,
        work: &mut Work,
        outcome: &mut Outcome,
        look_again: &mut Option<Duration>,
        now: Timestamp,
    ) {
        match plan::plan(work, now) {
            Action::Nothing => outcome.action = "tracking",
            Action::Wait(pause) => {
                outcome.action = "pods_created";
                *look_again = Some(pause.max(BATCH));
            }
            Action::Delete(victims) => {
                outcome.action = "pods_deleted";
                self.delete(job_key, work, &victims, outcome).await;
            }
            Action::Create(indexes) => {
                outcome.action = "pods_created";
                self.create(job_key, work, &indexes, outcome).await;
            }
        }
    }

    /// Pods that are too many go uncounted: their finalizer first.
    async fn delete(&self, job_key: &str, work: &mut Work, victims: &[Arc<Pod>], outcome: &mut Outcome) {
        self.expected.expect_deletions(job_key, victims.len());
        let api = self.client.namespaced::<Pod>(work.job.namespace());
        let (failure, lost) = (Mutex::new(None), AtomicUsize::new(0));
        let deletions = victims.iter().map(|pod| async {
            let released = if spec::has_finalizer(pod) {
                api.patch_unread(pod.name(), "", &release_patch(), &PatchParams::default()).await
            } else {
                Ok(())
            };
            let gone = match released {
                Ok(()) => self.control.delete(&work.job, pod.name()).await,
                Err(e) => Err(e),
            };
            if let Err(e) = gone {
                self.expected.deletion_observed(job_key);
                if !e.is_not_found() {
                    lost.fetch_add(1, Ordering::Relaxed);
                    failure.lock().get_or_insert(format!("deleting pod {}: {e}", pod.key()));
                }
            }
        });
        futures::future::join_all(deletions).await;
        let gone = count(victims.len() - lost.into_inner());
        outcome.active -= gone;
        work.terminating += gone;
        work.ready -= count(victims.iter().filter(|p| pods::is_ready(p)).count());
        outcome.failure = failure.into_inner();
    }

    async fn create(&self, job_key: &str, work: &Work, indexes: &[Option<i32>], outcome: &mut Outcome) {
        self.expected.expect_creations(job_key, indexes.len());
        let common = template::pod(&work.job);
        let tried = AtomicUsize::new(0);
        let (made, failure) = slow_start(indexes.len(), batch::INITIAL_BATCH, |at| {
            tried.fetch_add(1, Ordering::Relaxed);
            let pod = common.clone();
            async move {
                let pod = match indexes[at] {
                    Some(index) => template::with_index(pod, work, index),
                    None => pod,
                };
                match self.control.create(&work.job, &pod).await {
                    Ok(made) => {
                        self.writes.wrote(job_key, "pods", &made);
                        Ok(())
                    }
                    // Pods of a namespace that is going away will never be made: nothing to try again.
                    Err(e) if e.is_namespace_terminating() => Ok(()),
                    Err(e) => Err(format!("creating a pod of {job_key}: {e}")),
                }
            }
        })
        .await;
        (made..indexes.len()).for_each(|_| self.expected.creation_observed(job_key));
        metrics::created(work, made, tried.into_inner().saturating_sub(made));
        outcome.active += count(made);
        outcome.failure = failure;
    }

    /// Tells when a job is suspended or resumed; resuming starts its clock anew. True when something changed.
    fn note_suspension(&self, work: &mut Work, now: Timestamp) -> bool {
        let suspended = work.job.is_suspended();
        let (status, reason, message, event) = if suspended {
            ("True", "JobSuspended", "Job suspended", "Suspended")
        } else {
            ("False", "JobResumed", "Job resumed", "Resumed")
        };
        let new = condition("Suspended", status, reason, message, now);
        let state = work.job.status.get_or_insert_default();
        if !set_condition(state.conditions.get_or_insert_default(), new) {
            return false;
        }
        if !suspended {
            state.start_time = Some(Time(now));
        } else if features::enabled(Gate::MutableSchedulingDirectivesForSuspendedJobs) {
            state.start_time = None;
        }
        self.control.recorder.event(&reference(&work.job), NORMAL, event, message);
        true
    }

    /// Counts ended pods: see [`track`].
    async fn track(
        &self,
        job_key: &str,
        mut work: Work,
        mut before: JobStatus,
        changed: bool,
    ) -> Result<(), String> {
        let mut noted = track::note(&mut work, Timestamp::now());
        if noted.changed || changed {
            let written = self.write_status(job_key, &work.job).await;
            work.job = written.map_err(|e| format!("adding uncounted pods to status: {e}"))?;
            self.backoffs.lock().insert(job_key.to_string(), work.backoff);
            metrics::counted(&work.job, &before);
            before = work.job.status.clone().unwrap_or_default();
        }
        for action in &noted.actions {
            metrics::get().failures_handled.with(&[action]).inc();
        }
        let released = self.release(job_key, &noted.release, &mut noted.held).await;
        let mut pending = track::raise_counts(work.job.status.get_or_insert_default(), &noted.held);
        if let Err(failure) = released {
            if pending {
                let written = self.write_status(job_key, &work.job).await;
                written.map_err(|e| format!("removing uncounted pods from status: {e}"))?;
            }
            return Err(failure);
        }
        let finished = !noted.full && track::finish(&mut work, Timestamp::now());
        pending |= finished;
        if pending {
            let written = self.write_status(job_key, &work.job).await;
            let written = written.map_err(|e| format!("removing uncounted pods from status: {e}"))?;
            if finished {
                self.tell_end(&work);
                self.finished.lock().insert(work.job.uid().to_string());
            }
            metrics::counted(&written, &before);
        }
        Ok(())
    }

    async fn write_status(&self, job_key: &str, job: &Job) -> Result<Job, String> {
        let api = self.client.namespaced::<Job>(job.namespace());
        let written = api.replace_status(job).await.map_err(|e| e.to_string())?;
        self.writes.wrote(job_key, "jobs.batch", &written);
        Ok(written)
    }

    /// Removes finalizers; those that are gone leave `held`.
    async fn release(
        &self,
        job_key: &str,
        pods: &[Arc<Pod>],
        held: &mut HashSet<String>,
    ) -> Result<(), String> {
        if pods.is_empty() {
            return Ok(());
        }
        let uids = pods.iter().map(|p| uid(p).to_string());
        self.released.lock().entry(job_key.to_string()).or_default().extend(uids);
        let patch = release_patch();
        let patch = &patch;
        let removals = pods.iter().map(|pod| async move {
            let api = self.client.namespaced::<Pod>(pod.namespace());
            let outcome = api.patch_unread(pod.name(), "", patch, &PatchParams::default()).await;
            if outcome.is_err() {
                self.release_observed(job_key, uid(pod));
            }
            match outcome {
                Err(e) if !e.is_not_found() => {
                    Err(format!("removing tracking finalizer of {}: {e}", pod.key()))
                }
                _ => Ok(()),
            }
        });
        let outcomes = futures::future::join_all(removals).await;
        for (pod, outcome) in pods.iter().zip(&outcomes) {
            if outcome.is_ok() {
                held.remove(uid(pod));
            }
        }
        outcomes.into_iter().collect()
    }

    fn tell_end(&self, work: &Work) {
        let Some(end) = &work.finished else { return };
        let (job, recorder) = (&work.job, &self.control.recorder);
        let reason = end.reason.as_deref().unwrap_or_default();
        let complete = end.type_ == "Complete";
        if complete {
            let succeeded = job.state().and_then(|s| s.succeeded).unwrap_or(0);
            if job.completions().is_some_and(|wanted| succeeded > wanted) {
                let message = "Too many succeeded pods running after completion count reached";
                recorder.event(&reference(job), WARNING, "TooManySucceededPods", message);
            }
            recorder.event(&reference(job), NORMAL, "Completed", "Job completed");
        } else {
            recorder.event(&reference(job), WARNING, reason, end.message.as_deref().unwrap_or_default());
        }
        let result = if complete { "succeeded" } else { "failed" };
        metrics::get().finished.with(&[metrics::mode(job), result, reason]).inc();
    }
}

/// Puts the numbers of living pods into the status; true when they differ from the stored ones.
fn note_counts(work: &mut Work, before: &JobStatus, active: i32) -> bool {
    let status = work.job.status.get_or_insert_default();
    status.active = Some(active);
    status.ready = Some(work.ready);
    status.terminating = Some(work.terminating);
    before.active.unwrap_or(0) != active
        || before.ready != status.ready
        || before.terminating != status.terminating
}
