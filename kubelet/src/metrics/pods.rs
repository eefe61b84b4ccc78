//! What pods do: how many there are in which phase, how their containers end, how soon the API server hears of it.
//!
//! Upstream: pkg/kubelet/metrics/metrics.go, v1.37; where each is observed, see there.

use std::sync::OnceLock;
use std::time::Duration;

use component::metrics::{
    Counter, Family, Gauge, Histogram, Opts, Stability, default_registry, exponential_buckets,
};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

use super::DEFAULT_BUCKETS;
use crate::worker::Phase;

const SYNC_BUCKETS: [f64; 11] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];

struct Families {
    working: Family<Gauge>,
    mirrors: Family<Gauge>,
    ephemeral: Family<Gauge>,
    containers: Family<Histogram>,
    sync: Family<Histogram>,
    start: Family<Histogram>,
    terminated: Family<Counter>,
    restarted: Family<Counter>,
    orphaned: Family<Counter>,
    in_namespaces: Family<Counter>,
    in_namespaces_failed: Family<Counter>,
    images_wanted: Family<Counter>,
    images_mounted: Family<Counter>,
    images_failed: Family<Counter>,
    plain_hooks: Family<Counter>,
    short_sleeps: Family<Counter>,
}

fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family<Counter> {
    Family::registered(Opts::new(name, help).labels(labels), &[], default_registry())
}

fn beta(name: &'static str, help: &'static str) -> Family<Counter> {
    Family::registered(Opts::new(name, help).stability(Stability::Beta), &[], default_registry())
}

fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family<Gauge> {
    Family::registered(Opts::new(name, help).labels(labels), &[], default_registry())
}

fn histogram(name: &'static str, help: &'static str, buckets: &[f64]) -> Family<Histogram> {
    Family::registered(Opts::new(name, help), buckets, default_registry())
}

fn families() -> &'static Families {
    static FAMILIES: OnceLock<Families> = OnceLock::new();
    FAMILIES.get_or_init(|| Families {
        working: gauge("kubelet_working_pods", "Number of pods the kubelet is actually running, broken down by lifecycle phase, whether the pod is desired, orphaned, or runtime only (also orphaned), and whether the pod is static. An orphaned pod has been removed from local configuration or force deleted in the API and consumes resources that are not otherwise visible.", &["lifecycle", "config", "static"]),
        mirrors: gauge("kubelet_mirror_pods", "The number of mirror pods the kubelet will try to create (one per admitted static pod)", &[]),
        ephemeral: gauge("kubelet_managed_ephemeral_containers", "Current number of ephemeral containers in pods managed by this kubelet.", &[]),
        containers: histogram("kubelet_containers_per_pod_count", "The number of containers per pod.", &exponential_buckets(1.0, 2.0, 5)),
        sync: histogram("kubelet_pod_status_sync_duration_seconds", "Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status until the API is successfully updated for that pod, even if multiple intevening changes to pod status occur.", &SYNC_BUCKETS),
        start: histogram("kubelet_pod_worker_start_duration_seconds", "Duration in seconds from kubelet seeing a pod to starting a worker.", &DEFAULT_BUCKETS),
        terminated: counter("kubelet_terminated_containers_total", "Cumulative number of container terminations.", &["container_type", "exit_code", "reason"]),
        restarted: counter("kubelet_restarted_pods_total", "Number of pods that have been restarted because they were deleted and recreated with the same UID while the kubelet was watching them (common for static pods, extremely uncommon for API pods)", &["static"]),
        orphaned: counter("kubelet_orphaned_runtime_pods_total", "Number of pods that have been detected in the container runtime without being already known to the pod worker. This typically indicates the kubelet was restarted while a pod was force deleted in the API or in the local configuration, which is unusual.", &[]),
        in_namespaces: counter("kubelet_started_user_namespaced_pods_total", "Cumulative number of pods with user namespaces started. This metric will only be collected on Linux.", &[]),
        in_namespaces_failed: counter("kubelet_started_user_namespaced_pods_errors_total", "Cumulative number of errors when starting pods with user namespaces. This metric will only be collected on Linux.", &[]),
        images_wanted: beta("kubelet_image_volume_requested_total", "Number of requested image volumes."),
        images_mounted: beta("kubelet_image_volume_mounted_succeed_total", "Number of successful image volume mounts."),
        images_failed: beta("kubelet_image_volume_mounted_errors_total", "Number of failed image volume mounts."),
        plain_hooks: counter("kubelet_lifecycle_handler_http_fallbacks_total", "The number of times lifecycle handlers successfully fell back to http from https.", &[]),
        short_sleeps: counter("kubelet_sleep_action_terminated_early_total", "The number of times lifecycle sleep handler got terminated before it finishes", &[]),
    })
}

/// Registers, and shows zero for what has not happened.
pub fn install() {
    let all = families();
    working(std::iter::empty());
    for is_static in ["", "true"] {
        all.restarted.with(&[is_static]);
    }
    let single = [
        &all.orphaned,
        &all.in_namespaces,
        &all.in_namespaces_failed,
        &all.images_wanted,
        &all.images_mounted,
        &all.images_failed,
        &all.plain_hooks,
        &all.short_sleeps,
    ];
    single.into_iter().for_each(|family| drop(family.one()));
}

fn number(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

/// A pod with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Working {
    /// Where it is in its life.
    pub phase: Phase,
    /// False if nobody wants it any more.
    pub is_wanted: bool,
    /// True if it comes from a file or a URL.
    pub is_static: bool,
}

/// Shows all pods with workers.
pub fn working(all: impl Iterator<Item = Working>) {
    let pods: Vec<Working> = all.collect();
    let lifecycle = |phase| match phase {
        Phase::Syncing => "sync",
        Phase::Terminating => "terminating",
        Phase::Terminated | Phase::Finished => "terminated",
    };
    for name in ["sync", "terminating", "terminated"] {
        for (config, is_wanted) in [("desired", true), ("orphan", false)] {
            for (label, is_static) in [("", false), ("true", true)] {
                let is = |pod: &&Working| {
                    lifecycle(pod.phase) == name && pod.is_wanted == is_wanted && pod.is_static == is_static
                };
                let count = pods.iter().filter(is).count();
                families().working.with(&[name, config, label]).set(number(count));
            }
        }
        // What is only on the runtime is stopped where it is found, without a worker.
        families().working.with(&[name, "runtime_only", "unknown"]).set(0.0);
    }
}

/// Shows how many pods stand for static ones, and how many ephemeral containers there are.
pub fn kinds(mirrors: usize, ephemeral: usize) {
    families().mirrors.one().set(number(mirrors));
    families().ephemeral.one().set(number(ephemeral));
}

/// A worker begins with a pod of so many containers, so long after the pod was taken (upstream: after it was seen).
pub fn begins(containers: usize, after: Duration) {
    families().containers.one().observe(number(containers));
    families().start.one().observe_duration(after);
}

/// The API server knows of a change, so long after it was seen.
pub fn told(after: Duration) {
    families().sync.one().observe_duration(after);
}

/// Counts containers that have ended since the last status.
pub fn status_changed(old: &PodStatus, new: &PodStatus) {
    type List = fn(&PodStatus) -> Option<&Vec<ContainerStatus>>;
    let lists: [(&str, List); 3] = [
        ("container", |s| s.container_statuses.as_ref()),
        ("init_container", |s| s.init_container_statuses.as_ref()),
        ("ephemeral_container", |s| s.ephemeral_container_statuses.as_ref()),
    ];
    for (kind, list) in lists {
        for (code, reason) in ended(list(old), list(new)) {
            families().terminated.with(&[kind, &code.to_string(), &reason]).inc();
        }
    }
}

/// Exit codes and reasons of containers that had not ended before.
fn ended(old: Option<&Vec<ContainerStatus>>, new: Option<&Vec<ContainerStatus>>) -> Vec<(i32, String)> {
    let end = |status: &ContainerStatus| {
        let found = status.state.as_ref()?.terminated.as_ref()?;
        Some((found.exit_code, found.reason.clone().unwrap_or_default()))
    };
    let had_ended = |name: &str| old.into_iter().flatten().any(|s| s.name == name && end(s).is_some());
    new.into_iter().flatten().filter(|s| !had_ended(&s.name)).filter_map(end).collect()
}

/// A pod came again with the id that it had.
pub fn came_again(is_static: bool) {
    families().restarted.with(&[if is_static { "true" } else { "" }]).inc();
}

/// A pod was found on the runtime of which no worker knew.
pub fn found_orphan() {
    families().orphaned.one().inc();
}

/// A pod with a user namespace is started.
pub fn starts_in_namespace() {
    families().in_namespaces.one().inc();
}

/// It could not be.
pub fn failed_in_namespace() {
    families().in_namespaces_failed.one().inc();
}

/// A container with so many mounts of images was made, or not for one of them.
pub fn images_mounted(count: usize, failed: bool) {
    let all = families();
    let outcome = if failed { &all.images_failed } else { &all.images_mounted };
    for _ in 0..count {
        all.images_wanted.one().inc();
        outcome.one().inc();
    }
}

/// A hook was answered in plain HTTP where HTTPS was asked for.
pub fn hook_fell_back() {
    families().plain_hooks.one().inc();
}

/// A hook that sleeps was ended before its time.
pub fn sleep_was_short() {
    families().short_sleeps.one().inc();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ends_are_counted_once() {
        let status = |name: &str, code: Option<i32>| -> ContainerStatus {
            let state = match code {
                Some(code) => json!({"terminated": {"exitCode": code, "reason": "Error"}}),
                None => json!({"running": {}}),
            };
            serde_json::from_value(json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}))
                .unwrap()
        };
        let old = vec![status("a", None), status("b", Some(1))];
        let new = vec![status("a", Some(137)), status("b", Some(1)), status("c", Some(0))];
        let error = |code| (code, "Error".to_owned());
        assert_eq!(ended(Some(&old), Some(&new)), [error(137), error(0)]);
        assert_eq!(ended(None, Some(&old)), [error(1)]);
        assert_eq!(ended(Some(&old), None), []);
    }
}
