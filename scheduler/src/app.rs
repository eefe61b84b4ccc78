//! Assembly of kube-scheduler: options to running parts, in the order in which they start.
//! Upstream: cmd/kube-scheduler/app/server.go Run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::Client;
use component::app::{Daemon, Error, Process};
use component::flags::{Command, FlagSet};
use component::{features, logs, metrics};
use controller::{EventRecorder, LeaderConfig, LeaderElector, Outcome, SeriesRecorder};
use informer::Factory;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::metrics::Metrics;
use crate::options::{COMMAND, Options};
use crate::queue::Periods;
use crate::scheduler::{Running, Scheduler};
use crate::{extender, handlers, server};

/// The daemon, configured and not yet running.
pub struct KubeScheduler {
    options: Options,
}

impl Daemon for KubeScheduler {
    const COMMAND: &'static Command = &COMMAND;
    /// Pods are taken one after the other, and writes are short: handing them over would double what a pod costs.
    const ONE_THREAD: bool = true;

    fn configure(flags: &FlagSet) -> Result<Self, Vec<String>> {
        Options::from_flags(flags).map(|options| KubeScheduler { options })
    }

    fn logging(&self) -> logs::Options {
        self.options.logging.clone()
    }

    async fn run(self, process: Process) -> Result<(), Error> {
        let options = self.options;
        features::install(options.gates);
        metrics::default_registry().configure(options.metrics.clone());
        metrics::register_process(metrics::default_registry(), options.gates);
        metrics::rest_client::install();
        if let Some(path) = process.flags.non_empty("write-config-to") {
            let tree = machinery::value::to_value(&config::written(&options.config, &options.gates))
                .map_err(|e| e.to_string())?;
            let mut text = String::new();
            machinery::yaml::write(&tree, &mut text);
            std::fs::write(path, text).map_err(|e| format!("writing the configuration to {path}: {e}"))?;
            return Ok(());
        }
        let client = api_client(&options, &process)?;
        let host = nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let factory = Factory::new(client.named("shared-informers"));
        let scheduler = build(&options, &client, &factory, &host, &process)?;
        let synced = Arc::new(AtomicBool::new(false));
        server::start(&options, &process, &scheduler, &synced).await?;
        process.notifier.ready();
        if !options.config.delay_cache_until_active {
            factory.start(&process.shutdown);
        }
        let election = &options.config.leader_election;
        if election.leader_elect {
            lead(&options, &client, &host, process, factory, scheduler, synced).await
        } else {
            let token = process.shutdown.clone();
            work(&factory, scheduler, &synced, token).await;
            Ok(())
        }
    }
}

fn api_client(options: &Options, process: &Process) -> Result<Client, Error> {
    let connection = &options.config.client_connection;
    let config = client::Config::from_flags(process.flags.string("master"), &connection.kubeconfig)?;
    let settings = client::Options {
        qps: connection.qps,
        burst: u32::try_from(connection.burst).unwrap_or(0),
        user_agent: client::user_agent("kube-scheduler", component::version::reported(), "unknown"),
        ..client::Options::default()
    };
    Ok(Client::new(config, settings)?.named("scheduler"))
}

fn build(
    options: &Options,
    client: &Client,
    factory: &Factory,
    host: &str,
    process: &Process,
) -> Result<Arc<Scheduler>, Error> {
    let config = &options.config;
    let events = client.named("events");
    let recorder = SeriesRecorder::new(&events, "default-scheduler", host, &process.shutdown);
    let running = options.profiles.iter().map(|profile| Running {
        recorder: recorder.for_controller(&profile.scheduler_name, host),
        profile: profile.clone(),
    });
    let seconds = |s: i64| Duration::from_secs(u64::try_from(s).unwrap_or(1));
    let periods = Periods {
        initial_backoff: seconds(config.pod_initial_backoff_seconds),
        max_backoff: seconds(config.pod_max_backoff_seconds),
        max_unschedulable: process.flags.duration("pod-max-in-unschedulable-pods-duration"),
    };
    let listers = handlers::listers(factory);
    let extenders = extender::build(&config.extenders).map_err(|problems| problems.join("; "))?;
    let whole = extenders.iter().any(extender::Extender::wants_nodes);
    let full_nodes =
        if whole { factory.informer(informer::Options::default()).store() } else { Default::default() };
    let scheduler = Scheduler::new(
        client.clone(),
        listers,
        running.collect(),
        periods,
        Metrics::register(
            options.gates.enabled(features::Gate::GenericWorkload),
            options.gates.enabled(features::Gate::TopologyAwareWorkloadScheduling),
        ),
        (extenders, full_nodes),
    );
    handlers::subscribe(factory, &scheduler);
    Ok(scheduler)
}

/// Schedules once everything is known. Informers may run already; starting them again does nothing.
async fn work(factory: &Factory, scheduler: Arc<Scheduler>, synced: &AtomicBool, token: CancellationToken) {
    factory.start(&token);
    if !factory.wait_synced(&token).await || !scheduler.settled(&token).await {
        return;
    }
    synced.store(true, Ordering::Relaxed);
    scheduler.run(token).await;
}

/// Schedules while holding the lease. Losing it ends the process: another one may be at work already.
async fn lead(
    options: &Options,
    client: &Client,
    host: &str,
    process: Process,
    factory: Factory,
    scheduler: Arc<Scheduler>,
    synced: Arc<AtomicBool>,
) -> Result<(), Error> {
    let election = &options.config.leader_election;
    let identity = format!("{host}_{}", uuid::Uuid::new_v4());
    let client = client.named("leader-election");
    let config = LeaderConfig {
        lease_duration: election.lease_duration.to_std(),
        renew_deadline: election.renew_deadline.to_std(),
        retry_period: election.retry_period.to_std(),
        recorder: Some(EventRecorder::new(&client, &identity, "", &process.shutdown)),
        ..LeaderConfig::new(&election.resource_namespace, &election.resource_name, &identity)
    };
    let elector = LeaderElector::new(&client.with_timeout(config.renew_deadline / 2), config)?;
    let told = synced.clone();
    let task = move |token: CancellationToken| async move {
        work(&factory, scheduler, &told, token).await;
    };
    let report = |leader: &str| tracing::info!(leader, "New leader elected");
    match elector.run(&process.shutdown, report, task).await {
        Outcome::Lost => Err("leader election lost".into()),
        Outcome::Cancelled => Ok(()),
    }
}
