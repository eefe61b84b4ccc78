//! Priority and fairness as metrics, under upstream's names.
//! Upstream: `k8s.io/apiserver/pkg/util/flowcontrol/metrics/metrics.go`.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use component::metrics::{Counter, Family, Gauge, Histogram, Opts, Stability, default_registry};
use registry::api::RequestInfo;

use super::timing::TimingRatio;

const DURATIONS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

/// The families.
pub(crate) struct Metrics {
    pub(crate) current_r: Family<Gauge>,
    pub(crate) dispatch_r: Family<Gauge>,
    pub(crate) latest_s: Family<Gauge>,
    pub(crate) next_s_bounds: Family<Gauge>,
    pub(crate) next_discounted_s_bounds: Family<Gauge>,
    pub(crate) current_inqueue_requests: Family<Gauge>,
    pub(crate) current_inqueue_seats: Family<Gauge>,
    pub(crate) current_executing_requests: Family<Gauge>,
    pub(crate) current_executing_seats: Family<Gauge>,
    pub(crate) nominal_limit_seats: Family<Gauge>,
    pub(crate) lower_limit_seats: Family<Gauge>,
    pub(crate) upper_limit_seats: Family<Gauge>,
    pub(crate) demand_seats_high_watermark: Family<Gauge>,
    pub(crate) demand_seats_average: Family<Gauge>,
    pub(crate) demand_seats_stdev: Family<Gauge>,
    pub(crate) demand_seats_smoothed: Family<Gauge>,
    pub(crate) target_seats: Family<Gauge>,
    pub(crate) seat_fair_frac: Family<Gauge>,
    pub(crate) current_limit_seats: Family<Gauge>,
    pub(crate) rejected_requests_total: Family<Counter>,
    pub(crate) dispatched_requests_total: Family<Counter>,
    pub(crate) epoch_advance_total: Family<Counter>,
    pub(crate) request_dispatch_no_accommodation_total: Family<Counter>,
    pub(crate) request_queue_length_after_enqueue: Family<Histogram>,
    pub(crate) request_wait_duration_seconds: Family<Histogram>,
    pub(crate) request_execution_seconds: Family<Histogram>,
    pub(crate) watch_count_samples: Family<Histogram>,
    pub(crate) work_estimated_seats: Family<Histogram>,
    pub(crate) priority_level_seat_utilization: Family<TimingRatio>,
    pub(crate) priority_level_request_utilization: Family<TimingRatio>,
    pub(crate) read_vs_write_current_requests: Family<TimingRatio>,
    pub(crate) demand_seats: Family<TimingRatio>,
}

const fn opts(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Opts {
    Opts::new(name, help).labels(labels)
}

fn timing(opts: Opts, bounds: &[f64]) -> Family<TimingRatio> {
    Family::registered(opts, bounds, default_registry())
}

/// All of them, made at the first call.
#[allow(clippy::too_many_lines, reason = "a table")]
pub(crate) fn metrics() -> &'static Metrics {
    static ALL: OnceLock<Metrics> = OnceLock::new();
    ALL.get_or_init(|| Metrics {
        current_r: Family::gauge(opts("apiserver_flowcontrol_current_r", "R(time of last change)", &["priority_level"])),
        dispatch_r: Family::gauge(opts("apiserver_flowcontrol_dispatch_r", "R(time of last dispatch)", &["priority_level"])),
        latest_s: Family::gauge(opts("apiserver_flowcontrol_latest_s", "S(most recently dispatched request)", &["priority_level"])),
        next_s_bounds: Family::gauge(opts("apiserver_flowcontrol_next_s_bounds", "min and max, over queues, of S(oldest waiting request in queue)", &["priority_level", "bound"])),
        next_discounted_s_bounds: Family::gauge(opts("apiserver_flowcontrol_next_discounted_s_bounds", "min and max, over queues, of S(oldest waiting request in queue) - estimated work in progress", &["priority_level", "bound"])),
        current_inqueue_requests: Family::gauge(opts("apiserver_flowcontrol_current_inqueue_requests", "Number of requests currently pending in queues of the API Priority and Fairness subsystem", &["priority_level", "flow_schema"]).stability(Stability::Beta)),
        current_inqueue_seats: Family::gauge(opts("apiserver_flowcontrol_current_inqueue_seats", "Number of seats currently pending in queues of the API Priority and Fairness subsystem", &["priority_level", "flow_schema"])),
        current_executing_requests: Family::gauge(opts("apiserver_flowcontrol_current_executing_requests", "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem", &["priority_level", "flow_schema"]).stability(Stability::Beta)),
        current_executing_seats: Family::gauge(opts("apiserver_flowcontrol_current_executing_seats", "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem", &["priority_level", "flow_schema"]).stability(Stability::Beta)),
        nominal_limit_seats: Family::gauge(opts("apiserver_flowcontrol_nominal_limit_seats", "Nominal number of execution seats configured for each priority level", &["priority_level"]).stability(Stability::Beta)),
        lower_limit_seats: Family::gauge(opts("apiserver_flowcontrol_lower_limit_seats", "Configured lower bound on number of execution seats available to each priority level", &["priority_level"])),
        upper_limit_seats: Family::gauge(opts("apiserver_flowcontrol_upper_limit_seats", "Configured upper bound on number of execution seats available to each priority level", &["priority_level"])),
        demand_seats_high_watermark: Family::gauge(opts("apiserver_flowcontrol_demand_seats_high_watermark", "High watermark, over last adjustment period, of demand_seats", &["priority_level"])),
        demand_seats_average: Family::gauge(opts("apiserver_flowcontrol_demand_seats_average", "Time-weighted average, over last adjustment period, of demand_seats", &["priority_level"])),
        demand_seats_stdev: Family::gauge(opts("apiserver_flowcontrol_demand_seats_stdev", "Time-weighted standard deviation, over last adjustment period, of demand_seats", &["priority_level"])),
        demand_seats_smoothed: Family::gauge(opts("apiserver_flowcontrol_demand_seats_smoothed", "Smoothed seat demands", &["priority_level"])),
        target_seats: Family::gauge(opts("apiserver_flowcontrol_target_seats", "Seat allocation targets", &["priority_level"])),
        seat_fair_frac: Family::gauge(opts("apiserver_flowcontrol_seat_fair_frac", "Fair fraction of server's concurrency to allocate to each priority level that can use it", &[])),
        current_limit_seats: Family::gauge(opts("apiserver_flowcontrol_current_limit_seats", "current derived number of execution seats available to each priority level", &["priority_level"])),
        rejected_requests_total: Family::counter(opts("apiserver_flowcontrol_rejected_requests_total", "Number of requests rejected by API Priority and Fairness subsystem", &["priority_level", "flow_schema", "reason"]).stability(Stability::Beta)),
        dispatched_requests_total: Family::counter(opts("apiserver_flowcontrol_dispatched_requests_total", "Number of requests executed by API Priority and Fairness subsystem", &["priority_level", "flow_schema"]).stability(Stability::Beta)),
        epoch_advance_total: Family::counter(opts("apiserver_flowcontrol_epoch_advance_total", "Number of times the queueset's progress meter jumped backward", &["priority_level", "success"])),
        request_dispatch_no_accommodation_total: Family::counter(opts("apiserver_flowcontrol_request_dispatch_no_accommodation_total", "Number of times a dispatch attempt resulted in a non accommodation due to lack of available seats", &["priority_level", "flow_schema"])),
        request_queue_length_after_enqueue: Family::histogram(opts("apiserver_flowcontrol_request_queue_length_after_enqueue", "Length of queue in the API Priority and Fairness subsystem, as seen by each request after it is enqueued", &["priority_level", "flow_schema"]), &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0]),
        request_wait_duration_seconds: Family::histogram(opts("apiserver_flowcontrol_request_wait_duration_seconds", "Length of time a request spent waiting in its queue", &["priority_level", "flow_schema", "execute"]).stability(Stability::Beta), &DURATIONS),
        request_execution_seconds: Family::histogram(opts("apiserver_flowcontrol_request_execution_seconds", "Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem", &["priority_level", "flow_schema", "type"]), &DURATIONS),
        watch_count_samples: Family::histogram(opts("apiserver_flowcontrol_watch_count_samples", "count of watchers for mutating requests in API Priority and Fairness", &["priority_level", "flow_schema"]), &[0.0, 1.0, 10.0, 100.0, 1000.0, 10000.0]),
        work_estimated_seats: Family::histogram(opts("apiserver_flowcontrol_work_estimated_seats", "Number of estimated seats (maximum of initial and final seats) associated with requests in API Priority and Fairness", &["priority_level", "flow_schema"]), &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0]),
        priority_level_seat_utilization: timing(Opts { constant: &[("phase", "executing")], ..opts("apiserver_flowcontrol_priority_level_seat_utilization", "Observations, at the end of every nanosecond, of utilization of seats for any stage of execution (but only initial stage for WATCHes)", &["priority_level"]) }, &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0]),
        priority_level_request_utilization: timing(opts("apiserver_flowcontrol_priority_level_request_utilization", "Observations, at the end of every nanosecond, of number of requests (as a fraction of the relevant limit) waiting or in any stage of execution (but only initial stage for WATCHes)", &["phase", "priority_level"]), &[0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0]),
        read_vs_write_current_requests: timing(opts("apiserver_flowcontrol_read_vs_write_current_requests", "Observations, at the end of every nanosecond, of the number of requests (as a fraction of the relevant limit) waiting or in regular stage of execution", &["phase", "request_kind"]), &[0.0, 0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0]),
        demand_seats: timing(opts("apiserver_flowcontrol_demand_seats", "Observations, at the end of every nanosecond, of (the number of seats each priority level could use) / (nominal number of seats for that level)", &["priority_level"]), &[0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.8, 4.0, 6.0]),
    })
}

/// The series of a level.
pub(crate) struct LevelMetrics {
    pub(crate) current_r: Arc<Gauge>,
    pub(crate) dispatch_r: Arc<Gauge>,
    pub(crate) latest_s: Arc<Gauge>,
    pub(crate) next_s: [Arc<Gauge>; 2],
    pub(crate) next_discounted_s: [Arc<Gauge>; 2],
    pub(crate) seats: Arc<TimingRatio>,
    pub(crate) waiting: Arc<TimingRatio>,
    pub(crate) executing: Arc<TimingRatio>,
    pub(crate) demand: Arc<TimingRatio>,
}

impl LevelMetrics {
    pub(crate) fn of(level: &str) -> Self {
        let all = metrics();
        let bounds = |family: &Family<Gauge>| ["min", "max"].map(|bound| family.with(&[level, bound]));
        Self {
            current_r: all.current_r.with(&[level]),
            dispatch_r: all.dispatch_r.with(&[level]),
            latest_s: all.latest_s.with(&[level]),
            next_s: bounds(&all.next_s_bounds),
            next_discounted_s: bounds(&all.next_discounted_s_bounds),
            seats: all.priority_level_seat_utilization.with(&[level]),
            waiting: all.priority_level_request_utilization.with(&["waiting", level]),
            executing: all.priority_level_request_utilization.with(&["executing", level]),
            demand: all.demand_seats.with(&[level]),
        }
    }
}

/// The series of a flow schema in a level, made when its first request comes.
pub(crate) struct FlowMetrics {
    pub(crate) dispatched: Arc<Counter>,
    pub(crate) waiting_requests: Arc<Gauge>,
    pub(crate) waiting_seats: Arc<Gauge>,
    pub(crate) executing_requests: Arc<Gauge>,
    pub(crate) executing_seats: Arc<Gauge>,
    pub(crate) queue_length: Arc<Histogram>,
    pub(crate) waited: Arc<Histogram>,
    pub(crate) executed: [Arc<Histogram>; 2],
    pub(crate) estimated_seats: Arc<Histogram>,
}

impl FlowMetrics {
    pub(crate) fn of(level: &str, flow: &str) -> Self {
        let (all, both) = (metrics(), [level, flow]);
        Self {
            dispatched: all.dispatched_requests_total.with(&both),
            waiting_requests: all.current_inqueue_requests.with(&both),
            waiting_seats: all.current_inqueue_seats.with(&both),
            executing_requests: all.current_executing_requests.with(&both),
            executing_seats: all.current_executing_seats.with(&both),
            queue_length: all.request_queue_length_after_enqueue.with(&both),
            waited: all.request_wait_duration_seconds.with(&[level, flow, "true"]),
            executed: ["regular", "watch"]
                .map(|kind| all.request_execution_seconds.with(&[level, flow, kind])),
            estimated_seats: all.work_estimated_seats.with(&both),
        }
    }
}

/// Requests of a kind in a phase, as a part of all that may be.
pub(crate) struct Load {
    count: AtomicI64,
    limit: AtomicU64,
    ratio: Arc<TimingRatio>,
}

impl Load {
    fn all() -> &'static [Load; 4] {
        static ALL: OnceLock<[Load; 4]> = OnceLock::new();
        ALL.get_or_init(|| {
            let family = &metrics().read_vs_write_current_requests;
            let load = |labels: [&str; 2]| Load {
                count: AtomicI64::new(0),
                limit: AtomicU64::new(1),
                ratio: family.with(&labels),
            };
            [
                ("waiting", "readOnly"),
                ("waiting", "mutating"),
                ("executing", "readOnly"),
                ("executing", "mutating"),
            ]
            .map(|(phase, kind)| load([phase, kind]))
        })
    }

    /// The one a request belongs to.
    pub(crate) fn of(info: &RequestInfo, waiting: bool) -> &'static Load {
        let [reads_wait, changes_wait, reads, changes] = Load::all();
        match (waiting, matches!(info.verb.as_str(), "get" | "list" | "watch")) {
            (true, true) => reads_wait,
            (true, false) => changes_wait,
            (false, true) => reads,
            (false, false) => changes,
        }
    }

    /// Requests that may wait, and that may execute.
    pub(crate) fn limits(waiting: u64, executing: u64) {
        for (load, limit) in Load::all().iter().zip([waiting, waiting, executing, executing]) {
            load.limit.store(limit.max(1), Ordering::Relaxed);
            load.add(0);
        }
    }

    pub(crate) fn add(&self, requests: i64) {
        let count = self.count.fetch_add(requests, Ordering::Relaxed) + requests;
        self.ratio.set(Instant::now(), count as f64 / self.limit.load(Ordering::Relaxed) as f64);
    }
}

/// Counts a request as executing while it lives.
pub(crate) struct Executing(&'static Load);

impl Executing {
    pub(crate) fn of(info: &RequestInfo) -> Self {
        let load = Load::of(info, false);
        load.add(1);
        Self(load)
    }
}

impl Drop for Executing {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}
