//! One queue: a linked list through the slots of its waiting requests, with sums over them.

use super::slots::{Id, Request, Slots};
use crate::seats::SeatSeconds;

/// A queue that has requests waiting, executing, or seats still taken. Others are not kept: all that an empty queue
/// would remember, the meter reading of its next dispatch, is set anew by the next arrival.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) index: u32,
    /// The reading of the progress meter at which the next request is dispatched in the virtual world.
    pub(super) next_dispatch_r: SeatSeconds,
    pub(super) executing: usize,
    pub(super) seats_in_use: u64,
    pub(super) waiting: Sums,
    pub(super) head: Option<Id>,
    tail: Option<Id>,
}

/// Over the waiting requests of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many.
    pub count: usize,
    /// Seats while they are handled.
    pub initial_seats: u64,
    /// Seats that are reserved for them.
    pub max_seats: u64,
    /// All their work.
    pub total_work: SeatSeconds,
}

impl Queue {
    pub(super) fn new(index: u32, now_r: SeatSeconds) -> Self {
        Self {
            index,
            next_dispatch_r: now_r,
            executing: 0,
            seats_in_use: 0,
            waiting: Sums::default(),
            head: None,
            tail: None,
        }
    }

    /// Has requests in the real world.
    pub(super) fn is_active(&self) -> bool {
        self.waiting.count > 0 || self.executing > 0
    }

    pub(super) fn push<P>(&mut self, slots: &mut Slots<P>, id: Id) {
        let last = self.tail.replace(id);
        match last.and_then(|last| slots.get_mut(last)) {
            Some(before) => before.after = Some(id),
            None => self.head = Some(id),
        }
        if let Some(request) = slots.get_mut(id) {
            request.before = last;
            let (sums, work) = (&mut self.waiting, &request.work);
            sums.count += 1;
            sums.initial_seats += work.initial;
            sums.max_seats += work.max_seats();
            sums.total_work = sums.total_work.plus(request.total_work);
        }
    }

    /// Takes a waiting request out, from wherever it stands.
    pub(super) fn unlink<P>(&mut self, slots: &mut Slots<P>, id: Id) {
        let Some(request) = slots.get_mut(id) else { return };
        let (before, after) = (request.before.take(), request.after.take());
        let (sums, work) = (&mut self.waiting, request.work);
        sums.count -= 1;
        sums.initial_seats -= work.initial;
        sums.max_seats -= work.max_seats();
        sums.total_work = sums.total_work.minus(request.total_work);
        match before.and_then(|id| slots.get_mut(id)) {
            Some(before) => before.after = after,
            None => self.head = after,
        }
        match after.and_then(|id| slots.get_mut(id)) {
            Some(after) => after.before = before,
            None => self.tail = before,
        }
    }

    /// The waiting requests, oldest first.
    pub(super) fn walk<'a, P>(&self, slots: &'a Slots<P>) -> impl Iterator<Item = (Id, &'a Request<P>)> {
        let first = self.head;
        std::iter::successors(first.and_then(|id| Some((id, slots.get(id)?))), |(_, request)| {
            let next = request.after?;
            Some((next, slots.get(next)?))
        })
    }

    /// Dispatch in the virtual world does not precede arrival, however little the queue has used of its share.
    /// Upstream: `boundNextDispatchLocked`, the anti-windup rule.
    pub(super) fn bound<P>(&mut self, slots: &Slots<P>) {
        if let Some(oldest) = self.head.and_then(|id| slots.get(id)) {
            self.next_dispatch_r = self.next_dispatch_r.max(oldest.arrival_r);
        }
    }
}
