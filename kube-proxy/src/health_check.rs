//! Health check ports of load-balanced Services: an outside balancer asks whether this node has endpoints.
//! Upstream: pkg/proxy/healthcheck/service_health.go.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use component::serving::body::{self, Body};
use component::serving::{self, BindOptions, Listener, ServeOptions};
use controller::{SeriesRecorder, events};
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::model::ServiceKey;
use crate::model::table::{Entry, Table};
use crate::status::Status;

/// What one Service wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// 0 = no port.
    pub port: u16,
    /// Addresses of ready endpoints on this node.
    pub endpoints: usize,
}

/// Reads it from the table. Pure.
pub fn wanted(table: &Table, key: &ServiceKey, entry: Option<&Entry>) -> Wanted {
    let Some(entry) = entry else { return Wanted::default() };
    let port = entry.ports.iter().map(|p| p.health_check_node_port).find(|p| *p != 0).unwrap_or(0);
    if port == 0 {
        return Wanted::default();
    }
    let endpoints = entry.endpoints(key, table.node(), table.family());
    let local = endpoints.values().flatten().filter(|e| e.ready && e.local).map(|e| e.address.ip());
    Wanted { port, endpoints: local.collect::<std::collections::BTreeSet<_>>().len() }
}

struct Open {
    port: u16,
    endpoints: Arc<AtomicUsize>,
    token: CancellationToken,
}

/// The open ports of one family.
pub struct HealthChecks {
    pub node: String,
    /// Where they listen.
    pub addresses: Vec<IpAddr>,
    pub status: Arc<Status>,
    pub recorder: Option<SeriesRecorder>,
    pub token: CancellationToken,
    open: BTreeMap<ServiceKey, Open>,
}

impl HealthChecks {
    /// None open yet.
    pub fn new(
        node: &str,
        addresses: Vec<IpAddr>,
        status: Arc<Status>,
        recorder: Option<SeriesRecorder>,
        token: CancellationToken,
    ) -> Self {
        Self { node: node.to_string(), addresses, status, recorder, token, open: BTreeMap::new() }
    }

    /// Brings the ports of some Services up to date, or of all there are. A port that cannot be opened is said, and
    /// tried again when its Service or its endpoints change.
    pub fn update(&mut self, wanted: Vec<(ServiceKey, Wanted)>, all: bool) {
        if all {
            let known: std::collections::BTreeSet<_> = wanted.iter().map(|(key, _)| key.clone()).collect();
            self.open.retain(|key, open| {
                let keep = known.contains(key);
                if !keep {
                    open.token.cancel();
                }
                keep
            });
        }
        for (key, wanted) in &wanted {
            let keep = self.open.get(key).is_some_and(|open| open.port == wanted.port);
            if let Some(closed) = if keep { None } else { self.open.remove(key) } {
                closed.token.cancel();
            }
        }
        for (key, wanted) in wanted.into_iter().filter(|(_, wanted)| wanted.port != 0) {
            match self.open.get(&key) {
                Some(open) => open.endpoints.store(wanted.endpoints, Ordering::Relaxed),
                None => match self.listen(&key, wanted) {
                    Ok(open) => drop(self.open.insert(key, open)),
                    Err(error) => self.complain(&key, wanted.port, &error.to_string()),
                },
            }
        }
    }

    fn listen(&self, key: &ServiceKey, wanted: Wanted) -> std::io::Result<Open> {
        let listeners: Vec<Listener> = self
            .addresses
            .iter()
            .map(|ip| {
                Listener::bind(*ip, wanted.port, BindOptions { own_family: true, ..BindOptions::default() })
            })
            .collect::<std::io::Result<_>>()?;
        let token = self.token.child_token();
        let endpoints = Arc::new(AtomicUsize::new(wanted.endpoints));
        for listener in listeners {
            let (key, count, status) = (key.clone(), endpoints.clone(), self.status.clone());
            let service = move |_: http::Request<hyper::body::Incoming>| {
                let healthy = status.health(Timestamp::now()).healthy;
                std::future::ready(answer(&key, count.load(Ordering::Relaxed), healthy))
            };
            tokio::spawn(serving::serve(listener, ServeOptions::default(), service, token.clone()));
        }
        Ok(Open { port: wanted.port, endpoints, token })
    }

    fn complain(&self, key: &ServiceKey, port: u16, error: &str) {
        let message =
            format!("node {} failed to start healthcheck {key:?} on port {port}: {error}", self.node);
        error!(service = %key, port, error, "Failed to start healthcheck; it is tried again when the Service changes");
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let service = ObjectReference {
            api_version: Some("v1".to_string()),
            kind: Some("Service".to_string()),
            namespace: Some(namespace.to_string()),
            name: Some(name.to_string()),
            ..ObjectReference::default()
        };
        if let Some(recorder) = &self.recorder {
            recorder.event(
                service,
                None,
                events::WARNING,
                "FailedToStartServiceHealthcheck",
                "Listen",
                &message,
            );
        }
    }
}

fn answer(key: &ServiceKey, endpoints: usize, healthy: bool) -> Response<Body> {
    let (namespace, name) = key.split_once('/').unwrap_or_default();
    let quoted = |text: &str| Value::from(text).to_string();
    let text = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {},\n\t\t\"name\": {}\n\t}},\n\t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": {healthy}\n}}",
        quoted(namespace),
        quoted(name)
    );
    let well = endpoints != 0 && healthy;
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = body::text(status, text);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("x-load-balancing-endpoint-weight", HeaderValue::from(endpoints));
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Family;

    #[test]
    fn ready_addresses_on_this_node_count_once() {
        let mut table = Table::new(Family::V4, "here", Timestamp::UNIX_EPOCH);
        let service = json!({"metadata": {}, "spec": {"type": "LoadBalancer", "clusterIP": "172.30.0.10",
            "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
            "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 443}]}});
        table.set_service("ns/web", Some(&serde_json::from_value(service).expect("a Service")));
        let slice = json!({"metadata": {"name": "web-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 443}],
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "here"}, {"addresses": ["10.0.0.2"], "nodeName": "there"},
                {"addresses": ["10.0.0.3"], "nodeName": "here", "conditions": {"ready": false}}]});
        table.set_slice(&Arc::new(serde_json::from_value(slice).expect("a slice")));
        let key: ServiceKey = "ns/web".into();
        assert_eq!(wanted(&table, &key, table.get("ns/web")), Wanted { port: 31000, endpoints: 1 });
        assert_eq!(wanted(&table, &key, None), Wanted::default());
    }
}
