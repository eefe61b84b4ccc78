//! The pages on 10259: health, metrics, `/configz`, `/whyz`, behind delegated authentication and authorization.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client::Client;
use component::app::{Error, Process};
use component::delegated::{AccessReviews, Authentication, AuthenticationOptions, Guard};
use component::health::Check;
use component::serving::mux::{immediate, query_values};
use component::serving::{Body, Mux, body};
use component::{health, metrics, zpages};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::cycle;
use crate::model::PodInfo;
use crate::options::Options;
use crate::scheduler::Scheduler;

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
    let explained = scheduler.clone();
    mux.handle("/whyz", immediate(move |request| why(&explained, request)));
    let config = serde_json::to_value(&options.config).unwrap_or_default();
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

/// `/whyz?pod=namespace/name`: what every node's verdict on a pod would be now.
fn why(scheduler: &Scheduler, request: &Request<Body>) -> Response<Body> {
    let asked = query_values(request, "pod");
    let Some((namespace, name)) = asked.first().and_then(|p| p.split_once('/')) else {
        return body::error(StatusCode::BAD_REQUEST, "name a pod that waits: /whyz?pod=namespace/name");
    };
    let state = scheduler.state.lock();
    let Some(pod) = state.queue.find(namespace, name).cloned() else {
        return body::error(
            StatusCode::NOT_FOUND,
            &format!("pod {namespace}/{name} does not wait in the queue"),
        );
    };
    match verdicts(scheduler, &state, &pod) {
        Some(value) => body::json(StatusCode::OK, &value),
        None => body::not_found(),
    }
}

fn verdicts(scheduler: &Scheduler, state: &crate::scheduler::State, pod: &PodInfo) -> Option<Value> {
    let running = scheduler.running(pod)?;
    let view = state.view(&scheduler.listers);
    let why = cycle::explain(&running.profile, view, pod);
    let refused = why.refused.iter().map(|(node, r)| {
        json!({ "node": node, "plugin": r.plugin, "reasons": r.reasons.as_slice(), "preemptionCouldHelp": r.code == crate::framework::Code::Unschedulable })
    });
    let fits = why.scores.iter().map(|(node, scores)| {
        let total: i64 = scores.iter().map(|(_, s)| s).sum();
        let by: serde_json::Map<String, Value> =
            scores.iter().map(|(p, s)| ((*p).to_string(), (*s).into())).collect();
        json!({ "node": node, "total": total, "scores": by })
    });
    Some(json!({
        "pod": pod.key(),
        "scheduler": running.profile.scheduler_name,
        "queue": state.queue.describe(&pod.uid),
        "refusedBeforeNodes": why.pre_filter.as_ref().map(|r| json!({ "plugin": r.plugin, "reasons": r.reasons.as_slice() })),
        "refused": refused.collect::<Vec<_>>(),
        "fits": fits.collect::<Vec<_>>(),
    }))
}
