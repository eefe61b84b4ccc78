//! The controllers. One folder or file each, named as upstream names it; each has a pure plan and a thin shell.
//!
//! The table below is the list of what runs. [`NOT_YET`] names upstream's others: they are accepted by `--controllers`
//! and reported at start, never pretended.

pub mod certificates;
pub mod clusterroleaggregation;
pub mod deployment;
pub mod endpointslice;
pub mod garbagecollector;
pub mod namespace;
pub mod nodeipam;
pub mod nodelifecycle;
pub mod podgc;
pub mod protection;
pub mod replicaset;
pub mod root_ca_certificate_publisher;
pub mod serviceaccount;
pub mod shared;
pub mod tainteviction;
pub mod tokencleaner;
pub mod ttl;
pub mod ttlafterfinished;

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
    on("node-ipam-controller", "nodeipam", "node-controller", nodeipam::build),
    on("node-lifecycle-controller", "nodelifecycle", "node-controller", nodelifecycle::build),
    on("taint-eviction-controller", "", "node-controller", tainteviction::build),
    on("pod-garbage-collector-controller", "podgc", "pod-garbage-collector", podgc::build),
    on(
        "clusterrole-aggregation-controller",
        "clusterrole-aggregation",
        "clusterrole-aggregation-controller",
        clusterroleaggregation::build,
    ),
    on(
        "ttl-after-finished-controller",
        "ttl-after-finished",
        "ttl-after-finished-controller",
        ttlafterfinished::build,
    ),
    on(
        "certificatesigningrequest-approving-controller",
        "csrapproving",
        "certificate-controller",
        certificates::approver::build,
    ),
    on(
        "certificatesigningrequest-cleaner-controller",
        "csrcleaner",
        "certificate-controller",
        certificates::cleaner::build,
    ),
    Descriptor {
        off_by_default: true,
        ..on("token-cleaner-controller", "tokencleaner", "token-cleaner", tokencleaner::build)
    },
    on(
        "persistentvolume-protection-controller",
        "pv-protection",
        "pv-protection-controller",
        protection::build_volumes,
    ),
    on(
        "persistentvolumeclaim-protection-controller",
        "pvc-protection",
        "pvc-protection-controller",
        protection::build_claims,
    ),
    on("ttl-controller", "ttl", "ttl-controller", ttl::build),
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
    ("resourcequota-controller", "resourcequota"),
    ("legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner"),
    ("horizontal-pod-autoscaler-controller", "horizontalpodautoscaling"),
    ("disruption-controller", "disruption"),
    ("certificatesigningrequest-signing-controller", "csrsigning"),
    ("podcertificaterequest-cleaner-controller", ""),
    ("kube-apiserver-serving-clustertrustbundle-publisher-controller", ""),
    ("bootstrap-signer-controller", "bootstrapsigner"),
    ("persistentvolume-binder-controller", "persistentvolume-binder"),
    ("persistentvolume-attach-detach-controller", "attachdetach"),
    ("persistentvolume-expander-controller", "persistentvolume-expander"),
    ("ephemeral-volume-controller", "ephemeral-volume"),
    ("volumeattributesclass-protection-controller", ""),
    ("selinux-warning-controller", ""),
    ("service-cidr-controller", ""),
    ("validatingadmissionpolicy-status-controller", ""),
    ("storage-version-migrator-controller", "svm"),
    ("resourceclaim-controller", "resource-claim-controller"),
    ("device-taint-eviction-controller", ""),
    ("storageversion-garbage-collector-controller", "storage-version-gc"),
    ("resourcepoolstatusrequest-controller", ""),
    ("podgroup-protection-controller", ""),
];
