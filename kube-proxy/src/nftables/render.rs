//! Renders one service port into its own chains and its elements of the shared sets and maps.
//!
//! Ports do not depend on each other, so a change renders one Service. Upstream: proxier.go syncProxyRules.

use std::fmt::Write;
use std::net::IpAddr;

use super::base::{masquerade, word};
use super::names::{self, Container, Kind, REJECT};
use crate::model::Protocol;
use crate::model::endpoint::Endpoint;
use crate::model::service::ServicePort;
use crate::model::traffic::{Choice, choose};
use crate::settings::{Common, Settings};

/// Comments that nft takes are no longer than this.
const LONGEST_COMMENT: usize = 128;

/// One chain of a service port or endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnChain {
    pub name: String,
    pub rules: Vec<String>,
}

/// A set of the clients that stay with one endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AffinitySet {
    pub name: String,
    pub seconds: u32,
}

/// What an element of a set or map is found by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Key {
    pub container: Container,
    address: Option<IpAddr>,
    port: Option<(Protocol, u16)>,
}

impl Key {
    /// As nft spells it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(address) = self.address {
            // Both ends of a connection that a pod has with itself are its own address.
            let both =
                if self.container == Container::Hairpin { format!("{address} . ") } else { String::new() };
            let _ = write!(text, "{both}{address}");
        }
        if let Some((protocol, port)) = self.port {
            let dot = if text.is_empty() { "" } else { " . " };
            let _ = write!(text, "{dot}{} . {port}", protocol.as_str());
        }
        text
    }
}

/// An element of a shared set or map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Element {
    pub key: Key,
    /// Empty in sets.
    pub value: String,
    pub comment: Option<String>,
}

/// The rules of one service port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Block {
    pub chains: Vec<OwnChain>,
    pub elements: Vec<Element>,
    pub affinity: Vec<AffinitySet>,
    /// Traffic policies without a local endpoint: internal, external.
    pub no_local: (bool, bool),
}

/// A service port on its way into a block.
struct Port<'a> {
    common: &'a Common,
    settings: &'a Settings,
    service: &'a ServicePort,
    endpoints: &'a [Endpoint],
    choice: Choice,
    has_internal: bool,
    has_external: bool,
    block: Block,
}

/// Renders a service port with its endpoints.
pub fn render(common: &Common, settings: &Settings, service: &ServicePort, endpoints: &[Endpoint]) -> Block {
    let choice = choose(service, endpoints, &settings.place);
    let has = |local: bool| choice.any && !(local && choice.local.is_empty());
    let (has_internal, has_external) = (has(service.internal_local), has(service.external_local));
    let mut port = Port {
        common,
        settings,
        service,
        endpoints,
        choice,
        has_internal,
        has_external,
        block: Block::default(),
    };
    if port.choice.any {
        port.block.no_local = (!has_internal, !has_external);
    }
    port.hairpins();
    port.cluster_ip();
    port.external_ips();
    port.balancer_ips();
    port.node_port();
    port.external_chain();
    port.firewall_chain();
    port.policy_chains();
    port.block
}

impl Port<'_> {
    fn element(&mut self, container: Container, address: Option<IpAddr>, port: u16, value: String) {
        let key = Key { container, address, port: Some((self.service.id.protocol, port)) };
        let refuses = matches!(container, Container::NoEndpointServices | Container::NoEndpointNodePorts);
        let comment = refuses.then(|| {
            let mut name = self.service.id.to_string();
            name.truncate(LONGEST_COMMENT);
            name
        });
        self.block.elements.push(Element { key, value, comment });
    }

    fn goto(&self, kind: Kind) -> String {
        format!("goto {}", names::of_port(kind, &self.service.id))
    }

    /// For traffic that finds no endpoint. With endpoints elsewhere, dropping leaves the sender the choice of another
    /// node.
    fn refusal(&self) -> String {
        if self.choice.any { "drop".to_string() } else { format!("goto {REJECT}") }
    }

    fn reachable(&self) -> Vec<&Endpoint> {
        self.choice.reachable.iter().filter_map(|i| self.endpoints.get(*i)).collect()
    }

    /// A pod that reaches itself through its Service would otherwise answer itself directly.
    fn hairpins(&mut self) {
        let local: Vec<_> = self.reachable().into_iter().filter(|e| e.local).map(|e| e.address).collect();
        for address in local {
            self.element(Container::Hairpin, Some(address.ip()), address.port(), String::new());
        }
    }

    fn cluster_ip(&mut self) {
        let (ip, port) = (self.service.cluster_ip, self.service.port);
        let key = Key { container: Container::ClusterIps, address: Some(ip), port: None };
        self.block.elements.push(Element { key, value: String::new(), comment: None });
        if self.has_internal {
            let to = self.goto(policy(self.service.internal_local));
            self.element(Container::ServiceIps, Some(ip), port, to);
        } else {
            self.element(Container::NoEndpointServices, Some(ip), port, self.refusal());
        }
    }

    fn external(&mut self, address: IpAddr) {
        let port = self.service.port;
        if self.choice.any {
            self.element(Container::ServiceIps, Some(address), port, self.goto(Kind::External));
        }
        if !self.has_external {
            self.element(Container::NoEndpointServices, Some(address), port, self.refusal());
        }
    }

    fn external_ips(&mut self) {
        if self.settings.external_ips {
            self.service.external_ips.iter().for_each(|address| self.external(*address));
        }
    }

    fn firewalled(&self) -> bool {
        !self.service.balancer_ips.is_empty() && !self.service.source_ranges.is_empty()
    }

    fn balancer_ips(&mut self) {
        for address in &self.service.balancer_ips {
            self.external(*address);
            if self.firewalled() {
                let to = self.goto(Kind::Firewall);
                self.element(Container::FirewallIps, Some(*address), self.service.port, to);
            }
        }
    }

    fn node_port(&mut self) {
        let port = self.service.node_port;
        if port == 0 {
            return;
        }
        if self.choice.any {
            self.element(Container::ServiceNodePorts, None, port, self.goto(Kind::External));
        }
        if !self.has_external {
            self.element(Container::NoEndpointNodePorts, None, port, self.refusal());
        }
    }

    fn own_chain(&mut self, kind: Kind, rules: Vec<String>) {
        self.block.chains.push(OwnChain { name: names::of_port(kind, &self.service.id), rules });
    }

    fn external_chain(&mut self) {
        if !self.choice.any || !self.service.externally_accessible() {
            return;
        }
        let masquerade = masquerade(self.common);
        let mut rules = Vec::new();
        if self.service.external_local {
            let cluster = self.goto(Kind::Cluster);
            // Traffic that starts here is internal in all but its destination: any endpoint will do.
            if let Some(local) = self.settings.detector.nftables(true) {
                rules.push(format!("{local} {cluster} comment \"short-circuit pod traffic\""));
            }
            rules.push(format!("fib saddr type local {masquerade} comment \"masquerade local traffic\""));
            rules.push(format!("fib saddr type local {cluster} comment \"short-circuit local traffic\""));
        } else {
            rules.push(format!("{masquerade} comment \"masquerade\""));
        }
        if self.has_external {
            rules.push(self.goto(policy(self.service.external_local)));
        }
        self.own_chain(Kind::External, rules);
    }

    fn firewall_chain(&mut self) {
        if !self.firewalled() {
            return;
        }
        let ranges = &self.service.source_ranges;
        let mut sources: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        if ranges.iter().any(|r| r.contains(&self.settings.node_ip)) {
            // A node that talks to the balancer's address may do so from that very address.
            sources.extend(self.service.balancer_ips.iter().map(ToString::to_string));
        }
        let rule = format!("{} saddr != {{ {} }} drop", word(self.common.family), sources.join(" , "));
        self.own_chain(Kind::Firewall, vec![rule]);
    }

    fn policy_chains(&mut self) {
        let affinity = self.service.affinity_seconds;
        for (kind, chosen) in
            [(Kind::Cluster, self.choice.cluster.clone()), (Kind::Local, self.choice.local.clone())]
        {
            let endpoints: Vec<&Endpoint> = chosen.iter().filter_map(|i| self.endpoints.get(*i)).collect();
            if !endpoints.is_empty() {
                let rules = if affinity.is_some() { self.jumps(&endpoints) } else { self.dnats(&endpoints) };
                self.own_chain(kind, rules);
            }
        }
        if let Some(seconds) = affinity {
            self.endpoint_chains(seconds);
        }
    }

    /// One rule that chooses an endpoint. A single one needs no map, which costs the kernel more.
    fn dnats(&self, endpoints: &[&Endpoint]) -> Vec<String> {
        let protocol = self.service.id.protocol.as_str();
        if let [only] = endpoints {
            return vec![format!("meta l4proto {protocol} dnat to {}", only.address)];
        }
        let all: Vec<String> = endpoints
            .iter()
            .enumerate()
            .map(|(i, e)| format!("{i} : {} . {}", e.address.ip(), e.address.port()))
            .collect();
        vec![format!(
            "meta l4proto {protocol} dnat {} addr . port to numgen random mod {} map {{ {} }}",
            word(self.common.family),
            all.len(),
            all.join(" , ")
        )]
    }

    /// Known clients to their endpoints, others to a chosen one.
    fn jumps(&self, endpoints: &[&Endpoint]) -> Vec<String> {
        let ip = word(self.common.family);
        let named: Vec<(String, String)> =
            endpoints.iter().map(|e| names::of_endpoint(&self.service.id, &e.address)).collect();
        let mut rules: Vec<String> =
            named.iter().map(|(chain, set)| format!("{ip} saddr @{set} goto {chain}")).collect();
        let all: Vec<String> =
            named.iter().enumerate().map(|(i, (chain, _))| format!("{i} : goto {chain}")).collect();
        rules.push(format!("numgen random mod {} vmap {{ {} }}", all.len(), all.join(" , ")));
        rules
    }

    fn endpoint_chains(&mut self, seconds: u32) {
        let (ip, protocol) = (word(self.common.family), self.service.id.protocol.as_str());
        for address in self.reachable().iter().map(|e| e.address).collect::<Vec<_>>() {
            let (name, set) = names::of_endpoint(&self.service.id, &address);
            let rules = vec![
                format!("update @{set} {{ {ip} saddr }}"),
                format!("meta l4proto {protocol} dnat to {address}"),
            ];
            self.block.chains.push(OwnChain { name, rules });
            self.block.affinity.push(AffinitySet { name: set, seconds });
        }
    }
}

fn policy(local: bool) -> Kind {
    if local { Kind::Local } else { Kind::Cluster }
}
