//! Assembly: configuration, client, informers, one proxier per address family, pages. Start reading at [`serve`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use client::{Client, Config};
use component::app::{Daemon, Error, Process};
use component::delegated::Guard;
use component::features::Gate;
use component::flags::{Command, FlagSet};
use component::serving::Mux;
use component::{features, files, logs, metrics, zpages};
use controller::{SeriesRecorder, events};
use informer::{Event, Factory, Options as Watching, Subscription};
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tracing::{debug, error, info, warn};

use crate::backend::Backend;
use crate::cleanup::{self, Leftovers};
use crate::generation::Generation;
use crate::health_check::HealthChecks;
use crate::iptables::command::Iptables;
use crate::iptables::nfacct::{self, Accounts};
use crate::ipvs::netlink::Ipvs;
use crate::kept::{self, EndpointSlice, Service};
use crate::metrics::Metrics;
use crate::model::Family;
use crate::model::table::Table;
use crate::model::traffic::Place;
use crate::options::{self, NodePorts, Options, Task};
use crate::proxier::{Inbox, Periods, Proxier};
use crate::rulez::{Mode, View};
use crate::server::{self, NodeCell};
use crate::settings::{Common, NodePortAddresses, Settings};
use crate::status::Status;
use crate::{flaws, ipvs, nftables, node, program, sysctl};

/// Services of other proxies, and headless ones, are not ours to route.
const OURS: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

/// Upstream's words: server_linux.go createProxier.
const DEFAULT_MODE: &str = "No kube-proxy mode specified: defaulting to 'iptables'. Note that in Kubernetes 1.40 the default mode will switch to 'nftables'. If you wish to continue using 'iptables' mode, you must explicitly specify 'mode: iptables' in the kube-proxy config file, or '--proxy-mode iptables' on the kube-proxy command line.";

/// Upstream's words: server_linux.go createProxier.
const IPVS_DEPRECATED: &str = "The ipvs proxier has been deprecated and will be disabled by default in Kubernetes 1.40 and removed in Kubernetes 1.43. Migrate to the 'nftables' proxier instead.";

/// kube-proxy.
pub struct KubeProxy(Options);

impl Daemon for KubeProxy {
    const COMMAND: &'static Command = &options::COMMAND;

    fn configure(flags: &FlagSet) -> Result<Self, Vec<String>> {
        options::read(flags).map(Self)
    }

    fn logging(&self) -> logs::Options {
        self.0.logging.clone()
    }

    async fn run(self, process: Process) -> Result<(), Error> {
        features::install(self.0.gates);
        metrics::default_registry().configure(self.0.shown_metrics.clone());
        metrics::register_process(metrics::default_registry(), self.0.gates);
        metrics::rest_client::install();
        match &self.0.task {
            Task::CleanUp => cleanup::remove(Leftovers::All).await.map_err(Into::into),
            Task::Write(path) => write_config(&self.0, path),
            Task::InitOnly => {
                prepare_ipvs(&self.0).await?;
                privileged(&self.0);
                Ok(())
            }
            Task::Serve => serve(self.0, process).await,
        }
    }
}

fn write_config(options: &Options, path: &std::path::Path) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(&options.config)?;
    std::fs::write(path, text)
        .map_err(|e| format!("writing the configuration to {}: {e}", path.display()))?;
    info!(file = %path.display(), "Wrote configuration to file");
    Ok(())
}

/// Kernel settings.
fn privileged(options: &Options) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    sysctl::apply(&sysctl::never_lower(sysctl::conntrack(&options.config.conntrack, cores)));
    sysctl::hash_size(&options.config.conntrack, cores);
    let v4 = NodePortAddresses::new(Family::V4, &node_port_ranges(options, None));
    if localhost_node_ports(options, Family::V4, &v4) {
        sysctl::apply(&[("net/ipv4/conf/all/route_localnet", "1".to_string())]);
    }
}

/// Node ports answer on loopback: iptables alone can do that, and only for IPv4.
fn localhost_node_ports(options: &Options, family: Family, addresses: &NodePortAddresses) -> bool {
    options.config.mode == "iptables"
        && family == Family::V4
        && options.config.iptables.localhost_node_ports == Some(true)
        && addresses.loopback()
}

/// In mode ipvs, what it needs from the kernel.
async fn prepare_ipvs(options: &Options) -> Result<Option<Ipvs>, Error> {
    if options.config.mode != "ipvs" {
        return Ok(None);
    }
    let ipvs = ipvs::check::usable(&options.config.ipvs.scheduler).await?;
    ipvs::check::prepare(ipvs, &options.config.ipvs)?;
    Ok(Some(ipvs))
}

/// Keywords become ranges. Upstream: server.go expandNodePortAddressKeywords.
fn node_port_ranges(options: &Options, node: Option<&Node>) -> Vec<IpNet> {
    let mut ranges = Vec::new();
    for addresses in &options.node_port_addresses {
        match addresses {
            NodePorts::Range(range) => ranges.push(*range),
            // A family whose address is loopback has no address of its own.
            NodePorts::Primary => ranges.extend(
                [Family::V4, Family::V6]
                    .map(|family| node::address(options, node, family))
                    .into_iter()
                    .filter(|ip| !ip.is_loopback())
                    .map(IpNet::from),
            ),
            NodePorts::Localhost => {
                ranges.extend(["127.0.0.0/8", "::1/128"].iter().filter_map(|r| r.parse::<IpNet>().ok()));
            }
            NodePorts::All => {
                ranges.extend(["0.0.0.0/0", "::/0"].iter().filter_map(|r| r.parse::<IpNet>().ok()))
            }
        }
    }
    ranges
}

async fn serve(options: Options, process: Process) -> Result<(), Error> {
    refuse_missing(&options)?;
    adjust_oom_score(&options);
    let client = api_client(&options)?;
    let Some(families) = families_in_time(&options, &process).await? else { return Ok(()) };
    // The other mode's rules would answer first; what cannot be removed was said and may be harmless.
    let _ = cleanup::remove(Leftovers::of_other_modes(&options.config.mode)).await;
    let node = node::read(&client, &options.node, &process.shutdown).await;
    if node.is_none() {
        warn!(
            node = options.node,
            "The node is not known to the API server; going on without its address and zone"
        );
    }
    let ipvs = prepare_ipvs(&options).await?;
    privileged(&options);
    let counters = Metrics::register(&options.config.mode);
    let status = Arc::new(Status::new(counters.clone(), options.health_timeout()));
    let cell: NodeCell = Arc::new(RwLock::new(node.map(Arc::new)));
    let factory = Factory::new(client.clone());
    let accounts =
        if options.config.mode == "iptables" { nfacct::ensure().await } else { Accounts::default() };
    crate::metrics::register_accounts(accounts);
    let lanes: Vec<Lane> =
        families.iter().map(|f| Lane::new(&options, *f, &cell, &status, accounts)).collect();
    let views = lanes.iter().map(|l| l.view(&options, &status, cell.read().as_deref())).collect();
    let guarded = server::guarded(&client, views)?;
    pages(&options, &process, server::health_pages(&status, &cell, &counters), guarded)?;
    let mut followed = follow(&factory, &lanes);
    followed.push(follow_node(&factory, &options, &lanes, &cell));
    if options.config.mode == "nftables" {
        followed.push(follow_service_cidrs(&factory, &lanes));
    }
    factory.start(&process.shutdown);
    let recorder = started_event(&client, &options, &process);
    // Not only the informers but the inboxes: a load of what has been handed over so far would take the rules of all
    // other Services away.
    for each in &followed {
        if !each.wait_synced(&process.shutdown).await {
            return Ok(());
        }
    }
    let generation: Arc<Generation> = Arc::default();
    for lane in lanes {
        let backend = lane.backend(&options, ipvs, cell.read().as_deref(), &generation);
        let work = lane.proxier(&options, &status, backend, &recorder, &process);
        let work = work.run(process.shutdown.clone());
        process.tasks.spawn_critical("proxier", async move {
            work.await;
            Ok(())
        });
    }
    process.notifier.ready();
    let updated = Arc::new(Notify::new());
    if let Some(file) = process.flags.non_empty("config") {
        let told = updated.clone();
        let watch = files::watch(vec![file.into()], process.shutdown.clone(), move || told.notify_one());
        process.tasks.spawn("configuration-file", watch);
    }
    tokio::select! {
        () = process.shutdown.cancelled() => Ok(()),
        // Whoever supervises this process starts it again, with the new one. Upstream: options.go eventHandler.
        () = updated.notified() => Err("content of the proxy server's configuration file was updated".into()),
    }
}

/// What is not there yet is refused rather than left out.
fn refuse_missing(options: &Options) -> Result<(), Error> {
    if options.config.mode == "nftables" && options.gates.enabled(Gate::KubeProxyNFTablesLocalhostNodePorts) {
        return Err(
            "the feature gate KubeProxyNFTablesLocalhostNodePorts is not there yet: leave it off".into()
        );
    }
    Ok(())
}

/// The rules must survive memory pressure; without the privilege that takes it is said once.
fn adjust_oom_score(options: &Options) {
    let wanted = options.config.oom_score_adj.unwrap_or_default();
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", wanted.to_string()) {
        warn!(value = wanted, %error, "Adjusting this process's oom score failed, going on without");
    }
}

fn api_client(options: &Options) -> Result<Client, Error> {
    let connection = &options.config.client_connection;
    let config = Config::from_flags(&options.master, &connection.kubeconfig)?;
    Ok(Client::new(
        config,
        client::Options {
            qps: connection.qps,
            burst: u32::try_from(connection.burst).unwrap_or(0),
            user_agent: client::user_agent("kube-proxy", component::version::reported(), "unknown"),
            ..client::Options::default()
        },
    )?)
}

/// The families, as soon as there are any: programs may be installed and permissions given while this process waits. None
/// if it is to end.
///
/// Differs: upstream ends, and whoever supervises it starts it again with growing pauses.
async fn families_in_time(options: &Options, process: &Process) -> Result<Option<Vec<Family>>, Error> {
    let pause = options.config.periods().0.to_std();
    let mut said = String::new();
    loop {
        let problem = match usable_families(options).await {
            Ok(families) if !families.is_empty() => return Ok(Some(families)),
            Ok(_) => "the kernel supports neither IPv4 nor IPv6 here".to_string(),
            Err(problem) if problem.may_pass() => problem.to_string(),
            Err(problem) => return Err(format!("no address family can be served: {problem}").into()),
        };
        if problem != said {
            error!(problem, retry = ?pause, "No rules can be written, waiting until this is mended");
            said = problem;
        }
        tokio::select! {
            () = process.shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Upstream: server_linux.go platformCheckSupported.
async fn usable_families(options: &Options) -> program::Result<Vec<Family>> {
    let mut usable = if options.config.mode == "nftables" {
        let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned());
        let skip = std::env::var_os(nftables::command::SKIP_KERNEL_CHECK).is_some_and(|v| !v.is_empty());
        nftables::command::usable(&release.unwrap_or_default(), skip).await?;
        vec![Family::V4, Family::V6]
    } else {
        iptables_families().await?
    };
    let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    if !std::path::Path::new("/proc/net/if_inet6").exists() || disabled.is_ok_and(|v| v.trim() == "1") {
        info!(family = Family::V6.as_str(), "No kernel support for family");
        usable.retain(|f| *f != Family::V6);
    }
    Ok(usable)
}

async fn iptables_families() -> program::Result<Vec<Family>> {
    let mut usable = Vec::new();
    let mut problem = None;
    for family in [Family::V4, Family::V6] {
        match (Iptables { family }).present().await {
            Ok(()) => usable.push(family),
            Err(error) => {
                debug!(family = family.as_str(), %error, "No iptables support for family");
                problem.get_or_insert(error);
            }
        }
    }
    match problem {
        Some(error) if usable.is_empty() => Err(error),
        _ => Ok(usable),
    }
}

fn pages(options: &Options, process: &Process, health: Mux, guarded: (Guard, Mux)) -> Result<(), Error> {
    let zpages = zpages::Pages {
        name: "kube-proxy",
        flags: process.flags.clone(),
        config: Some(("kubeproxy.config.k8s.io", serde_json::to_value(&options.config)?)),
    };
    let metrics =
        server::metrics_pages(options.config.mode.clone(), options.config.enable_profiling, &zpages);
    let servers = [
        (options.healthz, server::Pages { name: "healthz", open: health, guarded: None }),
        (options.metrics, server::Pages { name: "metrics", open: metrics, guarded: Some(guarded) }),
    ];
    for (address, pages) in servers {
        let (Some(address), name) = (address, pages.name) else { continue };
        server::serve(&process.tasks, address, pages, options.config.bind_address_hard_fail)
            .map_err(|error| format!("starting the {name} server: {error}"))?;
    }
    Ok(())
}

/// One address family on its way to the kernel.
struct Lane {
    family: Family,
    inbox: Arc<Inbox>,
    settings: watch::Sender<Settings>,
    accounts: Accounts,
}

impl Lane {
    fn new(
        options: &Options,
        family: Family,
        cell: &NodeCell,
        status: &Arc<Status>,
        accounts: Accounts,
    ) -> Self {
        let node = cell.read();
        let node_ports = NodePortAddresses::new(family, &node_port_ranges(options, node.as_deref()));
        let localhost = accounts.localhost_accepted && localhost_node_ports(options, family, &node_ports);
        let settings =
            Settings { localhost_accounted: localhost, ..settings(options, family, node.as_deref()) };
        Self {
            family,
            inbox: Inbox::new(Table::new(family, &options.node, Timestamp::now()), status.clone()),
            settings: watch::Sender::new(settings),
            accounts,
        }
    }

    fn common(&self, options: &Options, node: Option<&Node>) -> Common {
        let node_ports = NodePortAddresses::new(self.family, &node_port_ranges(options, node));
        Common {
            family: self.family,
            masquerade_mark: options.config.masquerade_mark(),
            localhost_node_ports: localhost_node_ports(options, self.family, &node_ports),
            node_ports,
            conntrack_tcp_liberal: sysctl::tcp_liberal(),
            invalid_accounted: self.accounts.invalid_dropped,
        }
    }

    fn view(&self, options: &Options, status: &Arc<Status>, node: Option<&Node>) -> View {
        View {
            mode: match options.config.mode.as_str() {
                "nftables" => Mode::Nftables,
                "ipvs" => Mode::Ipvs(ipvs_config(options)),
                _ => Mode::Iptables,
            },
            common: self.common(options, node),
            inbox: self.inbox.clone(),
            settings: self.settings.subscribe(),
            status: status.clone(),
        }
    }

    fn backend(
        &self,
        options: &Options,
        ipvs: Option<Ipvs>,
        node: Option<&Node>,
        generation: &Arc<Generation>,
    ) -> Backend {
        let generation = generation.clone();
        let common = self.common(options, node);
        match ipvs {
            Some(ipvs) => Backend::ipvs(common, ipvs, ipvs_config(options)),
            None if options.config.mode == "nftables" => Backend::nftables(common, generation),
            None => Backend::iptables(common, generation),
        }
    }

    fn proxier(
        self,
        options: &Options,
        status: &Arc<Status>,
        backend: Backend,
        recorder: &SeriesRecorder,
        process: &Process,
    ) -> Proxier {
        let common = &backend.common;
        let wildcard = match self.family {
            Family::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let listen = if common.node_ports.all() {
            vec![wildcard]
        } else {
            common.node_ports.among(&node::local_addresses())
        };
        let (sync, min) = options.config.periods();
        let token = process.shutdown.clone();
        Proxier {
            inbox: self.inbox,
            backend,
            settings: self.settings.subscribe(),
            keep: self.settings,
            periods: Periods { min: min.to_std(), sync: sync.to_std() },
            status: status.clone(),
            health_checks: HealthChecks::new(
                &options.node,
                listen,
                status.clone(),
                Some(recorder.clone()),
                token,
            ),
            flows_due: false,
        }
    }
}

fn ipvs_config(options: &Options) -> ipvs::ruleset::Config {
    ipvs::ruleset::Config::new(&options.config.ipvs.scheduler, options.excluded_cidrs())
}

fn settings(options: &Options, family: Family, node: Option<&Node>) -> Settings {
    Settings {
        place: Place { node: options.node.clone(), zone: node::zone(node) },
        node_ip: node::address(options, node, family),
        masquerade_all: options.config.masquerade_all(),
        detector: node::detector(options, node, family),
        external_ips: options.gates.enabled(Gate::AllowServiceExternalIPs),
        service_cidrs: Vec::new(),
        localhost_accounted: false,
    }
}

/// A change of what all rules depend on.
fn change(sender: &watch::Sender<Settings>, change: impl FnOnce(&Settings) -> Settings) {
    sender.send_if_modified(|old| {
        let new = change(old);
        let changed = *old != new;
        *old = new;
        changed
    });
}

/// Upstream: pkg/proxy/config ServiceCIDRConfig.
fn follow_service_cidrs(factory: &Factory, lanes: &[Lane]) -> Subscription {
    let senders: Vec<(Family, watch::Sender<Settings>)> =
        lanes.iter().map(|l| (l.family, l.settings.clone())).collect();
    let known: Mutex<BTreeMap<String, Vec<String>>> = Mutex::default();
    factory.informer::<ServiceCIDR>(Watching::default()).subscribe(move |event| {
        let object = event.object();
        let name = text(object.metadata.name.as_ref()).to_string();
        let mut known = known.lock();
        if matches!(event, Event::Deleted(_)) {
            known.remove(&name);
        } else {
            known.insert(name, object.spec.iter().flat_map(|s| s.cidrs.iter().flatten().cloned()).collect());
        }
        for (family, sender) in &senders {
            let of_family = |range: &&String| range.contains(':') == (*family == Family::V6);
            let mut ranges: Vec<String> = known.values().flatten().filter(of_family).cloned().collect();
            ranges.sort_unstable();
            ranges.dedup();
            change(sender, |old| Settings { service_cidrs: ranges, ..old.clone() });
        }
    })
}

/// Informers feed every family's inbox.
fn follow(factory: &Factory, lanes: &[Lane]) -> Vec<Subscription> {
    let inboxes: Arc<[Arc<Inbox>]> = lanes.iter().map(|l| l.inbox.clone()).collect();
    let services = factory.informer::<Service>(Watching::default().labels(OURS));
    let to = inboxes.clone();
    let said = flaws::Said::default();
    let of_services = services.subscribe(move |event| {
        let object = event.object();
        let key = object.metadata.key();
        let gone = matches!(event, Event::Deleted(_));
        said.service(&key, (!gone).then_some(object));
        to.iter().for_each(|inbox| inbox.service(&key, (!gone).then_some(object)));
    });
    let slices = factory.informer::<EndpointSlice>(Watching::default().labels(OURS));
    let said = flaws::Said::default();
    let of_slices = slices.subscribe(move |event| match event {
        Event::Deleted(slice) => {
            said.slice(&slice.metadata.key(), None);
            inboxes.iter().for_each(|inbox| inbox.slice_removed(&slice));
        }
        Event::Added(slice) | Event::Updated { new: slice, .. } => {
            said.slice(&slice.metadata.key(), Some(&slice));
            inboxes.iter().for_each(|inbox| inbox.slice(&slice));
        }
    });
    vec![of_services, of_slices]
}

/// The node's labels and pod range may change while we run.
fn follow_node(factory: &Factory, options: &Options, lanes: &[Lane], cell: &NodeCell) -> Subscription {
    let watching =
        Watching::<Node>::default().fields(&format!("metadata.name={}", options.node)).transform(kept::node);
    let senders: Vec<(Family, watch::Sender<Settings>)> =
        lanes.iter().map(|l| (l.family, l.settings.clone())).collect();
    let (options, cell) = (options.clone(), cell.clone());
    factory.informer::<Node>(watching).subscribe(move |event| {
        let node = (!matches!(event, Event::Deleted(_))).then(|| event.object().clone());
        if let Some(node) = &node {
            for (family, sender) in &senders {
                change(sender, |old| Settings {
                    service_cidrs: old.service_cidrs.clone(),
                    localhost_accounted: old.localhost_accounted,
                    ..settings(&options, *family, Some(node))
                });
            }
        }
        *cell.write() = node;
    })
}

fn text(value: Option<&String>) -> &str {
    value.map_or("", String::as_str)
}

fn started_event(client: &Client, options: &Options, process: &Process) -> SeriesRecorder {
    let recorder = SeriesRecorder::new(client, "kube-proxy", &options.node, &process.shutdown);
    let node = ObjectReference {
        kind: Some("Node".to_string()),
        name: Some(options.node.clone()),
        uid: Some(options.node.clone()),
        ..ObjectReference::default()
    };
    if options.mode_by_default {
        error!("{DEFAULT_MODE}");
        recorder.event(
            node.clone(),
            None,
            events::WARNING,
            "KubeProxyDefaultMode",
            "StartKubeProxy",
            DEFAULT_MODE,
        );
    }
    if options.config.mode == "ipvs" {
        error!("{IPVS_DEPRECATED}");
        recorder.event(
            node.clone(),
            None,
            events::WARNING,
            "IPVSDeprecation",
            "StartKubeProxy",
            IPVS_DEPRECATED,
        );
    }
    if options.node_port_addresses.is_empty() {
        error!(
            err = "nodePortAddresses is unset; NodePort connections will be accepted on all local IPs. Consider using `--nodeport-addresses primary`",
            "Kube-proxy configuration may be incomplete or incorrect"
        );
    }
    recorder.event(node, None, events::NORMAL, "Starting", "StartKubeProxy", "");
    recorder
}
