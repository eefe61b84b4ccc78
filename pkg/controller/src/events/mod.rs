//! Events: what happened to which object, written by a task of its own so that nobody waits for them.
//!
//! [`EventRecorder`] writes core/v1 events, correlated as `correlate.rs` decides; [`SeriesRecorder`] writes
//! events.k8s.io/v1 with series. Both drop events rather than block when 1000 are waiting.
//! Upstream: client-go/tools/record/event.go, tools/events.

mod correlate;
mod lru;
mod series;
mod wire;

pub use correlate::{Correlated, Correlator};
pub use series::SeriesRecorder;

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Client, Error, Kept, Patch, PatchParams, Receipt};
use jiff::Timestamp;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Type of events that are no problem.
pub const NORMAL: &str = "Normal";
/// Type of events that are.
pub const WARNING: &str = "Warning";

/// Waiting events, as upstream.
const QUEUE: usize = 1000;
const TRIES: u32 = 12;
const PAUSE: Duration = Duration::from_secs(10);

/// A reference to an object.
pub fn reference<K: Kept + Resource>(object: &K) -> ObjectReference {
    let some = |s: &str| (!s.is_empty()).then(|| s.to_string());
    let named = object.named();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_string()),
        kind: Some(K::KIND.to_string()),
        name: some(named.name),
        namespace: some(named.namespace),
        uid: some(named.uid),
        resource_version: some(named.version),
        field_path: None,
    }
}

/// Name of an event: the object's name and the time. Upstream: client-go/tools/record/util GenerateEventName.
fn event_name(object: &str, now: Timestamp) -> String {
    let name = format!("{object}.{:x}", now.as_nanosecond());
    let part_ok = |p: &str| {
        !p.is_empty()
            && !p.starts_with('-')
            && !p.ends_with('-')
            && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if name.len() <= 253 && name.split('.').all(part_ok) { name } else { uuid::Uuid::new_v4().to_string() }
}

/// Records core/v1 events. Clones share the queue.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Event>,
    source: EventSource,
}

impl EventRecorder {
    /// Starts the writing task, which ends with the token.
    pub fn new(client: &Client, component: &str, host: &str, token: &CancellationToken) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(write_all(client.clone(), waiting, token.clone()));
        Self { queue, source: source(component, host) }
    }

    /// A recorder whose events go to the returned receiver, for tests.
    pub fn to_channel(component: &str) -> (Self, mpsc::Receiver<Event>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { queue, source: source(component, "") }, waiting)
    }

    /// The same queue under another component's name.
    #[must_use]
    pub fn for_component(&self, component: &str) -> Self {
        let host = self.source.host.clone().unwrap_or_default();
        Self { queue: self.queue.clone(), source: source(component, &host) }
    }

    /// Records an event. Never waits; events beyond the queue's bound are dropped with a log line.
    pub fn event(&self, object: &ObjectReference, kind: &str, reason: &str, message: &str) {
        self.annotated(object, BTreeMap::new(), kind, reason, message);
    }

    /// Records an event with annotations.
    pub fn annotated(
        &self,
        object: &ObjectReference,
        annotations: BTreeMap<String, String>,
        kind: &str,
        reason: &str,
        message: &str,
    ) {
        if kind != NORMAL && kind != WARNING {
            tracing::error!(kind, reason, "Unsupported event type");
            return;
        }
        // Upstream shows them from level 3 on.
        tracing::debug!(
            object = format!("{}/{}", text(object.namespace.as_ref()), text(object.name.as_ref())),
            kind = text(object.kind.as_ref()),
            r#type = kind,
            reason,
            message,
            "Event occurred"
        );
        let event = self.make(object, annotations, kind, reason, message, Timestamp::now());
        if self.queue.try_send(event).is_err() {
            tracing::error!(reason, message, "Unable to record event: too many queued events, dropped event");
        }
    }

    fn make(
        &self,
        object: &ObjectReference,
        annotations: BTreeMap<String, String>,
        kind: &str,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Event {
        let namespace =
            object.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into());
        Event {
            metadata: ObjectMeta {
                name: Some(event_name(text(object.name.as_ref()), now)),
                namespace: Some(namespace),
                annotations: (!annotations.is_empty()).then_some(annotations),
                ..ObjectMeta::default()
            },
            involved_object: object.clone(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            type_: Some(kind.into()),
            source: Some(self.source.clone()),
            reporting_component: self.source.component.clone(),
            reporting_instance: self.source.host.clone(),
            ..Event::default()
        }
    }
}

fn text(s: Option<&String>) -> &str {
    s.map_or("", String::as_str)
}

fn source(component: &str, host: &str) -> EventSource {
    EventSource { component: Some(component.into()), host: (!host.is_empty()).then(|| host.into()) }
}

async fn write_all(client: Client, mut waiting: mpsc::Receiver<Event>, token: CancellationToken) {
    let mut correlator = Correlator::default();
    let start = tokio::time::Instant::now();
    loop {
        let event = tokio::select! {
            event = waiting.recv() => event,
            () = token.cancelled() => {
                drain(&client, &mut waiting, &mut correlator, start).await;
                return;
            }
        };
        let Some(event) = event else { return };
        let Correlated::Write { event, patch } =
            correlator.correlate(event, start.elapsed(), Timestamp::now())
        else {
            continue;
        };
        tokio::select! {
            () = write(&client, *event, patch, &mut correlator) => {}
            () = token.cancelled() => return,
        }
    }
}

/// The last words of a daemon ("stopped leading") come just after the token ends; they are tried once, for a second.
async fn drain(
    client: &Client,
    waiting: &mut mpsc::Receiver<Event>,
    correlator: &mut Correlator,
    start: tokio::time::Instant,
) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    while let Ok(Some(event)) = tokio::time::timeout_at(deadline, waiting.recv()).await {
        if let Correlated::Write { event, patch } =
            correlator.correlate(event, start.elapsed(), Timestamp::now())
        {
            let _ = tokio::time::timeout_at(deadline, write_once(client, &event, patch.as_ref())).await;
        }
    }
}

async fn write(
    client: &Client,
    mut event: Event,
    patch: Option<serde_json::Value>,
    correlator: &mut Correlator,
) {
    for attempt in 0..TRIES {
        match write_once(client, &event, patch.as_ref()).await {
            Ok(written) => {
                event.metadata.resource_version = Some(written.named().version.to_string());
                return correlator.written(&event);
            }
            Err(e @ Error::Api(_)) => {
                if e.is_already_exists() || e.is_namespace_terminating() {
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
        // The first pause is random, so that clients do not come back in step after an outage.
        let factor = if attempt == 0 { rand::random::<f64>() } else { 1.0 };
        tokio::time::sleep(PAUSE.mul_f64(factor)).await;
    }
    tracing::error!("Unable to write event (retry limit exceeded!)");
}

async fn write_once(
    client: &Client,
    event: &Event,
    patch: Option<&serde_json::Value>,
) -> Result<Receipt, Error> {
    let api = client.namespaced::<Event>(text(event.metadata.namespace.as_ref()));
    if let Some(patch) = patch {
        let name = text(event.metadata.name.as_ref());
        let patch = Patch::Strategic(patch.clone());
        match api.patch_for_receipt(name, "", &patch, &PatchParams::default()).await {
            Err(e) if e.is_not_found() => {}
            other => return other,
        }
    }
    let mut fresh = event.clone();
    fresh.metadata.resource_version = None;
    api.create_for_receipt(&fresh).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid() {
        let now = Timestamp::from_nanosecond(0x1234_5678).unwrap();
        assert_eq!(event_name("pod-a", now), "pod-a.12345678");
        assert_eq!(event_name("system:x", now).len(), 36);
        assert_eq!(event_name(&"a".repeat(250), now).len(), 36);
    }
}
