//! Virtual time, the choice of a queue, and the dispatch of its oldest request.

use std::time::Duration;

use super::queue::Queue;
use super::slots::{Id, Phase};
use super::{Discipline, QueueSet, Readings, SERVICE};
use crate::seats::SeatSeconds;
use crate::shuffle::Dealer;

/// The meter is turned back by this much before it overflows.
const TURN_BACK: SeatSeconds = SeatSeconds(u64::MAX / 2);
/// When it is.
const HIGH: SeatSeconds = SeatSeconds(u64::MAX / 2 + u64::MAX / 4);

impl<P> QueueSet<P> {
    /// Lets virtual time pass: the queues have been as they are since the last event.
    pub(super) fn sync(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.last_time);
        self.last_time = self.last_time.max(now);
        let added = SeatSeconds::during(self.rate(), passed);
        self.current_r = self.current_r.plus(added);
        if self.current_r >= HIGH {
            self.turn_back();
        }
    }

    /// Seats per queue that has requests. Upstream: `getVirtualTimeRatioLocked`.
    fn rate(&self) -> f64 {
        let mut active = 0usize;
        let mut seats = 0;
        for queue in &self.queues {
            seats += queue.seats_in_use + queue.waiting.max_seats;
            active += usize::from(queue.is_active());
        }
        if active == 0 { 0.0 } else { seats.min(self.limit) as f64 / active as f64 }
    }

    /// Subtracts from the meter and all readings taken of it. Upstream: `advanceEpoch`.
    fn turn_back(&mut self) {
        self.epochs += 1;
        self.current_r = self.current_r.minus(TURN_BACK);
        for at in 0..self.queues.len() {
            let queue = &mut self.queues[at];
            if !queue.is_active() {
                queue.next_dispatch_r = SeatSeconds::default();
                continue;
            }
            queue.next_dispatch_r = queue.next_dispatch_r.minus(TURN_BACK);
            let mut next = queue.head;
            while let Some(request) = next.and_then(|id| self.slots.get_mut(id)) {
                request.arrival_r = request.arrival_r.minus(TURN_BACK);
                next = request.after;
            }
        }
    }

    /// The queue of a flow's hand with the least work waiting. The first card looked at changes from request to
    /// request, so that overlapping hands do not meet in one queue. Upstream: `shuffleShardLocked`.
    pub(super) fn shard(&mut self, dealer: Dealer, hash: u64) -> u32 {
        let hand = dealer.deal(hash);
        let offset = self.enqueues % hand.len();
        self.enqueues = self.enqueues.wrapping_add(1);
        let in_turn = hand.clone().skip(offset).chain(hand.take(offset));
        let work = |index: &u32| self.queue(*index).map_or(SeatSeconds::default(), |q| q.waiting.total_work);
        // A hand is never empty.
        in_turn.min_by_key(work).unwrap_or(0)
    }

    pub(super) fn accommodates(&self, seats: u64) -> bool {
        match self.discipline {
            Discipline::Exempt => true,
            // Wider than the level: runs when it has the level to itself.
            _ if seats > self.limit => self.totals.executing == 0,
            _ => self.totals.seats_in_use + seats <= self.limit,
        }
    }

    /// Dispatches while there are seats. `own` is the request that has just come: its owner needs no waking.
    pub(super) fn dispatch_all(&mut self, now: Duration, own: Option<Id>, wake: &mut impl FnMut(&mut P)) {
        while self.totals.waiting > 0 && self.totals.seats_in_use < self.limit {
            let Some((place, id)) = self.choose() else { return };
            self.dispatch(now, place, id);
            if own != Some(id)
                && let Some(request) = self.slots.get_mut(id)
            {
                wake(&mut request.payload);
            }
        }
    }

    /// The queue whose oldest request would finish first in the virtual world, and that request, if there are seats for
    /// it. Upstream: `findDispatchQueueToBoundLocked`.
    fn choose(&mut self) -> Option<(usize, Id)> {
        let start = self.queues.partition_point(|q| q.index <= self.robin);
        let mut bounds = Bounds::default();
        let mut best: Option<(SeatSeconds, usize, Id)> = None;
        for place in (start..self.queues.len()).chain(0..start) {
            let queue = &self.queues[place];
            let Some((id, oldest)) = queue.head.and_then(|id| Some((id, self.slots.get(id)?))) else {
                continue;
            };
            bounds.see(queue);
            let finish = queue.next_dispatch_r.plus(oldest.total_work);
            if best.is_none_or(|(least, ..)| finish < least) {
                best = Some((finish, place, id));
            }
        }
        let (_, place, id) = best?;
        if !self.accommodates(self.slots.get(id)?.work.max_seats()) {
            self.blocked = Some(id);
            return None;
        }
        let queue = &self.queues[place];
        self.robin = queue.index;
        self.readings = Readings {
            dispatch_r: self.current_r,
            latest_s: queue.next_dispatch_r,
            s: bounds.s,
            discounted_s: bounds.discounted,
        };
        Some((place, id))
    }

    fn dispatch(&mut self, now: Duration, place: usize, id: Id) {
        let limit = self.limit;
        let queue = &mut self.queues[place];
        queue.unlink(&mut self.slots, id);
        let Some(request) = self.slots.get_mut(id) else { return };
        self.totals.waiting -= 1;
        self.totals.seats_waiting -= request.work.max_seats();
        if request.work.last > limit {
            // The same work on the seats there are.
            request.work.last = limit;
            request.work.linger = request.final_work.per_seat(limit as f64);
        }
        request.phase = Phase::Executing;
        request.started = now;
        let seats = request.work.max_seats();
        self.totals.executing += 1;
        self.totals.dispatched += 1;
        self.totals.seats_in_use += seats;
        queue.executing += 1;
        queue.seats_in_use += seats;
        queue.next_dispatch_r = queue.next_dispatch_r.plus(request.total_work);
        queue.bound(&self.slots);
    }
}

/// Extremes of virtual starts.
struct Bounds {
    s: (SeatSeconds, SeatSeconds),
    discounted: (SeatSeconds, SeatSeconds),
}

impl Default for Bounds {
    fn default() -> Self {
        let none = (SeatSeconds::MAX, SeatSeconds::default());
        Self { s: none, discounted: none }
    }
}

impl Bounds {
    fn see(&mut self, queue: &Queue) {
        let s = queue.next_dispatch_r;
        let discounted = s.minus(SeatSeconds::during(queue.seats_in_use as f64, SERVICE));
        self.s = (self.s.0.min(s), self.s.1.max(s));
        self.discounted = (self.discounted.0.min(discounted), self.discounted.1.max(discounted));
    }
}
