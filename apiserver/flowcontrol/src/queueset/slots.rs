//! The requests of a queue set, each in a numbered slot; a slot's number is its request's name until it is freed.

use std::time::Duration;

use crate::seats::{SeatSeconds, Work};

/// A request of a queue set. Valid until its seats are released, or it is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub(super) u32);

/// What a request is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// In its queue.
    Waiting,
    /// Being handled.
    Executing,
    /// Answered; its seats stay taken for a while.
    Lingering,
}

/// One request.
#[derive(Debug)]
pub struct Request<P> {
    /// The owner's.
    pub payload: P,
    /// What it is estimated to take.
    pub work: Work,
    /// When it came.
    pub arrived: Duration,
    /// When it was dispatched; meaningless before.
    pub started: Duration,
    /// The number of its queue, if it went through one.
    pub queue: Option<u32>,
    /// What it is doing.
    pub phase: Phase,
    pub(super) total_work: SeatSeconds,
    pub(super) final_work: SeatSeconds,
    pub(super) arrival_r: SeatSeconds,
    /// Neighbours in the queue while it waits.
    pub(super) before: Option<Id>,
    pub(super) after: Option<Id>,
}

/// A slab; it never shrinks, and is as large as the most requests there have been at once.
#[derive(Debug)]
pub(super) struct Slots<P> {
    slots: Vec<Option<Request<P>>>,
    free: Vec<u32>,
}

impl<P> Default for Slots<P> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<P> Slots<P> {
    pub(super) fn put(&mut self, request: Request<P>) -> Id {
        if let Some(at) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(at as usize)
        {
            *slot = Some(request);
            return Id(at);
        }
        // Requests are bounded far below what a u32 counts.
        let at = self.slots.len() as u32;
        self.slots.push(Some(request));
        Id(at)
    }

    pub(super) fn get(&self, id: Id) -> Option<&Request<P>> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Request<P>> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    pub(super) fn take(&mut self, id: Id) -> Option<Request<P>> {
        let request = self.slots.get_mut(id.0 as usize)?.take()?;
        self.free.push(id.0);
        Some(request)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Request<P>> {
        self.slots.iter().flatten()
    }
}
