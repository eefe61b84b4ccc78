//! The flags of kube-scheduler. Names, types, defaults, sections and deprecations are upstream's
//! (`hack/data/flags/kube-scheduler.txt`; a test compares them), help texts are ours.

use component::flags::{Kind, Section, flag, shared};

/// Every flag, by section in the order of `--help`.
pub const SECTIONS: &[Section] = &[
    Section { title: "Misc", flags: &[shared::CONFIG, shared::MASTER, shared::WRITE_CONFIG_TO] },
    Section {
        title: "Secure serving",
        flags: &[
            shared::BIND_ADDRESS,
            shared::CERT_DIR,
            shared::DISABLE_HTTP2_SERVING,
            shared::HTTP2_MAX_STREAMS_PER_CONNECTION,
            shared::PERMIT_ADDRESS_SHARING,
            shared::PERMIT_PORT_SHARING,
            shared::SECURE_PORT.with_default("10259"),
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
            shared::AUTHENTICATION_TOLERATE_LOOKUP_FAILURE.with_default("true"),
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
        title: "Deprecated",
        flags: &[
            shared::CONTENTION_PROFILING.with_default("true"),
            shared::KUBE_API_BURST,
            shared::KUBE_API_CONTENT_TYPE,
            shared::KUBE_API_QPS.with_default("50"),
            shared::KUBECONFIG,
            flag(
                "pod-max-in-unschedulable-pods-duration",
                Kind::Duration,
                "5m0s",
                "DEPRECATED: longest stay among unschedulable pods before another attempt.",
            ),
            shared::PROFILING,
        ],
    },
    Section {
        title: "Leader election",
        flags: &[
            shared::LEADER_ELECT,
            shared::LEADER_ELECT_LEASE_DURATION,
            shared::LEADER_ELECT_RENEW_DEADLINE,
            shared::LEADER_ELECT_RESOURCE_LOCK,
            shared::LEADER_ELECT_RESOURCE_NAME.with_default("kube-scheduler"),
            shared::LEADER_ELECT_RESOURCE_NAMESPACE,
            shared::LEADER_ELECT_RETRY_PERIOD,
        ],
    },
    Section {
        title: "Feature gate",
        flags: &[
            shared::EMULATED_VERSION,
            flag(
                "feature-gates",
                Kind::Multimap,
                "",
                "Feature gates to set, as name=true or component:name=false. Repeatable. Options are:",
            ),
            shared::MIN_COMPATIBILITY_VERSION,
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
    Section { title: "Global", flags: &[shared::HELP, shared::VERSION] },
];
