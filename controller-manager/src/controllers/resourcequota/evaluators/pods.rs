//! Pods: themselves, while they live, and what they ask for. Upstream: evaluator/core/pods.go.

use jiff::{SignedDuration, Timestamp};

use super::super::pod_resources;
use super::super::resources::{Resources, count};
use super::scopes::is_terminating;
use crate::kept::{ContainerStatus, Pod};

const NAMES: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
const REQUESTS: &str = "requests.";
const HUGE_PAGES: &str = "hugepages-";
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Extended resources are never overcommitted: only their requests have quotas.
pub fn is_extended(name: &str) -> bool {
    name.strip_prefix(REQUESTS).is_some_and(|rest| !is_native(name) || rest.starts_with(DEVICE_CLASS))
}

/// The name is about pods.
pub fn matches(name: &str) -> bool {
    let huge = name.strip_prefix(REQUESTS).unwrap_or(name).starts_with(HUGE_PAGES);
    NAMES.contains(&name) || huge || is_extended(name)
}

/// What a pod uses; one that has ended, or should have long ago, uses nothing.
pub fn usage(pod: &Pod, now: Timestamp) -> Resources {
    let mut usage = Resources::new();
    if !counts(pod, now) {
        return usage;
    }
    usage.insert("pods".to_string(), count(1));
    for (name, amount) in pod_resources::requests(pod) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with(HUGE_PAGES) {
            usage.insert(format!("{REQUESTS}{name}"), amount.clone());
            usage.insert(name, amount);
        } else if (!is_native(&name) && !name.starts_with(REQUESTS)) || name.starts_with(DEVICE_CLASS) {
            usage.insert(format!("{REQUESTS}{name}"), amount);
        }
    }
    for (name, amount) in pod_resources::limits(pod) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            usage.insert(format!("limits.{name}"), amount);
        }
    }
    usage
}

/// The pod is charged. One that is stuck in its deletion (its node is lost) must not keep its successor out.
/// Upstream: QuotaV1Pod.
fn counts(pod: &Pod, now: Timestamp) -> bool {
    if crate::pods::is_terminal(pod) {
        return false;
    }
    let meta = &pod.metadata;
    let (Some(at), Some(grace)) = (meta.deletion_timestamp, meta.deletion_grace_period_seconds) else {
        return true;
    };
    at.at().checked_add(SignedDuration::from_secs(grace)).is_ok_and(|end| now <= end)
}

/// The change of a pod may make room, or change what it uses. Upstream: install/update_filter.go.
pub fn matters(old: &Pod, new: &Pod, now: Timestamp) -> bool {
    resized(old, new) || is_terminating(old) != is_terminating(new) || (counts(old, now) && !counts(new, now))
}

fn resized(old: &Pod, new: &Pod) -> bool {
    fn changed(old: Option<&Vec<ContainerStatus>>, new: Option<&Vec<ContainerStatus>>) -> bool {
        old.into_iter().flatten().any(|before| {
            let after = new.into_iter().flatten().find(|s| s.name == before.name);
            after.is_some_and(|after| after.resources != before.resources)
        })
    }
    let (Some(old), Some(new)) = (&old.status, &new.status) else { return false };
    changed(old.container_statuses.as_ref(), new.container_statuses.as_ref())
        || changed(old.init_container_statuses.as_ref(), new.init_container_statuses.as_ref())
}
