//! Which events are written, and how: equal events raise a count, similar ones are combined after ten in ten minutes,
//! and a source that talks too much about one object is filtered. Pure.
//! Upstream: client-go/tools/record/events_cache.go.

use std::hash::{DefaultHasher, Hash, Hasher};
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
    /// Hashes of them.
    messages: HashSet<u64>,
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

/// What events are equal by: the source, the object and the type, and more.
fn key(e: &Event, more: [Option<&String>; 3]) -> u64 {
    let (source, object) = (e.source.as_ref(), &e.involved_object);
    let mut hasher = DefaultHasher::new();
    let always = [
        source.and_then(|s| s.component.as_ref()),
        source.and_then(|s| s.host.as_ref()),
        object.kind.as_ref(),
        object.namespace.as_ref(),
        object.name.as_ref(),
        object.uid.as_ref(),
        object.api_version.as_ref(),
        e.type_.as_ref(),
    ];
    always.into_iter().chain(more).for_each(|part| text(part).hash(&mut hasher));
    hasher.finish()
}

fn object_key(e: &Event) -> u64 {
    key(e, [None; 3])
}

fn event_key(e: &Event) -> u64 {
    key(e, [e.involved_object.field_path.as_ref(), e.reason.as_ref(), e.message.as_ref()])
}

fn similar_key(e: &Event) -> u64 {
    key(e, [e.reason.as_ref(), e.reporting_component.as_ref(), e.reporting_instance.as_ref()])
}

fn hash(message: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
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
    fn aggregate(&mut self, event: Event, elapsed: Duration, now: Timestamp) -> (Event, u64) {
        let key = similar_key(&event);
        let fresh = || Similar { messages: HashSet::new(), last: elapsed };
        let mut record = match self.similar.get(key) {
            Some(s) if elapsed.saturating_sub(s.last) <= AGGREGATE_WITHIN => std::mem::replace(s, fresh()),
            _ => fresh(),
        };
        record.messages.insert(hash(text(event.message.as_ref())));
        record.last = elapsed;
        let many = record.messages.len() >= AGGREGATE_AFTER;
        if many {
            // The set never grows beyond what decides.
            let any = record.messages.iter().next().copied();
            any.map(|m| record.messages.remove(&m));
        }
        self.similar.put(key, record);
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
    fn count(&mut self, mut event: Event, key: u64) -> (Event, Option<serde_json::Value>) {
        let before = self.written.get(key).cloned().filter(|w| w.count > 0);
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
        let key = object_key(event);
        if self.spam.get(key).is_none() {
            self.spam.put(key, Bucket::new(SPAM_QPS, SPAM_BURST));
        }
        self.spam.get(key).is_some_and(|bucket| !bucket.try_take(elapsed))
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
