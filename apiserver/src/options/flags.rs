//! The flag table: upstream's names, types, defaults and sections, as `hack/data/flags/kube-apiserver.txt` lists them.
//! A test compares the two. Help texts are ours.

use component::app::OWN_SECTION;
use component::flags::{Command, Flag, Kind, Layout, Section, flag};

/// The command line.
pub static COMMAND: Command = Command {
    name: "kube-apiserver",
    about: "Serves the Kubernetes API: validates, admits and stores objects, and lets every other component read, \
            change and watch them.",
    layout: Layout::Sections,
    sections: SECTIONS,
    defaults: &[],
};

/// Flags upstream does not have.
pub const OWN_FLAGS: &[&str] = &["check-config", "data-dir"];

const STORE: &[Flag] = &[flag(
    "data-dir",
    Kind::String,
    "/var/lib/kube-apiserver",
    "directory of the embedded store, used when --etcd-servers is not given",
)];

const GENERIC: &[Flag] = &[
    flag(
        "advertise-address",
        Kind::Ip,
        "<nil>",
        "address that other members of the cluster reach this server at; the bind address, or that of the default interface, when unset",
    ),
    flag("cors-allowed-origins", Kind::Strings, "[]", "cors allowed origins"),
    flag("emulated-version", Kind::Strings, "[]", "emulated version"),
    flag("emulation-forward-compatible", Kind::Bool, "false", "emulation forward compatible"),
    flag("external-hostname", Kind::String, "", "external hostname"),
    flag("feature-gates", Kind::Multimap, "", "feature gates as name=true|false"),
    flag("goaway-chance", Kind::Float64, "0", "goaway chance"),
    flag("livez-grace-period", Kind::Duration, "0s", "livez grace period"),
    flag(
        "max-mutating-requests-inflight",
        Kind::Int,
        "200",
        "changing requests handled at once; with priority and fairness, part of the total",
    ),
    flag(
        "max-requests-inflight",
        Kind::Int,
        "400",
        "reading requests handled at once; with priority and fairness, part of the total",
    ),
    flag("min-compatibility-version", Kind::Strings, "[]", "min compatibility version"),
    flag(
        "min-request-timeout",
        Kind::Int,
        "1800",
        "shortest time in seconds, for watches only, before the server ends one without a timeout of its own",
    ),
    flag("request-timeout", Kind::Duration, "1m0s", "how long a request may take unless it is long-running"),
    flag(
        "runtime-config-emulation-forward-compatible",
        Kind::Bool,
        "false",
        "runtime config emulation forward compatible",
    ),
    flag("shutdown-delay-duration", Kind::Duration, "0s", "shutdown delay duration"),
    flag("shutdown-send-retry-after", Kind::Bool, "false", "shutdown send retry after"),
    flag(
        "shutdown-watch-termination-grace-period",
        Kind::Duration,
        "0s",
        "shutdown watch termination grace period",
    ),
    flag("storage-initialization-timeout", Kind::Duration, "1m0s", "storage initialization timeout"),
    flag("strict-transport-security-directives", Kind::Strings, "[]", "strict transport security directives"),
];

const ETCD: &[Flag] = &[
    flag("delete-collection-workers", Kind::Int, "1", "delete collection workers"),
    flag("enable-garbage-collector", Kind::Bool, "true", "enable garbage collector"),
    flag("encryption-provider-config", Kind::String, "", "encryption provider config"),
    flag(
        "encryption-provider-config-automatic-reload",
        Kind::Bool,
        "false",
        "encryption provider config automatic reload",
    ),
    flag("etcd-cafile", Kind::String, "", "etcd cafile"),
    flag("etcd-certfile", Kind::String, "", "etcd certfile"),
    flag("etcd-compaction-interval", Kind::Duration, "5m0s", "etcd compaction interval"),
    flag("etcd-count-metric-poll-period", Kind::Duration, "1m0s", "etcd count metric poll period"),
    flag("etcd-db-metric-poll-interval", Kind::Duration, "30s", "etcd db metric poll interval"),
    flag("etcd-healthcheck-timeout", Kind::Duration, "2s", "etcd healthcheck timeout"),
    flag("etcd-keyfile", Kind::String, "", "etcd keyfile"),
    flag("etcd-prefix", Kind::String, "/registry", "first path segment of every key in etcd"),
    flag("etcd-readycheck-timeout", Kind::Duration, "2s", "etcd readycheck timeout"),
    flag(
        "etcd-servers",
        Kind::Strings,
        "[]",
        "etcd endpoints, scheme://host:port, comma separated; without any, the embedded store under --data-dir is used",
    ),
    flag("etcd-servers-overrides", Kind::Strings, "[]", "etcd servers overrides"),
    flag("lease-reuse-duration-seconds", Kind::Int64, "60", "lease reuse duration seconds"),
    flag("storage-backend", Kind::String, "", "storage backend"),
    flag("storage-media-type", Kind::String, "application/vnd.kubernetes.protobuf", "storage media type"),
    flag("watch-cache", Kind::Bool, "true", "watch cache"),
    flag("watch-cache-sizes", Kind::Strings, "[]", "watch cache sizes"),
];

const SECURE_SERVING: &[Flag] = &[
    flag("bind-address", Kind::Ip, "0.0.0.0", "address to listen on; all interfaces when unspecified"),
    flag(
        "cert-dir",
        Kind::String,
        "/var/run/kubernetes",
        "where a self-signed serving certificate is kept when no files are given",
    ),
    flag("disable-http2-serving", Kind::Bool, "false", "disable http2 serving"),
    flag("http2-max-streams-per-connection", Kind::Int, "0", "http2 max streams per connection"),
    flag("permit-address-sharing", Kind::Bool, "false", "permit address sharing"),
    flag("permit-port-sharing", Kind::Bool, "false", "permit port sharing"),
    flag("secure-port", Kind::Int, "6443", "port for HTTPS with authentication and authorization"),
    flag("tls-cert-file", Kind::String, "", "serving certificate, followed by its chain"),
    flag("tls-cipher-suites", Kind::Strings, "[]", "tls cipher suites"),
    flag("tls-curve-preferences", Kind::Int32Slice, "[]", "tls curve preferences"),
    flag("tls-min-version", Kind::String, "", "tls min version"),
    flag("tls-private-key-file", Kind::String, "", "key of --tls-cert-file"),
    flag(
        "tls-sni-cert-key",
        Kind::NamedCertKey,
        "[]",
        "further serving pair, chosen by server name; repeatable",
    ),
];

const AUDITING: &[Flag] = &[
    flag("audit-log-batch-buffer-size", Kind::Int, "10000", "audit log batch buffer size"),
    flag("audit-log-batch-max-size", Kind::Int, "1", "audit log batch max size"),
    flag("audit-log-batch-max-wait", Kind::Duration, "0s", "audit log batch max wait"),
    flag("audit-log-batch-throttle-burst", Kind::Int, "0", "audit log batch throttle burst"),
    flag("audit-log-batch-throttle-enable", Kind::Bool, "false", "audit log batch throttle enable"),
    flag("audit-log-batch-throttle-qps", Kind::Float32, "0", "audit log batch throttle qps"),
    flag("audit-log-compress", Kind::Bool, "false", "audit log compress"),
    flag("audit-log-format", Kind::String, "json", "audit log format"),
    flag("audit-log-maxage", Kind::Int, "366", "audit log maxage"),
    flag("audit-log-maxbackup", Kind::Int, "100", "audit log maxbackup"),
    flag("audit-log-maxsize", Kind::Int, "100", "audit log maxsize"),
    flag("audit-log-mode", Kind::String, "blocking", "audit log mode"),
    flag("audit-log-path", Kind::String, "", "audit log path"),
    flag("audit-log-truncate-enabled", Kind::Bool, "false", "audit log truncate enabled"),
    flag("audit-log-truncate-max-batch-size", Kind::Int64, "10485760", "audit log truncate max batch size"),
    flag("audit-log-truncate-max-event-size", Kind::Int64, "102400", "audit log truncate max event size"),
    flag("audit-log-version", Kind::String, "audit.k8s.io/v1", "audit log version"),
    flag("audit-policy-file", Kind::String, "", "audit policy file"),
    flag("audit-webhook-batch-buffer-size", Kind::Int, "10000", "audit webhook batch buffer size"),
    flag("audit-webhook-batch-max-size", Kind::Int, "400", "audit webhook batch max size"),
    flag("audit-webhook-batch-max-wait", Kind::Duration, "30s", "audit webhook batch max wait"),
    flag("audit-webhook-batch-throttle-burst", Kind::Int, "15", "audit webhook batch throttle burst"),
    flag("audit-webhook-batch-throttle-enable", Kind::Bool, "true", "audit webhook batch throttle enable"),
    flag("audit-webhook-batch-throttle-qps", Kind::Float32, "10", "audit webhook batch throttle qps"),
    flag("audit-webhook-config-file", Kind::String, "", "audit webhook config file"),
    flag("audit-webhook-initial-backoff", Kind::Duration, "10s", "audit webhook initial backoff"),
    flag("audit-webhook-mode", Kind::String, "batch", "audit webhook mode"),
    flag("audit-webhook-truncate-enabled", Kind::Bool, "false", "audit webhook truncate enabled"),
    flag(
        "audit-webhook-truncate-max-batch-size",
        Kind::Int64,
        "10485760",
        "audit webhook truncate max batch size",
    ),
    flag(
        "audit-webhook-truncate-max-event-size",
        Kind::Int64,
        "102400",
        "audit webhook truncate max event size",
    ),
    flag("audit-webhook-version", Kind::String, "audit.k8s.io/v1", "audit webhook version"),
];

const FEATURES: &[Flag] = &[
    flag("contention-profiling", Kind::Bool, "false", "contention profiling"),
    flag("debug-socket-path", Kind::String, "", "debug socket path"),
    flag("enable-priority-and-fairness", Kind::Bool, "true", "enable priority and fairness"),
    flag("profiling", Kind::Bool, "true", "profiling"),
];

const AUTHENTICATION: &[Flag] = &[
    flag(
        "anonymous-auth",
        Kind::Bool,
        "true",
        "requests without credentials are the user system:anonymous in group system:unauthenticated",
    ),
    flag(
        "api-audiences",
        Kind::Strings,
        "[]",
        "audiences of this server; service account tokens must be for one of them",
    ),
    flag("authentication-config", Kind::String, "", "authentication config"),
    flag(
        "authentication-token-webhook-cache-ttl",
        Kind::Duration,
        "2m0s",
        "authentication token webhook cache ttl",
    ),
    flag(
        "authentication-token-webhook-config-file",
        Kind::String,
        "",
        "authentication token webhook config file",
    ),
    flag(
        "authentication-token-webhook-version",
        Kind::String,
        "v1beta1",
        "authentication token webhook version",
    ),
    flag(
        "client-ca-file",
        Kind::String,
        "",
        "CA bundle; requests with a client certificate signed by one of them get the identity of its common name and organizations",
    ),
    flag("enable-bootstrap-token-auth", Kind::Bool, "false", "enable bootstrap token auth"),
    flag("oidc-ca-file", Kind::String, "", "oidc ca file"),
    flag("oidc-client-id", Kind::String, "", "oidc client id"),
    flag("oidc-groups-claim", Kind::String, "", "oidc groups claim"),
    flag("oidc-groups-prefix", Kind::String, "", "oidc groups prefix"),
    flag("oidc-issuer-url", Kind::String, "", "oidc issuer url"),
    flag("oidc-required-claim", Kind::MapStringString, "", "oidc required claim"),
    flag("oidc-signing-algs", Kind::Strings, "[RS256]", "oidc signing algs"),
    flag("oidc-username-claim", Kind::String, "sub", "oidc username claim"),
    flag("oidc-username-prefix", Kind::String, "", "oidc username prefix"),
    flag("requestheader-allowed-names", Kind::Strings, "[]", "requestheader allowed names"),
    flag("requestheader-client-ca-file", Kind::String, "", "requestheader client ca file"),
    flag("requestheader-extra-headers-prefix", Kind::Strings, "[]", "requestheader extra headers prefix"),
    flag("requestheader-group-headers", Kind::Strings, "[]", "requestheader group headers"),
    flag("requestheader-uid-headers", Kind::Strings, "[]", "requestheader uid headers"),
    flag("requestheader-username-headers", Kind::Strings, "[]", "requestheader username headers"),
    flag(
        "service-account-extend-token-expiration",
        Kind::Bool,
        "true",
        "service account extend token expiration",
    ),
    flag(
        "service-account-issuer",
        Kind::StringArray,
        "[]",
        "issuer of service account tokens; the first signs, all are accepted; repeatable",
    ),
    flag("service-account-jwks-uri", Kind::String, "", "service account jwks uri"),
    flag(
        "service-account-key-file",
        Kind::StringArray,
        "[]",
        "public or private keys that verify service account tokens; repeatable",
    ),
    flag("service-account-lookup", Kind::Bool, "true", "service account lookup"),
    flag(
        "service-account-max-token-expiration",
        Kind::Duration,
        "0s",
        "service account max token expiration",
    ),
    flag("token-auth-file", Kind::String, "", "token auth file"),
];

const AUTHORIZATION: &[Flag] = &[
    flag("authorization-config", Kind::String, "", "authorization config"),
    flag(
        "authorization-mode",
        Kind::Strings,
        "[]",
        "authorizers in the order they are asked: Node, RBAC, ABAC, Webhook, AlwaysAllow, AlwaysDeny",
    ),
    flag("authorization-policy-file", Kind::String, "", "authorization policy file"),
    flag(
        "authorization-webhook-cache-authorized-ttl",
        Kind::Duration,
        "5m0s",
        "authorization webhook cache authorized ttl",
    ),
    flag(
        "authorization-webhook-cache-unauthorized-ttl",
        Kind::Duration,
        "30s",
        "authorization webhook cache unauthorized ttl",
    ),
    flag("authorization-webhook-config-file", Kind::String, "", "authorization webhook config file"),
    flag("authorization-webhook-version", Kind::String, "v1beta1", "authorization webhook version"),
];

const API_ENABLEMENT: &[Flag] = &[flag(
    "runtime-config",
    Kind::ConfigurationMap,
    "",
    "which groups, versions and resources are served, as api/<name>=true|false",
)];

const EGRESS_SELECTOR: &[Flag] =
    &[flag("egress-selector-config-file", Kind::String, "", "egress selector config file")];

const ADMISSION: &[Flag] = &[
    flag("admission-control", Kind::Strings, "[]", "admission control").deprecated("Use --enable-admission-plugins or --disable-admission-plugins instead. Will be removed in a future version."),
    flag("admission-control-config-file", Kind::String, "", "admission control config file"),
    flag("default-not-ready-toleration-seconds", Kind::Int64, "300", "default not ready toleration seconds"),
    flag("default-unreachable-toleration-seconds", Kind::Int64, "300", "default unreachable toleration seconds"),
    flag("disable-admission-plugins", Kind::Strings, "[]", "default admission plugins not to run"),
    flag("enable-admission-plugins", Kind::Strings, "[]", "admission plugins to run besides the default ones"),
];

const METRICS: &[Flag] = &[
    flag("allow-metric-labels", Kind::StringToString, "[]", "allow metric labels"),
    flag("allow-metric-labels-manifest", Kind::String, "", "allow metric labels manifest"),
    flag("disabled-metrics", Kind::Strings, "[]", "disabled metrics"),
    flag("show-hidden-metrics-for-version", Kind::String, "", "show hidden metrics for version"),
];

const LOGS: &[Flag] = &[
    flag("log-flush-frequency", Kind::Duration, "5s", "log flush frequency"),
    flag("log-json-info-buffer-size", Kind::Quantity, "0", "log json info buffer size"),
    flag("log-json-split-stream", Kind::Bool, "false", "log json split stream"),
    flag("log-text-info-buffer-size", Kind::Quantity, "0", "log text info buffer size"),
    flag("log-text-split-stream", Kind::Bool, "false", "log text split stream"),
    flag("logging-format", Kind::String, "text", "logging format"),
    flag("v", Kind::Level, "0", "v").short('v'),
    flag("vmodule", Kind::Vmodule, "", "vmodule"),
];

const TRACES: &[Flag] = &[flag("tracing-config-file", Kind::String, "", "tracing config file")];

const MISC: &[Flag] = &[
    flag(
        "aggregator-reject-forwarding-redirect",
        Kind::Bool,
        "true",
        "aggregator reject forwarding redirect",
    ),
    flag("allow-privileged", Kind::Bool, "false", "privileged containers are allowed"),
    flag(
        "coordinated-leadership-lease-duration",
        Kind::Duration,
        "15s",
        "coordinated leadership lease duration",
    ),
    flag(
        "coordinated-leadership-renew-deadline",
        Kind::Duration,
        "10s",
        "coordinated leadership renew deadline",
    ),
    flag("coordinated-leadership-retry-period", Kind::Duration, "2s", "coordinated leadership retry period"),
    flag("enable-aggregator-routing", Kind::Bool, "false", "enable aggregator routing"),
    flag("enable-logs-handler", Kind::Bool, "false", "enable logs handler"),
    flag("endpoint-reconciler-type", Kind::String, "lease", "endpoint reconciler type"),
    flag("event-ttl", Kind::Duration, "1h0m0s", "how long events are kept"),
    flag(
        "kubelet-certificate-authority",
        Kind::String,
        "",
        "CA bundle that verifies the serving certificates of kubelets",
    ),
    flag("kubelet-client-certificate", Kind::String, "", "client certificate for connections to kubelets"),
    flag("kubelet-client-key", Kind::String, "", "key of --kubelet-client-certificate"),
    flag(
        "kubelet-preferred-address-types",
        Kind::Strings,
        "[Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP]",
        "types of node address to use for connections to kubelets, best first",
    ),
    flag("kubelet-timeout", Kind::Duration, "5s", "kubelet timeout"),
    flag("kubernetes-service-node-port", Kind::Int, "0", "kubernetes service node port"),
    flag("max-connection-bytes-per-sec", Kind::Int64, "0", "max connection bytes per sec"),
    flag("peer-advertise-ip", Kind::String, "", "peer advertise ip"),
    flag("peer-advertise-port", Kind::String, "", "peer advertise port"),
    flag("peer-ca-file", Kind::String, "", "peer ca file"),
    flag("proxy-client-cert-file", Kind::String, "", "proxy client cert file"),
    flag("proxy-client-key-file", Kind::String, "", "proxy client key file"),
    flag("service-account-signing-endpoint", Kind::String, "", "service account signing endpoint"),
    flag(
        "service-account-signing-key-file",
        Kind::String,
        "",
        "private key that signs service account tokens",
    ),
    flag(
        "service-cluster-ip-range",
        Kind::String,
        "",
        "CIDR, or two of different families, that cluster IPs are taken from",
    ),
    flag("service-node-port-range", Kind::PortRange, "30000-32767", "ports that NodePort services use"),
];

const GLOBAL: &[Flag] = &[
    flag("help", Kind::Bool, "false", "help").short('h'),
    flag("version", Kind::Version, "false", "version"),
];

const HIDDEN: &[Flag] = &[
    flag("apiserver-count", Kind::Int, "1", "apiserver count").deprecated("apiserver-count is deprecated and will be removed in a future version.").hidden(),
    flag("audit-webhook-batch-initial-backoff", Kind::Duration, "10s", "audit webhook batch initial backoff").deprecated("Deprecated, use --audit-webhook-initial-backoff instead.").hidden(),
    flag("default-watch-cache-size", Kind::Int, "100", "default watch cache size").deprecated("Watch caches are sized automatically. This flag is no-op and it will be removed in a future version.").hidden(),
    flag("kubelet-port", Kind::Uint, "10250", "kubelet port").deprecated("kubelet-port is deprecated and will be removed.").hidden(),
    flag("kubelet-read-only-port", Kind::Uint, "10255", "kubelet read only port").deprecated("kubelet-read-only-port is deprecated and will be removed.").hidden(),
];

const SECTIONS: &[Section] = &[
    Section { title: "Generic", flags: GENERIC },
    Section { title: "Etcd", flags: ETCD },
    Section { title: "Secure serving", flags: SECURE_SERVING },
    Section { title: "Auditing", flags: AUDITING },
    Section { title: "Features", flags: FEATURES },
    Section { title: "Authentication", flags: AUTHENTICATION },
    Section { title: "Authorization", flags: AUTHORIZATION },
    Section { title: "API enablement", flags: API_ENABLEMENT },
    Section { title: "Egress selector", flags: EGRESS_SELECTOR },
    Section { title: "Admission", flags: ADMISSION },
    Section { title: "Metrics", flags: METRICS },
    Section { title: "Logs", flags: LOGS },
    Section { title: "Traces", flags: TRACES },
    Section { title: "Misc", flags: MISC },
    Section { title: "Global", flags: GLOBAL },
    Section { title: "", flags: HIDDEN },
    Section { title: "Etcd", flags: STORE },
    OWN_SECTION,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_as_upstream() {
        let upstream = include_str!("../../../hack/data/flags/kube-apiserver.txt");
        let differences = component::flags::golden::differences(&COMMAND, upstream, OWN_FLAGS);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}
