//! Flags that several daemons have, with the commonest default; daemons change it by `with_default`.
//! Names, types and defaults are upstream's, help texts are ours.

#![allow(missing_docs, reason = "each record states its help")]

use super::{Flag, Kind, flag};

pub const ALLOW_METRIC_LABELS: Flag = flag(
    "allow-metric-labels",
    Kind::StringToString,
    "[]",
    "Values to keep of a metric's label, as <metric>,<label>='v1,v2'; any other value becomes \"unexpected\".",
);
pub const ALLOW_METRIC_LABELS_MANIFEST: Flag = flag(
    "allow-metric-labels-manifest",
    Kind::String,
    "",
    "File with the same lists as --allow-metric-labels, which overrides it.",
);
pub const ANONYMOUS_AUTH: Flag = flag(
    "anonymous-auth",
    Kind::Bool,
    "true",
    "Treat requests that no other method rejects as user system:anonymous in group system:unauthenticated.",
);
pub const AUTHENTICATION_KUBECONFIG: Flag = flag(
    "authentication-kubeconfig",
    Kind::String,
    "",
    "Kubeconfig with rights to create token reviews. Without it every token is anonymous and no client CA is looked up.",
);
pub const AUTHENTICATION_SKIP_LOOKUP: Flag = flag(
    "authentication-skip-lookup",
    Kind::Bool,
    "false",
    "Do not look up missing authentication settings in the cluster.",
);
pub const AUTHENTICATION_TOKEN_WEBHOOK_CACHE_TTL: Flag = flag(
    "authentication-token-webhook-cache-ttl",
    Kind::Duration,
    "2m0s",
    "Time to keep answers of the token webhook.",
);
pub const AUTHENTICATION_TOLERATE_LOOKUP_FAILURE: Flag = flag(
    "authentication-tolerate-lookup-failure",
    Kind::Bool,
    "false",
    "Start even if authentication settings cannot be looked up in the cluster; requests may then all be anonymous.",
);
pub const AUTHORIZATION_ALWAYS_ALLOW_PATHS: Flag = flag(
    "authorization-always-allow-paths",
    Kind::Strings,
    "[/healthz,/readyz,/livez]",
    "Paths allowed without asking any authorizer.",
);
pub const AUTHORIZATION_KUBECONFIG: Flag = flag(
    "authorization-kubeconfig",
    Kind::String,
    "",
    "Kubeconfig with rights to create subject access reviews. Without it every request not always allowed is forbidden.",
);
pub const AUTHORIZATION_WEBHOOK_CACHE_AUTHORIZED_TTL: Flag = flag(
    "authorization-webhook-cache-authorized-ttl",
    Kind::Duration,
    "5m0s",
    "Time to keep \"allowed\" answers of the authorization webhook.",
);
pub const AUTHORIZATION_WEBHOOK_CACHE_UNAUTHORIZED_TTL: Flag = flag(
    "authorization-webhook-cache-unauthorized-ttl",
    Kind::Duration,
    "30s",
    "Time to keep \"denied\" answers of the authorization webhook.",
);
pub const BIND_ADDRESS: Flag = flag(
    "bind-address",
    Kind::Ip,
    "0.0.0.0",
    "IP address to listen on; 0.0.0.0 or :: means all interfaces and families.",
);
pub const CERT_DIR: Flag = flag(
    "cert-dir",
    Kind::String,
    "",
    "Directory of TLS certificates; a self-signed pair is made here when no certificate is given.",
);
pub const CLIENT_CA_FILE: Flag = flag(
    "client-ca-file",
    Kind::String,
    "",
    "CA bundle; clients with a certificate signed by it are known by the certificate's common name.",
);
pub const CLOUD_PROVIDER: Flag = flag(
    "cloud-provider",
    Kind::String,
    "",
    "Cloud provider; empty for none, external for one outside of this process.",
);
pub const CLUSTER_CIDR: Flag = flag(
    "cluster-cidr",
    Kind::String,
    "",
    "Address ranges of pods in the cluster; two of them, comma-separated, for dual-stack.",
);
pub const CONFIG: Flag = flag("config", Kind::String, "", "Path of the configuration file.");
pub const CONTENTION_PROFILING: Flag =
    flag("contention-profiling", Kind::Bool, "false", "Profile lock contention when profiling is on.");
pub const DISABLE_HTTP2_SERVING: Flag =
    flag("disable-http2-serving", Kind::Bool, "false", "Serve HTTP/1.1 only.");
pub const DISABLED_METRICS: Flag = flag(
    "disabled-metrics",
    Kind::Strings,
    "[]",
    "Metrics, by full name, to leave out; wins over showing hidden ones.",
);
pub const EMULATED_VERSION: Flag = flag(
    "emulated-version",
    Kind::Strings,
    "[]",
    "Versions to emulate (APIs, features), as major.minor or component=major.minor.\nOptions are: kube=1.34..1.37(default:1.37)\nIf the component is not specified, defaults to \"kube\"",
);
pub const ENABLE_GARBAGE_COLLECTOR: Flag = flag(
    "enable-garbage-collector",
    Kind::Bool,
    "true",
    "Run the garbage collector; must be the same on the API server and the controller manager.",
);
pub const HEALTHZ_PORT: Flag =
    flag("healthz-port", Kind::Int32, "10256", "Port of the health check server; 0 turns it off.");
pub const HELP: Flag = flag("help", Kind::Bool, "false", "help for the command").short('h');
pub const HOSTNAME_OVERRIDE: Flag =
    flag("hostname-override", Kind::String, "", "Name of this node instead of the host's name.");
pub const HTTP2_MAX_STREAMS_PER_CONNECTION: Flag = flag(
    "http2-max-streams-per-connection",
    Kind::Int,
    "0",
    "Streams a client may open per HTTP/2 connection; 0 means the default.",
);
pub const KUBE_API_BURST: Flag =
    flag("kube-api-burst", Kind::Int32, "100", "Requests at once to the API server.");
pub const KUBE_API_CONTENT_TYPE: Flag = flag(
    "kube-api-content-type",
    Kind::String,
    "application/vnd.kubernetes.protobuf",
    "Content type of requests to the API server.",
);
pub const KUBE_API_QPS: Flag =
    flag("kube-api-qps", Kind::Float32, "20", "Requests per second to the API server.");
pub const KUBECONFIG: Flag =
    flag("kubeconfig", Kind::String, "", "Kubeconfig with the API server's address and credentials.");
pub const LEADER_ELECT: Flag =
    flag("leader-elect", Kind::Bool, "true", "Take part in leader election and work only while leading.");
pub const LEADER_ELECT_LEASE_DURATION: Flag = flag(
    "leader-elect-lease-duration",
    Kind::Duration,
    "15s",
    "Time after the last renewal at which others may take over.",
);
pub const LEADER_ELECT_RENEW_DEADLINE: Flag = flag(
    "leader-elect-renew-deadline",
    Kind::Duration,
    "10s",
    "Time within which the leader must renew before it gives up; less than the lease duration.",
);
pub const LEADER_ELECT_RESOURCE_LOCK: Flag =
    flag("leader-elect-resource-lock", Kind::String, "leases", "Kind of lock object; only leases.");
pub const LEADER_ELECT_RESOURCE_NAME: Flag =
    flag("leader-elect-resource-name", Kind::String, "kube-controller-manager", "Name of the lock object.");
pub const LEADER_ELECT_RESOURCE_NAMESPACE: Flag =
    flag("leader-elect-resource-namespace", Kind::String, "kube-system", "Namespace of the lock object.");
pub const LEADER_ELECT_RETRY_PERIOD: Flag = flag(
    "leader-elect-retry-period",
    Kind::Duration,
    "2s",
    "Time between attempts to take or renew leadership.",
);
pub const LOG_FLUSH_FREQUENCY: Flag =
    flag("log-flush-frequency", Kind::Duration, "5s", "Longest time between log flushes");
pub const LOG_JSON_INFO_BUFFER_SIZE: Flag = flag(
    "log-json-info-buffer-size",
    Kind::Quantity,
    "0",
    "[Alpha] Bytes of info messages to buffer in JSON format with split streams; 0 turns buffering off. Needs the LoggingAlphaOptions gate.",
);
pub const LOG_JSON_SPLIT_STREAM: Flag = flag(
    "log-json-split-stream",
    Kind::Bool,
    "false",
    "[Alpha] Errors to stderr, info messages to stdout in JSON format. Needs the LoggingAlphaOptions gate.",
);
pub const LOG_TEXT_INFO_BUFFER_SIZE: Flag = flag(
    "log-text-info-buffer-size",
    Kind::Quantity,
    "0",
    "[Alpha] Bytes of info messages to buffer in text format with split streams; 0 turns buffering off. Needs the LoggingAlphaOptions gate.",
);
pub const LOG_TEXT_SPLIT_STREAM: Flag = flag(
    "log-text-split-stream",
    Kind::Bool,
    "false",
    "[Alpha] Errors to stderr, info messages to stdout in text format. Needs the LoggingAlphaOptions gate.",
);
pub const LOGGING_FORMAT: Flag = flag(
    "logging-format",
    Kind::String,
    "text",
    "Log format: \"text\", or \"json\" (gated by LoggingBetaOptions).",
);
pub const MASTER: Flag =
    flag("master", Kind::String, "", "Address of the API server, instead of the kubeconfig's.");
pub const MIN_COMPATIBILITY_VERSION: Flag = flag(
    "min-compatibility-version",
    Kind::Strings,
    "[]",
    "Oldest version of control plane components to be compatible with, at most the emulated version.\nOptions are: kube=1.34..1.37(default:1.36)\nIf the component is not specified, defaults to \"kube\"",
);
pub const OOM_SCORE_ADJ: Flag =
    flag("oom-score-adj", Kind::Int32, "-999", "OOM score adjustment of this process, -1000 to 1000.");
pub const PERMIT_ADDRESS_SHARING: Flag = flag(
    "permit-address-sharing",
    Kind::Bool,
    "false",
    "Bind with SO_REUSEADDR: wildcard and specific addresses at once, no waiting for TIME_WAIT. [default=false]",
);
pub const PERMIT_PORT_SHARING: Flag = flag(
    "permit-port-sharing",
    Kind::Bool,
    "false",
    "Bind with SO_REUSEPORT: several processes on the same address and port. [default=false]",
);
pub const PROFILING: Flag = flag("profiling", Kind::Bool, "true", "Serve /debug/pprof/.");
pub const REQUESTHEADER_ALLOWED_NAMES: Flag = flag(
    "requestheader-allowed-names",
    Kind::Strings,
    "[]",
    "Common names of client certificates that may name users by header; empty means any that the CA verifies.",
);
pub const REQUESTHEADER_CLIENT_CA_FILE: Flag = flag(
    "requestheader-client-ca-file",
    Kind::String,
    "",
    "CA bundle of proxies that name users by header. Requests are authenticated by it, not authorized.",
);
pub const REQUESTHEADER_EXTRA_HEADERS_PREFIX: Flag = flag(
    "requestheader-extra-headers-prefix",
    Kind::Strings,
    "[x-remote-extra-]",
    "Prefixes of headers with further attributes; X-Remote-Extra- is suggested.",
);
pub const REQUESTHEADER_GROUP_HEADERS: Flag = flag(
    "requestheader-group-headers",
    Kind::Strings,
    "[x-remote-group]",
    "Headers with groups; X-Remote-Group is suggested.",
);
pub const REQUESTHEADER_UID_HEADERS: Flag = flag(
    "requestheader-uid-headers",
    Kind::Strings,
    "[]",
    "Headers with UIDs; X-Remote-Uid is suggested. Needs the RemoteRequestHeaderUID gate.",
);
pub const REQUESTHEADER_USERNAME_HEADERS: Flag = flag(
    "requestheader-username-headers",
    Kind::Strings,
    "[x-remote-user]",
    "Headers with user names; X-Remote-User is common.",
);
pub const SECURE_PORT: Flag = flag(
    "secure-port",
    Kind::Int,
    "6443",
    "Port of HTTPS with authentication and authorization; 0 turns HTTPS off where that is permitted.",
);
pub const SERVICE_CLUSTER_IP_RANGE: Flag = flag(
    "service-cluster-ip-range",
    Kind::String,
    "",
    "Address ranges of services; two of them, comma-separated, for dual-stack. Must not overlap nodes or pods.",
);
pub const SHOW_HIDDEN_METRICS_FOR_VERSION: Flag = flag(
    "show-hidden-metrics-for-version",
    Kind::String,
    "",
    "Previous minor version (e.g. 1.36) whose hidden metrics are shown.",
);
pub const TLS_CERT_FILE: Flag = flag(
    "tls-cert-file",
    Kind::String,
    "",
    "Certificate for HTTPS with its chain. Without it and its key, a self-signed pair is made in --cert-dir.",
);
pub const TLS_CIPHER_SUITES: Flag = flag(
    "tls-cipher-suites",
    Kind::Strings,
    "[]",
    "Cipher suites of the server, comma-separated, by their Go names; empty means the default ones.",
);
pub const TLS_CURVE_PREFERENCES: Flag = flag(
    "tls-curve-preferences",
    Kind::Int32Slice,
    "[]",
    "Key exchange mechanisms of the server, as Go's numeric CurveID values; empty means the default ones. The order is ignored.",
);
pub const TLS_MIN_VERSION: Flag = flag(
    "tls-min-version",
    Kind::String,
    "",
    "Oldest TLS version: VersionTLS10, VersionTLS11, VersionTLS12, VersionTLS13",
);
pub const TLS_PRIVATE_KEY_FILE: Flag =
    flag("tls-private-key-file", Kind::String, "", "Key of --tls-cert-file.");
pub const TLS_SNI_CERT_KEY: Flag = flag(
    "tls-sni-cert-key",
    Kind::NamedCertKey,
    "[]",
    "Certificate and key files, optionally with the host names they serve: \"foo.crt,foo.key:*.foo.com,foo.com\". Repeatable; without names the certificate's own count.",
);
pub const V: Flag = flag("v", Kind::Level, "0", "number for the log level verbosity").short('v');
pub const VERSION: Flag = flag(
    "version",
    Kind::Version,
    "false",
    "--version, --version=raw prints version information and quits; --version=vX.Y.Z... sets the reported version",
);
pub const VMODULE: Flag =
    flag("vmodule", Kind::Vmodule, "", "pattern=N settings by file, comma-separated (text format only)");
pub const WRITE_CONFIG_TO: Flag =
    flag("write-config-to", Kind::String, "", "Write the default configuration to this file and exit.");
