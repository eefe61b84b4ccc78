//! The running scheduler: state behind one lock, a loop that takes pods one by one, tasks that write.
//!
//! A decision and all it changes in memory (assume, requeue, nominate) happen within one critical section; only
//! writes to the API server happen outside. Start reading at [`Scheduler::run`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use component::features::{Gate, enabled};
use controller::SeriesRecorder;
use informer::{Store, Subscription};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::actions;
use crate::assumed::Assumed;
use crate::cycle::{self, Decision, Memory, Scene};
use crate::extended;
use crate::extender::Extender;
use crate::framework::{Change, Nominated, Placement, Profile, View, no_nodes};
use crate::group::{self, Decided};
use crate::listers::Listers;
use crate::metrics::Metrics;
use crate::model::{Cache, Groups, Interner, Place, PodInfo, Uid};
use crate::plugins::device_resources::counted;
use crate::plugins::dynamic_resources::{Allotment, Free};
use crate::plugins::volume_binding::Bindings;
use crate::preemption::Preemption;
use crate::queue::{Next, Periods, Popped, PoppedGroup, Queue};

/// Writes under way at a time; beyond it no further pod is taken.
const WRITES: usize = 1024;

/// What the lock guards.
pub struct State {
    pub cache: Cache,
    pub queue: Queue,
    pub nominated: Nominated,
    pub groups: Groups,
    nodes_of_nominated: BTreeMap<Uid, String>,
    pub assumed: Assumed,
    /// Nodes to which the attempt under way is limited.
    pub placement: Option<Arc<Placement>>,
    pub memory: Memory,
    pub rng: StdRng,
}

/// A profile and the recorder that speaks in its name.
pub struct Running {
    pub profile: Profile,
    pub recorder: SeriesRecorder,
}

/// The scheduler. Shared by the loop, informers, pages and writes.
pub struct Scheduler {
    pub state: Mutex<State>,
    pub profiles: Vec<Running>,
    pub listers: Listers,
    pub client: Client,
    pub metrics: Metrics,
    pub interner: Interner,
    pub extenders: Vec<Extender>,
    /// Whole nodes, kept only for extenders that want them.
    pub full_nodes: Store<Node>,
    /// Changes with every claim and volume that changes: who waits for one looks again.
    pub storage: watch::Sender<u64>,
    subscriptions: Mutex<Vec<Subscription>>,
    work: Notify,
    writes: Arc<Semaphore>,
}

/// What is to be written after a cycle.
pub enum Outcome {
    Bind {
        node: String,
        bindings: Bindings,
        allotments: Vec<Allotment>,
    },
    Refused {
        message: String,
        reason: &'static str,
        nominate: Option<String>,
        eviction: Option<Eviction>,
        free: Option<Free>,
    },
    Deleted,
    Nothing,
}

/// Pods that make room.
pub struct Eviction {
    pub node: String,
    pub victims: Vec<Arc<PodInfo>>,
    /// Less important pods that waited for the same node.
    pub displaced: Vec<Arc<PodInfo>>,
}

/// What the loop does next.
enum Step {
    Decided(Popped, Outcome),
    /// Pods that are placed together.
    Group(PoppedGroup),
    /// Extenders have a say about the pod.
    Ask(Popped),
    /// Nothing until then.
    Idle(Option<Instant>),
}

impl State {
    /// Nothing is known; with `grouping`, pods of a group will be placed together, with `nested`, groups of a group, too.
    pub fn new(interner: Interner, periods: Periods, (grouping, nested): (bool, bool), rng: StdRng) -> Self {
        Self {
            cache: Cache::new(interner),
            queue: Queue::new(periods, grouping, nested),
            nominated: Nominated::default(),
            groups: Groups::new(grouping, nested),
            nodes_of_nominated: BTreeMap::new(),
            assumed: Assumed::default(),
            placement: None,
            memory: Memory::default(),
            rng,
        }
    }

    /// Prepared for a cycle about a pod.
    pub fn view<'a>(&'a mut self, listers: &'a Listers, profile: &Profile, pod: &PodInfo) -> View<'a> {
        self.scene(listers).0.prepare(profile, pod)
    }

    /// What a cycle reads, remembers and draws from.
    pub fn scene<'a>(&'a mut self, listers: &'a Listers) -> (Scene<'a>, &'a mut Memory, &'a mut StdRng) {
        let State { cache, nominated, groups, assumed, placement, memory, rng, .. } = self;
        let placement = placement.as_deref();
        (Scene { cache, listers, nominated, groups, assumed, placement }, memory, rng)
    }

    /// A copy to try things out on, without a queue.
    pub fn apart(&mut self) -> Self {
        let none = Duration::ZERO;
        let periods = Periods { initial_backoff: none, max_backoff: none, max_unschedulable: none };
        Self {
            cache: self.cache.clone(),
            queue: Queue::new(periods, false, false),
            nominated: self.nominated.clone(),
            groups: self.groups.clone(),
            nodes_of_nominated: self.nodes_of_nominated.clone(),
            assumed: self.assumed.clone(),
            placement: self.placement.clone(),
            memory: Memory::default(),
            rng: StdRng::seed_from_u64(self.rng.random()),
        }
    }

    /// Notes for which node a pod waits.
    pub fn nominate(&mut self, info: &Arc<PodInfo>, node: Option<&str>) {
        if let Some(before) = self.nodes_of_nominated.remove(&info.uid)
            && let Some(list) = self.nominated.get_mut(&before)
        {
            list.retain(|p| p.uid != info.uid);
            if list.is_empty() {
                self.nominated.remove(&before);
            }
        }
        if let Some(node) = node {
            // Cycles try out what would be if it were there.
            self.cache.know_own_keys(info);
            self.nodes_of_nominated.insert(info.uid.clone(), node.to_string());
            self.nominated.entry(node.to_string()).or_default().push(info.clone());
        }
    }
}

impl Scheduler {
    pub fn new(
        client: Client,
        listers: Listers,
        profiles: Vec<Running>,
        periods: Periods,
        metrics: Metrics,
        (extenders, full_nodes): (Vec<Extender>, Store<Node>),
    ) -> Arc<Self> {
        let interner = Interner::shared().clone();
        let grouping = (enabled(Gate::GenericWorkload), enabled(Gate::CompositePodGroup));
        let state = State::new(interner.clone(), periods, grouping, rand::make_rng());
        Arc::new(Self {
            state: Mutex::new(state),
            profiles,
            listers,
            client,
            metrics,
            interner,
            extenders,
            full_nodes,
            storage: watch::Sender::new(0),
            subscriptions: Mutex::default(),
            work: Notify::new(),
            writes: Arc::new(Semaphore::new(WRITES)),
        })
    }

    /// Keeps a subscription, and waits for it in [`Scheduler::settled`].
    pub fn keep(&self, subscription: Subscription) {
        self.subscriptions.lock().push(subscription);
    }

    /// Waits until everything that the informers found at first is in cache and queue.
    pub async fn settled(&self, token: &CancellationToken) -> bool {
        let waiting = std::mem::take(&mut *self.subscriptions.lock());
        let mut all = true;
        for subscription in &waiting {
            all = all && subscription.wait_synced(token).await;
        }
        *self.subscriptions.lock() = waiting;
        all
    }

    /// The profile a pod asks for.
    pub fn running(&self, pod: &PodInfo) -> Option<&Running> {
        let name = &pod.scheduler_name;
        self.profiles.iter().find(|r| r.profile.scheduler_name == *name)
    }

    /// There may be something to do.
    pub fn poke(&self) {
        self.work.notify_one();
    }

    /// Lets pods go on that a change may help.
    pub fn wake(&self, state: &mut State, change: &Change<'_>) {
        let State { queue, groups, .. } = state;
        let helps = |pod: &PodInfo, by: &crate::queue::RefusedBy| {
            self.running(pod).is_some_and(|r| r.profile.wakes(change, pod, by, groups))
        };
        let (now, event) = (Instant::now(), change.name());
        if !change.only_groups() {
            queue.wake(now, event, helps);
        }
        if groups.enabled() && !matches!(change, Change::PodAssigned(pod) if pod.group.is_none()) {
            if matches!(change, Change::PodGone(_)) {
                queue.victims_went();
            }
            let listens = |pod: &PodInfo, plugin: &'static str| {
                self.running(pod).is_some_and(|r| r.profile.gate_listens(plugin, event))
            };
            let only = change.group().map(|key| groups.forest().root_of(key).unwrap_or_else(|| key.clone()));
            queue.wake_groups(now, event, only.as_ref(), listens, helps);
        }
    }

    /// Lets go of pods that no plugin keeps from being tried any more.
    pub fn release(&self, state: &mut State, event: &'static str) {
        let State { queue, groups, .. } = state;
        queue.release(Instant::now(), event, |pod| self.gate(groups, pod));
    }

    /// The plugin that keeps a pod from being tried.
    pub fn gate(&self, groups: &Groups, pod: &PodInfo) -> Option<&'static str> {
        let running = self.running(pod)?;
        running.profile.pre_enqueue(&self.listers, groups, pod).err().map(|r| r.plugin)
    }

    /// Takes pods until the token ends.
    pub async fn run(self: Arc<Self>, token: CancellationToken) {
        while !token.is_cancelled() {
            let permit = tokio::select! {
                () = token.cancelled() => return,
                permit = self.writes.clone().acquire_owned() => permit,
            };
            let Ok(permit) = permit else { return };
            let started = Instant::now();
            let (popped, outcome) = match self.step(started) {
                Step::Decided(popped, outcome) => (popped, outcome),
                Step::Ask(popped) => {
                    let outcome = extended::decide(&self, &popped, started).await;
                    (popped, outcome)
                }
                Step::Group(popped) => {
                    let decided = group::decide(&self, popped, started).await;
                    self.carry_out_group(decided, started, permit);
                    tokio::task::yield_now().await;
                    continue;
                }
                Step::Idle(deadline) => {
                    drop(permit);
                    let pause = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
                    tokio::select! {
                        () = token.cancelled() => return,
                        () = self.work.notified() => {}
                        () = tokio::time::sleep_until(pause) => {}
                    }
                    continue;
                }
            };
            let scheduler = self.clone();
            tokio::spawn(async move {
                actions::carry_out(&scheduler, popped, outcome, started).await;
                drop(permit);
            });
            // Others have work to do on this thread too.
            tokio::task::yield_now().await;
        }
    }

    /// The group counts as one among the writes under way until all of its are done.
    fn carry_out_group(self: &Arc<Self>, decided: Decided, started: Instant, permit: OwnedSemaphorePermit) {
        let permit = Arc::new(permit);
        for (popped, outcome) in decided.pods {
            let (scheduler, permit) = (self.clone(), permit.clone());
            tokio::spawn(async move {
                actions::carry_out(&scheduler, popped, outcome, started).await;
                drop(permit);
            });
        }
        if let Some(report) = decided.report {
            let scheduler = self.clone();
            tokio::spawn(async move {
                group::carry_out(&scheduler, *report, started).await;
                drop(permit);
            });
        }
    }

    /// Sizes of queue and cache, for `/metrics`.
    pub fn gauge(&self) {
        let mut state = self.state.lock();
        for ((queue, event), pods) in state.queue.take_incoming() {
            self.metrics.incoming.with(&[queue, event]).add(pods);
        }
        self.metrics.cache_size.with(&["assumed_pods"]).set(state.cache.assumed() as f64);
        for (queue, size) in state.queue.sizes() {
            self.metrics.pending.with(&[queue]).set(size as f64);
        }
        self.metrics.cache_size.with(&["nodes"]).set(state.cache.len() as f64);
        self.metrics.cache_size.with(&["pods"]).set(state.cache.pods() as f64);
    }

    /// Takes one pod and decides about it, unless extenders must be asked first.
    fn step(&self, now: Instant) -> Step {
        let mut state = self.state.lock();
        state.queue.flush(now);
        let State { queue, groups, .. } = &mut *state;
        let popped = match queue.pop(now, |pod| self.gate(groups, pod)) {
            Some(Next::Pod(popped)) => popped,
            Some(Next::Group(popped)) => return Step::Group(popped),
            None => return Step::Idle(queue.deadline()),
        };
        if self.extenders.iter().any(|e| e.interested(&popped.info)) {
            return Step::Ask(popped);
        }
        let outcome = self.decide(&mut state, &popped, now);
        Step::Decided(popped, outcome)
    }

    /// The profile of a pod that is still to be placed.
    pub fn checked(&self, state: &mut State, popped: &Popped) -> Result<&Running, Outcome> {
        let pod = &popped.info;
        let Some(running) = self.running(pod) else {
            state.queue.remove(&pod.uid);
            return Err(Outcome::Nothing);
        };
        if pod.terminating {
            state.queue.remove(&pod.uid);
            return Err(Outcome::Deleted);
        }
        if state.cache.node_of(&pod.uid).is_some() && !pod.deferred() {
            state.queue.remove(&pod.uid);
            return Err(Outcome::Nothing);
        }
        Ok(running)
    }

    fn decide(&self, state: &mut State, popped: &Popped, now: Instant) -> Outcome {
        let pod = &popped.info;
        let running = match self.checked(state, popped) {
            Ok(running) => running,
            Err(outcome) => return outcome,
        };
        let (scene, memory, rng) = state.scene(&self.listers);
        let decision = cycle::schedule(&running.profile, scene, pod, memory, rng);
        self.apply(state, running, popped, decision, now)
    }

    /// Memory's part of a decision; what is to be written comes back.
    pub fn apply(
        &self,
        state: &mut State,
        running: &Running,
        popped: &Popped,
        decision: Decision,
        now: Instant,
    ) -> Outcome {
        let pod = &popped.info;
        tracing::trace!(profile = running.profile.scheduler_name, "decided");
        self.metrics.algorithm_duration.one().observe_duration(now.elapsed());
        match decision {
            Decision::Place { node, evaluated, feasible, bindings, allotments, .. } => {
                tracing::debug!(pod = pod.key(), node, evaluated, feasible, "Attempting to bind pod to node");
                state.cache.place(counted(pod, &allotments), &node, Place::Assumed);
                state.nominate(pod, None);
                let bindings = state.assumed.assume(&bindings, &node);
                state.assumed.allot(&allotments, &pod.uid);
                Outcome::Bind { node, bindings, allotments }
            }
            Decision::Failed { plugin, message } => {
                tracing::error!(pod = pod.key(), plugin, err = message, "Error scheduling pod; retrying");
                state.queue.note(&pod.uid, Timestamp::now(), &message);
                state.queue.failed(&pod.uid, now);
                Outcome::Refused {
                    message,
                    reason: "SchedulerError",
                    nominate: None,
                    eviction: None,
                    free: None,
                }
            }
            Decision::NoNodes => {
                state.queue.refused(&pod.uid, Default::default(), now);
                Outcome::Refused {
                    message: no_nodes().into(),
                    reason: "Unschedulable",
                    nominate: None,
                    eviction: None,
                    free: None,
                }
            }
            Decision::Unfit { diagnosis, preemption, free } => {
                let message = diagnosis.message();
                state.queue.note(&pod.uid, Timestamp::now(), &message);
                state.queue.refused(&pod.uid, diagnosis.plugins, now);
                let (nominate, eviction) = self.prepare(state, pod, preemption);
                let free = free.first;
                Outcome::Refused { message, reason: "Unschedulable", nominate, eviction, free }
            }
        }
    }

    /// Memory's part of preemption: (nomination to write, eviction to carry out).
    fn prepare(
        &self,
        state: &mut State,
        pod: &Arc<PodInfo>,
        preemption: Preemption,
    ) -> (Option<String>, Option<Eviction>) {
        if !matches!(preemption, Preemption::Off | Preemption::Failed(_)) {
            self.metrics.preemption_attempts.one().inc();
        }
        match preemption {
            Preemption::Off
            | Preemption::Ask(_)
            | Preemption::Failed(_)
            | Preemption::Broken(_)
            | Preemption::Ineligible(_) => (None, None),
            Preemption::Useless(_) => {
                state.nominate(pod, None);
                (Some(String::new()), None)
            }
            Preemption::Evict { node, victims } => {
                self.metrics.preemption_victims.one().observe(victims.len() as f64);
                let waiting = state.nominated.get(&node).cloned().unwrap_or_default();
                let displaced: Vec<_> = waiting.into_iter().filter(|w| w.priority < pod.priority).collect();
                for other in &displaced {
                    state.nominate(other, None);
                }
                if !pod.deferred() {
                    state.nominate(pod, Some(&node));
                }
                if victims.iter().any(|v| !v.terminating) {
                    state.queue.makes_room(&pod.uid);
                }
                (Some(node.clone()), Some(Eviction { node, victims, displaced }))
            }
        }
    }
}
