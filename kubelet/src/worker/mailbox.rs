//! The latest news for one worker.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pod::view::PodView;
use crate::status::generate::Eviction;

/// A wish to stop a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kill {
    /// Seconds its containers get; `None` for what the pod says.
    pub grace: Option<i64>,
    /// What its status will say.
    pub eviction: Option<Eviction>,
}

struct State {
    pod: Arc<Pod>,
    kill: Option<Kill>,
    interrupt: CancellationToken,
}

/// Holds what a worker has to know next; later news replace earlier ones.
pub(super) struct Mailbox {
    state: Mutex<State>,
    wake: Notify,
}

impl Mailbox {
    pub(super) fn new(pod: Arc<Pod>) -> Self {
        let state = State { pod, kill: None, interrupt: CancellationToken::new() };
        Self { state: Mutex::new(state), wake: Notify::new() }
    }

    pub(super) fn update(&self, pod: Arc<Pod>) {
        let mut state = self.state.lock();
        // What is under way is only given up for a stop, or for a quicker one.
        let grace =
            |p: &Pod| p.is_deleted().then(|| p.metadata.deletion_grace_period_seconds.unwrap_or(i64::MAX));
        let sooner = match (grace(&state.pod), grace(&pod)) {
            (None, new) => new.is_some() || (pod.is_api_terminal() && !state.pod.is_api_terminal()),
            (Some(old), Some(new)) => new < old,
            (Some(_), None) => false,
        };
        if sooner {
            state.interrupt.cancel();
        }
        state.pod = pod;
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn kill(&self, kill: Kill) {
        let mut state = self.state.lock();
        let sooner = match &state.kill {
            None => true,
            Some(old) => kill.grace.is_some_and(|new| old.grace.is_none_or(|old| new < old)),
        };
        if sooner {
            let eviction = state.kill.take().and_then(|k| k.eviction);
            state.kill = Some(Kill { eviction: eviction.or(kill.eviction), ..kill });
            state.interrupt.cancel();
        }
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn is_killed(&self) -> bool {
        self.state.lock().kill.is_some()
    }

    pub(super) fn poke(&self) {
        self.wake.notify_one();
    }

    pub(super) fn pod(&self) -> Arc<Pod> {
        self.state.lock().pod.clone()
    }

    /// Waits for news, at most `limit`.
    pub(super) async fn wait(&self, limit: Duration) {
        // Both ends of the wait mean the same: look now.
        let _ = tokio::time::timeout(limit, self.wake.notified()).await;
    }

    /// The latest pod and wish, and a token that is cancelled when what follows from them is overtaken.
    pub(super) fn take(&self) -> (Arc<Pod>, Option<Kill>, CancellationToken) {
        let mut state = self.state.lock();
        if state.interrupt.is_cancelled() {
            state.interrupt = CancellationToken::new();
        }
        (state.pod.clone(), state.kill.clone(), state.interrupt.clone())
    }
}
