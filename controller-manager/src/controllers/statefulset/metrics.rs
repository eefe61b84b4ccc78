//! Metrics of stateful sets, by upstream's names. Upstream: pkg/controller/statefulset/metrics/metrics.go.

use std::sync::LazyLock;

use client::Meta;
use component::metrics::{Family, Gauge, Opts};
use k8s_openapi::api::apps::v1::StatefulSet;

struct Families {
    most: Family<Gauge>,
    unavailable: Family<Gauge>,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| {
    let gauge = |name: &'static str, help: &'static str| {
        let labels = &["statefulset_namespace", "statefulset_name", "pod_management_policy"];
        Family::gauge(Opts::new(name, help).labels(labels))
    };
    Families {
        most: gauge(
            "statefulset_controller_statefulset_max_unavailable",
            "Maximum number of unavailable pods allowed during StatefulSet rolling updates",
        ),
        unavailable: gauge(
            "statefulset_controller_statefulset_unavailable_replicas",
            "Current number of unavailable pods in StatefulSet",
        ),
    }
});

/// Tells how many pods of a set are unavailable, and how many may be.
pub fn tell(set: &StatefulSet, unavailable: i32, most: usize) {
    let policy = set.spec.pod_management_policy.as_deref().unwrap_or_default();
    let labels = [set.namespace(), set.name(), policy];
    FAMILIES.most.with(&labels).set(f64::from(u32::try_from(most).unwrap_or(u32::MAX)));
    FAMILIES.unavailable.with(&labels).set(f64::from(unavailable.max(0)));
}
