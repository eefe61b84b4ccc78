//! Pods that the node did not take. Upstream: recordAdmissionRejection in pkg/kubelet/kubelet.go, v1.37.

use std::sync::OnceLock;

use component::metrics::{Counter, Family, Opts, default_registry};

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

/// Registers everything, so that it is there before anything happens.
pub fn install() {
    family();
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
    fn few_labels() {
        assert_eq!(label("OutOfephemeral-storage"), "OutOfephemeral-storage");
        assert_eq!(label("OutOfexample.com/gpu"), "OutOfExtendedResources");
        assert_eq!([label("NodeAffinity"), label("")], ["Other"; 2]);
        rejected("Evicted");
        let text = default_registry().text();
        assert!(text.contains("kubelet_admission_rejections_total{reason=\"Evicted\"} 1"), "{text}");
    }
}
