//! The pages on 10259: health, metrics, `/configz`, `/whyz`, behind delegated authentication and authorization.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client::Client;
use component::app::{Error, Process};
use component::delegated::{AccessReviews, Authentication, AuthenticationOptions, Guard};
use component::health::Check;
use component::serving::Mux;
use component::{health, metrics, zpages};

use crate::options::Options;
use crate::scheduler::Scheduler;
use crate::whyz;

fn reviewer(kubeconfig: &str) -> Result<Option<Client>, Error> {
    if kubeconfig.is_empty() {
        return Ok(None);
    }
    let config = client::Config::from_kubeconfig(kubeconfig)?;
    let options = client::Options {
        qps: 200.0,
        burst: 400,
        user_agent: client::user_agent("kube-scheduler", component::version::reported(), "unknown"),
        ..client::Options::default()
    };
    Ok(Some(Client::new(config, options)?))
}

/// Starts serving, unless `--secure-port=0`.
pub async fn start(
    options: &Options,
    process: &Process,
    scheduler: &Arc<Scheduler>,
    synced: &Arc<AtomicBool>,
) -> Result<(), Error> {
    let Some(server) = options.serving.bind(&[])? else { return Ok(()) };
    let flags = &process.flags;
    let authn = AuthenticationOptions::from_flags(flags);
    let client = reviewer(&authn.kubeconfig)?;
    let authentication = Authentication::from_options(&authn, client.as_ref()).await?;
    let follow = authentication.clone().follow(authn, client, process.shutdown.clone());
    process.tasks.spawn("authentication-settings", follow);
    let reviews = reviewer(flags.string("authorization-kubeconfig"))?.map(|c| {
        let ttl = |flag: &str| flags.duration(&format!("authorization-webhook-cache-{flag}-ttl"));
        AccessReviews::new(&c, ttl("authorized"), ttl("unauthorized"))
    });
    let authorizer = AccessReviews::chain(reviews, flags.list("authorization-always-allow-paths"))?;
    let mux = pages(options, process, scheduler, synced);
    server.spawn(&process.tasks, Guard { authentication, authorizer }.service(Arc::new(mux)));
    Ok(())
}

fn pages(options: &Options, process: &Process, scheduler: &Arc<Scheduler>, synced: &Arc<AtomicBool>) -> Mux {
    let mut mux = Mux::default();
    let alive = vec![Check::ping(), Check::log()];
    health::install(&mut mux, "/healthz", alive.clone());
    health::install(&mut mux, "/livez", alive.clone());
    // Without the lease nothing is to be known, so waiting for it is no failure.
    let (told, elects) = (synced.clone(), options.config.leader_election.leader_elect);
    let informers = Check::new("sched-handler-sync", move || {
        if elects || told.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("waiting for handlers to sync".into())
        }
    });
    let shutdown = Check::shutdown(process.shutdown.clone());
    let ready = alive.into_iter().chain([informers, shutdown]).collect();
    health::install(&mut mux, "/readyz", ready);
    whyz::install(&mut mux, scheduler);
    let config = crate::config::written(&options.config, &options.gates);
    let pages = zpages::Pages {
        name: "kube-scheduler",
        flags: process.flags.clone(),
        config: Some(("componentconfig", config)),
    };
    zpages::install(&mut mux, &pages);
    let (all, measured) = (metrics::handler(metrics::default_registry()), scheduler.clone());
    mux.handle(
        "/metrics",
        Arc::new(move |request| {
            measured.gauge();
            all(request)
        }),
    );
    mux
}
