//! The W3C headers that say which trace a request belongs to: `traceparent`, `tracestate`, `baggage`.
//! Upstream: `Propagators` of component-base/tracing.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

struct Read<'a>(&'a HeaderMap);

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        let all: Vec<&str> = self.0.get_all(key).iter().filter_map(|v| v.to_str().ok()).collect();
        (!all.is_empty()).then_some(all)
    }
}

struct Write<'a>(&'a mut HeaderMap);

impl Injector for Write<'_> {
    fn set(&mut self, key: &str, value: String) {
        let name = HeaderName::from_bytes(key.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value))
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}

/// What the headers say, on top of `below`.
pub(crate) fn extract(below: &Context, headers: &HeaderMap) -> Context {
    let context = TraceContextPropagator::new().extract_with_context(below, &Read(headers));
    if headers.contains_key("baggage") {
        return BaggagePropagator::new().extract_with_context(&context, &Read(headers));
    }
    context
}

pub(crate) fn write(context: &Context, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(context, &mut Write(headers));
    BaggagePropagator::new().inject_context(context, &mut Write(headers));
}

/// Says in the headers of a request that it belongs to the current span.
pub fn inject(headers: &mut HeaderMap) {
    if crate::is_on() {
        Context::map_current(|context| write(context, headers));
    }
}
