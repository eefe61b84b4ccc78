//! Endpoints of one service port, gathered from its slices.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};

use super::{Family, PortId, Protocol, ServiceKey, parse_ip};

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

/// Endpoints by port, sorted by address so that rules come out the same each time.
pub type EndpointMap = BTreeMap<PortId, Vec<Endpoint>>;

/// The Service a slice belongs to.
pub fn service_of(slice: &EndpointSlice) -> Option<ServiceKey> {
    let labels = slice.metadata.labels.as_ref()?;
    let name = labels.get("kubernetes.io/service-name").filter(|n| !n.is_empty())?;
    Some(format!("{}/{name}", slice.metadata.namespace.as_deref().unwrap_or_default()).into())
}

/// Gathers a Service's slices. An address in two slices counts once: the more available one, as while a controller
/// moves it between slices. Upstream: pkg/proxy/endpointslicecache.go addEndpoints.
pub fn gather<'a>(
    service: &ServiceKey,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    node: &str,
    family: Family,
) -> EndpointMap {
    let mut found: BTreeMap<PortId, BTreeMap<SocketAddr, Endpoint>> = BTreeMap::new();
    for slice in slices.filter(|s| s.address_type == family.as_str()) {
        for port in slice.ports.iter().flatten() {
            let Some(number) = port.port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0) else {
                continue;
            };
            let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else { continue };
            let id =
                PortId { service: service.clone(), port: port.name.clone().unwrap_or_default(), protocol };
            let of_port = found.entry(id).or_default();
            for endpoint in slice.endpoints.iter().flatten().filter_map(|e| one(e, number, node, family)) {
                match of_port.get(&endpoint.address) {
                    Some(known) if rank(known).cmp(&rank(&endpoint)) != Ordering::Less => {}
                    _ => drop(of_port.insert(endpoint.address, endpoint)),
                }
            }
        }
    }
    found.into_iter().map(|(id, endpoints)| (id, endpoints.into_values().collect())).collect()
}

/// Ready first, then serving while terminating.
fn rank(endpoint: &Endpoint) -> (bool, bool, bool) {
    (endpoint.ready, endpoint.serving, endpoint.local)
}

fn one(endpoint: &ApiEndpoint, port: u16, node: &str, family: Family) -> Option<Endpoint> {
    let address: IpAddr = parse_ip(endpoint.addresses.first()?)?;
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
            .map(|z| z.name.clone())
            .collect(),
        nodes: hints
            .and_then(|h| h.for_nodes.as_ref())
            .into_iter()
            .flatten()
            .map(|n| n.name.clone())
            .collect(),
    })
}
