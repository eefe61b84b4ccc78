//! Quality-of-service class of a pod, and the out-of-memory score that follows from it.
//!
//! Upstream: pkg/apis/core/v1/helper/qos/qos.go and pkg/kubelet/qos/policy.go, v1.37.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::resources::{Amounts, container_limits, container_requests, has_pod_level};
use super::view::{PodView, init_containers, is_sidecar};

/// How well a pod's resources are guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QosClass {
    /// Every container has limits, and requests equal them.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }
}

const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// The pod's class: what the API server recorded, else what its resources say.
pub fn qos_class(pod: &Pod) -> QosClass {
    match pod.api_status().qos_class.as_deref() {
        Some("Guaranteed") => QosClass::Guaranteed,
        Some("Burstable") => QosClass::Burstable,
        Some("BestEffort") => QosClass::BestEffort,
        _ => compute(pod),
    }
}

fn compute(pod: &Pod) -> QosClass {
    let spec = pod.spec();
    if has_pod_level(pod) {
        let resources = spec.resources.clone().unwrap_or_default();
        let whole = Container { resources: Some(resources), ..Container::default() };
        return class_of(std::iter::once(&whole));
    }
    class_of(init_containers(spec).iter().chain(&spec.containers))
}

fn class_of<'a>(containers: impl Iterator<Item = &'a Container>) -> QosClass {
    let mut requests = Amounts::default();
    let mut limits = Amounts::default();
    let mut all_limited = true;
    for container in containers {
        let (asked, limited) = (container_requests(container), container_limits(container));
        for name in COMPUTE {
            if asked.milli(name) > 0 {
                *requests.0.entry(name.to_owned()).or_default() += i128::from(asked.milli(name));
            }
            if limited.milli(name) > 0 {
                *limits.0.entry(name.to_owned()).or_default() += i128::from(limited.milli(name));
            } else {
                all_limited = false;
            }
        }
    }
    if requests.0.is_empty() && limits.0.is_empty() {
        return QosClass::BestEffort;
    }
    if all_limited && requests == limits { QosClass::Guaranteed } else { QosClass::Burstable }
}

const GUARANTEED_SCORE: i64 = -997;
const BEST_EFFORT_SCORE: i64 = 1000;
/// Priority of `system-node-critical`.
const NODE_CRITICAL_PRIORITY: i32 = 2_000_001_000;

/// The score that decides which process the kernel kills first when memory runs out; higher dies earlier.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    let node_critical = pod.is_critical() && pod.spec().priority == Some(NODE_CRITICAL_PRIORITY);
    match qos_class(pod) {
        _ if node_critical => return GUARANTEED_SCORE,
        QosClass::Guaranteed => return GUARANTEED_SCORE,
        QosClass::BestEffort => return BEST_EFFORT_SCORE,
        QosClass::Burstable => {}
    }
    let capacity = memory_capacity.max(1);
    let share = unassigned_share(pod);
    let score_for =
        |request: i64| 1000 - 1000i128 * i128::from(request.saturating_add(share)) / i128::from(capacity);
    let mut score = score_for(container_requests(container).whole("memory"));
    let spec = pod.spec();
    if is_sidecar(container) && init_containers(spec).iter().any(|c| c.name == container.name) {
        // A sidecar must not die before the containers that it serves.
        let least =
            spec.containers.iter().map(|c| container_requests(c).whole("memory")).min().unwrap_or_default();
        score = score.min(score_for(least));
    }
    let score = i64::try_from(score).unwrap_or(i64::MIN);
    if score < 1000 + GUARANTEED_SCORE {
        return 1000 + GUARANTEED_SCORE;
    }
    if score == BEST_EFFORT_SCORE { score - 1 } else { score }
}

/// Memory requested for the pod but for none of its containers, divided among them.
fn unassigned_share(pod: &Pod) -> i64 {
    let spec = pod.spec();
    let Some(resources) = spec.resources.as_ref().filter(|_| has_pod_level(pod)) else { return 0 };
    if resources.requests.is_none() {
        return 0;
    }
    let sidecars = init_containers(spec).iter().filter(|c| is_sidecar(c));
    let containers: Vec<&Container> = spec.containers.iter().chain(sidecars).collect();
    let assigned: i64 = containers.iter().map(|c| container_requests(c).whole("memory")).sum();
    let whole = Amounts::of(resources.requests.as_ref()).whole("memory");
    let count = i64::try_from(containers.len()).unwrap_or(1).max(1);
    whole.saturating_sub(assigned).max(0) / count
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn classes() {
        let check = |c: serde_json::Value, expected| assert_eq!(qos_class(&pod(json!([c]))), expected, "{c}");
        let both = json!({"cpu": "1", "memory": "1Gi"});
        check(json!({"name": "c"}), QosClass::BestEffort);
        check(json!({"name": "c", "resources": {"requests": {"cpu": "0"}}}), QosClass::BestEffort);
        check(json!({"name": "c", "resources": {"requests": {"cpu": "1"}}}), QosClass::Burstable);
        check(json!({"name": "c", "resources": {"requests": both, "limits": both}}), QosClass::Guaranteed);
        check(json!({"name": "c", "resources": {"limits": {"memory": "1Gi"}}}), QosClass::Burstable);
    }

    #[test]
    fn scores() {
        let check = |c: serde_json::Value, expected| {
            let pod = pod(json!([c]));
            assert_eq!(oom_score_adj(&pod, &pod.spec().containers[0], 4_000_000_000), expected);
        };
        check(json!({"name": "c"}), 1000);
        check(json!({"name": "c", "resources": {"requests": {"memory": "1G"}}}), 750);
        check(json!({"name": "c", "resources": {"requests": {"memory": "1"}}}), 999);
        check(json!({"name": "c", "resources": {"requests": {"memory": "4G"}}}), 3);
    }
}
