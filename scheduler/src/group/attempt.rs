//! One attempt to place a group: its pods one after the other, each as if those before it were there already. All is
//! tried out in the cache itself and taken back if the group is not placed.
//! Upstream: podGroupSchedulingDefaultAlgorithm, podGroupPodSchedulingAlgorithm.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::api::scheduling::v1beta1::PodGroup;

use crate::cycle::Decision;
use crate::framework::{Diagnosis, Feasibility, GroupView, Profile, Progress, no_nodes};
use crate::model::{GroupObject, Place};
use crate::plugins::device_resources::counted;
use crate::plugins::dynamic_resources::{Allotment, Free, Freeable};
use crate::plugins::volume_binding::Bindings;
use crate::queue::{Popped, RefusedBy};
use crate::scheduler::{Outcome, State};

/// Upstream: errPodGroupUnschedulable.
pub const UNSCHEDULABLE: &str = "pod group is unschedulable";

/// How the group stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Placed,
    /// Not enough pods are placed yet.
    NotYet(String),
    Refused(Vec<String>),
    Error(String),
}

impl Status {
    /// As pods and conditions show it.
    pub fn message(&self) -> String {
        match self {
            Status::Placed => String::new(),
            Status::NotYet(why) | Status::Error(why) => why.clone(),
            Status::Refused(reasons) => reasons.join(", "),
        }
    }

    /// As others speak of it: where a group is unschedulable as a whole, that alone. Upstream: Status.AsError.
    pub fn as_error(&self) -> String {
        match self {
            Status::Refused(reasons) if reasons.first().is_some_and(|r| r == UNSCHEDULABLE) => {
                UNSCHEDULABLE.into()
            }
            other => other.message(),
        }
    }
}

/// A pod that is placed unless its group is not.
#[derive(Debug)]
pub struct Placed {
    pub node: String,
    bindings: Bindings,
    allotments: Vec<Allotment>,
}

impl Placed {
    #[cfg(test)]
    pub fn allotments(&self) -> &[Allotment] {
        &self.allotments
    }

    /// It stays.
    pub fn bind(self) -> Outcome {
        let Placed { node, bindings, allotments } = self;
        Outcome::Bind { node, bindings, allotments }
    }
}

/// What came of one pod.
#[derive(Debug)]
pub enum PodEnd {
    Placed(Placed),
    Refused { message: String, by: RefusedBy, nominate: Option<String> },
    Failed(String),
    Untried,
}

impl PodEnd {
    pub fn placed(&self) -> Option<&Placed> {
        match self {
            PodEnd::Placed(placed) => Some(placed),
            _ => None,
        }
    }
}

/// What DynamicResources knows after an attempt.
#[derive(Debug, Default)]
pub struct Claims {
    /// Whether it was asked about a pod at all.
    pub asked: bool,
    pub frees: Vec<Free>,
    /// Claims that some node could not use.
    pub blocked: Vec<Arc<ResourceClaim>>,
    /// There is a pod for which nothing could be freed.
    pub lacking: bool,
}

impl Claims {
    fn note(&mut self, asked: bool, free: Freeable) {
        self.asked |= asked;
        self.lacking |= asked && free.first.is_none();
        self.frees.extend(free.first);
        self.blocked.extend(free.blocked);
    }
}

/// The attempt.
pub struct Attempt {
    pub object: Arc<PodGroup>,
    pub status: Status,
    /// Every pod of the group that is to be placed, in order.
    pub results: Vec<(Popped, PodEnd)>,
    pub claims: Claims,
    group: GroupView,
    progress: Progress,
    next: usize,
}

impl Attempt {
    /// Before the first pod. If too few could be placed anyhow, none will be tried.
    pub fn new(state: &mut State, profile: &Profile, object: Arc<PodGroup>, pods: Vec<Popped>) -> Self {
        state.assumed.begin_sharing();
        let group = super::seen(state, &GroupObject::Pods(object.clone()));
        let progress = Progress { scheduled: group.scheduled.len(), remaining: pods.len() };
        let status = match profile.placement_feasible(&group, progress) {
            Feasibility::Yes => Status::Placed,
            Feasibility::NotYet(why) => Status::NotYet(why),
            Feasibility::No(why) => Status::Refused(vec![UNSCHEDULABLE.into(), why]),
        };
        let results = pods.into_iter().map(|p| (p, PodEnd::Untried)).collect();
        Self { object, status, results, claims: Claims::default(), group, progress, next: 0 }
    }

    /// The pod to try next.
    pub fn next(&self) -> Option<Popped> {
        match self.status {
            Status::Placed | Status::NotYet(_) => {
                self.results.get(self.next).map(|(popped, _)| popped.clone())
            }
            Status::Refused(_) | Status::Error(_) => None,
        }
    }

    /// Notes what was decided for the pod that [`Attempt::next`] named.
    pub fn tried(&mut self, state: &mut State, profile: &Profile, decision: Decision) {
        let Some((popped, end)) = self.results.get_mut(self.next) else { return };
        self.next += 1;
        *end = match decision {
            Decision::Place { node, bindings, allotments, free, .. } => {
                self.claims.note(profile.resources_asked(&Diagnosis::default()), free);
                state.cache.place(counted(&popped.info, &allotments), &node, Place::Assumed);
                state.nominate(&popped.info, None);
                let bindings = state.assumed.assume(&bindings, &node);
                state.assumed.allot(&allotments, &popped.info.uid);
                PodEnd::Placed(Placed { node, bindings, allotments })
            }
            Decision::NoNodes => PodEnd::Refused {
                message: no_nodes().into(),
                by: RefusedBy::new(),
                nominate: Some(String::new()),
            },
            Decision::Unfit { diagnosis, free, .. } => {
                self.claims.note(profile.resources_asked(&diagnosis), *free);
                PodEnd::Refused { message: diagnosis.message(), by: diagnosis.plugins, nominate: None }
            }
            Decision::Failed { message, .. } => {
                self.status =
                    Status::Error(format!("failed to schedule other pod from a pod group: {message}"));
                *end = PodEnd::Failed(message);
                return;
            }
        };
        self.progress.remaining -= 1;
        self.progress.scheduled += usize::from(matches!(end, PodEnd::Placed(_)));
        self.status = match profile.placement_feasible(&self.group, self.progress) {
            Feasibility::Yes => Status::Placed,
            Feasibility::NotYet(why) => Status::NotYet(why),
            Feasibility::No(why) => Status::Refused(vec![why]),
        };
    }

    /// After the last pod: what was tried out stays if the group is placed, and goes if not.
    pub fn end(&mut self, state: &mut State) {
        if let Status::NotYet(why) = &self.status {
            self.status = Status::Refused(vec![UNSCHEDULABLE.into(), why.clone()]);
        }
        if self.status != Status::Placed {
            let placed: Vec<_> =
                self.results.iter().filter_map(|(p, end)| Some((p, end.placed()?))).collect();
            take_back(state, &placed);
        }
        state.assumed.end_sharing();
    }
}

/// As it was before, the last pod first.
pub fn take_back(state: &mut State, placed: &[(&Popped, &Placed)]) {
    for (popped, placed) in placed.iter().rev() {
        let pod = &popped.info;
        state.cache.forget(&pod.uid);
        state.assumed.forget(&placed.bindings);
        state.assumed.take_back(&placed.allotments);
        if let Some(node) = &pod.nominated {
            state.nominate(pod, Some(node));
        }
    }
}

/// Puts a pod back on the node that was found for it.
pub fn put(state: &mut State, popped: &Popped, placed: &Placed) {
    let counted = counted(&popped.info, &placed.allotments);
    state.cache.place(counted, &placed.node, Place::Assumed);
    state.nominate(&popped.info, None);
    let _ = state.assumed.assume(&placed.bindings, &placed.node);
    state.assumed.allot(&placed.allotments, &popped.info.uid);
}
