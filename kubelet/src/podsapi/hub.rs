//! What happens to pods, for whoever watches.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::broadcast;

/// So many events may wait for a watcher before it is dropped, as upstream.
const WAITING: usize = 100;

/// What happened to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is new on the node.
    Added,
    /// It or its status is another.
    Modified,
    /// Nothing of it is left.
    Deleted,
}

/// A pod as it is now.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// The pod with its status; what it is called if nothing is left.
    pub pod: Arc<Pod>,
}

/// Where events go.
#[derive(Debug)]
pub struct Hub(broadcast::Sender<Event>);

impl Default for Hub {
    fn default() -> Self {
        Self(broadcast::Sender::new(WAITING))
    }
}

impl Hub {
    /// Tells all watchers; the pod is made only if there is one.
    pub fn tell(&self, kind: Kind, pod: impl FnOnce() -> Pod) {
        if self.0.receiver_count() > 0 {
            // Fails if the last has just gone.
            let _ = self.0.send(Event { kind, pod: Arc::new(pod()) });
        }
    }

    /// All events from now on.
    pub fn watch(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}
