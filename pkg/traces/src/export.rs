//! What stands around the library's batches: a bound on what waits, counts of what was lost, and few words about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use parking_lot::Mutex;

/// Spans that may wait or be under way. Upstream: `DefaultMaxQueueSize` of the Go SDK.
pub(crate) const QUEUE: usize = 2048;
/// How often a failure that goes on is told.
const REPEAT: Duration = Duration::from_secs(300);

/// Spans on their way, and spans lost.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: AtomicUsize,
    dropped: AtomicU64,
    lost: AtomicU64,
}

impl Queue {
    /// Whether one more may wait; if not it counts as dropped.
    fn enter(&self) -> bool {
        let room = |n: usize| (n < QUEUE).then_some(n + 1);
        let entered = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok();
        if !entered {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    /// So many have been sent, or could not be.
    fn leave(&self, spans: usize, sent: bool) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        if !sent {
            self.lost.fetch_add(spans as u64, Ordering::Relaxed);
        }
    }

    /// Spans that found the queue full, and spans that the collector did not take.
    pub(crate) fn losses(&self) -> (u64, u64) {
        (self.dropped.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }
}

/// Lets spans into the library's queue while there is room.
#[derive(Debug)]
pub(crate) struct Bounded<P> {
    pub(crate) inner: P,
    pub(crate) queue: Arc<Queue>,
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.enter() {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// When to speak of failures: at the first one, then rarely, and when they end.
#[derive(Debug, Default)]
struct Told {
    failing: Option<Instant>,
}

/// What to say of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Say {
    Nothing,
    Failed,
    Recovered,
}

impl Told {
    fn about(&mut self, failed: bool, now: Instant) -> Say {
        match (failed, self.failing) {
            (true, Some(last)) if now.duration_since(last) < REPEAT => Say::Nothing,
            (true, _) => {
                self.failing = Some(now);
                Say::Failed
            }
            (false, Some(_)) => {
                self.failing = None;
                Say::Recovered
            }
            (false, None) => Say::Nothing,
        }
    }
}

/// Counts what leaves the queue, and says when the collector cannot be reached.
#[derive(Debug)]
pub(crate) struct Reporting<E> {
    inner: E,
    queue: Arc<Queue>,
    collector: String,
    told: Mutex<Told>,
}

impl<E> Reporting<E> {
    pub(crate) fn new(inner: E, queue: Arc<Queue>, collector: String) -> Self {
        Self { inner, queue, collector, told: Mutex::default() }
    }
}

impl<E: SpanExporter> SpanExporter for Reporting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        self.queue.leave(spans, result.is_ok());
        let say = self.told.lock().about(result.is_err(), Instant::now());
        let (dropped, lost) = self.queue.losses();
        match (&result, say) {
            (Err(error), Say::Failed) => tracing::warn!(
                collector = self.collector,
                err = %error,
                lost,
                dropped,
                "Traces could not be sent; check that an OTLP collector listens there without TLS"
            ),
            (_, Say::Recovered) => {
                tracing::info!(collector = self.collector, lost, dropped, "Traces are sent again");
            }
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_queues_drop_and_count() {
        let queue = Queue::default();
        assert_eq!((0..QUEUE + 3).filter(|_| queue.enter()).count(), QUEUE);
        assert_eq!(queue.losses(), (3, 0));
        queue.leave(512, false);
        queue.leave(512, true);
        assert_eq!((0..QUEUE).filter(|_| queue.enter()).count(), 1024);
        assert_eq!(queue.losses(), (3 + 1024, 512));
    }

    #[test]
    fn lasting_failures_are_told_rarely() {
        let (mut told, start) = (Told::default(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        for (failed, second, want) in [
            (false, 0, Say::Nothing),
            (true, 5, Say::Failed),
            (true, 10, Say::Nothing),
            (true, 304, Say::Nothing),
            (true, 305, Say::Failed),
            (true, 310, Say::Nothing),
            (false, 315, Say::Recovered),
            (false, 320, Say::Nothing),
            (true, 325, Say::Failed),
        ] {
            assert_eq!(told.about(failed, at(second)), want, "{failed} at {second}");
        }
    }
}
