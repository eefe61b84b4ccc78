//! Defaults of the scheduling group. Upstream: pkg/apis/scheduling/*/defaults.go.

use super::fields::{child, if_nil};
use super::{Context, Function};
use machinery::Map;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("scheduling/v1.PriorityClass", priority_class),
    ("scheduling/v1alpha3.CompositePodGroup", pod_group),
    ("scheduling/v1alpha3.PodGroup", pod_group),
    ("scheduling/v1beta1.PodGroup", pod_group),
    ("scheduling/v1beta1.PriorityClass", priority_class),
];

const PREEMPT: &str = "PreemptLowerPriority";

fn priority_class(m: &mut Map, _: &Context) {
    if_nil(m, "preemptionPolicy", PREEMPT);
}

fn pod_group(m: &mut Map, context: &Context) {
    if context.gates.pod_group_preemption_policy {
        if_nil(child(m, "spec"), "preemptionPolicy", PREEMPT);
    }
}
