//! Pods that the node took and did not take. Upstream: recordAdmissionRejection in pkg/kubelet/kubelet.go and
//! recordPodLevelResourcesAdmission in kubelet_pods.go, v1.37.

use std::sync::OnceLock;

use component::features::{self, Gate};
use component::metrics::{Counter, Family, Opts, default_registry};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pod::qos::qos_class;
use crate::pod::resources::has_pod_level;
use crate::pod::view::{PodView, init_containers};

/// Reasons that are counted under their own name; others could be any number.
const REASONS: [&str; 21] = [
    "AppArmor",
    "PodOSSelectorNodeLabelDoesNotMatch",
    "PodOSNotSupported",
    "InvalidNodeInfo",
    "InitContainerRestartPolicyForbidden",
    "SupplementalGroupsPolicyNotSupported",
    "UnexpectedAdmissionError",
    "UnknownReason",
    "UnexpectedPredicateFailureType",
    "OutOfcpu",
    "OutOfmemory",
    "OutOfephemeral-storage",
    "OutOfpods",
    "PodLevelResourcesNotSupported",
    "PodFeatureUnsupported",
    "node(s) had taints that the pod didn't tolerate",
    "Evicted",
    "SysctlForbidden",
    "TopologyAffinityError",
    "NodeShutdown",
    "VolumeAttachmentLimitExceeded",
];

fn family() -> &'static Family<Counter> {
    static FAMILY: OnceLock<Family<Counter>> = OnceLock::new();
    FAMILY.get_or_init(|| {
        let opts = Opts::new(
            "kubelet_admission_rejections_total",
            "Cumulative number pod admission rejections by the Kubelet.",
        );
        Family::registered(opts.labels(&["reason"]), &[], default_registry())
    })
}

fn taken() -> &'static Family<Counter> {
    static FAMILY: OnceLock<Family<Counter>> = OnceLock::new();
    FAMILY.get_or_init(|| {
        let opts = Opts::new(
            "kubelet_pod_level_resources_admission_total",
            "Total number of pods admitted during Kubelet admission, categorized by resource configuration mode (pod_and_container_level, pod_level, container_level, or empty for unconfigured/BestEffort) and QoS class.",
        );
        Family::registered(opts.labels(&["config_mode", "qos_class"]), &[], default_registry())
    })
}

/// Registers everything, so that it is there before anything happens.
pub fn install() {
    family();
    if features::enabled(Gate::PodLevelResources) {
        taken();
    }
}

/// Where a pod says what it asks for.
fn mode(pod: &Pod) -> &'static str {
    let spec = pod.spec();
    let asks = |container: &Container| {
        let all = container.resources.as_ref();
        all.is_some_and(|all| [&all.requests, &all.limits].into_iter().flatten().any(|list| !list.is_empty()))
    };
    match (has_pod_level(pod), spec.containers.iter().chain(init_containers(spec)).any(asks)) {
        (true, true) => "pod_and_container_level",
        (true, false) => "pod_level",
        (false, true) => "container_level",
        (false, false) => "",
    }
}

/// A new pod was taken.
pub fn admitted(pod: &Pod) {
    if features::enabled(Gate::PodLevelResources) {
        taken().with(&[mode(pod), &qos_class(pod).as_str().to_lowercase()]).inc();
    }
}

/// What a reason is counted as.
fn label(reason: &str) -> &'static str {
    let known = REASONS.into_iter().find(|known| *known == reason);
    known.unwrap_or(if reason.starts_with("OutOf") { "OutOfExtendedResources" } else { "Other" })
}

/// A new pod was rejected.
pub fn rejected(reason: &str) {
    family().with(&[label(reason)]).inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let check = |level: &str, own: &str, expected: &str| {
            let asks = |cpu: &str| match cpu {
                "" => serde_json::json!({}),
                cpu => serde_json::json!({"requests": {"cpu": cpu}}),
            };
            let spec = serde_json::json!({"resources": asks(level), "containers": [{"name": "c", "resources": asks(own)}]});
            let pod: Pod = serde_json::from_value(serde_json::json!({"spec": spec})).unwrap();
            assert_eq!(mode(&pod), expected);
        };
        check("", "", "");
        check("1", "", "pod_level");
        check("", "1", "container_level");
        check("1", "1", "pod_and_container_level");
    }

    #[test]
    fn few_labels() {
        assert_eq!(label("OutOfephemeral-storage"), "OutOfephemeral-storage");
        assert_eq!(label("OutOfexample.com/gpu"), "OutOfExtendedResources");
        assert_eq!([label("NodeAffinity"), label("")], ["Other"; 2]);
        rejected("Evicted");
        let text = default_registry().text();
        assert!(text.contains("kubelet_admission_rejections_total{reason=\"Evicted\"} 1"), "{text}");
    }
}
