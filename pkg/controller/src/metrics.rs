//! Where work queues and leader election report. The daemon's metrics registry installs itself here.
//! Upstream: client-go/util/workqueue/metrics.go, component-base/metrics/prometheus/workqueue.

use std::sync::{Arc, OnceLock};

/// Receiver of observations of all queues; `name` is the queue's.
pub trait QueueMetrics: Send + Sync {
    /// workqueue_depth.
    fn depth(&self, name: &str, depth: usize);
    /// workqueue_adds_total.
    fn add(&self, name: &str);
    /// workqueue_queue_duration_seconds.
    fn queued(&self, name: &str, seconds: f64);
    /// workqueue_work_duration_seconds.
    fn worked(&self, name: &str, seconds: f64);
    /// workqueue_retries_total.
    fn retry(&self, name: &str);
    /// workqueue_unfinished_work_seconds and workqueue_longest_running_processor_seconds.
    fn unfinished(&self, name: &str, total_seconds: f64, longest_seconds: f64);
    /// leader_election_master_status.
    fn leader(&self, name: &str, leading: bool);
    /// leader_election_slowpath_total.
    fn leader_slow_path(&self, name: &str);
}

/// Something that knows how long its work has been running.
pub(crate) trait Unfinished: Send + Sync {
    fn report(&self, metrics: &dyn QueueMetrics);
}

static INSTALLED: OnceLock<Box<dyn QueueMetrics>> = OnceLock::new();
static QUEUES: parking_lot::Mutex<Vec<std::sync::Weak<dyn Unfinished>>> = parking_lot::Mutex::new(Vec::new());

/// Installs the receiver; the first one stays.
pub fn install(metrics: Box<dyn QueueMetrics>) {
    let _ = INSTALLED.set(metrics);
}

/// Reports unfinished work of every queue; called before metrics are read out.
pub fn collect() {
    let Some(metrics) = get() else { return };
    let queues = {
        let mut all = QUEUES.lock();
        all.retain(|q| q.strong_count() > 0);
        all.clone()
    };
    queues.iter().filter_map(std::sync::Weak::upgrade).for_each(|q| q.report(metrics));
}

pub(crate) fn get() -> Option<&'static dyn QueueMetrics> {
    INSTALLED.get().map(|m| &**m)
}

pub(crate) fn register(queue: &Arc<dyn Unfinished>) {
    QUEUES.lock().push(Arc::downgrade(queue));
}
