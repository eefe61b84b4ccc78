//! One port of one Service, reduced to what routing needs for one address family.

use std::net::IpAddr;

use crate::kept::{LoadBalancerIngress, Service, ServicePort as ApiPort, ServiceSpec};
use ipnet::IpNet;

use super::{Family, PortId, Protocol, ServiceKey, is_name};

/// A service port as rules see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    pub id: PortId,
    pub cluster_ip: IpAddr,
    pub port: u16,
    /// 0 = none.
    pub node_port: u16,
    /// Seconds a client stays with its endpoint; none = no affinity.
    pub affinity_seconds: Option<u32>,
    pub external_local: bool,
    pub internal_local: bool,
    pub external_ips: Vec<IpAddr>,
    /// Load-balancer addresses that reach the node unchanged.
    pub balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer; empty = everybody.
    pub source_ranges: Vec<IpNet>,
    /// 0 = none.
    pub health_check_node_port: u16,
}

impl ServicePort {
    /// Reachable from outside the cluster by some address.
    pub fn externally_accessible(&self) -> bool {
        self.node_port != 0 || !self.balancer_ips.is_empty() || !self.external_ips.is_empty()
    }

    /// Some traffic may go to endpoints on any node. External traffic under the Local policy too, as it is
    /// short-circuited when it starts on this node.
    pub fn uses_cluster_endpoints(&self) -> bool {
        !self.internal_local || self.externally_accessible()
    }

    /// Some traffic may only go to endpoints on this node.
    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_local || (self.external_local && self.externally_accessible())
    }
}

/// The ports of a Service in one family; none for headless, ExternalName and foreign-proxied ones.
/// Upstream: pkg/proxy/util/utils.go ShouldSkipService, pkg/proxy/serviceport.go newBaseServiceInfo.
pub fn ports(key: &ServiceKey, service: &Service, family: Family) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(cluster_ip) = cluster_ip(spec, family) else { return Vec::new() };
    if !key.split('/').all(is_name) {
        return Vec::new();
    }
    spec.ports.iter().flatten().filter_map(|port| one(key, service, spec, cluster_ip, port, family)).collect()
}

/// Upstream: pkg/proxy/util/utils.go GetClusterIPByFamily.
fn cluster_ip(spec: &ServiceSpec, family: Family) -> Option<IpAddr> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let first = spec.cluster_ip.as_deref().unwrap_or_default();
    if first.is_empty() || first == "None" {
        return None;
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    if families.is_empty() {
        return net::parse_ip(first).filter(|ip| Family::of(ip) == family);
    }
    let at = families.iter().position(|f| **f == *family.as_str())?;
    net::parse_ip(spec.cluster_ips.as_ref()?.get(at)?).filter(|ip| Family::of(ip) == family)
}

fn one(
    key: &ServiceKey,
    service: &Service,
    spec: &ServiceSpec,
    cluster_ip: IpAddr,
    port: &ApiPort,
    family: Family,
) -> Option<ServicePort> {
    let name = port.name.as_deref().unwrap_or_default().to_string();
    if !name.is_empty() && !is_name(&name) {
        return None;
    }
    let id =
        PortId { service: key.clone(), port: name, protocol: Protocol::parse(port.protocol.as_deref())? };
    Some(ServicePort {
        id,
        cluster_ip,
        port: u16::try_from(port.port).ok().filter(|port| *port != 0)?,
        node_port: port.node_port.and_then(|p| u16::try_from(p).ok()).unwrap_or(0),
        affinity_seconds: affinity_seconds(spec),
        external_local: external_local(spec),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_ips: of_family(spec.external_ips.iter().flatten().map(AsRef::as_ref), family),
        balancer_ips: balancer_ips(service, family),
        source_ranges: source_ranges(spec, family),
        health_check_node_port: health_check_node_port(spec),
    })
}

fn affinity_seconds(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    // Three hours: the API server's default, for objects written before it.
    Some(config.and_then(|c| c.timeout_seconds).and_then(|s| u32::try_from(s).ok()).unwrap_or(10_800))
}

/// The Local policy counts only where there can be outside traffic.
fn external_local(spec: &ServiceSpec) -> bool {
    let outside = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
        || spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    outside && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn health_check_node_port(spec: &ServiceSpec) -> u16 {
    let needed = spec.type_.as_deref() == Some("LoadBalancer") && external_local(spec);
    if needed { spec.health_check_node_port.and_then(|p| u16::try_from(p).ok()).unwrap_or(0) } else { 0 }
}

fn balancer_ips(service: &Service, family: Family) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let ingress = status.and_then(|b| b.ingress.as_ref()).into_iter().flatten();
    of_family(ingress.filter(|i| reaches_node(i)).filter_map(|i| i.ip.as_deref()), family)
}

/// A proxying balancer delivers to node ports instead.
fn reaches_node(ingress: &LoadBalancerIngress) -> bool {
    matches!(ingress.ip_mode.as_deref(), None | Some("" | "VIP"))
}

fn of_family<'a>(texts: impl Iterator<Item = &'a str>, family: Family) -> Vec<IpAddr> {
    texts.filter_map(net::parse_ip).filter(|ip| Family::of(ip) == family).collect()
}

/// A range of all addresses means the same as no range.
fn source_ranges(spec: &ServiceSpec, family: Family) -> Vec<IpNet> {
    let texts = spec.load_balancer_source_ranges.iter().flatten();
    let ranges: Vec<IpNet> = texts
        .filter_map(|t| net::parse_network(t.trim()))
        .filter(|range| Family::of(&range.addr()) == family)
        .collect();
    if ranges.iter().any(|r| r.prefix_len() == 0) { Vec::new() } else { ranges }
}
