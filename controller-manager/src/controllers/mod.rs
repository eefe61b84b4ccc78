//! The controllers. One folder or file each, named as upstream names it; each has a pure plan and a thin shell.
//!
//! The table below is the list of what runs. [`NOT_YET`] names upstream's others: they are accepted by `--controllers`
//! and reported at start, never pretended.

pub mod deployment;
pub mod endpointslice;
pub mod garbagecollector;
pub mod namespace;
pub mod replicaset;
pub mod root_ca_certificate_publisher;
pub mod serviceaccount;
pub mod shared;

use crate::descriptor::{Build, Descriptor};

const fn on(name: &'static str, alias: &'static str, account: &'static str, build: Build) -> Descriptor {
    Descriptor { name, alias, account, gates: &[], off_by_default: false, build }
}

/// All controllers that are there.
pub const ALL: &[Descriptor] = &[
    on("serviceaccount-controller", "serviceaccount", "service-account-controller", serviceaccount::build),
    on(
        "root-ca-certificate-publisher-controller",
        "root-ca-cert-publisher",
        "root-ca-cert-publisher",
        root_ca_certificate_publisher::build,
    ),
    on("namespace-controller", "namespace", "namespace-controller", namespace::build),
    on("endpointslice-controller", "endpointslice", "endpointslice-controller", endpointslice::build),
    on("deployment-controller", "deployment", "deployment-controller", deployment::build),
    on("replicaset-controller", "replicaset", "replicaset-controller", replicaset::build),
    on(
        "garbage-collector-controller",
        "garbagecollector",
        "generic-garbage-collector",
        garbagecollector::build,
    ),
];

/// Upstream's controllers that are not there yet, with their aliases.
pub const NOT_YET: &[(&str, &str)] = &[
    ("serviceaccount-token-controller", "serviceaccount-token"),
    ("endpoints-controller", "endpoint"),
    ("endpointslice-mirroring-controller", "endpointslicemirroring"),
    ("replicationcontroller-controller", "replicationcontroller"),
    ("statefulset-controller", "statefulset"),
    ("daemonset-controller", "daemonset"),
    ("job-controller", "job"),
    ("cronjob-controller", "cronjob"),
    ("ttl-after-finished-controller", "ttl-after-finished"),
    ("pod-garbage-collector-controller", "podgc"),
    ("resourcequota-controller", "resourcequota"),
    ("legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner"),
    ("horizontal-pod-autoscaler-controller", "horizontalpodautoscaling"),
    ("disruption-controller", "disruption"),
    ("certificatesigningrequest-signing-controller", "csrsigning"),
    ("certificatesigningrequest-approving-controller", "csrapproving"),
    ("certificatesigningrequest-cleaner-controller", "csrcleaner"),
    ("podcertificaterequest-cleaner-controller", ""),
    ("kube-apiserver-serving-clustertrustbundle-publisher-controller", ""),
    ("bootstrap-signer-controller", "bootstrapsigner"),
    ("token-cleaner-controller", "tokencleaner"),
    ("node-ipam-controller", "nodeipam"),
    ("node-lifecycle-controller", "nodelifecycle"),
    ("taint-eviction-controller", ""),
    ("ttl-controller", "ttl"),
    ("persistentvolume-binder-controller", "persistentvolume-binder"),
    ("persistentvolume-attach-detach-controller", "attachdetach"),
    ("persistentvolume-expander-controller", "persistentvolume-expander"),
    ("persistentvolume-protection-controller", "pv-protection"),
    ("persistentvolumeclaim-protection-controller", "pvc-protection"),
    ("ephemeral-volume-controller", "ephemeral-volume"),
    ("volumeattributesclass-protection-controller", ""),
    ("selinux-warning-controller", ""),
    ("clusterrole-aggregation-controller", "clusterrole-aggregation"),
    ("service-cidr-controller", ""),
    ("validatingadmissionpolicy-status-controller", ""),
    ("storage-version-migrator-controller", "svm"),
    ("resourceclaim-controller", "resource-claim-controller"),
    ("device-taint-eviction-controller", ""),
    ("storageversion-garbage-collector-controller", "storage-version-gc"),
    ("resourcepoolstatusrequest-controller", ""),
    ("podgroup-protection-controller", ""),
];
