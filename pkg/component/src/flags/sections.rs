//! Whole sections of flags that several daemons have.

use super::{Flag, shared};

/// HTTPS; `port` and `cert_dir` are what daemons differ in.
#[must_use]
pub const fn secure_serving(port: &'static str, cert_dir: &'static str) -> [Flag; 13] {
    [
        shared::BIND_ADDRESS,
        shared::CERT_DIR.with_default(cert_dir),
        shared::DISABLE_HTTP2_SERVING,
        shared::HTTP2_MAX_STREAMS_PER_CONNECTION,
        shared::PERMIT_ADDRESS_SHARING,
        shared::PERMIT_PORT_SHARING,
        shared::SECURE_PORT.with_default(port),
        shared::TLS_CERT_FILE,
        shared::TLS_CIPHER_SUITES,
        shared::TLS_CURVE_PREFERENCES,
        shared::TLS_MIN_VERSION,
        shared::TLS_PRIVATE_KEY_FILE,
        shared::TLS_SNI_CERT_KEY,
    ]
}

/// Authentication by the API server; `tolerate` says whether the daemon starts if settings cannot be looked up.
#[must_use]
pub const fn delegated_authentication(tolerate: &'static str) -> [Flag; 11] {
    [
        shared::AUTHENTICATION_KUBECONFIG,
        shared::AUTHENTICATION_SKIP_LOOKUP,
        shared::AUTHENTICATION_TOKEN_WEBHOOK_CACHE_TTL.with_default("10s"),
        shared::AUTHENTICATION_TOLERATE_LOOKUP_FAILURE.with_default(tolerate),
        shared::CLIENT_CA_FILE,
        shared::REQUESTHEADER_ALLOWED_NAMES,
        shared::REQUESTHEADER_CLIENT_CA_FILE,
        shared::REQUESTHEADER_EXTRA_HEADERS_PREFIX,
        shared::REQUESTHEADER_GROUP_HEADERS,
        shared::REQUESTHEADER_UID_HEADERS,
        shared::REQUESTHEADER_USERNAME_HEADERS,
    ]
}

/// Authorization by the API server.
pub const DELEGATED_AUTHORIZATION: &[Flag] = &[
    shared::AUTHORIZATION_ALWAYS_ALLOW_PATHS,
    shared::AUTHORIZATION_KUBECONFIG,
    shared::AUTHORIZATION_WEBHOOK_CACHE_AUTHORIZED_TTL.with_default("10s"),
    shared::AUTHORIZATION_WEBHOOK_CACHE_UNAUTHORIZED_TTL.with_default("10s"),
];

/// Leader election with a lease of that name.
#[must_use]
pub const fn leader_election(lease: &'static str) -> [Flag; 7] {
    [
        shared::LEADER_ELECT,
        shared::LEADER_ELECT_LEASE_DURATION,
        shared::LEADER_ELECT_RENEW_DEADLINE,
        shared::LEADER_ELECT_RESOURCE_LOCK,
        shared::LEADER_ELECT_RESOURCE_NAME.with_default(lease),
        shared::LEADER_ELECT_RESOURCE_NAMESPACE,
        shared::LEADER_ELECT_RETRY_PERIOD,
    ]
}

/// Which metrics are shown, and how.
pub const METRICS: &[Flag] = &[
    shared::ALLOW_METRIC_LABELS,
    shared::ALLOW_METRIC_LABELS_MANIFEST,
    shared::DISABLED_METRICS,
    shared::SHOW_HIDDEN_METRICS_FOR_VERSION,
];

/// Logging.
pub const LOGS: &[Flag] = &[
    shared::LOG_FLUSH_FREQUENCY,
    shared::LOG_JSON_INFO_BUFFER_SIZE,
    shared::LOG_JSON_SPLIT_STREAM,
    shared::LOG_TEXT_INFO_BUFFER_SIZE,
    shared::LOG_TEXT_SPLIT_STREAM,
    shared::LOGGING_FORMAT,
    shared::V,
    shared::VMODULE,
];

/// What every daemon answers.
pub const GLOBAL: &[Flag] = &[shared::HELP, shared::VERSION];
