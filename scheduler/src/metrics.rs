//! The scheduler's own metrics, by upstream's names and buckets. Upstream: pkg/scheduler/metrics/metrics.go.

use component::metrics::{Counter, Family, Gauge, Histogram, Opts, Stability, exponential_buckets};

/// Shared handles; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub attempts: Family<Counter>,
    pub attempt_duration: Family<Histogram>,
    pub algorithm_duration: Family<Histogram>,
    pub sli_duration: Family<Histogram>,
    pub pod_attempts: Family<Histogram>,
    pub pending: Family<Gauge>,
    pub incoming: Family<Counter>,
    pub cache_size: Family<Gauge>,
    pub preemption_attempts: Family<Counter>,
    pub preemption_victims: Family<Histogram>,
    /// Only with the gate GenericWorkload.
    pub groups: Option<GroupMetrics>,
    /// Only with the gate TopologyAwareWorkloadScheduling.
    pub placements: Option<PlacementMetrics>,
}

/// Metrics of groups that are placed together.
#[derive(Clone, Debug)]
pub struct GroupMetrics {
    pub attempts: Family<Counter>,
    pub attempt_duration: Family<Histogram>,
    pub algorithm_duration: Family<Histogram>,
    pub preemption_attempts: Family<Counter>,
    pub preemption_victims: Family<Histogram>,
    pub disruptions: Family<Histogram>,
    pub violations: Family<Counter>,
}

impl GroupMetrics {
    fn register() -> Self {
        let spans = exponential_buckets(0.001, 2.0, 15);
        let sizes = exponential_buckets(1.0, 2.0, 11);
        Self {
            attempts: Family::counter(
                Opts::new(
                    "scheduler_podgroup_schedule_attempts_total",
                    "Number of attempts to schedule pod group, by the result. 'unschedulable' means a pod group could not be scheduled, while 'error' means an internal scheduler problem.",
                )
                .labels(&["result", "profile"]),
            ),
            attempt_duration: Family::histogram(
                Opts::new(
                    "scheduler_podgroup_scheduling_attempt_duration_seconds",
                    "Pod group scheduling attempt latency in seconds",
                )
                .labels(&["result", "profile"]),
                &spans,
            ),
            algorithm_duration: Family::histogram(
                Opts::new(
                    "scheduler_podgroup_scheduling_algorithm_duration_seconds",
                    "Pod group scheduling algorithm latency in seconds",
                ),
                &spans,
            ),
            preemption_attempts: Family::counter(
                Opts::new(
                    "scheduler_workload_preemption_attempts_total",
                    "Total preemption attempts initiated by workload (including pod groups) in the cluster till now.",
                )
                .labels(&["result"]),
            ),
            preemption_victims: Family::histogram(
                Opts::new(
                    "scheduler_workload_preemption_victims",
                    "Number of pod preemption victims caused by workload preemption.",
                ),
                &sizes,
            ),
            disruptions: Family::histogram(
                Opts::new(
                    "scheduler_preemption_workload_disruptions",
                    "Number of workload preemption units being preempted. A single preemption unit can be all pods in a pod group (in case of DisruptionMode=all), or a single pod (in case of DisruptionMode=single).",
                )
                .labels(&["preemptor"]),
                &sizes,
            ),
            violations: Family::counter(
                Opts::new(
                    "scheduler_preemption_pdb_violations_total",
                    "Total number of pod disruption budget violations caused by preemption.",
                )
                .labels(&["preemptor"]),
            ),
        }
    }
}

/// Metrics of placements that groups are tried in.
#[derive(Clone, Debug)]
pub struct PlacementMetrics {
    generated: Family<Counter>,
    evaluations: Family<Counter>,
    evaluation_duration: Family<Histogram>,
}

impl PlacementMetrics {
    fn register() -> Self {
        Self {
            generated: Family::counter(
                Opts::new(
                    "scheduler_generated_placements_total",
                    "Number of candidate placements generated when scheduling pod groups.",
                )
                .labels(&["profile"]),
            ),
            evaluations: Family::counter(
                Opts::new(
                    "scheduler_placement_evaluations_total",
                    "Number of candidate placements evaluated when scheduling pod groups, by result. 'feasible' means the pod group fit into the placement, while 'infeasible' means it did not.",
                )
                .labels(&["result", "profile"]),
            ),
            evaluation_duration: Family::histogram(
                Opts::new(
                    "scheduler_placement_evaluation_duration_seconds",
                    "Latency in seconds of evaluating a single candidate placement when scheduling pod groups, by result. 'feasible' means the pod group fit into the placement, while 'infeasible' means it did not.",
                )
                .labels(&["result", "profile"]),
                &exponential_buckets(0.001, 2.0, 15),
            ),
        }
    }

    /// So many placements were found for a group.
    pub fn generated(&self, profile: &str, count: usize) {
        self.generated.with(&[profile]).add(count as u64);
    }

    /// A group was tried in one of them.
    pub fn evaluated(&self, profile: &str, fits: bool, took: std::time::Duration) {
        let labels = [if fits { "feasible" } else { "infeasible" }, profile];
        self.evaluations.with(&labels).inc();
        self.evaluation_duration.with(&labels).observe_duration(took);
    }
}

impl Metrics {
    /// Registers all of them.
    pub fn register(groups: bool, placements: bool) -> Self {
        let spans = exponential_buckets(0.001, 2.0, 15);
        let stable = |name, help| Opts::new(name, help).stability(Stability::Stable);
        Self {
            attempts: Family::counter(
                stable("scheduler_schedule_attempts_total", "Attempts to schedule pods, by result")
                    .labels(&["profile", "result"]),
            ),
            attempt_duration: Family::histogram(
                stable("scheduler_scheduling_attempt_duration_seconds", "Attempt latency with binding")
                    .labels(&["profile", "result"]),
                &spans,
            ),
            algorithm_duration: Family::histogram(
                Opts::new("scheduler_scheduling_algorithm_duration_seconds", "Latency of the decision"),
                &spans,
            ),
            sli_duration: Family::histogram(
                Opts::new("scheduler_pod_scheduling_sli_duration_seconds", "From queueing to bound")
                    .labels(&["attempts"]),
                &exponential_buckets(0.01, 2.0, 20),
            ),
            pod_attempts: Family::histogram(
                stable("scheduler_pod_scheduling_attempts", "Attempts a pod took to be scheduled"),
                &exponential_buckets(1.0, 2.0, 5),
            ),
            pending: Family::gauge(
                stable("scheduler_pending_pods", "Pending pods, by queue").labels(&["queue"]),
            ),
            incoming: Family::counter(
                stable("scheduler_queue_incoming_pods_total", "Pods added to queues, by event and queue")
                    .labels(&["queue", "event"]),
            ),
            cache_size: Family::gauge(
                Opts::new("scheduler_cache_size", "Nodes, pods and assumed pods in the cache")
                    .labels(&["type"]),
            ),
            preemption_attempts: Family::counter(stable(
                "scheduler_preemption_attempts_total",
                "Attempts to make room by preemption",
            )),
            preemption_victims: Family::histogram(
                stable("scheduler_preemption_victims", "Pods selected to go"),
                &exponential_buckets(1.0, 2.0, 7),
            ),
            groups: groups.then(GroupMetrics::register),
            placements: placements.then(PlacementMetrics::register),
        }
    }
}
