//! Tries a group in one placement after the other and leaves it where it fits best; of a group of groups one of its
//! groups after the other, each as if those before it were there already. Whatever is decided here is left in the cache;
//! whatever was only tried out is taken back.
//! Upstream: runRootSchedulingAlgorithm, podGroupSchedulingPlacementAlgorithm,
//! compositePodGroupSchedulingPlacementAlgorithm, compositePodGroupSchedulingDefaultAlgorithm, findBestPlacement.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::scheduling::v1beta1::PodGroup;
use tokio::time::Instant;

use super::attempt::{Attempt, Status, UNSCHEDULABLE};
use super::node::{Node, own};
use crate::cycle::{self, Decision};
use crate::extended;
use crate::framework::{Code, Feasibility, GroupView, Offer, Placement, Profile, Progress, Reject};
use crate::listers::Listers;
use crate::metrics::PlacementMetrics;
use crate::model::{GroupObject, PodInfo, Tree};
use crate::queue::Popped;
use crate::scheduler::{Scheduler, State};

/// What an attempt works on, and who decides about each of its pods.
pub trait Ground: Send {
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
        let scheduler = self.0;
        extended::place(scheduler, self, profile, pod)
    }
}

/// Extenders have a say, and what is tried out is nobody's but ours.
pub struct Apart<'a> {
    pub scheduler: &'a Scheduler,
    pub state: State,
}

impl Ground for Apart<'_> {
    fn with<R>(&mut self, act: impl FnOnce(&mut State, &Listers) -> R) -> R {
        act(&mut self.state, &self.scheduler.listers)
    }

    fn decide(&mut self, profile: &Profile, pod: &Arc<PodInfo>) -> impl Future<Output = Decision> + Send {
        let scheduler = self.scheduler;
        extended::place(scheduler, self, profile, pod)
    }
}

/// How groups are searched a place for.
pub struct Search<'a> {
    pub profile: &'a Profile,
    pub metrics: Option<&'a PlacementMetrics>,
}

impl Search<'_> {
    /// Places a group that belongs to no other, if it can.
    pub async fn root(&self, ground: &mut impl Ground, tree: &Tree, pods: &[Popped]) -> Node {
        let mut node = self.group(ground, tree, pods).await;
        if node.status == Status::Placed && node.placed().is_empty() {
            node.status = Status::Refused(vec![UNSCHEDULABLE.into()]);
        }
        node
    }

    /// The same where no extender is asked: it waits for nothing.
    pub fn root_at_once(&self, state: &mut State, listers: &Listers, tree: &Tree, pods: &[Popped]) -> Node {
        let found = self.root(&mut Held { state, listers }, tree, pods).now_or_never();
        found.expect("only extenders are waited for")
    }

    /// A group of either kind, in the best of its placements if it may have several.
    fn group<'a, G: Ground>(
        &'a self,
        ground: &'a mut G,
        tree: &'a Tree,
        pods: &'a [Popped],
    ) -> Pin<Box<dyn Future<Output = Node> + Send + 'a>> {
        Box::pin(async move {
            if !self.profile.topology_aware {
                return self.once(ground, tree, pods).await;
            }
            let (group, generated) = ground.with(|state, listers| {
                let group = super::seen(state, &tree.object);
                let generated = self.profile.placements(state.scene(listers).0.view(), &group);
                (group, generated)
            });
            let placements: Vec<Arc<Placement>> = match generated {
                Ok(placements) => placements.into_iter().map(Arc::new).collect(),
                Err(reject) => return Node::untried(tree, pods, ended(reject)),
            };
            // Upstream counts those of groups of pods only.
            let metrics = self.metrics.filter(|_| matches!(tree.object, GroupObject::Pods(_)));
            if let Some(metrics) = metrics {
                metrics.generated(&self.profile.scheduler_name, placements.len());
            }
            let parent = ground.with(|state, _| state.placement.clone());
            let counted = Search { metrics, ..*self };
            let found = counted.best(self, ground, &placements, &group, (tree, pods)).await;
            ground.with(|state, _| state.placement = parent);
            found
        })
    }

    /// `inner` looks for places of the groups of a group.
    async fn best<G: Ground>(
        &self,
        inner: &Search<'_>,
        ground: &mut G,
        placements: &[Arc<Placement>],
        group: &GroupView,
        (tree, pods): (&Tree, &[Popped]),
    ) -> Node {
        let mut first = None;
        let mut fitting: Vec<(&Placement, Node)> = Vec::new();
        for placement in placements {
            let started = Instant::now();
            component::v!(4, placement = placement.name, "Trying placement");
            ground.with(|state, _| state.placement = Some(placement.clone()));
            let node = inner.once(ground, tree, pods).await;
            let fits = match node.status {
                // What came of its groups does not count any more.
                Status::Error(_) => return Node { children: Vec::new(), ..node },
                ref status => *status == Status::Placed,
            };
            if let Some(metrics) = self.metrics {
                metrics.evaluated(&self.profile.scheduler_name, fits, started.elapsed());
            }
            if fits {
                ground.with(|state, _| node.take_back(state));
                fitting.push((placement, node));
            } else {
                first.get_or_insert(node);
            }
        }
        if let Some(mut first) = first.filter(|_| fitting.is_empty()) {
            let why = first.status.as_error();
            let all = placements.len();
            let text = format!("0/{all} placements are available, first placement status: {why}");
            first.status = Status::Refused(vec![UNSCHEDULABLE.into(), text]);
            return first;
        }
        match ground.with(|state, listers| self.choose(state, listers, group, &fitting)) {
            Ok(at) => {
                let (_, node) = fitting.swap_remove(at);
                ground.with(|state, _| node.put_back(state));
                node
            }
            Err(why) => Node::untried(tree, pods, Status::Error(why)),
        }
    }

    /// Which of those that fit is best; among equals any, each as likely.
    fn choose(
        &self,
        state: &mut State,
        listers: &Listers,
        group: &GroupView,
        fitting: &[(&Placement, Node)],
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
    async fn once<G: Ground>(&self, ground: &mut G, tree: &Tree, pods: &[Popped]) -> Node {
        match &tree.object {
            GroupObject::Pods(group) => self.pods(ground, group.clone(), own(tree, pods)).await,
            GroupObject::Groups(_) => self.groups(ground, tree, pods).await,
        }
    }

    async fn pods<G: Ground>(&self, ground: &mut G, object: Arc<PodGroup>, pods: Vec<Popped>) -> Node {
        let mut attempt = ground.with(|state, _| Attempt::new(state, self.profile, object, pods));
        while let Some(popped) = attempt.next() {
            let decision = ground.decide(self.profile, &popped.info).await;
            ground.with(|state, _| attempt.tried(state, self.profile, decision));
        }
        ground.with(|state, _| attempt.end(state));
        attempt.into()
    }

    /// One group after the other, as long as there can be enough.
    async fn groups<G: Ground>(&self, ground: &mut G, tree: &Tree, pods: &[Popped]) -> Node {
        let group = ground.with(|state, _| super::seen(state, &tree.object));
        let mut progress = Progress { scheduled: 0, remaining: tree.children.len() };
        let mut node = Node::ended(tree.object.clone(), Status::Placed);
        let mut feasible = self.profile.placement_feasible(&group, progress);
        for child in &tree.children {
            if matches!(feasible, Feasibility::No(_)) {
                break;
            }
            let found = self.group(ground, child, pods).await;
            if let Status::Error(why) = &found.status {
                let why = format!("composite pod group evaluation failed due to child error: {why}");
                ground.with(|state, _| node.take_back(state));
                return Node { status: Status::Error(why), children: vec![found], ..node };
            }
            progress.remaining -= 1;
            progress.scheduled += usize::from(found.status == Status::Placed);
            node.children.push(found);
            feasible = self.profile.placement_feasible(&group, progress);
        }
        let status = match feasible {
            Feasibility::Yes => return node,
            Feasibility::No(why) => Status::Refused(vec![why]),
            Feasibility::NotYet(why) => Status::Refused(vec![UNSCHEDULABLE.into(), why]),
        };
        ground.with(|state, _| node.take_back(state));
        Node { status, ..node }
    }
}

fn offer<'a>((placement, node): &(&'a Placement, Node)) -> Offer<'a> {
    Offer { placement, pods: node.placed_pods() }
}

/// What a plugin's refusal is to a group.
fn ended(reject: Reject) -> Status {
    let reasons: Vec<String> = reject.reasons.iter().map(ToString::to_string).collect();
    match reject.code {
        Code::Error => Status::Error(reasons.join(", ")),
        Code::Unschedulable | Code::Unresolvable => Status::Refused(reasons),
    }
}
