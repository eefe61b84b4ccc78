//! A job and its pods, counted: what every decision of a round depends on. Pure.
//! Upstream: pkg/controller/job/job_controller.go syncJobCtx, indexed_job_utils.go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashSet;
use k8s_openapi::api::batch::v1::{Job, JobCondition};

use super::backoff::{self, Record};
use super::failure_policy::{self, Verdict};
use super::indexes::Indexes;
use super::spec::{self, FAILURES, Facts, has_finalizer, index};
use crate::controllers::shared::count;
use crate::kept::Pod;
use crate::pods;

/// One round's view.
pub struct Work {
    /// The job; its status is what the round makes of it.
    pub job: Job,
    pub pods: Vec<Arc<Pod>>,
    pub active: Vec<Arc<Pod>>,
    /// Pods whose finalizer is removed though the cache does not show it: they are counted.
    pub released: HashSet<String>,
    /// Pods noted in the status that are not counted yet.
    pub uncounted_succeeded: HashSet<String>,
    pub uncounted_failed: HashSet<String>,
    pub succeeded: i32,
    pub failed: i32,
    /// Succeeded indexes in the status, and with pods that have ended since.
    pub before: Indexes,
    pub succeeded_indexes: Indexes,
    pub failed_indexes: Option<Indexes>,
    /// Failed pods kept until their index has another pod, which takes their count over.
    pub delayed: BTreeMap<i32, Arc<Pod>>,
    pub ready: i32,
    pub terminating: i32,
    pub backoff: Record,
    pub finished: Option<JobCondition>,
}

impl Work {
    pub fn new(job: Job, pods: Vec<Arc<Pod>>, released: HashSet<String>, backoff: Record) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.unwrap_or_default();
        let set = |uids: Option<Vec<String>>| uids.into_iter().flatten().collect::<HashSet<String>>();
        let active: Vec<Arc<Pod>> = pods.iter().filter(|p| pods::is_active(p)).cloned().collect();
        let mut work = Self {
            ready: count(active.iter().filter(|p| pods::is_ready(p)).count()),
            terminating: count(pods.iter().filter(|p| pods::is_terminating(p)).count()),
            uncounted_succeeded: set(uncounted.succeeded),
            uncounted_failed: set(uncounted.failed),
            succeeded: status.succeeded.unwrap_or(0),
            failed: status.failed.unwrap_or(0),
            before: Indexes::default(),
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            delayed: BTreeMap::new(),
            finished: None,
            job,
            pods,
            active,
            released,
            backoff,
        };
        work.count_pods();
        if work.job.is_indexed() {
            work.count_indexes();
        }
        work
    }

    pub fn judge(&self, pod: &Pod) -> Verdict {
        failure_policy::judge(self.job.of().pod_failure_policy.as_ref(), pod)
    }

    /// The pod has its finalizer and was not counted in an earlier round.
    pub fn is_uncounted(&self, pod: &Pod) -> bool {
        has_finalizer(pod) && !self.released.contains(uid(pod))
    }

    /// Uncounted pods that can count at all: those of an indexed job need an index.
    fn valid(&self) -> impl Iterator<Item = &Arc<Pod>> {
        let indexed = self.job.is_indexed();
        self.pods
            .iter()
            .filter(move |p| self.is_uncounted(p) && (!indexed || self.job.valid_index(p).is_some()))
    }

    fn count_pods(&mut self) {
        let succeeded: Vec<Arc<Pod>> = self
            .valid()
            .filter(|p| pods::phase(p) == "Succeeded" && !self.uncounted_succeeded.contains(uid(p)))
            .cloned()
            .collect();
        let failed: Vec<Arc<Pod>> = self
            .valid()
            .filter(|p| self.job.is_failed(p) && !self.uncounted_failed.contains(uid(p)))
            .cloned()
            .collect();
        let counting = failed.iter().filter(|p| self.judge(p).counts()).count();
        self.succeeded += count(succeeded.len() + self.uncounted_succeeded.len());
        self.failed += count(counting + self.uncounted_failed.len());
        self.backoff = self.backoff.after(&succeeded, &failed);
    }

    fn count_indexes(&mut self) {
        let completions = self.job.completions().unwrap_or(0);
        let state = self.job.state();
        let parse = |text: Option<&String>| Indexes::parse(text.map_or("", String::as_str), completions);
        let before = parse(state.and_then(|s| s.completed_indexes.as_ref()));
        let failed_before = parse(state.and_then(|s| s.failed_indexes.as_ref()));
        let of = |test: &dyn Fn(&Pod) -> bool| {
            let pods = self.pods.iter().filter(|p| has_finalizer(p) && test(p));
            Indexes::of(pods.filter_map(|p| self.job.valid_index(p)))
        };
        let succeeded = before.and(&of(&|p| pods::phase(p) == "Succeeded"));
        let failed =
            self.job.counts_per_index().then(|| failed_before.and(&of(&|p| self.has_failed_index(p))));
        self.succeeded = succeeded.count();
        (self.before, self.succeeded_indexes, self.failed_indexes) = (before, succeeded, failed);
        if self.job.counts_per_index() {
            self.delayed = self.find_delayed();
        }
    }

    /// The pod's failure is the last that its index may have.
    fn has_failed_index(&self, pod: &Pod) -> bool {
        if !self.job.is_failed(pod) {
            return false;
        }
        let verdict = self.judge(pod);
        let limit = self.job.of().backoff_limit_per_index.unwrap_or(i32::MAX);
        verdict == Verdict::FailIndex || (verdict.counts() && spec::noted(pod, FAILURES) >= limit)
    }

    fn find_delayed(&self) -> BTreeMap<i32, Arc<Pod>> {
        let active = indexes_of(&self.active);
        let failed = self.failed_indexes.as_ref();
        let mut out: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        for pod in self.valid().filter(|p| self.job.is_failed(p)) {
            let Some(index) = self.job.valid_index(pod) else { continue };
            let settled = self.succeeded_indexes.has(index) || failed.is_some_and(|f| f.has(index));
            if settled || active.contains(&index) {
                continue;
            }
            let newer = out.get(&index).is_none_or(|last| {
                spec::all_noted(last) <= spec::all_noted(pod)
                    && backoff::finished(pod) >= backoff::finished(last)
            });
            if newer {
                out.insert(index, pod.clone());
            }
        }
        out
    }

    /// Indexes that need no new pod now.
    pub fn settled_indexes(&self) -> Indexes {
        let mut all = self.succeeded_indexes.and(&Indexes::of(indexes_of(&self.active)));
        if self.job.replaces_failed_only() {
            let ending = self.pods.iter().filter(|p| pods::is_terminating(p));
            all = all.and(&Indexes::of(ending.filter_map(|p| index(p))));
        }
        self.failed_indexes.as_ref().map_or(all.clone(), |failed| all.and(failed))
    }
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn indexes_of(all: &[Arc<Pod>]) -> BTreeSet<i32> {
    all.iter().filter_map(|p| index(p)).collect()
}
