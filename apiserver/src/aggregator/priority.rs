//! Where groups and versions stand in discovery. Upstream: `cmd/kube-apiserver/app/aggregator.go`,
//! `pkg/controlplane/apiserver/aggregator.go`, `crdregistration_controller.go`.

/// Group, its priority, and the priorities of its versions.
type Row = (&'static str, i64, &'static [(&'static str, i64)]);

const TABLE: &[Row] = &[
    ("", 18000, &[("v1", 1)]),
    ("apps", 17800, &[("v1", 15)]),
    ("events.k8s.io", 17750, &[("v1", 15), ("v1beta1", 5)]),
    ("authentication.k8s.io", 17700, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("authorization.k8s.io", 17600, &[("v1", 15)]),
    ("autoscaling", 17500, &[("v1", 15), ("v2", 30), ("v2beta1", 9), ("v2beta2", 1)]),
    ("batch", 17400, &[("v1", 15), ("v1beta1", 9), ("v2alpha1", 9)]),
    ("certificates.k8s.io", 17300, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("networking.k8s.io", 17200, &[("v1", 15), ("v1beta1", 9)]),
    ("policy", 17100, &[("v1", 15), ("v1beta1", 9)]),
    ("rbac.authorization.k8s.io", 17000, &[("v1", 15)]),
    ("storage.k8s.io", 16800, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("apiextensions.k8s.io", 16700, &[("v1", 15)]),
    ("admissionregistration.k8s.io", 16700, &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)]),
    ("scheduling.k8s.io", 16600, &[("v1", 15), ("v1beta1", 9), ("v1alpha3", 3)]),
    ("coordination.k8s.io", 16500, &[("v1", 15), ("v1beta1", 13), ("v1alpha2", 12)]),
    ("node.k8s.io", 16300, &[("v1", 15), ("v1alpha1", 1), ("v1beta1", 9)]),
    ("discovery.k8s.io", 16200, &[("v1", 15), ("v1beta1", 12)]),
    ("resource.k8s.io", 16200, &[("v1", 21), ("v1beta2", 15), ("v1beta1", 9), ("v1alpha3", 1)]),
    (
        "flowcontrol.apiserver.k8s.io",
        16100,
        &[("v1", 21), ("v1beta3", 18), ("v1beta2", 15), ("v1beta1", 12), ("v1alpha1", 9)],
    ),
    ("internal.apiserver.k8s.io", 16000, &[("v1alpha1", 9)]),
    ("storagemigration.k8s.io", 15800, &[("v1", 15), ("v1beta1", 9)]),
    ("lifecycle.k8s.io", 15700, &[("v1alpha1", 1)]),
];

/// The aggregator's own group, which stands before all others and has no APIService.
pub(super) const OWN: &str = "apiregistration.k8s.io";
/// Groups of custom resources.
pub(super) const CUSTOM: (i64, i64) = (1000, 100);

/// Priorities of a built-in group-version: of the group, of the version in it.
pub(super) fn of(group: &str, version: &str) -> Option<(i64, i64)> {
    if group == OWN {
        return Some((20_000, 18));
    }
    let (_, group, versions) = TABLE.iter().find(|(name, ..)| *name == group)?;
    let (_, version) = versions.iter().find(|(name, _)| *name == version)?;
    Some((*group, *version))
}

/// As [`of`]; what is not built in is a custom resource.
pub(crate) fn or_custom(group: &str, version: &str) -> (i64, i64) {
    of(group, version).unwrap_or(CUSTOM)
}
