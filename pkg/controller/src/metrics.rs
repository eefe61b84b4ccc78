//! Metrics of work queues and leader election, in the process-wide registry.
//!
//! They register themselves with the first queue or elector; [`install`] does it at once, which daemons call when they
//! start. Those of the API client are `component::metrics::rest_client`'s.
//! Upstream: component-base/metrics/prometheus (workqueue, clientgo/leaderelection).

use std::sync::{Arc, LazyLock, Weak};

use component::metrics::{
    Counter, Family, Gauge, Histogram, Kind, Metrics, Opts, Sample, Stability, default_registry,
    exponential_buckets,
};
use parking_lot::Mutex;

use crate::queue::QueueState;

/// Something that knows how long its work has been running.
pub(crate) trait Unfinished: Send + Sync {
    /// Name, seconds of all running work, seconds of the longest.
    fn unfinished(&self) -> (String, f64, f64);
    /// What is in the queue.
    fn state(&self) -> QueueState;
}

static QUEUES: Mutex<Vec<Weak<dyn Unfinished>>> = Mutex::new(Vec::new());

pub(crate) struct Families {
    pub depth: Family<Gauge>,
    pub adds: Family<Counter>,
    pub queued: Family<Histogram>,
    pub worked: Family<Histogram>,
    pub retries: Family<Counter>,
    pub leader: Family<Gauge>,
    pub slow_path: Family<Counter>,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| {
    let queue = |name, help| Opts::new(name, help).labels(&["name"]).stability(Stability::Beta);
    let lease = |name, help| Opts::new(name, help).labels(&["name"]);
    let buckets = exponential_buckets(10e-9, 10.0, 10);
    default_registry().register_collector(Arc::new(collect_unfinished));
    Families {
        depth: Family::gauge(queue("workqueue_depth", "Current depth of workqueue")),
        adds: Family::counter(queue("workqueue_adds_total", "Total number of adds handled by workqueue")),
        queued: Family::histogram(
            queue(
                "workqueue_queue_duration_seconds",
                "How long in seconds an item stays in workqueue before being requested.",
            ),
            &buckets,
        ),
        worked: Family::histogram(
            queue(
                "workqueue_work_duration_seconds",
                "How long in seconds processing an item from workqueue takes.",
            ),
            &buckets,
        ),
        retries: Family::counter(queue(
            "workqueue_retries_total",
            "Total number of retries handled by workqueue",
        )),
        leader: Family::gauge(lease(
            "leader_election_master_status",
            "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master. \
             'name' is the string used to identify the lease. Please make sure to group by name.",
        )),
        slow_path: Family::counter(lease(
            "leader_election_slowpath_total",
            "Total number of slow path exercised in renewing leader leases. 'name' is the string used to identify the \
             lease. Please make sure to group by name.",
        )),
    }
});

/// Registers everything with the default registry; once, however often it is called.
pub fn install() {
    LazyLock::force(&FAMILIES);
}

pub(crate) fn get() -> &'static Families {
    &FAMILIES
}

/// The series of one queue. They start at zero.
pub(crate) struct Series {
    pub depth: Arc<Gauge>,
    pub adds: Arc<Counter>,
    pub queued: Arc<Histogram>,
    pub worked: Arc<Histogram>,
    pub retries: Arc<Counter>,
}

impl Series {
    pub fn of(name: &str) -> Self {
        let f = get();
        Self {
            depth: f.depth.with(&[name]),
            adds: f.adds.with(&[name]),
            queued: f.queued.with(&[name]),
            worked: f.worked.with(&[name]),
            retries: f.retries.with(&[name]),
        }
    }
}

/// A queue's running work shows at each scrape.
pub(crate) fn register(queue: &Arc<dyn Unfinished>) {
    let mut queues = QUEUES.lock();
    queues.retain(|q| q.strong_count() > 0);
    queues.push(Arc::downgrade(queue));
}

/// All queues of the process, in the order in which they were made.
pub fn queues() -> Vec<QueueState> {
    let queues: Vec<_> = QUEUES.lock().iter().filter_map(Weak::upgrade).collect();
    queues.iter().map(|q| q.state()).collect()
}

fn collect_unfinished(out: &mut Vec<Metrics>) {
    let queues: Vec<_> = QUEUES.lock().iter().filter_map(Weak::upgrade).collect();
    let all: Vec<_> = queues.iter().map(|q| q.unfinished()).collect();
    if all.is_empty() {
        return;
    }
    let family = |name: &str, help: &str, value: fn(&(String, f64, f64)) -> f64| Metrics {
        name: name.to_string(),
        help: format!("[BETA] {help}"),
        kind: Kind::Gauge,
        samples: all.iter().map(|q| Sample::number(&[("name", &q.0)], value(q))).collect(),
    };
    out.push(family(
        "workqueue_longest_running_processor_seconds",
        "How many seconds has the longest running processor for workqueue been running.",
        |q| q.2,
    ));
    out.push(family(
        "workqueue_unfinished_work_seconds",
        "How many seconds of work has done that is in progress and hasn't been observed by work_duration. Large values \
         indicate stuck threads. One can deduce the number of stuck threads by observing the rate at which this increases.",
        |q| q.1,
    ));
}
