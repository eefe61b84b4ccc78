//! Flags to a validated configuration. Start at [`Config::from_flags`]; the table is in `flags`.
//!
//! All problems are reported together, worded as upstream words them. Nothing is started and no file is read here.
//! Upstream: `cmd/kube-apiserver/app/options`, `pkg/controlplane/apiserver/options`, `pkg/kubeapiserver/options`.
pub mod flags;
mod unbuilt;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use auth::request_header::RequestHeaderConfig;
use component::features::Gates;
use component::flags::FlagSet;
use component::serving::SecureServing;
use ipnet::IpNet;
use registry::admission::{all_names, is_known};

use crate::chain::cors::Cors;
use crate::lifecycle::Shutdown;
use crate::server::Limits;

/// Where objects are kept.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    /// A directory of our own.
    Embedded(PathBuf),
    /// etcd clusters.
    Etcd(EtcdConfig),
}

/// etcd clusters.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// `--etcd-servers`
    pub servers: Vec<String>,
    /// `--etcd-servers-overrides`
    pub overrides: Vec<Override>,
    /// `--etcd-cafile`
    pub ca: Option<PathBuf>,
    /// `--etcd-certfile` and `--etcd-keyfile`
    pub client: Option<(PathBuf, PathBuf)>,
    /// `--etcd-compaction-interval`
    pub compaction: Duration,
}

/// A resource that is kept on servers of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Its group.
    pub group: String,
    /// Its plural name.
    pub resource: String,
    /// The servers.
    pub servers: Vec<String>,
}

impl Override {
    /// `group/resource#server;server`. Upstream: `ParseEtcdServersOverrides`.
    fn parse(text: &str) -> Option<Self> {
        let mut halves = text.split('#');
        let (Some(of), Some(servers), None) = (halves.next(), halves.next(), halves.next()) else {
            return None;
        };
        let mut parts = of.split('/');
        let (Some(group), Some(resource), None) = (parts.next(), parts.next(), parts.next()) else {
            return None;
        };
        let servers: Vec<String> = servers.split(';').map(str::to_owned).collect();
        let named = servers.iter().all(|server| !server.is_empty());
        named.then(|| Self { group: group.to_owned(), resource: resource.to_owned(), servers })
    }
}

/// Service account tokens.
#[derive(Debug, Clone, Default)]
pub struct ServiceAccounts {
    /// `--service-account-issuer`
    pub issuers: Vec<String>,
    /// `--service-account-key-file`
    pub keys: Vec<PathBuf>,
    /// `--service-account-signing-key-file`
    pub signing_key: Option<PathBuf>,
    /// `--service-account-jwks-uri`
    pub jwks_uri: String,
    /// `--service-account-lookup`
    pub lookup: bool,
    /// `--service-account-max-token-expiration`
    pub max_expiration: Duration,
    /// `--service-account-extend-token-expiration`
    pub extend_expiration: bool,
}

/// What users may do.
#[derive(Debug, Clone, Default)]
pub struct AuthorizationConfig {
    /// `--authorization-mode`
    pub modes: Vec<String>,
    /// `--authorization-policy-file`
    pub policy_file: Option<PathBuf>,
    /// `--authorization-webhook-config-file`
    pub webhook_file: Option<PathBuf>,
    /// `--authorization-webhook-version`
    pub webhook_version: String,
    /// `--authorization-webhook-cache-authorized-ttl` and `--authorization-webhook-cache-unauthorized-ttl`
    pub webhook_ttl: (Duration, Duration),
    /// `--authorization-config`, instead of all but the policy file.
    pub file: Option<PathBuf>,
}

/// Which admission plugins run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdmissionPlugins {
    /// Besides the default ones; these win.
    pub enable: Vec<String>,
    /// Of the default ones.
    pub disable: Vec<String>,
}

impl AdmissionPlugins {
    /// Upstream: both `AdmissionOptions.Validate`, `computePluginNames`.
    fn from_flags(flags: &FlagSet, problems: &mut Vec<String>) -> Self {
        let (enable, disable) =
            (flags.list("enable-admission-plugins"), flags.list("disable-admission-plugins"));
        let all = flags.list("admission-control");
        if flags.changed("admission-control")
            && (flags.changed("enable-admission-plugins") || flags.changed("disable-admission-plugins"))
        {
            problems.push(
                "admission-control and enable-admission-plugins/disable-admission-plugins flags are mutually exclusive"
                    .to_owned(),
            );
        }
        for (flag, names) in [
            ("admission-control", all),
            ("enable-admission-plugins", enable),
            ("disable-admission-plugins", disable),
        ] {
            let unknown = names.iter().filter(|name| !is_known(name));
            problems.extend(unknown.map(|name| format!("{flag} plugin {name:?} is unknown")));
        }
        let mut both: Vec<&str> = enable.iter().filter(|n| disable.contains(n)).map(String::as_str).collect();
        both.sort_unstable();
        both.dedup();
        if !both.is_empty() {
            problems.push(format!(
                "[{}] in enable-admission-plugins and disable-admission-plugins overlapped",
                both.join(" ")
            ));
        }
        if !flags.changed("admission-control") {
            return Self { enable: enable.to_vec(), disable: disable.to_vec() };
        }
        let others = all_names().filter(|name| !all.iter().any(|n| n == name));
        Self { enable: all.to_vec(), disable: others.map(str::to_owned).collect() }
    }
}

/// How kubelets are reached.
#[derive(Debug, Clone, Default)]
pub struct KubeletClient {
    /// `--kubelet-client-certificate` and `--kubelet-client-key`
    pub client: Option<(PathBuf, PathBuf)>,
    /// `--kubelet-certificate-authority`
    pub ca: Option<PathBuf>,
    /// `--kubelet-preferred-address-types`
    pub address_types: Vec<String>,
    /// `--kubelet-timeout`
    pub timeout: Duration,
}

/// Everything the flags say.
#[derive(Debug, Clone)]
pub struct Config {
    /// `--bind-address`, `--secure-port`, `--tls-*`, `--cert-dir` and the like.
    pub serving: SecureServing,
    /// `--advertise-address`
    pub advertise: Option<IpAddr>,
    /// `--external-hostname`
    pub external_hostname: String,
    /// `--cors-allowed-origins`
    pub cors: Cors,
    /// `--client-ca-file`
    pub client_ca: Option<PathBuf>,
    /// `--requestheader-client-ca-file`
    pub front_proxy_ca: Option<PathBuf>,
    /// The other `--requestheader-*` flags.
    pub front_proxy: RequestHeaderConfig,
    /// `--anonymous-auth`
    pub anonymous: bool,
    /// `--authentication-config`, `--oidc-*`
    pub issuers: crate::oidc::Asked,
    /// `--token-auth-file`
    pub token_file: Option<PathBuf>,
    /// `--enable-bootstrap-token-auth`
    pub bootstrap_tokens: bool,
    /// Service account tokens.
    pub service_accounts: ServiceAccounts,
    /// `--api-audiences`, or the issuers.
    pub api_audiences: Vec<String>,
    /// `--audit-*`
    pub audit: audit::Config,
    /// `--authorization-*`
    pub authorization: AuthorizationConfig,
    /// `--authentication-token-webhook-*`: kubeconfig, version, how long an answer is good.
    pub token_webhook: Option<(PathBuf, String, Duration)>,
    /// `--etcd-*`, `--data-dir`
    pub store: StoreConfig,
    /// `--encryption-provider-config`, and whether it is followed.
    pub encryption: Option<(PathBuf, bool)>,
    /// `--etcd-prefix`
    pub prefix: String,
    /// `--service-cluster-ip-range`, primary first.
    pub service_cidrs: Vec<IpNet>,
    /// `--service-node-port-range`
    pub node_ports: (u16, u16),
    /// `--kubernetes-service-node-port`
    pub kubernetes_node_port: u16,
    /// `--event-ttl`
    pub event_ttl: Duration,
    /// `--delete-collection-workers`
    pub delete_collection_workers: usize,
    /// `--enable-admission-plugins` and `--disable-admission-plugins`, or what `--admission-control` says instead.
    pub admission: AdmissionPlugins,
    /// `--admission-control-config-file`
    pub admission_file: Option<PathBuf>,
    /// `--proxy-client-cert-file` and `--proxy-client-key-file`
    pub proxy_client: Option<(PathBuf, PathBuf)>,
    /// `--aggregator-reject-forwarding-redirect`
    pub reject_redirects: bool,
    /// `--enable-aggregator-routing`
    pub aggregator_routing: bool,
    /// `--allow-privileged`
    pub allow_privileged: bool,
    /// `--runtime-config`
    pub runtime_config: BTreeMap<String, String>,
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight`
    pub in_flight: (usize, usize),
    /// `--livez-grace-period`
    pub livez_grace: Duration,
    /// `--enable-priority-and-fairness`
    pub priority_and_fairness: bool,
    /// `--endpoint-reconciler-type`, `--apiserver-count`
    pub endpoint_reconciler: (String, usize),
    /// `--shutdown-*`
    pub shutdown: Shutdown,
    /// How kubelets are reached.
    pub kubelet: KubeletClient,
    /// Limits and times.
    pub limits: Limits,
    /// `--etcd-healthcheck-timeout` and `--etcd-readycheck-timeout`
    pub store_timeouts: (Duration, Duration),
    /// `--default-not-ready-toleration-seconds` and `--default-unreachable-toleration-seconds`
    pub default_tolerations: (i64, i64),
    /// Which metrics are shown.
    pub metrics: component::metrics::Options,
    /// `--profiling`: `/debug/flags` is served.
    pub profiling: bool,
    /// `--tracing-config-file`
    pub tracing: Option<PathBuf>,
    /// What is to be said about flags without effect.
    pub notes: Vec<String>,
    /// Feature gates.
    pub gates: Gates,
}

/// Upstream's default when the range is not given, with its warning left to the caller.
const DEFAULT_SERVICE_CIDR: &str = "10.0.0.0/24";

impl Config {
    /// Reads and validates flags.
    ///
    /// # Errors
    /// Every problem, in upstream's order.
    pub fn from_flags(flags: &FlagSet) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut gates = Gates::default();
        if let Err(error) = gates.set(&flags.gate_settings("feature-gates")) {
            problems.push(error.to_string());
        }
        check_numbers(flags, &mut problems);
        check_names(flags, &mut problems);
        let store = store(flags, &mut problems);
        let service_cidrs = service_cidrs(flags, &mut problems);
        let modes = authorization_modes(flags, &mut problems);
        let service_accounts = service_accounts(flags, &mut problems);
        let node_ports = port_range(flags.string("service-node-port-range"));
        let issuers = issuers(flags, &service_accounts, &mut problems);
        let audit = audit::Config::from_flags(flags, &mut problems);
        let encryption = encryption(flags, &mut problems);
        let admission = AdmissionPlugins::from_flags(flags, &mut problems);
        let notes = unbuilt::check(flags, &mut problems);
        let mut keep = |e: Vec<String>| problems.extend(e);
        let serving = SecureServing::from_flags(flags, "apiserver", true).map_err(&mut keep);
        let metrics = component::metrics::Options::from_flags(flags).map_err(&mut keep);
        let cors = Cors::new(flags.list("cors-allowed-origins")).map_err(|e| keep(vec![e]));
        let anonymous = flags.bool("anonymous-auth") && !modes.iter().any(|m| m == "AlwaysAllow");
        let audiences = flags.list("api-audiences");
        let (Ok(serving), Ok(metrics), Ok(cors), true) = (serving, metrics, cors, problems.is_empty()) else {
            return Err(problems);
        };
        Ok(Self {
            serving,
            cors,
            store_timeouts: (
                flags.duration("etcd-healthcheck-timeout"),
                flags.duration("etcd-readycheck-timeout"),
            ),
            default_tolerations: (
                flags.int("default-not-ready-toleration-seconds"),
                flags.int("default-unreachable-toleration-seconds"),
            ),
            metrics,
            profiling: flags.bool("profiling"),
            tracing: path(flags, "tracing-config-file"),
            audit,
            encryption,
            notes,
            advertise: flags.ip("advertise-address").filter(|ip| !ip.is_unspecified()),
            external_hostname: flags.string("external-hostname").to_owned(),
            client_ca: path(flags, "client-ca-file"),
            front_proxy_ca: path(flags, "requestheader-client-ca-file"),
            front_proxy: front_proxy(flags),
            anonymous,
            issuers,
            token_file: path(flags, "token-auth-file"),
            bootstrap_tokens: flags.bool("enable-bootstrap-token-auth"),
            api_audiences: if audiences.is_empty() {
                service_accounts.issuers.clone()
            } else {
                audiences.to_vec()
            },
            service_accounts,
            authorization: authorization(flags, modes),
            token_webhook: path(flags, "authentication-token-webhook-config-file").map(|file| {
                let version = flags.string("authentication-token-webhook-version").to_owned();
                (file, version, flags.duration("authentication-token-webhook-cache-ttl"))
            }),
            store,
            prefix: flags.string("etcd-prefix").to_owned(),
            service_cidrs,
            node_ports,
            kubernetes_node_port: u16::try_from(flags.int("kubernetes-service-node-port")).unwrap_or(0),
            event_ttl: flags.duration("event-ttl"),
            delete_collection_workers: size(flags, "delete-collection-workers").max(1),
            admission,
            admission_file: path(flags, "admission-control-config-file"),
            proxy_client: pair(flags, "proxy-client-cert-file", "proxy-client-key-file"),
            reject_redirects: flags.bool("aggregator-reject-forwarding-redirect"),
            aggregator_routing: flags.bool("enable-aggregator-routing"),
            allow_privileged: flags.bool("allow-privileged"),
            runtime_config: flags.map("runtime-config"),
            livez_grace: flags.duration("livez-grace-period"),
            priority_and_fairness: flags.bool("enable-priority-and-fairness"),
            in_flight: (size(flags, "max-requests-inflight"), size(flags, "max-mutating-requests-inflight")),
            endpoint_reconciler: (
                flags.string("endpoint-reconciler-type").to_owned(),
                size(flags, "apiserver-count"),
            ),
            shutdown: shutdown(flags),
            kubelet: KubeletClient {
                client: pair(flags, "kubelet-client-certificate", "kubelet-client-key"),
                ca: path(flags, "kubelet-certificate-authority"),
                address_types: flags.list("kubelet-preferred-address-types").to_vec(),
                timeout: flags.duration("kubelet-timeout"),
            },
            limits: limits(flags),
            gates,
        })
    }
}

/// Upstream: `validateOIDCOptions`.
fn issuers(
    flags: &FlagSet,
    service_accounts: &ServiceAccounts,
    problems: &mut Vec<String>,
) -> crate::oidc::Asked {
    const FLAGS: [&str; 9] = [
        "oidc-issuer-url",
        "oidc-client-id",
        "oidc-ca-file",
        "oidc-username-claim",
        "oidc-username-prefix",
        "oidc-groups-claim",
        "oidc-groups-prefix",
        "oidc-signing-algs",
        "oidc-required-claim",
    ];
    let text = |name: &str| flags.string(name).to_owned();
    let file = path(flags, "authentication-config");
    let given = FLAGS.iter().any(|name| flags.changed(name));
    let complete =
        flags.non_empty("oidc-issuer-url").is_some() && flags.non_empty("oidc-client-id").is_some();
    match (given, file.is_some(), complete) {
        (true, true, _) => {
            problems.push("authentication-config file and oidc-* flags are mutually exclusive".to_owned());
        }
        (true, false, false) => problems.push(
            "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
                .to_owned(),
        ),
        _ => {}
    }
    crate::oidc::Asked {
        file,
        flags: complete.then(|| crate::oidc::config::Flags {
            issuer: text("oidc-issuer-url"),
            client_id: text("oidc-client-id"),
            ca_file: path(flags, "oidc-ca-file"),
            username_claim: text("oidc-username-claim"),
            username_prefix: text("oidc-username-prefix"),
            groups_claim: text("oidc-groups-claim"),
            groups_prefix: text("oidc-groups-prefix"),
            algorithms: flags.list("oidc-signing-algs").to_vec(),
            required: flags.map("oidc-required-claim"),
        }),
        anonymous: flags.changed("anonymous-auth").then(|| flags.bool("anonymous-auth")),
        own_issuers: service_accounts.issuers.clone(),
    }
}

/// Upstream: `EtcdOptions.Validate`.
fn encryption(flags: &FlagSet, problems: &mut Vec<String>) -> Option<(PathBuf, bool)> {
    let reload = flags.bool("encryption-provider-config-automatic-reload");
    let file = path(flags, "encryption-provider-config");
    if reload && file.is_none() {
        problems.push(
            "--encryption-provider-config-automatic-reload must be set with --encryption-provider-config"
                .to_owned(),
        );
    }
    file.map(|file| (file, reload))
}

fn path(flags: &FlagSet, name: &str) -> Option<PathBuf> {
    flags.non_empty(name).map(PathBuf::from)
}

fn pair(flags: &FlagSet, certificate: &str, key: &str) -> Option<(PathBuf, PathBuf)> {
    Some((path(flags, certificate)?, path(flags, key)?))
}

fn size(flags: &FlagSet, name: &str) -> usize {
    usize::try_from(flags.int(name)).unwrap_or(0)
}

fn limits(flags: &FlagSet) -> Limits {
    let hsts = flags.list("strict-transport-security-directives");
    Limits {
        request_timeout: flags.duration("request-timeout"),
        min_request_timeout: Duration::from_secs(
            u64::try_from(flags.int("min-request-timeout")).unwrap_or(1800),
        ),
        goaway_chance: flags.float("goaway-chance"),
        hsts: (!hsts.is_empty()).then(|| hsts.join("; ")),
        ..Limits::default()
    }
}

fn shutdown(flags: &FlagSet) -> Shutdown {
    Shutdown {
        delay: flags.duration("shutdown-delay-duration"),
        send_retry_after: flags.bool("shutdown-send-retry-after"),
        watch_grace: flags.duration("shutdown-watch-termination-grace-period"),
    }
}

fn front_proxy(flags: &FlagSet) -> RequestHeaderConfig {
    let list = |name: &str| flags.list(name).to_vec();
    RequestHeaderConfig {
        username_headers: list("requestheader-username-headers"),
        uid_headers: list("requestheader-uid-headers"),
        group_headers: list("requestheader-group-headers"),
        extra_header_prefixes: list("requestheader-extra-headers-prefix"),
        allowed_names: list("requestheader-allowed-names"),
    }
}

fn store(flags: &FlagSet, problems: &mut Vec<String>) -> StoreConfig {
    let (servers, written) = (flags.list("etcd-servers"), flags.list("etcd-servers-overrides"));
    let overrides: Option<Vec<Override>> = written.iter().map(|text| Override::parse(text)).collect();
    if overrides.is_none() {
        problems.push("--etcd-servers-overrides invalid, must be of format: group/resource#servers, where servers are URLs, semicolon separated".to_owned());
    }
    let overrides = overrides.unwrap_or_default();
    if servers.is_empty() {
        if !overrides.is_empty() {
            problems.push("--etcd-servers must be specified with --etcd-servers-overrides".to_owned());
        }
        return StoreConfig::Embedded(flags.string("data-dir").into());
    }
    StoreConfig::Etcd(EtcdConfig {
        servers: servers.to_vec(),
        overrides,
        ca: path(flags, "etcd-cafile"),
        client: pair(flags, "etcd-certfile", "etcd-keyfile"),
        compaction: flags.duration("etcd-compaction-interval"),
    })
}

/// `low-high`, as the flag's own check left it.
fn port_range(text: &str) -> (u16, u16) {
    let parsed = text.split_once('-').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    parsed.unwrap_or((30000, 32767))
}

fn check_numbers(flags: &FlagSet, problems: &mut Vec<String>) {
    for name in ["max-requests-inflight", "max-mutating-requests-inflight", "min-request-timeout"] {
        if flags.int(name) < 0 {
            problems.push(format!("--{name} can not be negative value"));
        }
    }
    let (reading, changing) =
        (flags.int("max-requests-inflight"), flags.int("max-mutating-requests-inflight"));
    if flags.bool("enable-priority-and-fairness") && reading == 0 && changing == 0 {
        problems.push(
            "invalid configuration: MaxRequestsInFlight=0 and MaxMutatingRequestsInFlight=0; they must add up to \
             something positive"
                .to_owned(),
        );
    }
    for (name, text) in [
        ("livez-grace-period", "--livez-grace-period can not be a negative value"),
        ("shutdown-delay-duration", "--shutdown-delay-duration can not be negative value"),
        (
            "shutdown-watch-termination-grace-period",
            "shutdown-watch-termination-grace-period, if provided, can not be a negative value",
        ),
    ] {
        if flags.go_duration(name).0 < 0 {
            problems.push(text.to_owned());
        }
    }
    if !(0.0..=0.02).contains(&flags.float("goaway-chance")) {
        problems.push("--goaway-chance can not be less than 0 or greater than 0.02".to_owned());
    }
    let servers = flags.int("apiserver-count");
    if servers <= 0 {
        problems
            .push(format!("--apiserver-count should be a positive number, but value '{servers}' provided"));
    }
    let node_port = flags.int("kubernetes-service-node-port");
    if !(0..=65535).contains(&node_port) {
        problems.push(format!(
            "--kubernetes-service-node-port {node_port} must be between 0 and 65535, inclusive. If 0, the Kubernetes \
             master service will be of type ClusterIP"
        ));
    }
}

/// Upstream: `EtcdOptions.Validate`, `LogOptions`; and what only one value of is served here.
fn check_names(flags: &FlagSet, problems: &mut Vec<String>) {
    const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
    if !matches!(flags.string("storage-backend"), "" | "etcd3") {
        problems.push(
            "--storage-backend invalid, allowed values: etcd3. If not specified, it will default to 'etcd3'"
                .to_owned(),
        );
    }
    match flags.string("storage-media-type") {
        "" | PROTOBUF => {}
        other @ ("application/json" | "application/yaml") => problems.push(format!(
            "--storage-media-type={other} is not implemented: objects are stored as {PROTOBUF}"
        )),
        other => problems.push(format!(
            "--storage-media-type {other:?} invalid, allowed values: application/json, {PROTOBUF}, application/yaml"
        )),
    }
    match flags.string("endpoint-reconciler-type") {
        "lease" | "none" | "master-count" => {}
        other => problems.push(format!(
            "--endpoint-reconciler-type {other:?} must be one of: [lease, master-count, none]"
        )),
    }
}

fn service_cidrs(flags: &FlagSet, problems: &mut Vec<String>) -> Vec<IpNet> {
    let text = flags.non_empty("service-cluster-ip-range").unwrap_or(DEFAULT_SERVICE_CIDR);
    let mut cidrs = Vec::new();
    for part in text.split(',') {
        match net::parse_network(part.trim()) {
            Some(network) => cidrs.push(network),
            None => {
                problems.push("--service-cluster-ip-range must contain at least one valid cidr".to_owned())
            }
        }
    }
    if cidrs.len() > 2 {
        problems.push("--service-cluster-ip-range must not contain more than two entries".to_owned());
    }
    if let [first, second] = cidrs.as_slice()
        && first.addr().is_ipv4() == second.addr().is_ipv4()
    {
        problems.push(
            "--service-cluster-ip-range[0] and --service-cluster-ip-range[1] must be of different IP family"
                .to_owned(),
        );
    }
    cidrs
}

fn authorization_modes(flags: &FlagSet, problems: &mut Vec<String>) -> Vec<String> {
    let given = flags.list("authorization-mode");
    if flags.non_empty("authorization-config").is_some() {
        const EXCLUDED: [&str; 5] = [
            "authorization-mode",
            "authorization-webhook-config-file",
            "authorization-webhook-version",
            "authorization-webhook-cache-authorized-ttl",
            "authorization-webhook-cache-unauthorized-ttl",
        ];
        if EXCLUDED.iter().any(|name| flags.changed(name)) {
            problems.push(
                "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* \
                 flags are defined"
                    .to_owned(),
            );
        }
        return Vec::new();
    }
    let modes = if given.is_empty() { vec!["AlwaysAllow".to_owned()] } else { given.to_vec() };
    for mode in &modes {
        match mode.as_str() {
            "Node" | "RBAC" | "AlwaysAllow" | "AlwaysDeny" => {}
            "ABAC" if flags.non_empty("authorization-policy-file").is_none() => {
                problems.push("authorization-mode ABAC's authorization policy file not passed".to_owned());
            }
            "Webhook" if flags.non_empty("authorization-webhook-config-file").is_none() => {
                problems.push("authorization-mode Webhook's authorization config file not passed".to_owned());
            }
            "ABAC" | "Webhook" => {}
            _ => problems.push(format!("authorization-mode {mode:?} is not a valid mode")),
        }
    }
    let has = |mode: &str| modes.iter().any(|m| m == mode);
    for (flag, mode) in
        [("authorization-policy-file", "ABAC"), ("authorization-webhook-config-file", "Webhook")]
    {
        if flags.non_empty(flag).is_some() && !has(mode) {
            problems.push(format!("cannot specify --{flag} without mode {mode}"));
        }
    }
    let mut unique = modes.clone();
    unique.sort();
    unique.dedup();
    if unique.len() != modes.len() {
        problems.push(format!("authorization-mode {modes:?} has mode specified more than once"));
    }
    modes
}

fn authorization(flags: &FlagSet, modes: Vec<String>) -> AuthorizationConfig {
    AuthorizationConfig {
        modes,
        policy_file: path(flags, "authorization-policy-file"),
        webhook_file: path(flags, "authorization-webhook-config-file"),
        webhook_version: flags.string("authorization-webhook-version").to_owned(),
        webhook_ttl: (
            flags.duration("authorization-webhook-cache-authorized-ttl"),
            flags.duration("authorization-webhook-cache-unauthorized-ttl"),
        ),
        file: path(flags, "authorization-config"),
    }
}

fn service_accounts(flags: &FlagSet, problems: &mut Vec<String>) -> ServiceAccounts {
    let issuers = flags.list("service-account-issuer").to_vec();
    let keys: Vec<PathBuf> = flags.list("service-account-key-file").iter().map(PathBuf::from).collect();
    let signing_key = path(flags, "service-account-signing-key-file");
    for (index, issuer) in issuers.iter().enumerate() {
        if issuer.is_empty() {
            problems.push("service-account-issuer should not be an empty string".to_owned());
        } else if issuers[..index].contains(issuer) {
            problems.push(format!("service-account-issuer {issuer:?} is already specified"));
        }
    }
    if issuers.is_empty() {
        problems.push("service-account-issuer is a required flag".to_owned());
    }
    if keys.is_empty() {
        problems.push(
            "either `--service-account-key-file` or `--service-account-signing-endpoint` must be set"
                .to_owned(),
        );
    }
    let audiences = flags.list("api-audiences");
    if signing_key.is_none() && issuers.is_empty() {
        problems.push(
            "--service-account-signing-key-file and --service-account-issuer are required flags".to_owned(),
        );
    } else if signing_key.is_none() || issuers.is_empty() || (audiences.is_empty() && issuers.is_empty()) {
        problems.push(
            "--service-account-signing-key-file, --service-account-issuer, and --api-audiences should be specified \
             together"
                .to_owned(),
        );
    }
    ServiceAccounts {
        issuers,
        keys,
        signing_key,
        jwks_uri: flags.string("service-account-jwks-uri").to_owned(),
        lookup: flags.bool("service-account-lookup"),
        max_expiration: flags.duration("service-account-max-token-expiration"),
        extend_expiration: flags.bool("service-account-extend-token-expiration"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, Vec<String>> {
        let mut set = flags::COMMAND.flag_set();
        set.parse(args.iter().map(|a| (*a).to_owned())).unwrap();
        Config::from_flags(&set)
    }

    #[test]
    fn missing_flags() {
        assert_eq!(
            parse(&[]).unwrap_err(),
            [
                "service-account-issuer is a required flag",
                "either `--service-account-key-file` or `--service-account-signing-endpoint` must be set",
                "--service-account-signing-key-file and --service-account-issuer are required flags",
            ]
        );
        assert_eq!(
            parse(&["--service-account-issuer=x"]).unwrap_err(),
            [
                "either `--service-account-key-file` or `--service-account-signing-endpoint` must be set",
                "--service-account-signing-key-file, --service-account-issuer, and --api-audiences should be specified \
                 together",
            ]
        );
    }

    #[test]
    fn resources_elsewhere() {
        let parsed = Override::parse("/events#http://a:1;http://b:2").unwrap();
        assert_eq!(
            (parsed.group.as_str(), parsed.resource.as_str(), parsed.servers.len()),
            ("", "events", 2)
        );
        for odd in
            ["", "/events", "events#http://a", "a/b/c#http://a", "/events#", "/events#http://a;", "/e#a#b"]
        {
            assert_eq!(Override::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn admission_plugins() {
        let read = |args: &[&str]| {
            let mut set = flags::COMMAND.flag_set();
            set.parse(args.iter().map(|a| (*a).to_owned())).unwrap();
            let mut problems = Vec::new();
            (AdmissionPlugins::from_flags(&set, &mut problems), problems)
        };
        let (plugins, problems) = read(&["--admission-control=AlwaysPullImages,LimitRanger"]);
        assert_eq!((plugins.enable.len(), plugins.disable.len(), problems.len()), (2, 37, 0));
        let (_, problems) = read(&[
            "--admission-control=Foo",
            "--enable-admission-plugins=Bar,EventRateLimit,LimitRanger",
            "--disable-admission-plugins=LimitRanger,EventRateLimit",
        ]);
        assert_eq!(
            problems,
            [
                "admission-control and enable-admission-plugins/disable-admission-plugins flags are mutually exclusive",
                "admission-control plugin \"Foo\" is unknown",
                "enable-admission-plugins plugin \"Bar\" is unknown",
                "[EventRateLimit LimitRanger] in enable-admission-plugins and disable-admission-plugins overlapped",
            ]
        );
    }

    #[test]
    fn reads_a_usual_line() {
        let config = parse(&[
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=/a",
            "--service-account-signing-key-file=/b",
            "--authorization-mode=Node,RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--secure-port=6444",
        ])
        .unwrap();
        assert_eq!(config.serving.port, 6444);
        assert_eq!(config.authorization.modes, ["Node", "RBAC"]);
        assert_eq!(config.api_audiences, ["https://kubernetes.default.svc"]);
        assert_eq!(config.service_cidrs[0].to_string(), "10.96.0.0/16");
        assert!(config.anonymous);
        assert!(matches!(config.store, StoreConfig::Embedded(_)));
        assert!(!parse(&["--authorization-mode=Foo"]).unwrap_err().is_empty());
    }
}
