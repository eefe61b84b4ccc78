//! The proxy's own pages: health on one port, metrics and mode on the other.

use std::sync::Arc;

use auth::authenticator::TokenAuthenticator;
use client::Client;
use component::delegated::{AccessReviews, Authentication, Guard, TokenReviews};
use component::metrics;
use component::serving::Mux;
use component::serving::body::{self, Body};
use component::serving::mux::{handler, immediate};
use component::{health, serving, zpages};
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use parking_lot::RwLock;
use tracing::warn;

use crate::metrics::Metrics;
use crate::node;
use crate::rulez::{self, View};
use crate::status::Status;

/// How long answers of the API server about requests for `/rulez` are good for, as its own daemons' are.
const REVIEWS_KEPT: std::time::Duration = std::time::Duration::from_secs(10);

/// The node as last seen.
pub type NodeCell = Arc<RwLock<Option<Arc<Node>>>>;

/// `/healthz` and `/livez` of the health port.
pub fn health_pages(status: &Arc<Status>, node: &NodeCell, metrics: &Metrics) -> Mux {
    let mut mux = Mux::default();
    let (of_health, of_node, counter) = (status.clone(), node.clone(), metrics.healthz.clone());
    mux.handle(
        "/healthz",
        immediate(move |_| {
            let eligible = node::eligible(of_node.read().as_deref());
            let mut health = of_health.health(Timestamp::now());
            health.node_eligible = Some(eligible);
            let well = health.healthy && eligible;
            answer(health, well, &counter)
        }),
    );
    let (of_health, counter) = (status.clone(), metrics.livez.clone());
    mux.handle(
        "/livez",
        immediate(move |_| {
            let health = of_health.health(Timestamp::now());
            let well = health.healthy;
            answer(health, well, &counter)
        }),
    );
    mux
}

fn answer(
    mut health: crate::status::Health,
    well: bool,
    counter: &metrics::Family<metrics::Counter>,
) -> Response<Body> {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    counter.with(&[status.as_str()]).inc();
    if well {
        health.last_updated = health.current_time;
    }
    let mut response = body::json(status, &health);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// `/proxyMode`, the health of the process itself, and what every daemon shows. Upstream: server.go serveMetrics.
pub fn metrics_pages(mode: String, profiling: bool, pages: &zpages::Pages) -> Mux {
    let mut mux = Mux::default();
    health::install(&mut mux, "/healthz", vec![health::Check::ping()]);
    mux.handle(
        "/proxyMode",
        immediate(move |_| {
            let mut response = body::text(StatusCode::OK, mode.clone());
            response
                .headers_mut()
                .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }),
    );
    if profiling {
        zpages::install_debug_flags(&mut mux);
    }
    zpages::install(&mut mux, pages);
    mux
}

/// How long until a port that could not be bound is tried again. Upstream: server.go serveHealthz, serveMetrics.
const RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// What a port serves. Some pages are behind a guard.
pub struct Pages {
    pub name: &'static str,
    pub open: Mux,
    pub guarded: Option<(Guard, Mux)>,
}

/// Binds a plain port and serves pages on it until the process drains. A port that is in use is tried again and again,
/// unless `hard`: an earlier kube-proxy may be about to end.
///
/// # Errors
/// The port cannot be bound, if `hard`.
pub fn serve(
    tasks: &component::app::Tasks,
    address: std::net::SocketAddr,
    pages: Pages,
    hard: bool,
) -> std::io::Result<()> {
    let Pages { name, open, guarded } = pages;
    let bind = move || serving::Listener::bind(address.ip(), address.port(), serving::BindOptions::default());
    let mut bound = match bind() {
        Err(error) if hard => return Err(error),
        Err(error) => {
            warn!(server = name, %error, retry = ?RETRY, "Starting a server failed; rules are kept all the same");
            None
        }
        Ok(listener) => Some(listener),
    };
    let (open, guarded) = (Arc::new(open), guarded.map(|(guard, mux)| (guard, Arc::new(mux))));
    let shutdown = tasks.shutdown().clone();
    tasks.spawn(name, async move {
        let listener = loop {
            if let Some(listener) = bound {
                break listener;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY) => bound = bind().ok(),
            }
        };
        let service = move |request: http::Request<hyper::body::Incoming>| {
            let (open, guarded) = (open.clone(), guarded.clone());
            async move {
                match guarded.filter(|(_, mux)| mux.find(request.uri().path()).is_some()) {
                    Some((guard, mux)) => guard.serve(request, &mux).await,
                    None => open.call(request.map(body::boxed)).await,
                }
            }
        };
        serving::serve(listener, serving::ServeOptions::default(), service, shutdown).await;
    });
    Ok(())
}

/// `/rulez`, for those whom the API server allows to get it: by bearer token, as the port has no TLS.
///
/// # Errors
/// Authorization cannot be set up.
pub fn guarded(client: &Client, views: Vec<View>) -> Result<(Guard, Mux), String> {
    let tokens: Arc<dyn TokenAuthenticator> = Arc::new(TokenReviews::new(client, REVIEWS_KEPT));
    let authentication = Arc::new(Authentication { tokens: Some(tokens), ..Authentication::default() });
    let reviews = AccessReviews::new(client, REVIEWS_KEPT, REVIEWS_KEPT);
    let authorizer = AccessReviews::chain(Some(reviews), &[])?;
    let views: Arc<[View]> = views.into();
    let mut mux = Mux::default();
    mux.handle("/rulez", handler(move |request| rulez::answer(views.clone(), request)));
    Ok((Guard { authentication, authorizer }, mux))
}
