//! Assembly of kube-controller-manager: options to running controllers, in the order in which they start.
//! Upstream: cmd/kube-controller-manager/app/controllermanager.go Run.

use std::sync::Arc;
use std::time::Duration;

use client::Client;
use component::app::{Daemon, Error, Process};
use component::flags::{Command, FlagSet};
use component::{features, logs, metrics};
use controller::{EventRecorder, LeaderConfig, LeaderElector, Outcome};
use informer::Factory;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::credentials::Clients;
use crate::lagz::Lags;
use crate::options::{COMMAND, Options};
use crate::serving::{self, Health};

/// The daemon, configured and not yet running.
pub struct KubeControllerManager {
    options: Options,
}

impl Daemon for KubeControllerManager {
    const COMMAND: &'static Command = &COMMAND;
    /// Rounds are short and wait for answers: threads that hand them to each other cost more than they share.
    const ONE_THREAD: bool = true;
    /// Nobody waits for a controller's next step as long as this.
    const GATHER: Duration = Duration::from_millis(8);

    fn configure(flags: &FlagSet) -> Result<Self, Vec<String>> {
        Options::from_flags(flags).map(|options| KubeControllerManager { options })
    }

    fn logging(&self) -> logs::Options {
        self.options.logging.clone()
    }

    async fn run(self, process: Process) -> Result<(), Error> {
        features::install(self.options.gates);
        metrics::default_registry().configure(self.options.metrics.clone());
        metrics::register_process(metrics::default_registry(), self.options.gates);
        metrics::rest_client::install();
        controller::metrics::install();
        let clients = clients(&self.options, &process.flags)?;
        let (health, lags) = (Health::new(&self.options.controllers), Lags::default());
        let elector =
            if process.flags.bool("leader-elect") { Some(elector(&clients, &process)?) } else { None };
        serving::start(&self.options.serving, &process, &health, elector.clone(), &lags).await?;
        process.notifier.ready();
        let token = process.shutdown.clone();
        match elector {
            Some(elector) => lead(&elector, self.options, clients, process, health, lags).await,
            None => controllers(&self.options, &clients, &process, &health, &lags, &token).await,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the flag is a 32-bit float")]
fn clients(options: &Options, flags: &FlagSet) -> Result<Clients, Error> {
    let settings = client::Options {
        qps: flags.float("kube-api-qps") as f32,
        burst: u32::try_from(flags.int("kube-api-burst")).unwrap_or(0),
        user_agent: client::user_agent("kube-controller-manager", component::version::reported(), "unknown"),
        ..client::Options::default()
    };
    let base = Client::new(options.api.clone(), settings.clone())?;
    Ok(Clients::new(base, options.api.clone(), settings, flags.bool("use-service-account-credentials")))
}

fn elector(clients: &Clients, process: &Process) -> Result<Arc<LeaderElector>, Error> {
    let flags = &process.flags;
    let host = nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let identity = format!("{host}_{}", uuid::Uuid::new_v4());
    let client = clients.base().named("leader-election");
    let config = LeaderConfig {
        lease_duration: flags.duration("leader-elect-lease-duration"),
        renew_deadline: flags.duration("leader-elect-renew-deadline"),
        retry_period: flags.duration("leader-elect-retry-period"),
        recorder: Some(EventRecorder::new(&client, &identity, "", &process.shutdown)),
        ..LeaderConfig::new(
            flags.string("leader-elect-resource-namespace"),
            flags.string("leader-elect-resource-name"),
            &identity,
        )
    };
    Ok(Arc::new(LeaderElector::new(&client.with_timeout(config.renew_deadline / 2), config)?))
}

/// Runs the controllers while holding the lease. Losing it ends the process: another one may be at work already.
async fn lead(
    elector: &LeaderElector,
    options: Options,
    clients: Clients,
    process: Process,
    health: Health,
    lags: Lags,
) -> Result<(), Error> {
    let failure: Arc<Mutex<Option<Error>>> = Arc::default();
    let (told, shutdown) = (failure.clone(), process.shutdown.clone());
    let work = move |token: CancellationToken| async move {
        if let Err(error) = controllers(&options, &clients, &process, &health, &lags, &token).await {
            *told.lock() = Some(error);
            process.shutdown.cancel();
        }
    };
    let outcome = elector.run(&shutdown, |leader| tracing::info!(leader, "New leader elected"), work).await;
    if let Some(error) = failure.lock().take() {
        return Err(error);
    }
    match outcome {
        Outcome::Lost => Err("leader election lost".into()),
        _ => Ok(()),
    }
}

/// Builds all controllers, starts their informers, works until the token ends.
async fn controllers(
    options: &Options,
    clients: &Clients,
    process: &Process,
    health: &Health,
    lags: &Lags,
    token: &CancellationToken,
) -> Result<(), Error> {
    let host = nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let context = Context {
        factory: Factory::new(clients.base().named("shared-informers")),
        clients: clients.clone(),
        flags: process.flags.clone(),
        token: token.clone(),
        events: EventRecorder::new(clients.base(), "kube-controller-manager", &host, token),
        account: "",
    };
    for descriptor in &options.controllers {
        let build = |factory| {
            (descriptor.build)(&Context { account: descriptor.account, factory, ..context.clone() })
        };
        let work = lags
            .note(descriptor.name, &context.factory, build)
            .map_err(|e| format!("starting {}: {e}", descriptor.name))?;
        tracing::info!(controller = descriptor.name, "Started controller");
        process.tasks.spawn(descriptor.name, health.watch(descriptor.name, work));
    }
    context.factory.start(token);
    token.cancelled().await;
    Ok(())
}
