//! Tries a group in one placement after the other and leaves it where it fits best. Whatever is decided here is left in
//! the cache; whatever was only tried out is taken back.
//! Upstream: runRootSchedulingAlgorithm, podGroupSchedulingPlacementAlgorithm, findBestPlacement.

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::scheduling::v1beta1::PodGroup;
use tokio::time::Instant;

use super::attempt::{Attempt, Status, UNSCHEDULABLE};
use crate::cycle::{self, Decision};
use crate::extended;
use crate::framework::{Code, GroupView, Offer, Placement, Profile, Reject};
use crate::listers::Listers;
use crate::metrics::PlacementMetrics;
use crate::model::PodInfo;
use crate::queue::Popped;
use crate::scheduler::{Scheduler, State};

/// What an attempt works on, and who decides about each of its pods.
pub trait Ground {
    fn with<R>(&mut self, act: impl FnOnce(&mut State, &Listers) -> R) -> R;

    fn decide(&mut self, profile: &Profile, pod: &Arc<PodInfo>) -> impl Future<Output = Decision> + Send;
}

/// The state is held all the time; nobody else has a say.
pub struct Held<'a> {
    pub state: &'a mut State,
    pub listers: &'a Listers,
}

impl Ground for Held<'_> {
    fn with<R>(&mut self, act: impl FnOnce(&mut State, &Listers) -> R) -> R {
        act(self.state, self.listers)
    }

    fn decide(&mut self, profile: &Profile, pod: &Arc<PodInfo>) -> impl Future<Output = Decision> + Send {
        let (scene, memory, rng) = self.state.scene(self.listers);
        std::future::ready(cycle::schedule(profile, scene, pod, memory, rng))
    }
}

/// Extenders have a say about some pods; the state is free while they are asked.
pub struct Asking<'a>(pub &'a Scheduler);

impl Ground for Asking<'_> {
    fn with<R>(&mut self, act: impl FnOnce(&mut State, &Listers) -> R) -> R {
        act(&mut self.0.state.lock(), &self.0.listers)
    }

    fn decide(&mut self, profile: &Profile, pod: &Arc<PodInfo>) -> impl Future<Output = Decision> + Send {
        extended::place(self.0, profile, pod)
    }
}

/// How groups are searched a place for.
pub struct Search<'a> {
    pub profile: &'a Profile,
    pub metrics: Option<&'a PlacementMetrics>,
}

impl Search<'_> {
    /// Places a group that belongs to no other, if it can.
    pub async fn root(&self, ground: &mut impl Ground, object: Arc<PodGroup>, pods: Vec<Popped>) -> Attempt {
        let mut attempt = self.group(ground, object, pods).await;
        if attempt.status == Status::Placed && attempt.assignments().next().is_none() {
            attempt.status = Status::Refused(vec![UNSCHEDULABLE.into()]);
        }
        attempt
    }

    /// The same where no extender is asked: it waits for nothing.
    pub fn root_at_once(
        &self,
        state: &mut State,
        listers: &Listers,
        object: Arc<PodGroup>,
        pods: Vec<Popped>,
    ) -> Attempt {
        let found = self.root(&mut Held { state, listers }, object, pods).now_or_never();
        found.expect("only extenders are waited for")
    }

    async fn group(&self, ground: &mut impl Ground, object: Arc<PodGroup>, pods: Vec<Popped>) -> Attempt {
        if !self.profile.topology_aware {
            return self.once(ground, object, pods).await;
        }
        let (group, generated) = ground.with(|state, listers| {
            let group = super::seen(state, &object);
            let generated = self.profile.placements(state.scene(listers).0.view(), &group);
            (group, generated)
        });
        let placements: Vec<Arc<Placement>> = match generated {
            Ok(placements) => placements.into_iter().map(Arc::new).collect(),
            Err(reject) => return Attempt::untried(group, object, pods, ended(reject)),
        };
        if let Some(metrics) = self.metrics {
            metrics.generated(&self.profile.scheduler_name, placements.len());
        }
        let parent = ground.with(|state, _| state.placement.take());
        let found = self.best(ground, &placements, group, object, pods).await;
        ground.with(|state, _| state.placement = parent);
        found
    }

    async fn best(
        &self,
        ground: &mut impl Ground,
        placements: &[Arc<Placement>],
        group: GroupView,
        object: Arc<PodGroup>,
        pods: Vec<Popped>,
    ) -> Attempt {
        let mut first = None;
        let mut fitting: Vec<(&Placement, Attempt)> = Vec::new();
        for placement in placements {
            let started = Instant::now();
            component::v!(4, placement = placement.name, "Trying placement");
            ground.with(|state, _| state.placement = Some(placement.clone()));
            let attempt = self.once(ground, object.clone(), pods.clone()).await;
            let fits = match attempt.status {
                Status::Error(_) => return attempt,
                ref status => *status == Status::Placed,
            };
            if let Some(metrics) = self.metrics {
                metrics.evaluated(&self.profile.scheduler_name, fits, started.elapsed());
            }
            if fits {
                ground.with(|state, _| attempt.take_back(state));
                fitting.push((placement, attempt));
            } else {
                first.get_or_insert(attempt);
            }
        }
        if let Some(mut first) = first.filter(|_| fitting.is_empty()) {
            let why = first.status.as_error();
            let all = placements.len();
            let text = format!("0/{all} placements are available, first placement status: {why}");
            first.status = Status::Refused(vec![UNSCHEDULABLE.into(), text]);
            return first;
        }
        let chosen = ground.with(|state, listers| self.choose(state, listers, &group, &fitting));
        match chosen {
            Ok(at) => {
                let (_, attempt) = fitting.swap_remove(at);
                ground.with(|state, _| attempt.put_all(state));
                attempt
            }
            Err(why) => Attempt::untried(group, object, pods, Status::Error(why)),
        }
    }

    /// Which of those that fit is best; among equals any, each as likely.
    fn choose(
        &self,
        state: &mut State,
        listers: &Listers,
        group: &GroupView,
        fitting: &[(&Placement, Attempt)],
    ) -> Result<usize, String> {
        if fitting.len() == 1 {
            return Ok(0);
        }
        let offers: Vec<Offer<'_>> = fitting.iter().map(offer).collect();
        let (scene, _, rng) = state.scene(listers);
        let scores = self.profile.placement_scores(scene.view(), group, &offers)?;
        Ok(cycle::best_of(&scores, rng))
    }

    /// One try within the nodes that are allowed.
    async fn once(&self, ground: &mut impl Ground, object: Arc<PodGroup>, pods: Vec<Popped>) -> Attempt {
        let mut attempt = ground.with(|state, _| Attempt::new(state, self.profile, object, pods));
        while let Some(popped) = attempt.next() {
            let decision = ground.decide(self.profile, &popped.info).await;
            ground.with(|state, _| attempt.tried(state, self.profile, decision));
        }
        ground.with(|state, _| attempt.end(state));
        attempt
    }
}

fn offer<'a>((placement, attempt): &(&'a Placement, Attempt)) -> Offer<'a> {
    let pods = attempt.assignments().map(|(popped, _)| popped.info.clone()).collect();
    Offer { placement, pods }
}

/// What a plugin's refusal is to a group.
fn ended(reject: Reject) -> Status {
    let reasons: Vec<String> = reject.reasons.iter().map(ToString::to_string).collect();
    match reject.code {
        Code::Error => Status::Error(reasons.join(", ")),
        Code::Unschedulable | Code::Unresolvable => Status::Refused(reasons),
    }
}
