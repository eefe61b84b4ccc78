//! A priority level at work: its queue set behind a lock, the requests that wait in it, and tickets for those that run.
//!
//! Everything under the lock is short and never waits. A request's ticket gives its seats back when it is dropped,
//! wherever that happens: after the answer, when the client has gone, or while it still waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use auth::UserInfo;
use flowcontrol::borrowing::Demand;
use flowcontrol::config::{LevelSpec, Limits};
use flowcontrol::dropped::Dropped;
use flowcontrol::integrator::Integrator;
use flowcontrol::queueset::{Arrival, Discipline, Id, Phase, QueueSet, Refusal};
use flowcontrol::seats::Work;
use parking_lot::Mutex;
use registry::api::RequestInfo;
use tokio::sync::{Notify, oneshot};

use super::flow::Flow;
use super::metrics::{LevelMetrics, Load, metrics};

/// A request in a level.
pub(crate) struct Waiter {
    pub(crate) flow: Arc<Flow>,
    pub(crate) user: Arc<UserInfo>,
    pub(crate) info: Arc<RequestInfo>,
    seats: u64,
    wake: Option<oneshot::Sender<()>>,
}

impl Waiter {
    pub(crate) fn new(flow: Arc<Flow>, user: Arc<UserInfo>, info: Arc<RequestInfo>, work: Work) -> Self {
        Self { flow, user, info, seats: work.max_seats(), wake: None }
    }

    /// Its turn has come.
    fn run(&mut self) {
        self.left_queue();
        self.starts();
        if let Some(wake) = self.wake.take() {
            // A receiver that is gone gives its seats back as soon as it gets the lock.
            let _ = wake.send(());
        }
    }

    fn left_queue(&self) {
        let metrics = self.flow.metrics();
        metrics.waiting_requests.dec();
        metrics.waiting_seats.add(-(self.seats as f64));
        Load::of(&self.info, true).add(-1);
    }

    fn starts(&self) {
        let metrics = self.flow.metrics();
        metrics.executing_requests.inc();
        metrics.executing_seats.add(self.seats as f64);
    }
}

/// What the lock guards.
pub(crate) struct State {
    pub(crate) set: QueueSet<Waiter>,
    pub(crate) spec: LevelSpec,
    pub(crate) limits: Limits,
    pub(crate) demand: Demand,
    integrator: Integrator,
    /// What seats and requests are divided by in metrics.
    denominator: f64,
    dropped: Dropped,
    epochs: u64,
    dispatched: u64,
}

/// A priority level.
pub(crate) struct Level {
    pub(crate) name: String,
    state: Mutex<State>,
    metrics: LevelMetrics,
    epoch: Instant,
    /// No object wants it any more: it goes when it is idle.
    pub(crate) quiescing: AtomicBool,
    idle: Arc<Notify>,
}

impl Level {
    /// A level with the seats it starts with. `idle` is told when it is idle after nobody wants it any more.
    pub(crate) fn new(spec: LevelSpec, limits: Limits, epoch: Instant, idle: Arc<Notify>) -> Self {
        let now = epoch.elapsed();
        let metrics = LevelMetrics::of(&spec.name);
        Self {
            name: spec.name.clone(),
            state: Mutex::new(State {
                set: QueueSet::new(now, spec.discipline, limits.initial()),
                spec,
                limits,
                demand: Demand::default(),
                integrator: Integrator::new(now),
                denominator: 1.0,
                dropped: Dropped::default(),
                epochs: 0,
                dispatched: 0,
            }),
            metrics,
            epoch,
            quiescing: AtomicBool::new(false),
            idle,
        }
    }

    /// Looks at the state.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    /// Another specification and its seats; what it has now, it keeps until seats are divided anew.
    pub(crate) fn respecify(&self, spec: LevelSpec, limits: Limits) {
        let mut state = self.state.lock();
        (state.spec, state.limits) = (spec, limits);
    }

    /// The demand including the period that ends now.
    pub(crate) fn measure(&self) -> Demand {
        let mut state = self.state.lock();
        let seen = state.integrator.reset(self.epoch.elapsed());
        state.demand.observe(seen);
        state.demand
    }

    /// Gives it a number of seats.
    pub(crate) fn grant(&self, seats: u64, denominator: f64) {
        let mut state = self.state.lock();
        let (now, discipline) = (Instant::now(), state.spec.discipline);
        state.denominator = denominator;
        state.set.configure(now - self.epoch, discipline, seats, &mut Waiter::run);
        self.settle(&mut state, now);
    }

    /// Publishes what an event has changed.
    fn settle(&self, state: &mut State, now: Instant) {
        let (totals, m) = (state.set.totals(), &self.metrics);
        let demand = (totals.seats_in_use + totals.seats_waiting) as f64;
        state.integrator.set(now - self.epoch, demand);
        m.demand.set(now, demand / state.denominator);
        m.seats.set(now, totals.seats_in_use as f64 / state.denominator);
        m.executing.set(now, totals.executing as f64 / state.denominator);
        m.current_r.set(state.set.current_r().as_f64());
        if let Some(waiter) = state.set.take_blocked() {
            let labels = [self.name.as_str(), waiter.flow.spec.name.as_str()];
            metrics().request_dispatch_no_accommodation_total.with(&labels).inc();
        }
        let Discipline::Queue { dealer, length } = state.spec.discipline else { return };
        let room = f64::from(dealer.deck()) * length.max(1) as f64;
        m.waiting.set(now, totals.waiting as f64 / room);
        if totals.dispatched == state.dispatched {
            return;
        }
        state.dispatched = totals.dispatched;
        let (readings, epochs) = state.set.readings();
        m.dispatch_r.set(readings.dispatch_r.as_f64());
        m.latest_s.set(readings.latest_s.as_f64());
        for (gauges, (min, max)) in [(&m.next_s, readings.s), (&m.next_discounted_s, readings.discounted_s)] {
            let [low, high] = gauges;
            low.set(min.as_f64());
            high.set(max.as_f64());
        }
        if epochs != state.epochs {
            metrics().epoch_advance_total.with(&[&self.name, "true"]).add(epochs - state.epochs);
            state.epochs = epochs;
        }
    }

    /// Waits for seats until they are there or it is `until`.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        waiter: Waiter,
        work: Work,
        hash: u64,
        until: Instant,
    ) -> Result<Ticket, Refusal> {
        let (flow, watch) = (waiter.flow.clone(), waiter.info.verb == "watch");
        let came = Instant::now();
        let (arrival, turn) = self.arrive(waiter, work, hash, came)?;
        let (level, id, waiting) = (self.clone(), arrival.id, !arrival.executing);
        let mut ticket = Ticket { level, flow, id, started: came, watch, waiting, over: false };
        if let Some(turn) = turn {
            // An error would mean that the sender was dropped unused, which only happens with the waiter.
            let _ = tokio::time::timeout_at(until.into(), turn).await;
            if self.abandon(id) {
                ticket.over = true;
                ticket.flow.metrics().waited.observe_duration(came.elapsed());
                return Err(Refusal::TimeOut);
            }
            ticket.waiting = false;
            ticket.started = Instant::now();
        }
        let metrics = ticket.flow.metrics();
        if !ticket.flow.exempt {
            metrics.waited.observe_duration(ticket.started - came);
        }
        metrics.dispatched.inc();
        Ok(ticket)
    }

    fn arrive(
        &self,
        waiter: Waiter,
        work: Work,
        hash: u64,
        now: Instant,
    ) -> Result<(Arrival, Option<oneshot::Receiver<()>>), Refusal> {
        let flow = waiter.flow.clone();
        let mut state = self.state.lock();
        let come = state.set.arrive(now - self.epoch, work, hash, waiter, &mut Waiter::run);
        self.settle(&mut state, now);
        let arrival = come?;
        if let Some(length) = arrival.queue_length {
            flow.metrics().queue_length.observe(length as f64);
        }
        let Some(waiter) = state.set.payload_mut(arrival.id) else { return Ok((arrival, None)) };
        if arrival.executing {
            waiter.starts();
            return Ok((arrival, None));
        }
        let metrics = flow.metrics();
        metrics.waiting_requests.inc();
        metrics.waiting_seats.add(waiter.seats as f64);
        Load::of(&waiter.info, true).add(1);
        let (wake, turn) = oneshot::channel();
        waiter.wake = Some(wake);
        Ok((arrival, Some(turn)))
    }

    /// Ends a wait; `false` when the request's turn has come meanwhile.
    fn abandon(&self, id: Id) -> bool {
        let mut state = self.state.lock();
        let waiting = state.set.request(id).filter(|r| r.phase == Phase::Waiting);
        let Some(waiter) = waiting.map(|r| &r.payload) else { return false };
        waiter.left_queue();
        self.refused(&waiter.flow, Refusal::TimeOut);
        let now = Instant::now();
        state.set.cancel(now - self.epoch, id);
        self.settle(&mut state, now);
        self.tell_when_idle(&state);
        true
    }

    fn refused(&self, flow: &Flow, why: Refusal) {
        let labels = [self.name.as_str(), flow.spec.name.as_str(), why.reason()];
        metrics().rejected_requests_total.with(&labels).inc();
    }

    /// Notes that a request was refused at the door, or after waiting; seconds after which its client may come back.
    pub(crate) fn retry_after(&self, flow: &Flow, why: Refusal) -> u64 {
        if why != Refusal::TimeOut {
            self.refused(flow, why);
            let labels = [self.name.as_str(), flow.spec.name.as_str(), "false"];
            metrics().request_wait_duration_seconds.with(&labels).observe(0.0);
        }
        let second = self.epoch.elapsed().as_secs() + 1;
        let mut state = self.state.lock();
        state.dropped.record(second);
        state.dropped.retry_after()
    }

    /// A request has been answered.
    fn leave(self: &Arc<Self>, id: Id) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let Some(waiter) = state.set.request(id).map(|r| &r.payload) else { return };
        let (flow, seats) = (waiter.flow.clone(), waiter.seats);
        let linger = state.set.finish(now - self.epoch, id, &mut Waiter::run);
        self.settle(&mut state, now);
        self.tell_when_idle(&state);
        drop(state);
        flow.metrics().executing_requests.dec();
        match (linger, tokio::runtime::Handle::try_current()) {
            (None, _) => flow.freed(seats),
            (Some(_), Err(_)) => self.release(id, &flow, seats),
            (Some(linger), Ok(runtime)) => {
                let level = self.clone();
                // At most as many as there are seats.
                runtime.spawn(async move {
                    tokio::time::sleep(linger).await;
                    level.release(id, &flow, seats);
                });
            }
        }
    }

    /// Seats that lingered are free.
    fn release(&self, id: Id, flow: &Flow, seats: u64) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.set.release(now - self.epoch, id, &mut Waiter::run);
        self.settle(&mut state, now);
        drop(state);
        flow.freed(seats);
    }

    fn tell_when_idle(&self, state: &State) {
        if self.quiescing.load(Ordering::Relaxed) && state.set.is_idle() {
            self.idle.notify_one();
        }
    }
}

/// Seats, or a place in a queue; given back when dropped.
pub(crate) struct Ticket {
    level: Arc<Level>,
    pub(crate) flow: Arc<Flow>,
    id: Id,
    started: Instant,
    watch: bool,
    waiting: bool,
    over: bool,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.over || (self.waiting && self.level.abandon(self.id)) {
            return;
        }
        let [regular, watch] = &self.flow.metrics().executed;
        let kind = if self.watch { watch } else { regular };
        kind.observe_duration(self.started.elapsed());
        self.level.leave(self.id);
    }
}
