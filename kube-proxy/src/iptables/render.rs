//! Renders one service port.
//!
//! The result is apart by place: lines of the shared top-level chains, and the port's own chains. Ports do not depend
//! on each other, so a change renders one Service. Upstream: proxier.go syncProxyRules.

use std::net::IpAddr;

use super::chain::{self, Kind};
use super::nfacct;
use crate::model::endpoint::Endpoint;
use crate::model::service::ServicePort;
use crate::model::traffic::{Choice, choose};
use crate::settings::Settings;

/// Writes rules with a comment for each endpoint; off in large clusters, where those are a third of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Comments(pub bool);

/// One chain of a service port or endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnChain {
    pub name: String,
    /// Without the leading `-A name`.
    pub rules: Vec<String>,
}

/// The rules of one service port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Block {
    /// Lines `-A CHAIN ...` of the filter table's shared chains.
    pub filter: Vec<String>,
    /// Lines `-A CHAIN ...` of the nat table's shared chains.
    pub nat: Vec<String>,
    /// Chains of the nat table that belong to this port alone.
    pub chains: Vec<OwnChain>,
    /// Traffic policies without a local endpoint: internal, external.
    pub no_local: (bool, bool),
}

/// Where a service port's traffic goes.
struct Targets<'a> {
    service: &'a ServicePort,
    name: String,
    protocol: &'static str,
    choice: Choice,
    has_internal: bool,
    has_external: bool,
    internal: Kind,
    external: Kind,
    firewall: bool,
    comments: Comments,
}

/// Renders a service port with its endpoints.
pub fn render(
    settings: &Settings,
    comments: Comments,
    service: &ServicePort,
    endpoints: &[Endpoint],
) -> Block {
    let targets = Targets::new(service, choose(service, endpoints, &settings.place), comments);
    let mut block = Block::default();
    if targets.choice.any {
        let local = &targets.choice.local;
        block.no_local =
            (service.internal_local && local.is_empty(), service.external_local && local.is_empty());
    }
    targets.cluster_ip(&mut block);
    if settings.external_ips {
        targets.external_ips(&mut block);
    }
    targets.balancer_ips(&mut block);
    targets.node_port(&mut block, settings);
    targets.health_check(&mut block);
    if targets.choice.any && service.externally_accessible() {
        block.chains.push(targets.external_chain(settings));
    }
    if targets.firewall {
        block.chains.push(targets.firewall_chain(settings));
    }
    for (kind, chosen) in [(Kind::Cluster, &targets.choice.cluster), (Kind::Local, &targets.choice.local)] {
        if !chosen.is_empty() {
            block.chains.push(targets.policy_chain(settings, kind, chosen, endpoints));
        }
    }
    for endpoint in targets.choice.reachable.iter().filter_map(|i| endpoints.get(*i)) {
        block.chains.push(targets.endpoint_chain(endpoint));
    }
    block
}

impl<'a> Targets<'a> {
    fn new(service: &'a ServicePort, choice: Choice, comments: Comments) -> Self {
        let kind = |local: bool| if local { Kind::Local } else { Kind::Cluster };
        let has = |local: bool| choice.any && !(local && choice.local.is_empty());
        Self {
            service,
            name: service.id.to_string(),
            protocol: service.id.protocol.as_str(),
            has_internal: has(service.internal_local),
            has_external: has(service.external_local),
            internal: kind(service.internal_local),
            external: kind(service.external_local),
            firewall: choice.any && !service.balancer_ips.is_empty() && !service.source_ranges.is_empty(),
            choice,
            comments,
        }
    }

    fn chain(&self, kind: Kind) -> String {
        chain::of_port(kind, &self.service.id)
    }

    /// Matches a destination address and port.
    fn to(&self, address: &IpAddr) -> String {
        format!("-m {0} -p {0} -d {address} --dport {1}", self.protocol, self.service.port)
    }

    /// Comment and target for traffic that finds no endpoint.
    fn refusal(&self) -> (&'static str, &'static str) {
        // With endpoints elsewhere, dropping leaves the choice of another node to the sender.
        if self.choice.any { ("no local endpoints", "DROP") } else { ("no endpoints", "REJECT") }
    }

    fn refuse(&self, chain: &str, matching: &str) -> String {
        let (why, target) = self.refusal();
        format!("-A {chain} -m comment --comment \"{} has {why}\" {matching} -j {target}", self.name)
    }

    fn cluster_ip(&self, block: &mut Block) {
        let to = self.to(&self.service.cluster_ip);
        if self.has_internal {
            let chain = self.chain(self.internal);
            block.nat.push(format!(
                "-A {} -m comment --comment \"{} cluster IP\" {to} -j {chain}",
                chain::SERVICES,
                self.name
            ));
        } else {
            block.filter.push(self.refuse(chain::SERVICES, &to));
        }
    }

    fn external_ips(&self, block: &mut Block) {
        for address in &self.service.external_ips {
            let to = self.to(address);
            if self.choice.any {
                let chain = self.chain(Kind::External);
                block.nat.push(format!(
                    "-A {} -m comment --comment \"{} external IP\" {to} -j {chain}",
                    chain::SERVICES,
                    self.name
                ));
            }
            if !self.has_external {
                block.filter.push(self.refuse(chain::EXTERNAL_SERVICES, &to));
            }
        }
    }

    fn balancer_ips(&self, block: &mut Block) {
        for address in &self.service.balancer_ips {
            let to = self.to(address);
            if self.choice.any {
                let chain = self.chain(if self.firewall { Kind::Firewall } else { Kind::External });
                block.nat.push(format!(
                    "-A {} -m comment --comment \"{} loadbalancer IP\" {to} -j {chain}",
                    chain::SERVICES,
                    self.name
                ));
            }
            if self.firewall {
                block.filter.push(format!(
                    "-A {} -m comment --comment \"{} traffic not accepted by {}\" {to} -j DROP",
                    chain::PROXY_FIREWALL,
                    self.name,
                    self.chain(Kind::Firewall)
                ));
            }
            if !self.has_external {
                block.filter.push(self.refuse(chain::EXTERNAL_SERVICES, &to));
            }
        }
    }

    fn node_port(&self, block: &mut Block, settings: &Settings) {
        if self.service.node_port == 0 {
            return;
        }
        let port = self.service.node_port;
        let to = format!("-m {0} -p {0} --dport {port}", self.protocol);
        if self.choice.any {
            let chain = self.chain(Kind::External);
            let comment = format!("-A {} -m comment --comment \"{}\"", chain::NODEPORTS, self.name);
            if settings.localhost_accounted {
                // Before the rule for all addresses, also where lines are added one by one: see `Section::differences`.
                block.nat.push(format!(
                    "{comment} -m {0} -p {0} -d 127.0.0.0/8 --dport {port} -m nfacct --nfacct-name {1} -j {chain}",
                    self.protocol,
                    nfacct::LOCALHOST_ACCEPTED
                ));
            }
            block.nat.push(format!("{comment} {to} -j {chain}"));
        }
        if !self.has_external {
            block
                .filter
                .push(self.refuse(chain::EXTERNAL_SERVICES, &format!("-m addrtype --dst-type LOCAL {to}")));
        }
    }

    fn health_check(&self, block: &mut Block) {
        if self.service.health_check_node_port != 0 {
            block.filter.push(format!(
                "-A {} -m comment --comment \"{} health check node port\" -m tcp -p tcp --dport {} -j ACCEPT",
                chain::NODEPORTS,
                self.name,
                self.service.health_check_node_port
            ));
        }
    }

    fn external_chain(&self, settings: &Settings) -> OwnChain {
        let mut rules = Vec::new();
        let masq = chain::MARK_MASQ;
        let name = &self.name;
        if self.service.external_local {
            let cluster = self.chain(Kind::Cluster);
            // Traffic that starts here is internal in all but its destination: any endpoint will do.
            if let Some(local) = settings.detector.iptables(true) {
                rules.push(format!(
                    "-m comment --comment \"pod traffic for {name} external destinations\" {local} -j {cluster}"
                ));
            }
            let own = "-m addrtype --src-type LOCAL";
            rules.push(format!(
                "-m comment --comment \"masquerade LOCAL traffic for {name} external destinations\" {own} -j {masq}"
            ));
            rules.push(format!(
                "-m comment --comment \"route LOCAL traffic for {name} external destinations\" {own} -j {cluster}"
            ));
        } else {
            rules.push(format!(
                "-m comment --comment \"masquerade traffic for {name} external destinations\" -j {masq}"
            ));
        }
        if self.has_external {
            rules.push(format!("-j {}", self.chain(self.external)));
        }
        OwnChain { name: self.chain(Kind::External), rules }
    }

    fn firewall_chain(&self, settings: &Settings) -> OwnChain {
        let external = self.chain(Kind::External);
        let comment = format!("-m comment --comment \"{} loadbalancer IP\"", self.name);
        let ranges = &self.service.source_ranges;
        let mut rules: Vec<String> =
            ranges.iter().map(|r| format!("{comment} -s {r} -j {external}")).collect();
        if ranges.iter().any(|r| r.contains(&settings.node_ip)) {
            // A node that talks to the balancer's address may do so from that very address.
            let own = self.service.balancer_ips.iter();
            rules.extend(own.map(|ip| format!("{comment} -s {ip} -j {external}")));
        }
        rules.push(format!(
            "-m comment --comment \"other traffic to {} will be dropped by {}\"",
            self.name,
            chain::PROXY_FIREWALL
        ));
        OwnChain { name: self.chain(Kind::Firewall), rules }
    }

    fn policy_chain(&self, settings: &Settings, kind: Kind, chosen: &[usize], all: &[Endpoint]) -> OwnChain {
        let mut rules = Vec::new();
        if kind == self.internal {
            rules.extend(self.masquerade_internal(settings));
        }
        let endpoints: Vec<(&Endpoint, String)> = chosen
            .iter()
            .filter_map(|i| all.get(*i))
            .map(|e| (e, chain::of_endpoint(&self.service.id, &e.address)))
            .collect();
        let comment = |e: &Endpoint| self.comment(&format!("{} -> {}", self.name, e.address));
        if let Some(seconds) = self.service.affinity_seconds {
            for (endpoint, chain) in &endpoints {
                rules.push(format!(
                    "{}-m recent --name {chain} --rcheck --seconds {seconds} --reap -j {chain}",
                    comment(endpoint)
                ));
            }
        }
        let count = endpoints.len();
        for (i, (endpoint, chain)) in endpoints.iter().enumerate() {
            let left = count - i;
            let share = if left > 1 {
                format!("-m statistic --mode random --probability {} ", share(left))
            } else {
                String::new()
            };
            rules.push(format!("{}{share}-j {chain}", comment(endpoint)));
        }
        OwnChain { name: self.chain(kind), rules }
    }

    /// Answers to a Service address must come back through this node, unless the sender is one of its pods.
    fn masquerade_internal(&self, settings: &Settings) -> Option<String> {
        let not_local = settings.detector.iptables(false);
        if !self.has_internal || (!settings.masquerade_all && not_local.is_none()) {
            return None;
        }
        let not_local = if settings.masquerade_all { None } else { not_local };
        let not_local = not_local.map(|m| format!(" {m}")).unwrap_or_default();
        let to = self.to(&self.service.cluster_ip);
        Some(format!(
            "-m comment --comment \"{} cluster IP\" {to}{not_local} -j {}",
            self.name,
            chain::MARK_MASQ
        ))
    }

    fn endpoint_chain(&self, endpoint: &Endpoint) -> OwnChain {
        let name = chain::of_endpoint(&self.service.id, &endpoint.address);
        let comment = self.comment(&self.name);
        let recent = if self.service.affinity_seconds.is_some() {
            format!("-m recent --name {name} --set ")
        } else {
            String::new()
        };
        let rules = vec![
            // A pod that reaches itself through its Service would otherwise answer itself directly.
            format!("{comment}-s {} -j {}", endpoint.address.ip(), chain::MARK_MASQ),
            format!(
                "{comment}{recent}-m {0} -p {0} -j DNAT --to-destination {1}",
                self.protocol, endpoint.address
            ),
        ];
        OwnChain { name, rules }
    }

    fn comment(&self, text: &str) -> String {
        if self.comments.0 { format!("-m comment --comment \"{text}\" ") } else { String::new() }
    }
}

/// The chance of the first of `left` endpoints, so that all are equally likely in the end.
fn share(left: usize) -> String {
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    format!("{:.10}", 1.0 / f64::from(left))
}
