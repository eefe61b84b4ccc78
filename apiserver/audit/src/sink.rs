//! Where events go. Upstream: `k8s.io/apiserver/pkg/audit/{types,union}.go`, `pkg/server/options/audit.go`.

use std::sync::Arc;

use async_trait::async_trait;

use crate::event::Event;

/// Takes events.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Takes events; false when one is lost, which a strict mode turns into a refused request.
    async fn process(&self, events: &[Arc<Event>]) -> bool;

    /// Writes what is held back. No events are taken afterwards.
    async fn finish(&self) {}
}

/// When a request waits for its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Never: events are held in a buffer, and lost when it is full.
    Batch,
    /// Until they are written; a failure is only logged.
    Blocking,
    /// Until they are written; a request that cannot be recorded on arrival is refused.
    BlockingStrict,
}

impl Mode {
    /// All modes.
    pub const ALL: [Mode; 3] = [Mode::Batch, Mode::Blocking, Mode::BlockingStrict];

    /// Its name.
    pub fn text(self) -> &'static str {
        match self {
            Mode::Batch => "batch",
            Mode::Blocking => "blocking",
            Mode::BlockingStrict => "blocking-strict",
        }
    }
}

/// Goes on when events are lost.
pub struct Lenient(pub Arc<dyn Sink>);

#[async_trait]
impl Sink for Lenient {
    async fn process(&self, events: &[Arc<Event>]) -> bool {
        self.0.process(events).await;
        true
    }

    async fn finish(&self) {
        self.0.finish().await;
    }
}

/// Several sinks; each gets everything.
pub struct Union(pub Vec<Arc<dyn Sink>>);

#[async_trait]
impl Sink for Union {
    async fn process(&self, events: &[Arc<Event>]) -> bool {
        let mut kept = true;
        for sink in &self.0 {
            kept &= sink.process(events).await;
        }
        kept
    }

    async fn finish(&self) {
        for sink in &self.0 {
            sink.finish().await;
        }
    }
}
