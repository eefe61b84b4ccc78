//! Assembly: configuration, client, informers, one proxier per address family, pages. Start reading at [`serve`].

use std::sync::Arc;

use client::{Client, Config};
use component::app::{Daemon, Error, Process};
use component::flags::{Command, FlagSet};
use component::{features, logs, metrics};
use controller::{SeriesRecorder, events};
use informer::{Event, Factory, Options as Watching};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::iptables::cleanup;
use crate::iptables::command::Iptables;
use crate::iptables::render::Settings;
use crate::iptables::ruleset::{Common, Ruleset, Saved};
use crate::metrics::Metrics;
use crate::model::Family;
use crate::model::table::Table;
use crate::model::traffic::Place;
use crate::options::{self, Options, Task};
use crate::proxier::{Inbox, Periods, Proxier};
use crate::server::{self, NodeCell};
use crate::status::Status;
use crate::{node, sysctl};

/// Services of other proxies, and headless ones, are not ours to route.
const OURS: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

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
        match &self.0.task {
            Task::CleanUp => clean_up().await,
            Task::Write(path) => write_config(&self.0, path),
            Task::InitOnly => {
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

/// Removes the rules of every family that has iptables.
async fn clean_up() -> Result<(), Error> {
    for iptables in [Iptables { family: Family::V4 }, Iptables { family: Family::V6 }] {
        if let Err(error) = iptables.present().await {
            info!(family = iptables.family.as_str(), %error, "Nothing to clean up");
            continue;
        }
        let load = cleanup::load(&Saved::parse(&iptables.save().await?));
        if !load.is_empty() {
            iptables.restore(&load).await.map_err(|e| format!("removing rules: {e}"))?;
        }
    }
    Ok(())
}

/// Kernel settings.
fn privileged(options: &Options) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    sysctl::apply(&sysctl::never_lower(sysctl::conntrack(&options.config.conntrack, cores)));
    if localhost_node_ports(options) {
        sysctl::apply(&[("net/ipv4/conf/all/route_localnet", "1".to_string())]);
    }
}

fn localhost_node_ports(options: &Options) -> bool {
    let loopback = std::net::IpAddr::from([127, 0, 0, 1]);
    let covered =
        options.node_port_cidrs.is_empty() || options.node_port_cidrs.iter().any(|c| c.contains(&loopback));
    options.config.iptables.localhost_node_ports == Some(true) && covered
}

async fn serve(options: Options, process: Process) -> Result<(), Error> {
    if matches!(options.config.mode.as_str(), "nftables" | "ipvs") {
        return Err(format!(
            "proxy mode {} is not there yet: use --proxy-mode=iptables, which any node can run",
            options.config.mode
        )
        .into());
    }
    adjust_oom_score(&options);
    let client = api_client(&options)?;
    let families = usable_families().await?;
    let node = node::read(&client, &options.node, &process.shutdown).await;
    if node.is_none() {
        warn!(
            node = options.node,
            "The node is not known to the API server; going on without its address and zone"
        );
    }
    privileged(&options);
    let counters = Metrics::register();
    let status = Arc::new(Status::new(counters.clone(), options.health_timeout()));
    let cell: NodeCell = Arc::new(RwLock::new(node.map(Arc::new)));
    pages(&options, &process, &status, &cell, &counters)?;
    let factory = Factory::new(client.clone());
    let lanes: Vec<Lane> = families.iter().map(|f| Lane::new(&options, *f, &cell, &status)).collect();
    follow(&factory, &lanes);
    follow_node(&factory, &options, &lanes, &cell);
    factory.start(&process.shutdown);
    started_event(&client, &options, &process);
    if !factory.wait_synced(&process.shutdown).await {
        return Ok(());
    }
    for lane in lanes {
        let work = lane.proxier(&options, &status).run(process.shutdown.clone());
        process.tasks.spawn_critical("proxier", async move {
            work.await;
            Ok(())
        });
    }
    process.notifier.ready();
    process.shutdown.cancelled().await;
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

async fn usable_families() -> Result<Vec<Family>, Error> {
    let mut usable = Vec::new();
    let mut problem = None;
    for family in [Family::V4, Family::V6] {
        match (Iptables { family }).present().await {
            Ok(()) => usable.push(family),
            Err(error) => {
                info!(family = family.as_str(), %error, "No iptables support for family");
                problem.get_or_insert(error);
            }
        }
    }
    match problem {
        Some(error) if usable.is_empty() => Err(format!("no address family can be served: {error}").into()),
        _ => Ok(usable),
    }
}

fn pages(
    options: &Options,
    process: &Process,
    status: &Arc<Status>,
    cell: &NodeCell,
    counters: &Metrics,
) -> Result<(), Error> {
    let servers = [
        ("healthz", options.healthz, server::health_pages(status, cell, counters)),
        ("metrics", options.metrics, server::metrics_pages("iptables")),
    ];
    for (name, address, pages) in servers {
        let Some(address) = address else { continue };
        match server::serve(&process.tasks, name, address, pages) {
            Ok(()) => {}
            Err(error) if options.config.bind_address_hard_fail => {
                return Err(format!("starting the {name} server: {error}").into());
            }
            Err(error) => {
                warn!(server = name, %error, "Starting a server failed; rules are kept all the same")
            }
        }
    }
    Ok(())
}

/// One address family on its way to the kernel.
struct Lane {
    family: Family,
    inbox: Arc<Inbox>,
    settings: watch::Sender<Settings>,
}

impl Lane {
    fn new(options: &Options, family: Family, cell: &NodeCell, status: &Arc<Status>) -> Self {
        let settings = settings(options, family, cell.read().as_deref());
        Self {
            family,
            inbox: Inbox::new(Table::new(family, &options.node), status.clone()),
            settings: watch::Sender::new(settings),
        }
    }

    fn proxier(self, options: &Options, status: &Arc<Status>) -> Proxier {
        let iptables = &options.config.iptables;
        let bit = u32::try_from(iptables.masquerade_bit.unwrap_or(14)).unwrap_or(14);
        let addresses = (!options.node_port_cidrs.is_empty()).then(|| local_addresses(options, self.family));
        Proxier {
            common: Common {
                family: self.family,
                masquerade_mark: 1 << bit,
                localhost_node_ports: localhost_node_ports(options),
                node_port_addresses: addresses,
                conntrack_tcp_liberal: options.config.conntrack.tcp_be_liberal,
            },
            inbox: self.inbox,
            iptables: Iptables { family: self.family },
            settings: self.settings.subscribe(),
            keep: self.settings,
            periods: Periods { min: iptables.min_sync_period.to_std(), sync: iptables.sync_period.to_std() },
            status: status.clone(),
            rules: Arc::new(Mutex::new(Ruleset::default())),
        }
    }
}

fn settings(options: &Options, family: Family, node: Option<&Node>) -> Settings {
    Settings {
        place: Place { node: options.node.clone(), zone: node::zone(node) },
        node_ip: node::address(options, node, family),
        masquerade_all: options.config.iptables.masquerade_all,
        detector: node::detector(options, node, family),
        comments: true,
    }
}

/// This machine's addresses within the ranges that node ports answer on.
fn local_addresses(options: &Options, family: Family) -> Vec<std::net::IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|i| {
        let address = i.address?;
        let v4 = address.as_sockaddr_in().map(|a| std::net::IpAddr::from(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| std::net::IpAddr::from(a.ip())))
    });
    addresses
        .filter(|a| Family::of(a) == family && options.node_port_cidrs.iter().any(|c| c.contains(a)))
        .collect()
}

/// Informers feed every family's inbox.
fn follow(factory: &Factory, lanes: &[Lane]) {
    let inboxes: Arc<[Arc<Inbox>]> = lanes.iter().map(|l| l.inbox.clone()).collect();
    let services =
        factory.informer::<Service>(Watching::default().labels(OURS).transform(|s: &mut Service| {
            s.metadata.annotations = None;
            if let Some(status) = &mut s.status {
                status.conditions = None;
            }
        }));
    let to = inboxes.clone();
    services.subscribe(move |event| {
        let object = event.object();
        let meta = &object.metadata;
        let key = format!("{}/{}", text(meta.namespace.as_ref()), text(meta.name.as_ref()));
        let gone = matches!(event, Event::Deleted(_));
        to.iter().for_each(|inbox| inbox.service(&key, (!gone).then_some(object)));
    });
    let slices = factory.informer::<EndpointSlice>(Watching::default().labels(OURS).transform(
        |s: &mut EndpointSlice| {
            for endpoint in s.endpoints.iter_mut().flatten() {
                endpoint.target_ref = None;
            }
        },
    ));
    slices.subscribe(move |event| match event {
        Event::Deleted(slice) => inboxes.iter().for_each(|inbox| inbox.slice_removed(&slice)),
        Event::Added(slice) | Event::Updated { new: slice, .. } => {
            inboxes.iter().for_each(|inbox| inbox.slice(&slice));
        }
    });
}

/// The node's labels and pod range may change while we run.
fn follow_node(factory: &Factory, options: &Options, lanes: &[Lane], cell: &NodeCell) {
    let watching =
        Watching::<Node>::default().fields(&format!("metadata.name={}", options.node)).transform(|n| {
            if let Some(status) = &mut n.status {
                status.images = None;
                status.conditions = None;
            }
        });
    let senders: Vec<(Family, watch::Sender<Settings>)> =
        lanes.iter().map(|l| (l.family, l.settings.clone())).collect();
    let (options, cell) = (options.clone(), cell.clone());
    factory.informer::<Node>(watching).subscribe(move |event| {
        let node = (!matches!(event, Event::Deleted(_))).then(|| event.object().clone());
        if let Some(node) = &node {
            for (family, sender) in &senders {
                let new = settings(&options, *family, Some(node));
                sender.send_if_modified(|old| {
                    let changed = *old != new;
                    old.clone_from(&new);
                    changed
                });
            }
        }
        *cell.write() = node;
    });
}

fn text(value: Option<&String>) -> &str {
    value.map_or("", String::as_str)
}

fn started_event(client: &Client, options: &Options, process: &Process) {
    let recorder = SeriesRecorder::new(client, "kube-proxy", &options.node, &process.shutdown);
    let node = ObjectReference {
        kind: Some("Node".to_string()),
        name: Some(options.node.clone()),
        uid: Some(options.node.clone()),
        ..ObjectReference::default()
    };
    recorder.event(&node, None, events::NORMAL, "Starting", "StartKubeProxy", "");
}
