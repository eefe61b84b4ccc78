//! The proxy's own pages: health on one port, metrics and mode on the other.

use std::sync::Arc;

use component::metrics;
use component::serving::Mux;
use component::serving::body::{self, Body};
use component::serving::mux::immediate;
use component::{health, serving};
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use parking_lot::RwLock;

use crate::metrics::Metrics;
use crate::node;
use crate::status::Status;

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

/// `/proxyMode`, `/metrics` and the health of the process itself.
pub fn metrics_pages(mode: &'static str) -> Mux {
    let mut mux = Mux::default();
    health::install(&mut mux, "/healthz", vec![health::Check::ping()]);
    mux.handle(
        "/proxyMode",
        immediate(move |_| {
            let mut response = body::text(StatusCode::OK, mode);
            response
                .headers_mut()
                .insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }),
    );
    mux.handle("/metrics", metrics::handler(metrics::default_registry()));
    mux.handle("/metrics/slis", metrics::handler(metrics::slis::registry()));
    mux
}

/// Binds a plain port and serves pages on it until the process drains.
pub fn serve(
    tasks: &component::app::Tasks,
    name: &'static str,
    address: std::net::SocketAddr,
    pages: Mux,
) -> std::io::Result<()> {
    let listener = serving::Listener::bind(address.ip(), address.port(), serving::BindOptions::default())?;
    let pages = Arc::new(pages);
    let shutdown = tasks.shutdown().clone();
    tasks.spawn(name, async move {
        let service = move |request: http::Request<hyper::body::Incoming>| {
            let pages = pages.clone();
            async move { pages.call(request.map(body::boxed)).await }
        };
        serving::serve(listener, serving::ServeOptions::default(), service, shutdown).await;
    });
    Ok(())
}
