//! Delivery of events to one subscriber: in order, without holding up the watch.
//!
//! Each subscriber has a queue. Updates of an object that is still waiting in the queue are merged into what waits;
//! additions and deletions are never dropped, because expectations count them. Beyond [`LIMIT`] waiting events the
//! reflector waits for the subscriber, and the server's flow control does the rest.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::group::Subscriber;
use crate::store::{Change, Key};

/// Waiting events per subscriber beyond which the watch pauses: room for the initial state of a large cluster (the
/// queue holds references, about 100 bytes each).
pub(crate) const LIMIT: usize = 1 << 20;

/// A change of one object.
#[derive(Debug)]
pub enum Event<K> {
    /// The object is new to this informer.
    Added(Arc<K>),
    /// The object changed, or a resync is due (then both are the same).
    Updated {
        /// State that the subscriber saw last.
        old: Arc<K>,
        /// State now.
        new: Arc<K>,
    },
    /// The object is gone; the last known state.
    Deleted(Arc<K>),
}

impl<K> Clone for Event<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Added(o) => Self::Added(o.clone()),
            Self::Updated { old, new } => Self::Updated { old: old.clone(), new: new.clone() },
            Self::Deleted(o) => Self::Deleted(o.clone()),
        }
    }
}

impl<K> Event<K> {
    /// The newest state in the event.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(o) | Self::Deleted(o) | Self::Updated { new: o, .. } => o,
        }
    }
}

impl<K> From<Change<K>> for Event<K> {
    fn from(change: Change<K>) -> Self {
        match change {
            Change::Added(o) => Self::Added(o),
            Change::Updated { old, new } => Self::Updated { old, new },
            Change::Deleted(o) => Self::Deleted(o),
        }
    }
}

/// What waits in a queue.
enum Next<K> {
    Event(Key, Event<K>),
    /// The initial state has been delivered.
    Synced,
    /// Somebody joins who is told these first, and everything after this.
    Join(Box<Joining<K>>),
}

/// A subscriber that comes late, with what was there when it came.
pub(crate) struct Joining<K> {
    pub subscriber: Subscriber<K>,
    pub present: Vec<Arc<K>>,
}

struct Waiting<K> {
    events: VecDeque<Next<K>>,
    /// Position (counted from the start of time) of the last waiting event of a key.
    last: HashMap<Key, u64, foldhash::fast::RandomState>,
    /// Position of the front of `events`.
    front: u64,
    synced: bool,
    closed: bool,
}

/// Queue of one subscriber.
pub(crate) struct Queue<K> {
    waiting: Mutex<Waiting<K>>,
    filled: Notify,
    drained: Notify,
}

impl<K> Queue<K> {
    pub fn new() -> Arc<Self> {
        let waiting = Waiting {
            events: VecDeque::new(),
            last: HashMap::default(),
            front: 0,
            synced: false,
            closed: false,
        };
        Arc::new(Self { waiting: Mutex::new(waiting), filled: Notify::new(), drained: Notify::new() })
    }

    pub fn push(&self, key: &Key, event: Event<K>) {
        let mut guard = self.waiting.lock();
        let w = &mut *guard;
        if w.closed {
            return;
        }
        if let Event::Updated { new, .. } = &event
            && let Some(position) = w.last.get(key)
            && let Some(Next::Event(_, waiting)) =
                usize::try_from(position - w.front).ok().and_then(|i| w.events.get_mut(i))
        {
            match waiting {
                Event::Added(o) | Event::Updated { new: o, .. } => {
                    *o = new.clone();
                    return;
                }
                Event::Deleted(_) => {}
            }
        }
        let position = w.front + w.events.len() as u64;
        w.last.insert(key.clone(), position);
        w.events.push_back(Next::Event(key.clone(), event));
        drop(guard);
        self.filled.notify_one();
    }

    /// Everything pushed before belongs to the initial state.
    pub fn push_synced(&self) {
        self.waiting.lock().events.push_back(Next::Synced);
        self.filled.notify_one();
    }

    /// Lets a subscriber join those whom this queue serves; gives it back if it serves nobody any more.
    pub fn join(&self, joining: Box<Joining<K>>) -> Result<(), Box<Joining<K>>> {
        let mut w = self.waiting.lock();
        if w.closed {
            return Err(joining);
        }
        // Who joins is not told what is merged into an earlier event.
        w.last.clear();
        w.events.push_back(Next::Join(joining));
        drop(w);
        self.filled.notify_one();
        Ok(())
    }

    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.filled.notify_one();
        self.drained.notify_waiters();
    }

    pub fn has_room(&self) -> bool {
        let w = self.waiting.lock();
        w.closed || w.events.len() < LIMIT
    }

    /// Waits until there is room for more.
    pub async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            if self.has_room() {
                return;
            }
            drained.await;
        }
    }

    pub fn has_synced(&self) -> bool {
        self.waiting.lock().synced
    }

    fn pop(&self) -> Popped<K> {
        let mut w = self.waiting.lock();
        match w.events.pop_front() {
            Some(Next::Event(key, event)) => {
                let position = w.front;
                w.front += 1;
                if w.last.get(&key) == Some(&position) {
                    w.last.remove(&key);
                }
                Popped::Event(event)
            }
            Some(Next::Synced) => {
                w.front += 1;
                w.synced = true;
                Popped::Synced
            }
            Some(Next::Join(joining)) => {
                w.front += 1;
                Popped::Join(joining)
            }
            None if w.closed => Popped::Closed,
            None => {
                w.last.shrink_to(1024);
                w.events.shrink_to(1024);
                Popped::Empty
            }
        }
    }

    /// The next event; `None` once the informer has ended. `told` learns of everything else.
    pub async fn next(&self, mut told: impl FnMut(Told<K>)) -> Option<Event<K>> {
        loop {
            match self.pop() {
                Popped::Event(event) => {
                    self.drained.notify_waiters();
                    return Some(event);
                }
                Popped::Synced => told(Told::Synced),
                Popped::Join(joining) => told(Told::Joins(*joining)),
                Popped::Closed => return None,
                Popped::Empty => self.filled.notified().await,
            }
        }
    }
}

/// What a reader of a queue learns beside events.
pub(crate) enum Told<K> {
    /// The initial state is through.
    Synced,
    Joins(Joining<K>),
}

enum Popped<K> {
    Event(Event<K>),
    Synced,
    Join(Box<Joining<K>>),
    Empty,
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(q: &Queue<u32>) -> Vec<String> {
        let mut out = Vec::new();
        loop {
            match q.pop() {
                Popped::Event(Event::Added(o)) => out.push(format!("+{o}")),
                Popped::Event(Event::Updated { old, new }) => out.push(format!("{old}>{new}")),
                Popped::Event(Event::Deleted(o)) => out.push(format!("-{o}")),
                Popped::Synced => out.push("synced".into()),
                Popped::Join(joining) => out.push(format!("join {:?}", joining.present)),
                Popped::Empty | Popped::Closed => return out,
            }
        }
    }

    #[test]
    fn merges_updates_only() {
        let q = Queue::new();
        let (a, b): (Key, Key) = ("a".into(), "b".into());
        let o = |n: u32| Arc::new(n);
        q.push(&a, Event::Added(o(1)));
        q.push(&b, Event::Updated { old: o(10), new: o(11) });
        q.push(&a, Event::Updated { old: o(1), new: o(2) });
        q.push(&b, Event::Updated { old: o(11), new: o(12) });
        q.push_synced();
        q.push(&a, Event::Deleted(o(2)));
        q.push(&a, Event::Added(o(3)));
        q.push(&a, Event::Updated { old: o(3), new: o(4) });
        assert_eq!(names(&q), ["+2", "10>12", "synced", "-2", "+4"]);
        assert!(q.has_synced());
        q.push(&a, Event::Updated { old: o(4), new: o(5) });
        assert_eq!(names(&q), ["4>5"]);
    }

    #[test]
    fn who_joins_is_told_what_comes_after() {
        let q = Queue::new();
        let a: Key = "a".into();
        let o = |n: u32| Arc::new(n);
        let joining = || Box::new(Joining { subscriber: Subscriber::new(|_| {}).0, present: vec![o(1)] });
        q.push(&a, Event::Added(o(1)));
        assert!(q.join(joining()).is_ok());
        q.push(&a, Event::Updated { old: o(1), new: o(2) });
        q.push(&a, Event::Updated { old: o(2), new: o(3) });
        assert_eq!(names(&q), ["+1", "join [1]", "1>3"]);
        q.close();
        assert!(q.join(joining()).is_err());
    }
}
