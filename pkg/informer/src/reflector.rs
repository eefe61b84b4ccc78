//! Performs what the state machine decides: keeps a store equal to the server's state.

use std::sync::Arc;
use std::time::Duration;

use client::{Api, Error, Kept, ListParams, WatchEvent, WatchParams, WatchStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::deliver::Queue;
use crate::machine::{Action, Backoff, Failure, Input, Machine};
use crate::store::{Change, Key, Store};

/// Upstream: client-go/tools/cache/reflector.go defaultMinWatchTimeout; the server ends a watch after 1 to 2 times this.
const MIN_WATCH: Duration = Duration::from_secs(300);
/// A stream that says nothing for this long after its own time limit is dead.
const SLACK: Duration = Duration::from_secs(60);
/// A watch that ends sooner, without an event, is not retried at once.
const SHORT: Duration = Duration::from_secs(1);

/// Reduces an object to what is read.
pub type Transform<K> = Arc<dyn Fn(&mut K) + Send + Sync>;

pub(crate) struct Reflector<K> {
    pub api: Api<K>,
    pub label_selector: String,
    pub field_selector: String,
    pub transform: Option<Transform<K>>,
    pub store: Store<K>,
    pub sink: Arc<dyn Sink<K>>,
    pub streaming: bool,
}

/// Who learns about changes, called with the store locked.
pub(crate) trait Sink<K>: Send + Sync {
    fn change(&self, key: &Key, change: Change<K>);
    fn synced(&self);
    /// A queue to wait for, because it is full.
    fn full(&self) -> Option<Arc<Queue<K>>>;
}

struct Run<'a, K> {
    r: &'a Reflector<K>,
    stream: Option<WatchStream<K>>,
    opened: Instant,
    deadline: Instant,
    /// Objects of a list or streaming list that is not complete.
    pending: hashbrown::HashMap<String, K, foldhash::fast::RandomState>,
    collecting: bool,
    backoff: Backoff,
    start: Instant,
    list_rv: String,
}

impl<K: Kept> Reflector<K> {
    /// Runs until cancelled.
    pub async fn run(&self, token: CancellationToken) {
        let now = Instant::now();
        let mut run = Run {
            r: self,
            stream: None,
            opened: now,
            deadline: now,
            pending: hashbrown::HashMap::default(),
            collecting: false,
            backoff: Backoff::default(),
            start: now,
            list_rv: String::new(),
        };
        let mut machine = Machine::new(self.streaming);
        let mut input = Input::Start;
        loop {
            let action = machine.step(input);
            let next = tokio::select! {
                next = run.act(action) => next,
                () = token.cancelled() => return,
            };
            input = next;
        }
    }
}

impl<K: Kept> Run<'_, K> {
    async fn act(&mut self, action: Action) -> Input {
        match action {
            Action::Stream { rv } => {
                self.restart();
                self.open(rv, true).await
            }
            Action::List { rv, token, limit } => {
                if token.is_empty() {
                    self.restart();
                }
                self.list(rv, token, limit).await
            }
            Action::Watch { rv } => self.open(rv, false).await,
            Action::Read => self.read().await,
            Action::ReplaceAndRead => {
                self.replace().await;
                self.read().await
            }
            Action::ReplaceAndWatch { rv } => {
                self.replace().await;
                self.open(rv, false).await
            }
            Action::Pause { again_at_once } => {
                self.stream = None;
                if !again_at_once {
                    let pause = self.backoff.pause(self.start.elapsed(), rand::random());
                    tokio::time::sleep(pause).await;
                }
                Input::Timer
            }
        }
    }

    fn restart(&mut self) {
        self.stream = None;
        self.pending = hashbrown::HashMap::default();
        self.collecting = true;
    }

    async fn replace(&mut self) {
        let objects: Vec<K> = std::mem::take(&mut self.pending).into_values().collect();
        self.collecting = false;
        let r = self.r;
        r.store.replace(objects, &self.list_rv, |key, change| r.sink.change(key, change));
        r.sink.synced();
        self.room().await;
    }

    async fn room(&self) {
        while let Some(queue) = self.r.sink.full() {
            queue.room().await;
        }
    }

    async fn list(&mut self, rv: String, token: String, limit: u32) -> Input {
        let params = ListParams {
            label_selector: self.r.label_selector.clone(),
            field_selector: self.r.field_selector.clone(),
            limit,
            resource_version: if token.is_empty() { rv } else { String::new() },
            continue_token: token,
            ..ListParams::default()
        };
        // What a call needs is not held while the watch rests: there are dozens of them.
        match Box::pin(self.r.api.list(&params)).await {
            Ok(list) => {
                for object in list.items {
                    self.collect(object);
                }
                let rv = list.metadata.resource_version.unwrap_or_default();
                self.list_rv.clone_from(&rv);
                Input::Page { rv, token: list.metadata.continue_.unwrap_or_default() }
            }
            Err(e) => self.failed("list", &e),
        }
    }

    /// Makes of an object what is stored under this key.
    fn settle(&self, key: &str, object: &mut K) {
        let old = self.r.store.get(key);
        object.settle(old.as_deref());
        if let Some(transform) = &self.r.transform {
            transform(object);
        }
    }

    fn collect(&mut self, mut object: K) {
        let key = object.named().key();
        self.settle(&key, &mut object);
        self.pending.insert(key, object);
    }

    async fn open(&mut self, rv: String, initial: bool) -> Input {
        self.stream = None;
        let limit = MIN_WATCH.mul_f64(1.0 + rand::random::<f64>());
        let params = WatchParams {
            label_selector: self.r.label_selector.clone(),
            field_selector: self.r.field_selector.clone(),
            resource_version: rv,
            timeout_seconds: u32::try_from(limit.as_secs()).unwrap_or(300),
            bookmarks: true,
            send_initial_events: initial,
        };
        self.opened = Instant::now();
        self.deadline = self.opened + limit + SLACK;
        match Box::pin(self.r.api.watch(&params)).await {
            Ok(stream) => {
                let store = self.r.store.clone();
                self.stream = Some(stream.with_earlier(move |namespace, name| store.get_by(namespace, name)));
                self.read().await
            }
            Err(e) => self.failed(if initial { "streaming list" } else { "watch" }, &e),
        }
    }

    async fn read(&mut self) -> Input {
        let Some(stream) = &mut self.stream else { return Input::Failed(Failure::Transient) };
        let event = match tokio::time::timeout_at(self.deadline, stream.next()).await {
            Ok(event) => event,
            Err(_) => return Input::Closed { short: false },
        };
        match event {
            None => Input::Closed { short: self.opened.elapsed() < SHORT },
            Some(Err(e)) => self.failed("watch", &e),
            Some(Ok(event)) => self.event(event).await,
        }
    }

    async fn event(&mut self, event: WatchEvent<K>) -> Input {
        let r = self.r;
        let rv = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) if self.collecting => {
                let rv = object.named().version.to_string();
                self.collect(object);
                return Input::Event { rv };
            }
            WatchEvent::Deleted(object) if self.collecting => {
                self.pending.remove(&object.named().key());
                return Input::Event { rv: object.named().version.to_string() };
            }
            WatchEvent::Added(mut object) | WatchEvent::Modified(mut object) => {
                let (key, rv) = (object.named().key(), object.named().version.to_string());
                self.settle(&key, &mut object);
                r.store.put(&key, object, |key, change| r.sink.change(key, change));
                rv
            }
            WatchEvent::Deleted(mut object) => {
                let (key, rv) = (object.named().key(), object.named().version.to_string());
                self.settle(&key, &mut object);
                r.store.remove(&key, object, |key, change| r.sink.change(key, change));
                rv
            }
            WatchEvent::Bookmark { resource_version: rv, initial_events_end } => {
                if self.collecting {
                    self.list_rv.clone_from(&rv);
                } else {
                    r.store.set_resource_version(&rv);
                }
                return Input::Bookmark { rv, initial_end: initial_events_end };
            }
            WatchEvent::Error(status) => return self.failed("watch", &Error::Api(status)),
        };
        self.room().await;
        Input::Event { rv }
    }

    fn failed(&self, what: &str, e: &Error) -> Input {
        let failure = classify(e);
        match failure {
            Failure::Expired | Failure::TooNew => {
                tracing::debug!(resource = %self.r.api.gvr(), error = %e, "{what} has to start anew");
            }
            _ => tracing::warn!(resource = %self.r.api.gvr(), error = %e, "{what} failed"),
        }
        Input::Failed(failure)
    }
}

/// What kind of failure an error is.
pub(crate) fn classify(e: &Error) -> Failure {
    if e.is_expired() {
        Failure::Expired
    } else if e.is_too_large_resource_version() {
        Failure::TooNew
    } else if matches!(e, Error::Decode { .. }) {
        Failure::Garbled
    } else if e.is_invalid() || e.is_bad_request() || e.is_method_not_allowed() {
        Failure::Refused
    } else if e.code().is_some_and(|code| code >= 500) {
        Failure::Internal
    } else {
        Failure::Transient
    }
}
