//! Fair queuing of requests that take seats for a time nobody knows beforehand.
//!
//! Every queue is allotted the same rate of seat-seconds in a virtual world whose clock is the progress meter R; the
//! next request dispatched in the real world is the one that would finish first in the virtual one, by a guess of its
//! duration that is corrected when the real duration is known. A request occupies the larger of its initial and its
//! final seats from dispatch on, and may hold them for a while after its answer.
//!
//! A state machine: the owner tells what happens and when, and learns which requests may run. It neither waits nor
//! wakes anyone. Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/fairqueuing/queueset` (its `doc.go` has the
//! mathematics). Unlike upstream, queues exist only while they hold something, so their configured number costs nothing.

mod dispatch;
mod queue;
mod slots;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::queue::Queue;
pub use self::queue::Sums;
use self::slots::Slots;
pub use self::slots::{Id, Phase, Request};
use crate::seats::{SeatSeconds, Work};
use crate::shuffle::Dealer;

/// The duration a request is expected to take, for want of anything better.
const SERVICE: Duration = Duration::from_millis(3);

/// A queue's length is bounded by so many times its limit and the seats, even while seats are free.
const OVERFULL: u64 = 8;

/// How a level treats requests for which it has no seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discipline {
    /// It always has seats.
    Exempt,
    /// They are refused.
    Reject,
    /// They wait in queues of limited length.
    Queue {
        /// Chooses queues.
        dealer: Dealer,
        /// Requests that may wait in one queue while all seats are taken.
        length: u64,
    },
}

/// Why a request was refused. The texts are a metric's label values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No seats, and no queues.
    ConcurrencyLimit,
    /// No seats, and its queue is full.
    QueueFull,
    /// It waited too long.
    TimeOut,
}

impl Refusal {
    /// The metric's label value.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
        }
    }
}

/// A request that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its name.
    pub id: Id,
    /// Whether it was dispatched at once; otherwise it waits.
    pub executing: bool,
    /// The length of its queue with it, if it came to one.
    pub queue_length: Option<usize>,
}

/// Sums over a queue set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests in queues.
    pub waiting: usize,
    /// Requests being handled.
    pub executing: usize,
    /// Seats taken, lingering ones included.
    pub seats_in_use: u64,
    /// Seats that waiting requests will take.
    pub seats_waiting: u64,
    /// Requests dispatched so far.
    pub dispatched: u64,
    /// Requests refused so far, after waiting or at once.
    pub rejected: u64,
    /// Requests that left a queue undispatched so far.
    pub cancelled: u64,
}

/// Readings of the progress meter around the latest dispatch from a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Readings {
    /// When it happened.
    pub dispatch_r: SeatSeconds,
    /// The virtual start of the dispatched request.
    pub latest_s: SeatSeconds,
    /// Least and largest virtual start over the queues' oldest requests.
    pub s: (SeatSeconds, SeatSeconds),
    /// The same, less the estimated work in progress.
    pub discounted_s: (SeatSeconds, SeatSeconds),
}

/// A queue as it shows on debugging pages.
#[derive(Debug, Clone, Copy)]
pub struct QueueView {
    /// Its number.
    pub index: u32,
    /// Meter reading of its next dispatch.
    pub next_dispatch_r: SeatSeconds,
    /// Over its waiting requests.
    pub waiting: Sums,
    /// Requests being handled.
    pub executing: usize,
    /// Seats taken.
    pub seats_in_use: u64,
}

/// The requests of one priority level. `P` is what the owner keeps with each.
#[derive(Debug)]
pub struct QueueSet<P> {
    discipline: Discipline,
    limit: u64,
    slots: Slots<P>,
    /// In the order of their numbers.
    queues: Vec<Queue>,
    current_r: SeatSeconds,
    last_time: Duration,
    /// The number of the queue dispatched from last: on a tie it comes last.
    robin: u32,
    enqueues: usize,
    totals: Totals,
    readings: Readings,
    /// How often the meter was turned back.
    epochs: u64,
    /// The request that was to be dispatched last, and found too few seats.
    blocked: Option<Id>,
}

impl<P> QueueSet<P> {
    /// A set without requests that has `limit` seats.
    #[must_use]
    pub fn new(now: Duration, discipline: Discipline, limit: u64) -> Self {
        Self {
            discipline,
            limit,
            slots: Slots::default(),
            queues: Vec::new(),
            current_r: SeatSeconds::default(),
            last_time: now,
            robin: 0,
            enqueues: 0,
            totals: Totals::default(),
            readings: Readings::default(),
            epochs: 0,
            blocked: None,
        }
    }

    /// Changes discipline and seats. Requests that wait, wait on; `wake` learns which ones may run now.
    pub fn configure(
        &mut self,
        now: Duration,
        discipline: Discipline,
        limit: u64,
        wake: &mut impl FnMut(&mut P),
    ) {
        self.sync(now);
        self.discipline = discipline;
        self.limit = limit;
        self.dispatch_all(now, None, wake);
    }

    /// A request comes. Upstream: `StartRequest`.
    ///
    /// # Errors
    /// When it is refused at once.
    pub fn arrive(
        &mut self,
        now: Duration,
        work: Work,
        hash: u64,
        payload: P,
        wake: &mut impl FnMut(&mut P),
    ) -> Result<Arrival, Refusal> {
        self.sync(now);
        let Discipline::Queue { dealer, length } = self.discipline else {
            return self.arrive_without_queue(now, work, payload);
        };
        let at = self.shard(dealer, hash);
        let waits = self.queue(at).map_or(0, |q| q.waiting.count);
        let full = waits as u64 >= length && self.totals.seats_in_use >= self.limit;
        // While a wide request waits for seats to come together some are free, and upstream queues without a bound.
        if full || waits as u64 >= OVERFULL * (length + self.limit) {
            self.totals.rejected += 1;
            return Err(Refusal::QueueFull);
        }
        let id = self.put(now, work, Some(at), Phase::Waiting, payload);
        let current_r = self.current_r;
        let queue = match self.queues.binary_search_by_key(&at, |q| q.index) {
            Ok(found) => &mut self.queues[found],
            Err(place) => {
                self.queues.insert(place, Queue::new(at, current_r));
                &mut self.queues[place]
            }
        };
        if !queue.is_active() {
            queue.next_dispatch_r = current_r;
        }
        queue.push(&mut self.slots, id);
        queue.bound(&self.slots);
        let queue_length = Some(queue.waiting.count);
        self.totals.waiting += 1;
        self.totals.seats_waiting += work.max_seats();
        self.dispatch_all(now, Some(id), wake);
        let executing = self.slots.get(id).is_some_and(|r| r.phase == Phase::Executing);
        Ok(Arrival { id, executing, queue_length })
    }

    fn arrive_without_queue(&mut self, now: Duration, work: Work, payload: P) -> Result<Arrival, Refusal> {
        if !self.accommodates(work.max_seats()) {
            self.totals.rejected += 1;
            return Err(Refusal::ConcurrencyLimit);
        }
        self.totals.executing += 1;
        self.totals.dispatched += 1;
        self.totals.seats_in_use += work.max_seats();
        let id = self.put(now, work, None, Phase::Executing, payload);
        Ok(Arrival { id, executing: true, queue_length: None })
    }

    fn put(&mut self, now: Duration, work: Work, queue: Option<u32>, phase: Phase, payload: P) -> Id {
        let final_work = SeatSeconds::during(work.last as f64, work.linger);
        self.slots.put(Request {
            payload,
            work,
            arrived: now,
            started: now,
            queue,
            phase,
            total_work: SeatSeconds::during(work.initial as f64, SERVICE).plus(final_work),
            final_work,
            arrival_r: self.current_r,
            before: None,
            after: None,
        })
    }

    /// A waiting request gives up; `false` when it is not waiting (any more).
    pub fn cancel(&mut self, now: Duration, id: Id) -> bool {
        self.sync(now);
        let Some(request) = self.slots.get(id).filter(|r| r.phase == Phase::Waiting) else { return false };
        let (seats, queue) = (request.work.max_seats(), request.queue);
        if let Some(place) = queue.and_then(|q| self.place(q)) {
            let queue = &mut self.queues[place];
            queue.unlink(&mut self.slots, id);
            queue.bound(&self.slots);
            self.drop_if_empty(place);
        }
        self.totals.waiting -= 1;
        self.totals.seats_waiting -= seats;
        self.totals.rejected += 1;
        self.totals.cancelled += 1;
        self.slots.take(id);
        true
    }

    /// A request has been answered. Its seats are free again, or [`QueueSet::release`] is due after the returned time.
    pub fn finish(&mut self, now: Duration, id: Id, wake: &mut impl FnMut(&mut P)) -> Option<Duration> {
        self.sync(now);
        let request = self.slots.get_mut(id).filter(|r| r.phase == Phase::Executing)?;
        request.phase = Phase::Lingering;
        let (work, queue) = (request.work, request.queue);
        let took = now.saturating_sub(request.started);
        self.totals.executing -= 1;
        if let Some(place) = queue.and_then(|q| self.place(q)) {
            let queue = &mut self.queues[place];
            queue.executing -= 1;
            // The guess is corrected: too long a guess brings the queue's next dispatch forward.
            let error = crate::seats::nanos(SERVICE).saturating_sub(crate::seats::nanos(took));
            queue.next_dispatch_r = queue.next_dispatch_r.minus(SeatSeconds::of(work.initial as f64, error));
            queue.bound(&self.slots);
        }
        let linger = (!work.linger.is_zero()).then_some(work.linger);
        if linger.is_none() {
            self.free(id);
        }
        self.dispatch_all(now, None, wake);
        linger
    }

    /// The lingering seats of a finished request are free.
    pub fn release(&mut self, now: Duration, id: Id, wake: &mut impl FnMut(&mut P)) {
        self.sync(now);
        if self.slots.get(id).is_some_and(|r| r.phase == Phase::Lingering) {
            self.free(id);
            self.dispatch_all(now, None, wake);
        }
    }

    fn free(&mut self, id: Id) {
        let Some(request) = self.slots.take(id) else { return };
        let seats = request.work.max_seats();
        self.totals.seats_in_use -= seats;
        if let Some(place) = request.queue.and_then(|q| self.place(q)) {
            self.queues[place].seats_in_use -= seats;
            self.drop_if_empty(place);
        }
    }

    fn drop_if_empty(&mut self, place: usize) {
        if self.queues.get(place).is_some_and(|q| !q.is_active() && q.seats_in_use == 0) {
            self.queues.remove(place);
        }
    }

    fn place(&self, index: u32) -> Option<usize> {
        self.queues.binary_search_by_key(&index, |q| q.index).ok()
    }

    fn queue(&self, index: u32) -> Option<&Queue> {
        self.queues.get(self.place(index)?)
    }

    /// A request by its name.
    #[must_use]
    pub fn request(&self, id: Id) -> Option<&Request<P>> {
        self.slots.get(id)
    }

    /// The owner's part of a request.
    pub fn payload_mut(&mut self, id: Id) -> Option<&mut P> {
        self.slots.get_mut(id).map(|r| &mut r.payload)
    }

    /// The request whose turn it was and for which there were too few seats, since this was last asked.
    pub fn take_blocked(&mut self) -> Option<&P> {
        let id = self.blocked.take()?;
        self.slots.get(id).map(|r| &r.payload)
    }

    /// Whether nothing waits or runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.totals.waiting == 0 && self.totals.executing == 0
    }

    /// Sums over everything.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The progress meter.
    #[must_use]
    pub fn current_r(&self) -> SeatSeconds {
        self.current_r
    }

    /// The meter at the latest dispatch, and how often it was turned back.
    #[must_use]
    pub fn readings(&self) -> (Readings, u64) {
        (self.readings, self.epochs)
    }

    /// Seats for now.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The queues that hold anything, by number.
    pub fn queues(&self) -> impl Iterator<Item = QueueView> + '_ {
        self.queues.iter().map(|q| QueueView {
            index: q.index,
            next_dispatch_r: q.next_dispatch_r,
            waiting: q.waiting,
            executing: q.executing,
            seats_in_use: q.seats_in_use,
        })
    }

    /// The requests waiting in a queue, oldest first.
    pub fn waiting(&self, queue: u32) -> impl Iterator<Item = &Request<P>> {
        self.queue(queue).into_iter().flat_map(|q| q.walk(&self.slots)).map(|(_, request)| request)
    }

    /// The requests being handled.
    pub fn executing(&self) -> impl Iterator<Item = &Request<P>> {
        self.slots.iter().filter(|r| r.phase == Phase::Executing)
    }
}
