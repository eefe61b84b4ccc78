//! Endpoints of one service port, gathered from its slices.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::kept::{Endpoint as ApiEndpoint, EndpointSlice};

use super::{Family, PortId, Protocol, ServiceKey};

/// One address and port that serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// On this node.
    pub local: bool,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// Zones that should use it; empty = no hint.
    pub zones: Vec<String>,
    /// Nodes that should use it; empty = no hint.
    pub nodes: Vec<String>,
}

/// Endpoints by port, sorted by the text of their address as upstream does: rules come out the same each time, and in
/// the order of upstream's.
pub type EndpointMap = BTreeMap<PortId, Vec<Endpoint>>;

/// The label that says so. Upstream: discovery.LabelServiceName.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The Service a slice belongs to.
pub fn service_of(slice: &EndpointSlice) -> Option<ServiceKey> {
    let name = slice.metadata.service.as_deref().filter(|n| !n.is_empty())?;
    Some(format!("{}/{name}", slice.metadata.namespace.as_deref().unwrap_or_default()).into())
}

/// Gathers a Service's slices. An address in two slices counts once: the later one unless it terminates, as a pod's
/// address may be another pod's before the first is gone. Upstream: pkg/proxy/endpointslicecache.go addEndpoints.
pub fn gather<'a>(
    service: &ServiceKey,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    node: &str,
    family: Family,
) -> EndpointMap {
    let mut found: BTreeMap<PortId, BTreeMap<SocketAddr, Endpoint>> = BTreeMap::new();
    for slice in slices.filter(|s| s.address_type == *family.as_str()) {
        for port in slice.ports.iter().flatten() {
            let Some(number) = port.port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0) else {
                continue;
            };
            let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else { continue };
            // Absent is not the same as empty: such a port belongs to no port of a Service.
            let Some(port) = port.name.as_deref().map(str::to_string) else { continue };
            let of_port = found.entry(PortId { service: service.clone(), port, protocol }).or_default();
            for endpoint in slice.endpoints.iter().flatten().filter_map(|e| one(e, number, node, family)) {
                if !endpoint.terminating || !of_port.contains_key(&endpoint.address) {
                    of_port.insert(endpoint.address, endpoint);
                }
            }
        }
    }
    let sorted = |of_port: BTreeMap<SocketAddr, Endpoint>| {
        let mut endpoints: Vec<Endpoint> = of_port.into_values().collect();
        endpoints.sort_by_cached_key(|e| e.address.to_string());
        endpoints
    };
    found
        .into_iter()
        .filter(|(_, of_port)| !of_port.is_empty())
        .map(|(id, of_port)| (id, sorted(of_port)))
        .collect()
}

fn one(endpoint: &ApiEndpoint, port: u16, node: &str, family: Family) -> Option<Endpoint> {
    let address: IpAddr = net::parse_ip(endpoint.address.as_deref()?)?;
    if Family::of(&address) != family {
        return None;
    }
    let conditions = endpoint.conditions.as_ref();
    let hints = endpoint.hints.as_ref();
    Some(Endpoint {
        address: SocketAddr::new(address, port),
        local: endpoint.node_name.as_deref() == Some(node),
        ready: conditions.and_then(|c| c.ready).unwrap_or(true),
        serving: conditions.and_then(|c| c.serving).unwrap_or(true),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        zones: hints
            .and_then(|h| h.for_zones.as_ref())
            .into_iter()
            .flatten()
            .map(|z| z.name.to_string())
            .collect(),
        nodes: hints
            .and_then(|h| h.for_nodes.as_ref())
            .into_iter()
            .flatten()
            .map(|n| n.name.to_string())
            .collect(),
    })
}
