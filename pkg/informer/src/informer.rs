//! One shared watch with its store and subscribers.

use std::sync::Arc;
use std::time::Duration;

use client::{Api, Kept, ListParams};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::deliver::{Event, Joining, Queue, Told};
use crate::group::{Group, Subscriber, Subscription};
use crate::reflector::{Reflector, Sink, Transform};
use crate::store::{Change, IndexFn, Key, Store};

/// What an informer watches and keeps.
pub struct Options<K> {
    /// Namespace, "" for all.
    pub namespace: String,
    /// Label selector in text form.
    pub label_selector: String,
    /// Field selector in text form.
    pub field_selector: String,
    /// Reduces objects to what is read, after [`Kept::settle`]. The first caller's counts.
    pub transform: Option<Transform<K>>,
    /// Named indexes; those of all callers exist.
    pub indexes: Vec<(&'static str, IndexFn<K>)>,
}

impl<K> Default for Options<K> {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            label_selector: String::new(),
            field_selector: String::new(),
            transform: None,
            indexes: Vec::new(),
        }
    }
}

impl<K> Options<K> {
    /// With an index.
    #[must_use]
    pub fn index(
        mut self,
        name: &'static str,
        f: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.indexes.push((name, Arc::new(f)));
        self
    }

    /// With a transform.
    #[must_use]
    pub fn transform(mut self, f: impl Fn(&mut K) + Send + Sync + 'static) -> Self {
        self.transform = Some(Arc::new(f));
        self
    }

    /// Only objects that match a field selector.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.field_selector = selector.to_string();
        self
    }

    /// Only objects that match a label selector.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.label_selector = selector.to_string();
        self
    }

    /// Only objects of a namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_string();
        self
    }
}

struct Hub<K> {
    queues: Mutex<Vec<Arc<Queue<K>>>>,
    synced: watch::Sender<bool>,
}

impl<K: Kept> Sink<K> for Hub<K> {
    fn change(&self, key: &Key, change: Change<K>) {
        let event = Event::from(change);
        for queue in self.queues.lock().iter() {
            queue.push(key, event.clone());
        }
    }

    fn synced(&self) {
        // The lock makes a new subscriber see either the flag or the mark, not both.
        let queues = self.queues.lock();
        if !self.synced.send_replace(true) {
            queues.iter().for_each(|q| q.push_synced());
        }
    }

    fn full(&self) -> Option<Arc<Queue<K>>> {
        self.queues.lock().iter().find(|queue| !queue.has_room()).cloned()
    }
}

struct Shared<K> {
    api: Api<K>,
    options: (String, String, Option<Transform<K>>),
    store: Store<K>,
    hub: Arc<Hub<K>>,
    started: Mutex<Option<CancellationToken>>,
    early: Mutex<Group<K>>,
    /// The queue of the group, once the informer has started.
    group: Mutex<Option<Arc<Queue<K>>>>,
}

/// A shared informer; clones are the same one.
pub struct Informer<K>(Arc<Shared<K>>);

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Kept> Informer<K> {
    /// An informer that is not started. Factories make shared ones.
    pub fn new(api: Api<K>, options: Options<K>) -> Self {
        let api = api.without_managed_fields();
        let store = Store::default();
        for (name, function) in options.indexes {
            store.add_index(name, function);
        }
        let hub = Arc::new(Hub { queues: Mutex::default(), synced: watch::Sender::new(false) });
        Self(Arc::new(Shared {
            api,
            options: (options.label_selector, options.field_selector, options.transform),
            store,
            hub,
            started: Mutex::new(None),
            early: Mutex::default(),
            group: Mutex::default(),
        }))
    }

    /// The resource.
    pub fn gvr(&self) -> &client::Gvr {
        self.0.api.gvr()
    }

    /// The objects.
    pub fn store(&self) -> Store<K> {
        self.0.store.clone()
    }

    /// Adds an index; also while running.
    pub fn add_index(&self, name: &'static str, f: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        self.0.store.add_index(name, Arc::new(f));
    }

    /// Starts the watch unless it runs; it ends with the token.
    pub fn start(&self, token: &CancellationToken) {
        let mut started = self.0.started.lock();
        if started.as_ref().is_some_and(|t| !t.is_cancelled()) {
            return;
        }
        let token = token.child_token();
        *started = Some(token.clone());
        let early = std::mem::take(&mut *self.0.early.lock());
        if !early.is_empty() {
            self.serve(early);
        }
        let (labels, fields, transform) = &self.0.options;
        let reflector = Reflector {
            api: self.0.api.clone(),
            label_selector: labels.clone(),
            field_selector: fields.clone(),
            transform: transform.clone(),
            store: self.0.store.clone(),
            sink: self.0.hub.clone(),
            streaming: true,
        };
        let hub = self.0.hub.clone();
        tokio::spawn(async move {
            reflector.run(token).await;
            hub.queues.lock().drain(..).for_each(|q| q.close());
        });
    }

    /// Ends the watch of this informer alone.
    pub fn stop(&self) {
        if let Some(token) = &*self.0.started.lock() {
            token.cancel();
        }
    }

    /// Whether it was stopped: what its store holds is no longer followed.
    pub fn has_ended(&self) -> bool {
        self.0.started.lock().as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// Whether a complete state has been received.
    pub fn has_synced(&self) -> bool {
        self.0.store.has_synced()
    }

    /// Waits for a complete state; `false` if the token ends first.
    pub async fn wait_synced(&self, token: &CancellationToken) -> bool {
        let mut synced = self.0.hub.synced.subscribe();
        tokio::select! {
            result = synced.wait_for(|s| *s) => result.is_ok(),
            () = token.cancelled() => false,
        }
    }

    /// Newest version the store has reached.
    pub fn resource_version(&self) -> String {
        self.0.store.resource_version()
    }

    /// Version the server's store is at. The server is asked.
    ///
    /// # Errors
    /// The call's.
    pub async fn server_version(&self) -> client::Result<String> {
        let params = ListParams { limit: 1, ..ListParams::default() };
        let page = self.0.api.list(&params).await?;
        Ok(page.metadata.resource_version.unwrap_or_default())
    }

    /// Events as a stream, to be read by the caller's own task. Starts with an addition for each present object.
    pub fn events(&self) -> Events<K> {
        let queue = Queue::new();
        // The store is locked so that no change falls between the present objects and the subscription.
        self.0.store.with_objects(|objects| {
            for (key, object) in objects {
                queue.push(key, Event::Added(object.clone()));
            }
            let mut queues = self.0.hub.queues.lock();
            if *self.0.hub.synced.borrow() {
                queue.push_synced();
            }
            queues.push(queue.clone());
        });
        Events { queue, hub: self.0.hub.clone(), synced: watch::Sender::new(false) }
    }

    /// Calls a function for every event, in order, beginning with an addition for each present object. It must not wait for
    /// anything: subscribers are called one after the other.
    pub fn subscribe(&self, handler: impl Fn(Event<K>) + Send + Sync + 'static) -> Subscription {
        let (subscriber, subscription) = Subscriber::new(handler);
        // The lock keeps the informer from starting meanwhile.
        let started = self.0.started.lock();
        if started.is_none() {
            self.0.early.lock().add(subscriber);
            return subscription;
        }
        let group = self.0.group.lock().clone();
        if let Some(subscriber) = self.join(group, subscriber) {
            self.serve(Group::of(subscriber));
        }
        subscription
    }

    /// Serves a group from now on.
    fn serve(&self, group: Group<K>) {
        let events = self.events();
        *self.0.group.lock() = Some(events.queue.clone());
        tokio::spawn(group.run(events));
    }

    /// Lets a subscriber join a group that is served, unless there is none.
    fn join(&self, group: Option<Arc<Queue<K>>>, subscriber: Subscriber<K>) -> Option<Subscriber<K>> {
        let Some(queue) = group else { return Some(subscriber) };
        // The store is locked so that no change falls between the present objects and those that follow.
        let refused = self.0.store.with_objects(|objects| {
            let present = objects.values().cloned().collect();
            queue.join(Box::new(Joining { subscriber, present })).err()
        });
        refused.map(|back| back.subscriber)
    }

    /// As [`Informer::subscribe`], and repeats every object as an update each `resync` period.
    pub fn subscribe_every(
        &self,
        resync: Option<Duration>,
        handler: impl Fn(Event<K>) + Send + Sync + 'static,
    ) -> Subscription {
        let mut events = self.events();
        let synced = events.synced.subscribe();
        let store = self.store();
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        tokio::spawn(async move {
            let mut timer =
                resync.map(|period| tokio::time::interval_at(tokio::time::Instant::now() + period, period));
            loop {
                let tick = async {
                    match &mut timer {
                        Some(timer) => timer.tick().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    event = events.next() => match event {
                        Some(event) => handler(event),
                        None => return,
                    },
                    _ = tick => store.for_each(|key, object| {
                        events.queue.push(key, Event::Updated { old: object.clone(), new: object.clone() });
                    }),
                    () = token.cancelled() => return,
                }
            }
        });
        Subscription::new(synced, cancel)
    }
}

/// Events of an informer, for a caller that reads them in its own task.
pub struct Events<K> {
    queue: Arc<Queue<K>>,
    hub: Arc<Hub<K>>,
    synced: watch::Sender<bool>,
}

impl<K> Events<K> {
    /// The next event; `None` once the informer has ended. Cancel safety: safe.
    pub async fn next(&mut self) -> Option<Event<K>> {
        let synced = &self.synced;
        self.told(|_| {
            synced.send_replace(true);
        })
        .await
    }

    pub(crate) async fn told(&self, told: impl FnMut(Told<K>)) -> Option<Event<K>> {
        self.queue.next(told).await
    }

    /// Whether the events of the initial state have all been handed out.
    pub fn has_synced(&self) -> bool {
        self.queue.has_synced()
    }
}

impl<K> Drop for Events<K> {
    fn drop(&mut self) {
        self.queue.close();
        self.hub.queues.lock().retain(|q| !Arc::ptr_eq(q, &self.queue));
    }
}
