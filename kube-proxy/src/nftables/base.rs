//! The part of the table that does not depend on Services: base chains, jumps, sets, maps and their checks.
//! Upstream: proxier.go setupNFTables.

use std::net::IpAddr;

use super::names::{
    CLUSTER_IPS_CHECK, Container, FIREWALL_CHECK, MASQUERADING, NODE_PORT_CHECK, NODE_PORT_IPS, REJECT,
    SERVICE_CHECK, SERVICES, TABLE,
};
use crate::model::Family;
use crate::settings::{Common, Settings};

/// A chain that the kernel calls: name, type, hook, priority.
struct Base(&'static str, &'static str, &'static str, i32);

/// Destination addresses are as the client sent them before priority -100.
const BASES: &[Base] = &[
    Base("filter-prerouting-pre-dnat", "filter", "prerouting", -110),
    Base("filter-output-pre-dnat", "filter", "output", -110),
    Base("filter-input", "filter", "input", 0),
    Base("filter-forward", "filter", "forward", 0),
    Base("filter-output", "filter", "output", 0),
    Base("nat-prerouting", "nat", "prerouting", -100),
    Base("nat-output", "nat", "output", -100),
    Base("nat-postrouting", "nat", "postrouting", 100),
];

/// From, to, and only for the first packet of a connection.
const JUMPS: &[(&str, &str, bool)] = &[
    ("filter-input", NODE_PORT_CHECK, true),
    ("filter-input", SERVICE_CHECK, true),
    ("filter-forward", SERVICE_CHECK, true),
    ("filter-output", SERVICE_CHECK, true),
    ("filter-prerouting-pre-dnat", FIREWALL_CHECK, true),
    ("filter-output-pre-dnat", FIREWALL_CHECK, true),
    ("nat-output", SERVICES, false),
    ("nat-prerouting", SERVICES, false),
    ("nat-postrouting", MASQUERADING, false),
    ("filter-forward", CLUSTER_IPS_CHECK, true),
    ("filter-output", CLUSTER_IPS_CHECK, true),
];

/// A transaction being written.
pub struct Transaction {
    pub text: String,
    family: Family,
}

/// `ip` or `ip6`: the table's family, and how rules name addresses of it.
pub fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn address_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}

impl Transaction {
    /// Nothing yet.
    pub fn new(family: Family) -> Self {
        Self { text: String::new(), family }
    }

    /// `verb kind family table rest`.
    pub fn line(&mut self, verb: &str, kind: &str, rest: &str) {
        for word in [verb, " ", kind, " ", word(self.family), " ", TABLE] {
            self.text.push_str(word);
        }
        if !rest.is_empty() {
            self.text.push(' ');
            self.text.push_str(rest);
        }
        self.text.push('\n');
    }

    /// Adds a chain that holds nothing from before.
    pub fn empty_chain(&mut self, name: &str) {
        self.line("add", "chain", name);
        self.line("flush", "chain", name);
    }

    /// Adds a rule.
    pub fn rule(&mut self, chain: &str, rule: &str) {
        self.line("add", "rule", &format!("{chain} {rule}"));
    }

    /// Adds a set of clients that stay with an endpoint.
    pub fn affinity_set(&mut self, name: &str, seconds: u32) {
        let kind = address_type(self.family);
        self.line(
            "add",
            "set",
            &format!("{name} {{ type {kind} ; flags dynamic,timeout ; timeout {seconds}s ; }}"),
        );
    }
}

/// Writes the base, as first of a full transaction. `local` are this machine's addresses. Base chains are made anew, as
/// their hooks and priorities may be another version's, and cannot be changed in place.
pub fn write(tx: &mut Transaction, common: &Common, settings: &Settings, local: &[IpAddr]) {
    tx.line("add", "table", "{ comment \"rules for kube-proxy\" ; }");
    for Base(name, ..) in BASES {
        tx.line("add", "chain", name);
        tx.line("flush", "chain", name);
        tx.line("delete", "chain", name);
    }
    for Base(name, kind, hook, priority) in BASES {
        tx.line("add", "chain", &format!("{name} {{ type {kind} hook {hook} priority {priority} ; }}"));
        tx.line("flush", "chain", name);
    }
    for chain in [NODE_PORT_CHECK, SERVICE_CHECK, FIREWALL_CHECK, SERVICES, MASQUERADING, CLUSTER_IPS_CHECK] {
        tx.empty_chain(chain);
    }
    for (from, to, new) in JUMPS {
        let new = if *new { "ct state new " } else { "" };
        tx.rule(from, &format!("{new}jump {to}"));
    }
    containers(tx);
    masquerading(tx, common);
    cluster_ips(tx, settings);
    node_port_ips(tx, common, local);
    no_endpoints(tx, common);
    no_localhost_rejects(tx);
    let ip = word(tx.family);
    tx.rule(FIREWALL_CHECK, &format!("{ip} daddr . meta l4proto . th dport vmap @firewall-ips"));
    services(tx, common, settings);
}

fn containers(tx: &mut Transaction) {
    let address = address_type(tx.family);
    for container in Container::ALL {
        let (kind, comment) = match container {
            Container::ClusterIps => (address.to_string(), "Active ClusterIPs"),
            Container::Hairpin => {
                (format!("{address} . {address} . inet_proto . inet_service"), "service hairpin connections")
            }
            Container::ServiceIps => (
                format!("{address} . inet_proto . inet_service : verdict"),
                "ClusterIP, ExternalIP and LoadBalancer IP traffic",
            ),
            Container::FirewallIps => (
                format!("{address} . inet_proto . inet_service : verdict"),
                "destinations that are subject to LoadBalancerSourceRanges",
            ),
            Container::NoEndpointServices => (
                format!("{address} . inet_proto . inet_service : verdict"),
                "vmap to drop or reject packets to services with no endpoints",
            ),
            Container::NoEndpointNodePorts => (
                "inet_proto . inet_service : verdict".to_string(),
                "vmap to drop or reject packets to service nodeports with no endpoints",
            ),
            Container::ServiceNodePorts => {
                ("inet_proto . inet_service : verdict".to_string(), "NodePort traffic")
            }
        };
        let name = container.name();
        tx.line("add", container.kind(), &format!("{name} {{ type {kind} ; comment \"{comment}\" ; }}"));
        tx.line("flush", container.kind(), name);
    }
}

fn masquerading(tx: &mut Transaction, common: &Common) {
    let (ip, mark) = (word(tx.family), common.mark());
    // Cleared, so that a packet that passes here again is not masqueraded again.
    tx.rule(MASQUERADING, &format!("mark and {mark} != 0 mark set mark xor {mark} masquerade fully-random"));
    let hairpin = "meta l4proto . th dport @hairpin-connections masquerade fully-random";
    tx.rule(MASQUERADING, &format!("ct status dnat {ip} saddr . {ip} daddr . {hairpin}"));
}

fn cluster_ips(tx: &mut Transaction, settings: &Settings) {
    let ip = word(tx.family);
    let comment = "comment \"Reject traffic to invalid ports of ClusterIPs\"";
    tx.rule(CLUSTER_IPS_CHECK, &format!("{ip} daddr @cluster-ips reject {comment}"));
    if !settings.service_cidrs.is_empty() {
        let ranges = settings.service_cidrs.join(",");
        let comment = "comment \"Drop traffic to unallocated ClusterIPs\"";
        tx.rule(CLUSTER_IPS_CHECK, &format!("{ip} daddr {{ {ranges} }} drop {comment}"));
    }
}

fn node_port_ips(tx: &mut Transaction, common: &Common, local: &[IpAddr]) {
    let kind = address_type(tx.family);
    let comment = "IPs that accept NodePort traffic";
    tx.line("add", "set", &format!("{NODE_PORT_IPS} {{ type {kind} ; comment \"{comment}\" ; }}"));
    if common.node_ports.all() {
        // Added before, as deleting what is not there fails.
        tx.line("delete", "set", NODE_PORT_IPS);
        return;
    }
    tx.line("flush", "set", NODE_PORT_IPS);
    for address in common.node_ports.among(local).iter().filter(|a| !a.is_loopback()) {
        tx.line("add", "element", &format!("{NODE_PORT_IPS} {{ {address} }}"));
    }
}

/// What node port traffic is addressed to. Loopback never takes it: nftables mode does not set route_localnet.
fn node_port_destination(common: &Common) -> &'static str {
    match (common.node_ports.all(), common.family) {
        (true, Family::V4) => "ip daddr != 127.0.0.0/8",
        (true, Family::V6) => "ip6 daddr != ::1",
        (false, Family::V4) => "ip daddr @nodeport-ips",
        (false, Family::V6) => "ip6 daddr @nodeport-ips",
    }
}

fn no_endpoints(tx: &mut Transaction, common: &Common) {
    let ip = word(tx.family);
    let comment = "helper for @no-endpoint-services / @no-endpoint-nodeports";
    tx.line("add", "chain", &format!("{REJECT} {{ comment \"{comment}\" ; }}"));
    tx.line("flush", "chain", REJECT);
    tx.rule(REJECT, "reject");
    tx.rule(SERVICE_CHECK, &format!("{ip} daddr . meta l4proto . th dport vmap @no-endpoint-services"));
    let to = node_port_destination(common);
    tx.rule(NODE_PORT_CHECK, &format!("{to} meta l4proto . th dport vmap @no-endpoint-nodeports"));
}

/// Removes what upstream leaves with its gate KubeProxyNFTablesLocalhostNodePorts, in the order of dependency.
fn no_localhost_rejects(tx: &mut Transaction) {
    let map = "localhost-nodeport-reject-ports";
    let comment = "localhost NodePorts rejected by kube-proxy";
    tx.line(
        "add",
        "map",
        &format!("{map} {{ type inet_proto . inet_service : verdict ; comment \"{comment}\" ; }}"),
    );
    tx.line("delete", "map", map);
    for protocol in ["tcp", "udp", "sctp"] {
        for (kind, name) in
            [("chain", "localhost-nodeport-reject-"), ("counter", "localhost-nodeport-rejected-")]
        {
            tx.line("add", kind, &format!("{name}{protocol}"));
            tx.line("delete", kind, &format!("{name}{protocol}"));
        }
    }
}

/// Sets the mark that asks for SNAT.
pub fn masquerade(common: &Common) -> String {
    format!("mark set mark or {}", common.mark())
}

fn services(tx: &mut Transaction, common: &Common, settings: &Settings) {
    let (ip, masquerade) = (word(tx.family), masquerade(common));
    let clusters = format!("{ip} daddr @cluster-ips");
    if settings.masquerade_all {
        let comment = "comment \"masquerade all clusterIP traffic\"";
        tx.rule(SERVICES, &format!("{clusters} {masquerade} {comment}"));
    } else if let Some(outside) = settings.detector.nftables(false) {
        // Such traffic may leave for an endpoint on another node; the answer must come back through this one.
        let comment = "comment \"masquerade clusterIP traffic from outside cluster\"";
        tx.rule(SERVICES, &format!("{clusters} {outside} {masquerade} {comment}"));
    }
    tx.rule(SERVICES, &format!("{ip} daddr . meta l4proto . th dport vmap @service-ips"));
    let local = if common.node_ports.all() { "fib daddr type local " } else { "" };
    let to = node_port_destination(common);
    tx.rule(SERVICES, &format!("{local}{to} meta l4proto . th dport vmap @service-nodeports"));
}
