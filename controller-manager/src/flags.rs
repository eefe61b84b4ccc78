//! The flags of kube-controller-manager. Names, types, defaults, sections and deprecations are upstream's
//! (`hack/data/flags/kube-controller-manager.txt`; a test compares them), help texts are ours.

use component::flags::{Kind, Section, flag, shared};

/// Every flag, by section in the order of `--help`.
pub const SECTIONS: &[Section] = &[
    Section {
        title: "Debugging",
        flags: &[
            shared::CONTENTION_PROFILING,
            shared::PROFILING,
        ],
    },
    Section {
        title: "Leader-migration",
        flags: &[
            flag("enable-leader-migration", Kind::Bool, "false", "Move controllers between managers by leader election."),
            flag("leader-migration-config", Kind::String, "", "File with the leader migration configuration; empty means the default."),
        ],
    },
    Section {
        title: "Generic",
        flags: &[
            flag("allocate-node-cidrs", Kind::Bool, "false", "Assign pod address ranges to nodes (and set routes where a cloud provider does)."),
            flag("cidr-allocator-type", Kind::String, "RangeAllocator", "How node address ranges are allocated."),
            flag("cloud-config", Kind::String, "", "Configuration file of the cloud provider; empty for none."),
            shared::CLOUD_PROVIDER,
            shared::CLUSTER_CIDR,
            flag("cluster-name", Kind::String, "kubernetes", "Prefix of names of resources made for this cluster."),
            flag("configure-cloud-routes", Kind::Bool, "true", "Set routes for --allocate-node-cidrs at the cloud provider."),
            flag("controller-shutdown-timeout", Kind::Duration, "10s", "Time to wait for controllers to end."),
            flag("controller-start-interval", Kind::Duration, "0s", "Time between starting controllers."),
            flag("controllers", Kind::Strings, "[*]", "Controllers to run: \"*\" is all that are on by default, \"foo\" adds one, \"-foo\" leaves one out."),
            shared::EMULATED_VERSION,
            flag("external-cloud-volume-plugin", Kind::String, "", "Volume plugin to use when --cloud-provider is external."),
            flag("feature-gates", Kind::Multimap, "", "Feature gates to set, as name=true or component:name=false. Repeatable. Options are:"),
            shared::KUBE_API_BURST.with_default("30"),
            shared::KUBE_API_CONTENT_TYPE,
            shared::KUBE_API_QPS,
            shared::LEADER_ELECT,
            shared::LEADER_ELECT_LEASE_DURATION,
            shared::LEADER_ELECT_RENEW_DEADLINE,
            shared::LEADER_ELECT_RESOURCE_LOCK,
            shared::LEADER_ELECT_RESOURCE_NAME,
            shared::LEADER_ELECT_RESOURCE_NAMESPACE,
            shared::LEADER_ELECT_RETRY_PERIOD,
            shared::MIN_COMPATIBILITY_VERSION,
            flag("min-resync-period", Kind::Duration, "12h0m0s", "Least resync period of informers; actual ones are up to twice as long."),
            flag("route-reconciliation-period", Kind::Duration, "10s", "Time between reconciliations of node routes."),
            flag("use-service-account-credentials", Kind::Bool, "false", "Use a service account of its own for each controller."),
        ],
    },
    Section {
        title: "Secure serving",
        flags: &[
            shared::BIND_ADDRESS,
            shared::CERT_DIR,
            shared::DISABLE_HTTP2_SERVING,
            shared::HTTP2_MAX_STREAMS_PER_CONNECTION,
            shared::PERMIT_ADDRESS_SHARING,
            shared::PERMIT_PORT_SHARING,
            shared::SECURE_PORT.with_default("10257"),
            shared::TLS_CERT_FILE,
            shared::TLS_CIPHER_SUITES,
            shared::TLS_CURVE_PREFERENCES,
            shared::TLS_MIN_VERSION,
            shared::TLS_PRIVATE_KEY_FILE,
            shared::TLS_SNI_CERT_KEY,
        ],
    },
    Section {
        title: "Authentication",
        flags: &[
            shared::AUTHENTICATION_KUBECONFIG,
            shared::AUTHENTICATION_SKIP_LOOKUP,
            shared::AUTHENTICATION_TOKEN_WEBHOOK_CACHE_TTL.with_default("10s"),
            shared::AUTHENTICATION_TOLERATE_LOOKUP_FAILURE,
            shared::CLIENT_CA_FILE,
            shared::REQUESTHEADER_ALLOWED_NAMES,
            shared::REQUESTHEADER_CLIENT_CA_FILE,
            shared::REQUESTHEADER_EXTRA_HEADERS_PREFIX,
            shared::REQUESTHEADER_GROUP_HEADERS,
            shared::REQUESTHEADER_UID_HEADERS,
            shared::REQUESTHEADER_USERNAME_HEADERS,
        ],
    },
    Section {
        title: "Authorization",
        flags: &[
            shared::AUTHORIZATION_ALWAYS_ALLOW_PATHS,
            shared::AUTHORIZATION_KUBECONFIG,
            shared::AUTHORIZATION_WEBHOOK_CACHE_AUTHORIZED_TTL.with_default("10s"),
            shared::AUTHORIZATION_WEBHOOK_CACHE_UNAUTHORIZED_TTL.with_default("10s"),
        ],
    },
    Section {
        title: "Persistentvolume-attach-detach-controller",
        flags: &[
            flag("attach-detach-reconcile-sync-period", Kind::Duration, "1m0s", "Wait between reconciliations of volume attachments; more than a second."),
            flag("disable-attach-detach-reconcile-sync", Kind::Bool, "false", "Turn reconciliation of volume attachments off; wrong assumptions then stay."),
            flag("disable-force-detach-on-timeout", Kind::Bool, "false", "Never detach volumes by force because a node is unhealthy for long."),
        ],
    },
    Section {
        title: "Certificatesigningrequest-signing-controller",
        flags: &[
            flag("cluster-signing-cert-file", Kind::String, "", "CA certificate that signs cluster-scoped certificates; excludes the more specific flags."),
            flag("cluster-signing-duration", Kind::Duration, "8760h0m0s", "Longest validity of signed certificates."),
            flag("cluster-signing-key-file", Kind::String, "", "Key of --cluster-signing-cert-file; excludes the more specific flags."),
            flag("cluster-signing-kube-apiserver-client-cert-file", Kind::String, "", "CA certificate for signer kubernetes.io/kube-apiserver-client."),
            flag("cluster-signing-kube-apiserver-client-key-file", Kind::String, "", "CA key for signer kubernetes.io/kube-apiserver-client."),
            flag("cluster-signing-kubelet-client-cert-file", Kind::String, "", "CA certificate for signer kubernetes.io/kube-apiserver-client-kubelet."),
            flag("cluster-signing-kubelet-client-key-file", Kind::String, "", "CA key for signer kubernetes.io/kube-apiserver-client-kubelet."),
            flag("cluster-signing-kubelet-serving-cert-file", Kind::String, "", "CA certificate for signer kubernetes.io/kubelet-serving."),
            flag("cluster-signing-kubelet-serving-key-file", Kind::String, "", "CA key for signer kubernetes.io/kubelet-serving."),
            flag("cluster-signing-legacy-unknown-cert-file", Kind::String, "", "CA certificate for signer kubernetes.io/legacy-unknown."),
            flag("cluster-signing-legacy-unknown-key-file", Kind::String, "", "CA key for signer kubernetes.io/legacy-unknown."),
        ],
    },
    Section {
        title: "Deployment-controller",
        flags: &[
            flag("concurrent-deployment-syncs", Kind::Int32, "5", "Deployments synced at once; more is faster and costs more CPU and network."),
        ],
    },
    Section {
        title: "Disruption-controller",
        flags: &[
            flag("concurrent-disruption-syncs", Kind::Int32, "1", "Disruption budgets synced at once; more is faster and costs more CPU and network."),
        ],
    },
    Section {
        title: "Device-taint-eviction-controller",
        flags: &[
            flag("concurrent-device-taint-eviction-syncs", Kind::Int32, "8", "Evictions because of device taints at once."),
        ],
    },
    Section {
        title: "Resourceclaim-controller",
        flags: &[
            flag("concurrent-resourceclaim-syncs", Kind::Int32, "50", "Resource claims synced at once; more is faster and costs more CPU and network."),
        ],
    },
    Section {
        title: "Statefulset-controller",
        flags: &[
            flag("concurrent-statefulset-syncs", Kind::Int32, "5", "Stateful sets synced at once; more is faster and costs more CPU and network."),
        ],
    },
    Section {
        title: "Daemonset-controller",
        flags: &[
            flag("concurrent-daemonset-syncs", Kind::Int32, "2", "Daemon sets synced at once; more is faster and costs more CPU and network."),
        ],
    },
    Section {
        title: "Endpoints-controller",
        flags: &[
            flag("concurrent-endpoint-syncs", Kind::Int32, "5", "Services whose endpoints are synced at once; more is faster and costs more CPU and network."),
            flag("endpoint-updates-batch-period", Kind::Duration, "0s", "Time over which pod changes are gathered before endpoints are written."),
        ],
    },
    Section {
        title: "Endpointslice-controller",
        flags: &[
            flag("concurrent-service-endpoint-syncs", Kind::Int32, "5", "Services whose endpoint slices are synced at once; more is faster and costs more CPU and network."),
            flag("endpointslice-updates-batch-period", Kind::Duration, "0s", "Time over which pod changes are gathered before endpoint slices are written."),
            flag("max-endpoints-per-slice", Kind::Int32, "100", "Endpoints per slice, 1 to 1000."),
        ],
    },
    Section {
        title: "Endpointslice-mirroring-controller",
        flags: &[
            flag("mirroring-concurrent-service-endpoint-syncs", Kind::Int32, "5", "Services whose endpoints are mirrored at once; more is faster and costs more CPU and network."),
            flag("mirroring-endpointslice-updates-batch-period", Kind::Duration, "0s", "Time over which changes are gathered before mirrored slices are written."),
            flag("mirroring-max-endpoints-per-subset", Kind::Int32, "1000", "Endpoints per mirrored slice, 1 to 1000."),
        ],
    },
    Section {
        title: "Ephemeral-volume-controller",
        flags: &[
            flag("concurrent-ephemeralvolume-syncs", Kind::Int32, "5", "Ephemeral volumes synced at once; more is faster and costs more CPU and network."),
        ],
    },
    Section {
        title: "Garbage-collector-controller",
        flags: &[
            flag("concurrent-gc-syncs", Kind::Int32, "20", "Garbage collector workers."),
            shared::ENABLE_GARBAGE_COLLECTOR,
        ],
    },
    Section {
        title: "Horizontal-pod-autoscaler-controller",
        flags: &[
            flag("concurrent-horizontal-pod-autoscaler-syncs", Kind::Int32, "5", "Autoscalers synced at once; more is faster and costs more CPU and network."),
            flag("horizontal-pod-autoscaler-cpu-initialization-period", Kind::Duration, "5m0s", "Time after a pod's start in which its CPU samples may be skipped."),
            flag("horizontal-pod-autoscaler-downscale-stabilization", Kind::Duration, "5m0s", "Time over which the highest recommendation counts before scaling down."),
            flag("horizontal-pod-autoscaler-initial-readiness-delay", Kind::Duration, "30s", "Time after a pod's start in which readiness changes count as initial."),
            flag("horizontal-pod-autoscaler-sync-period", Kind::Duration, "15s", "Time between syncs of autoscalers."),
            flag("horizontal-pod-autoscaler-tolerance", Kind::Float64, "0.1", "Least change of the wanted to actual ratio that scales."),
        ],
    },
    Section {
        title: "Job-controller",
        flags: &[
            flag("concurrent-job-syncs", Kind::Int32, "5", "Jobs synced at once; more is faster and costs more CPU and network."),
        ],
    },
    Section {
        title: "Cronjob-controller",
        flags: &[
            flag("concurrent-cron-job-syncs", Kind::Int32, "5", "Cron jobs synced at once; more is faster and costs more CPU and network."),
        ],
    },
    Section {
        title: "Legacy-serviceaccount-token-cleaner-controller",
        flags: &[
            flag("legacy-service-account-token-clean-up-period", Kind::Duration, "8760h0m0s", "Time a legacy token is unused before it is removed."),
        ],
    },
    Section {
        title: "Namespace-controller",
        flags: &[
            flag("concurrent-namespace-syncs", Kind::Int32, "10", "Namespaces synced at once; more ends them faster and costs more CPU and network."),
            flag("namespace-sync-period", Kind::Duration, "5m0s", "Time between syncs of namespaces."),
        ],
    },
    Section {
        title: "Node-ipam-controller",
        flags: &[
            flag("node-cidr-mask-size", Kind::Int32, "0", "Mask size of node address ranges; default 24 for IPv4, 64 for IPv6."),
            flag("node-cidr-mask-size-ipv4", Kind::Int32, "0", "Mask size of IPv4 node address ranges in dual-stack clusters; default 24."),
            flag("node-cidr-mask-size-ipv6", Kind::Int32, "0", "Mask size of IPv6 node address ranges in dual-stack clusters; default 64."),
            shared::SERVICE_CLUSTER_IP_RANGE,
        ],
    },
    Section {
        title: "Node-lifecycle-controller",
        flags: &[
            flag("large-cluster-size-threshold", Kind::Int32, "50", "Nodes above which eviction treats a zone as large."),
            flag("node-eviction-rate", Kind::Float32, "0.1", "Nodes per second emptied in a healthy zone."),
            flag("node-monitor-grace-period", Kind::Duration, "50s", "Time a node may be silent before it counts as unhealthy."),
            flag("node-monitor-period", Kind::Duration, "5s", "Time between syncs of node status."),
            flag("node-startup-grace-period", Kind::Duration, "1m0s", "Time a starting node may be silent before it counts as unhealthy."),
            flag("secondary-node-eviction-rate", Kind::Float32, "0.01", "Nodes per second emptied in an unhealthy zone; 0 when the cluster is small."),
            flag("unhealthy-zone-threshold", Kind::Float32, "0.55", "Share of unready nodes (at least 3) that makes a zone unhealthy."),
        ],
    },
    Section {
        title: "Persistentvolume-binder-controller",
        flags: &[
            flag("enable-dynamic-provisioning", Kind::Bool, "true", "Provision volumes on demand."),
            flag("enable-hostpath-provisioner", Kind::Bool, "false", "Provision host path volumes when there is no cloud provider, for tests only."),
            flag("flex-volume-plugin-dir", Kind::String, "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/", "Directory of third-party flexible volume plugins."),
            flag("pv-recycler-increment-timeout-nfs", Kind::Int32, "30", "Seconds added to an NFS scrubber's time limit per Gi."),
            flag("pv-recycler-minimum-timeout-hostpath", Kind::Int32, "60", "Least time limit, in seconds, of a host path recycler; for tests only."),
            flag("pv-recycler-minimum-timeout-nfs", Kind::Int32, "300", "Least time limit, in seconds, of an NFS recycler."),
            flag("pv-recycler-pod-template-filepath-hostpath", Kind::String, "", "Pod template of host path recyclers; for tests only."),
            flag("pv-recycler-pod-template-filepath-nfs", Kind::String, "", "Pod template of NFS recyclers."),
            flag("pv-recycler-timeout-increment-hostpath", Kind::Int32, "30", "Seconds added to a host path scrubber's time limit per Gi; for tests only."),
            flag("pvclaimbinder-sync-period", Kind::Duration, "15s", "Time between syncs of volumes and claims."),
        ],
    },
    Section {
        title: "Pod-garbage-collector-controller",
        flags: &[
            flag("terminated-pod-gc-threshold", Kind::Int32, "12500", "Terminated pods that may exist before they are collected; 0 or less turns it off."),
        ],
    },
    Section {
        title: "Replicaset-controller",
        flags: &[
            flag("concurrent-replicaset-syncs", Kind::Int32, "5", "Replica sets synced at once; more is faster and costs more CPU and network."),
        ],
    },
    Section {
        title: "Replicationcontroller-controller",
        flags: &[
            flag("concurrent-rc-syncs", Kind::Int32, "5", "Replication controllers synced at once; more is faster and costs more CPU and network."),
        ],
    },
    Section {
        title: "Resourcequota-controller",
        flags: &[
            flag("concurrent-resource-quota-syncs", Kind::Int32, "5", "Resource quotas synced at once; more is faster and costs more CPU and network."),
            flag("resource-quota-sync-period", Kind::Duration, "5m0s", "Time between syncs of quota use."),
        ],
    },
    Section {
        title: "Serviceaccount-controller",
        flags: &[
            flag("concurrent-serviceaccount-token-syncs", Kind::Int32, "5", "Service account tokens synced at once; more is faster and costs more CPU and network."),
            flag("root-ca-file", Kind::String, "", "CA bundle put into service account secrets."),
            flag("service-account-private-key-file", Kind::String, "", "Private key (PEM) that signs service account tokens."),
        ],
    },
    Section {
        title: "Ttl-after-finished-controller",
        flags: &[
            flag("concurrent-ttl-after-finished-syncs", Kind::Int32, "5", "Finished objects removed at once."),
        ],
    },
    Section {
        title: "Validatingadmissionpolicy-status-controller",
        flags: &[
            flag("concurrent-validating-admission-policy-status-syncs", Kind::Int32, "5", "Admission policies whose status is synced at once."),
        ],
    },
    Section {
        title: "Metrics",
        flags: &[
            shared::ALLOW_METRIC_LABELS,
            shared::ALLOW_METRIC_LABELS_MANIFEST,
            shared::DISABLED_METRICS,
            shared::SHOW_HIDDEN_METRICS_FOR_VERSION,
        ],
    },
    Section {
        title: "Logs",
        flags: &[
            shared::LOG_FLUSH_FREQUENCY,
            shared::LOG_JSON_INFO_BUFFER_SIZE,
            shared::LOG_JSON_SPLIT_STREAM,
            shared::LOG_TEXT_INFO_BUFFER_SIZE,
            shared::LOG_TEXT_SPLIT_STREAM,
            shared::LOGGING_FORMAT,
            shared::V,
            shared::VMODULE,
        ],
    },
    Section {
        title: "Misc",
        flags: &[
            flag("allow-untagged-cloud", Kind::Bool, "false", "Let the cluster run on cloud instances without a cluster identity.").deprecated("This flag is deprecated and will be removed in a future release. A cluster-id will be required on cloud instances.").hidden(),
            shared::KUBECONFIG,
            shared::MASTER,
            flag("node-sync-period", Kind::Duration, "0s", "Has no effect.").deprecated("This flag is currently no-op and will be deleted.").hidden(),
        ],
    },
    Section {
        title: "Global",
        flags: &[
            shared::HELP,
            shared::VERSION,
        ],
    },
];
