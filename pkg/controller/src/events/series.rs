//! events.k8s.io/v1 events: repetitions become a series, written when it starts, refreshed every half hour, and finished
//! six minutes after the last one. Upstream: client-go/tools/events/event_broadcaster.go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Error, Patch, PatchParams};
use hashbrown::HashMap;
use jiff::Timestamp;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::{Serialize, Serializer};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::wire::{Draft, with_series};
use super::{NORMAL, QUEUE, TRIES, WARNING, event_name, text};

const FINISH: Duration = Duration::from_secs(360);
const REFRESH: Duration = Duration::from_secs(1800);
const PAUSE: Duration = Duration::from_secs(10);
/// Distinct events kept at a time; beyond it the oldest is forgotten and would start a new event.
const ENTRIES: usize = 2048;
/// Writes under way at a time.
const WRITES: usize = 32;

/// An event as it waits and is kept, which is for six minutes at least: its message, and what is asked about it.
struct Noted {
    key: u64,
    namespace: Box<str>,
    name: Box<str>,
    time: Timestamp,
    message: Box<[u8]>,
}

impl Noted {
    fn new(draft: &Draft<'_>) -> Self {
        Self {
            key: draft.key(),
            namespace: draft.namespace.into(),
            name: draft.name.into(),
            time: draft.time,
            message: draft.message().into(),
        }
    }
}

/// Records events.k8s.io/v1 events. Clones share the queue.
#[derive(Clone)]
pub struct SeriesRecorder {
    queue: mpsc::Sender<Arc<Noted>>,
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
    #[cfg(test)]
    fn to_channel(controller: &str) -> (Self, mpsc::Receiver<Arc<Noted>>) {
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
        let namespace = regarding.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or("default");
        let draft = Draft {
            name: &event_name(text(regarding.name.as_ref()), now),
            namespace,
            time: now,
            controller: &self.controller,
            instance: &self.instance,
            action,
            reason,
            regarding: &regarding,
            related,
            note,
            kind,
        };
        let event = Arc::new(Noted::new(&draft));
        if self.queue.try_send(event).is_err() {
            tracing::error!(reason, note, "Unable to record event: too many queued events, dropped event");
        }
    }
}

/// An event that is known, and how often it happened if that was more than once.
#[derive(Clone)]
struct Known {
    event: Arc<Noted>,
    series: Option<EventSeries>,
}

/// Known events. Pure.
#[derive(Default)]
struct Series {
    events: HashMap<u64, Known>,
    /// Their keys, oldest first; some may be gone already.
    order: VecDeque<u64>,
}

impl Series {
    /// What to write for a new event: itself, the start of a series, or nothing.
    fn observe(&mut self, event: Arc<Noted>, now: Timestamp) -> Option<Known> {
        if let Some(known) = self.events.get_mut(&event.key) {
            if let Some(series) = &mut known.series {
                series.count = series.count.saturating_add(1);
                series.last_observed_time = MicroTime(now);
                return None;
            }
            known.series = Some(EventSeries { count: 2, last_observed_time: MicroTime(now) });
            return Some(known.clone());
        }
        while self.events.len() >= ENTRIES
            && let Some(oldest) = self.order.pop_front()
        {
            self.events.remove(&oldest);
        }
        self.order.push_back(event.key);
        let known = Known { event, series: None };
        self.events.insert(known.event.key, known.clone());
        Some(known)
    }

    /// Series that ended, to be written a last time; single events that are old are forgotten.
    fn finish(&mut self, now: Timestamp) -> Vec<Known> {
        let old = |t: Timestamp| now.duration_since(t).unsigned_abs() > FINISH && t < now;
        let mut finished = Vec::new();
        self.events.retain(|_, known| {
            let keep = !old(known.series.as_ref().map_or(known.event.time, |s| s.last_observed_time.0));
            if !keep && known.series.is_some() {
                finished.push(known.clone());
            }
            keep
        });
        let events = &self.events;
        self.order.retain(|k| events.contains_key(k));
        self.events.shrink_to(2 * self.events.len());
        self.order.shrink_to(2 * self.order.len());
        finished
    }

    fn refresh(&self) -> Vec<Known> {
        self.events.values().filter(|known| known.series.is_some()).cloned().collect()
    }
}

async fn write_all(client: Client, mut waiting: mpsc::Receiver<Arc<Noted>>, token: CancellationToken) {
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

async fn write(client: &Client, event: Known) {
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

async fn write_once(client: &Client, known: &Known) -> Result<(), Error> {
    let Known { event, series } = known;
    let api = client.namespaced::<Event>(&event.namespace);
    if let Some(series) = series {
        let patch = Patch::Strategic(json!({ "series": series }));
        match api.patch(&event.name, &patch, &PatchParams::default()).await {
            Err(e) if e.is_not_found() => {}
            other => return other.map(|_| ()),
        }
    }
    let message = |known: &Known| with_series(&known.event.message, known.series.as_ref());
    let prepared = api.prepare_message((Event::API_VERSION, Event::KIND), known, message)?;
    api.create_prepared_unread(&prepared).await
}

/// For servers that take no protobuf: as the type that the message is of.
impl Serialize for Known {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let message = with_series(&self.event.message, self.series.as_ref());
        let sealed = machinery::proto::seal(Event::API_VERSION, Event::KIND, &message);
        let event: Event =
            api::decode(api::MediaType::Protobuf, &sealed).map_err(serde::ser::Error::custom)?;
        event.serialize(to)
    }
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
        let (now, name) = (a.time, a.name.clone());
        let mut s = Series::default();
        assert!(s.observe(a, now).unwrap().series.is_none());
        let second = s.observe(b, now).unwrap();
        assert_eq!((second.series.as_ref().unwrap().count, &second.event.name), (2, &name));
        let written = serde_json::to_value(&second).unwrap();
        assert_eq!((&written["note"], &written["series"]["count"]), (&json!("1"), &json!(2)), "{written}");
        assert!(s.observe(c, now).is_none());
        assert_eq!(s.refresh().len(), 1);
        assert!(s.finish(now + FINISH).is_empty());
        let last = s.finish(now + FINISH + Duration::from_secs(1));
        assert_eq!(last[0].series.as_ref().unwrap().count, 3);
        assert!(s.events.is_empty() && s.events.capacity() == 0);
    }
}
