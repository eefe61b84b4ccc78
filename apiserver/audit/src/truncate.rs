//! Keeps events and batches below a size: bodies go first, then the event. Upstream: `plugin/pkg/audit/truncate`.

use std::sync::Arc;

use async_trait::async_trait;

use crate::event::{Event, Level};
use crate::metrics;
use crate::sink::Sink;

const PLUGIN: &str = "truncate";

/// The limits, in bytes of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one event.
    pub event: usize,
    /// Of the events handed on at once.
    pub batch: usize,
}

/// The sink before another.
pub struct Truncate {
    limits: Limits,
    next: Arc<dyn Sink>,
}

impl Truncate {
    /// Stands before `next`.
    pub fn new(limits: Limits, next: Arc<dyn Sink>) -> Self {
        Self { limits, next }
    }

    /// The event as it fits, and its size.
    fn fit(&self, event: &Arc<Event>) -> Result<(Arc<Event>, usize), String> {
        let size = |e: &Event| e.to_json().map(|j| j.len()).map_err(|e| e.to_string());
        let whole = size(event)?;
        if whole <= self.limits.event {
            return Ok((event.clone(), whole));
        }
        let bare = bare(event);
        let rest = size(&bare)?;
        if event.level < Level::Request || rest > self.limits.event {
            return Err("event is too large even after truncating".to_owned());
        }
        Ok((Arc::new(bare), rest))
    }
}

/// The event without bodies.
fn bare(event: &Event) -> Event {
    let mut bare = Event { request_object: None, response_object: None, ..event.clone() };
    bare.annotations.insert("audit.k8s.io/truncated".to_owned(), "true".to_owned());
    bare
}

#[async_trait]
impl Sink for Truncate {
    async fn process(&self, events: &[Arc<Event>]) -> bool {
        let (mut kept, mut batch, mut total) = (true, Vec::new(), 0);
        let mut lost: Vec<(Arc<Event>, String)> = Vec::new();
        for event in events {
            let (event, size) = match self.fit(event) {
                Ok(fitting) => fitting,
                Err(why) => {
                    lost.push((event.clone(), why));
                    continue;
                }
            };
            if !batch.is_empty() && total + size > self.limits.batch {
                kept &= self.next.process(&std::mem::take(&mut batch)).await;
                total = 0;
            }
            total += size;
            batch.push(event);
        }
        if !batch.is_empty() {
            kept &= self.next.process(&batch).await;
        }
        if let Some((_, why)) = lost.first() {
            let events: Vec<Arc<Event>> = lost.iter().map(|(event, _)| event.clone()).collect();
            metrics::lost(PLUGIN, why, &events);
        }
        kept
    }

    async fn finish(&self) {
        self.next.finish().await;
    }
}
