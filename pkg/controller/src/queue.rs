//! The work queue of controllers.
//!
//! An item is in the queue once, however often it is added; while it is being worked on, adding it again makes it come
//! back after `done`. Delayed items live in a heap served by one task, started with the first delay.
//! Upstream: client-go/util/workqueue (queue.go, delaying_queue.go, rate_limiting_queue.go).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limiter::{DefaultLimiter, RateLimiter};
use crate::metrics::{self, Series, Unfinished};

/// What a queue can hold.
pub trait Item: Clone + Eq + Hash + Debug + Send + Sync + 'static {}
impl<T: Clone + Eq + Hash + Debug + Send + Sync + 'static> Item for T {}

/// A queue at one moment, for status pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueState {
    /// The queue's name.
    pub name: String,
    /// Items that wait for a worker.
    pub waiting: usize,
    /// Items that are being worked on.
    pub running: usize,
    /// Items that come back after a pause.
    pub delayed: usize,
    /// The item that has waited longest, and for how long.
    pub oldest: Option<(String, Duration)>,
    /// The last failure: item, error, how long ago.
    pub last_error: Option<(String, String, Duration)>,
}

/// Rounds of one worker after which others get their turn.
const TURN: usize = 32;

struct Delayed {
    /// (due, number in order of arrival, slot in `delayed_items`)
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    sequence: u64,
    running: bool,
}

/// An item that needs work, is being worked on, or both.
struct Entry {
    /// Since when it needs work: it is in the queue, or `done` puts it there.
    added: Option<Instant>,
    /// Since when it is being worked on.
    worked: Option<Instant>,
}

/// More room than this is given back once it is not needed.
const ROOM: usize = 64;

struct State<T> {
    queue: VecDeque<T>,
    entries: HashMap<T, Entry>,
    /// Items that are being worked on.
    running: usize,
    delayed: Delayed,
    /// Number of the valid heap entry of each delayed item; an earlier due time replaces a later one.
    waiting: HashMap<T, (Instant, u64)>,
    items: HashMap<u64, T>,
    last_error: Option<(T, String, Instant)>,
    shut: bool,
}

struct Inner<T> {
    name: String,
    series: Series,
    state: Mutex<State<T>>,
    limiter: Mutex<Box<dyn RateLimiter<T>>>,
    filled: Notify,
    delay_changed: Notify,
    drained: Notify,
    /// Keeps the registration for metrics alive.
    reporter: Mutex<Option<Arc<dyn Unfinished>>>,
}

/// A shared queue; clones are the same one.
pub struct WorkQueue<T>(Arc<Inner<T>>);

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Item> WorkQueue<T> {
    /// A queue with the controllers' default rate limits; `name` labels the metrics.
    pub fn new(name: &str) -> Self {
        Self::with_limiter(name, DefaultLimiter::default())
    }

    /// A queue with its own rate limits.
    pub fn with_limiter(name: &str, limiter: impl RateLimiter<T> + 'static) -> Self {
        let state = State {
            queue: VecDeque::new(),
            entries: HashMap::new(),
            running: 0,
            delayed: Delayed { heap: BinaryHeap::new(), sequence: 0, running: false },
            waiting: HashMap::new(),
            items: HashMap::new(),
            last_error: None,
            shut: false,
        };
        let inner = Arc::new(Inner {
            name: name.to_string(),
            series: Series::of(name),
            state: Mutex::new(state),
            limiter: Mutex::new(Box::new(limiter)),
            filled: Notify::new(),
            delay_changed: Notify::new(),
            drained: Notify::new(),
            reporter: Mutex::new(None),
        });
        let reporter: Arc<dyn Unfinished> = Arc::new(Reporter(Arc::downgrade(&inner)));
        metrics::register(&reporter);
        *inner.reporter.lock() = Some(reporter);
        Self(inner)
    }

    /// The queue's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Marks an item as needing work.
    pub fn add(&self, item: T) {
        let added = self.0.add_locked(&mut self.0.state.lock(), item);
        if added {
            self.0.filled.notify_one();
        }
    }

    /// Adds an item after a pause; an earlier pending time stays.
    pub fn add_after(&self, item: T, pause: Duration) {
        if pause.is_zero() {
            return self.add(item);
        }
        let mut state = self.0.state.lock();
        if state.shut {
            return;
        }
        // Far beyond any controller's horizon, and safe for the clock's arithmetic.
        let due = Instant::now() + pause.min(Duration::from_secs(10 * 365 * 86_400));
        self.0.series.retries.inc();
        if let Some((before, number)) = state.waiting.get(&item).copied() {
            if before <= due {
                return;
            }
            state.items.remove(&number);
        }
        let number = state.delayed.sequence;
        state.delayed.sequence += 1;
        state.waiting.insert(item.clone(), (due, number));
        state.items.insert(number, item);
        state.delayed.heap.push(Reverse((due, number)));
        let start = !std::mem::replace(&mut state.delayed.running, true);
        drop(state);
        if start {
            tokio::spawn(serve_delays(Arc::downgrade(&self.0)));
        } else {
            self.0.delay_changed.notify_one();
        }
    }

    /// Adds an item after the pause that its failures call for.
    pub fn add_rate_limited(&self, item: T) {
        let pause = self.0.limiter.lock().when(&item);
        self.add_after(item, pause);
    }

    /// The item succeeded or is given up: its failures are forgotten.
    pub fn forget(&self, item: &T) {
        self.0.limiter.lock().forget(item);
    }

    /// Failures of an item so far.
    pub fn num_requeues(&self, item: &T) -> u32 {
        self.0.limiter.lock().requeues(item)
    }

    /// The next item to work on; `None` once the queue is shut down and empty. Every item must be given back with
    /// [`WorkQueue::done`]. Cancel safety: safe.
    pub async fn get(&self) -> Option<T> {
        loop {
            let filled = self.0.filled.notified();
            {
                let mut state = self.0.state.lock();
                if let Some(item) = self.take(&mut state) {
                    return Some(item);
                }
                if state.shut {
                    return None;
                }
            }
            filled.await;
        }
    }

    /// The work on an item is over.
    pub fn done(&self, item: &T) {
        let mut guard = self.0.state.lock();
        let state = &mut *guard;
        let Some(entry) = state.entries.get_mut(item) else { return };
        if let Some(since) = entry.worked.take() {
            state.running -= 1;
            self.0.series.worked.observe_duration(since.elapsed());
        }
        if entry.added.is_some() {
            state.queue.push_back(item.clone());
            self.0.depth(state);
            self.0.filled.notify_one();
            return;
        }
        state.entries.remove(item);
        if state.running == 0 {
            self.0.drained.notify_waiters();
        }
        if state.entries.is_empty() && state.entries.capacity() > ROOM {
            state.entries.shrink_to(ROOM);
            state.queue.shrink_to(ROOM);
        }
    }

    /// Items that wait for a worker.
    pub fn len(&self) -> usize {
        self.0.state.lock().queue.len()
    }

    /// Whether no item waits for a worker.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No more additions; workers get what is left, then `None`.
    pub fn shut_down(&self) {
        self.0.state.lock().shut = true;
        self.0.filled.notify_waiters();
        self.0.filled.notify_one();
        self.0.delay_changed.notify_one();
        self.0.drained.notify_waiters();
    }

    /// As [`WorkQueue::shut_down`], and waits until no item is being worked on.
    pub async fn shut_down_with_drain(&self) {
        self.shut_down();
        loop {
            let drained = self.0.drained.notified();
            {
                let state = self.0.state.lock();
                if state.running == 0 && state.queue.is_empty() {
                    return;
                }
            }
            drained.await;
        }
    }

    /// Works on items, at most `workers` at a time, until the token ends or the queue is shut down. `sync` says whether to
    /// try again: `Ok(None)` no, `Ok(Some(pause))` after a pause, `Err` after the pause that the failures call for.
    pub async fn run<F, R, E>(&self, workers: usize, token: &CancellationToken, sync: F)
    where
        F: Fn(T) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Option<Duration>, E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let mut set = tokio::task::JoinSet::new();
        let mut open = true;
        while open || !set.is_empty() {
            tokio::select! {
                () = token.cancelled(), if !self.is_shut() => self.shut_down(),
                Some(ended) = set.join_next() => {
                    if let Err(e) = ended {
                        tracing::error!(queue = self.name(), error = %e, "worker failed");
                    }
                }
                // Dozens of queues rest most of the time: a worker is there while there is work.
                item = self.get(), if open && set.len() < workers.max(1) => match item {
                    Some(item) => drop(set.spawn(self.clone().work(item, sync.clone()))),
                    None => open = false,
                },
            }
        }
    }

    /// Works on an item, and on what else is there by then.
    async fn work<F, R, E>(self, first: T, sync: F)
    where
        F: Fn(T) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Option<Duration>, E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let (mut worked, mut next) = (0_usize, Some(first));
        while let Some(item) = next {
            // Gives the item back even if the work panics.
            let done = Done(&self, &item);
            match sync(item.clone()).await {
                Ok(None) => self.forget(&item),
                Ok(Some(pause)) => {
                    self.forget(&item);
                    self.add_after(item.clone(), pause);
                }
                Err(e) => {
                    tracing::warn!(queue = self.name(), item = ?item, error = %e, "sync failed, retrying");
                    self.0.state.lock().last_error = Some((item.clone(), e.to_string(), Instant::now()));
                    self.add_rate_limited(item.clone());
                }
            }
            drop(done);
            // Rounds that find nothing to do never wait, and a lease is to be renewed while thousands of them are run.
            worked += 1;
            if worked.is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
            next = self.take(&mut self.0.state.lock());
        }
    }

    /// The next item to work on, if there is one.
    fn take(&self, state: &mut State<T>) -> Option<T> {
        let item = state.queue.pop_front()?;
        self.0.taken(state, &item);
        Some(item)
    }

    fn is_shut(&self) -> bool {
        self.0.state.lock().shut
    }
}

struct Done<'a, T: Item>(&'a WorkQueue<T>, &'a T);

impl<T: Item> Drop for Done<'_, T> {
    fn drop(&mut self) {
        self.0.done(self.1);
    }
}

impl<T: Item> Inner<T> {
    /// Whether a worker has to be woken.
    fn add_locked(&self, state: &mut State<T>, item: T) -> bool {
        if state.shut {
            return false;
        }
        let wake = match state.entries.get_mut(&item) {
            Some(entry) if entry.added.is_some() => return false,
            Some(entry) => {
                entry.added = Some(Instant::now());
                false
            }
            None => {
                let entry = Entry { added: Some(Instant::now()), worked: None };
                state.entries.insert(item.clone(), entry);
                state.queue.push_back(item);
                self.depth(state);
                true
            }
        };
        self.series.adds.inc();
        wake
    }

    fn taken(&self, state: &mut State<T>, item: &T) {
        let now = Instant::now();
        // What is in the queue has an entry.
        let Some(entry) = state.entries.get_mut(item) else { return };
        state.running += usize::from(entry.worked.replace(now).is_none());
        if let Some(added) = entry.added.take() {
            self.series.queued.observe_duration(now.duration_since(added));
        }
        self.depth(state);
    }

    fn depth(&self, state: &State<T>) {
        self.series.depth.set(state.queue.len() as f64);
    }

    /// Moves what is due into the queue; says when to look again.
    fn due(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        loop {
            let Reverse((due, number)) = *state.delayed.heap.peek()?;
            if due > now {
                return Some(due);
            }
            state.delayed.heap.pop();
            if let Some(item) = state.items.remove(&number) {
                state.waiting.remove(&item);
                if self.add_locked(&mut state, item) {
                    self.filled.notify_one();
                }
            }
        }
    }
}

async fn serve_delays<T: Item>(queue: Weak<Inner<T>>) {
    loop {
        let Some(inner) = queue.upgrade() else { return };
        let next = inner.due(Instant::now());
        if next.is_none() {
            let mut state = inner.state.lock();
            if state.delayed.heap.is_empty() || state.shut {
                state.delayed.running = false;
                return;
            }
            continue;
        }
        if inner.state.lock().shut {
            return;
        }
        let changed = inner.delay_changed.notified();
        let next = next.unwrap_or_else(Instant::now);
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = changed => {}
        }
    }
}

struct Reporter<T>(Weak<Inner<T>>);

impl<T: Item> Unfinished for Reporter<T> {
    fn state(&self) -> QueueState {
        let Some(inner) = self.0.upgrade() else { return QueueState::default() };
        let state = inner.state.lock();
        let added = state.entries.iter().filter_map(|(item, entry)| entry.added.map(|since| (item, since)));
        let oldest = added.min_by_key(|(_, since)| *since);
        QueueState {
            name: inner.name.clone(),
            waiting: state.queue.len(),
            running: state.running,
            delayed: state.waiting.len(),
            oldest: oldest.map(|(item, since)| (format!("{item:?}"), since.elapsed())),
            last_error: state
                .last_error
                .as_ref()
                .map(|(i, e, at)| (format!("{i:?}"), e.clone(), at.elapsed())),
        }
    }

    fn unfinished(&self) -> (String, f64, f64) {
        let Some(inner) = self.0.upgrade() else { return Default::default() };
        let state = inner.state.lock();
        let worked = state.entries.values().filter_map(|entry| entry.worked);
        let ages: Vec<f64> = worked.map(|since| since.elapsed().as_secs_f64()).collect();
        let longest = ages.iter().copied().fold(0.0, f64::max);
        (inner.name.clone(), ages.iter().sum(), longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now_or_none<T: Item>(q: &WorkQueue<T>) -> Option<T> {
        futures::FutureExt::now_or_never(q.get()).flatten()
    }

    #[tokio::test(start_paused = true)]
    async fn deduplicates_and_returns_after_done() {
        let q = WorkQueue::new("test");
        q.add("a");
        q.add("b");
        q.add("a");
        assert_eq!(q.len(), 2);
        assert_eq!(q.get().await, Some("a"));
        q.add("a");
        q.add("a");
        assert_eq!(q.get().await, Some("b"));
        assert_eq!(now_or_none(&q), None);
        q.done(&"b");
        q.done(&"a");
        assert_eq!(q.get().await, Some("a"));
        q.done(&"a");
        assert_eq!(now_or_none(&q), None);
        q.shut_down();
        assert_eq!(q.get().await, None);
    }

    #[tokio::test]
    async fn a_long_queue_lets_others_have_their_turn() {
        let (q, worked) = (WorkQueue::<usize>::new("test"), Arc::new(Mutex::new(0)));
        (0..10 * TURN).for_each(|n| q.add(n));
        let count = worked.clone();
        let first = q.get().await.expect("an item");
        let sync = move |_| {
            *count.lock() += 1;
            async { Ok::<_, String>(None) }
        };
        let worker = tokio::spawn(q.clone().work(first, sync));
        tokio::task::yield_now().await;
        assert!((1..=TURN).contains(&*worked.lock()), "{}", worked.lock());
        worker.abort();
    }

    #[tokio::test]
    async fn workers_are_there_while_there_is_work() {
        let (q, token) = (WorkQueue::<usize>::new("test"), CancellationToken::new());
        let under_way = Arc::new(());
        let (here, gate) = (under_way.clone(), Arc::new(tokio::sync::Semaphore::new(0)));
        let (queue, pass, stop) = (q.clone(), gate.clone(), token.clone());
        let run = tokio::spawn(async move {
            let sync = move |item| {
                let (here, pass) = (here.clone(), pass.clone());
                async move {
                    assert!(item != 7, "planted");
                    pass.acquire().await.expect("open").forget();
                    drop(here);
                    Ok::<_, String>(None)
                }
            };
            queue.run(3, &stop, sync).await;
        });
        let until = async |count: usize| {
            while Arc::strong_count(&under_way) != count {
                tokio::task::yield_now().await;
            }
        };
        // The closure itself; a worker has it once more, its item a third time.
        until(2).await;
        (0..5).for_each(|n| q.add(n));
        until(2 + 3 * 2).await;
        assert_eq!(q.len(), 2);
        gate.add_permits(5);
        until(2).await;
        assert!(q.is_empty());
        // One that fails takes nothing with it.
        q.add(7);
        q.add(8);
        gate.add_permits(1);
        while !q.is_empty() || Reporter(Arc::downgrade(&q.0)).state().running > 0 {
            tokio::task::yield_now().await;
        }
        until(2).await;
        token.cancel();
        run.await.expect("an end");
    }

    #[tokio::test(start_paused = true)]
    async fn delays_keep_the_earliest_time() {
        let q = WorkQueue::new("test");
        let start = Instant::now();
        q.add_after("late", Duration::from_secs(30));
        q.add_after("twice", Duration::from_secs(20));
        q.add_after("twice", Duration::from_secs(5));
        q.add_after("twice", Duration::from_secs(60));
        assert_eq!(q.get().await, Some("twice"));
        assert_eq!(start.elapsed().as_secs(), 5);
        q.done(&"twice");
        assert_eq!(q.get().await, Some("late"));
        assert_eq!(start.elapsed().as_secs(), 30);
        q.done(&"late");
        q.add_after("again", Duration::from_secs(1));
        assert_eq!(q.get().await, Some("again"));
    }

    #[tokio::test(start_paused = true)]
    async fn workers_retry_failures_and_drain() {
        let q = WorkQueue::<u32>::new("test");
        let token = CancellationToken::new();
        let tries = Arc::new(Mutex::new(Vec::new()));
        let (queue, log, stop) = (q.clone(), tries.clone(), token.clone());
        q.add(1);
        q.run(2, &token, move |item| {
            let (queue, log, stop) = (queue.clone(), log.clone(), stop.clone());
            async move {
                log.lock().push(item);
                if queue.num_requeues(&item) < 3 {
                    return Err("not yet");
                }
                stop.cancel();
                Ok(None)
            }
        })
        .await;
        assert_eq!(*tries.lock(), [1, 1, 1, 1]);
        let state = Reporter(Arc::downgrade(&q.0)).state();
        let failed = state.last_error.map(|(item, error, _)| (item, error));
        assert_eq!(failed, Some(("1".to_string(), "not yet".to_string())));
        assert_eq!(state.oldest, None);
        assert_eq!(q.num_requeues(&1), 0);
    }
}
