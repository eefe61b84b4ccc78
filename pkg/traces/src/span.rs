//! Spans, the current one of a task, and what happens below it.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::Either;
use http::HeaderMap;
use opentelemetry::context::{FutureExt, WithContext};
use opentelemetry::trace::{SpanBuilder, SpanRef, Status, TraceContextExt};
use opentelemetry::{Context, ContextGuard, KeyValue};

use crate::propagate;
use crate::provider::{ON, Traces};

/// What made a span, under the name that upstream's code of the same purpose has, so that what groups by it goes on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Steps of a request.
    Component,
    /// Steps of the API server's filter chain.
    Filters,
    /// HTTP requests, in and out.
    Http,
    /// gRPC calls.
    Grpc,
    /// The kubelet's requests.
    Restful,
    /// The kubelet's work on pods.
    Kubelet,
    /// The kubelet's work on containers.
    Runtime,
    /// The kubelet's work on images.
    Images,
}

impl Scope {
    /// All of them, in order.
    pub(crate) const ALL: [Scope; 8] = [
        Scope::Component,
        Scope::Filters,
        Scope::Http,
        Scope::Grpc,
        Scope::Restful,
        Scope::Kubelet,
        Scope::Runtime,
        Scope::Images,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Scope::Component => "k8s.io/component-base/tracing",
            // Upstream's spelling.
            Scope::Filters => "k8s.op/apiserver/pkg/endpoints/filterlatency",
            Scope::Http => "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp",
            Scope::Grpc => "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc",
            Scope::Restful => {
                "go.opentelemetry.io/contrib/instrumentation/github.com/emicklei/go-restful/otelrestful"
            }
            Scope::Kubelet => "k8s.io/kubernetes/pkg/kubelet",
            Scope::Runtime => "k8s.io/kubernetes/pkg/kubelet/kuberuntime",
            Scope::Images => "k8s.io/kubernetes/pkg/kubelet/images",
        }
    }
}

/// Whether this process started traces.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Longest text of a client in an attribute.
const LONGEST: usize = 4 << 10;

/// A text from outside, cut to a length that the queue can hold many of.
pub fn text(value: &str) -> opentelemetry::Value {
    let mut end = value.len().min(LONGEST);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value.get(..end).unwrap_or_default().to_owned().into()
}

/// A request's audit id, which spans below it show.
#[derive(Clone, Debug)]
pub struct AuditId(pub Arc<str>);

/// The audit id of the current request, cut as upstream cuts it; "" outside of requests.
/// Upstream: `GetAuditIDTruncated` of apiserver/pkg/audit.
pub fn audit_id() -> opentelemetry::Value {
    Context::map_current(|current| match current.get::<AuditId>() {
        Some(AuditId(id)) => opentelemetry::Value::String(id.clone().into()),
        None => "".into(),
    })
}

/// A span that ends when it is dropped, or nothing: where traces are off, or nobody asked for this one.
#[must_use = "a span ends when it is dropped"]
#[derive(Debug, Default)]
pub struct Span(Option<Box<Context>>);

impl Span {
    /// No span.
    pub const fn none() -> Self {
        Span(None)
    }

    pub(crate) fn of(context: Context) -> Self {
        Span(Some(Box::new(context)))
    }

    /// The same span, for what outlives its owner; it ends with the last of both.
    pub fn shared(&self) -> Self {
        Span(self.0.clone())
    }

    /// The span with the audit id that spans below it show.
    pub fn with_audit_id(self, id: &str) -> Self {
        let id = AuditId(Arc::from(id));
        Span(self.0.map(|context| Box::new(context.with_value(id))))
    }

    fn recording(&self) -> Option<SpanRef<'_>> {
        self.0.as_ref().map(|context| context.span()).filter(SpanRef::is_recording)
    }

    /// A value of the span's context.
    pub(crate) fn value<T: 'static>(&self) -> Option<&T> {
        self.0.as_ref()?.get::<T>()
    }

    /// Whether what is told is kept.
    pub fn is_recording(&self) -> bool {
        self.recording().is_some()
    }

    /// Something that happened now.
    pub fn event(&self, name: &'static str, attributes: impl FnOnce() -> Vec<KeyValue>) {
        if let Some(span) = self.recording() {
            span.add_event(name, attributes());
        }
    }

    /// Adds what is known.
    pub fn set(&self, attributes: impl FnOnce() -> Vec<KeyValue>) {
        if let Some(span) = self.recording() {
            span.set_attributes(attributes());
        }
    }

    /// Another name.
    pub fn rename(&self, name: impl FnOnce() -> String) {
        if let Some(span) = self.recording() {
            span.update_name(name());
        }
    }

    /// Marks the span as failed.
    pub fn fail(&self, why: impl FnOnce() -> String) {
        if let Some(span) = self.recording() {
            span.set_status(Status::error(why()));
        }
    }

    /// An error as an event, which does not yet make the span a failed one. Upstream: `RecordError` of the Go SDK.
    pub fn record(&self, kind: &'static str, error: &dyn std::fmt::Display) {
        self.event("exception", || {
            vec![
                KeyValue::new("exception.type", kind),
                KeyValue::new("exception.message", text(&error.to_string())),
            ]
        });
    }

    /// Says in headers that a request belongs to this span.
    pub fn inject(&self, headers: &mut HeaderMap) {
        if let Some(context) = &self.0 {
            propagate::write(context, headers);
        }
    }

    /// Makes it the current span while `work` goes on.
    pub fn run<F: Future>(&self, work: F) -> Traced<F> {
        match &self.0 {
            Some(context) => Either::Left(work.with_context(Context::clone(context))),
            None => Either::Right(work),
        }
    }

    /// Makes it the current span of this thread, for work without waits.
    pub fn enter(&self) -> Option<ContextGuard> {
        self.0.as_ref().map(|context| Context::clone(context).attach())
    }
}

/// A span below the current one. Nothing where there is none, or where the current one is not kept.
pub fn child(name: impl Into<Cow<'static, str>>, attributes: impl FnOnce() -> Vec<KeyValue>) -> Span {
    child_of(Scope::Component, name, attributes)
}

/// As [`child`], by another maker.
pub fn child_of(
    scope: Scope,
    name: impl Into<Cow<'static, str>>,
    attributes: impl FnOnce() -> Vec<KeyValue>,
) -> Span {
    if !is_on() {
        return Span::none();
    }
    Context::map_current(|current| match current.get::<Traces>() {
        Some(traces) if current.span().is_recording() => {
            traces.begin(current, scope, SpanBuilder::from_name(name).with_attributes(attributes()))
        }
        _ => Span::none(),
    })
}

/// The traces that the current span belongs to.
pub(crate) fn current_traces() -> Option<Traces> {
    if is_on() { Context::map_current(|current| current.get::<Traces>().cloned()) } else { None }
}

/// Something that happened now, told to the current span.
pub fn event(name: &'static str, attributes: impl FnOnce() -> Vec<KeyValue>) {
    if is_on() {
        Context::map_current(|current| {
            let span = current.span();
            if span.is_recording() {
                span.add_event(name, attributes());
            }
        });
    }
}

/// Work that is polled with a span as the current one, or as it is.
pub type Traced<F> = Either<WithContext<F>, F>;
