//! The controllers. One folder or file each, named as upstream names it; each has a pure plan and a thin shell.
//!
//! The table below is the list of what there is: all of upstream's.

pub mod attachdetach;
pub mod bootstrapsigner;
pub mod certificates;
pub mod clusterroleaggregation;
pub mod cronjob;
pub mod daemon;
pub mod deployment;
pub mod devicetainteviction;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslicemirroring;
pub mod ephemeral;
pub mod expand;
pub mod garbagecollector;
pub mod job;
pub mod kube_apiserver_serving_clustertrustbundle_publisher;
pub mod legacy_serviceaccount_token_cleaner;
pub mod namespace;
pub mod nodeipam;
pub mod nodelifecycle;
pub mod persistentvolume;
pub mod podautoscaler;
pub mod podgc;
pub mod podgroupprotection;
pub mod protection;
pub mod replicaset;
pub mod replication;
pub mod resourceclaim;
pub mod resourcepoolstatusrequest;
pub mod resourcequota;
pub mod root_ca_certificate_publisher;
pub mod selinuxwarning;
pub mod serviceaccount;
pub mod serviceaccount_token;
pub mod servicecidrs;
pub mod shared;
pub mod statefulset;
pub mod storageversiongc;
pub mod storageversionmigrator;
#[cfg(test)]
mod storm;
pub mod tainteviction;
pub mod tokencleaner;
pub mod triggertime;
pub mod ttl;
pub mod ttlafterfinished;
pub mod vacprotection;
pub mod validatingadmissionpolicystatus;

use component::features::Gate;

use crate::descriptor::{Build, Descriptor};

const fn on(name: &'static str, alias: &'static str, account: &'static str, build: Build) -> Descriptor {
    Descriptor { name, alias, account, gates: &[], off_by_default: false, build }
}

/// All controllers.
pub const ALL: &[Descriptor] = &[
    on(
        "serviceaccount-token-controller",
        "serviceaccount-token",
        "tokens-controller",
        serviceaccount_token::build,
    ),
    on("serviceaccount-controller", "serviceaccount", "service-account-controller", serviceaccount::build),
    on(
        "root-ca-certificate-publisher-controller",
        "root-ca-cert-publisher",
        "root-ca-cert-publisher",
        root_ca_certificate_publisher::build,
    ),
    on("namespace-controller", "namespace", "namespace-controller", namespace::build),
    on("endpointslice-controller", "endpointslice", "endpointslice-controller", endpointslice::build),
    on("endpoints-controller", "endpoint", "endpoint-controller", endpoints::build),
    on(
        "endpointslice-mirroring-controller",
        "endpointslicemirroring",
        "endpointslicemirroring-controller",
        endpointslicemirroring::build,
    ),
    on("deployment-controller", "deployment", "deployment-controller", deployment::build),
    on("replicaset-controller", "replicaset", "replicaset-controller", replicaset::build),
    on("daemonset-controller", "daemonset", "daemon-set-controller", daemon::build),
    on("statefulset-controller", "statefulset", "statefulset-controller", statefulset::build),
    on("job-controller", "job", "job-controller", job::build),
    on("cronjob-controller", "cronjob", "cronjob-controller", cronjob::build),
    on(
        "replicationcontroller-controller",
        "replicationcontroller",
        "replication-controller",
        replication::build,
    ),
    on("disruption-controller", "disruption", "disruption-controller", disruption::build),
    on(
        "horizontal-pod-autoscaler-controller",
        "horizontalpodautoscaling",
        "horizontal-pod-autoscaler",
        podautoscaler::build,
    ),
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
    on("resourcequota-controller", "resourcequota", "resourcequota-controller", resourcequota::build),
    on(
        "legacy-serviceaccount-token-cleaner-controller",
        "legacy-service-account-token-cleaner",
        "legacy-service-account-token-cleaner",
        legacy_serviceaccount_token_cleaner::build,
    ),
    Descriptor {
        off_by_default: true,
        ..on("bootstrap-signer-controller", "bootstrapsigner", "bootstrap-signer", bootstrapsigner::build)
    },
    on(
        "certificatesigningrequest-signing-controller",
        "csrsigning",
        "certificate-controller",
        certificates::signer::build,
    ),
    Descriptor {
        gates: &[Gate::PodCertificateRequest],
        ..on(
            "podcertificaterequest-cleaner-controller",
            "",
            "podcertificaterequestcleaner",
            certificates::pod_certificate_cleaner::build,
        )
    },
    on(
        "persistentvolume-binder-controller",
        "persistentvolume-binder",
        "persistent-volume-binder",
        persistentvolume::build,
    ),
    Descriptor {
        gates: &[Gate::ClusterTrustBundle],
        ..on(
            "kube-apiserver-serving-clustertrustbundle-publisher-controller",
            "",
            "kube-apiserver-serving-clustertrustbundle-publisher",
            kube_apiserver_serving_clustertrustbundle_publisher::build,
        )
    },
    on(
        "persistentvolume-expander-controller",
        "persistentvolume-expander",
        "expand-controller",
        expand::build,
    ),
    on(
        "persistentvolume-attach-detach-controller",
        "attachdetach",
        "attachdetach-controller",
        attachdetach::build,
    ),
    Descriptor {
        gates: &[Gate::VolumeAttributesClass],
        ..on(
            "volumeattributesclass-protection-controller",
            "",
            "volumeattributesclass-protection-controller",
            vacprotection::build,
        )
    },
    on("ephemeral-volume-controller", "ephemeral-volume", "ephemeral-volume-controller", ephemeral::build),
    Descriptor {
        gates: &[Gate::MultiCIDRServiceAllocator],
        ..on("service-cidr-controller", "", "service-cidrs-controller", servicecidrs::build)
    },
    Descriptor {
        gates: &[Gate::DynamicResourceAllocation],
        ..on(
            "resourceclaim-controller",
            "resource-claim-controller",
            "resource-claim-controller",
            resourceclaim::build,
        )
    },
    on(
        "validatingadmissionpolicy-status-controller",
        "",
        "validatingadmissionpolicy-status-controller",
        validatingadmissionpolicystatus::build,
    ),
    Descriptor {
        gates: &[Gate::StorageVersionMigrator],
        ..on(
            "storage-version-migrator-controller",
            "svm",
            "storage-version-migrator-controller",
            storageversionmigrator::build,
        )
    },
    Descriptor {
        gates: &[Gate::DynamicResourceAllocation, Gate::DRADeviceTaints],
        ..on(
            "device-taint-eviction-controller",
            "",
            "device-taint-eviction-controller",
            devicetainteviction::build,
        )
    },
    Descriptor {
        gates: &[Gate::GenericWorkload],
        ..on(
            "podgroup-protection-controller",
            "",
            "podgroup-protection-controller",
            podgroupprotection::build,
        )
    },
    Descriptor {
        gates: &[Gate::APIServerIdentity, Gate::StorageVersionAPI],
        ..on(
            "storageversion-garbage-collector-controller",
            "storage-version-gc",
            "storage-version-garbage-collector",
            storageversiongc::build,
        )
    },
    Descriptor {
        gates: &[Gate::DRAResourcePoolStatus],
        ..on(
            "resourcepoolstatusrequest-controller",
            "",
            "resourcepoolstatusrequest-controller",
            resourcepoolstatusrequest::build,
        )
    },
    Descriptor {
        gates: &[Gate::SELinuxChangePolicy],
        off_by_default: true,
        ..on("selinux-warning-controller", "", "selinux-warning-controller", selinuxwarning::build)
    },
    on("ttl-controller", "ttl", "ttl-controller", ttl::build),
    on(
        "garbage-collector-controller",
        "garbagecollector",
        "generic-garbage-collector",
        garbagecollector::build,
    ),
];
