//! How a client's requests are told as spans, where a daemon wants that. This crate knows no traces: the daemon hands in
//! what tells them. Upstream: `WrapperFor` of component-base/tracing around client-go's transport.

use std::sync::Arc;

use http::{HeaderMap, Method};

/// Begins the span of a request: method, the whole URL, the headers that are to name the span.
pub type Tracer = Arc<dyn Fn(&Method, &str, &mut HeaderMap) -> Box<dyn RequestSpan> + Send + Sync>;

/// The span of a request; it ends when it is dropped, which is at the end of the answer's body.
pub trait RequestSpan: Send + Sync {
    /// There is an answer.
    fn answered(&mut self, status: u16);
    /// There is none.
    fn failed(&mut self, why: &str);
}
