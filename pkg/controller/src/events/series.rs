//! events.k8s.io/v1 events: repetitions become a series, written when it starts, refreshed every half hour, and finished
//! six minutes after the last one. Upstream: client-go/tools/events/event_broadcaster.go.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Error, Patch, PatchParams};
use hashbrown::HashMap;
use jiff::Timestamp;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::wire;
use super::{NORMAL, QUEUE, TRIES, WARNING, event_name, text};

const FINISH: Duration = Duration::from_secs(360);
const REFRESH: Duration = Duration::from_secs(1800);
const PAUSE: Duration = Duration::from_secs(10);
/// Distinct events kept at a time; beyond it the oldest is forgotten and would start a new event.
const ENTRIES: usize = 2048;
/// Writes under way at a time.
const WRITES: usize = 32;

/// Records events.k8s.io/v1 events. Clones share the queue.
#[derive(Clone)]
pub struct SeriesRecorder {
    queue: mpsc::Sender<Event>,
    controller: String,
    instance: String,
}

impl SeriesRecorder {
    /// Starts the writing task, which ends with the token. The instance is `controller-host`.
    pub fn new(client: &Client, controller: &str, host: &str, token: &CancellationToken) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(write_all(client.clone(), waiting, token.clone()));
        Self { queue, controller: controller.into(), instance: format!("{controller}-{host}") }
    }

    /// A recorder whose events go to the returned receiver, for tests.
    pub fn to_channel(controller: &str) -> (Self, mpsc::Receiver<Event>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { queue, controller: controller.into(), instance: controller.into() }, waiting)
    }

    /// The same queue under another controller's name (scheduler profiles).
    #[must_use]
    pub fn for_controller(&self, controller: &str, host: &str) -> Self {
        let instance = format!("{controller}-{host}");
        Self { queue: self.queue.clone(), controller: controller.into(), instance }
    }

    /// Records an event. Never waits; events beyond the queue's bound are dropped with a log line.
    pub fn event(
        &self,
        regarding: ObjectReference,
        related: Option<&ObjectReference>,
        kind: &str,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        if kind != NORMAL && kind != WARNING {
            tracing::error!(kind, reason, "Unsupported event type");
            return;
        }
        let now = Timestamp::now();
        let namespace =
            regarding.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(event_name(text(regarding.name.as_ref()), now)),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(self.instance.clone()),
            action: Some(action.into()),
            reason: Some(reason.into()),
            regarding: Some(regarding),
            related: related.cloned(),
            note: Some(note.into()),
            type_: Some(kind.into()),
            ..Event::default()
        };
        if self.queue.try_send(event).is_err() {
            tracing::error!(reason, note, "Unable to record event: too many queued events, dropped event");
        }
    }
}

/// Events that differ only in their note and time are one series. Upstream: getKey.
fn key(e: &Event) -> u64 {
    let mut hasher = DefaultHasher::new();
    let texts = [&e.type_, &e.action, &e.reason, &e.reporting_controller, &e.reporting_instance];
    texts.hash(&mut hasher);
    for reference in [&e.regarding, &e.related] {
        let Some(r) = reference else { continue };
        let parts =
            [&r.api_version, &r.kind, &r.namespace, &r.name, &r.uid, &r.resource_version, &r.field_path];
        parts.hash(&mut hasher);
    }
    hasher.finish()
}

/// Known events. Pure.
#[derive(Default)]
struct Series {
    events: HashMap<u64, Arc<Event>>,
    /// Their keys, oldest first; some may be gone already.
    order: VecDeque<u64>,
}

impl Series {
    /// What to write for a new event: itself, the start of a series, or nothing.
    fn observe(&mut self, event: Event, now: Timestamp) -> Option<Arc<Event>> {
        let key = key(&event);
        if let Some(shared) = self.events.get_mut(&key) {
            let known = Arc::make_mut(shared);
            if let Some(series) = &mut known.series {
                series.count = series.count.saturating_add(1);
                series.last_observed_time = MicroTime(now);
                return None;
            }
            known.series = Some(EventSeries { count: 2, last_observed_time: MicroTime(now) });
            return Some(shared.clone());
        }
        while self.events.len() >= ENTRIES
            && let Some(oldest) = self.order.pop_front()
        {
            self.events.remove(&oldest);
        }
        self.order.push_back(key);
        let event = Arc::new(event);
        self.events.insert(key, event.clone());
        Some(event)
    }

    /// Series that ended, to be written a last time; single events that are old are forgotten.
    fn finish(&mut self, now: Timestamp) -> Vec<Arc<Event>> {
        let old = |t: Timestamp| now.duration_since(t).unsigned_abs() > FINISH && t < now;
        let mut finished = Vec::new();
        self.events.retain(|_, e| {
            let last = match &e.series {
                Some(s) => Some(s.last_observed_time.0),
                None => e.event_time.as_ref().map(|t| t.0),
            };
            let keep = !last.is_some_and(old);
            if !keep && e.series.is_some() {
                finished.push(e.clone());
            }
            keep
        });
        let events = &self.events;
        self.order.retain(|k| events.contains_key(k));
        finished
    }

    fn refresh(&self) -> Vec<Arc<Event>> {
        self.events.values().filter(|e| e.series.is_some()).cloned().collect()
    }
}

async fn write_all(client: Client, mut waiting: mpsc::Receiver<Event>, token: CancellationToken) {
    let mut known = Series::default();
    let start = tokio::time::Instant::now();
    let mut finish = tokio::time::interval_at(start + FINISH, FINISH);
    let mut refresh = tokio::time::interval_at(start + REFRESH, REFRESH);
    let mut writes = JoinSet::new();
    loop {
        let batch = tokio::select! {
            Some(_) = writes.join_next(), if !writes.is_empty() => continue,
            event = waiting.recv() => match event {
                Some(event) => known.observe(event, Timestamp::now()).into_iter().collect(),
                None => return,
            },
            _ = finish.tick() => known.finish(Timestamp::now()),
            _ = refresh.tick() => known.refresh(),
            () = token.cancelled() => return,
        };
        for event in batch {
            if writes.len() >= WRITES {
                tokio::select! {
                    _ = writes.join_next() => {}
                    () = token.cancelled() => return,
                }
            }
            let client = client.clone();
            writes.spawn(async move { write(&client, event).await });
        }
    }
}

async fn write(client: &Client, event: Arc<Event>) {
    for _ in 0..TRIES {
        match write_once(client, &event).await {
            Ok(()) => return,
            // The event of a series appeared between patch and create: patch again.
            Err(e) if e.is_already_exists() && event.series.is_some() => {}
            Err(e @ Error::Api(_)) => {
                if e.is_already_exists() {
                    tracing::debug!(error = %e, "Server rejected event (will not retry!)");
                } else {
                    tracing::error!(error = %e, "Server rejected event (will not retry!)");
                }
                return;
            }
            Err(e @ (Error::Encode { .. } | Error::Invalid(_))) => {
                tracing::error!(error = %e, "Unable to construct event (will not retry!)");
                return;
            }
            Err(e) => tracing::error!(error = %e, "Unable to write event (may retry after sleeping)"),
        }
        tokio::time::sleep(PAUSE.mul_f64(1.0 + 0.25 * rand::random::<f64>())).await;
    }
    tracing::error!("Unable to write event (retry limit exceeded!)");
}

async fn write_once(client: &Client, event: &Event) -> Result<(), Error> {
    let api = client.namespaced::<Event>(text(event.metadata.namespace.as_ref()));
    if let Some(series) = &event.series {
        let patch = Patch::Strategic(json!({ "series": series }));
        match api.patch(text(event.metadata.name.as_ref()), &patch, &PatchParams::default()).await {
            Err(e) if e.is_not_found() => {}
            other => return other.map(|_| ()),
        }
    }
    let prepared = api.prepare_message((Event::API_VERSION, Event::KIND), event, wire::message)?;
    api.create_prepared_unread(&prepared).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_becomes_a_series() {
        let (recorder, mut out) = SeriesRecorder::to_channel("test");
        let pod = ObjectReference { name: Some("p".into()), ..ObjectReference::default() };
        let mut make = |note: &str| {
            recorder.event(pod.clone(), None, WARNING, "FailedScheduling", "Scheduling", note);
            out.try_recv().unwrap()
        };
        let (a, b, c) = (make("1"), make("2"), make("3"));
        let now = a.event_time.clone().unwrap().0;
        let mut s = Series::default();
        assert!(s.observe(a.clone(), now).unwrap().series.is_none());
        let second = s.observe(b, now).unwrap();
        assert_eq!((second.series.as_ref().unwrap().count, &second.metadata.name), (2, &a.metadata.name));
        assert!(s.observe(c, now).is_none());
        assert_eq!(s.refresh().len(), 1);
        assert!(s.finish(now + FINISH).is_empty());
        let last = s.finish(now + FINISH + Duration::from_secs(1));
        assert_eq!(last[0].series.as_ref().unwrap().count, 3);
        assert!(s.events.is_empty());
    }
}
