//! Assembly: flags to configuration, files and store to parts, parts to a running server, and its end.
//!
//! [`ApiServer`] is what `main` runs; [`build`] makes a [`Running`] server for any listener, so that tests start one in
//! their own process.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use auth::authenticator::{TokenAuthenticator, TokenUnion};
use auth::jwt::authenticator::ServiceAccountTokens;
use auth::tokens::BootstrapTokens;
use component::app::{Daemon, Error, Process};
use component::features::Gate;
use component::flags::{Command, FlagSet};
use component::logs;
use component::serving::mux::Mux;
use component::serving::{self, Listener, OwnNames, SecureServer};
use component::zpages;
use jiff::Timestamp;
use registry::admission::Chain;
use registry::api::Registry;
use registry::gates::Gates;
use registry::{ApiRegistry, Settings};
use storage::Store;
use tokio_util::sync::CancellationToken;
use traces::Traces;

use crate::aggregator::{self, Aggregator};
use crate::assemble::audiences::AudienceAgnostic;
use crate::assemble::authorization::{self, Authorization};
use crate::assemble::token_cache::TokenCache;
use crate::assemble::tokens::{Objects, TokenService};
use crate::assemble::{self, admission, auditor, files, followers, reload, store};
use crate::chain;
use crate::chain::authenticate::{Anonymous, Authentication, SharedBundle};
use crate::chain::in_flight::InFlight;
use crate::connect::Dialer;
use crate::customresources;
use crate::endpoints::health::{Health, Page};
use crate::endpoints::index;
use crate::endpoints::openid::OpenId;
use crate::flowcontrol;
use crate::hooks;
use crate::lifecycle::Lifecycle;
use crate::local::{Gvr, Local};
use crate::oidc;
use crate::options::{Config, flags};
use crate::outbound::endpoint::{Endpoint, TIMEOUT};
use crate::outbound::resolve::Resolver;
use crate::reviewers::tokens::TokenWebhook;
use crate::server::{Connection, Limiter, Server};
use crate::webhooks;

/// The daemon.
pub struct ApiServer {
    config: Config,
    logging: logs::Options,
}

impl Daemon for ApiServer {
    const COMMAND: &'static Command = &flags::COMMAND;

    fn configure(flags: &FlagSet) -> Result<Self, Vec<String>> {
        let config = Config::from_flags(flags)?;
        let logging = logs::Options::from_flags(flags, &config.gates)?;
        Ok(Self { config, logging })
    }

    fn logging(&self) -> logs::Options {
        self.logging.clone()
    }

    async fn run(self, process: Process) -> Result<(), Error> {
        for note in &self.config.notes {
            tracing::warn!("{note}");
        }
        let secure = &self.config.serving;
        let listener = Listener::bind(secure.address, secure.port, secure.bind)?;
        let traces = assemble::traces::start(&self.config)?;
        let store = store::open(&self.config, traces.as_ref()).await?;
        let running = build(self.config, store, listener, traces, &process).await?;
        process.notifier.ready();
        running.serve().await;
        Ok(())
    }
}

/// How long the end of the server waits for a collector of traces.
const LAST_TRACES: Duration = Duration::from_secs(3);

/// A server that is ready to accept connections.
pub struct Running {
    server: Arc<Server>,
    secure: SecureServer,
    config: Config,
    presence: hooks::Presence,
    shutdown: CancellationToken,
}

impl Running {
    /// Serves until shutdown, then drains.
    pub async fn serve(self) {
        let Self { server, mut secure, config, presence, shutdown } = self;
        let (auditor, traces) = (server.auditor.clone(), server.traces.clone());
        let lifecycle = server.lifecycle.clone();
        let certificates = secure.certificates.watch(shutdown.clone());
        secure.options.drain = config.shutdown.http_timeout(config.limits.request_timeout);
        let stop_http = CancellationToken::new();
        let closed = stop_http.clone();
        let end = async move {
            shutdown.cancelled().await;
            lifecycle.end(&config.shutdown, presence.stop(), &closed).await;
        };
        let each_connection = move |info: &Arc<serving::ConnInfo>| {
            let (server, connection) = (server.clone(), Arc::new(Connection::new(info)));
            move |request| chain::serve(server.clone(), connection.clone(), request)
        };
        let serving = serving::serve_each(secure.listener, secure.options, each_connection, stop_http);
        tokio::join!(serving, end, certificates);
        if let Some(auditor) = auditor {
            auditor.finish().await;
        }
        if let Some(traces) = traces {
            traces.finish(LAST_TRACES).await;
        }
    }
}

fn is_on(gate: &str, config: &Config) -> bool {
    Gate::from_name(gate).is_some_and(|gate| config.gates.enabled(gate))
}

/// Whether a resource is served: its feature gate is on, and no flag turns it, its version or its stage off.
fn is_served(row: &api::resources::ResourceRow, config: &Config) -> bool {
    row.gate.is_none_or(|gate| is_on(gate, config)) && is_enabled(row, config)
}

/// What `--runtime-config` says of a resource.
fn is_enabled(row: &api::resources::ResourceRow, config: &Config) -> bool {
    let kind = &row.kind;
    let setting = |key: &str| config.runtime_config.get(key).map(|v| v.is_empty() || v == "true");
    let version =
        if kind.group.is_empty() { "v1".to_owned() } else { format!("{}/{}", kind.group, kind.version) };
    let by_stage = match row.stage {
        api::resources::Stage::Ga => setting("api/ga"),
        api::resources::Stage::Beta => setting("api/beta"),
        api::resources::Stage::Alpha => setting("api/alpha"),
    };
    setting(&format!("{version}/{}", row.resource))
        .or_else(|| setting(&version))
        .or_else(|| setting("api/v1").filter(|_| version == "v1"))
        .or(by_stage)
        .or_else(|| setting("api/all"))
        .unwrap_or(row.stage == api::resources::Stage::Ga)
}

/// The address others reach this server at: as told, the bound one, or that of the default route's interface.
fn advertise(config: &Config, bound: SocketAddr) -> SocketAddr {
    let ip = config.advertise.unwrap_or_else(|| {
        if bound.ip().is_unspecified() { default_address().unwrap_or(bound.ip()) } else { bound.ip() }
    });
    SocketAddr::new(ip, bound.port())
}

/// The address that the Service `kubernetes` leads to. One that only this host reaches is of no use there, so the default
/// route's instead, unless it was asked for. Upstream: `ResolveBindAddress` of `apimachinery/pkg/util/net`.
fn public(config: &Config, address: SocketAddr) -> SocketAddr {
    let replace = config.advertise.is_none() && address.ip().is_loopback();
    let ip = replace.then(default_address).flatten().unwrap_or(address.ip());
    SocketAddr::new(ip, address.port())
}

/// `host:port` that discovery tells clients to use: the name given, which may have a port, or the public address.
/// Upstream: `apiserver/pkg/server/config.go` `Complete`, `pkg/controlplane/apiserver/options` `Complete`.
fn external(name: &str, public: SocketAddr) -> String {
    let has_port = match name.rsplit_once(':') {
        Some((host, _)) => !host.contains(':') || (host.starts_with('[') && host.ends_with(']')),
        None => false,
    };
    match name {
        "" => public.to_string(),
        name if has_port => name.to_owned(),
        name if name.contains(':') => format!("[{name}]:{}", public.port()),
        name => format!("{name}:{}", public.port()),
    }
}

/// Asks the routing table; nothing is sent.
fn default_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_unspecified())
}

fn api_registry(config: &Config, store: Arc<dyn Store>, admission: Chain) -> ApiRegistry {
    let served = config.clone();
    let gates = Gates::new(|name| is_on(name, config));
    registry::gates::install(&gates);
    ApiRegistry::new(registry::Config {
        store,
        prefix: config.prefix.clone(),
        served: Box::new(move |row| is_served(row, &served)),
        admission,
        settings: Settings {
            service_cidrs: config.service_cidrs.clone(),
            node_ports: config.node_ports.0..=config.node_ports.1,
            event_ttl: config.event_ttl,
            delete_collection_workers: config.delete_collection_workers,
            default_tolerations: config.default_tolerations,
            gates,
        },
        clock: Arc::new(Timestamp::now),
    })
}

/// The token authenticators, in upstream's order.
fn token_authenticators(
    config: &Config,
    objects: &Objects,
    issuers: Option<Arc<dyn TokenAuthenticator>>,
) -> Result<Arc<dyn TokenAuthenticator>, Error> {
    let mut all: Vec<Arc<dyn TokenAuthenticator>> = Vec::new();
    let agnostic = |inner: Arc<dyn TokenAuthenticator>| {
        Arc::new(AudienceAgnostic { own: config.api_audiences.clone(), inner })
    };
    if let Some(file) = files::tokens(config.token_file.as_deref())? {
        all.push(agnostic(Arc::new(file)));
    }
    all.push(Arc::new(ServiceAccountTokens {
        issuers: config.service_accounts.issuers.clone(),
        keys: files::verifying_keys(&config.service_accounts.keys)?,
        api_audiences: config.api_audiences.clone(),
        lookup_legacy: config.service_accounts.lookup,
        objects: objects.clone(),
        clock: Timestamp::now,
    }));
    if config.bootstrap_tokens {
        let bootstrap = BootstrapTokens { secrets: objects.clone(), clock: Timestamp::now };
        all.push(agnostic(Arc::new(bootstrap)));
    }
    // After service accounts: an issuer may be asked for keys again for tokens that are not its own.
    all.extend(issuers);
    if let Some((kubeconfig, version, ttl)) = &config.token_webhook {
        if !matches!(version.as_str(), "v1" | "v1beta1") {
            let known = "supported versions are \"v1\", \"v1beta1\"";
            return Err(format!("unsupported authentication webhook version {version:?}, {known}").into());
        }
        let endpoint = Endpoint::load(kubeconfig, TIMEOUT)?;
        all.push(Arc::new(TokenWebhook::new(endpoint, version, config.api_audiences.clone(), *ttl)));
    }
    Ok(Arc::new(TokenCache::new(Arc::new(TokenUnion(all)))))
}

/// The secure port on a listener, with the CA names that clients are told to choose certificates by.
fn secure_server(
    config: &Config,
    listener: Listener,
    bundles: &hooks::Bundles,
    address: SocketAddr,
) -> Result<SecureServer, Error> {
    let mut secure = config.serving.clone();
    // Upstream: `CompletedServerRunOptions`, MaybeDefaultWithSelfSignedCerts.
    secure.own = OwnNames {
        host: address.ip().to_string(),
        ips: first_service_addresses(config).collect(),
        names: ["kubernetes.default.svc", "kubernetes.default", "kubernetes"].map(String::from).into(),
    };
    let bundles = bundles.client.iter().chain(&bundles.front_proxy);
    let subjects: Vec<Vec<u8>> = bundles.flat_map(|b| b.subjects().iter().cloned()).collect();
    let mut server = secure.on(listener, &subjects)?;
    server.options.half_close = false;
    Ok(server)
}

fn first_service_addresses(config: &Config) -> impl Iterator<Item = IpAddr> + '_ {
    config.service_cidrs.iter().filter_map(|net| net.hosts().next())
}

/// Puts the parts together and starts hooks and followers.
///
/// # Errors
/// When a file or part cannot be used; nothing was served then.
pub async fn build(
    config: Config,
    store: Arc<dyn Store>,
    listener: Listener,
    traces: Option<Traces>,
    process: &Process,
) -> Result<Running, Error> {
    let metrics = component::metrics::default_registry();
    metrics.configure(config.metrics.clone());
    component::metrics::register_process(metrics, config.gates);
    let address = advertise(&config, listener.address());
    let bundles = hooks::Bundles {
        client: files::bundle("client-ca-file", config.client_ca.as_deref())?,
        front_proxy: files::bundle("requestheader-client-ca-file", config.front_proxy_ca.as_deref())?,
    };
    let secure = secure_server(&config, listener, &bundles, address)?;
    let objects = Objects::default();
    let (issuers, anonymous) = oidc::start(&config.issuers, &config.api_audiences, &process.tasks)?;
    let auditor = auditor::start(&config.audit, &process.tasks)?;
    let tokens = token_authenticators(&config, &objects, issuers)?;
    let (store, encryption) = store::encrypted(&config, store, &process.tasks).await?;
    let (admission, accounts) = admission::chain(&config)?;
    let resources = api_registry(&config, store.clone(), admission);
    let Authorization { authorizer, rbac, node } =
        authorization::build(&config.authorization, &config.gates, &process.tasks)?;
    resources.core().start_caches();
    resources.core().set_authorizer(authorizer.clone());
    if let Some(rbac) = &rbac {
        resources.core().set_rbac(rbac.clone());
    }
    resources.core().set_tokens(Arc::new(TokenService {
        key: files::signing_key(config.service_accounts.signing_key.as_deref())?,
        issuer: config.service_accounts.issuers.first().cloned().unwrap_or_default(),
        api_audiences: config.api_audiences.clone(),
        max_expiration: config.service_accounts.max_expiration,
        extend_expiration: config.service_accounts.extend_expiration,
        authenticator: tokens.clone(),
    }));
    let told = external(&config.external_hostname, public(&config, address));
    let openid = openid(&config, &told)?;
    let registry = resources;
    let core = registry.core().clone();
    let resources: Arc<dyn Registry> = Arc::new(registry.clone());
    let local = Local::new(resources.clone());
    objects.set(local.clone());

    let lifecycle = Lifecycle::new(&config.shutdown);
    let presence = hooks::Presence::new(&config, &local, store.clone(), public(&config, address))?;
    let health = health(store, &lifecycle, config.store_timeouts, config.livez_grace);
    encryption_health(&health, encryption);
    let informed = health.add_flag("informer-sync", &[Page::Readyz], "informers not started yet");
    let resolver = Resolver::new(local.clone(), config.aggregator_routing, address);
    webhooks::start(&core, &local, &process.tasks, resolver.clone(), accounts);
    let registered =
        health.add_flag("autoregister-completion", &[Page::Healthz, Page::Readyz], "missing APIService");
    let aggregation = aggregator::Options {
        proxy_client: config.proxy_client.clone(),
        reject_redirects: config.reject_redirects,
    };
    let aggregator = Aggregator::start(&local, &process.tasks, resolver, aggregation, registered)?;
    followers::start(&local, &process.tasks, rbac.clone(), node, informed);
    hooks::start(&process.tasks, &health, &local, &config, rbac, bundles.clone(), &presence);
    if local.serves(Gvr::CUSTOM_RESOURCES) {
        customresources::start(&process.tasks, &health, &local, &registry);
    }
    let limiter = limiter(&config, &local, &process.tasks, &health);
    let client_ca: SharedBundle = Arc::new(ArcSwapOption::new(bundles.client));
    let front_proxy_ca: SharedBundle = Arc::new(ArcSwapOption::new(bundles.front_proxy));
    reload::bundle(&process.tasks, "client-ca-file", config.client_ca.clone(), client_ca.clone());
    reload::bundle(
        &process.tasks,
        "requestheader-client-ca-file",
        config.front_proxy_ca.clone(),
        front_proxy_ca.clone(),
    );
    let server = Arc::new(Server {
        registry: resources,
        auditor,
        traces,
        authentication: Authentication {
            client_ca,
            front_proxy: config.front_proxy.clone(),
            front_proxy_ca,
            tokens,
            api_audiences: config.api_audiences.clone(),
            anonymous: anonymous_requests(&config, anonymous),
        },
        authorizer,
        cors: config.cors.clone(),
        limiter,
        pages: pages(process, &health, config.profiling),
        health,
        advertise: told,
        gates: config.gates,
        dialer: Dialer::new(&config.kubelet)?,
        openid,
        aggregator,
        openapi: Default::default(),
        limits: config.limits.clone(),
        lifecycle,
    });
    tracing::info!(address = %secure.listener.address(), "Serving securely");
    Ok(Running { server, secure, config, presence, shutdown: process.shutdown.clone() })
}

/// The pages about service account tokens, for clients that reach the server at `told`.
fn openid(config: &Config, told: &str) -> Result<OpenId, Error> {
    let accounts = &config.service_accounts;
    let issuer = accounts.issuers.first().map_or("", String::as_str);
    Ok(OpenId::new(issuer, &accounts.jwks_uri, told, &files::verifying_keys(&accounts.keys)?))
}

/// Priority and fairness over the sum of both limits, or the limits alone.
fn limiter(config: &Config, local: &Local, tasks: &component::app::Tasks, health: &Health) -> Limiter {
    let (reading, changing) = config.in_flight;
    if !config.priority_and_fairness {
        health.hook("max-in-flight-filter").finish();
        return Limiter::Counts(InFlight::new(reading, changing));
    }
    let controller = Arc::new(flowcontrol::controller::Controller::new((reading + changing) as u64));
    if local.serves(Gvr::FLOW_SCHEMAS) && local.serves(Gvr::PRIORITY_LEVELS) {
        flowcontrol::tasks::start(&controller, local, tasks, health);
    }
    Limiter::Flows(controller)
}

/// The file's word counts before the flag's.
fn anonymous_requests(config: &Config, file: Option<oidc::config::Anonymous>) -> Anonymous {
    let Some(file) = file else {
        return if config.anonymous { Anonymous::Everywhere } else { Anonymous::Refused };
    };
    let paths: Vec<String> = file.conditions.into_iter().flatten().map(|c| c.path).collect();
    match (file.enabled, paths.is_empty()) {
        (false, _) => Anonymous::Refused,
        (true, true) => Anonymous::Everywhere,
        (true, false) => Anonymous::At(paths),
    }
}

/// The pages that every daemon has. Upstream: `installAPI` and `PrepareRun` of apiserver/pkg/server, for the conditions.
fn pages(process: &Process, health: &Health, profiling: bool) -> Mux {
    let mut mux = Mux::default();
    if profiling {
        zpages::install_debug_flags(&mut mux);
    }
    let pages = zpages::Pages { name: "apiserver", flags: process.flags.clone(), config: None };
    zpages::install_among(&mut mux, &pages, &index::at_start(health));
    mux
}

/// One check for all KMS plugins; there, and content, without any when the configuration is followed.
fn encryption_health(health: &Health, encryption: Option<encryption::Current>) {
    let Some(current) = encryption.filter(|c| c.get().has_health()) else { return };
    health.add("kms-providers", &[Page::Healthz, Page::Readyz], move || {
        let current = current.get();
        Box::pin(async move { current.health().await })
    });
}

fn health(
    store: Arc<dyn Store>,
    lifecycle: &Lifecycle,
    (health_timeout, ready_timeout): (Duration, Duration),
    livez_grace: Duration,
) -> Health {
    let health = Health::lenient(livez_grace);
    let everywhere = [Page::Healthz, Page::Livez, Page::Readyz];
    for name in ["ping", "log"] {
        health.add(name, &everywhere, || Box::pin(async { Ok(()) }));
    }
    let stores = std::iter::once((String::new(), String::new(), store.clone())).chain(
        store
            .others()
            .into_iter()
            .zip(0..)
            .map(|(other, n)| (format!("-override-{n}"), format!("-{n}"), other)),
    );
    for (of, number, store) in stores {
        let ready = if of.is_empty() { String::new() } else { "-override".to_owned() };
        for (name, pages, limit) in [
            (format!("etcd{of}"), &everywhere[..], health_timeout),
            (format!("etcd{ready}-readiness{number}"), &[Page::Readyz][..], ready_timeout),
        ] {
            let store = store.clone();
            health.add(&name, pages, move || {
                let store = store.clone();
                Box::pin(async move {
                    let asked = tokio::time::timeout(limit, store.health()).await;
                    asked.map_err(|_| "timed out".to_owned())?.map_err(|e| e.to_string())
                })
            });
        }
    }
    let stopping = lifecycle.shutting_down.clone();
    health.add("shutdown", &[Page::Readyz], move || {
        let down = stopping.is_cancelled();
        Box::pin(async move { if down { Err("process is shutting down".to_owned()) } else { Ok(()) } })
    });
    health
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_the_name_or_the_public_address() {
        let four = "192.0.2.7:6443".parse().expect("an address");
        let six = "[2001:db8::7]:443".parse().expect("an address");
        for (name, public, want) in [
            ("", four, "192.0.2.7:6443"),
            ("", six, "[2001:db8::7]:443"),
            ("api.example.com", four, "api.example.com:6443"),
            ("api.example.com:8443", four, "api.example.com:8443"),
            ("2001:db8::8", six, "[2001:db8::8]:443"),
            ("[2001:db8::8]:8443", six, "[2001:db8::8]:8443"),
        ] {
            assert_eq!(external(name, public), want);
        }
    }
}
