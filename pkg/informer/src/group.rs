//! Subscribers of an informer, served by one queue and one task: they see the same events, and with a dozen subscribers the
//! queues would be most of what an event costs.

use client::Kept;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::deliver::{Event, Joining, Told};
use crate::informer::Events;

/// Events after which other tasks get their turn.
const TURN: usize = 128;

/// A function that is called for events, and what its owner sees of that.
pub(crate) struct Subscriber<K> {
    handler: Box<dyn Fn(Event<K>) + Send + Sync>,
    synced: watch::Sender<bool>,
    cancel: CancellationToken,
}

impl<K> Subscriber<K> {
    pub fn new(handler: impl Fn(Event<K>) + Send + Sync + 'static) -> (Self, Subscription) {
        let (synced, cancel) = (watch::Sender::new(false), CancellationToken::new());
        let subscription = Subscription::new(synced.subscribe(), cancel.clone());
        (Self { handler: Box::new(handler), synced, cancel }, subscription)
    }

    /// Calls it; `false` if it is to be called no more. The others are none the worse for one that failed.
    fn tell(&self, event: Event<K>) -> bool {
        if self.cancel.is_cancelled() {
            return false;
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (self.handler)(event)));
        if outcome.is_err() {
            tracing::error!("A subscriber panicked and is told no more");
        }
        outcome.is_ok()
    }
}

/// Subscribers that are told the same.
pub(crate) struct Group<K> {
    subscribers: Vec<Subscriber<K>>,
    synced: bool,
}

impl<K> Default for Group<K> {
    fn default() -> Self {
        Self { subscribers: Vec::new(), synced: false }
    }
}

impl<K: Kept> Group<K> {
    pub fn of(subscriber: Subscriber<K>) -> Self {
        Self { subscribers: vec![subscriber], synced: false }
    }

    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    pub fn add(&mut self, subscriber: Subscriber<K>) {
        self.subscribers.push(subscriber);
    }

    /// Tells everything, until the informer ends or nobody is left.
    pub async fn run(mut self, events: Events<K>) {
        let mut served = 0;
        while let Some(event) = events.told(|told| self.take(told)).await {
            self.subscribers.retain(|subscriber| subscriber.tell(event.clone()));
            if self.subscribers.is_empty() {
                return;
            }
            served += 1;
            if served % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn take(&mut self, told: Told<K>) {
        match told {
            Told::Synced => {
                self.synced = true;
                self.subscribers.iter().for_each(|s| {
                    s.synced.send_replace(true);
                });
            }
            Told::Joins(Joining { subscriber, present }) => {
                if present.into_iter().all(|object| subscriber.tell(Event::Added(object))) {
                    // Before the initial state is through, its mark is still to come.
                    subscriber.synced.send_replace(self.synced);
                    self.subscribers.push(subscriber);
                }
            }
        }
    }
}

/// A handler that is being called. Dropping this does not end it.
pub struct Subscription {
    synced: watch::Receiver<bool>,
    cancel: CancellationToken,
}

impl Subscription {
    pub(crate) fn new(synced: watch::Receiver<bool>, cancel: CancellationToken) -> Self {
        Self { synced, cancel }
    }

    /// Whether the handler has seen the initial state.
    pub fn has_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits until the handler has seen the initial state; `false` if the token ends first.
    pub async fn wait_synced(&self, token: &CancellationToken) -> bool {
        let mut synced = self.synced.clone();
        tokio::select! {
            result = synced.wait_for(|s| *s) => result.is_ok(),
            () = token.cancelled() => false,
        }
    }

    /// No more calls.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}
