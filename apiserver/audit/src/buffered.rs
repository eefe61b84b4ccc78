//! Holds events back and hands them on in batches, so that no request waits. What does not fit the buffer is lost, and
//! counted. Upstream: `plugin/pkg/audit/buffered/buffered.go`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use client::limiter::RateLimiter;
use component::app::Tasks;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::event::Event;
use crate::metrics;
use crate::sink::Sink;

const PLUGIN: &str = "buffered";
/// Most batches that are being delivered at once; upstream knows no limit. With retries a batch may take minutes, and
/// beyond this the buffer fills up, which is counted.
const MAX_DELIVERIES: usize = 64;

/// How events are held.
#[derive(Debug, Clone, PartialEq)]
pub struct Batching {
    /// Most events held.
    pub buffer: usize,
    /// Most events handed on at once.
    pub max_size: usize,
    /// How long an event is held for others to join it.
    pub max_wait: Duration,
    /// Batches per second and at once; `None` for no limit.
    pub throttle: Option<(f64, u32)>,
    /// Whether a batch is handed on while another is still being delivered.
    pub concurrent: bool,
}

/// The sink before another.
pub struct Buffered {
    buffer: Mutex<Option<mpsc::Sender<Arc<Event>>>>,
    done: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Buffered {
    /// Stands before `next`, and starts the task that empties the buffer. It ends with [`Sink::finish`].
    pub fn start(batching: Batching, next: Arc<dyn Sink>, tasks: &Tasks) -> Self {
        let (buffer, events) = mpsc::channel(batching.buffer.clamp(1, Semaphore::MAX_PERMITS));
        let (done, finished) = oneshot::channel();
        tasks.spawn("audit-batches", async move {
            deliver(events, &batching, &next).await;
            next.finish().await;
            // Nobody may be waiting.
            let _ = done.send(());
        });
        Self { buffer: Mutex::new(Some(buffer)), done: Mutex::new(Some(finished)) }
    }
}

/// Collects and hands on until the buffer is closed and empty.
async fn deliver(mut events: mpsc::Receiver<Arc<Event>>, batching: &Batching, next: &Arc<dyn Sink>) {
    let throttle = batching.throttle.map(|(qps, burst)| RateLimiter::new(qps, burst));
    let deliveries = Arc::new(Semaphore::new(MAX_DELIVERIES));
    let mut open = true;
    while open {
        let batch;
        (batch, open) = collect(&mut events, batching).await;
        if batch.is_empty() {
            continue;
        }
        if let Some(throttle) = &throttle {
            throttle.wait().await;
        }
        if !batching.concurrent {
            next.process(&batch).await;
            continue;
        }
        let Ok(seat) = deliveries.clone().acquire_owned().await else { return };
        let next = next.clone();
        // Ends with the delivery; the seats below wait for it.
        tokio::spawn(async move {
            next.process(&batch).await;
            drop(seat);
        });
    }
    let all = u32::try_from(MAX_DELIVERIES).unwrap_or(u32::MAX);
    // Closed by nobody.
    let _ = deliveries.acquire_many(all).await;
}

/// A batch: full, or as far as it got within the wait after its first event; false when there will be no more.
/// Upstream's wait begins with the batch before, which wakes up for nothing when there are no events.
async fn collect(events: &mut mpsc::Receiver<Arc<Event>>, batching: &Batching) -> (Vec<Arc<Event>>, bool) {
    let Some(first) = events.recv().await else { return (Vec::new(), false) };
    let mut batch = vec![first];
    let deadline = tokio::time::Instant::now() + batching.max_wait;
    while batch.len() < batching.max_size {
        match tokio::time::timeout_at(deadline, events.recv()).await {
            Ok(Some(event)) => batch.push(event),
            Ok(None) => return (batch, false),
            Err(_) => break,
        }
    }
    (batch, true)
}

#[async_trait]
impl Sink for Buffered {
    async fn process(&self, events: &[Arc<Event>]) -> bool {
        let buffer = self.buffer.lock().clone();
        for (index, event) in events.iter().enumerate() {
            let why = match buffer.as_ref().map(|b| b.try_send(event.clone())) {
                Some(Ok(())) => continue,
                Some(Err(mpsc::error::TrySendError::Full(_))) => "audit buffer queue blocked",
                None | Some(Err(mpsc::error::TrySendError::Closed(_))) => "audit backend shut down",
            };
            metrics::lost(PLUGIN, why, events.get(index..).unwrap_or_default());
            break;
        }
        // A lost event refuses no request, in this mode.
        true
    }

    async fn finish(&self) {
        drop(self.buffer.lock().take());
        let done = self.done.lock().take();
        if let Some(done) = done {
            // An error says that the task is gone, which is as good.
            let _ = done.await;
        }
    }
}
