//! The kubelet's own API: logs, commands in containers, forwarded ports, pods, statistics, metrics, configuration.
//!
//! [`guard`] decides who may ask; [`Server::answer`] finds the handler. Upstream: pkg/kubelet/server/server.go, v1.37.

mod cadvisor;
mod checkpoint;
mod figures;
mod files;
mod guard;
mod journal;
mod logs;
mod machine;
mod pods;
mod port;
mod rates;
mod route;
pub mod stats;
mod storage;
mod streams;
mod usage;
mod websockets;

use std::net::IpAddr;
use std::sync::Arc;

use component::app::{Error, Process};
use component::features::Gate;
use component::health::Check;
use component::metrics;
use component::serving::body::{self, Body};
use component::serving::{BindOptions, Listener, Mux, SecureServer, ServeOptions, serve};
use component::zpages::Pages;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::kubelet::Kubelet;
use crate::metrics::http::Observed;
use crate::options::Options;
use guard::Guard;
use stats::Stats;

/// How long after a failure the port of health checks is tried again.
const HEALTHZ_RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// Answers requests.
pub struct Server {
    kubelet: Arc<Kubelet>,
    stats: Arc<Stats>,
    settings: Settings,
    /// Health, configuration and metrics pages.
    pages: Mux,
}

/// A path's parts after the first one, decoded.
type Parts = Vec<String>;

impl Server {
    fn is_enabled(&self, first: &str) -> bool {
        first != "logs" || self.settings.enable_system_log_handler
    }

    /// Files below `/var/log`, and queries of the node's logs where they are allowed. Upstream: Run in
    /// pkg/kubelet/kubelet.go, `logServer`.
    fn node_logs(&self, request: &Request<Incoming>) -> Response<Body> {
        // Without the last slash this is no path of the file server.
        let Some(path) = request.uri().path().strip_prefix("/logs/") else {
            return body::text(StatusCode::NOT_FOUND, "404 page not found\n");
        };
        let root = std::path::Path::new(files::ROOT);
        let mut path = decode(path);
        if self.settings.enable_system_log_query && component::features::enabled(Gate::NodeLogQuery) {
            let refuse = |status, errors: &[api::validation::field::Error]| {
                body::text(status, api::validation::field::aggregate(errors) + "\n")
            };
            match journal::LogQuery::parse(&streams::Query::of(request)) {
                Err(errors) => return refuse(StatusCode::BAD_REQUEST, &errors),
                Ok(Some(_)) if !path.trim_matches('/').is_empty() => {
                    return body::text(StatusCode::NOT_ACCEPTABLE, "path not allowed in query mode\n");
                }
                Ok(Some(query)) => {
                    let problems = query.problems(root);
                    if !problems.is_empty() {
                        return refuse(StatusCode::NOT_ACCEPTABLE, &problems);
                    }
                    match query.files.first() {
                        None => return journal::stream(query, request.headers()),
                        Some(file) => path.clone_from(file),
                    }
                }
                Ok(None) => {}
            }
        }
        files::serve(root, path.trim_start_matches('/'), request.headers())
    }

    /// As [`Server::answer`], in a span if there are traces.
    async fn told(&self, request: Request<Incoming>, tls: bool) -> Response<Body> {
        let span = route::span(self.kubelet.spans.traces(), &request, tls);
        let response = span.run(self.answer(request)).await;
        route::answered(&span, &response);
        response
    }

    /// Answers one request that has been let through.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let mut parts = path.split('/').filter(|p| !p.is_empty()).map(decode);
        let first = parts.next().unwrap_or_default();
        let parts: Parts = parts.collect();
        let get = request.method() == Method::GET;
        let streaming = get || request.method() == Method::POST;
        match first.as_str() {
            "containerLogs" | "exec" | "attach" | "portForward" | "run" | "logs" | "runningpods"
            | "checkpoint"
                if !self.settings.enable_debugging_handlers || !self.is_enabled(&first) =>
            {
                body::text(StatusCode::METHOD_NOT_ALLOWED, "Debug endpoints are disabled.\n")
            }
            "pods" if get => pods::list(&self.kubelet),
            "runningpods" if get => pods::running(&self.kubelet).await,
            "containerLogs" if get => logs::container_logs(&self.kubelet, &request, &parts).await,
            "exec" if streaming => streams::exec(self, request, &parts).await,
            "attach" if streaming => streams::attach(self, request, &parts).await,
            "portForward" if streaming => streams::port_forward(self, request, &parts).await,
            "run" if request.method() == Method::POST => streams::run(&self.kubelet, &request, &parts).await,
            "checkpoint"
                if request.method() == Method::POST
                    && component::features::enabled(Gate::ContainerCheckpoint) =>
            {
                checkpoint::create(&self.kubelet, &request, &parts).await
            }
            "stats" if parts == ["summary"] => self.stats.summary_page().await,
            "metrics" if parts == ["cadvisor"] => self.stats.cadvisor_page().await,
            "metrics" if parts == ["resource"] => self.stats.resource_page().await,
            "logs" if get => self.node_logs(&request),
            "debug"
                if parts.first().is_some_and(|p| p == "flags")
                    && !self.settings.enable_debug_flags_handler =>
            {
                body::text(StatusCode::METHOD_NOT_ALLOWED, "flags endpoint is disabled.\n")
            }
            _ => self.pages.call(request.map(body::boxed)).await,
        }
    }
}

/// Undoes percent encoding.
fn decode(part: &str) -> String {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// Serves health checks; while the port is taken, as by a predecessor that is still ending, it is tried again.
/// Upstream: cmd/kubelet/app/server.go run.
async fn healthz(address: IpAddr, port: u16, mux: Mux, stop: CancellationToken) {
    let service = component::delegated::open_service(Arc::new(mux));
    loop {
        match Listener::bind(address, port, BindOptions::default()) {
            Ok(listener) => return serve(listener, ServeOptions::default(), service, stop).await,
            Err(error) => {
                tracing::error!(err = &error as &dyn std::error::Error, "Failed to start healthz server")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(HEALTHZ_RETRY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Serves on all configured ports until the process ends.
///
/// # Errors
/// If a port cannot be bound or a certificate cannot be read.
pub fn start(
    kubelet: &Arc<Kubelet>,
    options: &Options,
    process: &Process,
    checks: Vec<Check>,
) -> Result<(), Error> {
    let settings = &options.settings;
    let stats = Arc::new(Stats::new(kubelet.clone(), options));
    if settings.healthz_port > 0 {
        let mut mux = Mux::default();
        component::health::install(&mut mux, "/healthz", checks.clone());
        let address: IpAddr = settings.healthz_bind_address.parse()?;
        process
            .tasks
            .spawn("healthz", healthz(address, settings.healthz_port, mux, process.shutdown.clone()));
    }
    if !settings.enable_server {
        return Ok(());
    }
    let server = Arc::new(Server {
        kubelet: kubelet.clone(),
        stats,
        settings: settings.clone(),
        pages: pages(options, process, checks),
    });
    let guard = Guard::new(kubelet.client.as_ref(), settings, &kubelet.node.name)?;
    let SecureServer { listener, options: serving, .. } =
        port::bind(options, kubelet, guard.ca_subjects(), process)?;
    let (guarded, stop) = (server.clone(), process.shutdown.clone());
    let service = move |request: Request<Incoming>| -> BoxFuture<'static, Response<Body>> {
        let (server, guard) = (guarded.clone(), guard.clone());
        Box::pin(async move {
            let _observed = Observed::begin(request.method(), request.uri().path(), true);
            match guard.admit(request).await {
                Ok(request) => server.told(request, true).await,
                Err(refusal) => *refusal,
            }
        })
    };
    process.tasks.spawn("server", serve(listener, serving, service, stop));
    if settings.read_only_port > 0 {
        read_only(server, settings, process)?;
    }
    Ok(())
}

/// The port without authentication shows, but does nothing.
fn read_only(server: Arc<Server>, settings: &Settings, process: &Process) -> Result<(), Error> {
    tracing::warn!(port = settings.read_only_port, "The read-only port serves pods and statistics to anyone");
    let address: IpAddr = settings.address.parse()?;
    let listener = Listener::bind(address, settings.read_only_port, BindOptions::default())?;
    let service = move |request: Request<Incoming>| -> BoxFuture<'static, Response<Body>> {
        let server = server.clone();
        Box::pin(async move {
            let _observed = Observed::begin(request.method(), request.uri().path(), false);
            let first = request.uri().path().split('/').nth(1).unwrap_or_default();
            if matches!(first, "healthz" | "pods" | "stats" | "metrics") {
                server.told(request, false).await
            } else {
                body::not_found()
            }
        })
    };
    process
        .tasks
        .spawn("read-only", serve(listener, ServeOptions::default(), service, process.shutdown.clone()));
    Ok(())
}

fn pages(options: &Options, process: &Process, checks: Vec<Check>) -> Mux {
    let mut mux = Mux::default();
    component::health::install(&mut mux, "/healthz", checks);
    mux.handle("/metrics/probes", metrics::handler(crate::metrics::probe_registry()));
    let pages = Pages {
        name: "kubelet",
        flags: process.flags.clone(),
        config: Some(("kubeletconfig", options.document.clone())),
    };
    component::zpages::install(&mut mux, &pages);
    mux
}
