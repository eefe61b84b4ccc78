//! Which events are written, and how: equal events raise a count, similar ones are combined after ten in ten minutes,
//! and a source that talks too much about one object is filtered. Pure.
//! Upstream: client-go/tools/record/events_cache.go.

use std::time::Duration;

use client::limiter::Bucket;
use hashbrown::HashSet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;

use super::lru::Lru;
use super::text;

const ENTRIES: usize = 4096;
const AGGREGATE_AFTER: usize = 10;
const AGGREGATE_WITHIN: Duration = Duration::from_secs(600);
const SPAM_BURST: u32 = 25;
const SPAM_QPS: f64 = 1.0 / 300.0;

struct Similar {
    messages: HashSet<String>,
    last: Duration,
}

#[derive(Clone)]
struct Written {
    count: i32,
    first: Option<Time>,
    name: Option<String>,
    resource_version: Option<String>,
}

/// What to do with an event.
#[derive(Debug)]
pub enum Correlated {
    /// Nothing: too many from this source about this object.
    Skip,
    /// Write it.
    Write {
        /// The event after correlation.
        event: Box<Event>,
        /// For an event that exists already: the patch; if it is gone, the event is created.
        patch: Option<serde_json::Value>,
    },
}

/// Memory of past events, bounded.
pub struct Correlator {
    similar: Lru<Similar>,
    written: Lru<Written>,
    spam: Lru<Bucket>,
}

impl Default for Correlator {
    fn default() -> Self {
        Self { similar: Lru::new(ENTRIES), written: Lru::new(ENTRIES), spam: Lru::new(ENTRIES) }
    }
}

fn object_key(e: &Event) -> Vec<&str> {
    let (source, object) = (e.source.as_ref(), &e.involved_object);
    vec![
        text(source.and_then(|s| s.component.as_ref())),
        text(source.and_then(|s| s.host.as_ref())),
        text(object.kind.as_ref()),
        text(object.namespace.as_ref()),
        text(object.name.as_ref()),
        text(object.uid.as_ref()),
        text(object.api_version.as_ref()),
        text(e.type_.as_ref()),
    ]
}

fn event_key(e: &Event) -> String {
    let mut key = object_key(e);
    key.extend([
        text(e.involved_object.field_path.as_ref()),
        text(e.reason.as_ref()),
        text(e.message.as_ref()),
    ]);
    key.join("\0")
}

fn similar_key(e: &Event) -> String {
    let mut key = object_key(e);
    let reporter = [text(e.reporting_component.as_ref()), text(e.reporting_instance.as_ref())];
    key.extend([text(e.reason.as_ref()), reporter[0], reporter[1]]);
    key.join("\0")
}

impl Correlator {
    /// Decides about an event. `elapsed` is monotonic time since some start, `now` the wall clock.
    pub fn correlate(&mut self, event: Event, elapsed: Duration, now: Timestamp) -> Correlated {
        let (event, key) = self.aggregate(event, elapsed, now);
        let (event, patch) = self.count(event, key);
        if self.is_spam(&event, elapsed) {
            return Correlated::Skip;
        }
        Correlated::Write { event: Box::new(event), patch }
    }

    /// Upstream: EventAggregator.EventAggregate.
    fn aggregate(&mut self, event: Event, elapsed: Duration, now: Timestamp) -> (Event, String) {
        let key = similar_key(&event);
        let fresh = || Similar { messages: HashSet::new(), last: elapsed };
        let mut record = match self.similar.get(&key) {
            Some(s) if elapsed.saturating_sub(s.last) <= AGGREGATE_WITHIN => std::mem::replace(s, fresh()),
            _ => fresh(),
        };
        record.messages.insert(text(event.message.as_ref()).to_string());
        record.last = elapsed;
        let many = record.messages.len() >= AGGREGATE_AFTER;
        if many {
            // The set never grows beyond what decides.
            let any = record.messages.iter().next().cloned();
            any.map(|m| record.messages.remove(&m));
        }
        self.similar.put(key.clone(), record);
        if !many {
            let own = event_key(&event);
            return (event, own);
        }
        let combined = Event {
            metadata: ObjectMeta {
                name: Some(format!(
                    "{}.{:x}",
                    text(event.involved_object.name.as_ref()),
                    now.as_nanosecond()
                )),
                namespace: event.metadata.namespace,
                ..ObjectMeta::default()
            },
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            message: Some(format!("(combined from similar events): {}", text(event.message.as_ref()))),
            involved_object: event.involved_object,
            type_: event.type_,
            reason: event.reason,
            source: event.source,
            ..Event::default()
        };
        (combined, key)
    }

    /// Upstream: eventLogger.eventObserve.
    fn count(&mut self, mut event: Event, key: String) -> (Event, Option<serde_json::Value>) {
        let before = self.written.get(&key).cloned().filter(|w| w.count > 0);
        let mut patch = None;
        if let Some(w) = before {
            event.metadata.name = w.name;
            event.metadata.resource_version = w.resource_version;
            event.first_timestamp = w.first;
            event.count = Some(w.count.saturating_add(1));
            let mut fields = json!({"count": event.count, "lastTimestamp": event.last_timestamp});
            if !text(event.message.as_ref()).is_empty() {
                fields["message"] = json!(event.message);
            }
            patch = Some(fields);
        }
        self.written.put(key, remember(&event));
        (event, patch)
    }

    /// Upstream: EventSourceObjectSpamFilter.Filter.
    fn is_spam(&mut self, event: &Event, elapsed: Duration) -> bool {
        let key = object_key(event).join("\0");
        if self.spam.get(&key).is_none() {
            self.spam.put(key.clone(), Bucket::new(SPAM_QPS, SPAM_BURST));
        }
        self.spam.get(&key).is_some_and(|bucket| !bucket.try_take(elapsed))
    }

    /// The server stored this event. Upstream: eventLogger.updateState.
    pub fn written(&mut self, event: &Event) {
        self.written.put(event_key(event), remember(event));
    }
}

fn remember(event: &Event) -> Written {
    Written {
        count: event.count.unwrap_or(0),
        first: event.first_timestamp.clone(),
        name: event.metadata.name.clone(),
        resource_version: event.metadata.resource_version.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventRecorder, NORMAL, reference};

    fn event(message: &str, at: i64) -> Event {
        let (recorder, _keep) = EventRecorder::to_channel("test");
        let pod = k8s_openapi::api::core::v1::Pod {
            metadata: ObjectMeta {
                name: Some("p".into()),
                namespace: Some("ns".into()),
                ..Default::default()
            },
            ..Default::default()
        };
        let now = Timestamp::from_second(at).unwrap();
        recorder.make(&reference(&pod), Default::default(), NORMAL, "Because", message, now)
    }

    fn feed(c: &mut Correlator, message: &str, at: i64) -> Option<(String, i32, bool)> {
        let elapsed = Duration::from_secs(at.unsigned_abs());
        match c.correlate(event(message, at), elapsed, Timestamp::from_second(at).unwrap()) {
            Correlated::Skip => None,
            Correlated::Write { event, patch } => {
                Some((event.message.unwrap_or_default(), event.count.unwrap_or(0), patch.is_some()))
            }
        }
    }

    #[test]
    fn equal_events_are_counted_and_filtered() {
        let mut c = Correlator::default();
        assert_eq!(feed(&mut c, "m", 0), Some(("m".into(), 1, false)));
        for n in 2..=25 {
            assert_eq!(feed(&mut c, "m", 1), Some(("m".into(), n, true)));
        }
        assert_eq!(feed(&mut c, "m", 2), None);
        assert_eq!(feed(&mut c, "m", 299), None);
        assert_eq!(feed(&mut c, "m", 301), Some(("m".into(), 28, true)));
    }

    #[test]
    fn similar_events_are_combined() {
        let mut c = Correlator::default();
        for n in 0..9 {
            assert_eq!(feed(&mut c, &format!("m{n}"), n), Some((format!("m{n}"), 1, false)));
        }
        let combined = |n: i32| format!("(combined from similar events): m{n}");
        assert_eq!(feed(&mut c, "m9", 9), Some((combined(9), 1, false)));
        assert_eq!(feed(&mut c, "m10", 10), Some((combined(10), 2, true)));
        assert_eq!(feed(&mut c, "m11", 700), Some(("m11".into(), 1, false)));
    }
}
