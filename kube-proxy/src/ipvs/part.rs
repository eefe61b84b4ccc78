//! One Service's share of what the kernel is to have.
//!
//! Ports do not depend on each other, so a change renders one Service. Upstream: proxier.go syncProxyRules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::server::{Key, Manner, Server};
use super::set::Set;
use crate::model::endpoint::{Endpoint, EndpointMap};
use crate::model::service::ServicePort;
use crate::model::traffic::{Choice, choose};
use crate::model::{Family, Protocol};
use crate::settings::{Common, NodePortAddresses, Settings};

/// This node's addresses besides those on our device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeAddresses {
    /// All of them: they are not bound to our device as well.
    all: BTreeSet<IpAddr>,
    /// Those that node ports answer on.
    node_ports: Vec<IpAddr>,
}

impl NodeAddresses {
    /// Loopback serves nobody here, and neither do link-local addresses of IPv6. Upstream: netlink_linux.go
    /// isValidForSet.
    pub fn new(common: &Common, local: impl Iterator<Item = IpAddr>) -> Self {
        let valid = |ip: &IpAddr| {
            let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
            Family::of(ip) == common.family && !ip.is_loopback() && !link_local
        };
        let all: BTreeSet<IpAddr> = local.filter(valid).collect();
        Self { node_ports: node_ports(&common.node_ports, &all), all }
    }
}

fn node_ports(ranges: &NodePortAddresses, all: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let all: Vec<IpAddr> = all.iter().copied().collect();
    if ranges.all() { all } else { ranges.among(&all) }
}

/// What all Services share.
pub struct Context<'a> {
    pub settings: &'a Settings,
    pub scheduler: &'a Arc<str>,
    pub node: &'a NodeAddresses,
}

/// The share.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Part {
    pub servers: BTreeMap<Key, Server>,
    pub entries: BTreeSet<(Set, Box<str>)>,
    /// Addresses to be bound to our device.
    pub bound: BTreeSet<IpAddr>,
    /// Rules that keep this node from load balancers that do not admit it.
    pub barred: BTreeSet<Box<str>>,
    /// The internal or external policy finds no endpoint on this node.
    pub no_local: (bool, bool),
}

impl Part {
    /// Of a Service's ports.
    pub fn new(context: &Context<'_>, ports: &[ServicePort], endpoints: &EndpointMap) -> Self {
        let mut part = Self::default();
        for port in ports {
            let endpoints = endpoints.get(&port.id).map_or(&[][..], Vec::as_slice);
            let choice = choose(port, endpoints, &context.settings.place);
            Render { context, port, manner: Manner::new(context.scheduler, port.affinity_seconds) }
                .add(endpoints, &choice, &mut part);
        }
        part
    }

    fn enter(&mut self, set: Set, entry: String) {
        self.entries.insert((set, entry.into()));
    }
}

struct Render<'a> {
    context: &'a Context<'a>,
    port: &'a ServicePort,
    manner: Manner,
}

/// Real servers of a service port, by whose traffic it is.
struct Reals {
    cluster: Arc<[SocketAddr]>,
    local: Arc<[SocketAddr]>,
    /// There are endpoints, but none on this node.
    none_local: bool,
}

impl Reals {
    /// Without an endpoint on this node, local traffic goes where other traffic goes: this node's own pods are served
    /// even then, and others get no answer. Upstream: proxier.go syncEndpoint.
    fn new(endpoints: &[Endpoint], choice: &Choice) -> Self {
        let addresses = |of: &[usize]| {
            let all: BTreeSet<SocketAddr> =
                of.iter().filter_map(|i| endpoints.get(*i)).map(|e| e.address).collect();
            all.into_iter().collect::<Arc<[SocketAddr]>>()
        };
        let cluster = addresses(&choice.cluster);
        let none_local = choice.local.is_empty();
        let local = if none_local { cluster.clone() } else { addresses(&choice.local) };
        Self { cluster, local, none_local: none_local && choice.any }
    }
}

impl Render<'_> {
    fn add(&self, endpoints: &[Endpoint], choice: &Choice, part: &mut Part) {
        let reals = Reals::new(endpoints, choice);
        let protocol = self.port.id.protocol.as_str();
        for endpoint in endpoints.iter().filter(|e| e.local) {
            let (ip, port) = (endpoint.address.ip(), endpoint.address.port());
            part.enter(Set::LoopBack, format!("{ip},{protocol}:{port},{ip}"));
        }
        part.enter(Set::ClusterIp, self.entry(self.port.cluster_ip));
        // Bound even where another device has the address: unlike others it is always a Service's.
        part.bound.insert(self.port.cluster_ip);
        self.serve(self.port.cluster_ip, self.port.port, self.port.internal_local, &reals, part);
        if self.context.settings.external_ips {
            self.external(&reals, part);
        }
        self.balancers(&reals, part);
        self.node_port(&reals, part);
    }

    fn entry(&self, address: IpAddr) -> String {
        format!("{address},{}:{}", self.port.id.protocol.as_str(), self.port.port)
    }

    fn serve(&self, address: IpAddr, port: u16, local: bool, reals: &Reals, part: &mut Part) {
        if local && reals.none_local {
            part.no_local.0 |= self.port.internal_local;
            part.no_local.1 |= self.port.external_local;
        }
        let key = Key { address: SocketAddr::new(address, port), protocol: self.port.id.protocol };
        let reals = if local { &reals.local } else { &reals.cluster };
        part.servers.insert(key, Server { manner: self.manner.clone(), reals: reals.clone() });
    }

    fn serve_outside(&self, address: IpAddr, reals: &Reals, part: &mut Part) {
        if !self.context.node.all.contains(&address) {
            part.bound.insert(address);
        }
        self.serve(address, self.port.port, self.port.external_local, reals, part);
    }

    fn external(&self, reals: &Reals, part: &mut Part) {
        let set = if self.port.external_local { Set::ExternalIpLocal } else { Set::ExternalIp };
        for address in &self.port.external_ips {
            part.enter(set, self.entry(*address));
            self.serve_outside(*address, reals, part);
        }
    }

    fn balancers(&self, reals: &Reals, part: &mut Part) {
        for address in &self.port.balancer_ips {
            part.enter(Set::LoadBalancer, self.entry(*address));
            if self.port.external_local {
                part.enter(Set::LoadBalancerLocal, self.entry(*address));
            }
            if !self.port.source_ranges.is_empty() {
                self.firewall(*address, part);
            }
            self.serve_outside(*address, reals, part);
        }
    }

    fn firewall(&self, address: IpAddr, part: &mut Part) {
        let entry = self.entry(address);
        part.enter(Set::LoadBalancerFw, entry.clone());
        for range in &self.port.source_ranges {
            part.enter(Set::LoadBalancerSourceCidr, format!("{entry},{range}"));
        }
        if self.port.source_ranges.iter().any(|r| r.contains(&self.context.settings.node_ip)) {
            // This node reaches the address without leaving, from the address itself.
            part.enter(Set::LoadBalancerSourceIp, format!("{entry},{address}"));
        } else {
            let (protocol, port) = (self.port.id.protocol.as_str(), self.port.port);
            part.barred.insert(
                format!("-s {address} -m ipvs --vaddr {address} --vproto {protocol} --vport {port} -j DROP")
                    .into(),
            );
        }
    }

    fn node_port(&self, reals: &Reals, part: &mut Part) {
        let (number, node) = (self.port.node_port, &self.context.node.node_ports);
        if number != 0 {
            if node.is_empty() {
                return;
            }
            let protocol = self.port.id.protocol;
            for local in [false, true].into_iter().filter(|local| !local || self.port.external_local) {
                let set = Set::of_node_ports(protocol, local);
                match protocol {
                    Protocol::Tcp | Protocol::Udp => part.enter(set, number.to_string()),
                    Protocol::Sctp => {
                        node.iter().for_each(|ip| part.enter(set, format!("{ip},sctp:{number}")))
                    }
                }
            }
            for address in node {
                self.serve(*address, number, self.port.external_local, reals, part);
            }
        }
        if self.port.health_check_node_port != 0 {
            part.enter(Set::HealthCheckNodePort, self.port.health_check_node_port.to_string());
        }
    }
}
