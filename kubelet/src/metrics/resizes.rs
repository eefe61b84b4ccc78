//! Changes of the resources of running pods. Upstream: pkg/kubelet/metrics/metrics.go, v1.37.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use component::metrics::{Counter, Family, Gauge, Histogram, Opts, default_registry};
use k8s_openapi::api::core::v1::Pod;

use crate::pod::view::{PodView, SYSTEM_CRITICAL_PRIORITY};

/// Why a change that waited was tried again: another pod's was put in force, pods changed, came or went, or time passed.
pub const POD_RESIZED: &str = "pod_resized";
/// See [`POD_RESIZED`].
pub const POD_UPDATED: &str = "pod_updated";
/// See [`POD_RESIZED`].
pub const PODS_ADDED: &str = "pods_added";
/// See [`POD_RESIZED`].
pub const PODS_REMOVED: &str = "pods_removed";
/// See [`POD_RESIZED`].
pub const POD_TERMINATED: &str = "pod_terminated";
/// See [`POD_RESIZED`].
pub const PERIODIC: &str = "periodic_retry";

const MILLISECONDS: [f64; 14] = [
    10.0, 50.0, 100.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0, 30_000.0, 60_000.0, 120_000.0,
    300_000.0, 600_000.0,
];
const SECONDS: [f64; 16] = [
    5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 150.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0,
];

/// What became of a change that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It was promised.
    Accepted,
    /// The pod does not ask for it any more.
    Reverted,
    /// The pod ended before.
    Terminated,
}

struct Families {
    requested: Family<Counter>,
    durations: Family<Histogram>,
    pending: Family<Gauge>,
    infeasible: Family<Counter>,
    in_progress: Family<Gauge>,
    accepted: Family<Counter>,
    deferred: Family<Histogram>,
}

fn families() -> &'static Families {
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        let main = default_registry();
        Families {
            requested: Family::registered(Opts::new(
                "kubelet_container_requested_resizes_total",
                "Number of requested resizes, counted at the container level. Different resources on the same container are counted separately. The 'requirement' label refers to 'memory' or 'limits'; the 'operation' label can be one of 'add', 'remove', 'increase' or 'decrease'.",
            ).labels(&["resource", "requirement", "operation"]), &[], main),
            durations: Family::registered(Opts::new(
                "kubelet_pod_resize_duration_milliseconds",
                "Duration in milliseconds to actuate a pod resize",
            ).labels(&["success"]), &MILLISECONDS, main),
            pending: Family::registered(Opts::new(
                "kubelet_pod_pending_resizes",
                "Number of pending resizes for pods. Label 'priority_bucket' classifies the pod priority (system-critical: >=2000000000, high: 100000..1999999999, medium: 1..99999, normal: 0/default, low: -999..-1, very-low: <=-1000, unknown: nil pod). Label 'reason' describes the state (deferred, infeasible).",
            ).labels(&["reason", "priority_bucket"]), &[], main),
            infeasible: Family::registered(Opts::new(
                "kubelet_pod_infeasible_resizes_total",
                "Number of infeasible resizes for pods.",
            ).labels(&["reason_detail"]), &[], main),
            in_progress: Family::registered(Opts::new(
                "kubelet_pod_in_progress_resizes",
                "Number of in-progress resizes for pods.",
            ), &[], main),
            accepted: Family::registered(Opts::new(
                "kubelet_pod_deferred_accepted_resizes_total",
                "Cumulative number of resizes that were accepted after being deferred.",
            ).labels(&["retry_trigger"]), &[], main),
            deferred: Family::registered(Opts::new(
                "kubelet_pod_deferred_resize_duration_seconds",
                "Duration in seconds that a pod resize remains deferred before completion. Label 'priority_bucket' classifies the pod priority (system-critical: >=2000000000, high: 100000..1999999999, medium: 1..99999, normal: 0/default, low: -999..-1, very-low: <=-1000, unknown: nil pod). Label 'resolution' describes how the deferred resize was resolved (accepted, reverted, terminated).",
            ).labels(&["resolution", "priority_bucket"]), &SECONDS, main),
        }
    })
}

/// Registers.
pub fn install() {
    // Upstream's shows zero from the start.
    families().in_progress.one();
}

/// Coarse priority of a pod.
fn bucket(pod: Option<&Pod>) -> &'static str {
    let Some(pod) = pod else { return "unknown" };
    match pod.spec().priority.unwrap_or_default() {
        0 => "normal",
        p if p >= SYSTEM_CRITICAL_PRIORITY => "system-critical",
        100_000.. => "high",
        1.. => "medium",
        -999.. => "low",
        _ => "very-low",
    }
}

/// A container asks for something else; see [`crate::allocation::changes::Change`].
pub fn requested((resource, requirement, operation): (&str, &str, &str)) {
    families().requested.with(&[resource, requirement, operation]).inc();
}

/// It took so long to put a change in force, or to fail.
#[expect(clippy::cast_precision_loss, reason = "metrics are of that type")]
pub fn actuated(success: bool, took: Duration) {
    let success = if success { "true" } else { "false" };
    families().durations.with(&[success]).observe(took.as_millis() as f64);
}

/// A change can never be.
pub fn infeasible(detail: &str) {
    families().infeasible.with(&[detail]).inc();
}

/// A change that waited was promised after all.
pub fn accepted(trigger: &str) {
    families().accepted.with(&[trigger]).inc();
}

/// A change does not wait any more.
pub fn resolved(how: Resolution, pod: Option<&Pod>, took: Duration) {
    let how = match how {
        Resolution::Accepted => "accepted",
        Resolution::Reverted => "reverted",
        Resolution::Terminated => "terminated",
    };
    families().deferred.with(&[how, bucket(pod)]).observe(took.as_secs_f64());
}

/// Which changes are not promised: the condition's reason, and the pod.
pub fn pending(all: impl Iterator<Item = (String, Arc<Pod>)>) {
    let mut counts = BTreeMap::<(String, &str), u32>::new();
    for (reason, pod) in all {
        *counts.entry((reason.to_lowercase(), bucket(Some(&pod)))).or_default() += 1;
    }
    let family = &families().pending;
    family.reset();
    for ((reason, bucket), count) in counts {
        family.with(&[&reason, bucket]).set(f64::from(count));
    }
}

/// How many changes are being put in force.
#[expect(clippy::cast_precision_loss, reason = "metrics are of that type")]
pub fn in_progress(count: usize) {
    families().in_progress.one().set(count as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets() {
        let check = |priority: Option<i32>, expected: &str| {
            let mut pod = Pod::default();
            pod.spec.get_or_insert_default().priority = priority;
            assert_eq!(bucket(Some(&pod)), expected, "{priority:?}");
        };
        check(None, "normal");
        check(Some(2_000_000_000), "system-critical");
        check(Some(1_999_999_999), "high");
        check(Some(99_999), "medium");
        check(Some(-999), "low");
        check(Some(-1000), "very-low");
        assert_eq!(bucket(None), "unknown");
    }
}
