//! What the registry and its admission plugins contribute to the audit event of a request.
//!
//! A request that is not recorded has an [`Audit`] that ignores everything, so contributing costs nothing then:
//! what must be computed first is asked for by [`Audit::wants_request`]. The server makes the events of it.
//! Upstream: `k8s.io/apiserver/pkg/audit/{context,request}.go`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::api::resources::RowKind;
use ::api::validation::content;
use bytes::Bytes;
use machinery::Value;
use parking_lot::Mutex;

use crate::api::Format;
use crate::{codec, meta};

/// The contribution to one request's audit event. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<Arc<Recorder>>);

/// What is to be recorded, and what was.
#[derive(Debug, Default)]
struct Recorder {
    request: bool,
    response: bool,
    omit_managed_fields: bool,
    recorded: Mutex<Recorded>,
    /// Nanoseconds by [`Layer`].
    latencies: [AtomicU64; LAYERS.len()],
}

/// A part of the server that a request spends its time in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Who is asking.
    Authentication,
    /// May they.
    Authorization,
    /// May they be somebody else.
    Impersonation,
    /// Waiting for seats.
    Queue,
    /// The store.
    Storage,
    /// Webhooks that change.
    MutatingWebhooks,
    /// Webhooks that refuse; they are called at the same time.
    ValidatingWebhooks,
}

/// Each layer, upstream's name, and whether its times add up; otherwise the longest counts.
/// Upstream: `apiserver/pkg/endpoints/request/webhook_duration.go`.
const LAYERS: [(Layer, &str, bool); 7] = [
    (Layer::Authentication, "authentication", true),
    (Layer::Authorization, "authorization", false),
    (Layer::Impersonation, "impersonation", true),
    (Layer::Queue, "apf-queue-wait", false),
    (Layer::Storage, "etcd", true),
    (Layer::MutatingWebhooks, "mutating-webhook", true),
    (Layer::ValidatingWebhooks, "validating-webhook", false),
];

/// What the parts of the server said.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// Annotations of the event.
    pub annotations: BTreeMap<String, String>,
    /// Names the object that was sent.
    pub sent: Option<Sent>,
    /// The body of the request as JSON.
    pub request_object: Option<Bytes>,
    /// The body of the response as JSON.
    pub response_object: Option<Bytes>,
}

/// The identity of an object in a request body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion`
    pub resource_version: String,
}

impl Audit {
    /// Of a request that is recorded: with its body, with the body of its response, without managed fields.
    pub fn recording(request: bool, response: bool, omit_managed_fields: bool) -> Self {
        Self(Some(Arc::new(Recorder { request, response, omit_managed_fields, ..Recorder::default() })))
    }

    /// Adds an annotation to the event. A key keeps its first value.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        let Some(recorder) = &self.0 else { return };
        let value = value.into();
        let mut recorded = recorder.recorded.lock();
        match recorded.annotations.get(key) {
            None => drop(recorded.annotations.insert(key.to_owned(), value)),
            Some(old) if *old != value => {
                tracing::warn!(
                    "Failed to set annotations[{key:?}] to {value:?}, it has already been set to {old:?}"
                );
            }
            Some(_) => {}
        }
    }

    /// As [`Audit::annotate`], for admission: only keys of the form `domain/name` are taken.
    /// Upstream: `admission/attributes.go` `checkKeyFormat`.
    pub fn annotate_admission(&self, key: &str, value: impl Into<String>) {
        if !self.enabled() {
            return;
        }
        if key.contains('/') && content::qualified_name(key).is_empty() {
            self.annotate(key, value);
        } else {
            tracing::warn!(
                "Failed to set admission audit annotation: annotation key {key:?} has invalid format"
            );
        }
    }

    /// Notes how long a layer took.
    pub fn took(&self, layer: Layer, time: Duration) {
        let Some(recorder) = &self.0 else { return };
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        for ((known, _, adds_up), latency) in LAYERS.iter().zip(&recorder.latencies) {
            if *known != layer {
                continue;
            }
            if *adds_up {
                latency.fetch_add(nanos, Ordering::Relaxed);
            } else {
                latency.fetch_max(nanos, Ordering::Relaxed);
            }
        }
    }

    /// Runs a part of the work of a layer and notes how long it took.
    pub async fn timed<F: Future>(&self, layer: Layer, work: F) -> F::Output {
        if !self.enabled() {
            return work.await;
        }
        let start = Instant::now();
        let result = work.await;
        self.took(layer, start.elapsed());
        result
    }

    /// The layers that took time, by upstream's names.
    pub fn latencies(&self) -> Vec<(&'static str, Duration)> {
        let latencies = self.0.iter().flat_map(|r| &r.latencies).map(|l| l.load(Ordering::Relaxed));
        let named = LAYERS.iter().zip(latencies).filter(|(_, nanos)| *nanos > 0);
        named.map(|((_, name, _), nanos)| (*name, Duration::from_nanos(nanos))).collect()
    }

    /// Whether anything is recorded.
    pub fn enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the bodies of requests, and what was made of them, are recorded.
    pub fn wants_request(&self) -> bool {
        self.0.as_ref().is_some_and(|r| r.request)
    }

    /// Whether the bodies of responses are recorded.
    pub fn wants_response(&self) -> bool {
        self.0.as_ref().is_some_and(|r| r.response)
    }

    /// Whether bodies are recorded without managed fields.
    pub fn omits_managed_fields(&self) -> bool {
        self.0.as_ref().is_some_and(|r| r.omit_managed_fields)
    }

    /// Records the decoded object of a request, in the version it was sent in.
    pub(crate) fn request(&self, object: &Value, kind: RowKind) {
        let Some(recorder) = &self.0 else { return };
        let text = |f: fn(&Value) -> &str| f(object).to_owned();
        let sent = Sent {
            namespace: text(meta::namespace),
            name: text(meta::name),
            uid: text(meta::uid),
            resource_version: text(meta::resource_version),
        };
        let body = recorder.request.then(|| {
            let mut object = object.clone();
            if recorder.omit_managed_fields {
                meta::remove(&mut object, "managedFields");
            }
            codec::encode(&object, kind, Format::Json).ok()
        });
        let mut recorded = recorder.recorded.lock();
        recorded.sent = Some(sent);
        recorded.request_object = body.flatten();
    }

    /// Records the body of a request as it is: JSON.
    pub fn request_document(&self, json: Bytes) {
        if let Some(recorder) = self.0.as_ref().filter(|r| r.request) {
            recorder.recorded.lock().request_object = Some(json);
        }
    }

    /// Records the body of a response: JSON.
    pub fn response_document(&self, json: Bytes) {
        if let Some(recorder) = self.0.as_ref().filter(|r| r.response) {
            recorder.recorded.lock().response_object = Some(json);
        }
    }

    /// What was recorded so far.
    pub fn recorded(&self) -> Recorded {
        self.0.as_ref().map(|r| r.recorded.lock().clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_values_stay() {
        let audit = Audit::recording(false, false, false);
        audit.clone().annotate("k", "1");
        audit.annotate("k", "2");
        audit.request_document(Bytes::from_static(b"{}"));
        let recorded = audit.recorded();
        assert_eq!(recorded.annotations, [("k".to_owned(), "1".to_owned())].into());
        assert!(recorded.request_object.is_none());
        audit.took(Layer::Storage, Duration::from_nanos(2));
        audit.took(Layer::Storage, Duration::from_nanos(3));
        audit.took(Layer::Queue, Duration::from_nanos(2));
        audit.took(Layer::Queue, Duration::from_nanos(1));
        let nanos = [("apf-queue-wait", 2), ("etcd", 5)].map(|(name, n)| (name, Duration::from_nanos(n)));
        assert_eq!(audit.latencies(), nanos);
        Audit::default().annotate("k", "1");
        assert!(!Audit::default().enabled());
    }
}
