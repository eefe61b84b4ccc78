//! events.k8s.io/v1 events: repetitions become a series, written when it starts, refreshed every half hour, and finished
//! six minutes after the last one. Upstream: client-go/tools/events/event_broadcaster.go.

use std::time::Duration;

use client::{Client, Error, Patch, PatchParams};
use hashbrown::HashMap;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{NORMAL, QUEUE, TRIES, WARNING, event_name, text};

const FINISH: Duration = Duration::from_secs(360);
const REFRESH: Duration = Duration::from_secs(1800);
const PAUSE: Duration = Duration::from_secs(10);
/// Distinct events kept at a time; beyond it the oldest is forgotten and would start a new event.
const ENTRIES: usize = 16_384;

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
        regarding: &ObjectReference,
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
            regarding: Some(regarding.clone()),
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
fn key(e: &Event) -> String {
    let part = |r: Option<&ObjectReference>| serde_json::to_string(&r).unwrap_or_default();
    [
        text(e.type_.as_ref()),
        text(e.action.as_ref()),
        text(e.reason.as_ref()),
        text(e.reporting_controller.as_ref()),
        text(e.reporting_instance.as_ref()),
        &part(e.regarding.as_ref()),
        &part(e.related.as_ref()),
    ]
    .join("\0")
}

/// Known events. Pure.
#[derive(Default)]
struct Series(HashMap<String, Event>);

impl Series {
    /// What to write for a new event: itself, the start of a series, or nothing.
    fn observe(&mut self, event: Event, now: Timestamp) -> Option<Event> {
        let key = key(&event);
        if let Some(known) = self.0.get_mut(&key) {
            if let Some(series) = &mut known.series {
                series.count = series.count.saturating_add(1);
                series.last_observed_time = MicroTime(now);
                return None;
            }
            known.series = Some(EventSeries { count: 2, last_observed_time: MicroTime(now) });
            return Some(known.clone());
        }
        if self.0.len() >= ENTRIES {
            let oldest =
                self.0.iter().min_by_key(|(_, e)| e.event_time.as_ref().map(|t| t.0)).map(|(k, _)| k.clone());
            oldest.map(|k| self.0.remove(&k));
        }
        self.0.insert(key, event.clone());
        Some(event)
    }

    /// Series that ended, to be written a last time; single events that are old are forgotten.
    fn finish(&mut self, now: Timestamp) -> Vec<Event> {
        let old = |t: Timestamp| now.duration_since(t).unsigned_abs() > FINISH && t < now;
        let mut finished = Vec::new();
        self.0.retain(|_, e| {
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
        finished
    }

    fn refresh(&self) -> Vec<Event> {
        self.0.values().filter(|e| e.series.is_some()).cloned().collect()
    }
}

async fn write_all(client: Client, mut waiting: mpsc::Receiver<Event>, token: CancellationToken) {
    let mut known = Series::default();
    let start = tokio::time::Instant::now();
    let mut finish = tokio::time::interval_at(start + FINISH, FINISH);
    let mut refresh = tokio::time::interval_at(start + REFRESH, REFRESH);
    loop {
        let batch = tokio::select! {
            event = waiting.recv() => match event {
                Some(event) => known.observe(event, Timestamp::now()).into_iter().collect(),
                None => return,
            },
            _ = finish.tick() => known.finish(Timestamp::now()),
            _ = refresh.tick() => known.refresh(),
            () = token.cancelled() => return,
        };
        for event in batch {
            tokio::select! {
                () = write(&client, event) => {}
                () = token.cancelled() => return,
            }
        }
    }
}

async fn write(client: &Client, event: Event) {
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
    api.create(event).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_becomes_a_series() {
        let (recorder, mut out) = SeriesRecorder::to_channel("test");
        let pod = ObjectReference { name: Some("p".into()), ..ObjectReference::default() };
        let mut make = |note: &str| {
            recorder.event(&pod, None, WARNING, "FailedScheduling", "Scheduling", note);
            out.try_recv().unwrap()
        };
        let (a, b, c) = (make("1"), make("2"), make("3"));
        let now = a.event_time.clone().unwrap().0;
        let mut s = Series::default();
        assert!(s.observe(a.clone(), now).unwrap().series.is_none());
        let second = s.observe(b, now).unwrap();
        assert_eq!((second.series.unwrap().count, &second.metadata.name), (2, &a.metadata.name));
        assert!(s.observe(c, now).is_none());
        assert_eq!(s.refresh().len(), 1);
        assert!(s.finish(now + FINISH).is_empty());
        let last = s.finish(now + FINISH + Duration::from_secs(1));
        assert_eq!(last[0].series.as_ref().unwrap().count, 3);
        assert!(s.0.is_empty());
    }
}
